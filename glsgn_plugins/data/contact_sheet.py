"""Contact sheets: input and truth side by side, whole and in a detail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.data.crops import center_crop
from glsgn_plugins.data.layouts import Pair, read_pair
from glsgn_plugins.degradations.light import to_bytes
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.io.photographs import SIDES

HEIGHT = 300
"""Of each picture, in pixels; details are as large, one pixel for one."""
CAPTION = 24


def contact_sheet(pairs: Sequence[Pair], path: Path) -> None:
    """Write a sheet with a row for each pair: input, truth, a detail of both.

    Args:
        pairs: At least one.
        path: PNG or JPEG.

    Raises:
        InputError: An image can't be read, or the sheet can't be written.
    """
    rows = [_row(pair) for pair in pairs]
    width = max(row.shape[1] for row in rows)
    sheet = np.vstack(
        [
            cv2.copyMakeBorder(
                row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255)
            )
            for row in rows
        ]
    )
    side = SIDES.get(path.suffix.lower())
    if side is not None and max(sheet.shape) > side:
        raise InputError(
            f"{path}: {sheet.shape[1]}x{sheet.shape[0]} pixels, but {path.suffix} holds sides of "
            f"{side} at most; give .png, or fewer pairs"
        )
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85]  # PNG takes no notice of it
    done, content = cv2.imencode(path.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), quality)
    if not done:
        raise InputError(f"{path}: OpenCV could not encode it")
    atomic_write(path, bytes(content))


def _row(pair: Pair) -> NDArray[np.uint8]:
    lq, gt = read_pair(pair)
    columns: list[NDArray[np.uint8]] = []
    for label, image in (("input", _shown(lq)), ("truth", _shown(gt))):
        columns.append(_captioned(f"{label}: {pair.lq.name}" if not columns else label, image))
    for label, image in (("input, 1:1", lq), ("truth, 1:1", gt)):
        columns.append(_captioned(label, _detail(image)))
    return np.hstack(columns)


def _shown(image: NDArray[Any]) -> NDArray[np.uint8]:
    width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
    small = cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    return to_bytes(np.asarray(small))


def _detail(image: NDArray[Any]) -> NDArray[np.uint8]:
    part = to_bytes(center_crop(image, (HEIGHT, HEIGHT)))
    below, right = HEIGHT - part.shape[0], HEIGHT - part.shape[1]
    padded = cv2.copyMakeBorder(
        part, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    return np.asarray(padded, np.uint8)


def _captioned(text: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bar = np.full((CAPTION, image.shape[1], 3), 255, np.uint8)
    # OpenCV's letters are ASCII.
    shown = text.encode("ascii", "replace").decode()
    cv2.putText(bar, shown, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, image])
