"""Restoring in pieces: what one forward gives, in less memory."""

import logging
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import TINY, trained_like
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from glsgn_plugins import GLSGN, InputError, glsgn_s, restore, restore_array
from glsgn_plugins.archs.blocks import ResidualBlock
from glsgn_plugins.archs.glsgn import PAPER_GRIDS
from glsgn_plugins.inference import plan
from glsgn_plugins.inference.memory import _left_to_group, bytes_per_pixel
from glsgn_plugins.inference.restoring import STEADY_TILE, STRIP
from glsgn_plugins.inference.steps import steps_of
from glsgn_plugins.inference.stream import layout, restore_streamed

CPU = torch.device("cpu")


def streamed(net, image, strip=32, memory=2**30):
    return restore_streamed(net, image, strip=strip, memory=memory, device=CPU)


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
    {"patch_norm": "none"},
    {"fusion": "sum"},
    {"attention": False},
    {"global_features": False},
    {"local_features": False},
    {"padding_mode": "replicate"},
    {"blocks": (2, 1, 3)},
    {"widths": (4, 12, 6, 8)},
    {"grids": PAPER_GRIDS},
]


@pytest.mark.parametrize("options", PARTS, ids=str)
def test_streamed_is_whole_whatever_the_network(options):
    net = trained_like(GLSGN(**{**TINY, **options})).eval()
    image = torch.rand(1, 3, 130, 211)
    given = image.clone()
    with torch.no_grad():
        whole = net(image)
    assert (whole - image).abs().max() > 0.05
    torch.testing.assert_close(streamed(net, image), whole, atol=5e-6, rtol=0)
    assert torch.equal(image, given)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (95, 32), (160, 224), (255, 131)])
@pytest.mark.parametrize("strip", [1, 48, 1000])
def test_streamed_is_whole_whatever_the_size(net, size, strip):
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        whole = net(image)
    torch.testing.assert_close(streamed(net, image, strip), whole, atol=5e-6, rtol=0)


def test_little_memory_makes_strips_thin_and_then_bands(net):
    image = torch.rand(1, 3, 64, 2200)
    with torch.no_grad():
        whole = net(image)
    steps = steps_of(net)
    layouts = [layout(steps, 2208, memory, 64) for memory in (2**30, 2**24, 2**22)]
    assert [found.strip for found in layouts] == sorted((f.strip for f in layouts), reverse=True)
    assert layouts[0].strip == 64
    assert layouts[0].band >= 2200
    assert layouts[2].strip == 16
    assert layouts[2].band < 2200
    for memory in (2**24, 2**22):
        torch.testing.assert_close(streamed(net, image, 64, memory), whole, atol=5e-6, rtol=0)


def test_bands_of_thick_strips_go_before_thin_strips():
    steps = steps_of(glsgn_s().eval())
    assert layout(steps, 7680, 2**40, 128) == (128, 7680, 0)
    found = layout(steps, 7680, 384 * 2**20, 128)
    assert found.strip >= 48
    assert found.band < 7680


def changed_by(net, place):
    """Rows of the output that change with a pixel, and with one band's halo."""
    image = torch.rand(1, 3, 64, 1600, dtype=torch.float64)
    other = image.clone()
    other[..., place] = 1 - other[..., place]
    with torch.no_grad():
        return (net(image) - net(other)).abs().amax(dim=(0, 1, 2)).nonzero().flatten()


def test_what_is_seen_is_added_up_from_the_layers(net):
    """A changed kernel changes the halo; and the halo is what the network really sees."""
    net, wider = deepcopy(net).double(), deepcopy(net).double()
    block = wider.local_pathways[1].encoder.stages[1][0]
    block.conv1 = nn.Conv2d(8, 8, 7, padding=3).double()
    for one in (net, wider):
        lag = steps_of(one)[-1].lag
        columns = changed_by(one, 800)
        seen = max(800 - columns.min().item(), columns.max().item() - 800)
        # Most of it: what comes the longest way is below the rounding of float64.
        assert 0.75 * lag < seen <= lag
    # Two places more on either side, of half the half size.
    assert steps_of(wider)[-1].lag == steps_of(net)[-1].lag + 2 * 4


