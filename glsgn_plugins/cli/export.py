"""``glsgn export``: ONNX, checked against onnxruntime."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from glsgn_plugins.archs.glsgn import GLSGN, MIN_SIZE
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import atomic_write_into, write_error
from glsgn_plugins.io.weights import read_glsgn

EXPORTS = (2, 8)
"""The oldest torch that was seen to export this network; 2.6 can't, 2.7 was not tried."""

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and torch, of values in [0, 1]."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` to the command's parser."""
    parser = commands.add_parser(
        "export",
        help="write weights as ONNX",
        description="Write a network with its weights as ONNX, for any batch and size, and check "
        "it against onnxruntime.",
    )
    parser.add_argument("output", type=Path, metavar="OUT.onnx")
    parser.add_argument("--weights", required=True, metavar="FILE", help=".pth or .safetensors")
    parser.add_argument(
        *("--size", "-s"),
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="for images of this size alone, as some runtimes want it (default: any size)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 0; an export that doesn't agree is an error, and isn't written."""
    net = read_glsgn(args.weights)
    difference = export(net, args.output, tuple(args.size) if args.size else None)
    print(f"{args.output}: differs from torch by {difference:.1e} at most")
    return 0


def export(net: GLSGN, path: Path, size: tuple[int, int] | None = None) -> float:
    """Write a network as ONNX with a dynamic batch: input ``lq``, output ``restored``.

    Padding and cropping are part of what is written, so that any size from 32x32 up goes in.

    Args:
        net: In eval mode, on the CPU.
        path: A file that ends in ``.onnx``; appears whole or not at all.
        size: Rows and columns, where these are to be fixed.

    Returns:
        The largest difference to torch, on noise: of batches of one and of two, and where the size
        isn't fixed, of sizes other than the one by which the network was traced.

    Raises:
        InputError: A package is missing, torch is too old, the size isn't possible, the file can't
            be written, or onnxruntime differs by more than 1e-4.
    """
    if path.suffix != ".onnx":
        raise InputError(f"{path}: expected a file that ends in .onnx")
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is missing: pip install 'glsgn-plugins[onnx]'") from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < EXPORTS:
        raise InputError(
            f"torch {torch.__version__} can't write this network as ONNX; use {EXPORTS[0]}."
            f"{EXPORTS[1]} or later"
        )
    sizes = [size] if size else _sizes(net)
    try:
        with torch.no_grad(), atomic_write_into(path.parent) as scratch:
            file = scratch / path.name
            auto = torch.export.Dim.AUTO
            torch.onnx.export(
                net,
                (torch.rand(2, 3, *sizes[0]),),
                str(file),
                input_names=["lq"],
                output_names=["restored"],
                dynamic_shapes=({0: auto} if size else {0: auto, 2: auto, 3: auto},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            difference = 0.0
            for image in (torch.rand(n, 3, *s) for s in sizes for n in (1, 2)):
                (found,) = session.run(None, {"lq": image.numpy()})
                off = (torch.from_numpy(found) - net(image)).abs().max().item()
                difference = max(difference, off)
            if not difference <= TOLERANCE:
                raise InputError(
                    f"{path}: onnxruntime differs from torch by {difference:.1e}, more than "
                    f"{TOLERANCE:.0e}; not written"
                )
    except OSError as error:
        raise write_error(path, error) from None
    return difference


def _sizes(net: GLSGN) -> list[tuple[int, int]]:
    """To trace the network by, and to check it with.

    The first one must be padded on both sides: tracing follows the way that an image takes.
    """
    rows, cols = (-(-MIN_SIZE // m) * m for m in net.size_multiple)
    return [(rows + 1, cols + 1), (rows, cols), (3 * rows, 2 * cols - 1), (2 * rows - 1, 5 * cols)]
