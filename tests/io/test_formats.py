"""Formats beyond those of sets: HEIC, AVIF, JPEG XL, BMP, OpenEXR, raw; through the command.

Those whose package isn't installed are skipped here; that they are named, with the remedy, is held
without it.
"""

import io
import struct

import numpy as np
import pytest
import pyvips
import tifffile
from image_cases import exif, icc, picture
from PIL import Image, features

from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.colour import colours_of, restore_photograph
from glsgn_plugins.io import formats, photographs, profiles
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_glsgn

SIZE = (64, 80)
OLD = (pyvips.version(0), pyvips.version(1)) < (8, 15)
needs_avif = pytest.mark.skipif(
    not pyvips.type_find("VipsOperation", "heifsave"), reason="this libvips writes no AVIF"
)


def command(*argv):
    return main(["restore", *map(str, argv), "--device", "cpu"])


def vips_image(data, **fields):
    deep = data.dtype == np.uint16
    image = pyvips.Image.new_from_array(data).copy(interpretation="rgb16" if deep else "srgb")
    if "icc" in fields:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", fields["icc"])
    if "orientation" in fields:
        image.set_type(pyvips.GValue.gint_type, "orientation", fields["orientation"])
    return image


def avif(path, data, **fields):
    deep = {"bitdepth": 10} if data.dtype == np.uint16 else {}
    vips_image(data, **fields).write_to_file(str(path), Q=98, subsample_mode="off", **deep)
    return path


def expected(weights, path):
    """What the command is to make of a file; how colours go is tested elsewhere."""
    photograph = photographs.read(path)
    return restore_photograph(read_glsgn(weights), photograph, colours_of(photograph, path))


def mean_difference(one, two):
    assert one.shape == two.shape
    return np.abs(one.astype(float) - two).mean()


@needs_avif
def test_avif_keeps_profile_alpha_and_pixels(weights, tmp_path):
    rgb = picture(*SIZE)
    path = avif(tmp_path / "a.avif", np.dstack([rgb, rgb[::-1, :, 0]]), icc=icc())
    header = formats.read_header(path)
    assert (header.kind, header.height, header.width, header.bits) == ("AVIF", *SIZE, 8)
    assert header.channels == "RGB with transparency"
    assert command(path, tmp_path / "out", "--weights", weights) == 0
    before, after = photographs.read(path), photographs.read(tmp_path / "out" / "a.avif")
    assert mean_difference(before.pixels, rgb) < 2
    assert np.array_equal(before.alpha[..., 0], rgb[::-1, :, 0]) or (
        mean_difference(before.alpha[..., 0], rgb[::-1, :, 0]) < 2
    )
    assert mean_difference(after.alpha, before.alpha) < 3
    assert after.header.get("icc-profile-data") == icc()
    wanted = expected(weights, path)
    assert mean_difference(wanted, before.pixels) > 5
    assert mean_difference(after.pixels, wanted) < 5


@needs_avif
def test_avif_of_ten_bits_has_white_where_it_was(weights, tmp_path, capsys):
    data = picture(*SIZE, dtype=np.uint16)
    data[:16] = 65535
    if OLD:
        pytest.skip("libvips 8.14 dies of it")
    try:
        path = avif(tmp_path / "a.avif", data)
    except pyvips.Error as error:
        pytest.skip(f"this libvips: {error}")
    before = photographs.read(path)
    assert (before.about.bits, before.pixels.dtype) == (10, np.uint16)
    assert before.pixels[:8].min() > 65535 * 0.995
    assert before.pixels.max() == 65535
    assert command(path, tmp_path / "b.avif", "--weights", weights, "--strength", 0) == 0
    assert (tmp_path / "b.avif").read_bytes() == path.read_bytes()
    assert command(path, tmp_path / "c.avif", "--weights", weights) == 0
    after = photographs.read(tmp_path / "c.avif")
    assert after.about.bits == 10
    assert mean_difference(after.pixels, expected(weights, path)) < 5 * 257
    assert command(path, tmp_path / "d.jpg", "--weights", weights) == 1
    assert "16 bits, which .png, .tif, .tiff hold" in capsys.readouterr().err
    assert command(path, tmp_path / "d.tif", "--weights", weights) == 0


