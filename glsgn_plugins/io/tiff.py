"""The directories of a TIFF or an EXIF block, as far as headers need them (TIFF 6.0, BigTIFF)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from glsgn_plugins.io.damage import CutShort

NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q", 13: "I", 18: "Q"}
"""TIFF's types of whole numbers from 0 up."""


class Directory(NamedTuple):
    """One directory of a TIFF: fields as they are in the file, and where they are, by tag."""

    file: BinaryIO
    size: int
    order: str
    big: bool
    fields: dict[int, bytes]
    places: dict[int, int]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Whole numbers of a field, none where it isn't there.

        Raises:
            CutShort: It lies beyond the end.
        """
        entry = self.fields.get(tag)
        if entry is None:
            return ()
        kind, count = struct.unpack(
            self.order + ("HQ" if self.big else "HI"), entry[2 : -8 if self.big else -4]
        )
        if kind not in NUMBERS:
            return ()
        value = entry[-8:] if self.big else entry[-4:]
        length = count * struct.calcsize("<" + NUMBERS[kind])
        if length > len(value):
            at = struct.unpack(self.order + ("Q" if self.big else "I"), value)[0]
            if at + length > self.size:
                raise CutShort
            self.file.seek(at)
            value = self.file.read(length)
        return struct.unpack(f"{self.order}{count}{NUMBERS[kind]}", value[:length])

    def number(self, tag: int, default: int) -> int:
        """The first number of a field."""
        return (self.numbers(tag) or (default,))[0]


def directories(file: BinaryIO, size: int) -> Iterator[Directory]:
    """Of a TIFF, one after the other; raises ``CutShort`` where one lies beyond the end."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise ValueError("no TIFF")
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    offset, length, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (at,) = struct.unpack(order + offset, head[8:16] if big else head[4:8])
    seen: set[int] = set()
    while at and at not in seen and len(seen) < 10000:
        seen.add(at)
        width = struct.calcsize("<" + length)
        if at + width > size:
            raise CutShort
        file.seek(at)
        (count,) = struct.unpack(order + length, file.read(width))
        if at + width + count * entry > size:
            raise CutShort
        content = file.read(count * entry)
        fields, places = {}, {}
        for k in range(0, count * entry, entry):
            (tag,) = struct.unpack(order + "H", content[k : k + 2])
            fields[tag], places[tag] = content[k : k + entry], at + width + k
        following = file.read(struct.calcsize("<" + offset))
        yield Directory(file, size, order, big, fields, places)
        if len(following) < struct.calcsize("<" + offset):
            return
        (at,) = struct.unpack(order + offset, following)


def exif_orientation(block: bytes) -> int:
    """Of an EXIF block, without its mark; 0 where it tells none."""
    try:
        for directory in directories(io.BytesIO(block), len(block)):
            (found,) = directory.numbers(274) or (0,)
            return found if 1 <= found <= 8 else 0
    except (ValueError, struct.error):
        pass
    return 0
