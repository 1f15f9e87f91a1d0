"""Configs from before 0.2 go on working, and say what to write instead."""

import pytest

from glsgn_plugins import compat
from glsgn_plugins.io.shipped import find_shipped

if compat.installed("mmagic") is None:
    pytest.skip("mmagic is not in this stack", allow_module_level=True)

import glsgn_plugins.mmagic  # noqa: F401, I001  # patches first, and registers

from mmagic.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from glsgn_plugins.mmagic.configs import check_config


def test_the_demos_dataset_makes_its_set_and_warns(tmp_path, monkeypatch):
    """``DemoRainDataset``, in a config as it was shipped."""
    init_default_scope("mmagic")
    monkeypatch.chdir(tmp_path)
    shipped = find_shipped("glsgn_derain_demo.py", "mmagic_configs", ".py")
    (tmp_path / "old.py").write_text(
        f"_base_ = [{str(shipped)!r}]\n"
        "custom_imports = dict(\n"
        "    imports=['glsgn_plugins.mmagic', 'glsgn_plugins.mmagic.demo_dataset'])\n"
        "train_dataloader = dict(dataset=dict(type='DemoRainDataset'))\n"
        "val_dataloader = dict(dataset=dict(type='DemoRainDataset'))\n"
        "test_dataloader = val_dataloader\n",
        encoding="utf-8",
    )
    cfg = Config.fromfile("old.py")
    with pytest.warns(FutureWarning, match=r"DemoRainDataset goes .* type='UHDPairedDataset'"):
        train = DATASETS.build(cfg.train_dataloader.dataset)
    check_config(cfg)
    assert len(train) == 24
    assert train[0]["inputs"].shape == (3, 128, 128)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    with pytest.warns(FutureWarning):
        val = DATASETS.build(cfg.val_dataloader.dataset)
    assert len(val) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == made
