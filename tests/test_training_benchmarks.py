"""What trains and compares networks for the docs runs in small: no table is lost to a slip."""

import csv
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from demo_data import photo
from harness import run_python

from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_glsgn

FOLDER = Path(__file__).parent.parent / "benchmarks"

DRAWN = """
import sys
from pathlib import Path
from torch.utils.data import default_collate
from glsgn_plugins.degradations.on_device import degrade
from train_gpu import PARTS, SIDES, Drawn
from train_zoo import cache
cache(*map(Path, sys.argv[1:]))
for task in PARTS:
    drawn = iter(Drawn(task, Path(sys.argv[2]), seed=1))
    batch = default_collate([next(drawn) for _ in range(8)])
    lq, gt = degrade(batch["gt"], batch["recipe"])
    assert lq.shape == gt.shape == (8, 3, SIDES[task], SIDES[task])
    print(task, (lq != gt).any(dim=(1, 2, 3)).sum().item())
"""


def run(*command):
    path = os.pathsep.join([str(FOLDER), *sys.path])
    done = run_python(*map(str, command), cwd=FOLDER.parent, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def put(image, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), image[..., ::-1])


def test_photographs_are_made_ready_and_crops_drawn_of_them(tmp_path):
    with (FOLDER / "photographs.csv").open(encoding="utf-8", newline="") as file:
        listed = [row for row in csv.DictReader(file) if row["split"] == "train"][:2]
    for row, name in zip(listed, ("coffee.png", "rocket.jpg")):
        image = cv2.resize(read_image(photo(name)), (840, 560))
        put(image, tmp_path / "photographs" / row["file"])
    zoo = tmp_path / "zoo"
    said = run("-c", DRAWN, tmp_path / "photographs", zoo)
    assert len(list((zoo / "train" / "upright").iterdir())) == 2
    wanted = {"exposed": (70, 195), "dim": (20, 130), "contrast": (55, 165), "bright": (90, 188)}
    for to, (low, high) in wanted.items():
        copies = [read_image(file) for file in (zoo / to).iterdir()]
        assert len(copies) == 6
        means = [round(copy.mean()) for copy in copies]
        assert all(low < mean < high for mean in means), (to, means)
        if to in ("contrast", "bright"):
            darkest = [round(np.percentile(copy.mean(axis=2), 1)) for copy in copies]
            assert np.median(darkest) < 33, darkest
    changed = dict(line.split() for line in said.splitlines())
    assert {task: int(count) > 2 for task, count in changed.items()} == {
        "rain": True,
        "haze": True,
        "reflection": True,
    }


def test_networks_are_compared_side_by_side(tmp_path):
    for name, folder in (("coffee.png", "train"), ("rocket.jpg", "train"), ("coffee.png", "test")):
        put(cv2.resize(read_image(photo(name)), (300, 200)), tmp_path / folder / name)
    out = tmp_path / "tables.md"
    runs = tmp_path / "runs"
    common = ["--train", tmp_path / "train", "--test", tmp_path / "test", "--runs", runs]
    common += ["--tables", "norm", "--tasks", "haze", "--steps", 2, "--crop", 64, "--crops", 4]
    common += ["--seeds", 1, "--draws", 2, "--device", "cpu", "--out", out]
    run(FOLDER / "networks.py", *common, "--together", 3, "--processes", 2)
    rows = [line.split(" | ")[0] for line in out.read_text().splitlines() if line[:2] == "| "]
    assert rows[2:] == [
        "| the input",
        "| plain",
        "| Patch Norm pooled",
        "| Patch Norm pooled, the figure's grids",
        "| Patch Norm per patch, the figure's grids",
    ]
    # One alone is as good as several side by side, and what is there isn't made again.
    alone = next(runs.glob("plain_*.json"))
    together = json.loads(alone.read_text())
    alone.unlink()
    kept = {file: file.stat().st_mtime_ns for file in runs.glob("*.json")}
    run(FOLDER / "networks.py", *common)
    again = json.loads(alone.read_text())
    for size in ("test", "test x0.5", "test x0.25"):
        assert again[size] == pytest.approx(together[size])
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_a_pool_of_crops_is_trained_on_and_judged(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "pool").mkdir()
    pairs = rng.integers(0, 256, (512, 2, 3, 32, 32), dtype=np.uint8)
    np.save(tmp_path / "pool" / "00003.npy", pairs)  # those before have been taken away
    put(cv2.resize(read_image(photo("coffee.png")), (200, 120)), tmp_path / "test" / "coffee.png")
    out = tmp_path / "rain.safetensors"
    shipped = FOLDER.parent / "glsgn_plugins" / "pretrained" / "rain.safetensors"
    said = run(
        *(FOLDER / "train_gpu.py", "train", "--task", "rain", "--pool", tmp_path / "pool"),
        *("--seconds", 300, "--steps", 2, "--batch", 2, "--most", 512),
        *("--start", shipped, "--device", "cpu", "--out", out, "--test", tmp_path / "test"),
    )
    assert "rain glsgn_s: 2 steps of 2" in said
    found = json.loads(out.with_suffix(".json").read_text())
    assert found.keys() == {"real", "plain"}
    assert all(10 < figures["psnr"] < 60 for figures in found.values())
    read_glsgn(out)
