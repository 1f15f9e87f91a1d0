"""What an image file says of itself, read from its own bytes.

Every command and dataset goes by this, whatever decodes the pixels: which picture it is, which way
up, and whether it can be read right. Decoders don't tell: OpenCV gives noise for planes that lie
apart, half a picture for a file that is cut short, and RGB for CIELAB, all without a word.
Structures: JPEG (ITU-T T.81), PNG 3rd edition, TIFF 6.0 and BigTIFF, WebP (RFC 9649), BMP.
"""

from __future__ import annotations

import io
import re
import struct
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.damage import CutShort, Damaged, named_errors
from glsgn_plugins.io.kinds import described
from glsgn_plugins.io.tiff import ORIENTATION, directories, exif_orientation

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""

DEPTHS = {"HEIC": (8, 10, 12), "AVIF": (8, 10, 12), "JPEG XL": range(1, 17)}
"""Bits of a sample that can be read, of kinds that have other ones than 1, 2, 4, 8 and 16."""

Colour = dict[bytes, bytes]


@dataclass(frozen=True)
class Header:
    """What a file says of its image without the pixels being decoded.

    Attributes:
        kind: ``"JPEG"``, ``"PNG"``, ``"TIFF"``, ``"WebP"`` or ``"BMP"``; of
            :mod:`glsgn_plugins.io.formats` others as well.
        height: In pixels, as shown: the orientation is regarded.
        width: Likewise.
        channels: ``"RGB"``, ``"grey"``, either of them ``"with transparency"`` or with a number of
            ``"extra channels"``, or what can't be read: ``"CMYK"``, ``"CIELAB"`` and so on.
        bits: Per channel.
        frames: More than 1 for an animation or several pages. Smaller copies aren't counted.
        orientation: 1 to 8, as in EXIF.
        floating: Samples are no whole numbers from 0 up.
        plain: How the samples lie: one beside the other, grey rising from black. TIFF has others.
        lossless: Of WebP.
        colour: Of PNG: the content of chunks by which colours are told.
        texts: Of PNG: kind and content of chunks that hold text, but for XMP.
        left_out: What the file holds beside its picture, that is not read.
        end: Of JPEG: where its end marker stands in the file.
        turned_at: Of TIFF: where the orientation stands in the file, or 0.
        order: Of TIFF: ``"<"`` or ``">"``, its order of bytes.
        cicp: Of HEIC and AVIF without an ICC profile: primaries and transfer (ITU-T H.273).
    """

    kind: str
    height: int
    width: int
    channels: str
    bits: int = 8
    frames: int = 1
    orientation: int = 1
    floating: bool = False
    plain: bool = True
    lossless: bool = True
    colour: Colour = field(default_factory=dict)
    texts: tuple[tuple[bytes, bytes], ...] = ()
    left_out: str = ""
    end: int = 0
    turned_at: int = 0
    order: str = "<"
    cicp: tuple[int, int] | None = None

    @property
    def size(self) -> str:
        """For messages."""
        return f"{self.width}x{self.height} pixels"


def read_header(path: Path, content: bytes | None = None) -> Header:
    """Look at an image without decoding it.

    Args:
        path: Of the file.
        content: All of it, where that has been read already.

    Raises:
        InputError: The file is missing, empty, no image of these kinds, damaged or cut short.
    """
    with named_errors(path), _opened(path, content) as file:
        size = file.seek(0, io.SEEK_END)
        header = _header(file, size) if size else None
    if header is None:
        raise InputError(f"{path}: empty, 0 bytes; copy it again or remove it")
    if min(header.height, header.width) < 1:
        raise InputError(f"{path}: not an image that can be read ({header.size}); remove it")
    if header.orientation in SIDEWAYS:
        return replace(header, height=header.width, width=header.height)
    return header


def _opened(path: Path, content: bytes | None) -> BinaryIO:
    return path.open("rb") if content is None else io.BytesIO(content)


