"""How much of a change, and where: in arrays, by the command, and in both frameworks' options."""

import numpy as np
import pytest
import torch
from demo_data import photo
from PIL import Image

from glsgn_plugins import InputError, restore, restore_array
from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.inference import region_mask
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_glsgn


@pytest.fixture(scope="module")
def net(weights):
    return read_glsgn(weights)


def picture(dtype=np.uint8):
    rgb = read_image(photo("chelsea.png"))[:60, :90]
    if np.issubdtype(dtype, np.floating):
        return rgb.astype(dtype) / 255 + 1e-12  # digits that float32 doesn't have
    return rgb.astype(dtype) * (257 if dtype == np.uint16 else 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_nothing_changes_at_strength_0_nor_outside_of_a_mask(dtype, net):
    before = picture(dtype)
    assert np.array_equal(restore_array(net, before, strength=0), before)
    inside = region_mask((10, 20, 30, 25), before.shape[:2]).numpy()
    after = restore_array(net, before, mask=inside)
    whole = restore_array(net, before)
    assert np.array_equal(after[inside == 0], before[inside == 0])
    assert np.array_equal(after[inside == 1], whole[inside == 1])
    assert inside[20, 10] == inside[44, 39] == 1
    assert inside.sum() == 30 * 25


@pytest.mark.parametrize("strength", [0.25, 0.5, 1, 1.5])
def test_the_change_is_blended_before_it_is_rounded(strength, net):
    before = picture()
    x = torch.from_numpy(before).permute(2, 0, 1)[None].float() / 255
    y = restore(net, x)
    expected = (x + strength * (y - x)).clamp(0, 1) * 255
    found = torch.from_numpy(restore_array(net, before, strength=strength)).permute(2, 0, 1)
    # 0.5 is what rounding once takes away; a picture that went through 8 bits has more.
    assert (found - expected[0]).abs().max() < 0.5 + 1e-3
    assert (found - 255 * x[0]).abs().max() > 5


def test_a_soft_mask_is_a_strength_for_each_pixel(net):
    before = picture(np.float32)
    ramp = np.linspace(0, 1, before.shape[1], dtype=np.float32)[None].repeat(len(before), 0)
    change = restore_array(net, before) - before
    expected = before + 0.8 * ramp[..., None] * change
    found = restore_array(net, before, mask=ramp, strength=0.8)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(change).max() > 0.02


class Larger(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.interpolate(x, scale_factor=2)


def test_what_does_not_fit_is_named(net):
    x = torch.rand(1, 3, 40, 50)
    for strength in (-0.1, 1.51, float("nan"), "much", True, None):
        with pytest.raises(InputError, match="strength: expected a number from 0"):
            restore(net, x, strength=strength)
    with pytest.raises(InputError, match="mask: 40x50 pixels, but the image has 50x40"):
        restore(net, x, mask=torch.rand(50, 40))
    with pytest.raises(InputError, match=r"mask: expected \(H, W\)"):
        restore(net, x, mask=torch.ones(1, 1, 40, 50))
    with pytest.raises(InputError, match=r"mask: values from 0.0 to 255.0"):
        restore(net, x, mask=255 * torch.eye(50)[:40])
    with pytest.raises(InputError, match="for networks that keep sizes"):
        restore(Larger(), x, strength=0.5)
    assert restore(Larger(), x).shape == (1, 3, 80, 100)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save("a.png")
    Image.fromarray(picture()).save("a.jpg", quality=70)
    grey = np.zeros((60, 90), np.uint8)
    grey[:30] = 255
    Image.fromarray(grey).save("mask.png")
    Image.fromarray(grey[:50]).save("small.png")
    return tmp_path


def command(*argv):
    return main(["restore", *map(str, argv), "--device", "cpu"])


def test_the_command_restores_as_much_and_where_it_is_told(files, weights, net):
    before = picture()
    whole = restore_array(net, before).astype(int)
    options = ("--weights", weights)
    assert command("a.png", "half.png", *options, "--strength", "0.5") == 0
    half = np.asarray(Image.open("half.png")).astype(int)
    assert np.abs(half - restore_array(net, before, strength=0.5).astype(int)).max() <= 1
    more = ("--mask", "mask.png", "--region", 40, 0, 50, 60)
    assert command("a.png", "part.png", *options, *more) == 0
    part = np.asarray(Image.open("part.png")).astype(int)
    assert np.array_equal(part[30:], before[30:])
    assert np.array_equal(part[:, :40], before[:, :40])
    assert np.abs(part[:30, 40:] - whole[:30, 40:]).max() <= 1
    assert np.abs(part[:30, 40:] - before[:30, 40:]).max() > 5
    for name in ("a.png", "a.jpg"):
        assert command(name, f"none-{name}", *options, "--strength", 0) == 0
        same = np.asarray(Image.open(f"none-{name}"))
        assert np.array_equal(same, np.asarray(Image.open(name)))


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("--strength", "1.6"), 2, "--strength: expected a number from 0"),
        (("--strength", "nan"), 2, "--strength: expected a number from 0"),
        (("--mask", "missing.png"), 2, "missing.png: no such file"),
        (("--mask", "a.png"), 2, "a.png: a mask in colours"),
        (("--mask", "small.png"), 1, "a.png: mask: 90x50 pixels, but the image has 90x60"),
        (("--region", "-1", "0", "5", "5"), 2, "region -1 0 5 5: expected X Y WIDTH HEIGHT"),
        (("--region", "80", "0", "11", "5"), 1, "a.png: region 80 0 11 5: goes beyond"),
        (
            ("--mask", "small.png", "--region", "0", "0", "9", "9"),
            1,
            "a.png: mask: 90x50 pixels",
        ),
    ],
)
def test_the_command_names_what_does_not_fit(argv, code, message, files, weights, capsys):
    assert command("a.png", "out.png", "--weights", weights, *argv) == code
    assert message in capsys.readouterr().err
    assert not (files / "out.png").exists()
