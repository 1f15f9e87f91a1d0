"""Images per second of decoding, cropping and degrading at 4K, and samples that a loader delivers.

python benchmarks/data.py --photographs DIR

One core for the last table: OpenCV and torch with one thread. The first compares loaders of
two workers over the same PNG files, BasicSR's own PairedImageDataset first; each is asked for the
same number of samples, epochs over, after its workers have started; the ratio is that of samples
per second of a core's time.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.datasets import UHDPairedDataset
from glsgn_plugins.data.generate import Settings, generate_set
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import DEGRADATIONS, PRESETS, Place
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.io.images import png, read_image

SCENES = 0.1
"""Share of whole scenes, as in the shipped options; these have 2 crops of each image."""


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
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
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


def delivered(dataset: Any, samples: int, batch: int) -> tuple[float, float]:
    """Of BasicSR's loader with two workers, which have started already: samples per second, and per
    second of a core's time, which others on the machine take none of."""
    from basicsr.data import build_dataloader
    from basicsr.data.data_sampler import EnlargedSampler

    ratio = -(-(samples + 4 * batch) // len(dataset))
    sampler = EnlargedSampler(dataset, 1, 0, ratio)
    options = {"phase": "train", "batch_size_per_gpu": batch, "num_worker_per_gpu": 2}
    batches: Any = iter(build_dataloader(dataset, options, num_gpu=1, sampler=sampler, seed=0))

    def spent() -> float:
        ticks = 0
        for worker in batches._workers:
            fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")

    for _ in range(4):  # both workers have started, and what they fetched ahead is used up
        next(batches)
    start, before = time.perf_counter(), spent()
    for _ in range(samples // batch):
        next(batches)
    return samples / (time.perf_counter() - start), samples / (spent() - before)


def loaders(root: Path, samples: int, batch: int) -> None:
    """Samples per second at crops of 512 and 1024."""
    patch_basicsr()
    from basicsr.data import build_dataset

    print(f"\nTwo workers, batches of {batch}, {samples} samples\n")
    print("| crop | dataset | samples per s | per core | ratio |\n| --- | --- | --- | --- | --- |")
    for size in (512, 1024):
        stock = build_dataset(
            {
                "name": "stock",
                "type": "PairedImageDataset",
                "dataroot_lq": str(root / "lq"),
                "dataroot_gt": str(root / "gt"),
                "io_backend": {"type": "disk"},
                "phase": "train",
                "scale": 1,
                "gt_size": size,
                "use_hflip": True,
                "use_rot": False,
            }
        )
        rate, peer = delivered(stock, samples, batch)
        print(f"| {size} | PairedImageDataset | {rate:.2f} | {peer:.2f} | 1.00 |", flush=True)
        for crops in (1, 2, 4, 8):
            ours = UHDPairedDataset(
                str(root),
                "synthesized",
                crops=Crops(
                    gt_size=size, use_hflip=True, crops_per_image=crops, scene_share=SCENES
                ),
            )
            ours.as_bytes = True
            rate, core = delivered(ours, samples, batch)
            name = f"UHDPairedDataset, crops_per_image {crops}"
            print(f"| {size} | {name} | {rate:.2f} | {core:.2f} | {core / peer:.2f} |", flush=True)


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photographs", required=True, help="of 3840x2160 or more, at least two")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--loaders", action="store_true", help="the first table alone")
    args = parser.parse_args()
    print(f"`python benchmarks/data.py {shlex.join(sys.argv[1:])}`")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "set")
        settings = Settings(
            args.photographs, {"type": "rain", "preset": "plain"}, size=(3840, 2160)
        )
        for problem in generate_set(root, settings, workers=2):
            if problem:
                print(f"left out: {problem}", file=sys.stderr)
        loaders(root, args.samples, args.batch)
        if not args.loaders:
            per_core(root, args.repeats)


if __name__ == "__main__":
    main()
