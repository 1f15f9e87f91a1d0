"""Files that aren't what they should be: each is named, and nothing is half-written."""

import os

import cv2
import numpy as np
import pytest
from demo_data import photo
from PIL import Image

from glsgn_plugins.errors import InputError
from glsgn_plugins.io.images import image_files, read_header, read_image


@pytest.fixture
def small():
    return np.ascontiguousarray(read_image(photo("coffee.png"))[100:160, 100:180])


def test_8_and_16_bits_and_grey_are_read_as_rgb(tmp_path, small):
    deep = small.astype(np.uint16) * 200 + 13
    for name, image in (("a.png", small), ("b.png", deep), ("b.tif", deep), ("ü ß.bmp", small)):
        cv2.imencode(f".{name[-3:]}", image[..., ::-1])[1].tofile(tmp_path / name)
        back = read_image(tmp_path / name)
        assert back.dtype == image.dtype
        assert np.array_equal(back, image)
        header = read_header(tmp_path / name)
        assert (header.height, header.width, header.channels) == (60, 80, "RGB")
        assert header.bits == 8 * image.dtype.itemsize
    Image.fromarray(small[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), small[..., :1].repeat(3, axis=2))
    assert read_header(tmp_path / "grey.png").channels == "grey"


def test_exif_turns_the_picture_and_its_size(tmp_path, small):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(small).save(tmp_path / "turned.jpg", quality=98, exif=exif)
    turned = read_image(tmp_path / "turned.jpg")
    assert turned.shape == (80, 60, 3)
    assert np.abs(turned.astype(int) - np.rot90(small, -1)).mean() < 4
    header = read_header(tmp_path / "turned.jpg")
    assert (header.height, header.width) == (80, 60)


def test_headers_of_images_larger_than_16k_are_read(tmp_path):
    Image.new("1", (20000, 10000)).save(tmp_path / "huge.png")
    limit = Image.MAX_IMAGE_PIXELS
    header = read_header(tmp_path / "huge.png")
    assert (header.height, header.width) == (10000, 20000)
    assert limit is not None
    assert limit == Image.MAX_IMAGE_PIXELS


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def broken(tmp_path, small):
    """Files by what must be said of them."""
    Image.fromarray(small).save(tmp_path / "whole.png")
    Image.fromarray(small).save(tmp_path / "whole.jpg")
    files = {}
    for kind in ("png", "jpg"):
        files[f"cut.{kind}"] = "cut short"
        (tmp_path / f"cut.{kind}").write_bytes((tmp_path / f"whole.{kind}").read_bytes())
        cut(tmp_path / f"cut.{kind}", 0.6)
        files[f"zero.{kind}"] = "empty, 0 bytes"
        (tmp_path / f"zero.{kind}").touch()
    (tmp_path / "text.png").write_text("not an image at all")
    files["text.png"] = "not an image that can be read"
    files["missing.png"] = "no such file"
    return files


def test_what_is_no_whole_image_is_named(tmp_path, small):
    for name, said in broken(tmp_path, small).items():
        for read in (read_image, read_header):
            with pytest.raises(InputError) as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
            assert said in str(caught.value), read


def test_cmyk_and_animations_are_refused(tmp_path, small):
    Image.fromarray(small).convert("CMYK").save(tmp_path / "print.jpg")
    with pytest.raises(InputError, match=r"print\.jpg: CMYK.*convert it to sRGB"):
        read_image(tmp_path / "print.jpg")
    assert read_header(tmp_path / "print.jpg").channels == "CMYK"
    frames = [Image.fromarray(np.roll(small, 9 * k, axis=1)) for k in range(3)]
    for name in ("moving.png", "moving.webp", "pages.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match=r"3 frames or pages; expected one image"):
            read_image(tmp_path / name)
        assert read_header(tmp_path / name).frames == 3


def test_link_loops_end_and_hidden_files_are_left_out(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "back").symlink_to(tmp_path, target_is_directory=True)
    (deep / "self.png").symlink_to(deep / "self.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "a" / "linked").symlink_to(elsewhere, target_is_directory=True)
    for path in (tmp_path / "1.png", deep / "2.JPG", elsewhere / "3.tif"):
        path.touch()
    for path in (tmp_path / ".hidden.png", tmp_path / "notes.txt"):
        path.touch()
    names = [os.path.basename(path) for path in image_files(tmp_path)]
    assert sorted(names) == ["1.png", "2.JPG", "3.tif", "self.png"]
    with pytest.raises(InputError, match="can't be read"):
        read_image(deep / "self.png")
