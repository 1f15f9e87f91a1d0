"""``glsgn convert IN OUT``: checkpoints of BasicSR, MMagic and safetensors into one another."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from glsgn_plugins.io.weights import read_weights, write_weights


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``convert`` to the command's parser."""
    parser = commands.add_parser(
        "convert",
        help="weights for the other framework, or safetensors",
        description="Takes GLSGN's weights (the averaged ones where there are any) out of a "
        "checkpoint of BasicSR or MMagic, a state dict or safetensors, and checks every key.",
    )
    parser.add_argument("source", metavar="IN", help="a file, or glsgn://TASK: shipped weights")
    parser.add_argument(
        "target", metavar="OUT", type=Path, help="*.pth, which both frameworks load; *.safetensors"
    )
    parser.add_argument("--half", action="store_true", help="half precision, half the size")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was found."""
    found = read_weights(args.source)
    half = torch.float16 if args.half else None
    write_weights(found.weights, args.target, half, found.options)
    widths, blocks = (found.options[key] for key in ("widths", "blocks"))
    count = sum(value.numel() for value in found.weights.values())
    print(
        f"{args.target}: GLSGN(widths={widths}, blocks={blocks}), {count / 1e6:.2f} M parameters, "
        f"from {found.place} of {args.source}"
    )
    return 0
