"""Restoring in pieces: what one forward gives, in less memory."""

import logging

import pytest
import torch
import torch.nn.functional as F
from test_network import TINY, trained_like
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from glsgn_plugins import GLSGN, InputError, restore
from glsgn_plugins.inference import plan
from glsgn_plugins.inference.regions import patches_of, regions
from glsgn_plugins.inference.stream import restore_streamed
from glsgn_plugins.patches import split_patches

CPU = torch.device("cpu")


def streamed(net, image, side=64, memory=2**30):
    return restore_streamed(
        net, image, area=side**2, memory=memory, device=CPU, progress=lambda share: None
    )


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return trained_like(GLSGN(**TINY)).eval()


# --- tiled ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (33, 47), (64, 64), (65, 64), (131, 97)])
@pytest.mark.parametrize(
    ("tile", "overlap"), [(1, 0), (16, 0), (32, 5), (32, 31), (64, 8), (99, 40)]
)
def test_the_identity_comes_back_exactly(size, tile, overlap):
    if tile == 1 and size[0] * size[1] > 1000:
        pytest.skip("thousands of tiles of one pixel")
    image = torch.rand(2, 3, *size)
    assert torch.equal(restore(nn.Identity(), image, tile, overlap=overlap), image)


@pytest.mark.parametrize("tile", ["auto", "whole", 24])
def test_the_identity_comes_back_from_every_mode(tile):
    image = torch.rand(1, 3, 50, 41)
    assert torch.equal(restore(nn.Identity(), image, tile), image)


class Sharpen(nn.Module):
    """Three convolutions: six pixels seen around each."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(3, 3, 5, padding=2) for _ in range(3)))

    def forward(self, x):
        return self.convs(x)


@pytest.mark.parametrize("size", [(50, 90), (64, 64), (131, 33)])
def test_tiles_equal_the_whole_where_they_see_enough(size):
    sharpen = Sharpen()
    image = torch.rand(1, 3, *size)
    whole = restore(sharpen, image, "whole")
    torch.testing.assert_close(restore(sharpen, image, 48, overlap=24), whole, atol=1e-6, rtol=0)
    blind = restore(sharpen, image, 16, overlap=0)
    assert (blind - whole).abs().max() > 1e-3


def test_weights_of_tiles_sum_to_one_and_change_slowly():
    """Every tile comes back as a constant of its own: the result lies between neighbours."""

    class Count(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return torch.full_like(x, float(self.calls))

    row = restore(Count(), torch.rand(1, 3, 32, 80), 32, overlap=16)[0, 0, 0]
    assert row[0] == 1
    assert row[-1] == row.max() == 4
    assert (row.diff() >= 0).all()
    assert row.diff().max() < 0.2


def test_an_upscaling_network_is_tiled():
    double = nn.Upsample(scale_factor=2, mode="nearest")
    image = torch.rand(1, 3, 45, 70)
    assert torch.equal(restore(double, image, 20, overlap=8), double(image))


def test_a_network_of_no_whole_scale_is_refused():
    with pytest.raises(InputError, match="no whole number"):
        restore(nn.AvgPool2d(2), torch.rand(1, 3, 40, 40), 16)


# --- streamed ------------------------------------------------------------------------------------

PARTS = [
    {},
    {"patch_norm": "per_patch"},
    {"patch_norm": "none"},
    {"fusion": "sum"},
    {"attention": False},
    {"global_features": False},
    {"local_features": False},
    {"blocks": (2, 1, 3)},
    {"widths": (4, 12, 6, 8)},
    {"grids": ((1, 1), (1, 1), (1, 1))},
    {"grids": ((6, 4), (3, 2), (1, 1))},
]


@pytest.mark.parametrize("options", PARTS, ids=str)
def test_streamed_is_whole_whatever_the_network(options):
    net = trained_like(GLSGN(**{**TINY, **options})).eval()
    image = torch.rand(1, 3, 130, 211)
    with torch.no_grad():
        whole = net(image)
    assert (whole - image).abs().max() > 0.05
    torch.testing.assert_close(streamed(net, image, 48), whole, atol=5e-6, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (95, 32), (160, 224), (255, 131)])
@pytest.mark.parametrize("side", [1, 40, 1000])
def test_streamed_is_whole_whatever_the_size(net, size, side):
    if side == 1 and size[0] > 100:
        pytest.skip("thousands of regions")
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        whole = net(image)
    torch.testing.assert_close(streamed(net, image, side), whole, atol=5e-6, rtol=0)


@pytest.mark.parametrize("kept", [0, 10, 20, 24, 40])
def test_where_maps_are_kept_changes_nothing(net, kept):
    """In files; in memory, without and with some rows of pathway 1's full scale."""
    image = torch.rand(1, 3, 160, 256)
    with torch.no_grad():
        whole = net(image)
    memory = kept * image[0, 0].numel()
    torch.testing.assert_close(streamed(net, image, 48, memory), whole, atol=5e-6, rtol=0)