def upright(image: Any, orientation: int) -> Any:
    """Turn an array ``(H, W, ...)`` as EXIF says; rain falls in upright pictures alone.

    Args:
        image: As it is stored.
        orientation: 1 to 8.
    """
    turned = {
        2: lambda: image[:, ::-1],
        3: lambda: image[::-1, ::-1],
        4: lambda: image[::-1],
        5: lambda: image.swapaxes(0, 1),
        6: lambda: image.swapaxes(0, 1)[:, ::-1],
        7: lambda: image[::-1, ::-1].swapaxes(0, 1),
        8: lambda: image.swapaxes(0, 1)[::-1],
    }
    return turned[orientation]() if orientation in turned else image


def check_header(path: Path, header: Header) -> None:
    """Refuse what isn't one picture in grey or RGB of 1 to 16 bits.

    Raises:
        InputError: Says what it is instead, and what to do.
    """
    if header.channels == "CMYK":
        raise InputError(f"{path}: CMYK, whose colours depend on a printer; convert it to sRGB")
    if not header.channels.startswith(("RGB", "grey")):
        raise InputError(f"{path}: {header.channels}; convert it to grey or RGB of 8 or 16 bits")
    if header.frames > 1:
        raise InputError(
            f"{path}: {header.frames} frames or pages; expected one image, extract or split it"
        )
    if header.kind == "OpenEXR":  # light, which is floating point
        return
    if header.floating or header.bits not in DEPTHS.get(header.kind, (1, 2, 4, 8, 16)):
        what = "floating-point or signed samples" if header.floating else "samples"
        raise InputError(f"{path}: {what} of {header.bits} bits; expected 8 or 16 bits, convert it")


def _header(file: BinaryIO, size: int) -> Header:
    file.seek(0)
    start = file.read(64)
    if start[:2] == b"\xff\xd8":
        return _jpeg(file, size)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(file, size)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(file, size)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _webp(file, size)
    if start[:2] == b"BM":
        return _bmp(file, size)
    raise ValueError(described(start))


# --- JPEG ----------------------------------------------------------------------------------------

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the coded pixels of a scan: stuffed bytes, restarts and padding don't."""


_ZEROS = re.compile(rb"\0{32,}")
_FILLED = re.compile(rb"\xff\xff+\0")


def _jpeg(file: BinaryIO, size: int) -> Header:
    """Of a file that is only looked at, the beginning and the end do: sets have thousands."""
    if not isinstance(file, io.BytesIO):
        file.seek(max(0, size - 64))
        if file.read().endswith(b"\xff\xd9"):
            file.seek(0)
            with suppress(ValueError):  # where its pixels begin later, or it is damaged
                return _jpeg_of(file.read(2**17), scan=False)
    file.seek(0)
    return _jpeg_of(file.read(), scan=True)


def _jpeg_of(content: bytes, scan: bool) -> Header:
    found: Header | None = None
    shortest: dict[int, int] = {}  # of each Huffman table, what a code of zeros alone stands for
    baseline = scanned = False
    orientation = 0
    at = 2
    while True:
        while content[at : at + 2] == b"\xff\xff":  # padding
            at += 1
        if at + 4 > len(content):
            if found is not None and content[at : at + 2] == b"\xff\xd9":
                break
            raise _ended(content, scanned)
        if content[at] != 0xFF:
            raise Damaged("no marker where one must be") if scanned else ValueError("no marker")
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xD9:
            break
        segment = content[at + 4 : at + 2 + length]
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, components = struct.unpack(">BHHB", segment[:6])
            channels = {1: "grey", 3: "RGB", 4: "CMYK"}.get(components, f"{components} channels")
            found = Header("JPEG", height, width, channels, bits)
            baseline = marker in (0xC0, 0xC1)
        elif marker == 0xC4:
            shortest |= _shortest(segment)
        elif marker == 0xE1 and segment[:6] == b"Exif\0\0" and not orientation:
            orientation = exif_orientation(segment[6:])
        at += 2 + length
        if marker == 0xDA and not scan:
            break
        if marker == 0xDA:
            end, scanned = _MARKER.search(content, at), True
            if end is None:
                raise _ended(content, scanned)
            # Disks and networks leave zeros. Decoders take them for coefficients, one by one: a
            # block full of equal ones is none of a picture's, unless they say that it ends.
            tables = [0x10 | pair & 15 for pair in segment[2 : 1 + 2 * segment[0] : 2]]
            ends = all(shortest.get(table, 0) == 0 for table in tables)
            if baseline and not ends and _ZEROS.search(content, at, end.start()):
                raise Damaged("zeros among its coded pixels")
            if _FILLED.search(content, at, end.start()):
                raise Damaged("bytes of 255 among its coded pixels")
            at = end.start()
    if found is None:
        raise ValueError("no picture before its end")
    # Phones put a film or a second picture behind the first.
    more = content[at + 2 if scan else len(content) :].strip(b"\0\xff\r\n ")
    much = f"{len(more) / 1e6:.1f} MB" if len(more) >= 1e5 else f"{len(more) / 1e3:.0f} kB"
    said = f"{much} behind the picture, a film or another one"
    return replace(
        found,
        orientation=orientation or 1,
        left_out=said if len(more) > 4096 else "",
        end=at,
    )


