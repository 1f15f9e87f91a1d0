"""Train the weights that are shipped: on all tasks mixed, then on each; and peers alike.

One command, unattended; killed and called again, it goes on where it was::

    python benchmarks/train_zoo.py --photographs photographs --minutes 240 --out zoo

- ``photographs.csv`` beside this file lists the photographs, their licences, and which of them are
  for choosing (``dev``) and for testing; ``docs/training.md`` says how to get them. They are
  decoded once, scaled down to cover 3840x2160 and kept as BMP, which a loader reads as fast as the
  disk.
- Training is ``basicsr train`` on the library's own degradations, preset ``real``, with the shipped
  options but for size and schedule. Two fifths of the time go to a network that sees all three
  tasks, one fifth to each task that goes on from it, with larger crops. A trial of some steps tells
  a stage's pace; its cosine then ends with its budget.
- Peers (``--networks``) have the same stages, data, seed, crops, optimiser, precision and
  wall-clock.
- Weights come out averaged, in half precision, with the record of their network:
  ``OUT/NETWORK_TASK.safetensors`` (``.pth`` for peers). ``results.py`` judges them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from peers import PEERS
from train import BIN, pace

from glsgn_plugins.degradations.light import to_display, to_light
from glsgn_plugins.io.atomic import atomic_write, atomic_write_into
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.pretrained import OPTIONS, is_shipped
from glsgn_plugins.io.shipped import find_shipped
from glsgn_plugins.io.weights import read_weights, write_weights

HERE = Path(__file__).resolve().parent
TASKS = tuple(OPTIONS)
GLSGN_S = {"type": "GLSGN", "widths": [16, 24, 32, 32], "blocks": [1, 1, 1]}
SIZES = ((2160, 3840), (1440, 2560))
"""Rows and columns of test images: the first that a photograph covers."""

SCENES = (540, 960)
"""Rows and columns that small copies cover: enough for whole scenes and for a GPU's crops."""
EXPOSURES = 3
LEVELS = {"exposed": (80, 185), "dim": (30, 120), "contrast": (65, 155), "bright": (100, 178)}
"""Folders of small copies, and the mean display values, of 255, that they are made for."""
DEEP = ("contrast", "bright")
"""Those that have black and white points of their own as well."""
BLACK, WHITE = (2, 30), (190, 300)
"""Where these lie, of 255: black at ratios drawn evenly, white beyond 255 at 255."""

COPIES = {
    "rain": ("coarse_side", 1280),
    "haze": ("long_side", 256),
    "reflection": ("long_side", 640),
}
"""Pixels of the copies by which tasks are restored: better so than alone, see docs/training.md."""

TRIAL = 40
"""Steps from which the pace is known."""


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        name: ``mixed``, or the task.
        tasks: What it sees.
        share: Of the minutes.
        crop: Side in pixels on a CPU; twice that on a GPU.
        batch: Crops in a step on a CPU; four times as many on a GPU.
        lr: Highest learning rate.
        identity: Share of the samples whose truth is the input.
        scenes: Share of the samples that are whole photographs scaled down.
    """

    name: str
    tasks: tuple[str, ...]
    share: float
    crop: int
    batch: int
    lr: float
    identity: float
    scenes: float


MIXED = Stage("mixed", TASKS, 0.4, 192, 6, 1e-3, 0.1, 0.1)


def stage_of(task: str) -> Stage:
    """The one that makes a task's weights.

    How thick haze is, and which light is the window's, a crop hardly shows: those tasks see more
    whole scenes. All see more clean ones than before, as a network that has to tell three tasks
    apart changed clean photographs most.
    """
    return Stage(task, (task,), 0.2, 256, 4, 6e-4, 0.2, 0.1 if task == "rain" else 0.4)


def fitted(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Scaled down until it just covers ``size``."""
    scale = max(side / have for side, have in zip(size, image.shape))
    if scale >= 1:
        return image
    to = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, to, interpolation=cv2.INTER_AREA))


