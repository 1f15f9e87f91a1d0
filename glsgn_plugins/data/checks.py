"""What can be wrong with the files of a set, a line for each; by their headers or decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.data.layouts import Pair
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.headers import Header, check_header, read_header
from glsgn_plugins.io.images import read_image

THUMBNAIL = 32
"""Rows and columns of the thumbnails by which swapped pairs are found."""
BLACK = 2 / 255
"""An image none of whose values is above this share of white is taken for black."""


def usable_header(path: Path, crop: int | None) -> Header:
    """What an image says of itself.

    Args:
        path: Of the image.
        crop: What it must hold, in pixels; or ``None``.

    Raises:
        InputError: Something is wrong with it.
    """
    header = read_header(path)
    check_header(path, header)
    if crop is not None and min(header.height, header.width) < crop:
        raise InputError(
            f"{path}: {header.size}, smaller than gt_size, {crop}; lower gt_size or remove the pair"
        )
    return header


def read_headers(pair: Pair, crop: int | None) -> tuple[list[Header], str | None]:
    """A pair's headers as far as they are right, and what is wrong.

    Args:
        pair: Its files.
        crop: What both must hold, in pixels; or ``None``.
    """
    headers: list[Header] = []
    for path in pair:
        try:
            headers.append(usable_header(path, crop))
        except InputError as error:
            return headers, str(error)
    lq, gt = headers
    if not pair.fits((lq.height, lq.width), (gt.height, gt.width)):
        return headers, str(pair.misfit(lq.size, gt.size))
    return headers, None


@dataclass(frozen=True)
class PairReport:
    """What decoding a pair has shown.

    Attributes:
        pair: Its files.
        problems: A line each.
        shape: Of the truth; ``None`` where a file can't be decoded.
        thumbnails: Grey, small, of input and truth, without their mean and contrast.
        digests: Of the files' pixels.
    """

    pair: Pair
    problems: tuple[str, ...]
    shape: tuple[int, int, int] | None
    thumbnails: tuple[NDArray[np.float32], ...] = ()
    digests: tuple[bytes, ...] = ()


def inspect_pair(pair: Pair, clean: bool = False) -> PairReport:
    """Decode a pair and say what is wrong with it.

    Args:
        pair: Its files.
        clean: Its truth is the input, and is meant to be.
    """
    headers, problem = read_headers(pair, None)
    if problem:
        return PairReport(pair, (problem,), None)
    problems, thumbnails, digests, depths = [], [], [], []
    channels = [header.channels for header in headers]
    shape: tuple[int, int, int] | None = None
    for path in pair:
        try:
            image = read_image(path)
        except InputError as error:
            return PairReport(pair, (str(error),), None)
        shape = (image.shape[0], image.shape[1], 3)
        depths.append(8 * image.dtype.itemsize)
        if image.max() <= BLACK * np.iinfo(image.dtype).max:
            problems.append(f"{path}: all black; copy or render it again")
        digests.append(hashlib.sha256(image.tobytes()).digest())
        thumbnails.append(_thumbnail(image))
    for what, found in (("bits", depths), ("channels", channels)):
        if found[0] != found[1]:
            problems.append(
                f"{pair.lq}: {what} {found[0]}, but {found[1]} in its truth {pair.gt}; convert one"
            )
    if digests[0] == digests[1] and not clean:
        problems.append(
            f"{pair.lq}: the same picture as its truth {pair.gt}; find the degraded one"
        )
    return PairReport(pair, tuple(problems), shape, tuple(thumbnails), tuple(digests))


def _thumbnail(image: NDArray[Any]) -> NDArray[np.float32]:
    side = (THUMBNAIL, THUMBNAIL)
    grey = cv2.resize(image, side, interpolation=cv2.INTER_AREA).astype(np.float32).mean(axis=2)
    grey -= grey.mean()
    return np.asarray(grey / max(float(np.linalg.norm(grey)), 1e-6), np.float32)


def inspect_pairs(
    pairs: Sequence[Pair], workers: int, clean: Container[str] = ()
) -> Iterator[PairReport]:
    """:func:`inspect_pair` for every pair, in their order; ``clean`` are inputs' names."""
    with ThreadPoolExecutor(workers) as pool:  # decoding leaves Python's lock
        yield from pool.map(inspect_pair, pairs, [pair.lq.name in clean for pair in pairs])


def problems_across_pairs(seen: Sequence[PairReport], clean: Container[str] = ()) -> Iterator[str]:
    """What only shows when pairs are compared: duplicates, and pairs whose files are swapped.

    Args:
        seen: All pairs of the set.
        clean: Names of inputs that are their truths, and are meant to be. Several may be of one
            photograph.
    """
    whole = [one for one in seen if one.digests]
    # Truths may be equal: there are sets that keep a copy for each of its inputs.
    truths = {one.digests[1]: one.pair.gt for one in whole}
    inputs: dict[bytes, Path] = {}
    for one in whole:
        lq_path, digest = one.pair.lq, one.digests[0]
        same = inputs.setdefault(digest, lq_path)
        if same == lq_path and digest != one.digests[1]:
            same = truths.get(digest, lq_path)
        if same != lq_path and not (lq_path.name in clean and same.name in clean):
            yield f"{lq_path}: the same picture as {same}; remove its pair"
    if len(whole) < 2:
        return
    lq, gt = (np.stack([one.thumbnails[k].ravel() for one in whole]) for k in (0, 1))
    own = (lq * gt).sum(axis=1)
    for k in range(len(whole)):
        # Both must like the other's truth better: a dark or hazy input alone proves nothing.
        likes = lq[k] @ gt.T
        for other in np.argsort(-likes)[:5]:
            if other <= k or likes[other] <= own[k] + 0.1:
                continue
            if lq[other] @ gt[k] > own[other] + 0.1:
                yield (
                    f"{whole[k].pair.lq} and {whole[other].pair.lq}: each looks like the other's "
                    "truth; were they swapped?"
                )
