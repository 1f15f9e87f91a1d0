"""Pictures with a profile: to sRGB, which networks know, and back into their own colours.

By libvips, which has LittleCMS in it. sRGB holds less than most other spaces do, so what it can't
hold isn't given to the network, and is kept: the picture gets back the *difference* that the
network has made, in its own space.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch import nn

from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.arrays import restore_array
from glsgn_plugins.io import profiles
from glsgn_plugins.io.libvips import reason_of, vips
from glsgn_plugins.io.photographs import Photograph, image_of
from glsgn_plugins.io.png import is_srgb

ROWS = 256
"""Rows that are converted at once."""

NEAR = 1.0
"""Of 255: a profile by which no colour moves by more is sRGB's, of which there are many."""

INTENT = "relative"
"""White stays white, and what both spaces hold stays as it is."""


@dataclass(frozen=True)
class Colours:
    """A colour space other than sRGB.

    Attributes:
        profile: As ICC has it.
        grey: It has one channel.
    """

    profile: bytes
    grey: bool

    def to_srgb(self, pixels: np.ndarray) -> np.ndarray:
        """What the network is to see.

        Args:
            pixels: ``(H, W, 3)``, uint8 or uint16; of grey, three times the same.

        Returns:
            ``(H, W, 3)``, sRGB, uint16; colours beyond it are clipped.
        """
        shown = np.empty(pixels.shape, np.uint16)
        for rows in _strips(len(pixels)):
            shown[rows] = _imported(self, pixels[rows])
        return shown

    def back(self, pixels: np.ndarray, shown: np.ndarray, restored: np.ndarray) -> np.ndarray:
        """``pixels``, changed as the network has changed them in sRGB.

        Args:
            pixels: ``(H, W, 3)``, uint8 or uint16.
            shown: What :meth:`to_srgb` has made of them.
            restored: What the network has made of that, uint16.

        Returns:
            Of the shape and type of ``pixels``; where ``restored`` is ``shown``, these very ones.
        """
        result = np.empty_like(pixels)
        top = np.iinfo(pixels.dtype).max
        for rows in _strips(len(pixels)):
            after, before = (_exported(self, x[rows]) for x in (restored, shown))
            change = (after.astype(np.float32) - before) * np.float32(top / 65535)
            result[rows] = np.rint((pixels[rows] + change).clip(0, top))
        return result


@dataclass(frozen=True)
class Light:
    """Light in floating point, as OpenEXR holds it: 1 is white, and there may be more.

    Attributes:
        primaries: Of its red, green and blue.
    """

    primaries: profiles.Primaries

    def to_srgb(self, pixels: np.ndarray) -> np.ndarray:
        """What the network is to see.

        Args:
            pixels: ``(H, W, 3)``, floating point; what is no number is taken for none.

        Returns:
            ``(H, W, 3)``, sRGB, uint16; light beyond 1 and colours beyond sRGB are clipped.
        """
        shown = np.empty(pixels.shape, np.uint16)
        matrix = self._matrix()
        for rows in _strips(len(pixels)):
            light = np.nan_to_num(pixels[rows], nan=0, posinf=1, neginf=0) @ matrix.T
            shown[rows] = np.rint(65535 * profiles.srgb_of(light.clip(0, 1)))
        return shown

    def back(self, pixels: np.ndarray, shown: np.ndarray, restored: np.ndarray) -> np.ndarray:
        """``pixels``, changed as the network has changed them in sRGB; as of :class:`Colours`."""
        result = np.empty_like(pixels)
        matrix = np.linalg.inv(self._matrix())
        for rows in _strips(len(pixels)):
            after, before = (profiles.light_of(x[rows] / 65535) for x in (restored, shown))
            # Where nothing was changed, the very numbers, infinite ones and NaN as well.
            changed = (restored[rows] != shown[rows]).any(-1, keepdims=True)
            light = pixels[rows] + (after - before) @ matrix.T
            result[rows] = np.where(changed & np.isfinite(pixels[rows]), light, pixels[rows])
        return result

    def _matrix(self) -> np.ndarray:
        if self.primaries == profiles.SRGB:
            return np.eye(3)
        to_xyz = profiles.xyz_matrix(self.primaries)
        return np.linalg.solve(profiles.xyz_matrix(profiles.SRGB), to_xyz)


