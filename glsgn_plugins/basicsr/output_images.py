"""Restored pictures of validation and test: names that are all different, and depths kept."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import write_error
from glsgn_plugins.io.files import equal_names
from glsgn_plugins.io.headers import read_header


def input_paths(dataset: Any) -> list[str]:
    """The inputs of a dataset, of ours or BasicSR's; none of a kind that isn't known."""
    if hasattr(dataset, "parts"):
        return [path for part in dataset.parts for path in input_paths(part)]
    if hasattr(dataset, "pairs"):
        return [str(pair.lq) for pair in dataset.pairs]
    if hasattr(dataset, "synthesis"):
        return [str(path) for path in dataset.synthesis.photographs]
    paths = getattr(dataset, "paths", ())
    return [path["lq_path"] if isinstance(path, dict) else str(path) for path in paths]


def picture_names(paths: Sequence[str]) -> dict[str, Path]:
    """What a restored image is named after its input, without extension.

    By its file's name, as BasicSR has it. Where two would be equal, by its path below what all
    have in common.

    Args:
        paths: Of all inputs.
    """
    if equal_names(paths) is None:
        return {path: Path(os.path.splitext(os.path.basename(path))[0]) for path in paths}
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = {path: Path(os.path.relpath(path, root)) for path in paths}
    stems = Counter(name.with_suffix("") for name in names.values())
    return {
        path: name.with_suffix("") if stems[name.with_suffix("")] == 1 else name
        for path, name in names.items()
    }


def save_picture(image: Tensor, source: str, file: Path) -> None:
    """Write a restored image as PNG, of 16 bits where its input has these.

    Args:
        image: ``(1, 3, H, W)``, RGB; clipped to [0, 1].
        source: The input's file, or a key of LMDB.
        file: Its folder is made.

    Raises:
        InputError: It can't be written.
    """
    dtype: Any = np.uint16 if _is_deep(source) else np.uint8
    scaled = image[0].detach().cpu().float().clamp(0, 1).mul(float(np.iinfo(dtype).max)).round()
    rgb = scaled.permute(1, 2, 0).numpy().astype(dtype)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        done, content = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        if done:
            file.write_bytes(content.tobytes())
    except OSError as error:
        raise write_error(file, error) from None


def _is_deep(source: str) -> bool:
    try:
        return read_header(Path(source)).bits == 16
    except InputError:  # a key of LMDB, say
        return False
