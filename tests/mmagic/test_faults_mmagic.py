"""Situations of public bug reports, in MMagic: weights that fit, schedules, configs."""

import copy
import json
import re

import pytest
import torch
from tiny_mmagic import logged, mim, scores, tiny, write

from glsgn_plugins import GLSGN, InputError
from glsgn_plugins.compat import installed

pytestmark = pytest.mark.skipif(installed("mmagic") is None, reason="mmagic is not in this stack")

TINY = (4, 4, 4, 4)


def state(widths=TINY):
    torch.manual_seed(3)
    return {k: v + 0.01 * torch.rand_like(v) for k, v in GLSGN(widths=widths).state_dict().items()}


def prefixed(prefix, weights):
    return {prefix + key: value for key, value in weights.items()}


@pytest.fixture(scope="module")
def model():
    """A model of MMagic's own with GLSGN in it, which is what a lab's config may have."""
    from mmagic.registry import MODELS

    import glsgn_plugins.mmagic  # noqa: F401

    generator = {"type": "GLSGN", "widths": list(TINY)}
    kind = {"type": "BaseEditModel", "generator": generator, "pixel_loss": {"type": "L1Loss"}}
    return MODELS.build(kind)


FITTING = {
    "its own": lambda w: {"state_dict": prefixed("generator.", w), "meta": {}},
    "BasicSR's": lambda w: {"params": {k: v + 1 for k, v in w.items()}, "params_ema": w},
    "bare": lambda w: w,
    "DDP": lambda w: {"state_dict": prefixed("module.generator.", w)},
    "compiled": lambda w: {"state_dict": prefixed("generator._orig_mod.", w)},
    "Lightning": lambda w: {"state_dict": prefixed("model.", w)},
    "another's": lambda w: {"model": prefixed("net_g.", w), "epoch": 3},
}


@pytest.mark.parametrize("form", FITTING)
@pytest.mark.parametrize("by", ["load_checkpoint", "Runner"])
def test_weights_in_any_form_are_loaded(form, by, model, tmp_path):
    from mmengine.runner import Runner, load_checkpoint

    weights = state()
    torch.save(FITTING[form](weights), tmp_path / "net.pth")
    for parameter in model.generator.parameters():
        torch.nn.init.zeros_(parameter)
    if by == "Runner":
        runner = Runner(copy.deepcopy(model), str(tmp_path), default_scope="mmagic")
        runner.load_checkpoint(str(tmp_path / "net.pth"))
        loaded = runner.model.generator
    else:
        load_checkpoint(model, str(tmp_path / "net.pth"))
        loaded = model.generator
    assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: {"state_dict": prefixed("generator.", state((8, 4, 4, 4)))}, r"widths=\[8, 4"),
        (lambda: {"state_dict": {"backbone.conv.weight": torch.ones(3)}}, "no weights of GLSGN"),
        (lambda: {"state_dict": {}}, "no weights of GLSGN"),
    ],
    ids=["other widths", "another network", "nothing"],
)
def test_weights_that_do_not_fit_are_refused(content, said, model, tmp_path):
    from mmengine.runner import load_checkpoint

    torch.save(content(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=rf"net\.pth: .*{said}"):
        load_checkpoint(model, str(tmp_path / "net.pth"))


def test_other_peoples_models_are_loaded_as_ever(tmp_path):
    from mmengine.runner import load_checkpoint

    import glsgn_plugins.mmagic  # noqa: F401

    torch.save({"state_dict": {"weight": torch.ones(2, 2)}}, tmp_path / "net.pth")
    net = torch.nn.Linear(2, 2)
    load_checkpoint(net, str(tmp_path / "net.pth"))
    assert torch.equal(net.weight, torch.ones(2, 2))


def test_mim_test_scores_basicsrs_checkpoint_and_refuses_another(project):
    write(project)
    torch.save({"params": state(), "params_ema": state()}, project / "basicsr.pth")
    torch.save({"state_dict": prefixed("generator.", state())}, project / "mmagic.pth")
    torch.save({"params": state((8, 4, 4, 4))}, project / "wide.pth")
    found = [
        scores(mim("test", project, "--checkpoint", f"{n}.pth")) for n in ("basicsr", "mmagic")
    ]
    assert found[0] == found[1]
    log = mim("test", project, "--checkpoint", "wide.pth", code=1)
    (line,) = (line for line in log.splitlines() if line.startswith("error: "))
    assert "wide.pth: doesn't fit the network of model.generator" in line


def test_a_longer_schedule_is_resumed_as_the_config_now_says(project):
    def scheduled(length, rate):
        def edit(cfg):
            cfg["train_cfg"].update(max_iters=length, val_interval=100)
            cfg["optim_wrapper"]["optimizer"]["lr"] = rate
            cosine = {"type": "CosineAnnealingLR", "by_epoch": False, "T_max": length}
            cfg["param_scheduler"] = {**cosine, "begin": 0, "end": length, "eta_min": 1e-6}

        return edit

    write(project, scheduled(4, 1e-3))
    mim("train", project)
    write(project, scheduled(8, 2e-3))
    log = mim("train", project, "--resume")
    assert "resuming as the config says now" in log
    resumed = {line["iter"]: line["lr"] for line in logged(project)}

    net = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8, 1e-6)
    wanted = {}
    for k in range(1, 9):
        wanted[k] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
    assert sorted(resumed) == [5, 6, 7, 8]
    assert resumed == pytest.approx({k: wanted[k] for k in resumed}, rel=1e-4)


