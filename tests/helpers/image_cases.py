"""Image files of every kind that the readers meet: formats, depths, layouts and metadata."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyvips
import tifffile
from demo_data import photo
from PIL import Image

from glsgn_plugins.io.headers import upright
from glsgn_plugins.io.images import read_image

Array = np.ndarray


class Case(NamedTuple):
    """A file to be written, and what is to be read.

    Attributes:
        name: With its extension.
        write: Makes the file at a path.
        pixels: ``(H, W, 3)``; ``None`` where it must be refused.
        near: Largest difference that the format's own loss may make.
        restored: ``glsgn restore`` reads it, too; else it refuses it.
    """

    name: str
    write: Callable[[Path], Any]
    pixels: Array | None
    near: float = 0
    restored: bool = True


def picture(height: int = 37, width: int = 53, dtype: Any = np.uint8) -> Array:
    """Part of a photograph: ``(height, width, 3)``, odd sides."""
    image = read_image(photo("coffee.png"))[100 : 100 + height, 100 : 100 + width]
    if dtype == np.uint8:
        return np.ascontiguousarray(image)
    return image.astype(np.uint16) * 257 - image[::-1] // 2  # uses the lower bits, too


def grey_of(image: Array) -> Array:
    return image[..., 1]


def as_rgb(grey: Array) -> Array:
    return np.repeat(grey[..., None], 3, axis=2)


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def by_pillow(image: Image.Image, **options: Any) -> Callable[[Path], None]:
    return lambda path: image.save(path, **options)


def by_tifffile(data: Array, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, data, **options)


def by_vips(data: Array, kind: str, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        image = pyvips.Image.new_from_array(np.ascontiguousarray(data))
        image.copy(interpretation=kind).write_to_file(str(path), **options)

    return write


def by_opencv(data: Array, **options: Any) -> Callable[[Path], None]:
    return lambda path: cv2.imwrite(str(path), data)


def pngs() -> Iterator[Case]:
    rgb, deep = picture(), picture(dtype=np.uint16)
    alpha = np.linspace(0, 255, rgb.shape[1]).astype(np.uint8)[None].repeat(len(rgb), 0)
    for orientation in range(9):
        more = {"exif": exif(orientation)} if orientation else {}
        turned = upright(rgb, orientation)
        yield Case(f"rgb-{orientation}.png", by_pillow(Image.fromarray(rgb), **more), turned)
        yield Case(
            f"alpha-{orientation}.png",
            by_pillow(Image.fromarray(np.dstack([rgb, alpha])), **more),
            turned,
        )
    grey = grey_of(rgb)
    yield Case("grey.png", by_pillow(Image.fromarray(grey)), as_rgb(grey))
    la = Image.fromarray(np.dstack([grey, alpha]), "LA")
    yield Case("grey-alpha.png", by_pillow(la), as_rgb(grey))
    yield Case("grey-16.png", by_vips(grey_of(deep)[..., None], "grey16"), as_rgb(grey_of(deep)))
    yield Case("rgb-16.png", by_vips(deep, "rgb16"), deep)
    alpha16 = np.dstack([deep, alpha.astype(np.uint16) * 257])
    yield Case("rgba-16.png", by_vips(alpha16, "rgb16"), deep)
    yield Case("interlaced.png", by_vips(rgb, "srgb", interlace=True), rgb)
    yield Case("interlaced-16.png", by_vips(deep, "rgb16", interlace=True), deep)
    black = (grey > 127).astype(np.uint8) * 255
    yield Case(
        "one-bit.png", by_pillow(Image.fromarray(black).convert("1", dither=0)), as_rgb(black)
    )
    for bits in (2, 4):
        few = (grey >> (8 - bits)) * (255 // (2**bits - 1))
        save = by_vips(few[..., None], "b-w", bitdepth=bits, palette=False)
        yield Case(f"grey-{bits}.png", save, as_rgb(few.astype(np.uint8)))
    for colours in (2, 16, 256):
        palette = Image.fromarray(rgb).quantize(colours)
        yield Case(f"palette-{colours}.png", by_pillow(palette), np.asarray(palette.convert("RGB")))
        yield Case(
            f"palette-transparent-{colours}.png",
            by_pillow(palette, transparency=0),
            np.asarray(palette.convert("RGB")),
        )
    transparent = Image.fromarray(rgb)
    yield Case(
        "colour-key.png", by_pillow(transparent, transparency=tuple(map(int, rgb[0, 0]))), rgb
    )
    frames = [Image.fromarray(np.roll(rgb, k, axis=1)) for k in range(3)]
    yield Case("moving.png", by_pillow(frames[0], save_all=True, append_images=frames[1:]), None)


def jpegs() -> Iterator[Case]:
    rgb = picture(91, 83)
    for sub, quality, progressive in itertools.product((0, 1, 2), (60, 95), (False, True)):
        more = {"quality": quality, "subsampling": sub, "progressive": progressive}
        image = Image.fromarray(rgb)
        name = f"{sub}-{quality}-{'p' if progressive else 'b'}.jpg"
        yield Case(name, by_pillow(image, **more), rgb, near=12)
    for orientation in range(1, 9):
        save = by_pillow(Image.fromarray(rgb), quality=98, exif=exif(orientation))
        yield Case(f"turned-{orientation}.jpg", save, upright(rgb, orientation), near=6)
    grey = grey_of(rgb)
    yield Case("grey.jpg", by_pillow(Image.fromarray(grey), quality=98), as_rgb(grey), near=4)
    yield Case("cmyk.jpg", by_pillow(Image.fromarray(rgb).convert("CMYK")), None)
    for restart in (1, 4):
        save = by_vips(rgb, "srgb", Q=98, restart_interval=restart)
        yield Case(f"restart-{restart}.jpg", save, rgb, near=8)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=98, subsampling=0)
    whole = file.getvalue()
    film = np.random.default_rng(0).bytes(20000)
    for name, content in (
        ("motion", whole + b"\0\0\0\x18ftypmp42" + film),
        ("zeros-behind", whole + bytes(9000)),
        ("second-picture", whole + whole),
        ("two-and-film", whole + whole[:-2] + film),
    ):
        yield Case(f"{name}.jpg", lambda path, c=content: path.write_bytes(c), rgb, near=6)
    for share in (0.3, 0.7, 0.99):
        cut = whole[: int(len(whole) * share)]
        yield Case(f"cut-{share}.jpg", lambda path, c=cut: path.write_bytes(c), None)
        yield Case(
            f"cut-film-{share}.jpg", lambda path, c=cut: path.write_bytes(c + bytes(99)), None
        )


def webps() -> Iterator[Case]:
    rgb = picture()
    alpha = np.full(rgb.shape[:2], 130, np.uint8)
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    for orientation in range(9):
        more = {"exif": exif(orientation)} if orientation else {}
        turned = upright(rgb, orientation)
        for lossless in (True, False):
            more["lossless"] = lossless
            near = 0 if lossless else 20
            name = f"{'lossless' if lossless else 'lossy'}-{orientation}.webp"
            yield Case(name, by_pillow(Image.fromarray(rgb), quality=95, **more), turned, near)
            save = by_pillow(rgba, quality=95, exact=True, **more)
            yield Case(f"alpha-{name}", save, turned, near)
    frames = [Image.fromarray(np.roll(rgb, k, axis=1)) for k in range(3)]
    yield Case("moving.webp", by_pillow(frames[0], save_all=True, append_images=frames[1:]), None)


def tiffs() -> Iterator[Case]:
    for dtype, order, pack, tile, planes, big in itertools.product(
        (np.uint8, np.uint16),
        ("<", ">"),
        (None, "lzw", "deflate", "packbits"),
        (None, (16, 16)),
        ("contig", "separate"),
        (False, True),
    ):
        rgb = picture(dtype=dtype)
        bits = 8 * np.dtype(dtype).itemsize
        more = {"byteorder": order, "tile": tile, "bigtiff": big}
        if pack in ("lzw", "packbits"):  # tifffile packs these by another package
            if order == ">" or big or planes == "separate":
                continue
            save = by_vips(
                rgb, "srgb" if bits == 8 else "rgb16", compression=pack, tile=tile is not None
            )
        else:
            data = rgb if planes == "contig" else np.moveaxis(rgb, -1, 0)
            save = by_tifffile(
                data, photometric="rgb", planarconfig=planes, compression=pack and "zlib", **more
            )
        name = f"rgb-{bits}-{'le' if order == '<' else 'be'}-{pack}-{bool(tile)}-{planes}-{big}.tif"
        # libvips has no planes that lie apart in tiles; nor has Pillow 16 bits of colour.
        apart = tile is not None and planes == "separate"
        yield Case(name, save, None if apart and bits == 16 else rgb, restored=not apart)
    for bits, kind in itertools.product((8, 16), ("minisblack", "miniswhite")):
        grey = grey_of(picture(dtype=np.uint8 if bits == 8 else np.uint16))
        shown = grey if kind == "minisblack" else np.iinfo(grey.dtype).max - grey
        for pack in (None, "zlib"):
            save = by_tifffile(grey, photometric=kind, compression=pack)
            yield Case(f"{kind}-{bits}-{pack}.tif", save, as_rgb(shown))
    for bits, extras in itertools.product((8, 16), (("unassalpha",), ("assocalpha",), (0, 0))):
        rgb = picture(dtype=np.uint8 if bits == 8 else np.uint16)
        more = np.full((*rgb.shape[:2], len(extras)), 90, rgb.dtype)
        save = by_tifffile(np.dstack([rgb, more]), photometric="rgb", extrasamples=extras)
        # Which colour was multiplied by its alpha, nobody can tell where that is 0.
        wanted = None if extras == ("assocalpha",) else rgb
        yield Case(f"extra-{bits}-{extras[0]}-{len(extras)}.tif", save, wanted)
    rgb, deep = picture(), picture(dtype=np.uint16)
    for orientation in range(1, 9):
        for image in (rgb, deep):
            save = by_tifffile(
                image, photometric="rgb", extratags=[(274, "H", 1, orientation, True)]
            )
            bits = 8 * image.dtype.itemsize
            yield Case(f"turned-{bits}-{orientation}.tif", save, upright(image, orientation))
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    yield Case("lab.tif", by_tifffile(lab, photometric="cielab"), None)
    yield Case("lab-16.tif", by_tifffile(lab.astype(np.uint16) * 256, photometric="cielab"), None)
    cmyk = np.asarray(Image.fromarray(rgb).convert("CMYK"))
    yield Case("cmyk.tif", by_tifffile(cmyk, photometric="separated"), None)
    for dtype in (np.float16, np.float32, np.float64, np.int8, np.int16, np.uint32, np.int32):
        save = by_tifffile((rgb // 2).astype(dtype), photometric="rgb")
        yield Case(f"values-{np.dtype(dtype)}.tif", save, None)
    palette = Image.fromarray(rgb).quantize(256)
    yield Case("palette.tif", by_pillow(palette), np.asarray(palette.convert("RGB")))
    black = (grey_of(rgb) > 127).astype(np.uint8) * 255
    one = Image.fromarray(black).convert("1", dither=0)
    for pack in ("raw", "group4", "packbits"):
        yield Case(f"one-bit-{pack}.tif", by_pillow(one, compression=pack), as_rgb(black))
    jpeg = by_vips(picture(64, 80), "srgb", compression="jpeg", Q=98)
    yield Case("jpeg-inside.tif", jpeg, picture(64, 80), near=8)
    pages = [Image.fromarray(rgb)] * 2
    yield Case("pages.tif", by_pillow(pages[0], save_all=True, append_images=pages[1:]), None)

    def with_smaller(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            file.write(rgb, photometric="rgb")
            for step in (2, 4):
                file.write(rgb[::step, ::step].copy(), photometric="rgb", subfiletype=1)

    yield Case("pyramid.tif", with_smaller, rgb)

    def smaller_first(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            file.write(rgb[::4, ::4].copy(), photometric="rgb", subfiletype=1)
            file.write(rgb, photometric="rgb")

    yield Case("raw-file.tif", smaller_first, None)


def bmps() -> Iterator[Case]:
    rgb = picture()
    yield Case("rgb.bmp", by_pillow(Image.fromarray(rgb)), rgb)
    grey = grey_of(rgb)
    yield Case("grey.bmp", by_pillow(Image.fromarray(grey)), as_rgb(grey))
    palette = Image.fromarray(rgb).quantize(256)
    shown = np.asarray(palette.convert("RGB"))
    yield Case("palette.bmp", by_pillow(palette), shown)


def cases() -> list[Case]:
    """All of them; names are unique."""
    return [*pngs(), *jpegs(), *webps(), *tiffs(), *bmps()]


def icc() -> bytes:
    """A real profile, as libvips embeds it."""
    black = pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb")
    image = black.icc_transform("p3", input_profile="srgb")
    return image.get("icc-profile-data")
