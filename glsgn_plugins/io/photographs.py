"""Image files with all that they hold: 8 and 16 bits, alpha, ICC profile, EXIF and the rest.

Read and written by libvips, which keeps what Pillow (RGB of 16 bits) and OpenCV (metadata) drop.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glsgn_plugins.errors import InputError
from glsgn_plugins.io import exif, exr, formats, heif
from glsgn_plugins.io.atomic import atomic_write_into, write_error
from glsgn_plugins.io.decoded import Decoded
from glsgn_plugins.io.headers import Header, check_header, upright
from glsgn_plugins.io.headers import read_header as read_plain_header
from glsgn_plugins.io.libvips import reason_of, vips
from glsgn_plugins.io.png import add_chunks, is_srgb, told_by
from glsgn_plugins.io.profiles import Primaries

SAVERS: dict[str, dict[str, Any]] = {
    ".jpg": {"Q": 95, "subsample_mode": "off"},
    ".jpeg": {"Q": 95, "subsample_mode": "off"},
    ".png": {"compression": 6},
    ".tif": {"compression": "deflate", "predictor": "horizontal"},
    ".tiff": {"compression": "deflate", "predictor": "horizontal"},
    ".webp": {"Q": 95},
    # Effort 2 of 9: 4 takes five times as long at 4K, for files of the same size.
    ".avif": {"Q": 90, "effort": 2, "subsample_mode": "off"},
    ".jxl": {"Q": 95},
}
"""File names' ends, and how such files are written."""

JPEG = (".jpg", ".jpeg")
TIFF = (".tif", ".tiff")
UPRIGHT = (".avif", ".jxl")
"""Formats whose readers turn pictures by themselves; such files are written upright."""

DEEP = (".png", *TIFF)
"""Those that hold 16 bits."""

CLASSIC = 2**32 - 2**28
"""Bytes of pixels from which a TIFF is written as BigTIFF, whose offsets go beyond 4 GiB."""

LAYOUT = frozenset(
    (
        *("width", "height", "bands", "format", "coding", "interpretation", "filename"),
        *("vips-loader", "n-pages", "n-subifds", "page-height", "palette", "bits-per-sample"),
        *("heif-primary", "heif-compression", "heif-bitdepth"),
    )
)
"""Fields of an image that say how it was stored, and are no metadata."""

PNG_TEXT = "png-comment"
"""Likewise of a PNG's texts, which libvips takes for UTF-8: they are carried byte for byte."""

GAIN_MAP = "gainmap"
"""How the names of fields begin that hold an Ultra HDR picture's, from libvips 8.18 on."""

SIDES = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383, ".avif": 16384}
"""The largest height and width that a format's encoder writes."""

COMPARED = 1200
"""Pixels of either picture's width in a comparison, at the most."""

METADATA = {
    "icc-profile-data": "ICC profile",
    "exif-data": "EXIF",
    "xmp-data": "XMP",
    "iptc-data": "IPTC",
}


