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
    """A box to work out, and the patch that it lies in.

    Attributes:
        box: Its place.
        patch: The patch's place; nothing is seen beyond it.
        number: Which patch of the grid it is, row by row from 0.
    """

    box: Box
    patch: Box
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
    """Cut each patch of a map into regions, so that none with its halo has more than ``area``.

    The cuts go through the whole map, and the regions come row by row.

    Args:
        size: Rows and columns of the map.
        grid: Its patches.
        halo: What is seen around a region, within its patch.
        area: Places of a region with its halo, unless that is less than is possible.
        align: Regions begin and end at multiples of this, as patches do.
    """
    h, w = size[0] // grid[0], size[1] // grid[1]
    rows = cols = 1

    def seen(length: int, parts: int) -> int:
        sides = min(parts - 1, 2)
        return -(-length // parts) + sides * halo

    while seen(h, rows) * seen(w, cols) > area:
        # The longer side, unless it is at its least, or more of it would be halo than gets cut off.
        if (h / rows >= w / cols or w // cols <= align) and h // rows > align:
            rows += 1
        elif w // cols > align:
            cols += 1
        else:
            break
        if max(h / rows, w / cols) < 2 * halo:
            break
    row_cuts = [r * h + cut for r in range(grid[0]) for cut in _cuts(h, rows, align)[:-1]]
    col_cuts = [c * w + cut for c in range(grid[1]) for cut in _cuts(w, cols, align)[:-1]]
    patches = patches_of(size, grid)
    found = []
    for top, bottom in pairwise([*row_cuts, size[0]]):
        for left, right in pairwise([*col_cuts, size[1]]):
            number = top // h * grid[1] + left // w
            found.append(Region(Box(top, bottom, left, right), patches[number], number))
    return found
