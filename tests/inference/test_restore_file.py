"""``restore_file``: what ``glsgn restore`` does, for those who write Python."""

import warnings

import numpy as np
import pytest
import pyvips
from demo_data import photo
from PIL import Image

from glsgn_plugins import InputError, restore_array, restore_file
from glsgn_plugins.io import photographs
from glsgn_plugins.io.weights import read_glsgn


@pytest.fixture
def net(weights):
    return read_glsgn(weights)


@pytest.fixture
def source(tmp_path):
    """A picture of 16 bits with a resolution and a comment of its own."""
    deep = np.asarray(Image.open(photo("chelsea.png")))[:60, :90].astype(np.uint16) * 257
    image = pyvips.Image.new_from_array(deep).copy(interpretation="rgb16", xres=11.8, yres=11.8)
    image.set_type(pyvips.GValue.gstr_type, "png-comment-0-Author", "her")
    image.write_to_file(str(tmp_path / "a.png"))
    return tmp_path / "a.png"


def test_a_file_becomes_another_with_what_it_holds(net, source, tmp_path):
    said = []
    target = tmp_path / "b.tif"
    target.write_bytes(b"what is there is written over")
    done = restore_file(net, str(source), str(target), say=said.append)

    before, after = photographs.read(source), photographs.read(target)
    expected = restore_array(net, before.pixels)
    assert np.abs(expected.astype(int) - before.pixels).mean() > 300
    assert np.array_equal(after.pixels, expected)
    assert np.array_equal(done.restored, expected)
    assert np.array_equal(done.photograph.pixels, before.pixels)
    assert all(np.array_equal(*two) for two in zip(done.shown(), (before.pixels, expected)))
    assert after.header.xres == pytest.approx(11.8, rel=0.01)
    assert said[0] == f"{target}: leaves out the PNG's texts"
    assert "60x90" in said[1]


def test_a_region_a_mask_and_a_strength(net, source, tmp_path):
    pixels = photographs.read(source).pixels
    mask = np.zeros((60, 90), np.float32)
    mask[:30] = 1
    whole = restore_array(net, pixels, strength=0.5).astype(int)
    options = {"region": (40, 0, 50, 60), "mask": mask, "strength": 0.5}
    restored = restore_file(net, source, tmp_path / "b.png", **options).restored.astype(int)
    assert np.abs(restored - whole)[:30, 40:].max() <= 1
    restored[:30, 40:] = pixels[:30, 40:]
    assert np.array_equal(restored, pixels)

    Image.fromarray((255 * mask).astype(np.uint8)).save(tmp_path / "mask.png")
    of_file = restore_file(net, source, tmp_path / "c.png", mask=str(tmp_path / "mask.png"))
    of_array = restore_file(net, source, tmp_path / "d.png", mask=mask)
    assert np.array_equal(of_file.restored, of_array.restored)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("a.png", {}, "a.png: would be written over itself; give another name"),
        ("b.heic", {}, r"b.heic: .heic isn't written; give .jpg"),
        ("b.gif", {}, r"b.gif: .gif isn't written; give .jpg"),
        ("", {}, r"no file's name; give .jpg"),
        ("b.jpg", {}, "b.jpg: the image has 16 bits"),
        ("b.png", {"region": (0, 0, 10)}, "region 0 0 10: expected X Y WIDTH HEIGHT"),
        ("b.png", {"region": (0.5, 0, 10, 10)}, "region 0.5 0 10 10: expected X Y WIDTH HEIGHT"),
        (
            "b.png",
            {"region": (80, 0, 20, 10)},
            "a.png: region 80 0 20 10: goes beyond the image",
        ),
        ("b.png", {"strength": 2}, "a.png: strength: expected a number from 0"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    target, options, message, net, source, tmp_path
):
    content = source.read_bytes()
    with pytest.raises(InputError, match=message):
        restore_file(net, source, tmp_path / target, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert source.read_bytes() == content


def test_arrays_that_are_read_only_are_taken_without_a_warning(net):
    """As ``np.asarray(Image.open(...))`` gives them; torch warns of each."""
    for kind in (np.uint8, np.float32):
        array = np.zeros((40, 40, 3), kind)
        array.flags.writeable = False
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            restore_array(net, array)
