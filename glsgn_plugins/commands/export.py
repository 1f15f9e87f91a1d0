"""``glsgn export``: ONNX, checked against onnxruntime."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from glsgn_plugins.errors import InputError
from glsgn_plugins.network import GLSGN
from glsgn_plugins.weights import read_glsgn
from glsgn_plugins.writing import written_whole

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and torch, of values in [0, 1]."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` to the command's parser."""
    parser = commands.add_parser(
        "export",
        help="write weights as ONNX",
        description="Write a network with its weights as ONNX, for any batch of one size, and "
        "check it against onnxruntime.",
    )
    parser.add_argument("output", type=Path, metavar="OUT.onnx")
    parser.add_argument("--weights", required=True, metavar="FILE", help=".pth or .safetensors")
    parser.add_argument(
        *("--size", "-s"), nargs=2, type=int, required=True, metavar=("HEIGHT", "WIDTH")
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 0; an export that doesn't agree is an error, and isn't written."""
    net = read_glsgn(args.weights)
    difference = export(net, args.output, tuple(args.size))
    print(f"{args.output}: differs from torch by {difference:.1e} at most")
    return 0


def export(net: GLSGN, path: Path, size: tuple[int, int]) -> float:
    """Write a network as ONNX with a dynamic batch: input ``lq``, output ``restored``.

    Args:
        net: In eval mode, on the CPU.
        path: A file that ends in ``.onnx``; appears whole or not at all.
        size: Rows and columns; padding and patches depend on them, so they are fixed.

    Returns:
        The largest difference to torch, on noise, of batches of one and of two.

    Raises:
        InputError: A package is missing, the size isn't possible, or onnxruntime differs by more
            than 1e-4.
    """
    if path.suffix != ".onnx":
        raise InputError(f"{path}: expected a file that ends in .onnx")
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is missing: pip install 'glsgn-plugins[onnx]'") from None
    image = torch.rand(2, 3, *size)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), written_whole(path.parent) as scratch:
        file = scratch / path.name
        torch.onnx.export(
            net,
            (image,),
            str(file),
            input_names=["lq"],
            output_names=["restored"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        difference = 0.0
        for batch in (image, image[:1]):
            (found,) = session.run(None, {"lq": batch.numpy()})
            difference = max(difference, (torch.from_numpy(found) - net(batch)).abs().max().item())
        if not difference <= TOLERANCE:
            raise InputError(
                f"{path}: onnxruntime differs from torch by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}; not written"
            )
    return difference
