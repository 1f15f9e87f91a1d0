"""``coarse_side``: what is coarse comes from a copy, what is fine from the image."""

import cv2
import numpy as np
import pytest
import torch
from networks import TINY, trained_like
from torch import nn

from glsgn_plugins import GLSGN, restore
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference import restoring
from glsgn_plugins.inference.coarse import coarse_size, restore_by_coarse
from glsgn_plugins.inference.reduced import area_means


@pytest.fixture
def net():
    return trained_like(GLSGN(**TINY, coarse_side=64)).eval()


def image_of(height, width):
    rng = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, height, width, generator=rng)


def nothing(_):
    pass


def test_blotches_go_and_detail_stays():
    """The image comes back with a blotch and a fine pattern, the copy darker and blurred."""
    image = image_of(1, 1).expand(2, 3, 360, 480)
    fine = torch.ones(360, 480)
    fine[:, ::2] = -1
    blotch = torch.zeros(360, 480)
    blotch[:, 240:] = 0.3

    def run(these, *_):
        if these.shape[2:] == image.shape[2:]:
            return these + 0.05 * fine + blotch
        assert these.shape[2:] == (90, 120)
        return these - 0.2

    restored = restore_by_coarse(image, (90, 120), run, nothing, nothing)
    torch.testing.assert_close(
        restored[..., :220], (image + 0.05 * fine - 0.2)[..., :220], atol=1e-4, rtol=0
    )
    # Around an edge what is taken is a little wider than the edge.
    torch.testing.assert_close(
        restored[..., 260:], (image + 0.05 * fine - 0.2)[..., 260:], atol=1e-4, rtol=0
    )


def test_the_networks_own_size_is_the_default_and_0_the_image_alone(net):
    image = image_of(90, 120)
    whole = net(image).detach()
    restored = restore(net, image)
    torch.testing.assert_close(restore(net, image, "whole", long_side=0), whole)
    assert not torch.allclose(restored, whole, atol=1e-4)
    assert torch.equal(restore(nn.DataParallel(net), image), restored)
    torch.testing.assert_close(restore(net, image, "whole"), restored)
    # A copy alone, where it is asked for.
    plain = trained_like(GLSGN(**TINY)).eval()
    plain.load_state_dict(dict(net.state_dict()))
    assert torch.equal(restore(net, image, long_side=48), restore(plain, image, long_side=48))


def test_means_of_what_comes_out_are_the_copys(net):
    image = image_of(192, 192)
    image[..., :96] *= 0.3
    copy = torch.nn.functional.avg_pool2d(image, 3)
    means = torch.nn.functional.avg_pool2d(restore(net, image), 24)
    of_copy = torch.nn.functional.avg_pool2d(net(copy).detach(), 8)
    of_image = torch.nn.functional.avg_pool2d(net(image).detach(), 24)
    assert (means - of_copy).abs().mean() < 0.5 * (of_image - of_copy).abs().mean()


@pytest.mark.parametrize("size", [(60, 64), (64, 33), (65, 66), (60, 106), (40, 400)])
def test_what_has_less_than_three_times_its_pixels_is_restored_alone(net, size):
    image = image_of(*size)
    assert torch.equal(restore(net, image), restore(net, image, long_side=0))


@pytest.mark.parametrize(
    ("size", "copy"),
    [
        ((2160, 3840), (720, 1280)),
        ((3840, 2160), (1280, 720)),
        ((1440, 2560), (720, 1280)),
        ((2880, 3840), (960, 1280)),
        ((3000, 3000), (1280, 1280)),
        ((1440, 5120), (720, 2560)),  # two photographs side by side
        ((720, 5120), None),
        ((9000, 40), None),
        ((721, 1281), None),
        ((1200, 1600), None),
        ((1080, 1920), None),
        ((2000, 2000), None),
        ((720, 1280), None),
    ],
)
def test_the_copy_shows_streaks_at_one_size_whatever_the_picture_is_shaped_like(size, copy):
    assert coarse_size(*size, 1280) == copy


def test_an_image_without_pixels_is_named():
    with pytest.raises(InputError, match="expected images with pixels; got 0x50"):
        coarse_size(0, 50, 1280)


def test_copies_are_means_by_area():
    values = torch.rand(2, 3, 47, 90, generator=torch.Generator().manual_seed(0))
    for size in ((46, 89), (31, 64), (13, 20), (47, 90)):
        expected = [
            cv2.resize(one.permute(1, 2, 0).numpy(), size[::-1], interpolation=cv2.INTER_AREA)
            for one in values
        ]
        means = area_means(values, size).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(means, np.stack(expected), atol=1e-5)
    pooled = torch.nn.functional.avg_pool2d(values[..., :45, :], 3)
    torch.testing.assert_close(area_means(values[..., :45, :], (15, 30)), pooled)


def test_a_network_that_writes_over_what_it_gave_before_does_no_harm():
    """As one that is compiled for CUDA graphs does."""
    image = image_of(90, 120)
    held = torch.empty(image.numel())

    def run(these, *_):
        held[: these.numel()] = (these * 0.5).flatten()
        return held[: these.numel()].view(these.shape)

    restored = restore_by_coarse(image, (45, 60), run, nothing, nothing)
    torch.testing.assert_close(restored, image * 0.5, atol=1e-5, rtol=0)


def test_memory_that_runs_out_is_told_of_and_named_by_whose_it_is(net, monkeypatch):
    image, said, sizes = image_of(200, 300), [], []

    def streamed(network, these, **options):
        sizes.append(tuple(these.shape[2:]))
        if sizes.count(sizes[-1]) == 1:
            raise MemoryError
        return these.float()

    monkeypatch.setattr(restoring, "restore_streamed", streamed)
    restore(net, image, "stream", say=said.append)
    of = "copy of 43x64"
    assert said[0] == f"the {of}: out of memory"
    assert said[2].startswith("200x300: streamed")
    assert said[2].endswith(f"what is coarse, by a {of}")
    assert said[3] == "out of memory"
    assert len(said) == 5
    sizes.clear()
    with pytest.raises(InputError, match=r"^the copy of 43x64 beside an image of 200x300: "):
        restore(net, image, "stream", steady=True)


def test_strength_mask_and_8_bits_go_with_it(net):
    eight = (image_of(100, 160) * 255).byte()
    image = eight / 255
    whole = restore(net, eight)
    torch.testing.assert_close(whole, restore(net, image))
    mask = torch.zeros(100, 160)
    mask[:50] = 1
    half = restore(net, image, strength=0.5, mask=mask)
    torch.testing.assert_close(half[:, :, :50], (image + (whole - image) / 2)[:, :, :50])
    assert torch.equal(half[:, :, 50:], image[:, :, 50:])


def test_it_is_told_of_as_one_restoration(net):
    shares, said = [], []
    restore(net, image_of(200, 300), "stream", progress=shares.append, say=said.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(set(shares)) > 4
    (line,) = said
    assert line.startswith("200x300: streamed")
    assert line.endswith("what is coarse, by a copy of 43x64")
