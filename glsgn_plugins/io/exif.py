"""EXIF in TIFF, which libvips neither reads nor writes.

In the other formats EXIF is a block of bytes, itself a small TIFF; in TIFF its fields are among the
file's own. They go from one to the other here byte by byte, whatever they mean. Structure: TIFF
6.0, section 2, BigTIFF, and Exif 2.3, 4.6.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

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

# Bytes of a value by its type, and of the numbers that it is made of.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF
NUMBERS = {**SIZES, 5: 4, 10: 4}
SHORT, LONG, LONG8 = 3, 4, 16
ORIENTATION = 274


class Entry(NamedTuple):
    """A field: its type, how many values, and these in little-endian order."""

    kind: int
    values: int
    content: bytes


Directory = dict[int, "Entry | Directory"]


class TiffLayout(NamedTuple):
    """How a file writes numbers."""

    order: str
    big: bool

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    @property
    def length(self) -> struct.Struct:
        """Of a directory: the number of its fields."""
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def field(self) -> struct.Struct:
        """Tag, type, count, and the value or where it is."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))


SMALL = TiffLayout("<", False)


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
        layout, first = _start(file)
        own, following = _fields(file, layout, first)
        added = {tag: entry for tag, entry in found.items() if tag not in own}
        if not added:
            return
        # The first directory is written anew at the end; what it points to stays where it is.
        end = file.seek(0, os.SEEK_END)
        file.write(b"\0" * (end % 2))
        file.write(_packed(own, added, end + end % 2, layout, following))
        file.seek(8 if layout.big else 4)
        file.write(layout.offset.pack(end + end % 2))


def turned_upright(block: bytes) -> bytes:
    """A block whose orientation, if it tells one, is the usual one.

    Args:
        block: As of :func:`into_tiff`, of pixels that a decoder has turned already.
    """
    content = block.removeprefix(MARK)
    start = len(block) - len(content)
    try:
        layout, first = _start(io.BytesIO(content))
        (length,) = layout.length.unpack(_read(io.BytesIO(content), first, layout.length.size))
        for k in range(length):
            at = first + layout.length.size + k * layout.field.size
            tag, kind = struct.unpack(layout.order + "HH", content[at : at + 4])
            if (tag, kind) == (ORIENTATION, SHORT):
                at += start + layout.field.size - (8 if layout.big else 4)
                return block[:at] + struct.pack(layout.order + "H", 1) + block[at + 2 :]
    except (ValueError, struct.error):
        pass
    return block


def _exif(file: BinaryIO) -> Directory:
    try:
        layout, first = _start(file)
        return {t: e for t, e in _directory(file, layout, first).items() if t in CARRIED}
    except (ValueError, struct.error, OverflowError):
        return {}


def _start(file: BinaryIO) -> tuple[TiffLayout, int]:
    """How the numbers are written, and where the first directory is."""
    head = _read(file, 0, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise ValueError("no TIFF")
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    layout = TiffLayout(order, big)
    at = layout.offset.unpack(_read(file, 8, 8) if big else head[4:])
    return layout, int(at[0])


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    # A count may be anything, up to more memory than there is.
    if at + size > file.seek(0, os.SEEK_END):
        raise ValueError("cut short")
    file.seek(at)
    found = file.read(size)
    if len(found) < size:
        raise ValueError("cut short")
    return found


def _fields(file: BinaryIO, layout: TiffLayout, at: int) -> tuple[dict[int, bytes], int]:
    """A directory's fields as they are in the file, by tag, and where the next directory is."""
    (length,) = layout.length.unpack(_read(file, at, layout.length.size))
    size = layout.field.size
    at += layout.length.size
    if length > 2**16:
        raise ValueError("no directory")
    content = _read(file, at, length * size)
    fields = [content[k : k + size] for k in range(0, length * size, size)]
    following = layout.offset.unpack(_read(file, at + length * size, layout.offset.size))[0]
    return {struct.unpack(layout.order + "H", f[:2])[0]: f for f in fields}, following


def _directory(file: BinaryIO, layout: TiffLayout, at: int, depth: int = 0) -> Directory:
    """A directory with those that it names; fields of a type that isn't known are left out."""
    found: Directory = {}
    for tag, field in _fields(file, layout, at)[0].items():
        if not depth and tag not in CARRIED:  # the pixels' places may be millions
            continue
        _, kind, count, value = layout.field.unpack(field)
        size = count * SIZES.get(kind, 0)
        if not size:
            continue
        if size > len(value):
            value = _read(file, layout.offset.unpack(value)[0], size)
        value = _ordered(value[:size], kind, layout.order)
        if tag not in DIRECTORIES:
            found[tag] = Entry(kind, count, value)
        elif depth < 2:
            found[tag] = _directory(file, layout, int.from_bytes(value, "little"), depth + 1)
    return found


def _ordered(value: bytes, kind: int, order: str) -> bytes:
    """From or to little-endian order."""
    size = NUMBERS[kind]
    if order == "<" or size == 1:
        return value
    return b"".join(value[k : k + size][::-1] for k in range(0, len(value), size))


def _packed(
    own: dict[int, bytes], added: Directory, at: int, layout: TiffLayout, following: int = 0
) -> bytes:
    """A directory that begins at ``at``, and behind it what its added fields point to."""
    offset_bytes = layout.offset.size
    length = len(own) + len(added)
    behind_at = at + layout.length.size + length * layout.field.size + offset_bytes
    fields, behind = dict(own), b""
    for tag, entry in added.items():
        place = behind_at + len(behind)
        if isinstance(entry, Entry):
            kind, values = entry.kind, entry.values
            content = _ordered(entry.content, kind, layout.order)
        else:
            kind, values = LONG8 if layout.big else LONG, 1
            content = _packed({}, entry, place, layout)
        inside = isinstance(entry, Entry) and len(content) <= offset_bytes
        value = content if inside else layout.offset.pack(place)
        fields[tag] = layout.field.pack(tag, kind, values, value)
        if not inside:
            behind += content + b"\0" * (len(content) % 2)
    ordered = b"".join(fields[tag] for tag in sorted(fields))
    return layout.length.pack(length) + ordered + layout.offset.pack(following) + behind
