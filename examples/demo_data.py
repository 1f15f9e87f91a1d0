"""What both demos share: photographs, a set of misty rain made of them, scores and a picture.

Works in ``demo/`` of the current folder; what is there already is reused.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins import load_pretrained, restore_array
from glsgn_plugins.cli.glsgn import main as glsgn
from glsgn_plugins.io.atomic import atomic_write_into

DEMO = Path("demo")
DATA = DEMO / "misty_rain"
TASK = "rain"

# Photographs in scikit-image's wheel, which BasicSR requires. Neither coffee.png nor astronaut.png
# is trained on, here or for the shipped weights.
TRAIN_PHOTOS = ("chelsea.png", "rocket.jpg", "motorcycle_left.png")
UNSEEN_PHOTO = "coffee.png"
UNSEEN = Path(UNSEEN_PHOTO).stem
RAINS_PER_PHOTO = 8
VEIL = (0.02, 0.05)
"""Of rain too far away to be seen as streaks: what the shipped weights have never been shown."""

SEED = 2207


def photo(name: str) -> Path:
    """One of scikit-image's photographs."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not in this scikit-image; install scikit-image 0.20+")
    return path


def make_data(
    folder: Path,
    photos: tuple[str, ...] = TRAIN_PHOTOS,
    veil: tuple[float, float] = VEIL,
) -> None:
    """``train`` and ``val``, each with ``lq`` and ``gt``, by ``glsgn synthesize``."""
    for phase, names, rains in (
        ("train", photos, RAINS_PER_PHOTO),
        ("val", (UNSEEN_PHOTO,), 1),
    ):
        clean = folder / "clean" / phase
        clean.mkdir(parents=True)
        for name in names:
            shutil.copyfile(photo(name), clean / name)
        argv = ["synthesize", "rain", "--clean", str(clean), "--out", str(folder / phase)]
        argv += ["--per-image", str(rains), "--seed", str(SEED), "--workers", "1"]
        argv += ["--preset", "plain", "--range", "veil", *map(str, veil)]
        if glsgn(argv):
            sys.exit("demo: glsgn synthesize failed, see above")


def digest(*paths: Path) -> str:
    """One hash over the content of files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def prepare() -> None:
    """The rain set in ``DATA``, made in a scratch folder so that it is whole or absent."""
    if DATA.is_dir():
        print(f"Reusing the rain set in {DATA}", flush=True)
        return
    with atomic_write_into(DEMO) as scratch:
        make_data(scratch / DATA.name)
    print(f"Made a set of misty rain from {len(TRAIN_PHOTOS)} photographs in {DATA}", flush=True)


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
