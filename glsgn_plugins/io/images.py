"""Reading and encoding images: what isn't whole, or can't be read right, is named.

OpenCV gives ``None`` for a file that it can't read, half a picture for one that is damaged, and
wrong colours for some kinds, all without a word. :mod:`glsgn_plugins.io.headers` says which files
it reads right; ``glsgn restore`` reads by libvips, and both give the same pixels.
"""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.files import walk
from glsgn_plugins.io.headers import Header, check_header, read_header, upright

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        InputError: It is missing, empty or not readable.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check it") from None
    if not content:
        raise InputError(f"{path}: empty, 0 bytes; copy it again or remove it")
    return content


def read_image(path: Path) -> NDArray[Any]:
    """Decode an image, turned as EXIF says.

    Returns:
        ``(H, W, 3)``, RGB, uint8 or uint16. Grey becomes RGB, transparency is left out.

    Raises:
        InputError: The file is missing, empty, cut short, damaged, no image, animated, or of
            another kind than grey or RGB of 1 to 16 bits.
    """
    content = read_bytes(path)
    header = read_header(path, content)
    check_header(path, header)
    if header.turned_at:
        # Some versions of OpenCV and Pillow turn a TIFF, others don't: so that none does.
        one = struct.pack(header.order + "H", 1)
        content = content[: header.turned_at] + one + content[header.turned_at + 2 :]
    if header.plain:
        image = _by_opencv(path, header, content)
    elif header.bits <= 8 and "extra" not in header.channels:
        image = _by_pillow(path, content)
    else:
        raise InputError(
            f"{path}: a TIFF of {header.bits} bits, {header.channels}, of a kind (separate planes, "
            "white is zero, extra channels, ...) that isn't read right in sets; save it as PNG"
        )
    image = upright(image, header.orientation)
    if image.shape[:2] != (header.height, header.width):
        raise InputError(f"{path}: damaged, not the {header.size} that it names; copy it again")
    return np.ascontiguousarray(image)


_started_vips_in = 0


def read_rows(path: Path, first: int = 0, last: int | None = None) -> NDArray[Any] | None:
    """Some rows of an image, with the pixels of :func:`read_image`, where that is faster.

    A PNG or JPEG is decoded down to the last of these rows only, by libvips, which also takes less
    of OpenCV's time for all of them; of a BMP nothing else is read. What is damaged elsewhere isn't
    noticed then; ``glsgn prepare`` looks at all of a file.

    Args:
        path: Of the image.
        first: Row.
        last: Row past them; by default that past the image.

    Returns:
        ``(last - first, W, 3)``, RGB, uint8; ``None`` where :func:`read_image` has to be asked: for
        other kinds of images and damaged ones, without pyvips, and in a process that was forked
        from one where libvips has started its threads, which are not in the copy.
    """
    header = read_header(path)
    if (header.channels, header.bits, header.orientation) != ("RGB", 8, 1):
        return None
    last = header.height if last is None else last
    if header.kind == "BMP":
        return _rows_of_bmp(path, header, first, last)
    return _rows_by_libvips(path, header, first, last) if header.kind in ("PNG", "JPEG") else None