def colours_of(photograph: Photograph, source: object) -> Colours | Light | None:
    """The space of a picture's colours; ``None`` for sRGB, and where it doesn't tell.

    PNG's cICP goes before its profile, and that before gAMA and cHRM, as its specification says.

    Raises:
        InputError: Its profile is damaged, or of another kind of picture.
    """
    if photograph.light is not None:
        return Light(photograph.light)
    header, told = photograph.header, photograph.about.colour
    there = header.get_typeof("icc-profile-data")
    if b"cICP" not in told and there:
        profile = bytes(header.get("icc-profile-data"))
    elif not is_srgb(told):
        profile = profiles.of_png(told) or b""
    else:
        profile = b""
    if b"iCCP" in told and not there:
        raise profiles.damaged(source, "libpng refuses it")
    if not profile:
        return None
    space = profiles.space_of(profile, source)
    # Grey pictures that once were in colours may still have the profile of those.
    if space not in ("RGB", "GRAY") or (space == "GRAY" and not photograph.grey):
        kind = "grey" if photograph.grey else "RGB"
        raise InputError(
            f"{source}: its ICC profile is of {space}, but the picture is {kind}; put the right "
            "one in, or take it out (exiftool -icc_profile= FILE) if the picture is sRGB"
        )
    try:
        return _checked(profile, space == "GRAY")
    except vips().Error as error:
        raise profiles.damaged(source, reason_of(error)) from None


def restore_photograph(
    net: nn.Module,
    photograph: Photograph,
    colours: Colours | Light | None,
    tile: str | int = "auto",
    **options: Any,
) -> np.ndarray:
    """Restore what :func:`~glsgn_plugins.io.photographs.read` gave.

    Args:
        net: As of :func:`glsgn_plugins.restore`.
        photograph: Its pixels aren't changed.
        colours: What :func:`colours_of` says of it. The network
            sees sRGB, and what it changes there is changed here; what sRGB can't hold is kept.
        tile: As of :func:`glsgn_plugins.restore`, and so are ``options``.

    Returns:
        Of the shape and type of ``photograph.pixels``, in the same colours.

    Raises:
        InputError: As of :func:`restore_array`.
    """
    if colours is None:
        return restore_array(net, photograph.pixels, tile, **options)
    shown = colours.to_srgb(photograph.pixels)
    restored = restore_array(net, shown, tile, **options)
    return colours.back(photograph.pixels, shown, restored)


@lru_cache(maxsize=16)
def _checked(profile: bytes, grey: bool) -> Colours | None:
    """``None`` for sRGB by another name."""
    colours = Colours(profile, grey)
    steps = np.linspace(0, 255, 256 if grey else 17)
    lattice = [steps[None]] * 3 if grey else np.meshgrid(*[steps] * 3, indexing="ij")
    values = np.rint(np.stack(lattice, -1).reshape(-1, 17 if not grey else 16, 3)).astype(np.uint8)
    # Export first: where a profile is damaged, import takes sRGB for it without a word.
    _exported(colours, values.astype(np.uint16) * 257)
    moved = np.abs(_imported(colours, values) / 257 - values).max()
    return None if moved <= NEAR else colours


def _strips(height: int) -> Iterator[slice]:
    return (slice(top, top + ROWS) for top in range(0, height, ROWS))


def _with(image: Any, profile: bytes) -> Any:
    image = image.copy()
    image.set_type(vips().GValue.blob_type, "icc-profile-data", profile)
    return image


def _imported(colours: Colours, pixels: np.ndarray) -> np.ndarray:
    own = image_of(pixels[..., :1] if colours.grey else pixels, colours.grey)
    lab = _with(own, colours.profile).icc_import(embedded=True, intent=INTENT)
    return _three(lab.icc_export(output_profile="srgb", depth=16, intent=INTENT).numpy())


def _exported(colours: Colours, srgb: np.ndarray) -> np.ndarray:
    lab = image_of(srgb).icc_import(input_profile="srgb", intent=INTENT)
    return _three(_with(lab, colours.profile).icc_export(depth=16, intent=INTENT).numpy())


def _three(data: np.ndarray) -> np.ndarray:
    data = data.reshape(*data.shape[:2], -1)
    return data if data.shape[2] == 3 else data[..., :1].repeat(3, axis=2)