def test_room_in_the_workspace_saves_work(net):
    """Rows of pathway 1's full scale that are kept need not be computed again."""

    def calls(memory):
        places = []
        hook = net.local_pathways[0].encoder.stem.register_forward_hook(
            lambda module, args, out: places.append(out.shape[2] * out.shape[3])
        )
        streamed(net, torch.rand(1, 3, 256, 256), 64, memory)
        hook.remove()
        return sum(places)

    without, some, all_ = (calls(each * 256**2) for each in (0, 26, 40))
    assert without > some > all_


def test_streamed_in_bfloat16_is_whole_in_bfloat16(net):
    image = torch.rand(1, 3, 96, 128)
    whole = restore(net, image, "whole", amp="bf16")
    full = restore(net, image, "whole")
    found = restore(net, image, 48, amp="bf16")
    assert found.dtype == torch.float32
    # Sums are taken in another order, and bfloat16 rounds by 2^-8 in each of some forty layers.
    assert (found - whole).abs().mean() < (full - whole).abs().mean()
    assert (found - whole).abs().max() < 0.03


@pytest.mark.parametrize("tile", ["whole", 48])
def test_bytes_are_taken_as_they_are(net, tile):
    image = torch.randint(0, 256, (1, 3, 70, 90), dtype=torch.uint8)
    expected = restore(net, image.float() / 255, tile)
    torch.testing.assert_close(restore(net, image, tile), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_a_wrapped_network_is_streamed_too(net, wrap):
    wrapped = wrap(net, backend="aot_eager") if wrap is torch.compile else wrap(net)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(restore(wrapped, image, "stream"), net(image), atol=5e-6, rtol=0)


def test_a_trained_networks_modes_are_left_as_they_were():
    net = GLSGN(**TINY, return_pathways=True).train()
    net.fusion.eval()
    image = torch.rand(1, 3, 64, 64)
    for tile in ("whole", "stream"):
        assert restore(net, image, tile).shape == image.shape
        assert net.training
        assert not net.fusion.training


class Sizes(TorchDispatchMode):
    """The number of elements of every tensor that an operation allocates."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in given:
            self.sizes.append(out.numel())
        return out


def test_no_full_resolution_map_of_more_than_three_channels_is_ever_made(net):
    """The output it is, with its margin; maps that are kept hold 2 channels for each pixel here."""
    image = torch.rand(1, 3, 512, 768)
    pixels = 512 * 768
    with Sizes() as whole:
        restore(net, image, "whole")
    assert max(whole.sizes) > 10 * pixels  # what pathway 1 or the fusion's 16 channels take
    with Sizes() as pieces:
        streamed(net, image, side=64, memory=12 * pixels)  # with room, it would keep what it can
    first, second = sorted(pieces.sizes)[:-3:-1]
    margin = 1.2
    assert first <= 3 * margin * pixels
    assert second <= 2 * margin * pixels


def test_what_is_worked_on_does_not_grow_with_the_image(net):
    def work(rows, cols):
        sizes = []
        hooks = [
            module.register_forward_hook(lambda module, args, out: sizes.append(out.numel()))
            for module in net.modules()
            if isinstance(module, nn.Conv2d)
        ]
        streamed(net, torch.rand(1, 3, rows, cols), side=64)
        for hook in hooks:
            hook.remove()
        return max(sizes)

    bound = 16 * 160**2  # the fusion's 16 channels on regions of 80 pixels with a halo of 40
    assert work(256, 256) <= bound
    assert work(512, 768) <= bound
    assert work(512, 1536) <= bound


def test_patches_are_those_of_split_patches():
    x = torch.arange(48 * 32).reshape(1, 1, 48, 32)
    boxes = patches_of((48, 32), (3, 2))
    for box, patch in zip(boxes, split_patches(x, (3, 2))):
        assert torch.equal(x[0, :, box.top : box.bottom, box.left : box.right], patch)


@pytest.mark.parametrize("area", [1, 700, 5000, 10**6])
def test_regions_cover_each_place_once_and_keep_to_their_area(area):
    size, grid, halo = (96, 160), (2, 4), 8
    seen = torch.zeros(size)
    found = regions(size, grid, halo=halo, area=area, align=4)
    assert len({window.size for _, window, _ in found}) == 1
    for box, window, number in found:
        patch = patches_of(size, grid)[number]
        assert window.cut(patch) == window
        assert box.grown(halo, patch).cut(window) == box.grown(halo, patch)
        assert all(edge % 4 == 0 for edge in box)
        assert box.cut(patch) == box
        seen[box.top : box.bottom, box.left : box.right] += 1
        rows, cols = window.size
        assert rows * cols <= max(area, (4 * halo) ** 2)
    assert (seen == 1).all()


# --- how it is picked ----------------------------------------------------------------------------


def test_auto_says_what_it_picked_by_the_memory_that_is_free(net, monkeypatch, caplog):
    image = torch.rand(1, 3, 200, 300)
    with caplog.at_level(logging.INFO, "glsgn_plugins"):
        restore(net, image)
    assert "200x300: whole" in caplog.text
    monkeypatch.setattr("glsgn_plugins.inference.restoring.free_memory", lambda device: 2 * 2**20)
    assert plan(net, image).mode == "stream"
    found = plan(Sharpen(), image)
    assert found.mode == "tile"
    assert found.tile % 64 == 0


class Hungry(nn.Module):
    """Runs out of memory on more than 64x64 pixels, as torch puts it on a GPU."""

    def forward(self, x):
        if x.shape[2] * x.shape[3] > 64 * 64:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return F.relu(x)


def test_running_out_of_memory_leads_to_smaller_tiles():
    said = []
    image = torch.rand(1, 3, 200, 150)
    assert torch.equal(restore(Hungry(), image, 256, say=said.append), image)
    assert [line for line in said if "tiles of 64x64" in line]


def test_running_out_of_memory_at_last_is_an_error():
    class Starved(Hungry):
        def forward(self, x):
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: 9 bytes")

    with pytest.raises(InputError, match="memory ran out, and there is no smaller way"):
        restore(Starved(), torch.rand(1, 3, 200, 150), 256)


def test_whole_falls_back_to_streaming(net, monkeypatch):
    def fails(*args):
        raise MemoryError

    image = torch.rand(1, 3, 64, 96)
    expected = restore(net, image, "whole")
    monkeypatch.setattr("glsgn_plugins.inference.restoring._restore_whole", fails)
    torch.testing.assert_close(restore(net, image, "whole"), expected, atol=5e-6, rtol=0)


def test_other_errors_of_a_network_are_not_taken_for_memory():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("shapes can't be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        restore(Broken(), torch.rand(1, 3, 64, 64), 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": "streamed"}, "Did you mean 'stream'"),
        ({"tile": 0}, "at least one pixel"),
        ({"tile": 2.5}, "number of pixels"),
        ({"tile": "stream"}, "GLSGN alone"),
        ({"tile": 8, "overlap": 8}, "overlap < tile"),
        ({"amp": "float16"}, "amp: 'float16' does not exist"),
        ({"image": torch.zeros(1, 3, 8, 8, dtype=torch.int64)}, "floating point"),
        ({"image": torch.zeros(3, 8, 8)}, r"\(N, 3, H, W\)"),
    ],
)
def test_what_cannot_be_is_named(change, message):
    options = {"net": nn.Identity(), "image": torch.rand(1, 3, 40, 40), **change}
    with pytest.raises(InputError, match=message):
        restore(**options)


def test_progress_comes_up_to_one(net):
    for network, tile in ((net, "stream"), (Sharpen(), 16), (net, "whole")):
        shares = []
        restore(network, torch.rand(1, 3, 64, 64), tile, progress=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1)
