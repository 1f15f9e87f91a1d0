"""A tiny configuration for MMagic, written for the real ``mim`` command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import run_command

Config = dict[str, Any]


def tiny() -> Config:
    """Four iterations of a tiny GLSGN on the pairs of conftest's ``make_pairs``."""
    load = [{"type": "LoadImageFromFile", "key": key} for key in ("img", "gt")]
    crop = [
        {"type": "SetValues", "dictionary": {"scale": 1}},
        {"type": "PairedRandomCrop", "gt_patch_size": 64},
    ]
    pairs = {
        "type": "BasicImageDataset",
        "metainfo": {"dataset_type": "tiny", "task_name": "deraining"},
        "data_root": "data",
        "data_prefix": {"img": "lq", "gt": "gt"},
    }
    pack = [{"type": "PackInputs"}]
    whole = {
        "num_workers": 0,
        "batch_size": 1,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": {**pairs, "pipeline": load + pack},
    }
    scores = {"type": "Evaluator", "metrics": [{"type": "PSNR"}, {"type": "SSIM"}]}
    return {
        "custom_imports": {"imports": ["glsgn_plugins.mmagic"], "allow_failed_imports": False},
        "default_scope": "mmagic",
        "experiment_name": "tiny",
        "work_dir": "work_dirs/tiny",
        "model": {
            "type": "GLSGNRestorer",
            "generator": {"type": "GLSGN", "widths": [4, 4, 4, 4]},
            "pixel_loss": {"type": "GLSGNLoss"},
            "data_preprocessor": {
                "type": "DataPreprocessor",
                "mean": [0.0] * 3,
                "std": [255.0] * 3,
                "output_channel_order": "RGB",
            },
        },
        "test_pipeline": load + pack,  # of MMagic's inferencers
        "train_dataloader": {
            "num_workers": 0,
            "batch_size": 2,
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
            "dataset": {**pairs, "pipeline": load + crop + pack},
        },
        "val_dataloader": whole,
        "test_dataloader": whole,
        "val_evaluator": scores,
        "test_evaluator": scores,
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 4, "val_interval": 4},
        "val_cfg": {"type": "MultiValLoop"},
        "test_cfg": {"type": "MultiTestLoop"},
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 1e-3},
            "clip_grad": {"max_norm": 1.0},
        },
        "default_hooks": {
            "logger": {"type": "LoggerHook", "interval": 1},
            "checkpoint": {"type": "CheckpointHook", "interval": 2, "by_epoch": False},
        },
        "log_processor": {"type": "LogProcessor", "window_size": 1, "by_epoch": False},
        "randomness": {"seed": 0},
    }


def write(folder: Path, edit: Callable[[Config], None] = lambda cfg: None) -> str:
    """Write ``config.py`` after an edit in place; returns its name."""
    cfg = tiny()
    edit(cfg)
    lines = [f"{key} = {value!r}" for key, value in cfg.items()]
    (folder / "config.py").write_text("\n".join(lines) + "\n")
    return "config.py"


def mim(command, folder, *more, code=0, **env):
    argv = ("mim", command, "mmagic", "config.py", "--gpus", "0", *more)
    done = run_command(*argv, cwd=folder, **env)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout + done.stderr


def logged(folder):
    """What MMEngine wrote of every iteration of the newest run."""
    file = max(folder.glob("work_dirs/tiny/*/vis_data/scalars.json"))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def scores(log):
    """PSNR and SSIM of a test's log, in either framework's form."""
    return [float(re.findall(rf"{name}: (\d+\.\d+)", log, re.I)[-1]) for name in ("psnr", "ssim")]
