"""Which network: grids, padding, Patch Norm, the global pathway, and each part, side by side.

Every variant is trained on the same crops, in the same order, with the same seeds and number of
steps, and measured on whole photographs that were not trained on, and on real pairs::

    python benchmarks/networks.py --train DIR --test DIR --real ../shared/real \
        --tables padding norm global parts --out docs/ablation.md

- ``--train`` and ``--test`` are folders of clean photographs (``docs/training.md`` says which).
- Crops are degraded once per task and kept under ``--runs``, as is every finished run: an
  interrupted comparison goes on where it was, and tables share what they have in common.
- On a GPU, ``--together 16 --processes 15`` trains so many at once, whose figures are worked out
  meanwhile.
- Variants that cost more than the plain network get so many fewer steps in the table of the global
  pathway, which compares at equal time.
- PSNR (RGB) and SSIM (Y) are BasicSR's, no border cropped; seam is ``calculate_seam``'s; chroma
  is the mean distance from the truth in a and b of CIE Lab; error is the mean absolute difference
  of RGB, of 255, in which pictures in thick haze count for more than in a mean PSNR.

Code of what was tried and left out of the library is here, so that its figures can be had again.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from networks_training import Crops, Training, as_input, train
from numpy.typing import NDArray
from results import chroma_error, resized, sample_degraded
from torch import nn
from tqdm import tqdm
from variants import SCENE, TABLES, VARIANTS

from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import Degradation, Place
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.io.images import image_files, read_image
from glsgn_plugins.metrics import calculate_seam

patch_basicsr()
from basicsr.metrics import calculate_psnr, calculate_ssim  # noqa: E402

Image = NDArray[np.uint8]

INPUT = "the input"
TEST = "test"
TASKS = ("rain", "haze", "reflection")
SCALES = (1.0, 0.5, 0.25)
"""Sizes at which haze is restored: full, half, quarter."""


def make_crops(task: str, args: argparse.Namespace) -> Crops:
    """Those of a task; made once."""
    file = args.runs / f"{task}_{args.crops}_{args.crop}.npz"
    if not file.is_file():
        files = sorted(image_files(args.train))
        model = make_degradation({"type": task, **args.degradation})
        jobs = [(task, k, files, model, args.crop) for k in range(args.crops)]
        made = args.spread(_crop, jobs)
        found = list(tqdm(made, desc=f"{task}: crops", total=args.crops, disable=None))
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {key: np.stack([one[key] for one in found]) for key in found[0]}
        with file.open("wb") as out:
            np.savez(out, **arrays)
    held = np.load(file)
    kept = [torch.from_numpy(held[key]) for key in ("lq", "gt", "scene", "window")]
    return Crops(*kept[:3], kept[3].float()).to(args.device)


def _crop(job: tuple[str, int, list[Path], Degradation, int]) -> dict[str, Any]:
    """The k-th crop of a task, whoever makes it."""
    task, k, files, model, size = job
    rng = np.random.default_rng([2207, k])
    order = rng.permutation(len(files))[:2]
    image = np.asarray(read_image(files[order[0]]))
    # So that small pictures are known, too.
    least = 1.1 * size / min(image.shape[:2])
    image = resized(image, float(rng.uniform(max(0.35, least), 1)))
    if task == "rain" and k % 2:
        # What mostly stands upright, such as bark, isn't to be taken for rain.
        image = np.ascontiguousarray(image.transpose(1, 0, 2))
    if task == "reflection":
        companion = np.asarray(read_image(files[order[1]]))
    else:
        companion = thumbnail(image)
    height, width = image.shape[:2]
    top, left = (int(rng.integers(side - size + 1)) for side in (height, width))
    parameters = model.sample(rng)
    crop = np.ascontiguousarray(image[top : top + size, left : left + size])
    lq, gt = parameters.pair(crop, companion, Place(height, width, top, left))
    small = resized(image, SCENE / max(height, width))
    scene, _ = parameters.pair(small, companion, Place.whole(small))
    canvas = np.zeros((SCENE, SCENE, 3), np.uint8)  # scenes lie or stand
    canvas[: scene.shape[0], : scene.shape[1]] = scene
    # The part in the scene's -1 to 1, and how much of the canvas the scene takes.
    window = (
        (2 * top + size) / height - 1,
        (2 * left + size) / width - 1,
        size / height,
        size / width,
        *scene.shape[:2],
    )
    return {"lq": lq, "gt": gt, "scene": canvas, "window": window}


# --- one run --------------------------------------------------------------------------------------


def figures(image: Image, gt: Image, seams: bool = False) -> dict[str, float]:
    """Of RGB, uint8."""
    found = {
        "psnr": calculate_psnr(image, gt, crop_border=0),
        "chroma": chroma_error(image, gt),
        "error": float(cv2.absdiff(image, gt).mean()),
    }
    if seams:
        # On luma, since it takes longer than restoring.
        found["ssim"] = calculate_ssim(image, gt, crop_border=0, test_y_channel=True)
        found["seam"] = calculate_seam(image, gt, figure="gradient")
    return found


@torch.no_grad()
def restored(net: nn.Module | None, image: Image, device: str) -> Image:
    if net is None:
        return image
    lq = as_input(torch.from_numpy(image[None]).to(device))
    out = net(lq)[0].clamp(0, 1).mul(255).round().byte()
    return out.permute(1, 2, 0).cpu().numpy()


class Picture(NamedTuple):
    """What is measured on: the column that it counts for, input and truth."""

    key: str
    lq: Image
    gt: Image


@functools.cache
def pictures(
    task: str, test: Path, real: Path | None, degradation: str, draws: int
) -> list[Picture]:
    """The test photographs, each degraded so many times, and the real pairs of a task."""
    found = []
    scales = SCALES if task == "haze" else SCALES[:1]
    files = sorted(image_files(test))
    model = make_degradation({"type": task, **json.loads(degradation)})
    for k, file in enumerate(files):
        photograph = np.asarray(read_image(file))
        companion = np.asarray(read_image(files[k - 1])) if task == "reflection" else None
        for draw in range(draws):
            parameters = sample_degraded(model, np.random.default_rng([k, draw] if draw else k))
            pair = parameters.pair(photograph, companion, Place.whole(photograph))
            for scale in scales:
                key = TEST if scale == 1 else f"{TEST} x{scale:g}"
                found.append(Picture(key, *(resized(image, scale) for image in pair)))
    if real is not None:
        for file in sorted(image_files(real / task / "lq")):
            lq, gt = (np.asarray(read_image(real / task / p / file.name)) for p in ("lq", "gt"))
            name = file.name.partition("__")[0]
            for scale in scales:
                key = f"{name} x{scale:g}"
                found.append(Picture(key, *(resized(image, scale) for image in (lq, gt))))
    return found


def measure(
    net: nn.Module | None, task: str, args: argparse.Namespace
) -> Iterable[tuple[str, dict[str, float]]]:
    """Pictures' columns and figures; of the input where there is no network."""
    shown = pictures(task, args.test, args.real, json.dumps(args.degradation), args.draws)
    return args.spread(_figures, [(p.key, restored(net, p.lq, args.device), p.gt) for p in shown])