def test_a_set_smaller_than_a_batch_is_named(model, tmp_path):
    from mmengine.dataset import DefaultSampler
    from mmengine.runner import Runner

    cfg = tiny()
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        cfg.pop(key)
    loader = cfg["train_dataloader"]
    loader.update(batch_size=9, drop_last=True, sampler={"type": DefaultSampler.__name__})
    loader["dataset"] = {
        "type": "UHDPairedDataset",
        "dataroot": str(tmp_path),
        "lq": "lq/{name}",
        "gt": "gt/{name}",
        "gt_size": 64,
    }
    import cv2
    import numpy as np

    for side in ("lq", "gt"):
        (tmp_path / side).mkdir()
        for k in range(3):
            cv2.imwrite(str(tmp_path / side / f"{k}.png"), np.zeros((64, 64, 3), np.uint8) + k)
    runner = Runner(
        copy.deepcopy(model),
        str(tmp_path / "work"),
        train_dataloader=loader,
        train_cfg=cfg["train_cfg"],
        optim_wrapper=cfg["optim_wrapper"],
        default_scope="mmagic",
    )
    with pytest.raises(InputError, match="3 images are fewer than a batch of 9"):
        runner.train()


# --- configs -------------------------------------------------------------------------------------


def paths(section, before=()):
    items = section.items() if isinstance(section, dict) else enumerate(section)
    for key, value in items:
        yield (*before, key)
        if isinstance(value, (dict, list)):
            yield from paths(value, (*before, key))


def at(section, path):
    for key in path[:-1]:
        section = section[key]
    return section


def check(cfg):
    from mmengine.config import Config

    import glsgn_plugins.mmagic  # noqa: F401
    from glsgn_plugins.mmagic.configs import check_config

    check_config(cfg if isinstance(cfg, Config) else Config(cfg))


FREE = re.compile(
    "default_scope|experiment_name|default_hooks$|log_processor$|randomness|metainfo|data_prefix"
    "|dictionary|clip_grad|optim_wrapper.type|(val|test)_(cfg|evaluator).type|default_hooks.[a-z]+$"
    "|default_hooks.checkpoint|test_pipeline|custom_imports"
)
"""Names that are the user's own, or that MMEngine takes whatever they are."""


