"""Boxes of ISO base media files (ISO/IEC 14496-12), of which HEIC, AVIF and JPEG XL are made."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from glsgn_plugins.io.damage import CutShort


def children(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Boxes from one place to another.

    Yields:
        Their type, where their content begins, and where it ends.

    Raises:
        CutShort: One goes beyond the end.
        ValueError: One is shorter than its own head.
    """
    while at + 8 <= end:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(file.read(8), "big"), at + 16
        elif length == 0:
            length = end - at
        if length < start - at:
            raise ValueError("a box shorter than its head")
        if at + length > end:
            raise CutShort
        yield kind, start, at + length
        at += length
