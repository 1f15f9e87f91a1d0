"""Checks of a dataset's files by their headers, before anything is started.

BasicSR stops at a pair that doesn't fit when it comes to it, by an assertion or an attribute of
``None``, and reads 16-bit, grey and transparent images as something else without a word.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from glsgn_plugins.data.checks import read_headers, usable_header
from glsgn_plugins.data.datasets import UHDMixedDataset, UHDSynthesisDataset
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.headers import Header, read_header

SHOW_PROGRESS_FROM = 500
"""Pairs from which the check shows a progress bar: some seconds on a network drive."""


def _progress(items: Sequence[Any], place: str) -> tqdm[Any]:
    few = len(items) < SHOW_PROGRESS_FROM
    return tqdm(items, desc=f"Checking {place}", unit="pair", disable=few)


def check_files(place: str, dataset: Any, least: int = 1, bytes_by: str | None = None) -> None:
    """Check the files of a dataset of ours.

    Args:
        place: Of the dataset, e.g. ``datasets.train``.
        dataset: As it has been built: of pairs, or of clean photographs.
        least: Rows and columns that the network needs.
        bytes_by: The key by which samples stay bytes, if they do.

    Raises:
        InputError: The first thing that is wrong, with its file.
    """
    if isinstance(dataset, UHDMixedDataset):
        for k, part in enumerate(dataset.parts):
            check_files(f"{place}.datasets[{k}]", part, least, bytes_by)
        return
    crop = dataset.crops.gt_size
    if isinstance(dataset, UHDSynthesisDataset):
        for path in _progress(dataset.synthesis.photographs, place):
            _check_fits(place, path, usable_header(path, crop), least, bytes_by)
        return
    for pair in _progress(dataset.pairs, place):
        headers, problem = read_headers(pair, crop)
        if problem:
            raise InputError(problem)
        for path, header in zip(pair, headers):
            _check_fits(place, path, header, least, bytes_by)


def _check_fits(
    place: str, path: Path, header: Header, least: int, bytes_by: str | None = None
) -> None:
    """What would stop a training or a test when it comes to this image."""
    if min(header.height, header.width) < least:
        raise InputError(
            f"{path}: {header.size}, but GLSGN needs {least} or more each way; remove it from "
            f"{place}"
        )
    if bytes_by is not None and header.bits > 8:
        raise InputError(
            f"{path}: has {header.bits} bits, which {bytes_by} would cut; leave it out"
        )


def check_pairs(
    place: str, dataset: dict[str, Any], crop: int | None, rgb8: bool, least: int = 1
) -> list[tuple[Path, Path]]:
    """Check the pairs that BasicSR's ``PairedImageDataset`` will read from folders.

    Args:
        place: For messages, e.g. ``datasets.train``.
        dataset: The options of the dataset; ``dataroot_lq`` and ``dataroot_gt`` exist.
        crop: The training crop in pixels, which each image must hold; or ``None``.
        rgb8: Require 8-bit RGB.
        least: Rows and columns that the network needs.

    Returns:
        The pairs.

    Raises:
        InputError: The first thing that is wrong, with its file.
    """
    pairs = _pairs(place, dataset)
    scale = dataset.get("scale", 1)
    for lq, gt in _progress(pairs, place):
        headers = [read_header(path) for path in (lq, gt)]
        for path, header in zip((lq, gt), headers):
            _check_fits(place, path, header, least)
        if rgb8:
            for path, header in zip((lq, gt), headers):
                if header.channels != "RGB" or header.bits != 8:
                    raise InputError(
                        f"{path}: {header.bits}-bit {header.channels}, but PairedImageDataset "
                        "makes 8-bit RGB of everything; convert it, remove the pair, or use "
                        "UHDPairedDataset"
                    )
                turned = header.orientation != 1 and header.kind != "JPEG"
                if turned or not header.plain or header.frames > 1 or header.floating:
                    raise InputError(
                        f"{path}: a {header.kind} that PairedImageDataset doesn't read right (its "
                        "orientation, layout or pages); convert it, or use UHDPairedDataset"
                    )
        small, large = headers
        if (large.height, large.width) != (small.height * scale, small.width * scale):
            raise InputError(
                f"{lq}: {small.size}, but its truth {gt} has {large.size}; with scale {scale} they "
                "must match"
            )
        if crop is not None and min(large.height, large.width) < crop:
            raise InputError(
                f"{gt}: {large.size} is smaller than {place}.gt_size, {crop}; lower gt_size or "
                "remove the pair"
            )
    return pairs


def check_lmdb(place: str, dataset: dict[str, Any]) -> list[str]:
    """Check the LMDB that BasicSR's ``PairedImageDataset`` will read.

    Args:
        place: For messages.
        dataset: The options of the dataset; ``dataroot_lq`` and ``dataroot_gt`` exist.

    Returns:
        The keys of the inputs.

    Raises:
        InputError: A folder isn't LMDB, or both hold different keys.
    """
    keys = []
    for side in ("dataroot_lq", "dataroot_gt"):
        root = dataset[side]
        if not root.endswith(".lmdb"):
            raise InputError(f"{place}.{side}: '{root}', but BasicSR wants LMDB in NAME.lmdb")
        listing = Path(os.path.expanduser(root), "meta_info.txt")
        if not listing.is_file():
            raise InputError(f"{listing}: missing, so this is no LMDB of BasicSR's; make it anew")
        keys.append([line.split(".")[0] for line in listing.read_text().splitlines() if line])
    different = set(keys[0]) ^ set(keys[1])
    if different:
        raise InputError(
            f"{place}: the LMDBs of inputs and truths differ by '{min(different)}'; make them anew"
        )
    return keys[0]


def _pairs(place: str, dataset: dict[str, Any]) -> list[tuple[Path, Path]]:
    """The files that ``PairedImageDataset`` will pair."""
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
                    "need the same names and extensions (filename_tmpl renames the inputs; "
                    "UHDPairedDataset takes others)"
                )
    return [(lq_root / _input_name(name, template), gt_root / name) for name in names]


def _files(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_file() and not p.name.startswith("."))


def _input_name(name: str, template: str) -> str:
    path = Path(name)
    return f"{template.format(path.stem)}{path.suffix}"