@dataclass(frozen=True)
class Photograph:
    """An image file that has been read.

    Attributes:
        pixels: ``(H, W, 3)``, RGB, uint8 or uint16, upright whatever the EXIF orientation; float32
            where ``light`` is told.
        alpha: Alpha and other channels as they are stored, ``(h, w, K)``, of the same type; or
            ``None``.
        grey: The file had one channel for all three.
        exif: As a block of bytes, or ``None``.
        about: What the file says of itself.
        header: The file as libvips sees it, with its metadata; of OpenEXR, as its package does.
        light: Of OpenEXR: ``pixels`` are light, of these primaries, and no colours as shown.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    exif: bytes | None
    about: Header
    header: Any
    light: Primaries | None = None


def read(path: Path) -> Photograph:
    """Read a file by what it holds, whatever its name.

    Raises:
        InputError: It can't be read, is cut short, damaged, or isn't grey or RGB of 1 to 16 bits.
    """
    header = formats.read_header(path)
    check_header(path, header)
    if header.kind == "OpenEXR":
        light, primaries, file = exr.read_exr(path)
        _check_size(path, light, header)
        return Photograph(light, None, False, None, header, file, primaries)
    if header.kind == "JPEG":
        header = read_plain_header(path, path.read_bytes())  # to its end, and what is behind that
        with suppress(ImportError):  # OpenCV is of another extra
            from glsgn_plugins.io.images import check_jpeg

            check_jpeg(path)
    decoded = formats.decode(path, header)
    fields = _by_libvips(path, header) if decoded is None else _fields_of(decoded)
    try:
        data = fields.numpy()
    except vips().Error as error:
        raise _damaged(path, header, error) from None
    if data.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: {fields.format} values; convert it to 8 or 16 bits")
    data = data.reshape(fields.height, fields.width, fields.bands)
    colours = 1 if header.channels.startswith("grey") else 3
    if header.kind in ("HEIC", "AVIF"):
        data = heif.full_range(data, header.bits)
        fields = _with_profile(fields, heif.profile_for(path, header.cicp))
        if colours == 1 and data.shape[2] > 2:  # libvips makes three of one
            data = np.concatenate([data[..., :1], data[..., 3:]], axis=2)
    if data.shape[2] < colours:
        raise InputError(f"{path}: {data.shape[2]} channels of {header.channels}; copy it again")
    extra = data[..., colours:] if data.shape[2] > colours else None
    colour = data[..., :colours]
    if colours == 1:
        colour = np.repeat(colour, 3, axis=2)
    block = fields.get("exif-data") if fields.get_typeof("exif-data") else None
    if block is not None and header.kind not in ("JPEG", "PNG", "WebP"):
        block = exif.turned_upright(block)
    if header.kind == "TIFF":
        block = exif.of_tiff(path)
    pixels = upright(colour, header.orientation)
    _check_size(path, pixels, header)
    return Photograph(pixels, extra, colours == 1, block, header, fields)


def _check_size(path: Path, pixels: np.ndarray, header: Header) -> None:
    if pixels.shape[:2] != (header.height, header.width):
        raise InputError(f"{path}: damaged, not the {header.size} that it names; copy it again")


def _by_libvips(path: Path, header: Header) -> Any:
    # libjpeg goes on after damage with a warning. Other loaders warn of less.
    fail_on = "warning" if header.kind == "JPEG" else "truncated"
    try:
        if _speakable(path):
            return vips().Image.new_from_file(str(path), fail_on=fail_on)
        return vips().Image.new_from_buffer(path.read_bytes(), "", fail_on=fail_on)
    except vips().Error as error:
        raise _damaged(path, header, error) from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check it") from None


def _damaged(path: Path, header: Header, error: Exception) -> InputError:
    if header.kind == "HEIC":  # a libvips without HEVC says of every file that it can't
        return InputError(f"{path}: damaged, or {heif.MISSING} ({reason_of(error)})")
    return InputError(f"{path}: damaged or no image ({reason_of(error)}); copy it again")


def _fields_of(decoded: Decoded) -> Any:
    """As libvips would have it, upright."""
    pyvips = vips()
    fields = pyvips.Image.new_from_array(np.ascontiguousarray(decoded.data)).copy()
    fields.set_type(pyvips.GValue.gint_type, "orientation", 1)
    for name, content in (
        ("exif-data", decoded.exif),
        ("icc-profile-data", decoded.icc),
        ("xmp-data", decoded.xmp),
    ):
        if content:
            fields.set_type(pyvips.GValue.blob_type, name, content)
    return fields


def _with_profile(fields: Any, profile: bytes | None) -> Any:
    if profile is None:
        return fields
    fields = fields.copy()
    fields.set_type(vips().GValue.blob_type, "icc-profile-data", profile)
    return fields


def read_mask(path: Path) -> np.ndarray:
    """A grey image as shares: black 0, white 1.

    Returns:
        ``(H, W)``, float32, upright.

    Raises:
        InputError: As of :func:`read`; or it has colours, and nobody can tell what they mean.
    """
    pixels = read(path).pixels
    if pixels.dtype == np.float32:
        raise InputError(f"{path}: OpenEXR; expected a grey image of 8 or 16 bits as a mask")
    if (pixels != pixels[..., :1]).any():
        raise InputError(
            f"{path}: a mask in colours; expected grey, white where the picture is to be restored"
        )
    return pixels[..., 0] / np.float32(np.iinfo(pixels.dtype).max)


def check_target(path: Path, photograph: Photograph) -> list[str]:
    """Whether a format holds what a photograph has; before the work, since it is known then.

    Args:
        path: What is to be written; its end says the format.
        photograph: What was read.

    Returns:
        What will be left out, that doesn't change the picture.

    Raises:
        InputError: The picture would become another, or the format can't hold it.
    """
    suffix, header = path.suffix.lower(), photograph.about
    formats.check_written(path)
    if photograph.light is not None and suffix != ".exr":
        raise InputError(
            f"{path}: the image has light without an upper end, which .exr alone holds; give "
            "that, or render it to PNG or TIFF first"
        )
    if photograph.light is None and suffix == ".exr":
        raise InputError(
            f"{path}: .exr holds light, and the image has colours as they are shown; give "
            f"{', '.join(DEEP)}"
        )
    left_out = [header.left_out] if header.left_out else []
    if photograph.light is not None:
        return left_out
    if any(name.startswith(GAIN_MAP) for name in _names(photograph.header)):
        # It says how much brighter an HDR screen shows each place of the picture as it was.
        left_out.append("the gain map of an HDR picture")
    deep = photograph.pixels.dtype == np.uint16
    if deep and suffix not in DEEP and not (suffix in UPRIGHT and _holds(suffix, header)):
        raise InputError(f"{path}: the image has 16 bits, which {', '.join(DEEP)} hold")
    side = SIDES.get(suffix)
    if side is not None and max(header.height, header.width) > side:
        raise InputError(
            f"{path}: {header.size}, but {suffix} holds sides of {side} at most; give "
            f"{', '.join(DEEP)}"
        )
    extra = photograph.alpha
    if extra is not None and suffix in JPEG:
        if extra.min() < np.iinfo(extra.dtype).max:
            raise InputError(
                f"{path}: JPEG holds no transparency (alpha), which the image has; give "
                f"{', '.join(DEEP)} or .webp"
            )
        left_out.append("an alpha channel that is opaque everywhere")
    if extra is not None and extra.shape[2] > 1 and suffix not in TIFF:
        raise InputError(f"{path}: {header.channels}, which .tif alone holds")
    if suffix != ".png" and not is_srgb(header.colour):
        raise InputError(
            f"{path}: the PNG tells its colours by {told_by(header.colour)}, which .png alone "
            "holds; give that format, or convert the image to sRGB first"
        )
    lost = _lost(path, photograph)
    if "ICC profile" in lost:
        raise InputError(
            f"{path}: {suffix} can't hold the ICC profile of {'grey ' * photograph.grey}pictures "
            "such as this, and colours would change; give .png or .tif"
        )
    if header.texts and suffix != ".png":
        left_out.append("the PNG's texts")
    return left_out + lost


def _holds(suffix: str, header: Header) -> bool:
    """Whether it holds a depth: AVIF has 12 bits at most, of which libvips 8.14 dies."""
    known = (vips().version(0), vips().version(1)) >= (8, 15)
    return suffix == ".jxl" or (known and header.bits in (10, 12))


def _lost(path: Path, photograph: Photograph) -> list[str]:
    """Metadata that don't come back from a small file of the same kind.

    Raises:
        InputError: Such a file can't be written.
    """
    before = photograph.header
    tiny = np.zeros((16, 16, 1 if photograph.grey else 3), photograph.pixels.dtype)
    suffix = path.suffix.lower()
    image = _with_metadata(tiny, photograph)
    try:
        content = image.write_to_buffer(suffix, **_saver(suffix, photograph))
        after = vips().Image.new_from_buffer(content, "")
    except vips().Error as error:
        raise InputError(f"{path}: can't be written ({reason_of(error)})") from None
    lost = [
        name
        for key, name in METADATA.items()
        if before.get_typeof(key) and not after.get_typeof(key) and key != "exif-data"
    ]
    if photograph.exif is not None and suffix not in TIFF and not after.get_typeof("exif-data"):
        lost.append("EXIF")
    return lost


def _saver(suffix: str, photograph: Photograph) -> dict[str, Any]:
    if suffix == ".webp" and photograph.about.kind == "WebP" and photograph.about.lossless:
        return {"lossless": True}
    if suffix == ".avif" and photograph.pixels.dtype == np.uint16:
        return {**SAVERS[suffix], "bitdepth": photograph.about.bits}
    return SAVERS[suffix]


def image_of(pixels: np.ndarray, grey: bool = False) -> Any:
    """An array as an image of libvips', which is told what its numbers stand for.

    Args:
        pixels: ``(H, W, C)``, uint8 or uint16: grey or sRGB, and other channels behind that.
        grey: The first channel alone has the picture.
    """
    kinds = ("b-w", "grey16") if grey else ("srgb", "rgb16")
    image = vips().Image.new_from_array(np.ascontiguousarray(pixels))
    return image.copy(interpretation=kinds[pixels.dtype == np.uint16])


def _names(image: Any) -> list[str]:
    """Names of what libvips read beside the pixels."""
    try:
        return list(image.get_fields())
    except UnicodeDecodeError:  # a PNG's text has one in Latin-1
        return [name for name in (*METADATA, "orientation") if image.get_typeof(name)]


def _with_metadata(data: np.ndarray, photograph: Photograph) -> Any:
    """An image of libvips' with everything of a photograph but its pixels."""
    pyvips, fields = vips(), photograph.header
    image = image_of(data, photograph.grey).copy(xres=fields.xres, yres=fields.yres)
    for name in _names(fields):
        if name not in LAYOUT and not name.startswith((GAIN_MAP, PNG_TEXT)):
            image.set_type(fields.get_typeof(name), name, fields.get(name))
    if photograph.exif is not None:
        image.set_type(pyvips.GValue.blob_type, "exif-data", photograph.exif)
    return image


