"""GLSGN strip by strip: what one forward gives, in the memory of some strips.

The network is followed by torch.fx through its own ``forward``, operation by operation. Strips of
the image go in at one end; each operation makes as many rows as the rows that have come to it
allow, and keeps of its own output what others have yet to see: two rows for a 3x3 convolution, some
dozens where a decoder comes back to a feature of the encoder. So nothing is computed twice, no map
of the whole image is ever held, and each value comes from the same numbers through the same layers
as in the whole forward. What an operation sees is read off the layers: a changed kernel changes it.

On a CPU that is the fast way as well: strips stay in the caches, and a forward that makes new maps
of a full image at each step spends half of its time in the kernel, which hands out and zeroes
pages.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.fx
from torch import Tensor

from glsgn_plugins.archs.glsgn import (
    GLSGN,
    check_image,
    padded_size,
)
from glsgn_plugins.inference.steps import ALIGN, Step, steps_of
from glsgn_plugins.inference.tiled import as_float, weights_dtype

Progress = Callable[[float], None]
"""Told from time to time which share of the work is done, up to 1."""


EXTRA = 8
"""What a strip costs beyond its rows, in rows: convolutions at coarse scales, where it is thin,
compute some twice, and each operation takes its time however few there are (measured: strips of 16,
64 and 128 rows of 4K)."""


class Layout(NamedTuple):
    """How an image goes through.

    Attributes:
        strip: Rows that go in at once.
        band: Columns of the bands that a wide image is cut into; they share ``halo`` on each side.
        halo: What an output place sees around it.
    """

    strip: int
    band: int
    halo: int

    def window(self, width: int) -> int:
        """Columns that go through with each band, of an image ``width`` wide: as many with all.

        What one band's maps leave free is then what the next one's take.
        """
        others = math.ceil(width / self.band) - 1
        return min(self.band + min(others, 2) * self.halo, width)


def layout(steps: Sequence[Step], width: int, memory: int, strip: int) -> Layout:
    """How an image of ``width`` columns takes ``memory`` bytes and least time.

    In strips of up to ``strip`` rows: thin strips and many bands both cost time. Where even the
    thinnest strips of the narrowest bands take more memory, these.
    """
    halo = math.ceil(steps[-1].lag / ALIGN) * ALIGN

    @functools.cache
    def bytes_of(strip: int) -> Fraction:
        """For each column."""
        kept = sum((step.footprint(strip) for step in steps if not step.passes), Fraction(0))
        # Beside what is kept, an operation's input, output and what it makes in between.
        passing = 4 * max(step.footprint(strip) for step in steps)
        return 4 * (kept + passing)

    strips = range(max(strip // ALIGN, 1) * ALIGN, 0, -ALIGN)
    found: dict[float, Layout] = {}
    for bands in range(1, max(width // (2 * halo), 1) + 1):
        band = math.ceil(width / bands / ALIGN) * ALIGN
        thinnest = Layout(ALIGN, band, halo if bands > 1 else 0)
        columns = thinnest.window(width)
        thickest = next((s for s in strips if bytes_of(s) * columns <= memory), 0)
        if thickest:
            cost = bands * columns * (1 + EXTRA / thickest)
            found.setdefault(cost, thinnest._replace(strip=thickest))
        if thickest == strips[0]:  # more bands only cost more
            break
    return found[min(found)] if found else thinnest


@torch.no_grad()
def restore_streamed(
    net: GLSGN,
    image: Tensor,
    *,
    memory: int,
    strip: int,
    device: torch.device,
    progress: Progress = lambda share: None,
) -> Tensor:
    """What ``net(image)`` gives, strip by strip.

    Args:
        net: In eval mode, on ``device``.
        image: ``(N, 3, H, W)``, RGB in [0, 1], or uint8, on any device; read strip by strip.
        memory: Bytes on ``device`` to make do with, beside the network: strips become thinner, and
            bands of a wide image are restored one after the other, which costs time.
        strip: Rows that go in at once, at the most.
        device: Where to compute.
        progress: See :data:`Progress`.

    Returns:
        The restored images, ``(N, 3, H, W)``, float32, on the device of ``image``.

    Raises:
        InputError: The shape is another, or the network isn't GLSGN's own.
    """
    height, width = check_image(image)
    rows, cols = padded_size((height, width), (ALIGN, ALIGN))
    steps = steps_of(net)
    found = layout(steps, cols, memory, strip)
    dtype = weights_dtype(net)
    output = torch.empty(
        image.shape,
        dtype=torch.float32,
        device=image.device,
        memory_format=torch.channels_last,
    )  # as strips come, and as arrays and files want it
    starts = range(0, width, found.band)
    window = found.window(cols)
    for k in range(len(image)):
        for number, left in enumerate(starts):
            right = min(left + found.band, width)
            first = min(max(left - found.halo, 0), cols - window)
            last = first + window
            written = 0
            one, columns = image[k : k + 1], (first, last)
            for part in _strips(steps, one, columns, rows, found.strip, device, dtype):
                part = part[:, :, : height - written, left - first : right - first]
                output[k : k + 1, :, written : written + part.shape[2], left:right] = part
                written += part.shape[2]
                share = (number + written / height) / len(starts)
                progress((k + share) / len(image))
    return output


def _strips(
    steps: Sequence[Step],
    image: Tensor,
    columns: tuple[int, int],
    rows: int,
    strip: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Tensor]:
    """Restored strips of some columns of an image, from the top; ``rows`` of them in all."""
    source, restored = steps[0], steps[-1]
    for step in steps:
        step.begin(rows)
    seen = 0
    while restored.made < rows:
        if seen < rows:
            part = _part(_part(image, 2, seen, min(seen + strip, rows)), 3, *columns)
            part = as_float(part.to(device)).to(dtype)
            source.add(part.contiguous(memory_format=torch.channels_last))
        seen += strip
        first = restored.made
        for step in steps[1:]:
            step.advance(seen)
        if restored.made > first:
            yield restored.read(first, restored.made)
            restored.first = restored.made


def _part(image: Tensor, dim: int, first: int, last: int) -> Tensor:
    """Rows or columns, beyond whose end lie those just before it, as the network pads it."""
    length = image.shape[dim]
    if last <= length:
        return image.narrow(dim, first, last - first)
    index = torch.arange(first, last, device=image.device)
    return image.index_select(dim, torch.where(index < length, index, 2 * (length - 1) - index))