def _ended(content: bytes, scanned: bool) -> ValueError:
    """What a JPEG is whose structure leads beyond its end."""
    whole = content.rstrip(b"\0").endswith(b"\xff\xd9")
    return Damaged("its parts are longer than it is") if scanned and whole else CutShort()


def _shortest(segment: bytes) -> dict[int, int]:
    """The first symbol of each Huffman table that a segment defines, by class and number."""
    found = {}
    at = 0
    while at + 17 < len(segment):
        found[segment[at]] = segment[at + 17]
        at += 17 + sum(segment[at + 1 : at + 17])
    return found


# --- PNG -----------------------------------------------------------------------------------------

COLOURS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
"""PNG's chunks that tell colours; each goes before those behind it."""


TEXTS = (b"tEXt", b"zTXt", b"iTXt")
XMP_TEXT = b"XML:com.adobe.xmp\0"
"""How a PNG's text begins that holds XMP."""


def _png(file: BinaryIO, size: int) -> Header:
    at = 8
    kinds: set[bytes] = set()
    colour: Colour = {}
    texts: list[tuple[bytes, bytes]] = []
    frames, orientation = 1, 1
    first = b""
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise CutShort
        length, kind = struct.unpack(">I4s", head)
        if at + 12 + length > size:
            raise CutShort
        content = b"" if kind == b"IDAT" else file.read(length)
        if at == 8:
            if kind != b"IHDR" or length != 13:
                raise ValueError("a PNG without its header")
            first = content
        if kind == b"acTL":
            frames = int.from_bytes(content[:4], "big")
        elif kind == b"eXIf":
            orientation = exif_orientation(content.removeprefix(b"Exif\0\0")) or 1
        elif kind in COLOURS:
            colour[kind] = content
        elif kind in TEXTS and not content.startswith(XMP_TEXT):
            texts.append((kind, content))
        kinds.add(kind)
        at += 12 + length
        if kind == b"IEND":
            break
    if b"IDAT" not in kinds:
        raise ValueError("a PNG without pixels")
    width, height, bits, colour_type = struct.unpack(">IIBB", first[:10])
    names = {0: "grey", 2: "RGB", 3: "RGB", 4: "grey", 6: "RGB"}
    if colour_type not in names:
        raise ValueError(f"colour type {colour_type}")
    channels = names[colour_type]
    if colour_type in (4, 6) or b"tRNS" in kinds:
        channels += " with transparency"
    bits = 8 if colour_type == 3 else bits
    return Header(
        *("PNG", height, width, channels, bits, frames, orientation),
        colour=colour,
        texts=tuple(texts),
    )


# --- WebP ----------------------------------------------------------------------------------------


def _webp(file: BinaryIO, size: int) -> Header:
    file.seek(4)
    end = 8 + int.from_bytes(file.read(4), "little")
    if end > size:
        raise CutShort
    at, frames, orientation = 12, 0, 1
    width = height = 0
    alpha = lossless = False
    while at + 8 <= end:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if at + 8 + length > end:
            raise CutShort
        if kind == b"VP8X":
            content = file.read(10)
            alpha |= bool(content[0] & 0x10)
            width, height = (1 + int.from_bytes(content[k : k + 3], "little") for k in (4, 7))
        elif kind == b"ANMF":
            frames += 1
        elif kind == b"VP8L":
            packed = int.from_bytes(file.read(5)[1:], "little")
            lossless, alpha = True, alpha or bool(packed >> 28 & 1)
            width, height = width or 1 + (packed & 0x3FFF), height or 1 + (packed >> 14 & 0x3FFF)
        elif kind == b"VP8 ":
            sides = struct.unpack("<HH", file.read(10)[6:])
            width, height = width or sides[0] & 0x3FFF, height or sides[1] & 0x3FFF
        elif kind == b"EXIF":
            orientation = exif_orientation(file.read(length).removeprefix(b"Exif\0\0")) or 1
        at += 8 + length + length % 2
    channels = "RGB with transparency" if alpha else "RGB"
    return Header(
        "WebP", height, width, channels, 8, max(1, frames), orientation, lossless=lossless
    )