def test_a_network_that_cannot_be_followed_is_named(net):
    class Blurred(GLSGN):
        def restore_padded(self, image):
            return super().restore_padded(F.max_pool2d(image, 3, 1, 1))

    with pytest.raises(InputError, match="can't be worked out strip by strip"):
        restore(Blurred(**TINY), torch.rand(1, 3, 64, 64), "stream")


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


class Damped(ResidualBlock):
    """A lab's own block."""

    def forward(self, x):
        return x + 0.5 * self.conv2(self.act(self.conv1(x)))


class Adapted(nn.Conv2d):
    """A convolution that a fine-tuning library has put in the place of one."""

    def forward(self, x):
        return super().forward(x) * 1.5


class Clamped(GLSGN):
    """A lab's own network."""

    def forward(self, lq):
        return super().forward(lq).clamp(0.4, 0.6)


def damped(net):
    for block in [m for m in net.modules() if type(m) is ResidualBlock]:
        block.__class__ = Damped


def adapted(net):
    for block in [m for m in net.modules() if type(m) is ResidualBlock]:
        block.conv1.__class__ = Adapted


def activated(net):
    for block in [m for m in net.modules() if type(m) is ResidualBlock]:
        block.act = nn.Tanh()


def dilated(net):
    for block in [m for m in net.modules() if type(m) is ResidualBlock]:
        block.conv1.dilation = block.conv1.padding = (2, 2)


def clamped(net):
    net.__class__ = Clamped


def halved(net):
    forward = net.forward
    net.forward = lambda lq: forward(lq) / 2


@pytest.mark.parametrize(
    ("change", "followed"),
    [
        (damped, True),
        (adapted, False),
        (activated, False),
        (dilated, True),
        (clamped, False),
        (halved, False),
    ],
)
def test_a_changed_network_is_restored_by_its_own_forward(net, change, followed):
    changed, image = deepcopy(net), torch.rand(1, 3, 64, 96)
    change(changed)
    with torch.no_grad():
        whole = changed(image)
        assert (whole - net(image)).abs().max() > 1e-3
    for tile in ("whole", "auto"):
        torch.testing.assert_close(restore(changed, image, tile), whole, atol=5e-6, rtol=0)
    if followed:
        torch.testing.assert_close(restore(changed, image, "stream"), whole, atol=5e-6, rtol=0)
    else:
        with pytest.raises(InputError, match="can't be worked out strip by strip"):
            restore(changed, image, "stream")


def test_threads_restore_at_once_beside_other_networks(net):
    image, other = torch.rand(1, 3, 64, 64), nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    rows = torch.rand(2, 8)
    with torch.no_grad():
        whole, expected = net(image), other(rows)

    def restores(network):
        for _ in range(6):
            restored = restore(network, image, "stream")
            torch.testing.assert_close(restored, whole, atol=5e-6, rtol=0)

    def runs():
        for _ in range(2000):
            assert torch.equal(other(rows), expected)

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(restores, one) for one in (net, net, deepcopy(net))]
        for done in [*work, pool.submit(runs)]:
            done.result()


