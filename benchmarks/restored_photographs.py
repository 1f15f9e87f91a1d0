"""For ``inference.py``: ``glsgn restore`` on photographs, and borders between patches."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

SIZES = {"4k": (2160, 3840), "16k": (8640, 15360)}


def photographs_restored(common: dict[str, Any], args: argparse.Namespace) -> list[str]:
    """``glsgn restore`` on photographs of these sizes, tiled out of the demo's."""
    import pyvips
    from demo_data import UNSEEN_PHOTO, photo

    from glsgn_plugins import glsgn_s

    lines = [
        "`glsgn restore` on a photograph (tiled out of one of scikit-image's, JPEG to JPEG):",
        "",
        "| Size | s | user s | system s | Peak of the process, images and all (MiB) |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = args.weights or str(folder / "untrained.pth")
        if not args.weights:
            torch.save({"params": glsgn_s().state_dict()}, weights)
        for size in args.sizes:
            height, width = (length // args.shrink for length in SIZES[size])
            one = pyvips.Image.new_from_file(str(photo(UNSEEN_PHOTO)))
            tiled = one.replicate(-(-width // one.width), -(-height // one.height))
            tiled.crop(0, 0, width, height).write_to_file(str(folder / f"{size}.jpg"), Q=95)
            command = [str(Path(sys.executable).parent / "glsgn"), "restore", f"{size}.jpg", "out"]
            weights_path = str(Path(weights).resolve()) if Path(weights).is_file() else weights
            command += ["--weights", weights_path, "--device", args.device]
            command += ["--amp", common["amp"]] if common["amp"] else []
            threads = {"OMP_NUM_THREADS": str(args.threads)} if args.threads else {}
            start = time.perf_counter()
            process = subprocess.Popen(command, cwd=folder, env={**os.environ, **threads})
            _, status, used = os.wait4(process.pid, 0)  # the peak of this one process
            if status:
                lines.append(f"| {size} | failed, status {status} | | | |")
                continue
            times = (time.perf_counter() - start, used.ru_utime, used.ru_stime)
            seconds = " | ".join(f"{t:.1f}" for t in times)
            lines.append(f"| {width}x{height} | {seconds} | {used.ru_maxrss / 1024:.0f} |")
    return lines


# --- Seams ---------------------------------------------------------------------------------------


def photographs(folder: Path | None) -> list[np.ndarray]:
    """Clean ones: those in a folder, or the demo's."""
    from demo_data import TRAIN_PHOTOS, UNSEEN_PHOTO, photo

    from glsgn_plugins.io.images import image_files, read_image

    names = (*TRAIN_PHOTOS, UNSEEN_PHOTO)
    files = image_files(folder) if folder else map(photo, names)
    return [read_image(file) for file in files]


def seams(args: argparse.Namespace) -> list[str]:
    """How much the borders between patches show, relative to the truth."""
    from glsgn_plugins import glsgn_s, restore_array
    from glsgn_plugins.data.synthesis import make_degradation
    from glsgn_plugins.io.weights import read_glsgn
    from glsgn_plugins.metrics import calculate_seam

    if args.weights:
        net = read_glsgn(args.weights)
    else:
        torch.manual_seed(0)
        net = glsgn_s()
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if parameter.ndim > 1 and ("head" in name or "mask" in name):
                    parameter.normal_(std=0.02)
    ways: list[tuple[str, Any, str]] = [
        ("whole", net, "whole"),
        ("streamed", net, "stream"),
    ]
    degradation = make_degradation({"type": args.task, "preset": "plain"})
    figures: dict[str, list[list[float]]] = {"the input": []}
    for k, truth in enumerate(photographs(args.photographs)):
        image = degradation.sample(np.random.default_rng(k)).apply(truth)
        made = {"the input": image}
        for name, network, tile in ways:
            made[name] = restore_array(network, image, tile, long_side=0)
        for name, found in made.items():
            values = [calculate_seam(found, truth, figure=f) for f in ("gradient", "residual")]
            figures.setdefault(name, []).append(values)
    count = len(figures["the input"])
    trained_as = f"weights {Path(args.weights).name}" if args.weights else "untrained weights"
    lines = [
        f"Seams, {trained_as}, means of {count} photographs with {args.task} (gradient: 1 is the "
        "truth's; step: 0 is none):",
        "",
        "| Image | gradient | step |",
        "| --- | --- | --- |",
    ]
    means = {name: [mean(column) for column in zip(*rows)] for name, rows in figures.items()}
    for name, (gradient, step) in means.items():
        lines.append(f"| {name} | {gradient:.4f} | {step:.3f} |")
    return lines