@needs_avif
@pytest.mark.parametrize("orientation", [1, 2, 6, 7])
def test_avif_is_written_upright(orientation, weights, tmp_path):
    rgb = picture(*SIZE)
    source = tmp_path / "a.png"
    vips_image(np.dstack([rgb, rgb[..., 1]]), orientation=orientation).write_to_file(str(source))
    assert command(source, tmp_path / "a.avif", "--weights", weights, "--strength", 0) == 0
    before, after = photographs.read(source), photographs.read(tmp_path / "a.avif")
    assert after.about.orientation == 1
    assert mean_difference(after.pixels, before.pixels) < 3
    shown = pyvips.Image.new_from_file(str(source)).autorot().numpy()
    assert mean_difference(after.alpha[..., 0], shown[..., 3]) < 3
    # And back, where EXIF could turn it once more.
    assert command(tmp_path / "a.avif", tmp_path / "b.png", "--weights", weights) == 0
    back = photographs.read(tmp_path / "b.png")
    assert back.about.orientation == 1
    assert back.pixels.shape == before.pixels.shape


def with_cicp(path, primaries, transfer):
    content = path.read_bytes()
    at = content.index(b"nclx") + 4
    path.write_bytes(content[:at] + struct.pack(">HH", primaries, transfer) + content[at + 4 :])


@needs_avif
@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_avif_that_tells_its_colours_by_numbers(weights, tmp_path, capsys):
    path = tmp_path / "a.avif"
    Image.fromarray(picture(*SIZE)).save(path, quality=95)
    assert colours_of(photographs.read(path), path) is None
    with_cicp(path, 12, 13)
    colours = colours_of(photographs.read(path), path)
    assert colours.profile == profiles.matrix_profile(profiles.DISPLAY_P3, profiles.SRGB_CURVE)
    assert command(path, tmp_path / "out", "--weights", weights) == 0
    kept = photographs.read(tmp_path / "out" / "a.avif").header.get("icc-profile-data")
    assert kept == colours.profile
    with_cicp(path, 9, 16)
    assert command(path, tmp_path / "b.png", "--weights", weights) == 1
    assert f"{path}: colours of kind 9/16 (CICP), HDR perhaps; convert" in capsys.readouterr().err


@needs_avif
def test_avif_that_is_cut_short_or_has_another_name(weights, tmp_path, capsys):
    path = avif(tmp_path / "a.avif", picture(*SIZE))
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.99):
        cut = tmp_path / f"cut-{share}.avif"
        cut.write_bytes(whole[: int(share * len(whole))])
        assert command(cut, tmp_path / "out", "--weights", weights) == 1
        assert f"{cut}: " in capsys.readouterr().err
    named = tmp_path / "really.jpg"
    named.write_bytes(whole)
    assert command(named, tmp_path / "out", "--weights", weights) == 0
    assert photographs.read(tmp_path / "out" / "really.jpg").about.kind == "JPEG"
    with pytest.raises(InputError, match=r"really\.jpg: .*it is AVIF, which glsgn restore reads"):
        read_image(named)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["really.jpg"]