class Halving(nn.Module):
    """In place, as some networks have their first activation."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return x.mul_(self.scale)


@pytest.mark.parametrize("tile", ["whole", 64])
def test_images_are_left_alone_by_a_network_that_works_in_place(tile):
    image = torch.full((1, 3, 32, 40), 0.8)
    restored = restore(Halving(), image, tile, strength=0.5)
    torch.testing.assert_close(restored, torch.full_like(image, 0.6))
    assert (image == 0.8).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_of_any_floating_point_type(net, dtype):
    image = torch.rand(1, 3, 64, 80)
    expected = restore(net, image)
    converted = deepcopy(net).to(dtype)
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-5
    for tile in ("whole", "stream"):
        restored = restore(converted, image.to(dtype), tile)
        assert restored.dtype == torch.float32
        torch.testing.assert_close(restored, expected, atol=tolerance, rtol=0)
    wide = restore(Halving().to(dtype), image, 48)
    torch.testing.assert_close(wide, image / 2, atol=tolerance, rtol=0)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize("tile", ["whole", 32])
def test_a_network_that_gives_more_than_images_is_named(tile):
    with pytest.raises(InputError, match="Pair gives a tuple, expected images"):
        restore(Pair(), torch.rand(1, 3, 40, 40), tile)


def test_planning_leaves_the_random_numbers_alone():
    network, image = Sharpen(), torch.rand(1, 3, 40, 40)
    state = torch.get_rng_state()
    restore(network, image, "auto")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_of_a_network_that_enlarges(dtype):
    array = np.ones((20, 24, 3), dtype)
    restored = restore_array(nn.Upsample(scale_factor=2), array)
    assert restored.dtype == dtype
    assert np.array_equal(restored, np.ones((40, 48, 3)))


def test_arrays_of_either_byte_order_and_none_that_is_not_finite():
    array = np.arange(32 * 40 * 3, dtype=">u2").reshape(32, 40, 3)
    assert np.array_equal(restore_array(nn.Identity(), array), array)
    values = np.zeros((32, 40, 3), np.float32)
    values[3, 4, 1] = np.nan
    with pytest.raises(InputError, match="values that are not finite"):
        restore_array(nn.Identity(), values)


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


def test_no_map_of_the_whole_image_is_ever_made(net):
    image = torch.rand(1, 3, 1024, 256)
    pixels = 1024 * 256
    with Sizes() as whole, torch.no_grad():
        net(image)
    assert max(whole.sizes) > 10 * pixels  # what the fusion's 16 channels take
    with Sizes() as pieces:
        streamed(net, image)
    first, second = sorted(pieces.sizes)[:-3:-1]
    assert first == 3 * pixels  # what comes out
    assert second < pixels


def test_what_is_held_does_not_grow_with_the_rows(net):
    def most(rows):
        image = torch.rand(1, 3, rows, 64)
        with Sizes() as pieces:
            streamed(net, image)
        return sorted(pieces.sizes)[-2]

    assert most(1024) == most(2048)


# --- when the network itself is run ---------------------------------------------------------------


def calls_of(net, image, tile):
    seen = []
    hook = net.global_pathway.register_forward_hook(lambda module, args, out: seen.append(module))
    restored = restore(net, image, tile)
    hook.remove()
    return len(seen), restored


def test_whole_is_worked_out_by_strips_on_a_cpu_unless_somebody_looks_on(net, monkeypatch):
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = net(image)
    calls, seen = calls_of(net, image, "whole")
    assert calls == 1
    torch.testing.assert_close(seen, expected, atol=5e-6, rtol=0)

    taken = []
    real = restore_streamed
    monkeypatch.setattr(
        "glsgn_plugins.inference.restoring.restore_streamed",
        lambda *a, **k: taken.append(1) or real(*a, **k),
    )
    torch.testing.assert_close(restore(net, image, "whole"), expected, atol=5e-6, rtol=0)
    assert taken == [1]
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(restore(compiled, image, "whole"), expected, atol=5e-6, rtol=0)
    assert taken == [1]


def test_a_trace_through_restore_holds_the_network_itself(net):
    class Restored(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return restore(self.net, x, "whole")

    traced = torch.jit.trace(Restored(), torch.rand(1, 3, 64, 64))
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(traced(image), net(image), atol=5e-6, rtol=0)


# --- how it is picked ----------------------------------------------------------------------------


def test_auto_says_what_it_picked(net, monkeypatch, caplog):
    image = torch.rand(1, 3, 200, 300)
    with caplog.at_level(logging.INFO, "glsgn_plugins"):
        restore(net, image)
        restore(Sharpen(), image)
    assert f"200x300: streamed in strips of up to {STRIP} rows" in caplog.text
    assert "200x300: whole" in caplog.text
    monkeypatch.setattr("glsgn_plugins.inference.restoring.free_memory", lambda device: 2 * 2**20)
    found = plan(Sharpen(), image)
    assert found.mode == "tile"
    assert found.tile % 64 == 0


def test_steady_plans_do_not_look_at_the_memory(net, monkeypatch):
    def never(device):
        raise AssertionError

    monkeypatch.setattr("glsgn_plugins.inference.restoring.free_memory", never)
    small, large = torch.zeros(1, 3, 500, 300), torch.zeros(1, 3, 10, STEADY_TILE + 1)
    assert plan(Sharpen(), small, steady=True).mode == "whole"
    assert plan(Sharpen(), large, steady=True).tile == STEADY_TILE
    assert plan(net, small, steady=True) == plan(net, large, steady=True)


def test_steady_restoring_does_not_go_on_with_less():
    with pytest.raises(InputError, match="memory ran out in overlapping tiles of 256x256"):
        restore(Hungry(), torch.rand(1, 3, 200, 150), 256, steady=True)


def test_a_network_that_wants_more_pixels_than_a_probe_is_planned():
    class Demanding(Sharpen):
        def forward(self, x):
            if min(x.shape[2:]) < 200:
                raise RuntimeError("padding size should be less than the input dimension")
            return super().forward(x)

    image = torch.rand(1, 3, 300, 300)
    assert plan(Demanding(), image).mode == "whole"
    assert restore(Demanding(), image).shape == image.shape
    per_pixel = bytes_per_pixel(Sharpen(), 3, (300, 300), CPU)
    assert bytes_per_pixel(Demanding(), 3, (300, 300), CPU) == pytest.approx(per_pixel, rel=0.1)


def test_files_in_the_cache_of_a_container_count_as_free(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 500\nactive_file 200\n")
    assert list(_left_to_group(tmp_path)) == [800]
    (tmp_path / "memory.max").write_text("max\n")
    assert min(_left_to_group(tmp_path)) > 2**60


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


def test_whole_goes_on_in_tiles_where_memory_runs_out():
    said = []
    image = torch.rand(1, 3, 200, 150)
    assert torch.equal(restore(Hungry(), image, "whole", say=said.append), image)
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
        ({"tile": 8, "overlap": 8}, "overlap: 8 pixels of tiles of 8; expected fewer"),
        ({"tile": 8, "overlap": "4"}, "overlap: expected a number of pixels from 0 up, got '4'"),
        ({"tile": 8, "overlap": -1}, "overlap: expected a number of pixels from 0 up, got -1"),
        ({"amp": "float16"}, "amp: 'float16' does not exist"),
        ({"image": torch.zeros(1, 3, 8, 8, dtype=torch.int64)}, "floating point"),
        ({"image": torch.zeros(3, 8, 8)}, r"\(N, 3, H, W\)"),
        ({"image": np.zeros((1, 3, 8, 8))}, "got ndarray; restore_array takes arrays"),
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


def test_what_is_no_image_network_or_mask_is_named(net):
    image, array = torch.rand(1, 3, 40, 48), np.zeros((40, 48, 3), np.uint8)
    for call, said in (
        (lambda: restore("rain", image), "expected a network, got 'rain'"),
        (
            lambda: restore(net, image, mask=np.ones((40, 48))),
            "mask: expected a tensor, got ndarray",
        ),
        (lambda: restore(net, image, memory="1GB"), "memory: expected a number of bytes"),
        (lambda: restore(net, image, memory=0), "memory: expected a number of bytes"),
        (lambda: restore(net, 255 * image), "expected [0, 1]; divide them by 255"),
        (lambda: restore_array(net, image), "expected an array, got a tensor"),
        (lambda: restore_array(net, [1, 2]), "expected an array (H, W, 3), RGB"),
        (lambda: restore_array(net, array.astype(np.float32) + 200), "values up to 200, expected"),
        (lambda: restore_array(net, array, mask=[1]), "mask: expected (H, W) in floating point"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert said in str(caught.value)


def test_pillows_images_and_masks_of_truth_values_are_taken(net):
    array = (255 * torch.rand(40, 48, 3)).byte().numpy()
    assert np.array_equal(restore_array(net, Image.fromarray(array)), restore_array(net, array))
    mask = np.zeros((40, 48), bool)
    mask[:20] = True
    wanted = restore_array(net, array, mask=mask.astype(np.float32))
    assert np.array_equal(restore_array(net, array, mask=mask), wanted)
    assert np.array_equal(restore_array(net, array, strength=np.float32(0)), array)
