"""What both demos share: the set of misty rain, scores and a picture.

Works in ``demo/`` of the current folder; what is there already is reused.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins import load_pretrained, restore_array
from glsgn_plugins.data import demo_set
from glsgn_plugins.data.demo_set import (
    DATA,
    DEMO,
    RAINS_PER_PHOTO,
    SEED,
    TRAIN_PHOTOS,
    UNSEEN_PHOTO,
    make_data,
    photo,
)
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import atomic_write_into

__all__ = [
    "DATA",
    "DEMO",
    "RAINS_PER_PHOTO",
    "SEED",
    "TASK",
    "TRAIN_PHOTOS",
    "UNSEEN",
    "UNSEEN_PHOTO",
    "digest",
    "make_data",
    "photo",
    "prepare",
    "show",
]

TASK = "rain"
UNSEEN = Path(UNSEEN_PHOTO).stem


def prepare() -> None:
    """The rain set in ``DATA``."""
    try:
        print(demo_set.prepare(), flush=True)
    except InputError as error:
        sys.exit(f"demo: {error}")


def digest(*paths: Path) -> str:
    """One hash over the content of files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


Score = Callable[[NDArray[Any], NDArray[Any]], tuple[float, float]]


def show(tuned: NDArray[Any], picture: Path, score: Score) -> None:
    """Print scores of the unseen photograph before and after, and write the picture.

    Args:
        tuned: The photograph as the fine-tuned network restored it, 8-bit BGR.
        picture: File to write.
        score: Gives PSNR and SSIM of an 8-bit BGR image against the truth.
    """
    lq, gt = (cv2.imread(str(DATA / "val" / side / f"{UNSEEN}.png")) for side in ("lq", "gt"))
    shipped = restore_array(load_pretrained(TASK), lq[..., ::-1])[..., ::-1]
    images = {"input": lq, "shipped": shipped, "fine-tuned": tuned, "truth": gt}
    columns = []
    scores = {}
    for label, image in images.items():
        text = label
        if label != "truth":
            scores[label] = psnr, ssim = score(image, gt)
            text += f"  {psnr:.2f} dB  {ssim:.4f}"
        bar = np.full((28, image.shape[1], 3), 255, np.uint8)
        cv2.putText(bar, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.vstack([bar, image]))
    with atomic_write_into(picture.parent) as scratch:
        cv2.imwrite(str(scratch / picture.name), np.hstack(columns))

    print(f"\n{UNSEEN_PHOTO} in misty rain, never trained on (RGB, no border cropped):")
    for label, (psnr, ssim) in scores.items():
        gain = psnr - scores["input"][0]
        print(f"  {label:<11} PSNR {psnr:6.2f} dB ({gain:+.2f})   SSIM {ssim:.4f}")
    print(f"Picture: {picture}")
