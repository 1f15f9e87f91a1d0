"""OpenEXR: what its header says, and its pixels by the OpenEXR package.

Such files hold light, in floating point, and no colours as they are shown. Structure: "OpenEXR File
Layout" of the OpenEXR project.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.damage import CutShort
from glsgn_plugins.io.headers import Header
from glsgn_plugins.io.profiles import SRGB, Primaries

RGB = ("R", "G", "B")
TILED, DEEP, PARTS = 0x200, 0x800, 0x1000
LONGEST = 2**24
"""Bytes of a header, beyond which it is taken for damaged."""

MISSING = "isn't read without the OpenEXR package: pip install 'glsgn-plugins[exr]'"


def header_of(file: BinaryIO, size: int) -> Header:
    """What a file says of its picture.

    Raises:
        CutShort: The file ends before its pixels do.
        ValueError: It is damaged, or holds something else than one picture in R, G and B.
    """
    file.seek(4)
    flags = int.from_bytes(file.read(4), "little")
    if flags & (DEEP | PARTS):
        raise ValueError("OpenEXR with several parts or deep pixels; write one flat picture")
    found, start = _attributes(file, size)
    left, top, right, bottom = struct.unpack("<4i", found[b"dataWindow"][:16])
    names = _channels(found[b"channels"])
    if not set(RGB) <= names.keys():
        raise ValueError(f"OpenEXR with channels {', '.join(names)}; expected R, G and B")
    if any(names[name] != (1, 1) for name in RGB):
        raise ValueError("OpenEXR whose channels have fewer pixels than the picture")
    _check_chunks(file, size, start, 20 if flags & TILED else 8)
    return Header("OpenEXR", bottom - top + 1, right - left + 1, "RGB", 16, floating=True)


def read_exr(path: Path) -> tuple[np.ndarray, Primaries, Any]:
    """Light, in floating point.

    Returns:
        ``(H, W, 3)``, float32, 0 for none and 1 for white, with no upper end; the primaries that it
        is of; and the file as the package has it, for :func:`write_exr`.

    Raises:
        InputError: The package isn't there, the file is damaged, or partly transparent.
    """
    try:
        import OpenEXR
    except ImportError:
        raise InputError(f"{path}: OpenEXR {MISSING}") from None
    try:
        file = OpenEXR.File(str(path), separate_channels=True)
        channels = file.channels()
        pixels = [channels[name].pixels for name in RGB]
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged or no OpenEXR ({error}); copy it again") from None
    if any(one is None for one in pixels):  # the package has told the standard error why
        raise InputError(f"{path}: damaged, its pixels can't be read; copy it again")
    opaque = channels.get("A")
    if opaque is not None and (opaque.pixels is None or (opaque.pixels != 1).any()):
        raise InputError(
            f"{path}: colours that are multiplied by their transparency; put it on a background"
        )
    light = np.stack([one.astype(np.float32) for one in pixels], axis=-1)
    return light, _primaries(file.header()), file


def write_exr(path: Path, file: Any, light: np.ndarray) -> None:
    """Write a file as it was read, with other light in R, G and B.

    Args:
        path: A new file.
        file: What :func:`read_exr` gave.
        light: ``(H, W, 3)``.

    Raises:
        InputError: It can't be written.
    """
    channels = file.channels()
    for k, name in enumerate(RGB):
        kind = channels[name].pixels.dtype
        values = light[..., k]
        if kind != np.float32:
            top = np.finfo(kind).max if kind == np.float16 else np.iinfo(kind).max
            # Infinite light stays infinite.
            values = np.where(np.isinf(values), values, values.clip(-float(top), float(top)))
        channels[name].pixels = np.ascontiguousarray(values.astype(kind))
    try:
        file.write(str(path))
    except RuntimeError as error:
        raise InputError(f"{path}: can't be written ({error})") from None


def _attributes(file: BinaryIO, size: int) -> tuple[dict[bytes, bytes], int]:
    """By name, and where the table of chunks begins."""
    file.seek(8)
    content = file.read(min(size - 8, LONGEST))
    found: dict[bytes, bytes] = {}
    at = 0
    while content[at : at + 1] != b"\0":
        name, kind, rest = (*content[at : at + 600].split(b"\0", 2), b"", b"")[:3]
        at += len(name) + len(kind) + 2
        if not kind or len(rest) < 4 or at + 4 > len(content):
            raise CutShort
        length = int.from_bytes(content[at : at + 4], "little")
        if at + 4 + length > len(content):
            raise CutShort
        found[name] = content[at + 4 : at + 4 + length]
        at += 4 + length
    missing = {b"dataWindow", b"channels"} - found.keys()
    if missing:
        raise ValueError("an OpenEXR that doesn't tell its size or channels")
    return found, 8 + at + 1


def _channels(content: bytes) -> dict[str, tuple[int, int]]:
    """Steps across and down, by name."""
    found, at = {}, 0
    while content[at : at + 1] not in (b"\0", b""):
        name = content[at:].split(b"\0", 1)[0]
        at += len(name) + 1
        across, down = struct.unpack("<ii", content[at + 8 : at + 16])
        found[name.decode("utf-8", "replace")] = (across, down)
        at += 16
    return found


def _check_chunks(file: BinaryIO, size: int, start: int, head: int) -> None:
    """CutShort where one of them isn't there: the package goes on without."""
    file.seek(start)
    first = int.from_bytes(file.read(8), "little")
    count = (first - start) // 8
    if not 0 < count < 2**24 or first > size:
        raise CutShort
    file.seek(start)
    places = struct.unpack(f"<{count}Q", file.read(8 * count))
    if min(places) < start or max(places) + head > size:
        raise CutShort
    file.seek(max(places) + head - 4)
    if max(places) + head + int.from_bytes(file.read(4), "little") > size:
        raise CutShort


def _primaries(header: dict[str, Any]) -> Primaries:
    told = header.get("chromaticities")
    if told is None:
        return SRGB
    x = [float(value) for value in np.ravel(told)]
    if len(x) != 8 or min(x[1::2]) <= 0:
        return SRGB
    red, green, blue, white = zip(x[::2], x[1::2])
    return Primaries(white, red, green, blue)
