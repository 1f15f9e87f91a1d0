"""What it costs to restore photographs by darktable's tiles rather than whole, under our weather.

.venv/bin/python benchmarks/tiles.py rain haze --photographs a.bmp b.bmp
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from glsgn_plugins import load_pretrained, restore
from glsgn_plugins.degradations import DEGRADATIONS
from glsgn_plugins.io.images import read_image

EDGE = 64
"""Pixels of a tile that darktable throws away on each side."""


def mirrored(first: int, side: int, length: int) -> Tensor:
    """Places of a tile in an image, those beyond its ends mirrored."""
    at = torch.arange(first, first + side).abs()
    return torch.where(at >= length, 2 * length - 2 - at, at).clamp(0, length - 1)


def by_tiles(net: nn.Module, image: Tensor, side: int) -> Tensor:
    """``(1, 3, H, W)`` by darktable's tiles."""
    height, width = image.shape[2:]
    out, step = torch.empty_like(image), side - 2 * EDGE
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows = mirrored(top - EDGE, side, height)
            cols = mirrored(left - EDGE, side, width)
            part = restore(net, image[:, :, rows][:, :, :, cols], long_side=0)
            target = out[:, :, top : top + step, left : left + step]
            part = part[:, :, EDGE:, EDGE:]
            target.copy_(part[:, :, : target.shape[2], : target.shape[3]])
    return out


def psnr(one: Tensor, two: Tensor) -> float:
    return float(-10 * torch.log10(((one.clamp(0, 1) - two.clamp(0, 1)) ** 2).mean()))


def tensor(image: np.ndarray) -> Tensor:
    top = np.iinfo(image.dtype).max
    return torch.from_numpy(image.astype(np.float32) / top).permute(2, 0, 1)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tasks", nargs="+", choices=DEGRADATIONS)
    parser.add_argument("--photographs", nargs="+", type=Path, required=True)
    parser.add_argument("--sides", nargs="+", type=int, default=[2048, 1024, 512])
    args = parser.parse_args()
    if "reflection" in args.tasks and len(args.photographs) < 2:
        parser.error("reflection: two photographs or more: each shows the one before")
    for task in args.tasks:
        net = load_pretrained(task).to(memory_format=torch.channels_last)
        for k, path in enumerate(args.photographs):
            parameters = DEGRADATIONS[task]().sample(np.random.default_rng(5))
            reflected = read_image(args.photographs[k - 1]) if task == "reflection" else None
            lq, truth = (tensor(x) for x in parameters.pair(read_image(path), reflected))
            whole = restore(net, lq, long_side=0)  # as an exported network runs
            size = f"{lq.shape[3]}x{lq.shape[2]}"
            print(f"{task} {path.name} {size}: input {psnr(lq, truth):.2f} dB", end=", ")
            print(f"whole {psnr(whole, truth):.2f}", flush=True)
            for side in args.sides:
                tiled = by_tiles(net, lq, side)
                print(
                    f"  tiles of {side}: {psnr(tiled, truth):.2f} dB, "
                    f"{psnr(tiled, whole):.2f} from whole",
                    flush=True,
                )


if __name__ == "__main__":
    main()
