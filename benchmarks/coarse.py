"""What a copy beside a photograph gains against rain, by the photograph's width and shape.

.venv/bin/python benchmarks/coarse.py --photographs zoo/photographs/dev --widths 1281 1920 3840
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch

from glsgn_plugins import load_pretrained, restore_array
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import PRESETS
from glsgn_plugins.inference import restoring
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_glsgn


def rainy(paths: list[Path], width: int, preset: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and truths of 16:9 and that width, each in the rain of its own seed."""
    pairs = []
    for seed, path in enumerate(paths):
        size = (width, round(width * 9 / 16))
        image = cv2.resize(read_image(path), size, interpolation=cv2.INTER_AREA)
        model = make_degradation({"type": "rain", "preset": preset})
        pairs.append(model.sample(np.random.default_rng(seed)).pair(image))
    return pairs


def by_long_side_alone(height: int, width: int, side: int) -> tuple[int, int] | None:
    """The copy of anything that is longer than ``side``."""
    scale = side / max(height, width)
    return None if scale >= 1 else (round(height * scale), round(width * scale))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photographs", type=Path, required=True, help="a folder")
    parser.add_argument("--widths", type=int, nargs="+", default=[1281, 1408, 1600, 1920])
    parser.add_argument("--panoramas", type=int, nargs="*", default=[720, 1440], metavar="ROWS")
    parser.add_argument("--weights", help="by default the shipped ones")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net = read_glsgn(args.weights) if args.weights else load_pretrained("rain")
    paths = sorted(args.photographs.iterdir())
    rule = restoring.coarse_size
    print("| picture | preset | alone | a copy in any case | as restore does |")
    print("| --- | --- | --- | --- | --- |")
    for preset in PRESETS:
        cases = [(f"{width} wide", rainy(paths, width, preset)) for width in args.widths]
        for rows in args.panoramas:
            parts = rainy(paths[:4], rows * 16 // 9, preset)
            joined = tuple(np.concatenate(side, axis=1) for side in zip(*parts))
            cases.append((f"{joined[0].shape[1]}x{rows}", [joined]))
        for name, pairs in cases:
            alone = [restore_array(net, lq, long_side=0) for lq, _ in pairs]
            made = [alone]
            for how in (by_long_side_alone, rule):
                restoring.coarse_size = how
                made.append([restore_array(net, lq) for lq, _ in pairs])
            figures = [
                mean(cv2.PSNR(out, gt) for out, (_, gt) in zip(outs, pairs)) for outs in made
            ]
            print(
                f"| {name} | {preset} |", " | ".join(f"{x:.2f}" for x in figures), "|", flush=True
            )


if __name__ == "__main__":
    main()