def _rows_of_bmp(path: Path, header: Header, first: int, last: int) -> NDArray[Any] | None:
    """Of three bytes a pixel, as they lie in the file."""
    with path.open("rb") as file:
        head = file.read(34)
        start, _, width, height, _, bits, packing = struct.unpack_from("<IIiiHHI", head, 10)
        if (width, abs(height), bits, packing) != (header.width, header.height, 24, 0):
            return None
        stride = -(-3 * width // 4) * 4
        upwards = height > 0  # the lowest row comes first
        file.seek(start + stride * (height - last if upwards else first))
        content = np.frombuffer(file.read(stride * (last - first)), np.uint8)
    if content.size < stride * (last - first):
        return None
    rows = content.reshape(-1, stride)[:, : 3 * width].reshape(-1, width, 3)
    rgb = np.asarray(cv2.cvtColor(rows, cv2.COLOR_BGR2RGB))
    return np.ascontiguousarray(rgb[::-1]) if upwards else rgb


def _rows_by_libvips(path: Path, header: Header, first: int, last: int) -> NDArray[Any] | None:
    global _started_vips_in
    if _started_vips_in not in (0, os.getpid()):
        return None
    if _started_vips_in == 0 and "pyvips" in sys.modules:
        return None  # somebody else may have started it
    if parent_process() is not None:  # one of a loader's workers, which share the cores
        os.environ.setdefault("VIPS_CONCURRENCY", "1")
    try:
        import pyvips
    except (ImportError, OSError):
        return None
    _started_vips_in = os.getpid()
    fail_on = "warning" if header.kind == "JPEG" else "truncated"
    try:
        image = pyvips.Image.new_from_file(str(path), access="sequential", fail_on=fail_on)
        if (image.width, image.height, image.bands) != (header.width, header.height, 3):
            return None
        return np.asarray(image.crop(0, first, image.width, last - first).numpy())
    except pyvips.Error:
        return None


def _by_opencv(path: Path, header: Header, content: bytes) -> NDArray[Any]:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with _heard(header.kind == "JPEG") as complaints:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV refuses it ({error.err}); is it too large?") from None
    if image is None:
        raise InputError(f"{path}: damaged or no image; copy it again or remove it")
    complaints = [said for said in complaints if not _is_padding(said, content[: header.end])]
    if complaints:
        raise InputError(f"{path}: damaged ({complaints[0]}); copy it again or remove it")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: {image.dtype} values; expected 8 or 16 bits, convert it")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _is_padding(complaint: str, content: bytes) -> bool:
    """Whether it is of equal bytes behind the picture: some cameras fill up there."""
    found = re.search(r"(\d+) extraneous bytes before marker 0xd9", complaint)
    return found is not None and len(set(content[-int(found[1]) :])) == 1


def check_jpeg(path: Path) -> None:
    """Decode a JPEG to see whether it is whole; libvips doesn't notice all damage.

    Raises:
        InputError: As of :func:`read_image`.
    """
    content = read_bytes(path)
    _by_opencv(path, read_header(path, content), content)


_opening = threading.Lock()


def _by_pillow(path: Path, content: bytes) -> NDArray[Any]:
    """For TIFF of 8 bits whose samples lie in other ways: OpenCV reads these wrong."""
    try:
        # Pillow refuses images of 16K for fear of their decoding, which is what we want of it.
        with _opening:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(io.BytesIO(content))
                image.load()
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        return np.asarray(image.convert("RGB") if image.mode != "RGBA" else image)[..., :3]
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, EOFError) as error:
        raise InputError(f"{path}: damaged or no image ({error}); copy it again") from None


_COMPLAINT = re.compile(
    r"^(?:Corrupt JPEG data|Premature end|Inconsistent prog|Invalid SOS).*$", re.M
)
_hearing = threading.Lock()


@contextmanager
def _heard(listen: bool) -> Iterator[list[str]]:
    """What libjpeg, inside of OpenCV, prints of damage, which is all that it does about it.

    It goes to the process's standard error, which is a file for the time. What others write there
    meanwhile is passed on.
    """
    complaints: list[str] = []
    if not listen:
        yield complaints
        return
    with _hearing, tempfile.TemporaryFile() as file:
        try:
            before = os.dup(2)
        except OSError:  # closed
            yield complaints
            return
        os.dup2(file.fileno(), 2)
        try:
            yield complaints
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            text = file.read().decode(errors="replace")
            complaints.extend(_COMPLAINT.findall(text))
            if rest := _COMPLAINT.sub("", text).strip("\n"):
                os.write(2, (rest + "\n").encode(errors="replace"))


def png(image: NDArray[Any]) -> bytes:
    """``(H, W, 3)``, RGB, uint8 or uint16, as PNG: the same bytes for the same pixels."""
    # Level 1 with the filter that OpenCV chooses: 4K in half a second, a tenth larger than 9.
    done, content = cv2.imencode(
        ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not done:
        raise InputError("OpenCV could not encode a PNG; is there enough memory?")
    return bytes(content)


def image_files(root: Path) -> Iterator[Path]:
    """Image files under a folder, at any depth, as of :func:`glsgn_plugins.io.files.walk`."""
    yield from (path for path in walk(root) if path.suffix.lower() in EXTENSIONS)