def _figures(job: tuple[str, Image, Image]) -> tuple[str, dict[str, float]]:
    key, image, gt = job
    return key, figures(image, gt, seams=key == TEST)


def means_of(pictured: Iterable[tuple[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Each column's figures, the means of its pictures'."""
    found: dict[str, list[dict[str, float]]] = {}
    for column, values in pictured:
        found.setdefault(column, []).append(values)
    return {
        column: {figure: mean(v[figure] for v in values) for figure in values[0]}
        for column, values in found.items()
    }


class Key(NamedTuple):
    """A run."""

    name: str
    task: str
    seed: int

    def file(self, args: argparse.Namespace) -> Path:
        settings = [*self, args.steps, args.batch, args.crop, *([args.amp] if args.amp else [])]
        settings += [f"{args.draws}-draws"] if args.draws > 1 else []
        return args.runs / ("_".join(str(s).replace(" ", "-") for s in settings) + ".json")


def run(
    keys: Sequence[Key], crops: Mapping[str, Crops], args: argparse.Namespace
) -> Callable[[], None]:
    """Train some side by side, and begin to measure them.

    Args:
        keys: Theirs.
        crops: Of each task that is trained.
        args: Of the command.

    Returns:
        Waits for the figures and writes them.
    """
    trained = [key for key in keys if key.name != INPUT]
    settings = (args.steps, args.batch, args.lr, args.amp is not None)
    start = time.monotonic()
    trainings = [
        Training(VARIANTS[key.name], crops[key.task], key.seed, *settings) for key in trained
    ]
    if trainings:
        train(trainings)
    seconds = (time.monotonic() - start) / len(keys)
    nets = {key: training.net for key, training in zip(trained, trainings)}
    measured = {key: measure(nets.get(key), key.task, args) for key in keys}

    def finish() -> None:
        for key, pictured in measured.items():
            means: dict[str, Any] = {**means_of(pictured)}
            means["seconds"] = {"training": seconds}
            atomic_write(key.file(args), json.dumps(means, indent=1).encode())
            said = f"{key.task}, {key.name}, seed {key.seed}: {means[TEST]['psnr']:.2f} dB"
            print(f"{said}, {seconds:.0f} s", file=sys.stderr, flush=True)

    return finish


def run_all(keys: Iterable[Key], args: argparse.Namespace) -> None:
    """Make those that aren't there yet; what is trained meanwhile doesn't wait for figures."""
    keys = [key for key in dict.fromkeys(keys) if not key.file(args).is_file()]
    trained = dict.fromkeys(key.task for key in keys if key.name != INPUT)
    crops = {task: make_crops(task, args) for task in trained}
    finish: Callable[[], None] | None = None
    for first in range(0, len(keys), args.together):
        following = run(keys[first : first + args.together], crops, args)
        if finish is not None:
            finish()
        finish = following
    if finish is not None:
        finish()


def keys_of(name: str, args: argparse.Namespace) -> list[Key]:
    """The runs of a table."""
    variants, tasks = TABLES[name]
    return [
        key
        for task in tasks
        if task in args.tasks
        for key in (
            Key(INPUT, task, 0),
            *(Key(v, task, seed) for v in variants for seed in range(args.seeds)),
        )
    ]


# --- tables ---------------------------------------------------------------------------------------


def table(name: str, args: argparse.Namespace) -> list[str]:
    """One table for each task, with the figures of each seed and their mean."""
    variants, tasks = TABLES[name]
    lines = []
    for task in (t for t in tasks if t in args.tasks):
        before = json.loads(Key(INPUT, task, 0).file(args).read_text())
        sets = [key for key in before if key != "seconds"]
        columns = ["PSNR of each seed", "PSNR", "SSIM", "seam", "chroma", "error"]
        columns += [f"{key}: PSNR, chroma" for key in sets if key != TEST]
        lines += [
            f"### {task}",
            "",
            f"| variant | {' | '.join(columns)} |",
            f"| --- |{' --- |' * len(columns)}",
        ]
        for variant in (INPUT, *variants):
            seeds = range(1 if variant == INPUT else args.seeds)
            files = [Key(variant, task, seed).file(args) for seed in seeds]
            runs = [json.loads(file.read_text()) for file in files]
            cells = [", ".join(f"{r[TEST]['psnr']:.2f}" for r in runs)]
            digits = {"psnr": 2, "ssim": 4, "seam": 3, "chroma": 2, "error": 1}
            cells += [f"{mean(r[TEST][f] for r in runs):.{d}f}" for f, d in digits.items()]
            cells += [
                f"{mean(r[key]['psnr'] for r in runs):.2f}, "
                f"{mean(r[key]['chroma'] for r in runs):.1f}"
                for key in sets
                if key != TEST
            ]
            lines.append(f"| {variant} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="folder of clean photographs")
    parser.add_argument("--test", type=Path, required=True, help="folder of others")
    parser.add_argument("--real", type=Path, help="folder with haze/lq, haze/gt and so on")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--degradation", type=json.loads, default={}, help="JSON, beside its type")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--crops", type=int, default=1200, help="made for each task")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--amp", choices=("bf16",), help="in training; measured in float32")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each variant")
    parser.add_argument("--draws", type=int, default=1, help="weathers of each test photograph")
    parser.add_argument("--runs", type=Path, default=Path("experiments/networks"))
    parser.add_argument("--out", type=Path, help="Markdown file")
    parser.add_argument("--processes", type=int, default=1, help="that degrade and measure")
    parser.add_argument("--together", type=int, default=1, help="runs side by side, on a GPU")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default)
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    args.spread = map
    if args.processes > 1:  # begun before the device is used, which forks couldn't do after
        args.spread = multiprocessing.Pool(args.processes, cv2.setNumThreads, (0,)).imap
    lines = [
        f"`python benchmarks/networks.py {shlex.join(sys.argv[1:])}`, torch {torch.__version__}, "
        f"{args.device}",
        "",
    ]
    run_all([key for name in args.tables for key in keys_of(name, args)], args)
    for name in args.tables:
        lines += [f"## {name}", "", *table(name, args)]
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
