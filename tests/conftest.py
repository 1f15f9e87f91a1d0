"""Fixtures of small real data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from demo_data import photo
from harness import make_pairs
from networks import TINY, trained_like

from glsgn_plugins import GLSGN
from glsgn_plugins.degradations import Rain
from glsgn_plugins.io.images import read_image

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks the network on import, which MMagic does


LONGEST = (
    "test_mmagic_train.py",
    "test_networks_from_weights.py",
    "test_steps_core.py",
    "test_basicsr_train.py",
    "test_pretrained.py",
    "test_restore_command.py",
    "test_inference.py",
    "test_glsgn.py",
    "test_faults_basicsr.py",
    "test_steps_basicsr.py",
    "test_package.py",
    "test_consistency.py",
    "test_synthesize.py",
    "test_training_benchmarks.py",
    "test_ranks.py",
    "test_basicsr_tiled.py",
    "test_mmagic_adapter.py",
)
"""Files that take half a minute and more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that two processes end at about the same time."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a network that changes every pixel."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "net.pth"
    torch.save({"params": trained_like(GLSGN(**TINY)).state_dict()}, file)
    return file


@pytest.fixture(scope="module")
def coffee() -> np.ndarray:
    return read_image(photo("coffee.png"))


@pytest.fixture(scope="module")
def rocket() -> np.ndarray:
    return read_image(photo("rocket.jpg"))


@pytest.fixture(scope="session")
def rainy_pair() -> tuple[np.ndarray, np.ndarray]:
    """A rainy photograph and the clean one, 8-bit BGR, 300x451."""
    clean = read_image(photo("chelsea.png"))
    rainy = Rain().sample(np.random.default_rng(0)).apply(clean)
    return rainy[..., ::-1], clean[..., ::-1]


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
