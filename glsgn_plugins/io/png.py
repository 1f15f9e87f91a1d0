"""What libvips leaves out of a PNG or changes: chunks that tell colours, as cICP, and texts."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from zlib import crc32

from glsgn_plugins.io import profiles
from glsgn_plugins.io.headers import Colour, Header, read_header

SRGB_CICP = bytes((1, 13, 0, 1))
SRGB_GAMMA = 45455
"""As PNG's chunk gAMA has it, in 1/100000."""


def told_by(colour: Colour) -> str:
    """The names of the chunks that tell colours, for messages."""
    return ", ".join(kind.decode() for kind in colour if kind in (b"cICP", b"gAMA", b"cHRM"))


def is_srgb(colour: Colour) -> bool:
    """Whether a PNG looks the same where its chunks are not regarded."""
    if b"iCCP" in colour:  # which other formats hold
        return True
    if b"cICP" in colour:
        return colour[b"cICP"] == SRGB_CICP
    if b"sRGB" in colour:
        return True
    gamma = int.from_bytes(colour.get(b"gAMA", b""), "big") or SRGB_GAMMA
    primaries = profiles.primaries_of(colour[b"cHRM"]) if b"cHRM" in colour else profiles.SRGB
    return abs(gamma - SRGB_GAMMA) <= 100 and profiles.are_srgb(primaries)


def add_chunks(file: Path, header: Header) -> None:
    """Put chunks that tell colours, and texts, of another PNG into one, behind its header."""
    there = read_header(file).colour
    colours = [(k, v) for k, v in header.colour.items() if k not in there and k != b"iCCP"]
    missing = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc32(kind + content))
        for kind, content in (*colours, *header.texts)
    )
    if not missing:
        return
    part = file.with_name("part")
    with file.open("rb") as source, part.open("wb") as target:
        target.write(source.read(33))  # the signature and the first chunk
        target.write(missing)
        shutil.copyfileobj(source, target, 2**20)
    os.replace(part, file)
