"""What a camera wrote is in the restored file, whatever the two formats, as Pillow reads it."""

import itertools
import struct

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from glsgn_plugins.io import exif, photographs

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
FORMATS = (".jpg", ".png", ".tif", ".webp")


def of_camera(order):
    """EXIF as cameras write it, in both byte orders."""
    made = Image.Exif()
    made.endian = order
    made.update({271: "Maker", 272: "Camera", 306: "2026:11:23 05:00:00", 33432: "somebody"})
    made.get_ifd(0x8769).update(
        {33437: IFDRational(28, 10), 34855: 400, 36864: b"0232", 37500: bytes(range(200))}
    )
    made.get_ifd(0x8825).update({1: "N", 2: (IFDRational(48), IFDRational(51), IFDRational(3, 2))})
    return made


def seen(path):
    """What Pillow finds: the fields of the camera, of its Exif and its GPS directory."""
    with Image.open(path) as image:
        image.load()
        found = image.getexif()
        own = {tag: found.get(tag) for tag in (271, 272, 306, 33432)}
        return own, dict(found.get_ifd(0x8769)), dict(found.get_ifd(0x8825))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("one", "other"), itertools.product(FORMATS, FORMATS))
def test_exif_goes_from_every_format_to_every_other(one, other, order, tmp_path):
    path, out = tmp_path / f"in{one}", tmp_path / f"out{other}"
    made = of_camera(order)
    # Pillow leaves EXIF's directories out of TIFF unless they are given as its own fields.
    fields = ImageFileDirectory_v2()
    fields.update({**made, 0x8769: made.get_ifd(0x8769), 0x8825: made.get_ifd(0x8825)})
    given = {"tiffinfo": fields} if one == ".tif" else {"exif": made}
    Image.fromarray(PIXELS).save(path, **given)
    photograph = photographs.read(path)
    photographs.write(out, photograph, photograph.pixels)
    own, camera, place = seen(path)
    assert own[272] == "Camera"
    assert (camera[34855], place[1]) == (400, "N")
    found = seen(out)
    assert found[0] == own
    assert camera.items() <= found[1].items()  # libvips adds some of its own
    assert found[2] == place


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_exif_goes_into_every_kind_of_tiff_and_out_of_it(order, big, tmp_path):
    path = tmp_path / "a.tif"
    pixels = PIXELS.astype(np.uint16) * 257
    tifffile.imwrite(path, pixels, byteorder=order, bigtiff=big, photometric="rgb", software="")
    block = of_camera(order).tobytes()
    exif.into_tiff(path, block)
    assert np.array_equal(tifffile.imread(path), pixels)
    assert np.array_equal(pyvips.Image.new_from_file(str(path)).numpy(), pixels)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        assert tags["Model"].value == "Camera"
        assert tags["ExifTag"].value["ISOSpeedRatings"] == 400
        assert tags["ExifTag"].value["MakerNote"] == bytes(range(200))
        assert tags["GPSTag"].value["GPSLatitude"] == (48, 1, 51, 1, 3, 2)
    found, expected = Image.Exif(), Image.Exif()
    found.load(exif.of_tiff(path))
    expected.load(block)
    for directory in (0x8769, 0x8825):
        assert found.get_ifd(directory) == expected.get_ifd(directory)
    assert (found[271], found[33432]) == ("Maker", "somebody")
    before = path.read_bytes()
    exif.into_tiff(path, block)  # all of it is there
    assert path.read_bytes() == before


def test_damaged_exif_is_left_out(tmp_path):
    path = tmp_path / "a.tif"
    whole = of_camera("<").tobytes()
    blocks = [whole[:k] for k in range(0, len(whole), 7)]
    # A directory that names itself as its Exif directory.
    loop = b"II*\0" + struct.pack("<IHHHII", 8, 1, 34665, 4, 1, 8) + bytes(4)
    for block in (*blocks, b"", b"nothing", loop, b"II*\0" + b"\xff" * 40):
        pyvips.Image.new_from_array(PIXELS).write_to_file(str(path))
        exif.into_tiff(path, block)
        assert np.array_equal(photographs.read(path).pixels, PIXELS)
