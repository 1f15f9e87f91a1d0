"""EXIF in TIFF, which libvips neither reads nor writes.

In the other formats EXIF is a block of bytes, itself a small TIFF; in TIFF its fields are among the
file's own. They go from one to the other here byte by byte, whatever they mean. Structure: TIFF
6.0, section 2, BigTIFF, and Exif 2.3, 4.6.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Container
from pathlib import Path
from typing import BinaryIO

from glsgn_plugins.io import tiff
from glsgn_plugins.io.tiff import Directory, Field, TiffLayout

MARK = b"Exif\0\0"
"""Before the block, as libvips has it."""

DIRECTORIES = {34665: "Exif", 34853: "GPS", 40965: "Interoperability"}
"""Fields that say where a directory of further ones is."""

CARRIED = frozenset(
    # Description, maker, model, software, date, artist, host, rating twice, copyright, and those of
    # Windows; what else is in the first directory says how the pixels are stored.
    (270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096), *DIRECTORIES)
)
"""Fields of the first directory that are EXIF's."""

SMALL = TiffLayout("<", False)
SHORT, LONG, LONG8 = 3, 4, 16
FRACTIONS = (5, 10)
"""Types whose values are two numbers."""

# Fields of EXIF by tag, their contents in little-endian order, and the directories among them.
Block = dict[int, "Field | Block"]


def of_tiff(path: Path) -> bytes | None:
    """A TIFF file's EXIF as a block, or ``None`` where it has none, or one that is damaged."""
    with path.open("rb") as file:
        found = _exif(file)
    if not found:
        return None
    start = MARK + b"II*\0" + SMALL.offset.pack(8)
    return start + _packed({}, found, 8, SMALL)


def into_tiff(path: Path, block: bytes) -> None:
    """Add the EXIF of a block to a TIFF file, beside the fields that it has.

    Args:
        path: A file that has just been written; a block that is damaged leaves it as it is.
        block: As libvips has it, or without its first six bytes.
    """
    found = _exif(io.BytesIO(block.removeprefix(MARK)))
    with path.open("r+b") as file:
        layout, at = tiff.start(file)
        first = tiff.directory(file, layout, at)
        added = {tag: entry for tag, entry in found.items() if tag not in first.fields}
        if not added:
            return
        # The first directory is written anew at the end; what it points to stays where it is.
        end = file.seek(0, os.SEEK_END)
        file.write(b"\0" * (end % 2))
        file.write(_packed(first.fields, added, end + end % 2, layout, first.following))
        file.seek(8 if layout.big else 4)
        file.write(layout.offset.pack(end + end % 2))


def turned_upright(block: bytes) -> bytes:
    """A block whose orientation, if it tells one, is the usual one.

    Args:
        block: As of :func:`into_tiff`, of pixels that a decoder has turned already.
    """
    content = block.removeprefix(MARK)
    try:
        first = next(tiff.directories(io.BytesIO(content)))
        field = first.field(tiff.ORIENTATION)
        if field is not None and field.kind == SHORT:
            at = len(block) - len(content) + first.value_at(tiff.ORIENTATION)
            return block[:at] + struct.pack(first.layout.order + "H", 1) + block[at + 2 :]
    except (ValueError, struct.error, StopIteration):
        pass
    return block


def _exif(file: BinaryIO) -> Block:
    try:
        layout, at = tiff.start(file)
        # What else is in the first directory may be the places of millions of pixels.
        return _read(tiff.directory(file, layout, at), CARRIED)
    except (ValueError, struct.error, OverflowError):
        return {}


def _read(directory: Directory, tags: Container[int], depth: int = 0) -> Block:
    """Fields of a directory, and of those that it names."""
    found: Block = {}
    for tag in directory.fields:
        field = directory.field(tag) if tag in tags else None
        if field is None:
            continue
        if tag not in DIRECTORIES:
            ordered = _ordered(field.content, field.kind, directory.layout.order)
            found[tag] = field._replace(content=ordered)
        elif depth < 2 and (place := directory.number(tag, 0)):
            named = tiff.directory(directory.file, directory.layout, place)
            found[tag] = _read(named, named.fields, depth + 1)
    return found


def _ordered(value: bytes, kind: int, order: str) -> bytes:
    """From or to little-endian order."""
    size = tiff.SIZES[kind] // (2 if kind in FRACTIONS else 1)
    if order == "<" or size == 1:
        return value
    return b"".join(value[k : k + size][::-1] for k in range(0, len(value), size))


def _packed(
    own: dict[int, bytes], added: Block, at: int, layout: TiffLayout, following: int = 0
) -> bytes:
    """A directory that begins at ``at``, and behind it what its added fields point to."""
    offset_bytes = layout.offset.size
    length = len(own) + len(added)
    behind_at = at + layout.length.size + length * layout.field.size + offset_bytes
    fields, behind = dict(own), b""
    for tag, entry in added.items():
        place = behind_at + len(behind)
        if isinstance(entry, Field):
            kind, values = entry.kind, entry.values
            content = _ordered(entry.content, kind, layout.order)
        else:
            kind, values = LONG8 if layout.big else LONG, 1
            content = _packed({}, entry, place, layout)
        inside = isinstance(entry, Field) and len(content) <= offset_bytes
        value = content if inside else layout.offset.pack(place)
        fields[tag] = layout.field.pack(tag, kind, values, value)
        if not inside:
            behind += content + b"\0" * (len(content) % 2)
    ordered = b"".join(fields[tag] for tag in sorted(fields))
    return layout.length.pack(length) + ordered + layout.offset.pack(following) + behind