# --- BMP -----------------------------------------------------------------------------------------


def _bmp(file: BinaryIO, size: int) -> Header:
    file.seek(0)
    head = file.read(54)
    pixels, length = struct.unpack("<II", head[10:18])
    if length == 12:
        width, height, _, bits = struct.unpack("<HHHH", head[18:26])
        packed = 0
    elif length >= 40:
        width, height, _, bits, packed = struct.unpack("<iiHHI", head[18:34])
    else:
        raise ValueError(f"a BMP header of {length} bytes")
    if bits not in (1, 4, 8, 16, 24, 32) or packed not in (0, 1, 2, 3, 6):
        raise ValueError(f"a BMP of {bits} bits, packed by {packed}")
    if packed not in (1, 2) and pixels + (width * bits + 31) // 32 * 4 * abs(height) > size:
        raise CutShort
    return Header("BMP", abs(height), width, "RGB")


# --- TIFF ----------------------------------------------------------------------------------------

PHOTOMETRIC = {
    0: "grey",  # from white
    1: "grey",
    2: "RGB",
    3: "RGB",  # a palette
    5: "CMYK",
    6: "RGB",  # as YCbCr
    8: "CIELAB",
    9: "ICC's LAB",
    10: "ITU's LAB",
    32803: "a sensor's raw samples",
    34892: "a sensor's raw samples",
}
PLAIN_PACKING = (1, 5, 8, 32773, 32946)
"""None, LZW, deflate, PackBits."""


def _tiff(file: BinaryIO, size: int) -> Header:
    pages = list(directories(file))
    if not pages:
        raise ValueError("a TIFF without a picture")
    # Bit 0 of NewSubfileType, or 2 of the older field: a smaller copy; bit 2: a mask.
    smaller = [bool(page.number(254, 0) & 5) or page.number(255, 1) == 2 for page in pages]
    page = pages[0]
    width, height = page.number(256, 0), page.number(257, 0)
    bits = page.numbers(258) or (1,)
    samples = page.number(277, 1)
    photometric = page.number(262, 1)
    formats = page.numbers(339) or (1,)
    extra = max(0, samples - {2: 3, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}.get(photometric, 1))
    channels = PHOTOMETRIC.get(photometric, f"colours of kind {photometric}")
    if smaller[0]:
        channels = "a smaller copy first, as raw files have it"
    elif 1 in page.numbers(338):
        channels = "colours that are multiplied by their transparency"
    elif extra == 1:
        channels += " with transparency"
    elif extra:
        channels += f" with {extra} extra channels"
    for offsets, counts in ((273, 279), (324, 325)):
        places = zip(page.numbers(offsets), page.numbers(counts))
        if any(at + length > size for at, length in places):
            raise CutShort
    if len(set(bits)) > 1:
        raise ValueError(f"channels of {', '.join(map(str, bits))} bits")
    planes = page.number(284, 1) == 2 and samples > 1
    orientation = page.number(ORIENTATION, 1)
    return Header(
        "TIFF",
        height,
        width,
        channels,
        bits[0],
        max(1, len(pages) - sum(smaller)),
        orientation if 1 <= orientation <= 8 else 1,
        floating=any(kind != 1 for kind in formats),
        plain=not planes
        and not extra
        and photometric in (1, 2)
        and bits[0] in (8, 16)
        and page.number(259, 1) in PLAIN_PACKING,
        left_out="smaller copies of the picture" if any(smaller) else "",
        turned_at=page.value_at(ORIENTATION),
        order=page.layout.order,
    )
