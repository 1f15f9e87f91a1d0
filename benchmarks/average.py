"""Weights out of several: their average, and heads that change brightness alone.

    python benchmarks/average.py glsgn_s_haze.safetensors net_g_2000.pth=0.5 net_g_latest.pth=0.5 \
        --heads luma --long-side 320

- Checkpoints of one training that are averaged restore better than the last alone, where that
  training pulled them to and fro.
- ``--heads luma``: what a pathway adds to its image becomes the luma (BT.601) of what it added, for
  each channel alike: colours stay as they were, whoever runs the network. It is ``restore(...,
  keep_colour=True)`` inside the weights, but for what the fusion's masks and the pathways hear.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from glsgn_plugins.inference.strength import LUMA
from glsgn_plugins.io.weights import read_weights, write_weights


def average(files: dict[str, float]) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The weighted sum, float32, and the options of the first."""
    if abs(sum(files.values()) - 1) > 1e-3:
        raise SystemExit(f"shares of an average add up to 1, these to {sum(files.values()):.4g}")
    total: dict[str, Tensor] = {}
    options: dict[str, object] = {}
    for file, share in files.items():
        found = read_weights(file)
        options = options or found.options
        for key, value in found.weights.items():
            total[key] = total.get(key, torch.zeros(())) + share * value.float()
    return total, options


def change_luma_alone(weights: dict[str, Tensor]) -> None:
    """Project each pathway's head on luma, in place."""
    for key in [key for key in weights if ".head." in key]:
        head = weights[key]
        luma = torch.tensordot(torch.tensor(LUMA), head, dims=1)
        weights[key] = luma.expand_as(head).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="a .safetensors or .pth that isn't there yet")
    parser.add_argument("weights", nargs="+", metavar="FILE=SHARE")
    parser.add_argument("--heads", choices=("luma",), help="leave colours as they are")
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--long-side", type=int, help="for the record of the network, pixels")
    side.add_argument("--coarse-side", type=int, help="likewise")
    args = parser.parse_args()
    shares = dict(entry.rsplit("=", 1) for entry in args.weights)
    weights, options = average({file: float(share) for file, share in shares.items()})
    if args.heads:
        change_luma_alone(weights)
    if args.long_side or args.coarse_side:  # one takes the place of the other
        options = {**options, "long_side": args.long_side, "coarse_side": args.coarse_side}
    write_weights(weights, args.out, torch.float16, options)


if __name__ == "__main__":
    main()