def write(path: Path, photograph: Photograph, pixels: np.ndarray) -> None:
    """Write ``pixels``, upright as :func:`read` gave them, with everything else as it was.

    The file appears whole or not at all.

    Args:
        path: Its end says the format; :func:`check_target` has let it pass.
        photograph: What was read.
        pixels: ``(H, W, 3)``, uint8 or uint16 as in ``photograph``.

    Raises:
        InputError: It can't be written there.
    """
    suffix = path.suffix.lower()
    if photograph.light is not None:
        _write_exr(path, photograph, pixels)
        return
    orientation, alpha = photograph.about.orientation, photograph.alpha
    if suffix in UPRIGHT:
        data = pixels
        alpha = None if alpha is None else upright(alpha, orientation)
    else:  # what was turned, turned back: a quarter turn is undone by the other one
        data = upright(pixels, {6: 8, 8: 6}.get(orientation, orientation))
    if photograph.grey:
        data = np.rint(data.mean(axis=2, keepdims=True, dtype=np.float32)).astype(data.dtype)
    if alpha is not None and suffix not in JPEG:
        data = np.concatenate([data, alpha], axis=2)
    if suffix == ".avif" and data.dtype == np.uint16:
        data = heif.upper_bits(data, photograph.about.bits)
    image = _with_metadata(data, photograph)
    if suffix in UPRIGHT:
        image.set_type(vips().GValue.gint_type, "orientation", 1)
    more = {"bigtiff": data.nbytes > CLASSIC} if suffix in TIFF else {}
    try:
        with atomic_write_into(path.parent) as scratch:
            file = scratch / path.name
            _save(image, file, **_saver(suffix, photograph), **more)
            if suffix in TIFF and photograph.exif is not None:
                exif.into_tiff(file, photograph.exif)
            if suffix == ".png":
                add_chunks(file, photograph.about)
    except vips().Error as error:
        raise InputError(f"{path}: can't be written ({reason_of(error)})") from None
    except OSError as error:
        raise write_error(path, error) from None


