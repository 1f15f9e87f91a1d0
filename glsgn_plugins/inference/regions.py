"""Where streamed inference works: boxes of pixels, grown by what a network sees around them."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from glsgn_plugins.patches import Grid


class Box(NamedTuple):
    """Rows and columns of a map, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def grown(self, halo: int, within: Box) -> Box:
        """With ``halo`` more on every side, but not beyond another box."""
        return Box(
            max(self.top - halo, within.top),
            min(self.bottom + halo, within.bottom),
            max(self.left - halo, within.left),
            min(self.right + halo, within.right),
        )

    def cut(self, other: Box) -> Box:
        """What both have in common; empty ones have no positive size."""
        return other.grown(0, within=self)

    def down(self, factor: int) -> Box:
        """The same place on a map that is ``factor`` times smaller."""
        return Box(*(edge // factor for edge in self))

    def up(self, factor: int) -> Box:
        """The same place on a map that is ``factor`` times larger."""
        return Box(*(edge * factor for edge in self))

    def of(self, x: Tensor, window: Box) -> Tensor:
        """This box out of a map ``(N, C, h, w)`` that covers ``window``."""
        return x[
            :,
            :,
            self.top - window.top : self.bottom - window.top,
            self.left - window.left : self.right - window.left,
        ]


class Region(NamedTuple):
    """A box to work out.

    Attributes:
        box: Its place.
        window: What is looked at for it: at least what its halo takes in of its patch.
        number: Which patch of the grid it lies in, row by row from 0.
    """

    box: Box
    window: Box
    number: int


def patches_of(size: tuple[int, int], grid: Grid) -> list[Box]:
    """The patches that :func:`~glsgn_plugins.patches.split_patches` cuts, in its order."""
    h, w = size[0] // grid[0], size[1] // grid[1]
    return [
        Box(r * h, (r + 1) * h, c * w, (c + 1) * w) for r in range(grid[0]) for c in range(grid[1])
    ]


def _cuts(length: int, parts: int, align: int) -> list[int]:
    """``parts`` about equal parts of whole ``align``, as their ends."""
    return [length // align * k // parts * align for k in range(parts)] + [length]


def regions(size: tuple[int, int], grid: Grid, *, halo: int, area: int, align: int) -> list[Region]:
    """Cut each patch of a map into regions, so that no window has more than ``area``.

    The cuts go through the whole map, and the regions come row by row. All windows are of one size:
    on CPUs each shape of a convolution costs time to set up, and memory from then on.

    Args:
        size: Rows and columns of the map.
        grid: Its patches.
        halo: What is seen around a region, within its patch.
        area: Places of a window, unless that is less than is possible.
        align: Regions begin and end at multiples of this, as patches do.
    """
    h, w = size[0] // grid[0], size[1] // grid[1]
    rows = cols = 1

    def seen(length: int, parts: int) -> int:
        longest = -(-(length // align) // parts) * align
        return longest + min(parts - 1, 2) * halo

    while seen(h, rows) * seen(w, cols) > area:
        # The longer side, unless it is at its least, or more would be halo than gets cut off.
        if (h / rows >= w / cols or w // cols <= align) and h // rows > align:
            rows += 1
        elif w // cols > align:
            cols += 1
        else:
            break
        if max(h / rows, w / cols) < 2 * halo:
            break
    across = _spans(w, grid[1], cols, align, halo, seen(w, cols))
    return [
        Region(Box(top, bottom, left, right), Box(*see_rows, *see_cols), i * grid[1] + j)
        for i, top, bottom, see_rows in _spans(h, grid[0], rows, align, halo, seen(h, rows))
        for j, left, right, see_cols in across
    ]


def _spans(
    length: int, patches: int, parts: int, align: int, halo: int, seen: int
) -> list[tuple[int, int, int, tuple[int, int]]]:
    """Along one side: the patch, where a part begins and ends, and where its window does."""
    found = []
    for patch in range(patches):
        first = patch * length
        for start, stop in pairwise(_cuts(length, parts, align)):
            see = min(max(start - halo, 0), length - min(seen, length))
            window = first + see, first + see + min(seen, length)
            found.append((patch, first + start, first + stop, window))
    return found