def test_bmp_becomes_png_with_all_its_pixels(weights, tmp_path):
    rgb = picture(*SIZE)
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(rgb).save(source / "a.bmp")
    Image.fromarray(rgb).quantize(64).save(source / "few.bmp")
    assert command(source, tmp_path / "out", "--weights", weights, "--strength", 0) == 0
    assert np.array_equal(photographs.read(tmp_path / "out" / "a.png").pixels, rgb)
    few = np.asarray(Image.open(source / "few.bmp").convert("RGB"))
    assert np.array_equal(photographs.read(tmp_path / "out" / "few.png").pixels, few)
    (source / "cut.bmp").write_bytes((source / "a.bmp").read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cut\.bmp: cut short"):
        formats.read_header(source / "cut.bmp")


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("a.pdf", b"%PDF-1.7\n", "PDF, a document; take its pictures out"),
        ("a.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "a film; photographs are restored"),
        ("a.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a film; photographs are restored"),
        ("a.mkv", b"\x1aE\xdf\xa3\x01\0\0\0", "a film; photographs are restored"),
        ("a.avi", b"RIFF\0\0\0\0AVI LIST", "a film; photographs are restored"),
        ("a.gif", b"GIF89a", "GIF, of 256 colours; convert it"),
        ("a.psd", b"8BPS\0\1", "Photoshop's format; save it as a flat TIFF"),
        ("a.svg", b"<svg xmlns=''>", "SVG, a drawing; render it to PNG"),
        ("a.zip", b"PK\x03\x04", "a ZIP archive; unpack it"),
        ("a.txt", b"hello", "expected a file that ends in .jpg"),
    ],
)
def test_other_files_get_one_clear_line(name, start, said, weights, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(start + bytes(200))
    assert command(path, tmp_path / "out", "--weights", weights) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"{path}: {said}" in lines[0]
    if not said.startswith("expected"):  # and where its name says something else
        path = path.rename(tmp_path / "a.jpg")
        assert command(path, tmp_path / "out", "--weights", weights) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert f"{path}: not an image that can be read (it is {said.split(';')[0]}" in lines[0]


OPTIONAL = {"pillow_heif": ".heic", "pillow_jxl": ".jxl", "OpenEXR": ".exr", "rawpy": ".nef"}


def test_packages_that_are_missing_are_named(weights, tmp_path, capsys, monkeypatch):
    there = formats.find_spec
    monkeypatch.setattr(formats, "find_spec", lambda n: None if n in OPTIONAL else there(n))
    monkeypatch.setattr(formats, "_system_libvips", lambda: False)
    has = formats.has
    monkeypatch.setattr(formats, "has", lambda name: "jxl" not in name and has(name))
    source = tmp_path / "in"
    source.mkdir()
    for end in OPTIONAL.values():
        (source / f"a{end}").write_bytes(b"whatever")
        assert command(source / f"a{end}", tmp_path / "out", "--weights", weights) == 2
        said = capsys.readouterr().err
        assert f"{source / 'a'}{end}: " in said
        assert "pip install 'glsgn-plugins[" in said
    assert command(source, tmp_path / "out", "--weights", weights) == 2
    assert "holds no images" in capsys.readouterr().err
    Image.fromarray(picture(*SIZE)).save(source / "good.png")
    assert command(source, tmp_path / "out", "--weights", weights) == 0
    said = capsys.readouterr().err
    assert all(f"left out 1 {end}, which isn't read" in said for end in OPTIONAL.values())
    for end, reason in (
        (".jxl", "writes no .jxl"),
        (".exr", "pip install"),
        (".heic", "isn't wri"),
    ):
        assert command(source / "good.png", tmp_path / f"b{end}", "--weights", weights) == 2
        assert reason in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]


def heif_encoder():
    if formats._system_libvips():
        pytest.skip("a second libheif in one process, beside the system's")
    return pytest.importorskip("pillow_heif", reason="pillow-heif isn't installed")


def test_heic_of_phones(weights, tmp_path):
    pillow_heif = heif_encoder()
    rgb = picture(*SIZE)
    block = Image.Exif()
    block[0x0110] = "a phone"
    block[0x0112] = 6  # phones leave it, beside the box that turns
    path = tmp_path / "a.heic"
    image = pillow_heif.from_pillow(Image.fromarray(rgb))
    image.save(path, quality=95, exif=block.tobytes(), icc_profile=icc())
    header = formats.read_header(path)
    assert (header.kind, header.width, header.height) == ("HEIC", *SIZE)
    before = photographs.read(path)
    assert mean_difference(before.pixels, np.rot90(rgb, -1)) < 8
    assert command(path, tmp_path / "out", "--weights", weights) == 0
    after = photographs.read(tmp_path / "out" / "a.png")
    assert after.about.orientation == 1
    assert after.header.get("icc-profile-data") == icc()
    assert Image.open(tmp_path / "out" / "a.png").getexif()[0x0110] == "a phone"
    assert np.abs(after.pixels.astype(int) - expected(weights, path)).max() <= 1
    (tmp_path / "cut.heic").write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"cut\.heic: cut short"):
        photographs.read(tmp_path / "cut.heic")
    content = bytearray(path.read_bytes())
    content[-2000:-500] = bytes(1500)
    (tmp_path / "bad.heic").write_bytes(content)
    assert command(tmp_path / "bad.heic", tmp_path / "out", "--weights", weights) in (0, 1)


def test_heic_of_ten_bits(tmp_path):
    pillow_heif = heif_encoder()
    deep = picture(*SIZE, dtype=np.uint16)
    deep[:16] = 65535
    path = tmp_path / "a.heic"
    with path.open("wb") as file:
        pillow_heif.encode("RGB;16", SIZE[::-1], deep.tobytes(), file, quality=95)
    found = photographs.read(path)
    assert (found.about.bits, found.pixels.dtype) == (10, np.uint16)
    assert mean_difference(found.pixels, deep) < 3 * 257
    assert found.pixels[:8].min() > 65535 * 0.99


