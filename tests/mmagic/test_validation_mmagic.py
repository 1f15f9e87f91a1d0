"""MMagic's validation and metrics on a card that isn't there: scores, and what is copied of it."""

import pytest
from card import CARD, card
from networks import trained_like

from glsgn_plugins import compat

if compat.installed("mmagic") is None:
    pytest.skip("mmagic is not in this stack", allow_module_level=True)

import glsgn_plugins.mmagic  # noqa: F401, I001  # patches first, and registers

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, log_processor

from glsgn_plugins.metrics import lpips
from tiny_mmagic import tiny

IMAGES = 4
PIXELS = 3 * 96 * 80
METRICS = [
    {"type": "PSNR"},
    {"type": "SSIM"},
    {"type": "Seam"},
    {"type": "LPIPS", "weights": "random"},
]


class Scores(Hook):
    """What a validation found."""

    def after_val_epoch(self, runner, metrics=None):
        self.metrics = dict(metrics)


def runner(kind, name, tile):
    """One that is to validate, and where its scores will be."""
    cfg = tiny()
    cfg["model"].update(type=kind, pixel_loss={"type": "L1Loss"})
    if kind != "BaseEditModel":
        cfg["model"]["test_cfg"] = {"tile": tile}
    cfg["val_evaluator"]["metrics"] = METRICS
    cfg["experiment_name"] = f"validation {kind} {tile} {name}"
    made = Runner.from_cfg(Config(cfg))
    trained_like(made.model.generator)
    found = Scores()
    made.register_hook(found)
    return made, found


@pytest.mark.parametrize(("kind", "tile"), [("BaseEditModel", None), ("GLSGNRestorer", "whole")])
def test_scores_are_those_of_the_host(project, monkeypatch, kind, tile):
    monkeypatch.chdir(project)
    monkeypatch.setattr(log_processor, "get_max_cuda_memory", lambda device: 0)
    lpips._distance.cache_clear()  # which keeps networks on their device
    on_host, wanted = runner(kind, "host", tile)
    on_host.val()
    on_card, found = runner(kind, "card", tile)
    with card(monkeypatch) as watch:
        on_card.model.to(CARD)
        on_card.val()
    lpips._distance.cache_clear()
    assert {name.rpartition("/")[2] for name in found.metrics} == {"PSNR", "SSIM", "Seam", "LPIPS"}
    assert found.metrics == pytest.approx(wanted.metrics, rel=1e-3)
    assert watch.operations["convolution"] > IMAGES * 40
    # What was restored, and the truth in bytes, for each metric anew.
    assert watch.bytes_read == IMAGES * PIXELS * (4 + len(METRICS))
    # The one number of LPIPS; ours also looks whether an output is finite.
    looks = 1 if kind == "BaseEditModel" else 2
    assert watch.waits["_local_scalar_dense"] == IMAGES * looks
