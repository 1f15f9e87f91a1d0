"""MMEngine's step by GLSGNRestorer, on a device whose values nobody can read."""

import types
from contextlib import nullcontext

import pytest
import torch
from device import META, WaitsError, clean_batch, host_is_free_in, watched

from glsgn_plugins import compat

if compat.installed("mmagic") is None:
    pytest.skip("mmagic is not in this stack", allow_module_level=True)

import glsgn_plugins.mmagic  # noqa: F401, I001  # patches first, and registers

from mmagic.models.data_preprocessors import DataPreprocessor
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook, IterTimerHook, RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from tiny_mmagic import tiny
from glsgn_plugins.mmagic import ForeachEMA


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmagic")


def trainer(device, name, **model):
    """What a runner has, as far as a step needs it."""
    made = {**tiny()["model"], **model}
    net = MODELS.build(made).to(device).train()
    hub = MessageHub.get_instance(name)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    wrapper = OptimWrapper(optimizer, clip_grad={"max_norm": 1.0})
    wrapper.message_hub = hub
    runner = types.SimpleNamespace(
        model=net, message_hub=hub, optim_wrapper=wrapper, iter=0, max_iters=10, max_epochs=1
    )
    hooks = [
        RuntimeInfoHook(),
        IterTimerHook(),
        EMAHook(ema_type="ForeachEMA", momentum=0.1),
    ]
    hooks[-1].before_run(runner)
    hooks[1].t = hooks[1].start_iter = 0
    hooks[1].time_sec_tot = 0
    return runner, hooks


def step(runner, hooks, data):
    """As MMEngine's loop."""
    for hook in hooks:
        if not isinstance(hook, IterTimerHook):  # which asks the loop for its length
            hook.before_train_iter(runner, 0, data)
    logged = runner.model.train_step(data, optim_wrapper=runner.optim_wrapper)
    runner.message_hub.update_scalar("train/time", 0.1)
    runner.message_hub.get_scalar("train/time")  # as the timer does, in each step
    for hook in hooks:
        if not isinstance(hook, IterTimerHook):
            hook.after_train_iter(runner, 0, data, logged)
    runner.iter += 1


def data(device, dtype=torch.float32, fill=0.0):
    about = {"img_channel_order": "RGB", "gt_channel_order": "RGB"}
    images = [torch.full((3, 64, 64), fill, dtype=dtype, device=device) for _ in range(4)]
    samples = [DataSample(gt_img=image, metainfo=about) for image in images[2:]]
    return {"inputs": images[:2], "data_samples": samples}


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_three_steps_read_nothing(dtype, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # meta has none
    semantic = {"type": "GLSGNLoss", "semantic_weight": 0.1, "weights": "random"}
    runner, hooks = trainer(META, f"meta {dtype}", pixel_loss=semantic)
    counts = []
    for _ in range(3):
        with (
            watched() as watch,
            host_is_free_in(watch, runner.model.data_preprocessor, "forward"),
            host_is_free_in(watch, runner.optim_wrapper.optimizer, "step"),
            host_is_free_in(watch, hooks[-1].ema_model, "update_parameters"),
        ):
            step(runner, hooks, data(META, dtype))
        assert not watch.host
        counts.append(watch.operations)
    assert counts[1] == counts[2]
    for reads in (
        lambda: runner.message_hub.log_scalars,
        runner.message_hub.state_dict,
        lambda: runner.message_hub.get_scalar("train/loss"),
    ):
        pending = list(runner.message_hub._pending)
        assert {"train/loss", "train/grad_norm", "train/loss_semantic"} <= {p.key for p in pending}
        with watched(), pytest.raises((WaitsError, RuntimeError)):
            reads()
        runner.message_hub._pending = pending


def test_steps_that_degrade_their_batches_read_nothing(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # meta has none
    preprocessor = {**tiny()["model"]["data_preprocessor"], "type": "DegradingPreprocessor"}
    runner, hooks = trainer(META, "degrading", data_preprocessor=preprocessor)
    for _ in range(2):
        made = clean_batch(64, META)
        about = {"img_channel_order": "RGB", "gt_channel_order": "RGB"}
        batch = {
            "inputs": list(made["gt"]),
            "recipe": {name: list(part) for name, part in made["recipe"].items()},
            "data_samples": [DataSample(metainfo=about) for _ in range(2)],
        }
        with (
            watched() as watch,
            host_is_free_in(watch, DataPreprocessor, "forward"),
            host_is_free_in(watch, runner.optim_wrapper.optimizer, "step"),
            host_is_free_in(watch, hooks[-1].ema_model, "update_parameters"),
        ):
            step(runner, hooks, batch)
        assert not watch.host


CONVOLUTION = {
    "type": "SRCNNNet",
    "channels": (3, 4, 4, 3),
    "kernel_sizes": (3, 1, 3),
    "upscale_factor": 1,
}


class Counting(Hook):
    """How many scalars wait after each step."""

    def __init__(self):
        self.waiting = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.waiting.append(len(runner.message_hub.__dict__.get("_pending", ())))


@pytest.mark.parametrize(
    ("kind", "generator", "waits"),
    [
        ("BaseEditModel", tiny()["model"]["generator"], True),
        ("TiledEditModel", CONVOLUTION, True),
        ("BaseEditModel", CONVOLUTION, False),
    ],
)
def test_a_runner_lets_what_is_ours_wait_and_leaves_the_rest(
    kind, generator, waits, project, monkeypatch
):
    cfg = tiny()
    cfg["model"].update(type=kind, generator=generator, pixel_loss={"type": "L1Loss"})
    cfg["train_cfg"]["max_iters"] = 2
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        del cfg[key]
    cfg["experiment_name"] = f"runner {kind} {waits}"
    monkeypatch.chdir(project)
    runner = Runner.from_cfg(Config(cfg))
    counting = Counting()
    runner.register_hook(counting, "HIGH")  # after losses are noted, before they are logged
    runner.train()
    assert [count > 0 for count in counting.waiting] == [waits, waits]
    assert runner.model.data_preprocessor._non_blocking == waits
    assert len(runner.message_hub.log_scalars["train/loss"].data[0]) == 2


def test_what_was_logged_is_read_and_named():
    runner, hooks = trainer("cpu", "logged")
    for fill in (0.5, 0.25):
        step(runner, hooks, data("cpu", fill=fill))
    scalars = runner.message_hub.log_scalars
    assert len(scalars["train/loss_restored"].data[0]) == 2
    assert len(scalars["train/grad_norm"].data[0]) == 2
    total = sum(scalars[key].current() for key in scalars if key.startswith("train/loss_"))
    assert scalars["train/loss"].current() == pytest.approx(total, rel=1e-5)


def test_averages_are_those_of_mmengine():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    averages = [kind(net, momentum=0.1) for kind in (ForeachEMA, ExponentialMovingAverage)]
    for _ in range(3):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.rand_like(parameter))
            net[1].running_mean += 1
        for average in averages:
            average.update_parameters(net)
    ours, theirs = (average.state_dict() for average in averages)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_compiled_generator_trains_and_tests():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    runner, hooks = trainer("cpu", "compiled", compile="aot_eager", pixel_loss={"type": "L1Loss"})
    for _ in range(2):
        step(runner, hooks, data("cpu", fill=128.0))
    stats = torch._dynamo.utils.counters["stats"]
    assert stats["unique_graphs"] == 1
    runner.model.eval()
    restored = runner.model.forward_tensor(torch.rand(1, 3, 40, 56))
    assert restored.shape == (1, 3, 40, 56)
    assert stats["unique_graphs"] == 1
