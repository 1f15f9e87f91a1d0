"""JPEG XL: what its first bits say of the picture, and its pixels where libvips has no decoder.

Structure: ISO/IEC 18181-1 (the codestream's headers) and 18181-2 (boxes).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.boxes import children
from glsgn_plugins.io.damage import CutShort
from glsgn_plugins.io.decoded import Decoded
from glsgn_plugins.io.headers import Header
from glsgn_plugins.io.libvips import reason_of, vips

HEAD = 4096
"""Bytes of the codestream in which everything lies that is looked at."""

RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
ASSOCIATED = "colours that are multiplied by their transparency"
GREY = 1

MISSING = (
    "isn't read by this libvips: pip install 'glsgn-plugins[jxl]' (pillow-jxl-plugin), or your "
    "system's libvips in place of pyvips-binary"
)

MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}


class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    def __init__(self, content: bytes) -> None:
        self.value, self.left = int.from_bytes(content, "little"), 8 * len(content)

    def take(self, count: int) -> int:
        if count > self.left:
            raise CutShort
        taken = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        return taken

    def choose(self, *ways: tuple[int, int]) -> int:
        """One of four: an offset, and how many bits are added to it."""
        offset, count = ways[self.take(2)]
        return offset + self.take(count)

    def enum(self) -> int:
        return self.choose((0, 0), (1, 0), (2, 4), (18, 6))

    def size(self) -> tuple[int, int]:
        """Height and width."""
        small = self.take(1)

        def side() -> int:
            if small:
                return 8 * (1 + self.take(5))
            return self.choose((1, 9), (1, 13), (1, 18), (1, 30))

        height = side()
        ratio = self.take(3)
        if not ratio:
            return height, side()
        across, down = RATIOS[ratio - 1]
        return height, height * across // down

    def depth(self) -> tuple[int, bool]:
        """Bits of a sample, and whether it is a floating-point number."""
        if not self.take(1):
            return self.choose((8, 0), (10, 0), (12, 0), (1, 6)), False
        bits = self.choose((32, 0), (16, 0), (24, 0), (1, 6))
        self.take(4)
        return bits, True


def header_of(file: BinaryIO, size: int) -> Header:
    """What a file says of its picture, which decoders turn upright.

    Raises:
        CutShort: The file ends before its pixels do, as far as boxes tell.
        ValueError: It isn't what its first bytes say.
    """
    bits = _Bits(_codestream(file, size))
    if bits.take(16) != 0x0AFF:
        raise ValueError("a JPEG XL without a picture")
    height, width = bits.size()
    if bits.take(1):  # all as is usual
        return Header("JPEG XL", height, width, "RGB")
    frames, turned = 1, 1
    if bits.take(1):
        turned = 1 + bits.take(3)
        if bits.take(1):  # a size for showing
            bits.size()
        if bits.take(1):
            _skip_preview(bits)
        if bits.take(1):
            frames = 2  # or more: how many, the frames alone tell
            bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
            bits.take(1)
    depth, floating = bits.depth()
    bits.take(1)
    kinds = [_extra(bits) for _ in range(bits.choose((0, 0), (1, 0), (2, 4), (1, 12)))]
    bits.take(1)  # XYB
    channels = "RGB"
    if not bits.take(1):
        bits.take(1)  # a profile follows
        channels = "grey" if bits.enum() == GREY else "RGB"
    if kinds == ["alpha"]:
        channels += " with transparency"
    elif "associated" in kinds:
        channels = ASSOCIATED
    elif kinds:
        channels = f"{len(kinds)} channels beside the colours"
    if turned > 4:
        height, width = width, height
    return Header("JPEG XL", height, width, channels, depth, frames, floating=floating)


def decode_jxl(path: Path, header: Header) -> Decoded:
    """Pixels, upright, and metadata, by pillow-jxl-plugin; RGB of 8 bits, grey of 16 as well.

    Raises:
        InputError: The package isn't there, can't give these pixels, or refuses the file.
    """
    try:
        from pillow_jxl import Decoder
    except ImportError:
        raise InputError(f"{path}: JPEG XL {MISSING}") from None
    if header.bits > 8 and header.channels != "grey":
        raise InputError(
            f"{path}: JPEG XL of {header.bits} bits, of which pillow-jxl-plugin gives 8; use your "
            "system's libvips in place of pyvips-binary, or convert it to 16-bit TIFF"
        )
    try:
        found = Decoder(num_threads=1)(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error}); check it") from None
    except (RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged or no JPEG XL ({said}); copy it again") from None
    as_jpeg, about, content, icc, boxes = found
    if as_jpeg:
        return _of_jpeg(path, bytes(content))
    if about.mode not in MODES:
        raise InputError(f"{path}: JPEG XL of kind {about.mode}; convert it to 16-bit TIFF")
    kind = np.uint16 if about.mode == "I;16" else np.uint8
    data = np.frombuffer(bytes(content), kind)
    data = data.reshape(about.height, about.width, MODES[about.mode])
    held = {bytes(box.box_type): bytes(box.data) for box in boxes}
    exif = held.get(b"Exif") or None
    if exif is not None and exif[4:8] in (b"II*\0", b"MM\0*"):  # four bytes say where it begins
        exif = exif[4:]
    return Decoded(data, exif, bytes(icc) if icc else None, held.get(b"xml "))


def _of_jpeg(path: Path, content: bytes) -> Decoded:
    """Of a JPEG that was packed as JPEG XL and comes out as it was."""
    try:
        image = vips().Image.new_from_buffer(content, "", fail_on="warning").autorot()
        data = image.numpy()
    except vips().Error as error:
        raise InputError(f"{path}: damaged ({reason_of(error)}); copy it again") from None
    exif, icc, xmp = (
        bytes(image.get(name)) if image.get_typeof(name) else None
        for name in ("exif-data", "icc-profile-data", "xmp-data")
    )
    return Decoded(data, exif, icc, xmp)


def _extra(bits: _Bits) -> str:
    """What a channel beside the colours is: ``"alpha"``, ``"associated"`` alpha or ``"other"``."""
    if bits.take(1):
        return "alpha"
    kind = bits.enum()
    bits.depth()
    bits.choose((0, 0), (3, 0), (4, 0), (1, 3))
    bits.take(8 * bits.choose((0, 0), (0, 4), (16, 5), (48, 10)))  # its name
    if kind == 0:
        return "associated" if bits.take(1) else "alpha"
    if kind == 2:  # a spot colour
        bits.take(64)
    elif kind == 5:  # a sensor's
        bits.choose((1, 0), (0, 2), (3, 4), (19, 8))
    return "other"


def _skip_preview(bits: _Bits) -> None:
    small = bits.take(1)

    def side() -> None:
        if small:
            bits.choose((16, 0), (32, 0), (1, 5), (33, 9))
        else:
            bits.choose((1, 6), (65, 8), (321, 10), (1345, 12))

    side()
    if not bits.take(3):
        side()


def _codestream(file: BinaryIO, size: int) -> bytes:
    """Its first bytes, out of the boxes around it if there are any."""
    file.seek(0)
    if file.read(2) == b"\xff\x0a":
        file.seek(0)
        return file.read(HEAD)
    found = b""
    for kind, start, end in children(file, 0, size):
        if kind in (b"jxlc", b"jxlp") and len(found) < HEAD:
            start += 4 if kind == b"jxlp" else 0  # the part's number
            file.seek(start)
            found += file.read(max(0, min(HEAD, end - start)))
    return found
