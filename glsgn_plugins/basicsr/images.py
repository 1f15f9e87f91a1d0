"""Checks of paired image folders by their headers: names, sizes, channels, bit depth, wholeness.

BasicSR stops at a pair that doesn't fit when it comes to it, by an assertion or an attribute of
``None``, and reads 16-bit, grey and transparent images as something else without a word.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from glsgn_plugins.errors import InputError

SHOW_PROGRESS_FROM = 500
"""Pairs from which the check shows a progress bar: some seconds on a network drive."""


def check_pairs(place: str, dataset: dict[str, Any], crop: int | None, rgb8: bool) -> None:
    """Check the pairs that BasicSR's ``PairedImageDataset`` will read from folders.

    Args:
        place: For messages, e.g. ``datasets.train``.
        dataset: The options of the dataset; ``dataroot_lq`` and ``dataroot_gt`` exist.
        crop: The training crop in pixels, which each image must hold; or ``None``.
        rgb8: Require 8-bit RGB.

    Raises:
        InputError: The first thing that is wrong, with its file.
    """
    lq_root = Path(os.path.expanduser(dataset["dataroot_lq"]))
    gt_root = Path(os.path.expanduser(dataset["dataroot_gt"]))
    template = dataset.get("filename_tmpl", "{}")
    meta = dataset.get("meta_info_file")
    if meta is not None:
        lines = Path(os.path.expanduser(meta)).read_text(encoding="utf-8").splitlines()
        names = [line.split(" ")[0] for line in lines if line.strip()]
    else:
        names = _files(gt_root)
        inputs = set(_files(lq_root))
        for root, found in ((gt_root, names), (lq_root, inputs)):
            if not found:
                raise InputError(f"{place}: folder '{root}' holds no files; put the images there")
        wanted = {_input_name(name, template) for name in names}
        for missing, root in ((wanted - inputs, lq_root), (inputs - wanted, gt_root)):
            if missing:
                raise InputError(
                    f"{place}: {len(inputs)} files in '{lq_root}', {len(names)} in '{gt_root}'; "
                    f"the first without its partner in '{root}' is '{min(missing)}'. Both folders "
                    "need the same names and extensions (filename_tmpl renames the inputs)"
                )
    pairs = [(lq_root / _input_name(name, template), gt_root / name) for name in names]
    for lq, gt in tqdm(
        pairs, desc=f"Checking {place}", unit="pair", disable=len(pairs) < SHOW_PROGRESS_FROM
    ):
        sizes = [_size(path, rgb8) for path in (lq, gt)]
        scale = dataset.get("scale", 1)
        if sizes[1] != (sizes[0][0] * scale, sizes[0][1] * scale):
            raise InputError(
                f"{lq}: {_shown(sizes[0])}, but its truth {gt} has {_shown(sizes[1])}; "
                f"with scale {scale} they must match"
            )
        if crop is not None and min(sizes[1]) < crop:
            raise InputError(
                f"{gt}: {_shown(sizes[1])} is smaller than {place}.gt_size, {crop}; lower gt_size "
                "or remove the pair"
            )


def _files(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_file() and not p.name.startswith("."))


def _input_name(name: str, template: str) -> str:
    path = Path(name)
    return f"{template.format(path.stem)}{path.suffix}"


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} pixels"


def _size(path: Path, rgb8: bool) -> tuple[int, int]:
    """Width and height; the pixels are not decoded."""
    try:
        with Image.open(path) as image:
            size, mode, kind = image.size, image.mode, image.format
            tags = getattr(image, "tag_v2", {})
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnidentifiedImageError, OSError, SyntaxError, struct.error) as error:
        raise InputError(f"{path}: not an image that can be read ({error}); remove it") from None
    bits = _bits(path, kind, tags)
    if not _ends(path, kind):
        raise InputError(f"{path}: cut short, its end is missing; copy it again or remove the pair")
    if rgb8 and (mode != "RGB" or bits != 8):
        found = {"L": "grey", "1": "black and white", "RGBA": "RGB with transparency"}
        shown = found.get(mode, "grey" if mode.startswith("I") else mode)
        raise InputError(
            f"{path}: {bits}-bit {shown}, but GLSGN is trained and tested on 8-bit RGB here; "
            "convert it, or remove the pair"
        )
    return size


def _bits(path: Path, kind: str | None, tags: Any) -> int:
    """Bits per channel. Pillow reads RGB of 16 bits as 8, so its mode doesn't tell."""
    if kind == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if kind == "TIFF":
        return int(max(tags.get(258, (1,))))
    return 8


def _ends(path: Path, kind: str | None) -> bool:
    """Whether a PNG or JPEG has its end marker near its end; other kinds aren't judged."""
    marker = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}.get(kind or "")
    if marker is None:
        return True
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4096))  # cameras and editors may append a little after it
        return marker in file.read()
