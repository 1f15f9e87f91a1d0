"""BasicSR's validation and metrics on a card that isn't there: scores, and what is copied of it."""

import pytest
import torch
from card import card
from networks import trained_like

from glsgn_plugins import compat

if compat.installed("basicsr") is None:
    pytest.skip("basicsr is not in this stack", allow_module_level=True)

import glsgn_plugins.basicsr  # noqa: F401, I001  # patches first, and registers

from basicsr.data import build_dataset
from basicsr.models import build_model

from glsgn_plugins.metrics import lpips

IMAGES = 4
PIXELS = 3 * 96 * 80
METRICS = {
    "psnr": {"type": "calculate_psnr", "crop_border": 0},
    "ssim": {"type": "calculate_ssim", "crop_border": 0, "test_y_channel": True},
    "seam": {"type": "calculate_seam", "better": "lower"},
    "lpips": {"type": "calculate_lpips", "weights": "random", "better": "lower"},
}


def scores(kind, project, tile, watch=None):
    """Of the pairs of a project, by a model that is built where it validates."""
    torch.manual_seed(0)
    lpips._distance.cache_clear()  # which keeps networks on their device
    opt = {
        "name": "val",
        "model_type": kind,
        "is_train": False,
        "dist": False,
        "num_gpu": 1 if watch else 0,
        "rank": 0,
        "world_size": 1,
        "scale": 1,
        "network_g": {"type": "GLSGN", "widths": [4, 4, 4, 4]},
        "path": {"visualization": str(project / "pictures")},
        "val": {"metrics": METRICS, "suffix": None, "tile": tile},
    }
    model = build_model(opt)
    trained_like(model.net_g)
    dataset = build_dataset(
        {
            "name": "rain",
            "type": "UHDPairedDataset",
            "dataroot": str(project / "data"),
            "layout": "synthesized",
            "phase": "val",
            "scale": 1,
        }
    )
    if watch:
        watch.begin()
    model.validation(torch.utils.data.DataLoader(dataset), 0, None, save_img=True)
    return model.metric_results


@pytest.mark.parametrize(
    ("kind", "tile", "copies", "images"),
    [
        # Input, output and truth: all of them had been moved there.
        ("SRModel", "auto", 3, 3),
        ("TiledSRModel", "auto", 1, 1),
        ("GLSGNModel", "whole", 1, 1),
        ("GLSGNModel", 32, 4, 1),  # strip by strip
    ],
)
def test_only_what_was_restored_comes_back(project, monkeypatch, kind, tile, copies, images):
    wanted = scores(kind, project, tile)
    with card(monkeypatch) as watch:
        found = scores(kind, project, tile, watch)
    assert found == pytest.approx(wanted, rel=1e-3)
    # Beside the one number of LPIPS, whose network is on the card as well.
    assert watch.waits.pop("_local_scalar_dense") == IMAGES
    assert watch.waits.total() == copies * IMAGES
    assert watch.bytes_read == IMAGES * (images * 4 * PIXELS)
    assert watch.operations["convolution"] > IMAGES * 40