def jxl(path, image, **options):
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin isn't installed")
    image.save(path, lossless=True, **options)
    return path


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "grey of 16 bits"])
@pytest.mark.parametrize("size", [(37, 53), (90, 120)])
def test_jpeg_xl(kind, size, tmp_path):
    rgb = picture(*size)
    if kind == "grey of 16 bits":
        data = picture(*size, dtype=np.uint16)[..., 0]
        image = Image.fromarray(data)
    else:
        image = Image.fromarray(rgb).convert(kind)
        data = np.asarray(image)
    path = jxl(tmp_path / "a.jxl", image, exif=exif(6))
    header = formats.read_header(path)
    assert (header.kind, header.height, header.width) == ("JPEG XL", *size)
    found = photographs.read(path)
    data = data.reshape(*size, -1)
    assert found.grey == (data.shape[2] == 1)
    assert found.pixels.dtype == data.dtype
    assert np.array_equal(found.pixels, np.broadcast_to(data[..., :3], (*size, 3)))
    # The plugin writes 16 bits as light. libvips 8.14 takes no profile for sRGB.
    if kind != "grey of 16 bits" and not OLD:
        assert colours_of(found, path) is None
    assert (found.alpha is not None) == (kind == "RGBA")


def test_jpeg_xl_through_the_command(weights, tmp_path, capsys):
    rgb = picture(*SIZE)
    path = jxl(tmp_path / "a.jxl", Image.fromarray(rgb), exif=exif(6))
    target = "a.jxl" if formats.has("jxlsave") else "a.png"
    assert command(path, tmp_path / "out", "--weights", weights) == 0
    after = photographs.read(tmp_path / "out" / target)
    wanted = expected(weights, path)
    assert mean_difference(wanted, rgb) > 14
    # JPEG XL, as it is written, loses much of the noise that this network makes.
    assert mean_difference(after.pixels, wanted) < (12 if "jxl" in target else 0.5)
    assert after.about.orientation == 1
    source = io.BytesIO()
    Image.fromarray(rgb).save(source, "JPEG", quality=98, subsampling=0)
    (tmp_path / "b.jpg").write_bytes(source.getvalue())
    with Image.open(tmp_path / "b.jpg") as packed:
        packed.save(tmp_path / "b.jxl", lossless_jpeg=True)
    found = photographs.read(tmp_path / "b.jxl").pixels
    assert mean_difference(found, photographs.read(tmp_path / "b.jpg").pixels) < 1
    (tmp_path / "cut.jxl").write_bytes(path.read_bytes()[:-300])
    assert command(tmp_path / "cut.jxl", tmp_path / "out", "--weights", weights) == 1
    assert f"{tmp_path / 'cut.jxl'}: " in capsys.readouterr().err


def exr(path, light, **channels):
    openexr = pytest.importorskip("OpenEXR", reason="the OpenEXR package isn't installed")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    with openexr.File({**header, "owner": "me"}, {"RGB": light, **channels}) as file:
        file.write(str(path))
    return path


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_openexr_keeps_light_beyond_white_and_other_channels(kind, weights, tmp_path, capsys):
    rgb = picture(*SIZE)
    light = profiles.light_of(rgb / 255).astype(kind)
    light[:8, :8] = 40
    light[20, 20] = np.inf
    depth = np.arange(light[..., 0].size, dtype=np.float32).reshape(SIZE)
    path = exr(tmp_path / "a.exr", light, Z=depth)
    assert command(path, tmp_path / "none", "--weights", weights, "--strength", 0) == 0
    assert (tmp_path / "none" / "a.exr").read_bytes() == path.read_bytes()
    assert command(path, tmp_path / "out", "--weights", weights, "--compare") == 0
    before, after = (photographs.read(p) for p in (path, tmp_path / "out" / "a.exr"))
    assert after.header.header()["owner"] == "me"
    assert np.array_equal(after.header.channels()["Z"].pixels, depth)
    assert after.header.channels()["R"].pixels.dtype == kind
    shown = colours_of(before, path).to_srgb(before.pixels)
    assert np.abs(shown[30:] / 257 - rgb[30:]).max() < (0.3 if kind == np.float16 else 0.01)
    wanted = expected(weights, path)
    assert np.allclose(after.pixels, wanted, rtol=2e-3, atol=2e-3)
    assert np.abs(wanted[30:] - before.pixels[30:]).mean() > 0.01
    assert after.pixels[4, 4].min() > 38
    assert np.isinf(after.pixels[20, 20]).all()
    assert command(path, tmp_path / "b.png", "--weights", weights) == 1
    assert "has light without an upper end, which .exr alone holds" in capsys.readouterr().err
    Image.fromarray(rgb).save(tmp_path / "c.png")
    assert command(tmp_path / "c.png", tmp_path / "c.exr", "--weights", weights) == 1
    assert ".exr holds light, and the image has colours" in capsys.readouterr().err


