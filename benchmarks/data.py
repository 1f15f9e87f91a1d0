"""Samples per second that a core delivers from 4K, by each form of a set; and what its steps take.

python benchmarks/data.py --photographs DIR

The first table has loaders of one worker over the same pictures, BasicSR's own PairedImageDataset
first: as PNG, JPEG and BMP of 3840x2160, as sub-images, these in an LMDB, and degraded as they are
read. Files lie in the system's cache. What counts is the time of a core that the loader and its
worker take, so that others on the machine change it little; OpenCV and torch have one thread. The
ratio is to PairedImageDataset on the same files, or, where photographs are degraded, on pairs that
were stored in their format.

The last column has the cores that keep one H100 busy that trains glsgn_b, as docs/gpu.md works it
out: a step has three times the forward's multiply-adds and bytes of convolutions in half precision,
of which the card does no more than its data sheet's rate, and a tenth of that is taken for granted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from forward import build
from gpu_bench import work_of

from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.datasets import UHDPairedDataset, UHDSynthesisDataset
from glsgn_plugins.data.generate import Settings, generate_set
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import DEGRADATIONS, PRESETS, Place
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.io.images import png, read_image

SCENES = 0.1
"""Share of whole scenes, as in the shipped options."""

SHIPPED = 2
"""Crops of each image there."""

SUB_IMAGES = {512: 960, 1024: 1440}
"""Sides of sub-images by those of crops; 720 pixels from one to the next."""

H100 = (989e12 / 2, 3.35e12)
"""Multiply-adds in bfloat16 and bytes per second, by its data sheet (SXM, dense)."""

REACHED = 0.1
"""Share of the lower of these two that a network of few channels is taken to reach."""


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Of one core's time, which others on the machine take none of; median, after a first run."""
    run()
    took = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        took.append(time.process_time() - start)
    return median(took)


def per_core(root: Path, repeats: int) -> None:
    """Decoding, cropping, degrading and encoding one 4K image."""
    lq, gt = (sorted((root / side).iterdir()) for side in ("lq", "gt"))
    image, other = read_image(gt[0]), read_image(gt[1])
    jpeg = root / "one.jpg"
    jpeg.write_bytes(bytes(cv2.imencode(".jpg", image[..., ::-1])[1]))
    crops, rng = Crops(gt_size=512), np.random.default_rng(0)
    scenes = Crops(gt_size=512, scene_share=1.0)
    height, width = image.shape[:2]
    rows: list[tuple[str, float]] = [
        ("decode PNG", seconds(lambda: read_image(lq[0]), repeats)),
        ("decode JPEG", seconds(lambda: read_image(jpeg), repeats)),
        ("encode PNG", seconds(lambda: png(image), repeats)),
        ("crop 512", seconds(lambda: crops.window(height, width, gt[0], rng).cut(image), repeats)),
        (
            "scene 512",
            seconds(lambda: scenes.window(height, width, gt[0], rng).cut(image), repeats),
        ),
    ]
    rows.append(("thumbnail of the whole", seconds(lambda: thumbnail(image), repeats)))
    part, place = np.ascontiguousarray(image[800:1056, 1200:1456]), Place(height, width, 800, 1200)
    for preset in PRESETS:
        for kind in DEGRADATIONS:
            model = make_degradation({"type": kind, "preset": preset})
            drawn = [model.sample(np.random.default_rng(seed)) for seed in range(3 * repeats)]
            companion = other if kind == "reflection" else None
            near = companion if companion is not None or preset == "plain" else thumbnail(image)
            whole = [seconds(lambda p=p, c=companion: p.pair(image, c), 1) for p in drawn]
            parts = [seconds(lambda p=p, n=near: p.pair(part, n, place), 3) for p in drawn]
            for what, took in (("", whole), (", a crop of 256", parts)):
                name = f"{kind}, preset {preset}{what}"
                rows.append((f"{name}: median of {len(drawn)} draws", median(took)))
                rows.append((f"{name}: slowest of them", max(took)))
    print(f"\n{width}x{height}, one core\n")
    print("| step | s per image | images per s |\n| --- | --- | --- |")
    for name, value in rows:
        print(f"| {name} | {value:.4f} | {1 / max(value, 1e-9):.1f} |")


def wanted(crop: int) -> float:
    """Samples per second that an H100 takes in training glsgn_b."""
    macs, moved = work_of(build("glsgn_b"), (1, 3, crop, crop), width=2)
    return REACHED / max(3 * macs / H100[0], 3 * moved / H100[1])


