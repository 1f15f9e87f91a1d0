"""Networks as ONNX, checked against onnxruntime; as a folder for darktable, if wanted.

darktable's form is as its developers describe it (its dev-doc/AI_Tasks.md and
src/ai/backend_common.c): models of its task "denoise" take and give sRGB in [0, 1], of any size.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from glsgn_plugins.archs.glsgn import GLSGN, MIN_SIZE
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import atomic_write_into, write_error

EXPORTS = (2, 8)
"""The oldest torch that was seen to export this network; 2.6 can't, 2.7 was not tried."""

TOLERANCE = 1e-4
"""Largest difference between onnxruntime and torch, of values in [0, 1]."""

NAMES = ("lq", "restored")
"""Input and output, unless a host wants others."""

DARKTABLE_NAMES = ("input", "output")
DARKTABLE_PREFIX = "denoise-"
"""By which darktable takes a model for that task, the only one that keeps the size of pictures."""


def export(net: GLSGN, path: Path, size: tuple[int, int] | None = None) -> float:
    """Write a network as ONNX with a dynamic batch: input ``lq``, output ``restored``.

    Padding and cropping are part of what is written, so that any size from 32x32 up goes in.
    It is the forward alone: ``long_side`` and ``coarse_side`` aren't part of it, and pictures go in
    at full size.

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
    if path.exists():
        raise InputError(f"{path} exists; remove it or give another name")
    if size is not None and min(size) < MIN_SIZE:
        raise InputError(f"size {size[0]} {size[1]}; expected {MIN_SIZE} or more each way")
    _check_packages()
    try:
        with atomic_write_into(path.parent) as scratch:
            return _write(
                net, scratch / path.name, NAMES, [size] if size else _sizes(net), not size
            )
    except OSError as error:
        raise write_error(path, error) from None


def export_for_darktable(net: GLSGN, folder: Path) -> float:
    """Write ``config.json`` and ``model.onnx``, as darktable's neural restore loads models.

    It cuts pictures into tiles, of 2048 pixels where memory allows it, so that no network sees a
    larger picture as a whole; docs/hosts.md says what that costs.

    Args:
        net: In eval mode, on the CPU.
        folder: A new one, whose name becomes the model's: ``denoise-NAME``.

    Returns:
        As of :func:`export`.

    Raises:
        InputError: Likewise; or the name begins otherwise, or the folder exists.
    """
    if not folder.name.startswith(DARKTABLE_PREFIX) or folder.name == DARKTABLE_PREFIX:
        raise InputError(
            f"{folder}: expected a folder whose name begins with {DARKTABLE_PREFIX}, by which "
            "darktable knows such models, as in denoise-glsgn-haze"
        )
    if folder.exists():
        raise InputError(f"{folder} exists; remove it or give another name")
    _check_packages()
    config = {
        "id": folder.name,
        "name": folder.name.replace("-", " "),
        "description": "GLSGN, by glsgn-plugins: rain, haze or reflections removed",
        "task": "denoise",
        "backend": "onnx",
        "num_inputs": 1,
    }
    try:
        with atomic_write_into(folder.parent) as scratch:
            (scratch / folder.name).mkdir()
            (scratch / folder.name / "config.json").write_text(json.dumps(config, indent=2) + "\n")
            file = scratch / folder.name / "model.onnx"
            return _write(net, file, DARKTABLE_NAMES, _sizes(net), dynamic=True)
    except OSError as error:
        raise write_error(folder, error) from None


def _check_packages() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"{error.name} is missing: pip install 'glsgn-plugins[onnx]'") from None
    if tuple(map(int, torch.__version__.split(".")[:2])) < EXPORTS:
        raise InputError(
            f"torch {torch.__version__} can't write this network as ONNX; use {EXPORTS[0]}."
            f"{EXPORTS[1]} or later"
        )


@torch.no_grad()
def _write(
    net: GLSGN, file: Path, names: tuple[str, str], sizes: list[tuple[int, int]], dynamic: bool
) -> float:
    """Write a file and run it; returns the largest difference.

    Raises:
        InputError: It is too large.
    """
    import onnxruntime

    auto = torch.export.Dim.AUTO
    torch.onnx.export(
        net,
        (torch.rand(2, 3, *sizes[0]),),
        str(file),
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_shapes=({0: auto, 2: auto, 3: auto} if dynamic else {0: auto},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    difference = 0.0
    for image in (torch.rand(n, 3, *s) for s in sizes for n in (1, 2)):
        (found,) = session.run(None, {names[0]: image.numpy()})
        off = (torch.from_numpy(found) - net(image)).abs().max().item()
        difference = max(difference, off)
    if not difference <= TOLERANCE:
        raise InputError(
            f"{file.name}: onnxruntime differs from torch by {difference:.1e}, more than "
            f"{TOLERANCE:.0e}; not written"
        )
    return difference


def _sizes(net: GLSGN) -> list[tuple[int, int]]:
    """To trace the network by, and to check it with.

    The first one must be padded on both sides: tracing follows the way that an image takes.
    """
    rows, cols = (-(-MIN_SIZE // m) * m for m in net.size_multiple)
    return [(rows + 1, cols + 1), (rows, cols), (3 * rows, 2 * cols - 1), (2 * rows - 1, 5 * cols)]
