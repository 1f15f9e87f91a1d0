"""``restore_file``: one photograph on disk, with all that its file holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.colour import Colours, Light, colours_of, restore_photograph
from glsgn_plugins.inference.strength import check_region, region_mask
from glsgn_plugins.io import formats, photographs
from glsgn_plugins.io.atomic import atomic_write
from glsgn_plugins.io.photographs import Photograph

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoredFile:
    """A photograph before and after.

    Attributes:
        photograph: As it was read.
        restored: Its pixels after, of the same shape, type and colours.
        colours: Those colours; ``None`` for sRGB.
    """

    photograph: Photograph
    restored: np.ndarray
    colours: Colours | Light | None

    def shown(self) -> tuple[np.ndarray, np.ndarray]:
        """Both as a screen shows them: ``(H, W, 3)``, sRGB, uint8 or uint16."""
        both = self.photograph.pixels, self.restored
        if self.colours is None:
            return both
        before, after = (self.colours.to_srgb(pixels) for pixels in both)
        return before, after


def restore_file(
    net: nn.Module,
    source: Path | str,
    target: Path | str,
    tile: str | int = "auto",
    *,
    strength: float = 1.0,
    mask: np.ndarray | Path | str | None = None,
    region: Sequence[int] | None = None,
    say: Callable[[str], object] = LOGGER.info,
    **options: Any,
) -> RestoredFile:
    """Restore an image file into another, as ``glsgn restore`` does.

    16 bits, ICC profile, EXIF, transparency and the rest are kept as far as the target's format
    holds them, and pictures in other colours than sRGB are restored in sRGB and keep theirs.

    Args:
        net: As of :func:`glsgn_plugins.restore`.
        source: Of any format that libvips or one of the package's extras reads.
        target: Its end says the format. What is there is written over, but never ``source`` itself;
            the file appears whole or not at all, and its folder is made where it isn't there.
        tile: As of :func:`glsgn_plugins.restore`, and so are ``strength`` and ``options``.
        mask: ``(H, W)``, floating point in [0, 1] or bool, or a grey image's file, white where it
            is 1: where the change is wanted.
        region: Left column, top row, width and height of a rectangle outside of which nothing
            changes.
        say: Told what is left out of the target, and what :func:`glsgn_plugins.restore` says.

    Returns:
        The photograph, its pixels before and after.

    Raises:
        InputError: A file can't be read or written, the target's format can't hold the picture, or
            as of :func:`glsgn_plugins.restore_array`.
    """
    source, target = Path(source), Path(target)
    if region is not None:
        check_region(region)
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target}: would be written over itself; give another name")
    formats.check_written(target)
    if isinstance(mask, (str, Path)):
        mask = photographs.read_mask(Path(mask))
    photograph = photographs.read(source)
    colours = colours_of(photograph, source)
    left_out = photographs.check_target(target, photograph)
    # JPEG, encoded anew, would differ from what is to stay as it is.
    copied = strength == 0 and formats.same_format(source, target)
    if left_out and not copied:
        say(f"{target}: leaves out {', '.join(left_out)}")
    try:
        restored = restore_photograph(
            net,
            photograph,
            colours,
            tile,
            strength=strength,
            mask=_inside(mask, region, photograph.pixels.shape[:2]),
            say=say,
            **options,
        )
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    if copied:
        atomic_write(target, source.read_bytes())
    else:
        photographs.write(target, photograph, restored)
    return RestoredFile(photograph, restored, colours)


def _inside(
    mask: np.ndarray | None, region: Sequence[int] | None, size: tuple[int, ...]
) -> np.ndarray | None:
    """Where an image is to change: in the mask, and in the region."""
    if region is None:
        return mask
    inside = region_mask(region, size).numpy()
    if mask is None:
        return inside
    return mask * inside if mask.shape == size else mask  # which is refused
