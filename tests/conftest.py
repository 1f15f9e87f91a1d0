"""Small real data, and the real ``basicsr`` command as a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from glsgn_plugins.data.images import read_image
from glsgn_plugins.degradations import Rain
from glsgn_plugins.demo import photo

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks the network on import, which MMagic does

BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def environment(**more: str) -> dict[str, str]:
    """For subprocesses: one thread, as several tests may share two cores; no requests, no noise."""
    fixed = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **fixed, **more}


def run_command(
    *argv: str, cwd: Path, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment, with these variables as well."""
    return subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(**env),
        check=False,
    )


def deep(image: np.ndarray) -> np.ndarray:
    """An 8-bit image with 16 bits."""
    return image.astype(np.uint16) * 257


@pytest.fixture(scope="module")
def coffee() -> np.ndarray:
    return read_image(photo("coffee.png"))


@pytest.fixture(scope="module")
def rocket() -> np.ndarray:
    return read_image(photo("rocket.jpg"))


def tensor(image: np.ndarray) -> torch.Tensor:
    """8-bit BGR ``(H, W, 3)`` to RGB ``(1, 3, H, W)`` in [0, 1]."""
    rgb = np.ascontiguousarray(image[..., ::-1]).transpose(2, 0, 1)
    return torch.from_numpy(rgb.copy()).float()[None] / 255


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    """Decibels, over images in [0, 1]."""
    return float(-10 * torch.log10(((x.clamp(0, 1) - y) ** 2).mean()))


@pytest.fixture(scope="session")
def rainy_pair() -> tuple[np.ndarray, np.ndarray]:
    """A rainy photograph and the clean one, 8-bit BGR, 300x451."""
    clean = read_image(photo("chelsea.png"))
    rainy = Rain().sample(np.random.default_rng(0)).apply(clean)
    return rainy[..., ::-1], clean[..., ::-1]


def make_pairs(root: Path, rainy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    """``data/{lq,gt}``: four pairs of 96x80 out of a real photograph."""
    for side, image in zip(("lq", "gt"), rainy_pair):
        folder = root / "data" / side
        folder.mkdir(parents=True)
        for k in range(4):
            cv2.imwrite(str(folder / f"{k}.png"), image[60 * k : 60 * k + 96, 90 * k : 90 * k + 80])


@pytest.fixture
def project(tmp_path: Path, rainy_pair: tuple[np.ndarray, np.ndarray]) -> Path:
    """A folder with the pairs of :func:`make_pairs`."""
    make_pairs(tmp_path, rainy_pair)
    return tmp_path


Edit = Callable[[dict[str, Any]], None]
OptionWriter = Callable[..., Path]


@pytest.fixture
def write_options(project: Path) -> OptionWriter:
    """Writes ``options.yml`` for a tiny network, after an edit of the options in place."""

    def write(edit: Edit = lambda opt: None, test: bool = False) -> Path:
        paired = {
            "name": "rain",
            "type": "PairedImageDataset",
            "dataroot_lq": "data/lq",
            "dataroot_gt": "data/gt",
            "io_backend": {"type": "disk"},
        }
        metrics = {m: {"type": f"calculate_{m}", "crop_border": 0} for m in ("psnr", "ssim")}
        opt: dict[str, Any] = {
            "name": "tiny",
            "model_type": "GLSGNModel",
            "scale": 1,
            "num_gpu": "auto",
            "manual_seed": 0,
            "network_g": {"type": "GLSGN", "widths": [4, 4, 4, 4]},
            "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
            "val": {"val_freq": 1000, "save_img": True, "suffix": None, "metrics": metrics},
        }
        if test:
            opt["datasets"] = {"test_1": paired}
            opt["path"]["pretrain_network_g"] = "experiments/tiny/models/net_g_latest.pth"
        else:
            crops = {"gt_size": 64, "use_hflip": True, "use_rot": False}
            loader = {"num_worker_per_gpu": 0, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 50}
            opt["datasets"] = {"train": {**paired, **crops, **loader}}
            opt["path"]["resume_state"] = None
            opt["train"] = {
                "ema_decay": 0.9,
                "optim_g": {"type": "Adam", "lr": 1e-3},
                "scheduler": {"type": "MultiStepLR", "milestones": [100], "gamma": 0.5},
                "total_iter": 4,
                "warmup_iter": -1,
                "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
                "pathway_opt": {"type": "PathwayReconstructionLoss", "loss_weight": 0.25},
            }
            opt["logger"] = {
                "print_freq": 1,
                "save_checkpoint_freq": 2,
                "use_tb_logger": False,
                "wandb": {"project": None},
            }
        edit(opt)
        file = project / "options.yml"
        file.write_text(yaml.safe_dump(opt))
        return file

    return write