def test_every_misspelt_key_of_a_config_is_named():
    check(tiny())
    for path in paths(tiny()):
        cfg = tiny()
        around = at(cfg, path)
        if not isinstance(around, dict) or FREE.search(".".join(map(str, path))):
            continue
        around[f"{path[-1]}_"] = around.pop(path[-1])
        with pytest.raises(InputError, match=str(path[-1])):
            check(cfg)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model.type", "GLSGNRestorr", "Did you mean 'GLSGNRestorer'"),
        ("model.generator.type", "GLSNG", "Did you mean 'GLSGN'"),
        ("model.pixel_loss.type", "GLSGNLos", "Did you mean 'GLSGNLoss'"),
        ("train_dataloader.dataset.type", "BasicImageDatset", "'BasicImageDataset'"),
        ("train_dataloader.sampler.type", "InfinitSampler", "'InfiniteSampler'"),
        ("train_dataloader.batch_size", "2", "expected a whole number, found '2'"),
        ("train_dataloader.batch_size", 0, "a number from 1 up"),
        ("optim_wrapper.optimizer.type", "Adamw", "'AdamW'"),
        ("optim_wrapper.optimizer.lr", "1e-4", "expected a number, found '1e-4'"),
        ("train_cfg.max_iters", "4", "expected a whole number"),
        ("train_cfg.max_iters", None, "lacks 'train_cfg.max_iters'"),
        ("train_cfg.type", "IterBasedTrainLop", "'IterBasedTrainLoop'"),
        ("default_hooks.logger.type", "LogerHook", "'LoggerHook'"),
        ("model", None, "lacks 'model'"),
        ("optim_wrapper", None, "lacks 'optim_wrapper'; train_dataloader, train_cfg can't"),
        ("val_cfg", 3, "val_cfg: expected a mapping"),
    ],
)
def test_values_of_a_config_that_can_not_be_are_named(path, value, said):
    cfg = tiny()
    keys = path.split(".")
    at(cfg, keys)[keys[-1]] = value
    with pytest.raises(InputError) as caught:
        check(cfg)
    assert keys[-1] in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("side", ["long_side", "coarse_side"])
def test_models_that_test_whole_images_alone_are_named(side):
    cfg = tiny()
    cfg["model"]["generator"][side] = 64
    check(cfg)
    cfg["model"]["type"] = "BaseEditModel"
    with pytest.raises(InputError, match=rf"model\.generator\.{side}: BaseEditModel tests whole"):
        check(cfg)


def test_shipped_configs_pass():
    from mmengine.config import Config

    from glsgn_plugins.io.shipped import shipped_files

    for file in shipped_files("mmagic_configs", ".py").values():
        check(Config.fromfile(file))


def test_mim_says_it_in_one_line(project):
    def edit(cfg):
        cfg["train_dataloader"]["dataset"]["type"] = "BasicImageDatset"

    write(project, edit)
    log = mim("train", project, code=1)
    (line,) = (line for line in log.splitlines() if line.startswith("error: "))
    assert "train_dataloader.dataset.type" in line
    assert "Traceback (most recent call last)" not in log.split("error: ")[0]
    assert json.dumps("BasicImageDataset").strip('"') in line


def test_clean_samples_want_the_preprocessor_that_degrades_them(tmp_path):
    cfg = tiny()
    dataset = {"type": "UHDSynthesisDataset", "dataroot": str(tmp_path), "gt_size": 64}
    dataset |= {"degradation": {"type": "haze"}, "as_bytes": True, "degrade_on_device": True}
    cfg["train_dataloader"]["dataset"] = dataset
    preprocessor = cfg["model"]["data_preprocessor"]
    with pytest.raises(InputError, match=r"train_dataloader\.dataset\.degrade_on_device") as caught:
        check(cfg)
    assert "DegradingPreprocessor" in str(caught.value)
    preprocessor["type"] = "DegradingPreprocessor"
    check(cfg)
    cfg["val_dataloader"]["dataset"] = {**dataset, "gt_size": None}
    with pytest.raises(InputError, match=r"val_dataloader\.dataset\.degrade_on_device: of"):
        check(cfg)


@pytest.mark.parametrize("phase", ["train", "val"])
def test_slips_in_our_datasets_are_found_before_anything_is_made(phase, tmp_path):
    """With their place, and with the keys that the shipped configs set among those known."""
    cfg = tiny()
    place = f"{phase}_dataloader.dataset"
    ours = {"type": "UHDPairedDataset", "dataroot": str(tmp_path), "layout": "synthesized"}
    cfg[f"{phase}_dataloader"]["dataset"] = {**ours, "as_bytes": True, "metainfo": {}}
    check(cfg)
    for slip, said in (
        ({"layuot": "x"}, f"{place}.layuot (UHDPairedDataset): 'layuot' does not exist"),
        ({"layuot": "x"}, "as_bytes"),
        ({"seed": -1}, f"{place}.seed: expected a whole number from 0 up"),
    ):
        cfg[f"{phase}_dataloader"]["dataset"] = {**ours, **slip}
        with pytest.raises(InputError) as caught:
            check(cfg)
        assert said in str(caught.value)