def test_openexr_that_is_not_whole_or_not_a_picture(tmp_path):
    light = profiles.light_of(picture(*SIZE) / 255).astype(np.float32)
    path = exr(tmp_path / "a.exr", light)
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.9, 0.999):
        (tmp_path / "cut.exr").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"cut\.exr: cut short"):
            photographs.read(tmp_path / "cut.exr")
    bad = bytearray(whole)
    bad[len(bad) // 2 : len(bad) // 2 + 200] = bytes(200)
    (tmp_path / "bad.exr").write_bytes(bad)
    with pytest.raises(InputError, match=r"bad\.exr: damaged"):
        photographs.read(tmp_path / "bad.exr")
    half = np.full(SIZE, 0.5, np.float32)
    with pytest.raises(InputError, match="multiplied by their transparency"):
        photographs.read(exr(tmp_path / "clear.exr", light, A=half))
    assert photographs.read(exr(tmp_path / "solid.exr", light, A=half * 2)).light is not None


def dng(path, light, orientation=1):
    """A raw file of RGGB samples as a camera would write it, whose sensor sees linear sRGB."""
    value = np.rint(light * 65535).astype(np.uint16)
    samples = np.empty(value.shape[:2], np.uint16)
    for (top, left), channel in zip(((0, 0), (0, 1), (1, 0), (1, 1)), (0, 1, 1, 2)):
        samples[top::2, left::2] = value[top::2, left::2, channel]
    from_xyz = (3.2404542, -1.5371385, -0.4985314, -0.9692660, 1.8760108, 0.0415560)
    from_xyz += (0.0556434, -0.2040259, 1.0572252)
    ratios = tuple(part for x in from_xyz for part in (round(x * 10000), 10000))
    tags = [
        (274, "H", 1, orientation, True),
        (271, "s", 0, "Maker", True),
        (272, "s", 0, "Model", True),
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, (0, 1, 1, 2), True),  # CFAPattern
        (50706, "B", 4, (1, 4, 0, 0), True),  # DNGVersion
        (50708, "s", 0, "Made for a test", True),  # UniqueCameraModel
        (50717, "I", 1, 65535, True),  # WhiteLevel
        (50721, "2i", 9, ratios, True),  # ColorMatrix1
        (50728, "2I", 3, (1, 1) * 3, True),  # AsShotNeutral
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
    ]
    tifffile.imwrite(path, samples, photometric=32803, extratags=tags, metadata=None)
    return path


@pytest.mark.parametrize("orientation", [1, 6])
def test_raw_files_become_sixteen_bit_tiff(orientation, weights, tmp_path, capsys):
    pytest.importorskip("rawpy", reason="rawpy isn't installed")
    rgb = picture(96, 128)
    path = dng(tmp_path / "a.dng", profiles.light_of(rgb / 255), orientation)
    upright = rgb if orientation == 1 else np.rot90(rgb, -1)
    header = formats.read_header(path)
    assert (header.height, header.width) == upright.shape[:2]
    before = photographs.read(path)
    assert before.pixels.dtype == np.uint16
    assert mean_difference(before.pixels / 257, upright) < 4  # two of three are interpolated
    assert command(path, tmp_path / "out", "--weights", weights) == 0
    after = photographs.read(tmp_path / "out" / "a.tif")
    assert after.about.orientation == 1
    assert np.abs(after.pixels.astype(int) - expected(weights, path)).max() <= 1
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as written:
        assert written.pages[0].tags["Model"].value == "Model"
    assert command(path, tmp_path / "b.jpg", "--weights", weights) == 1
    assert "16 bits, which .png, .tif, .tiff hold" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert command(path, tmp_path / "cut", "--weights", weights) == 1
    assert f"{path}: no raw file that LibRaw reads, or damaged" in capsys.readouterr().err