def _write_exr(path: Path, photograph: Photograph, light: np.ndarray) -> None:
    try:
        with atomic_write_into(path.parent) as scratch:
            exr.write_exr(scratch / path.name, photograph.header, light)
    except OSError as error:
        raise write_error(path, error) from None


def _speakable(path: Path) -> bool:
    """Whether pyvips takes the name: one that is no UTF-8, of an old archive say, it doesn't."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def _save(image: Any, file: Path, **options: Any) -> None:
    if _speakable(file):
        image.write_to_file(str(file), **options)
    else:
        file.write_bytes(image.write_to_buffer(file.suffix, **options))


def compare(path: Path, before: np.ndarray, after: np.ndarray) -> None:
    """Write both beside each other, each at most :data:`COMPARED` pixels wide."""
    pyvips = vips()
    sides = []
    for pixels in (before, after):
        image = image_of(pixels).colourspace("srgb")
        # Well within what JPEG holds.
        sides.append(image.resize(min(1, COMPARED / image.width, 2**15 / image.height)))
    joined = sides[0].join(sides[1], "horizontal", shim=8, background=[255])
    try:
        with atomic_write_into(path.parent) as scratch:
            _save(joined, scratch / path.name, Q=92)
    except pyvips.Error as error:
        raise InputError(f"{path}: can't be written ({reason_of(error)})") from None
    except OSError as error:
        raise write_error(path, error) from None
