"""What ``glsgn restore`` reads and writes beyond what sets may hold, and by which package.

libvips decodes what it was built to decode: pyvips-binary has AVIF, and neither HEVC nor JPEG XL; a
system's libvips often has all. What it lacks an optional package does.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from glsgn_plugins.errors import InputError
from glsgn_plugins.io import exr, heif, jxl, raw
from glsgn_plugins.io.decoded import Decoded
from glsgn_plugins.io.headers import Header, named_errors
from glsgn_plugins.io.headers import read_header as read_plain_header
from glsgn_plugins.io.kinds import described, kind_of
from glsgn_plugins.io.libvips import has

HEIC = (".heic", ".heif", ".hif")
PLAIN = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
READ = (*PLAIN, ".bmp", ".avif", *HEIC, ".jxl", ".exr", *raw.SUFFIXES)
"""Ends of names of files that are read."""

WRITTEN = (*PLAIN, ".avif", ".jxl", ".exr")
"""Those that can be written, where this libvips and these packages can."""

BMP_MISSING = "isn't read without Pillow: pip install 'glsgn-plugins[restore]'"
AVIF_MISSING = "isn't read by this libvips: pip install 'pyvips[binary]', whose libvips does"
LISTED = "JPEG, PNG, TIFF, WebP, BMP, AVIF, HEIC, JPEG XL, OpenEXR and raw files"


def same_format(one: Path, two: Path) -> bool:
    """Whether two names stand for files of one format: ``.jpg`` and ``.jpeg`` do."""
    ends = (path.suffix.lower() for path in (one, two))
    first, second = ({".jpeg": ".jpg", ".tiff": ".tif"}.get(end, end) for end in ends)
    return first == second


def read_header(path: Path) -> Header:
    """As :func:`glsgn_plugins.io.headers.read_header`, of all kinds that are read.

    Raises:
        InputError: Likewise; or what would read it isn't there.
    """
    if path.suffix.lower() in raw.SUFFIXES and path.is_file():
        return raw.header_of(path)
    with named_errors(path), path.open("rb") as file:
        kind = kind_of(file.read(64))
        if kind in READERS:
            return READERS[kind](file, file.seek(0, io.SEEK_END))
    return raw.header_of(path) if kind == "raw" else read_plain_header(path)


READERS: dict[str, Callable[..., Header]] = {
    "HEIC": lambda file, size: heif.header_of(file, size, "HEIC"),
    "AVIF": lambda file, size: heif.header_of(file, size, "AVIF"),
    "JPEG XL": jxl.header_of,
    "OpenEXR": exr.header_of,
}


def decode(path: Path, header: Header) -> Decoded | None:
    """What a file holds, by another decoder than libvips; ``None`` where libvips is to read it.

    Raises:
        InputError: There is none, or the file is damaged.
    """
    if header.kind == "BMP":
        return _decode_bmp(path)
    if header.kind == "raw":
        return raw.develop(path)
    if header.kind == "HEIC" and not _system_libvips() and find_spec("pillow_heif"):
        return heif.decode_heic(path)
    if header.kind == "JPEG XL" and not has("jxlload"):
        return jxl.decode_jxl(path, header)
    if header.kind in ("HEIC", "AVIF") and not has("heifload"):
        missing = heif.MISSING if header.kind == "HEIC" else AVIF_MISSING
        raise InputError(f"{path}: {header.kind} {missing}")
    return None


def lacking(suffix: str) -> str | None:
    """What is missing to read files that end so, and how to get it; ``None`` where nothing is."""
    if suffix in raw.SUFFIXES and not find_spec("rawpy"):
        return raw.MISSING
    if suffix == ".exr" and not find_spec("OpenEXR"):
        return exr.MISSING
    if suffix == ".jxl" and not (has("jxlload") or find_spec("pillow_jxl")):
        return jxl.MISSING
    # Whether a libvips that knows HEIF has a decoder of HEVC, it tells with a file alone.
    if suffix in HEIC and not (find_spec("pillow_heif") or _system_libvips()):
        return heif.MISSING
    if suffix == ".bmp" and not find_spec("PIL"):
        return BMP_MISSING
    if suffix == ".avif" and not has("heifload"):
        return AVIF_MISSING
    return None


def check_written(path: Path) -> None:
    """InputError where files with this end can't be written here; says what would help."""
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        what = f"{suffix} isn't written" if suffix else "no file's name"
        raise InputError(f"{path}: {what}; give {', '.join(WRITTEN)}")
    for ends, operation in ((".avif", "heifsave"), (".jxl", "jxlsave")):
        if suffix == ends and not has(operation):
            raise InputError(
                f"{path}: this libvips writes no {suffix}; give another format, or use your "
                "system's libvips in place of pyvips-binary"
            )
    if suffix == ".exr" and not find_spec("OpenEXR"):
        raise InputError(f"{path}: OpenEXR {exr.MISSING}")


def written_as(name: Path) -> Path:
    """What becomes of a file in a folder: its name, with another end where its own isn't written.

    16-bit TIFF of raw files; PNG, which loses nothing, of HEIC, BMP, and of JPEG XL where libvips
    has no encoder.
    """
    suffix = name.suffix.lower()
    if suffix in raw.SUFFIXES:
        return name.with_suffix(".tif")
    if suffix == ".bmp" or suffix in HEIC or (suffix == ".jxl" and not has("jxlsave")):
        return name.with_suffix(".png")
    return name


def unreadable(path: Path) -> str:
    """Of a file whose name ends like none that is read: what it is, and what was expected."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        return f"can't be read ({error.strerror}); check it"
    said = described(start)
    ends = ", ".join(end for end in READ if end not in raw.SUFFIXES)
    if said.startswith("it is") and kind_of(start) is None:
        return f"{said.removeprefix('it is ')}. Read are {LISTED}"
    return f"expected a file that ends in {ends}, or like a camera's raw file"


def _system_libvips() -> bool:
    """Whether libvips is the system's and knows HEIF, by a libheif that usually has HEVC.

    pillow-heif brings a libheif of its own. Beside the system's it has crashed here.
    """
    return has("heifload") and not find_spec("_libvips")


def _decode_bmp(path: Path) -> Decoded:
    try:
        from PIL.BmpImagePlugin import BmpImageFile
    except ImportError:
        raise InputError(
            f"{path}: BMP needs Pillow: pip install 'glsgn-plugins[restore]'"
        ) from None
    try:
        with path.open("rb") as file:
            image = BmpImageFile(file)
            image.load()
            mode = "RGBA" if image.mode == "RGBA" else "RGB"
            return Decoded(np.asarray(image.convert(mode)))
    except (OSError, ValueError, SyntaxError, EOFError, IndexError) as error:
        raise InputError(f"{path}: damaged or no BMP ({error}); copy it again") from None
