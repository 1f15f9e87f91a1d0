"""BasicSR's step by GLSGNModel and GLSGNGANModel, on a device whose values nobody can read."""

import copy
import logging
from contextlib import ExitStack

import pytest
import torch
from device import META, WaitsError, clean_batch, host_is_free_in, watched
from torch import nn

from glsgn_plugins import compat

if compat.installed("basicsr") is None:
    pytest.skip("basicsr is not in this stack", allow_module_level=True)

import glsgn_plugins.basicsr  # noqa: F401, I001  # patches first, and registers

from basicsr.models import build_model
from basicsr.models.base_model import BaseModel

from glsgn_plugins.compat import basicsr_waiting
from glsgn_plugins.errors import NonFiniteLossError
from glsgn_plugins.training import update_averages

OBJECTIVE = {
    "type": "GLSGNLoss",
    "semantic_weight": 0.1,
    "weights": "random",
    "frequency_weight": 0.1,
}


OURS = ("pathway_opt", "grad_clip", "amp", "compile")
"""Options that only GLSGNModel has."""


def options(tmp_path, kind="GLSGNModel", **train):
    opt = {
        "name": "step",
        "model_type": kind,
        "is_train": True,
        "dist": False,
        "num_gpu": 0,
        "rank": 0,
        "world_size": 1,
        "scale": 1,
        "network_g": {"type": "GLSGN", "widths": [4, 4, 4, 4]},
        "path": {"models": str(tmp_path), "training_states": str(tmp_path)},
        "val": {},
        "train": {
            "ema_decay": 0.999,
            "grad_clip": 1.0,
            "optim_g": {"type": "AdamW", "lr": 1e-3},
            "scheduler": {"type": "MultiStepLR", "milestones": [100], "gamma": 0.5},
            "pixel_opt": dict(OBJECTIVE),
            "pathway_opt": {"type": "ContentConsistencyLoss"},
            **train,
        },
    }
    if kind in ("SRModel", "TiledSRModel"):
        opt["network_g"]["return_pathways"] = True
        opt["train"]["optim_g"]["type"] = "Adam"
        opt["train"] = {key: opt["train"][key] for key in opt["train"] if key not in OURS}
    if kind == "GLSGNGANModel":
        opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
        opt["train"]["gan_opt"] = {
            "type": "GANLoss",
            "gan_type": "vanilla",
            "real_label_val": 1.0,
            "fake_label_val": 0.0,
            "loss_weight": 0.1,
        }
        opt["train"]["gan_global_weight"] = 0.5
        opt["train"]["optim_d"] = {"type": "AdamW", "lr": 1e-3}
    return opt


@pytest.fixture
def meta(monkeypatch):
    """Models are built on a device without numbers."""
    plain = BaseModel.__init__

    def init(self, opt):
        plain(self, opt)
        self.device = META

    monkeypatch.setattr(BaseModel, "__init__", init)


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("basicsr").setLevel(logging.ERROR)


def batch(device=META, dtype=torch.float32, fill=0):
    lq = torch.full((2, 3, 64, 64), fill, dtype=dtype, device=device)
    return {"lq": lq, "gt": torch.zeros_like(lq)}


@pytest.mark.parametrize("kind", ["GLSGNModel", "GLSGNGANModel"])
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_steps_read_nothing(meta, tmp_path, kind, optimizer):
    model = build_model(options(tmp_path, kind, optim_g={"type": optimizer, "lr": 1e-3}))
    counts = []
    for step in (1, 2, 3):
        model.update_learning_rate(step, warmup_iter=2)
        with watched() as watch, ExitStack() as stack:
            for made in model.optimizers:
                stack.enter_context(host_is_free_in(watch, made, "step"))
            model.feed_data(batch())
            model.optimize_parameters(step)
        assert not watch.host
        counts.append(watch.operations)
    assert counts[1] == counts[2]  # the first makes the optimiser's state
    terms = {"l_restored", "l_pathway_g", "l_semantic", "l_pathway"}
    gan = {"l_g_gan", "l_g_gan_g", "l_d_real", "l_d_fake", "l_d_real_g", "l_d_fake_g"}
    assert terms | (gan if kind == "GLSGNGANModel" else set()) <= set(model.log_dict)
    # Where they are to be logged, saved or validated, they are read.
    for reads in (
        model.get_current_log,
        lambda: model.save(0, 1),
        lambda: model.validation(None, 1, None),
    ):
        with watched(), pytest.raises((WaitsError, RuntimeError)):
            reads()


def test_a_step_that_degrades_its_batch_reads_nothing(meta, tmp_path):
    model = build_model(options(tmp_path))
    data = clean_batch(64, META)
    for step in (1, 2):
        with watched() as watch, host_is_free_in(watch, model.optimizer_g, "step"):
            model.feed_data(data)
            model.optimize_parameters(step)
        assert not watch.host
    assert model.lq.shape == model.gt.shape == (2, 3, 64, 64)


@pytest.mark.parametrize("kind", ["SRModel", "TiledSRModel"])
def test_steps_of_the_stock_model_read_nothing_either(meta, tmp_path, kind):
    model = build_model(options(tmp_path, kind))
    for step in (1, 2):
        with watched() as watch, host_is_free_in(watch, model.optimizer_g, "step"):
            model.feed_data(batch())
            model.optimize_parameters(step)
        assert not watch.host
    assert list(model.log_dict) == ["l_pix"]
    with watched(), pytest.raises((WaitsError, RuntimeError)):
        model.get_current_log()


