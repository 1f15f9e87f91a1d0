"""``glsgn export``: a network as ONNX, or as a folder for darktable."""

from __future__ import annotations

import argparse
from pathlib import Path

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.onnx import export, export_for_darktable
from glsgn_plugins.io.weights import read_glsgn


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` to the command's parser."""
    parser = commands.add_parser(
        "export",
        help="write weights as ONNX",
        description="Write a network with its weights as ONNX, for any batch and size, and check "
        "it against onnxruntime.",
    )
    parser.add_argument("output", type=Path, metavar="OUT.onnx", help="for darktable: a folder")
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help=".pth, .safetensors or glsgn://TASK"
    )
    parser.add_argument(
        *("--size", "-s"),
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="for images of this size alone, as some runtimes want it (default: any size)",
    )
    parser.add_argument(
        "--for",
        dest="host",
        choices=("darktable",),
        help="write a folder denoise-NAME for ~/.local/share/darktable/models",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 0; an export that doesn't agree is an error, and isn't written."""
    if args.host and args.size:
        raise InputError(f"--size: {args.host} has tiles of several sizes; leave it out")
    net = read_glsgn(args.weights)
    if args.host:
        difference = export_for_darktable(net, args.output)
        print(
            f"{args.output}: differs from torch by {difference:.1e} at most; copy it to "
            "~/.local/share/darktable/models, and pick it in darktable's preferences under AI"
        )
    else:
        difference = export(net, args.output, tuple(args.size) if args.size else None)
        print(f"{args.output}: differs from torch by {difference:.1e} at most")
    if net.long_side is not None:
        print(
            f"{args.output}: runs on pictures at their full size, where glsgn restore has a copy "
            f"of {net.long_side} pixels restored, which these weights do better by"
        )
    if net.coarse_side is not None:
        print(
            f"{args.output}: is one forward, where glsgn restore has a copy of pictures beyond "
            f"{net.coarse_side} pixels restored as well, which these weights do better by"
        )
    return 0
