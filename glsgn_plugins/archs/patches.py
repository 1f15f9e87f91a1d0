"""Cutting maps into patches and joining patches again, without loss.

Patches of one image lie one after the other in the batch dimension, row by row:
``(N, C, H, W)`` on a grid of ``(rows, cols)`` becomes ``(N * rows * cols, C, H / rows, W / cols)``.
Both functions keep the memory format, and return a view where the strides allow one.
"""

from __future__ import annotations

import torch
from torch import Tensor

Grid = tuple[int, int]
"""Rows and columns of patches."""

WHOLE: Grid = (1, 1)
"""No cuts."""


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def split_patches(x: Tensor, grid: Grid) -> Tensor:
    """Cut maps into a grid of patches (paper, Fig. framework: I1 to I3).

    Args:
        x: ``(N, C, H, W)``; H and W are multiples of the grid.
        grid: ``(rows, cols)``.

    Returns:
        ``(N * rows * cols, C, H / rows, W / cols)``.

    Raises:
        ValueError: H or W is not a multiple of the grid.
    """
    rows, cols = grid
    if grid == WHOLE:
        return x
    n, c, height, width = x.shape
    if height % rows or width % cols:
        raise ValueError(f"a map of {height}x{width} can't be cut into {rows}x{cols} equal patches")
    h, w = height // rows, width // cols
    if _channels_last(x):
        y = x.permute(0, 2, 3, 1).reshape(n, rows, h, cols, w, c).permute(0, 1, 3, 2, 4, 5)
        return y.reshape(n * rows * cols, h, w, c).permute(0, 3, 1, 2)
    y = x.reshape(n, c, rows, h, cols, w).permute(0, 2, 4, 1, 3, 5)
    return y.reshape(n * rows * cols, c, h, w)


def merge_patches(x: Tensor, grid: Grid, merged: Grid = WHOLE) -> Tensor:
    """Join neighbouring patches in space (paper, Fig. framework: "Cat").

    Args:
        x: ``(N * rows * cols, C, h, w)``, patches on ``grid``.
        grid: ``(rows, cols)`` of ``x``.
        merged: The coarser grid to join to. ``(1, 1)`` gives whole maps, and is then the exact
            inverse of :func:`split_patches`.

    Returns:
        Patches on ``merged``, ``(N * merged_rows * merged_cols, C, ...)``; each covers the region
        that a patch of :func:`split_patches` with that grid covers.

    Raises:
        ValueError: ``merged`` doesn't divide ``grid``.
    """
    if grid == merged:
        return x
    rows, cols = merged
    if grid[0] % rows or grid[1] % cols:
        raise ValueError(f"patches on a {grid} grid can't be joined to a {merged} grid")
    r, k = grid[0] // rows, grid[1] // cols  # rows and columns of patches that one joins
    b, c, h, w = x.shape
    n = b // (r * k)  # images times merged patches
    m = n // (rows * cols)
    if _channels_last(x):
        y = x.permute(0, 2, 3, 1).reshape(m, rows, r, cols, k, h, w, c)
        y = y.permute(0, 1, 3, 2, 5, 4, 6, 7)
        return y.reshape(n, r * h, k * w, c).permute(0, 3, 1, 2)
    y = x.reshape(m, rows, r, cols, k, c, h, w).permute(0, 1, 3, 5, 2, 6, 4, 7)
    return y.reshape(n, c, r * h, k * w)