def test_the_stock_model_logs_what_it_did(tmp_path, monkeypatch):
    """And is left as it is with networks of others."""
    logs = {}
    for ours in (True, False):
        if not ours:
            monkeypatch.setattr(basicsr_waiting, "_trains_ours", lambda model: False)
        torch.manual_seed(0)
        model = build_model(options(tmp_path, "SRModel"))
        model.feed_data(batch("cpu", fill=0.5))
        model.optimize_parameters(1)
        logs[ours] = model.get_current_log()
        assert isinstance(model.log_dict["l_pix"], torch.Tensor if ours else float)
    assert logs[True] == logs[False]
    assert isinstance(logs[True]["l_pix"], float)

    edsr = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1}
    opt = {**options(tmp_path, "SRModel"), "network_g": {**edsr, "upscale": 1}}
    monkeypatch.undo()
    opt["train"]["pixel_opt"] = {"type": "L1Loss"}
    model = build_model(opt)
    model.feed_data(batch("cpu", fill=0.5))
    model.optimize_parameters(1)
    assert isinstance(model.log_dict["l_pix"], float)


def test_as_many_operations_for_a_larger_batch(meta, tmp_path):
    model = build_model(options(tmp_path))
    counts = []
    for step, size in enumerate((1, 2, 8)):
        images = torch.zeros(size, 3, 64, 64, device=META)
        with watched() as watch:
            model.feed_data({"lq": images, "gt": images})
            model.optimize_parameters(step)
        counts.append(watch.operations)
    assert counts[1] == counts[2]


def test_bytes_are_converted_on_the_device(meta, tmp_path):
    model = build_model(options(tmp_path))
    with watched() as watch, host_is_free_in(watch, model.optimizer_g, "step"):
        model.feed_data(batch(dtype=torch.uint8))
        model.optimize_parameters(1)
    assert not watch.host
    assert model.lq.dtype == model.gt.dtype == torch.float32


def test_bytes_train_as_floats_do(tmp_path):
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    logs = []
    for given in (image, image / 255):
        torch.manual_seed(0)
        model = build_model(copy.deepcopy(options(tmp_path)))
        model.feed_data({"lq": given, "gt": given.flip(3)})
        model.optimize_parameters(1)
        logs.append(model.get_current_log())
    assert logs[0] == logs[1]


def test_a_spoilt_step_is_told_at_the_log_and_nothing_is_saved(tmp_path):
    model = build_model(options(tmp_path))
    for step, fill in enumerate((0.5, float("nan"), 0.5), 1):
        model.feed_data(batch("cpu", fill=fill))
        model.optimize_parameters(step)
    for reads in (
        model.get_current_log,
        lambda: model.save(0, 3),
        lambda: model.validation(None, 3, None),
    ):
        with pytest.raises(NonFiniteLossError, match="iteration 2: not finite: l_restored"):
            reads()
    assert not list(tmp_path.iterdir())


def test_a_spoilt_discriminator_is_told_too(tmp_path):
    model = build_model(options(tmp_path, "GLSGNGANModel"))
    model.feed_data(batch("cpu", fill=0.5))
    model.optimize_parameters(1)
    assert {"l_d_real", "l_g_gan"} <= set(model.get_current_log())
    data = batch("cpu", fill=0.5)
    with torch.no_grad():
        for parameter in model.net_d.parameters():
            parameter.fill_(float("nan"))
    model.cri_gan.loss_weight = 0.0  # of the generator nothing shows yet
    model.feed_data(data)
    model.optimize_parameters(2)
    with pytest.raises(NonFiniteLossError, match=r"iteration 2: not finite: .*l_"):
        model.save(0, 2)


def test_a_compiled_network_trains_and_validates(tmp_path):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    opt = options(tmp_path, compile="aot_eager", ema_decay=0, pixel_opt={"type": "L1Loss"})
    model = build_model(opt)
    for step in (1, 2):
        model.feed_data(batch("cpu", fill=0.5))
        model.optimize_parameters(step)
    stats = torch._dynamo.utils.counters["stats"]
    assert stats["unique_graphs"] == 1
    model.lq = torch.rand(1, 3, 40, 56)  # of another size, which isn't compiled for
    model.opt["val"] = {"tile": "whole"}
    model.test()
    assert model.output.shape == model.lq.shape
    assert stats["unique_graphs"] == 1
    assert not any("_orig_mod" in name for name in model.net_g.state_dict())


def test_averages_are_those_of_basicsr():
    torch.manual_seed(0)
    model = BaseModel({"num_gpu": 0, "is_train": True})
    model.net_g, model.net_g_ema = (
        nn.ParameterList([nn.Parameter(torch.rand(shape)) for shape in ((3, 5), (7,))])
        for _ in range(2)
    )
    averages, weights = (
        [value.detach().clone() for value in net] for net in (model.net_g_ema, model.net_g)
    )
    model.model_ema(0.9)
    update_averages(averages, weights, 0.9)
    assert all(torch.equal(a, w) for a, w in zip(averages, model.net_g_ema))