def cache(photographs: Path, folder: Path) -> None:
    """``train``, ``dev`` and ``test`` photographs as BMP; those that are there already are kept.

    Those to train on are there upright and turned: rain falls on what was turned before, too, or
    bark and grass, which mostly stand upright, would be taken for streaks. They are there small,
    too, :data:`EXPOSURES` copies in each folder of :data:`LEVELS`.
    """
    with (HERE / "photographs.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    there = [row for row in listed if (photographs / row["file"]).is_file()]
    if len(there) < len(listed):
        named = ", ".join(row["file"] for row in listed if row not in there)
        print(f"{photographs} lacks {named}; see docs/training.md", file=sys.stderr)
    if not any(row["split"] == "train" for row in there):
        sys.exit(f"{photographs}: none of the photographs to train on; see docs/training.md")
    for row in there:
        train = row["split"] == "train"
        places = [f"{row['split']}/{row['name']}.bmp"]
        if train:
            places = [f"train/{way}/{row['name']}.bmp" for way in ("upright", "turned")]
            places += [f"{to}/{row['name']}_{k}.bmp" for to in LEVELS for k in range(EXPOSURES)]
        targets = [folder / place for place in places]
        if all(target.is_file() for target in targets):
            continue
        image = read_image(photographs / row["file"])
        if train:
            image = fitted(image, SIZES[0])
            shown = [image, np.rot90(image)]
            small = fitted(image, SCENES)
            for to, levels in LEVELS.items():
                shown += (contrasts if to in DEEP else exposures)(small, row["name"], levels)
        else:
            covered = [s for s in SIZES if image.shape[0] >= s[0] and image.shape[1] >= s[1]]
            rows, cols = covered[0] if covered else (min(image.shape[:2]),) * 2
            image = fitted(image, (rows, cols))
            top, left = (image.shape[0] - rows) // 2, (image.shape[1] - cols) // 2
            shown = [image[top : top + rows, left : left + cols]]
        for target, picture in zip(targets, shown):
            with atomic_write_into(target.parent) as scratch:
                cv2.imwrite(str(scratch / target.name), picture[..., ::-1])


def exposures(
    small: NDArray[np.uint8], name: str, levels: tuple[float, float]
) -> list[NDArray[np.uint8]]:
    """Copies of a small photograph, as cameras show it that expose for a mean level of their own.

    Photographs that people keep as wallpapers are dark (a quarter of these have a mean below 76, of
    255; the truths of public hazy pairs have 119 in the median). What a scene without its haze or
    reflection was, a network guesses by the scenes that it has seen, and so it gave dark ones.
    """
    rng = np.random.default_rng(list(name.encode()))
    light = to_light(small)
    some = light[::4, ::4]
    gains, exponents = 2 ** np.linspace(-3, 4, 57), 2 ** np.linspace(0, -1.2, 25)
    bright = [to_display(some * np.float32(gain), np.uint8).mean() for gain in gains]
    # No more than a twelfth of it gets white; what is missing then, a curve that keeps white gives.
    most = max(1.0, 1 / float(np.quantile(light.max(axis=2), 11 / 12) + 1e-3))
    found = []
    for level in rng.uniform(*levels, EXPOSURES) / 255:
        gain = min(float(np.interp(level, bright, gains)), most)
        shown = to_display(light * np.float32(gain), np.uint8)
        means = [(shown[::4, ::4] ** exponent).mean() for exponent in exponents]
        shown = shown ** np.interp(level, means, exponents)
        found.append(np.round(255 * shown).astype(np.uint8))
    return found


def contrasts(
    small: NDArray[np.uint8], name: str, levels: tuple[float, float]
) -> list[NDArray[np.uint8]]:
    """Copies of a small photograph that have something black in them, and something white.

    Of 17 truths of public hazy pairs the darkest hundredth is at 1 to 57, of 255, 9 in the median;
    of exposures at 35. What has only seen those leaves a haze's blacks as pale as theirs.
    """
    rng = np.random.default_rng([int(levels[0]), *name.encode()])
    low, high = np.percentile(small.mean(axis=2), (1, 99)) / 255
    high = max(high, low + 0.35)  # fog would show the steps of its 8 bits
    stretched = np.maximum((np.arange(256) / 255 - low) / (high - low), 0)
    share = np.bincount(small.ravel(), minlength=256) / small.size
    found = []
    for level in rng.uniform(*levels, EXPOSURES) / 255:
        black = np.exp(rng.uniform(*np.log(BLACK))) / 255
        white = min(1.0, rng.uniform(*WHITE) / 255)
        curves = [
            np.clip(black + (white - black) * stretched**exponent, 0, 1)
            for exponent in 2 ** np.linspace(-1.2, 1, 89)
        ]
        curve = min(curves, key=lambda shown: abs(float(shown @ share) - level))
        found.append(np.round(255 * curve).astype(np.uint8)[small])
    return found


def parts(stage: Stage, photographs: Path) -> list[dict[str, Any]]:
    """The datasets of a stage, of equal shares.

    Half of what rain's own stage sees, and two thirds elsewhere, is on exposures. A quarter of what
    rain's own stage sees is of the preset ``plain``, whose rain is light.
    """

    def part(task: str, exposed: bool, **degradation: Any) -> dict[str, Any]:
        place = "exposed" if exposed else "train" if task == "rain" else "train/upright"
        return {
            "type": "UHDSynthesisDataset",
            "degradation": {"type": task, **degradation},
            "dataroot": str(photographs / place),
        }

    real = {"identity": stage.identity}
    if stage.tasks == ("rain",):
        return [
            *(part("rain", exposed, **real) for exposed in (True, True, False)),
            part("rain", False, preset="plain"),
        ]
    return [part(task, exposed, **real) for task in stage.tasks for exposed in (True, True, False)]


def options(stage: Stage, network: str, args: argparse.Namespace, steps: int) -> dict[str, Any]:
    """The shipped options of rain, for this stage's data and budget."""
    file = find_shipped(OPTIONS["rain"], "basicsr_options", ".yml")
    opt: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    del opt["datasets"]["val"], opt["val"]
    opt["name"] = f"{network}_{stage.name}"
    opt["manual_seed"] = args.seed
    cuda = args.device == "cuda"
    opt["datasets"]["train"] = {
        "name": stage.name,
        "type": "UHDMixedDataset",
        "datasets": parts(stage, args.out / "photographs"),
        "gt_size": stage.crop * (2 if cuda else 1),
        "batch_size_per_gpu": stage.batch * (4 if cuda else 1),
        "crops_per_image": 2,
        # From 4K down to what public sets of small pictures have.
        "resize": [0.2, 1.0],
        "scene_share": stage.scenes,
        "use_hflip": True,
        "num_worker_per_gpu": args.workers,
        # Epochs of some thousand samples: the loader's processes start anew with each.
        "dataset_enlarge_ratio": 50,
    }
    train = opt["train"]
    if network == "glsgn_s":
        opt["network_g"] = dict(GLSGN_S)
        if stage.name in COPIES:
            side, pixels = COPIES[stage.name]
            opt["network_g"][side] = pixels
    else:
        opt["network_g"] = {"type": "Peer", "peer": network}
        train["pixel_opt"] = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    start = args.start if network == "glsgn_s" else None
    if stage is not MIXED:
        start = str(args.out / f"{network}_mixed.pth")
    if start is not None:
        opt["path"]["pretrain_network_g"] = (
            start if is_shipped(start) else str(Path(start).resolve())
        )
    train.pop("amp", None)
    if args.amp:
        train["amp"] = args.amp
    train.update(
        total_iter=steps,
        warmup_iter=min(100, steps // 20),
        # The average reaches over a twentieth of the schedule, however short that is.
        ema_decay=max(0.9, 1 - 20 / steps),
    )
    train["optim_g"]["lr"] = stage.lr
    train["scheduler"].update(periods=[steps], eta_min=1e-5 if stage is MIXED else 1e-7)
    opt["logger"].update(
        print_freq=max(1, min(50, steps // 8)),
        save_checkpoint_freq=max(100, steps // 10),
        use_tb_logger=False,
    )
    return opt


def basicsr_train(opt: dict[str, Any], file: Path, folder: Path, resume: bool) -> str:
    """Run it; what it logged."""
    atomic_write(file, yaml.safe_dump(opt).encode())
    command = [sys.executable, str(HERE / "peers.py")]
    if opt["network_g"]["type"] == "GLSGN":
        command = [str(BIN / "basicsr"), "train"]
    log = folder / f"{opt['name']}.log"
    with log.open("a", encoding="utf-8") as into:
        done = subprocess.run(
            [*command, "-opt", str(file), *(["--auto_resume"] if resume else [])],
            cwd=folder,
            stdout=into,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = log.read_text(encoding="utf-8")
    if done.returncode:
        sys.exit(f"{opt['name']} failed, see {log}:\n{said[-1500:]}")
    return said


def train(stage: Stage, network: str, args: argparse.Namespace) -> None:
    """A stage's weights in ``args.out / NETWORK_STAGE.pth``, and what it took in ``.json``."""
    name = f"{network}_{stage.name}"
    record = args.out / f"{name}.json"
    if record.is_file():
        return
    minutes = args.minutes * stage.share
    print(f"{name}: {minutes:.0f} minutes", file=sys.stderr, flush=True)
    file = args.out / f"{name}.yml"
    if not file.is_file():
        trial = options(stage, network, args, TRIAL)
        trial["name"] += "_trial"
        trial_file = args.out / f"{trial['name']}.yml"
        seconds, _ = pace(basicsr_train(trial, trial_file, args.out, resume=False))
        for left in (args.out / "experiments" / trial["name"], args.out / f"{trial['name']}.log"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        trial_file.unlink()
        opt = options(stage, network, args, max(TRIAL, int(minutes * 60 / seconds)))
    else:
        opt = yaml.safe_load(file.read_text(encoding="utf-8"))
    models = args.out / "experiments" / name / "models"
    start = time.monotonic()
    said = basicsr_train(opt, file, args.out, resume=any(models.glob("net_g_*.pth")))
    seconds, waited = pace(said)
    shutil.copyfile(models / "net_g_latest.pth", args.out / f"{name}.pth")
    if network == "glsgn_s":
        found = read_weights(args.out / f"{name}.pth")
        target = args.out / f"{name}.safetensors"
        write_weights(found.weights, target, torch.float16, found.options)
    took = {
        "steps": opt["train"]["total_iter"],
        "minutes of the last call": (time.monotonic() - start) / 60,
        "seconds a step": seconds,
        "share waited for data": waited / seconds,
    }
    atomic_write(record, json.dumps(took, indent=1).encode())
    print(f"{name}: {took}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder that photographs.csv is about"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    networks = ("glsgn_s", *PEERS)
    parser.add_argument("--networks", nargs="+", choices=networks, default=["glsgn_s"])
    parser.add_argument("--minutes", type=float, default=240, help="of training, each network")
    parser.add_argument("--out", type=Path, default=Path("experiments/zoo"))
    parser.add_argument("--start", metavar="FILE", help="weights that glsgn_s goes on from")
    parser.add_argument("--amp", choices=("bf16",), help="on CPUs, too; default on a GPU")
    parser.add_argument("--workers", type=int, default=(os.cpu_count() or 2) - 1 if cuda else 1)
    parser.add_argument("--seed", type=int, default=2207)
    args = parser.parse_args()
    args.device = "cuda" if cuda else "cpu"
    if cuda and args.amp is None:
        args.amp = "bf16"
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    cache(args.photographs, args.out / "photographs")
    for network in args.networks:
        for stage in (MIXED, *(stage_of(task) for task in args.tasks)):
            train(stage, network, args)


if __name__ == "__main__":
    main()
