"""What options of GLSGN may be; messages name the option, and say what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from glsgn_plugins.archs.patches import WHOLE, Grid
from glsgn_plugins.errors import InputError, is_whole


def check_counts(name: str, values: Sequence[int], length: int) -> None:
    """Positive whole numbers, ``length`` of them."""
    if (
        not isinstance(values, Sequence)
        or len(values) != length
        or not all(is_whole(v) and v > 0 for v in values)
    ):
        raise InputError(f"GLSGN {name}: expected {length} positive whole numbers, got {values!r}")


def check_side(name: str, pixels: object, smallest: int) -> None:
    """Pixels of a copy's longer side, ``smallest`` or more, or ``None``."""
    if pixels is not None and (not is_whole(pixels) or pixels < smallest):
        raise InputError(
            f"GLSGN {name}: expected a number of pixels, {smallest} or more, or None for images "
            f"as they are; got {pixels!r}"
        )


def check_one_copy(long_side: int | None, coarse_side: int | None) -> None:
    """At most one of both kinds of copies."""
    if long_side and coarse_side:
        raise InputError(
            f"GLSGN coarse_side: {coarse_side}, but with long_side {long_side} a copy stands for "
            "the image already; set one of both to None"
        )


def check_grids(grids: Sequence[Sequence[int]] | None) -> tuple[Grid, ...]:
    """Three grids, each divided by the next; none are three of one patch."""
    if grids is None:
        return (WHOLE,) * 3
    if not isinstance(grids, Sequence) or len(grids) != 3:
        raise InputError(f"GLSGN grids: expected three pairs (rows, columns), got {grids!r}")
    for i, grid in enumerate(grids, 1):
        check_counts(f"grids, pathway {i}", grid, 2)
    pairs: list[Grid] = [(grid[0], grid[1]) for grid in grids]
    for i, (fine, coarse) in enumerate(pairwise(pairs), 1):
        if fine[0] % coarse[0] or fine[1] % coarse[1]:
            raise InputError(
                f"GLSGN grids: the patches of pathway {i}, {list(fine)}, can't be joined to those "
                f"of pathway {i + 1}, {list(coarse)}; each side must be a multiple of the next"
            )
    return tuple(pairs)
