"""``long_side``: a copy is restored, and its change carried up to the image."""

import numpy as np
import pytest
import torch
from demo_data import photo
from harness import psnr, tensor
from networks import TINY, trained_like
from torch import nn

from glsgn_plugins import GLSGN, InputError, load_pretrained, restore, restore_array
from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.io.images import png, read_image


class Dehazed(nn.Module):
    """Even haze, taken away: a gain and an offset. It keeps the sizes that it was given."""

    def forward(self, image):
        self.seen = tuple(image.shape[2:])
        return (image - 0.4) / 0.6


def image_of(height, width):
    rng = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, height, width, generator=rng)


@pytest.mark.parametrize(
    ("size", "seen"), [((90, 200), (58, 128)), ((300, 70), (137, 32)), ((40, 1000), (32, 800))]
)
def test_an_even_gain_and_offset_come_back_exactly(size, seen):
    net, image = Dehazed(), image_of(*size)
    restored = restore(net, image, long_side=128)
    assert net.seen == seen
    assert restored.shape == image.shape
    # Where a window of the copy is even, its slope goes to 1: noise that was averaged away is.
    change = (restored - image).mean(dim=(2, 3))
    torch.testing.assert_close(change, (net(image) - image).mean(dim=(2, 3)), atol=0.03, rtol=0)


def test_detail_is_the_images_own():
    net = Dehazed()
    rows, cols = torch.meshgrid(torch.arange(400), torch.arange(600), indexing="ij")
    image = (0.5 + 0.2 * torch.sin(rows / 25.0) * torch.cos(cols / 25.0)).expand(1, 3, 400, 600)
    image = image.clone()
    image[..., 200:, :] += 0.05 * torch.sign(torch.sin(cols[200:] * 2.0))
    restored = restore(net, image, long_side=120)
    wanted = net(image)
    assert (restored - wanted).abs().mean() < 0.02
    assert restored[..., 200:, :].diff(dim=-1).abs().mean() > 1.2 * (
        image[..., 200:, :].diff(dim=-1).abs().mean()
    )


def test_what_is_no_longer_than_that_is_restored_itself():
    net, image = Dehazed(), image_of(60, 80)
    assert torch.equal(restore(net, image, long_side=80), restore(net, image))
    eight = (image * 255).byte()
    assert torch.equal(restore(net, eight, long_side=4000), restore(net, eight))


def test_strength_and_mask_go_with_it():
    net, image = Dehazed(), image_of(100, 160)
    whole = restore(net, image, long_side=64)
    mask = torch.zeros(100, 160)
    mask[:50] = 1
    half = restore(net, image, long_side=64, strength=0.5, mask=mask)
    torch.testing.assert_close(half[:, :, :50], (image + (whole - image) / 2)[:, :, :50])
    assert torch.equal(half[:, :, 50:], image[:, :, 50:])


def test_the_networks_own_size_is_the_default_and_0_the_image_itself():
    net, image = trained_like(GLSGN(**TINY, long_side=64)).eval(), image_of(90, 120)
    assert torch.equal(restore(net, image), restore(net, image, long_side=64))
    torch.testing.assert_close(restore(net, image, "whole", long_side=0), net(image).detach())
    assert not torch.equal(restore(net, image), restore(net, image, long_side=0))
    assert torch.equal(restore(nn.DataParallel(net), image), restore(net, image))
    other = Dehazed()
    assert torch.equal(restore(other, image), restore(other, image, long_side=0))


@pytest.mark.parametrize("wrong", [31, -5, 64.0, True, "64"])
def test_what_is_no_number_of_pixels_is_named(wrong):
    with pytest.raises(InputError, match="long_side: expected a number of pixels, 32 or more"):
        restore(Dehazed(), image_of(64, 64), long_side=wrong)


def test_an_image_without_pixels_is_named():
    with pytest.raises(InputError, match="expected images with pixels; got 0x64"):
        restore(Dehazed(), torch.rand(1, 3, 0, 64), long_side=64)


def test_networks_that_change_sizes_are_refused():
    with pytest.raises(InputError, match="it is for networks that keep sizes"):
        restore(nn.Upsample(scale_factor=2), image_of(64, 128), "whole", long_side=64)


def test_the_command_does_so_against_haze_unless_told_otherwise(tmp_path, capsys):
    clean = read_image(photo("coffee.png"))
    (tmp_path / "in.png").write_bytes(png(clean))
    net = load_pretrained("haze")
    assert net.long_side == 320
    for more, long_side in (([], 320), (["--long-side", "0"], 0)):
        argv = ["restore", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--task", "haze"]
        assert main([*argv, "--device", "cpu", "--overwrite", *more]) == 0
        expected = restore_array(net, clean, long_side=long_side)
        assert np.abs(read_image(tmp_path / "out.png").astype(int) - expected).max() <= 1
    assert "213x320" in capsys.readouterr().err
    assert np.array_equal(restore_array(net, clean), restore_array(net, clean, long_side=320))
    assert psnr(tensor(restore_array(net, clean)), tensor(clean)) > 25
    assert main([*argv, "--long-side", "7"]) == 2
    assert "error: --long-side: expected a number of pixels" in capsys.readouterr().err
