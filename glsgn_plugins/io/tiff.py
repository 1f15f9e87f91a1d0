"""The directories of a TIFF or an EXIF block: where fields are, and what they hold.

Structure: TIFF 6.0, section 2, and BigTIFF.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from glsgn_plugins.io.damage import CutShort

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value by its type."""
SIZES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF

NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q", 13: "I", 18: "Q"}
"""TIFF's types of whole numbers from 0 up."""

ORIENTATION = 274
MOST_FIELDS = 2**16
MOST_DIRECTORIES = 10000


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


class Field(NamedTuple):
    """What a field holds: its type, how many values, and their bytes in the file's order."""

    kind: int
    values: int
    content: bytes


class Directory(NamedTuple):
    """One directory: fields as they are in the file, and where they are, by tag.

    Attributes:
        following: Where the next directory is, or 0.
    """

    file: BinaryIO
    layout: TiffLayout
    fields: dict[int, bytes]
    places: dict[int, int]
    following: int

    def value_at(self, tag: int) -> int:
        """Where in the file a field's value is, or where that tells its place; 0 without it."""
        if tag not in self.places:
            return 0
        return self.places[tag] + self.layout.field.size - self.layout.offset.size

    def field(self, tag: int) -> Field | None:
        """A field's values; ``None`` where it isn't there or its type isn't known.

        Raises:
            CutShort: They lie beyond the end.
        """
        if tag not in self.fields:
            return None
        _, kind, values, content = self.layout.field.unpack(self.fields[tag])
        size = values * SIZES.get(kind, 0)
        if not size:
            return None
        if size > len(content):
            content = read(self.file, self.layout.offset.unpack(content)[0], size)
        return Field(kind, values, content[:size])

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Whole numbers of a field, none where it isn't there.

        Raises:
            CutShort: They lie beyond the end.
        """
        field = self.field(tag)
        if field is None or field.kind not in NUMBERS:
            return ()
        kind = f"{self.layout.order}{field.values}{NUMBERS[field.kind]}"
        return struct.unpack(kind, field.content)

    def number(self, tag: int, default: int) -> int:
        """The first number of a field."""
        return (self.numbers(tag) or (default,))[0]


def read(file: BinaryIO, at: int, size: int) -> bytes:
    """Bytes of a file; raises ``CutShort`` where it ends before them."""
    # A count may be anything, up to more memory than there is.
    if at + size > file.seek(0, os.SEEK_END):
        raise CutShort
    file.seek(at)
    return file.read(size)


def start(file: BinaryIO) -> tuple[TiffLayout, int]:
    """How the numbers are written, and where the first directory is.

    Raises:
        CutShort: The file ends before that.
        ValueError: It isn't TIFF.
    """
    head = read(file, 0, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise ValueError("no TIFF")
    layout = TiffLayout(order, struct.unpack(order + "H", head[2:4])[0] == 43)
    at = layout.offset.unpack(read(file, 8, 8) if layout.big else head[4:])
    return layout, int(at[0])


def directory(file: BinaryIO, layout: TiffLayout, at: int) -> Directory:
    """The directory that begins at ``at``.

    Raises:
        CutShort: It lies beyond the end.
        ValueError: There is none.
    """
    (length,) = layout.length.unpack(read(file, at, layout.length.size))
    if length > MOST_FIELDS:
        raise ValueError("a directory of more fields than there can be")
    at += layout.length.size
    size = layout.field.size
    content = read(file, at, length * size)
    behind = file.read(layout.offset.size)
    # Some writers end an EXIF block with its last field.
    whole = len(behind) == layout.offset.size
    fields, places = {}, {}
    for k in range(0, length * size, size):
        (tag,) = struct.unpack(layout.order + "H", content[k : k + 2])
        fields[tag], places[tag] = content[k : k + size], at + k
    return Directory(file, layout, fields, places, layout.offset.unpack(behind)[0] if whole else 0)


def directories(file: BinaryIO) -> Iterator[Directory]:
    """Of a TIFF, one after the other; raises as :func:`start` and :func:`directory` do."""
    layout, at = start(file)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MOST_DIRECTORIES:
        seen.add(at)
        found = directory(file, layout, at)
        yield found
        at = found.following


def exif_orientation(block: bytes) -> int:
    """Of an EXIF block, without its mark; 0 where it tells none."""
    try:
        for first in directories(io.BytesIO(block)):
            found = first.number(ORIENTATION, 0)
            return found if 1 <= found <= 8 else 0
    except (ValueError, struct.error):
        pass
    return 0
