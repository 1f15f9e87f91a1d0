"""HEIC and AVIF: what their boxes say of the picture, and HEIC's pixels by pillow-heif.

Structure: ISO/IEC 14496-12 (boxes), 23008-12 (HEIF), and the bindings of HEVC and AV1.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.boxes import children
from glsgn_plugins.io.damage import CutShort
from glsgn_plugins.io.decoded import Decoded
from glsgn_plugins.io.headers import Header
from glsgn_plugins.io.profiles import of_png

CODED = (b"hvc1", b"av01", b"grid", b"iovl", b"iden")
"""Types of items that are pictures."""

ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
LARGEST_META = 2**26
SRGB_LIKE = ((1, 2), (1, 2, 6, 13))
"""Primaries and transfers that are sRGB or unsaid. BT.709's curve is taken for sRGB's, as browsers
do with stills."""


class Item(NamedTuple):
    """One item of a HEIF file.

    Attributes:
        kind: Its type, four bytes.
        hidden: It is no picture to be shown by itself.
        properties: Content of its properties, by type.
    """

    kind: bytes
    hidden: bool
    properties: dict[bytes, bytes]


class Boxes(NamedTuple):
    """What a HEIF file says of its items.

    Attributes:
        primary: The picture's item.
        items: By number.
        references: Type, the item that refers, and those that it refers to.
        moving: It holds a sequence as well.
    """

    primary: int
    items: dict[int, Item]
    references: list[tuple[bytes, int, tuple[int, ...]]]
    moving: bool


def header_of(file: BinaryIO, size: int, kind: str) -> Header:
    """What a file says of its picture, which decoders turn upright.

    Args:
        file: At any place.
        size: Of the file, in bytes.
        kind: ``"HEIC"`` or ``"AVIF"``.

    Raises:
        CutShort: The file ends before its pixels do.
        ValueError: It isn't what its first bytes say.
    """
    boxes = _boxes(file, size)
    if boxes.primary not in boxes.items:
        raise ValueError(f"{kind} without a picture")
    main = boxes.items[boxes.primary]
    found = main.properties
    if b"ispe" not in found:
        raise ValueError(f"{kind} that doesn't tell its size")
    width, height = struct.unpack(">II", found[b"ispe"][4:12])
    if b"clap" in found:
        across, of_across, down, of_down = struct.unpack(">4I", found[b"clap"][:16])
        width, height = across // max(1, of_across), down // max(1, of_down)
    if found.get(b"irot", b"\0")[0] & 1:
        width, height = height, width
    parts = [to for name, at, to in boxes.references if name == b"dimg" and at == boxes.primary]
    if parts and parts[0] and parts[0][0] not in boxes.items:
        raise ValueError(f"{kind} whose picture lacks a part")
    config = found | (boxes.items[parts[0][0]].properties if parts and parts[0] else {})
    bits, grey = _depth(config)
    channels = "grey" if grey else "RGB"
    helpers = {at for name, at, _ in boxes.references if name in (b"auxl", b"thmb", b"cdsc")}
    helpers |= {one for name, _, to in boxes.references if name == b"dimg" for one in to}
    of_main = [at for name, at, to in boxes.references if name == b"auxl" and boxes.primary in to]
    if any(_is_alpha(boxes.items.get(at)) for at in of_main):
        channels += " with transparency"
        if any(name == b"prem" for name, _, _ in boxes.references):
            channels = "colours that are multiplied by their transparency"
    others = sum(
        item.kind in CODED and not item.hidden and number not in helpers
        for number, item in boxes.items.items()
    )
    return Header(
        kind,
        height,
        width,
        channels,
        bits,
        frames=2 if boxes.moving else 1,
        left_out=f"{others - 1} other pictures" if others > 1 else "",
        cicp=_told(found),
    )


def profile_for(path: Path, told: tuple[int, int] | None) -> bytes | None:
    """An ICC profile of primaries and transfer as of ITU-T H.273; ``None`` for sRGB.

    Raises:
        InputError: They are of another kind: PQ and HLG have no white to go by.
    """
    if told is None or (told[0] in SRGB_LIKE[0] and told[1] in SRGB_LIKE[1]):
        return None
    profile = of_png({b"cICP": bytes((*told, 0, 1))}) if max(told) < 256 else None
    if profile is None:
        raise InputError(
            f"{path}: colours of kind {told[0]}/{told[1]} (CICP), HDR perhaps; convert it to SDR, "
            "in sRGB or Display P3"
        )
    return profile


def decode_heic(path: Path) -> Decoded:
    """A HEIC file's pixels, upright, and its metadata.

    Raises:
        InputError: pillow-heif isn't there, or refuses the file.
    """
    try:
        import pillow_heif
    except ImportError:
        raise InputError(f"{path}: HEIC {MISSING}") from None
    try:
        image = pillow_heif.open_heif(io.BytesIO(path.read_bytes()), convert_hdr_to_8bit=False)
        data = np.array(image)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error}); copy it again") from None
    except (ValueError, RuntimeError, EOFError, SyntaxError, MemoryError) as error:
        raise InputError(f"{path}: damaged or no HEIC ({error}); copy it again") from None
    about: dict[str, Any] = image.info
    return Decoded(data, about.get("exif"), about.get("icc_profile"), about.get("xmp"))


MISSING = (
    "isn't read by this libvips: pip install 'glsgn-plugins[heif]' (pillow-heif), or your system's "
    "libvips in place of pyvips-binary"
)


def full_range(data: np.ndarray, bits: int) -> np.ndarray:
    """Samples of 10 or 12 bits in the upper bits of 16, to all of 16: white to white.

    Args:
        data: uint16; other types are returned as they are.
        bits: Of a sample.
    """
    if data.dtype != np.uint16 or bits >= 16:
        return data
    steps = np.rint(np.arange(2**bits) * (65535 / (2**bits - 1))).astype(np.uint16)
    return np.asarray(steps[data >> (16 - bits)])


def upper_bits(data: np.ndarray, bits: int) -> np.ndarray:
    """The other way, rounded."""
    return np.rint(data * ((2**bits - 1) / 65535)).astype(np.uint16) << (16 - bits)


def _depth(found: dict[bytes, bytes]) -> tuple[int, bool]:
    """Bits of a sample, and whether there is one channel alone."""
    bits, grey = 8, False
    if len(one := found.get(b"hvcC", b"")) > 17:
        bits, grey = 8 + (one[17] & 7), one[16] & 3 == 0
    elif len(one := found.get(b"av1C", b"")) > 2:
        bits = (12 if one[2] & 0x20 else 10) if one[2] & 0x40 else 8
        grey = bool(one[2] & 0x10)
    elif len(one := found.get(b"pixi", b"")) > 5:
        bits, grey = one[5], one[4] == 1
    return bits, grey


def _is_alpha(item: Item | None) -> bool:
    return item is not None and item.properties.get(b"auxC", b"")[4:].startswith(ALPHA)


def _told(found: dict[bytes, bytes]) -> tuple[int, int] | None:
    colour = found.get(b"colr", b"")
    if colour[:4] != b"nclx" or len(colour) < 8 or b"profile" in found:
        return None
    primaries, transfer = struct.unpack(">HH", colour[4:8])
    return primaries, transfer


def _boxes(file: BinaryIO, size: int) -> Boxes:
    moving, inside = False, None
    for kind, start, end in children(file, 0, size):
        moving |= kind == b"moov"
        if kind == b"meta" and inside is None:
            if end - start > LARGEST_META:
                raise ValueError(f"{end - start} bytes before its pixels")
            file.seek(start)
            inside = file.read(end - start)
    if inside is None:
        raise ValueError("no picture in it")
    meta = io.BytesIO(inside)
    parts = {kind: inside[a:b] for kind, a, b in children(meta, 4, len(inside))}
    primary = _number(parts.get(b"pitm", b""), 4, 4 if parts.get(b"pitm", b"\0")[0] else 2)
    _check_places(parts.get(b"iloc", b""), size)
    properties = _properties(parts.get(b"iprp", b""))
    items = {
        number: Item(kind, hidden, properties.get(number, {}))
        for number, kind, hidden in _items(parts.get(b"iinf", b""))
    }
    return Boxes(primary, items, list(_references(parts.get(b"iref", b""))), moving)


def _number(content: bytes, at: int, length: int) -> int:
    if at + length > len(content):
        raise ValueError("a box that is cut short")
    return int.from_bytes(content[at : at + length], "big")


def _items(content: bytes) -> Iterator[tuple[int, bytes, bool]]:
    start = 4 + (4 if content[:1] > b"\0" else 2)
    for kind, a, b in children(io.BytesIO(content), start, len(content)):
        entry = content[a:b]
        if kind == b"infe" and entry[:1] in (b"\2", b"\3"):
            wide = 4 if entry[0] == 3 else 2
            number = _number(entry, 4, wide)
            yield number, entry[6 + wide : 10 + wide], bool(entry[3] & 1)


def _properties(content: bytes) -> dict[int, dict[bytes, bytes]]:
    """Of each item, by type. An ICC profile is ``b"profile"``, as it may stand beside nclx."""
    file = io.BytesIO(content)
    known: list[tuple[bytes, bytes]] = []
    found: dict[int, dict[bytes, bytes]] = {}
    for kind, a, b in children(file, 0, len(content)):
        if kind == b"ipco":
            known = [(name, content[x:y]) for name, x, y in children(file, a, b)]
        elif kind == b"ipma":
            box, at = content[a:b], 8
            wide, long = (4 if box[0] else 2), (2 if box[3] & 1 else 1)
            for _ in range(_number(box, 4, 4)):
                number, count = _number(box, at, wide), _number(box, at + wide, 1)
                at += wide + 1
                for _ in range(count):
                    place = _number(box, at, long) & (0x7FFF if long == 2 else 0x7F)
                    at += long
                    if 0 < place <= len(known):
                        name, value = known[place - 1]
                        if name == b"colr" and value[:4] in (b"prof", b"rICC"):
                            name = b"profile"
                        found.setdefault(number, {}).setdefault(name, value)
    return found


def _references(content: bytes) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    wide = 4 if content[:1] > b"\0" else 2
    for kind, a, b in children(io.BytesIO(content), 4, len(content)):
        box = content[a:b]
        count = _number(box, wide, 2)
        to = tuple(_number(box, wide + 2 + k * wide, wide) for k in range(count))
        yield kind, _number(box, 0, wide), to


def _check_places(content: bytes, size: int) -> None:
    """CutShort where the bytes of an item lie beyond the file's end."""
    if not content:
        raise ValueError("no places of its pixels")
    version = content[0]
    sizes = _number(content, 4, 2)
    offset, length, base, index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    at = 6 + wide
    for _ in range(_number(content, 6, wide)):
        at += wide
        inside = version > 0 and _number(content, at, 2) & 15
        at += (2 if version > 0 else 0) + 2
        start = _number(content, at, base)
        extents = _number(content, at + base, 2)
        at += base + 2
        for _ in range(extents):
            at += index if version > 0 else 0
            last = start + _number(content, at, offset) + _number(content, at + offset, length)
            at += offset + length
            if not inside and last > size:
                raise CutShort