def delivered(dataset: Any, samples: int, batch: int) -> float:
    """Samples per second of a core, of BasicSR's loader with one worker, which has started already.

    At least so many samples, and for at least a second.
    """
    from basicsr.data import build_dataloader
    from basicsr.data.data_sampler import EnlargedSampler

    sampler = EnlargedSampler(dataset, 1, 0, -(-100 * (samples + batch) // len(dataset)))
    options = {"phase": "train", "batch_size_per_gpu": batch, "num_worker_per_gpu": 1}
    batches: Any = iter(build_dataloader(dataset, options, num_gpu=1, sampler=sampler, seed=0))

    def spent() -> float:
        ticks = 0
        for worker in batches._workers:
            fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")

    # What the worker fetched ahead is used up then, and it has just begun another batch, as it has
    # whenever one has been taken.
    for _ in range(3):
        next(batches)
    start = spent()
    count, took = 0, 0.0
    while (count < samples or took <= 1) and count < 50 * samples:
        next(batches)
        count, took = count + batch, spent() - start
    return count / took


def stock(root: Path, size: int, backend: str = "disk") -> Any:
    """BasicSR's own dataset."""
    from basicsr.data import build_dataset

    end = ".lmdb" if backend == "lmdb" else ""
    options = {
        "name": "stock",
        "type": "PairedImageDataset",
        "dataroot_lq": str(root / f"lq{end}"),
        "dataroot_gt": str(root / f"gt{end}"),
        "io_backend": {"type": backend},
        "phase": "train",
        "scale": 1,
        "gt_size": size,
        "use_hflip": True,
        "use_rot": False,
    }
    return build_dataset(options)


def ours(
    root: Path, size: int, crops_per_image: int, degradation: str = "", on_device: bool = False
) -> Any:
    """With the scenes and bytes of the shipped options."""
    crops = Crops(gt_size=size, use_hflip=True, crops_per_image=crops_per_image, scene_share=SCENES)
    dataset: UHDPairedDataset | UHDSynthesisDataset
    if degradation:
        dataset = UHDSynthesisDataset(str(root / "gt"), {"type": degradation}, crops=crops)
    else:
        dataset = UHDPairedDataset(str(root), "synthesized", crops=crops)
    dataset.as_bytes = True
    if on_device:
        dataset.degrade_on_device()
    return dataset


def compared(roots: dict[str, Path], size: int) -> Iterator[tuple[str, str, Any]]:
    """Form of the files, name and dataset; PairedImageDataset comes first in each form."""
    for form in ("PNG", "JPEG", "BMP"):
        yield form, "PairedImageDataset", stock(roots[form], size)
        for count in (1, SHIPPED, 4) if form == "PNG" else (SHIPPED,):
            yield form, f"UHDPairedDataset, {count} of an image", ours(roots[form], size, count)
    for kind in DEGRADATIONS:  # photographs come so
        for count, where in ((SHIPPED, ""), (SHIPPED, ", on the device"), (4, ", on the device")):
            made = ours(roots["JPEG"], size, count, kind, bool(where))
            yield "JPEG", f"UHDSynthesisDataset, {kind}{where}, {count} of an image", made
    form, root = f"sub-images of {SUB_IMAGES[size]}, PNG", roots[f"sub-images {size}"]
    yield form, "PairedImageDataset", stock(root, size)
    yield form, "UHDPairedDataset, 1 of an image", ours(root, size, 1)
    yield f"{form}, in LMDB", "PairedImageDataset", stock(root / "lmdb", size, "lmdb")


def forms_of(root: Path, crops: list[int]) -> dict[str, Path]:
    """The pairs of a folder in the other forms, beside it."""
    roots = {"PNG": root, "JPEG": root.parent / "jpeg", "BMP": root.parent / "bmp"}
    for form in ("JPEG", "BMP"):
        for file in sorted((*root.glob("lq/*.png"), *root.glob("gt/*.png"))):
            to = roots[form] / file.parent.name / f"{file.stem}.{form.lower()}"
            to.parent.mkdir(parents=True, exist_ok=True)
            encoded = cv2.imencode(to.suffix, read_image(file)[..., ::-1])[1]
            to.write_bytes(bytes(encoded))
    for crop in crops:
        side = SUB_IMAGES[crop]
        roots[f"sub-images {crop}"] = squares = root.parent / f"sub-images-{crop}"
        prepare(root, squares, "--sub-images", str(side), "--step", "720")
        prepare(squares, squares / "lmdb", "--lmdb")
    return roots


def prepare(source: Path, out: Path, *more: str) -> None:
    """``glsgn prepare``."""
    command = [sys.executable, "-m", "glsgn_plugins.cli.glsgn", "prepare", str(source)]
    done = subprocess.run(
        [*command, "--workers", "1", "--out", str(out), *more],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def loaders(roots: dict[str, Path], crops: list[int], samples: int, batch: int) -> None:
    """The first table."""
    patch_basicsr()
    print(f"\nOne worker, batches of {batch}, at least {samples} samples\n")
    print("| crop | files | dataset | samples per s of a core | ratio | cores for an H100 |")
    print("| --- " * 6 + "|")
    for size in crops:
        need, peers = wanted(size), {}
        for form, name, dataset in compared(roots, size):
            rate = delivered(dataset, samples, batch)
            ratio = rate / peers.setdefault(form, rate)
            cells = (size, form, name, f"{rate:.2f}", f"{ratio:.2f}", f"{need / rate:.1f}")
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        print(f"An H100 wants {need:.0f} samples per s.", file=sys.stderr)


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photographs", required=True, help="of 3840x2160 or more, at least two")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4, help="4 is that of the shipped options")
    parser.add_argument("--crops", type=int, nargs="+", choices=SUB_IMAGES, default=[*SUB_IMAGES])
    parser.add_argument("--loaders", action="store_true", help="the first table alone")
    args = parser.parse_args()
    print(f"`python benchmarks/data.py {shlex.join(sys.argv[1:])}`")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "set")
        settings = Settings(
            args.photographs, {"type": "rain", "preset": "plain"}, size=(3840, 2160)
        )
        for problem in generate_set(root, settings, workers=1):
            if problem:
                print(f"left out: {problem}", file=sys.stderr)
        loaders(forms_of(root, args.crops), args.crops, args.samples, args.batch)
        if not args.loaders:
            per_core(root, args.repeats)


if __name__ == "__main__":
    main()
