"""The network: identity at first, gradients everywhere, parts that switch, any size and format."""

import json
import warnings
from copy import deepcopy
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness import psnr, tensor
from networks import TINY, trained_like
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from glsgn_plugins import GLSGN, InputError, glsgn_b, glsgn_l, glsgn_s
from glsgn_plugins.archs.blocks import PatchNorm, SpatialAttention
from glsgn_plugins.archs.fusion import LaplacianFusion, high_band
from glsgn_plugins.archs.glsgn import PAPER_GRIDS
from glsgn_plugins.archs.patches import merge_patches, split_patches
from glsgn_plugins.losses import PathwayReconstructionLoss
from glsgn_plugins.losses.reconstruction import at_scale

PINNED = Path(__file__).parent.parent / "assets" / "glsgn_s_state_dict.json"
# --- at initialisation ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(33, 47), (32, 32), (64, 96), (255, 131), (270, 480)])
@pytest.mark.parametrize("make", [glsgn_s, lambda: GLSGN(fusion="sum")])
def test_untrained_network_returns_its_input(size, make):
    x = torch.rand(2, 3, *size)
    with torch.no_grad():
        y = make().eval()(x)
    assert y.shape == x.shape
    assert (y - x).abs().max() < 1e-3


@pytest.mark.parametrize("make", [glsgn_b, glsgn_l])
def test_larger_sizes_start_at_the_identity_too(make):
    x = torch.rand(1, 3, 96, 80)
    with torch.no_grad():
        assert (make().eval()(x) - x).abs().max() < 1e-3


@pytest.mark.parametrize("return_pathways", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"fusion": "sum"}, {"patch_norm": "pooled", "grids": PAPER_GRIDS}]
)
def test_every_parameter_gets_a_gradient_in_the_first_step(return_pathways, options):
    net = GLSGN(return_pathways=return_pathways, **options).train()
    lq, gt = torch.rand(2, 2, 3, 64, 64)
    out = net(lq)
    if return_pathways:
        loss = F.l1_loss(out.restored, gt) + PathwayReconstructionLoss()(out, gt)
    else:  # what the stock SRModel does
        loss = F.l1_loss(out, gt)
    loss.backward()
    learnt = {name: p for name, p in net.named_parameters() if p.requires_grad}
    without = [n for n, p in learnt.items() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_small_size_keeps_its_bounds_at_4k():
    with torch.device("meta"):
        net = glsgn_s().eval()
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, 3, 2160, 3840, device="meta"))
    assert counter.get_total_flops() / 2 <= 0.6e12
    assert sum(p.numel() for p in net.parameters()) <= 3e6


def test_state_dict_of_glsgn_s_is_pinned():
    """Checkpoints in the world load only as long as this holds."""
    pinned = json.loads(PINNED.read_text())
    for patch_norm in ("pooled", "none"):
        state = glsgn_s(patch_norm=patch_norm).state_dict()
        wanted = {k: v for k, v in pinned.items() if patch_norm == "pooled" or ".norms." not in k}
        assert {key: list(value.shape) for key, value in state.items()} == wanted
    assert state.keys() == glsgn_s().state_dict().keys()


# --- the parts -----------------------------------------------------------------------------------


def test_pooled_patch_norm_is_instance_norm_of_the_merged_map_in_training():
    x = torch.randn(2, 6, 24, 40) * torch.linspace(1, 5, 40) + torch.linspace(-3, 3, 24)[:, None]
    grid = (2, 4)
    norm = PatchNorm(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    expected = F.instance_norm(x, weight=norm.weight, bias=norm.bias)

    pooled = merge_patches(norm(split_patches(x, grid), 8), grid)
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-4)
    norm.pooled = False
    apart = merge_patches(norm(split_patches(x, grid), 8), grid)
    assert (apart - expected).abs().mean() > 0.1


def test_patch_norm_evaluates_with_the_running_averages_of_training():
    norm = PatchNorm(3, momentum=0.1)
    images = [torch.randn(2, 3, 16, 16) * scale + 4 for scale in (1.0, 3.0)]
    for _ in range(40):
        for image in images:
            norm(split_patches(image, (2, 2)), 4)
    assert (norm.running_mean - 4).abs().max() < 0.3
    assert (norm.running_var - 5).abs().max() < 1  # of 1 and of 9
    norm.eval()
    before = norm.running_var.clone()
    small, large = (norm(torch.full((1, 3, 8, side), 2.0)) for side in (8, 90))
    assert torch.equal(small, large[..., :8])  # no statistics of the image itself
    assert torch.equal(norm.running_var, before)
    assert not norm.running_var.requires_grad


def test_the_averages_of_patch_norm_are_averaged_with_the_weights():
    """BasicSR's moving average goes over parameters, not buffers."""
    net = GLSGN(**TINY)
    names = [name for name, _ in net.named_parameters() if "running_var" in name]
    assert len(names) == 9
    assert not dict(net.named_buffers())


def test_patch_norm_keeps_float32_statistics_under_autocast():
    x = (100 + torch.randn(2, 4, 64, 64)).bfloat16()
    y = PatchNorm(4)(x, 2).float()
    ref = PatchNorm(4)(x.float(), 2)
    # Statistics of bfloat16 would be off by units here; what is left is the rounding of the affine.
    assert (y - ref).abs().max() < 0.5
    assert abs(y.mean().item()) < 0.3


def test_patches_of_one_image_share_statistics_and_images_do_not():
    x = torch.randn(8, 3, 8, 8)
    norm = PatchNorm(3)
    before = norm(x, 4)
    x[0] += 5  # a patch of the first image
    after = norm(x, 4)
    assert (after[1:4] - before[1:4]).abs().max() > 0.1
    assert torch.equal(after[4:], before[4:])


def test_repeated_borders_make_an_even_surface_even():
    image = torch.tensor([0.2, 0.5, 0.7])[:, None, None].expand(1, 3, 32, 48)
    for padding_mode, even in (("replicate", True), ("zeros", False)):
        net = GLSGN(**TINY, padding_mode=padding_mode).eval()
        feature = net.local_pathways[0].encoder(image, {"from_global": torch.zeros(1, 8, 8, 12)})[0]
        assert ((feature - feature[:, :, 15:16, 20:21]).abs().max() < 1e-5) == even


def test_attention_follows_its_guides():
    attention = SpatialAttention(guides=2)
    x, a, b = torch.randn(2, 8, 16, 16), torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    map_ = attention(x, a, b)
    assert map_.shape == (2, 1, 16, 16)
    assert 0 < map_.min() <= map_.max() < 1
    assert not torch.equal(map_, attention(x, 1 - a, b))
    assert not torch.equal(map_, attention(x, a, 1 - b))


def test_fusion_without_masks_is_the_exact_laplacian_reconstruction():
    b1 = torch.rand(2, 3, 64, 48)
    b2 = F.avg_pool2d(b1, 2)
    b3 = F.avg_pool2d(b2, 2)
    fusion = LaplacianFusion()
    for parameter in [*fusion.mask3[-1].parameters(), *fusion.mask1.conv2.parameters()]:
        torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(fusion.mask2.conv2.weight)
    torch.testing.assert_close(fusion(b1, b2, b3, b3), b1)
    # The band of the global output reaches the result through the mask alone.
    assert torch.equal(fusion(b1, b2, b3, b3), fusion(b1, b2, b3, torch.rand_like(b3)))
    trained = LaplacianFusion()
    torch.nn.init.normal_(trained.mask3[-1].weight)
    assert not torch.equal(trained(b1, b2, b3, b3), trained(b1, b2, b3, torch.rand_like(b3)))
    assert high_band(torch.full((1, 3, 8, 8), 0.3)).abs().max() < 1e-6


SWITCHES = {
    "global_features": (False, "local_pathways.*.encoder.injections.from_global"),
    "local_features": (False, "local_pathways.*.encoder.injections.from_previous"),
    "attention": (False, "local_pathways.*.attention"),
    "patch_norm": ("none", "local_pathways.*.decoder.norms"),
    "fusion": ("sum", "fusion"),
}


@pytest.mark.parametrize("part", SWITCHES)
def test_turning_a_part_off_removes_its_parameters_and_changes_the_output(part):
    value, where = SWITCHES[part]
    full, without = trained_like(GLSGN(**TINY)), trained_like(GLSGN(**{**TINY, part: value}))
    gone = set(full.state_dict()) - set(without.state_dict())
    assert gone
    assert all(fnmatch(key, f"{where}*") for key in gone)
    assert gone == {key for key in full.state_dict() if fnmatch(key, f"{where}*")}
    without.load_state_dict({k: v for k, v in full.state_dict().items() if k not in gone})
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert (full.eval()(x) - without.eval()(x)).abs().max() > 1e-5


def test_patch_norm_per_patch_differs_in_training_alone():
    options = {**TINY, "grids": PAPER_GRIDS}
    pooled = trained_like(GLSGN(**options))
    apart = GLSGN(**{**options, "patch_norm": "per_patch"})
    apart.load_state_dict(pooled.state_dict())
    x = torch.rand(1, 3, 64, 64) * torch.linspace(0, 1, 64)
    with torch.no_grad():
        assert torch.equal(pooled.eval()(x), apart.eval()(x))
        assert (pooled.train()(x) - apart.train()(x)).abs().max() > 1e-4


def test_the_global_pathway_reaches_every_place():
    net = trained_like(GLSGN(**TINY)).eval()
    x = torch.rand(1, 3, 128, 128)
    changed = x.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    with torch.no_grad():
        difference = (net(x) - net(changed)).abs().amax(dim=1)[0]
    assert difference[96:, 96:].max() > 0


def test_patches_are_cut_in_training_and_what_is_restored_is_not():
    whole = trained_like(GLSGN(**{**TINY, "patch_norm": "none"}))
    cut = GLSGN(**{**TINY, "patch_norm": "none"}, grids=PAPER_GRIDS)
    cut.load_state_dict(whole.state_dict())
    x = torch.rand(1, 3, 64, 64)
    seen = []
    cut.local_pathways[0].encoder.stem.register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        assert torch.equal(whole.eval()(x), cut.eval()(x))
        assert (whole.train()(x) - cut.train()(x)).abs().max() > 1e-4
    assert [tuple(out.shape) for out in seen] == [(1, 4, 64, 64), (16, 4, 16, 16)]


# --- what comes out ------------------------------------------------------------------------------


def test_return_pathways_gives_all_outputs_at_their_scales_in_training_only():
    net = GLSGN(**TINY, return_pathways=True)
    x = torch.rand(2, 3, 70, 90)
    out = net(x)
    assert out.restored.shape == x.shape
    gt_shapes = [at_scale(x, s).shape for s in (1, 2, 4, 4)]
    assert [b.shape for b in out.pathways] == gt_shapes
    padded = (80, 96)
    for a, s in zip(out.attentions, (4, 8, 16, 4)):
        assert a.shape == (2, 1, padded[0] // s, padded[1] // s)
        assert 0 < a.min() <= a.max() < 1
    for b, s in zip(out.pathways, (1, 2, 4, 4)):
        torch.testing.assert_close(b, at_scale(x, s), atol=1e-3, rtol=0)
    assert isinstance(net.eval()(x), torch.Tensor)


def test_training_and_evaluation_restore_alike():
    net = trained_like(GLSGN(**{**TINY, "patch_norm": "none"}, return_pathways=True))
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(net.train()(x).restored, net.eval()(x))


def test_images_of_a_batch_do_not_touch_each_other():
    net = trained_like(GLSGN(**TINY)).eval()
    x = torch.rand(3, 3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(net(x)[1:2], net(x[1:2]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("norm", ["none", "pooled"])
def test_checkpointing_changes_neither_output_nor_gradients(norm):
    options = {**TINY, "patch_norm": norm}
    nets = [trained_like(GLSGN(**options, checkpointing=on)).train() for on in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.rand(2, 3, 64, 64)
    outs = [net(x) for net in nets]
    torch.testing.assert_close(outs[0], outs[1])
    for out in outs:
        out.square().mean().backward()
    for one, two in zip(nets[0].parameters(), nets[1].parameters()):
        torch.testing.assert_close(one.grad, two.grad)
        torch.testing.assert_close(one, two)  # the running averages among them


def test_bfloat16_autocast_stays_near_float32():
    net = trained_like(GLSGN(**TINY)).eval()
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        full = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = net(x)
    assert half.dtype == torch.float32  # images never leave float32, whatever the residuals are in
    # A residual of the size of 1 rounds by 2^-8; the residuals here are below 1.
    assert (full - x).abs().max() > 0.05
    assert (full - half).abs().max() < 0.03
    assert (full - half).abs().mean() < 0.003


def test_channels_last_agrees_with_contiguous():
    net = trained_like(GLSGN(**TINY)).eval()
    x = torch.rand(1, 3, 96, 70)
    with torch.no_grad():
        full = net(x)
        last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(full, last, atol=1e-5, rtol=1e-5)


def test_compiles_without_a_graph_break():
    torch._dynamo.reset()
    net = trained_like(GLSGN(**{**TINY, "patch_norm": "none"}, return_pathways=True)).eval()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(compiled(x), net(x))


def test_compiles_in_training_with_grids_and_the_statistics_of_patch_norm():
    torch._dynamo.reset()
    net = trained_like(GLSGN(**TINY, grids=PAPER_GRIDS)).train()
    nets = [net, deepcopy(net)]
    x = torch.rand(1, 3, 64, 64)
    found = torch.compile(nets[0], backend="aot_eager", fullgraph=True)(x)
    expected = nets[1](x)
    torch.testing.assert_close(found, expected)
    found.mean().backward()
    expected.mean().backward()
    for one, two in zip(nets[0].parameters(), nets[1].parameters()):
        torch.testing.assert_close(one, two)  # the averages have moved alike
        torch.testing.assert_close(one.grad, two.grad)


def test_exports():
    net = trained_like(GLSGN(**TINY)).eval()
    x = torch.rand(1, 3, 64, 70)
    with torch.no_grad():
        program = torch.export.export(net, (x,))
        torch.testing.assert_close(program.module()(x), net(x))


def test_a_trace_takes_other_batches():
    net = trained_like(GLSGN(**TINY)).eval()
    with torch.no_grad():
        traced = torch.jit.trace(net, torch.rand(1, 3, 64, 80))
        x = torch.rand(2, 3, 64, 80)
        torch.testing.assert_close(traced(x), net(x))


def test_hooks_see_every_module_and_what_they_caught_stays():
    net = trained_like(GLSGN(**TINY)).eval()
    caught = {}
    for name, module in net.named_modules():
        module.register_forward_hook(
            lambda m, a, out, name=name: caught.setdefault(name, []).append((out, copied(out)))
        )
    with torch.no_grad():
        net(torch.rand(1, 3, 64, 64))
    holders = (torch.nn.ModuleList, torch.nn.ModuleDict)
    wanted = {name for name, m in net.named_modules() if not isinstance(m, holders)}
    assert set(caught) == wanted
    assert all(len(outs) == 1 for outs in caught.values())
    for (out, then), *_ in caught.values():
        for now, before in zip(tensors(out), tensors(then)):
            assert torch.equal(now, before)


def tensors(out):
    return [out] if isinstance(out, torch.Tensor) else [x for x in out if x is not None]


def copied(out):
    return [x.clone() for x in tensors(out)]


class Operations(TorchDispatchMode):
    """Counts what is called on tensors."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_forward_takes_a_batch_at_once():
    net = trained_like(GLSGN(**TINY)).eval()
    counts = []
    for batch in (1, 4):
        with torch.no_grad(), Operations() as operations:
            net(torch.rand(batch, 3, 64, 64))
        counts.append(operations.count)
    assert counts[0] == counts[1] < 800


def test_overfits_a_rainy_crop(rainy_pair):
    lq, gt = (tensor(image[40:104, 60:124]) for image in rainy_pair)
    net = glsgn_s().train().to(memory_format=torch.channels_last)
    steps = 100
    optimizer = torch.optim.Adam(net.parameters(), 2e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.l1_loss(net(lq), gt).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        gain = psnr(net.eval()(lq), gt) - psnr(lq, gt)
    assert gain > 5


# --- what goes in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (16, 24, 32)}, "widths: expected 4 positive whole numbers"),
        ({"widths": (16, 24, 32, 0)}, "widths"),
        ({"widths": 16}, "widths"),
        ({"widths": (True, 4, 4, 4)}, "widths"),
        ({"global_features": "no"}, "global_features: expected true or false, found 'no'"),
        ({"blocks": (1, 1)}, "blocks: expected 3"),
        ({"grids": ((4, 4), (2, 2))}, "grids: expected three pairs"),
        ({"grids": 3}, "grids: expected three pairs .* got 3"),
        ({"grids": ((4, 4), 3, (2, 1))}, "grids, pathway 2: expected 2 positive whole numbers"),
        ({"grids": ((4, 4), (3, 2), (2, 1))}, "patches of pathway 1"),
        ({"patch_norm": "poled"}, "Did you mean 'pooled'"),
        ({"fusion": "Laplacian"}, "Did you mean 'laplacian'"),
        ({"padding_mode": "zero"}, "Did you mean 'zeros'"),
        ({"long_side": 31}, "long_side: expected a number of pixels, 32 or more, or None"),
        ({"long_side": 0}, "long_side: .* got 0"),
        ({"long_side": True}, "long_side: .* got True"),
        ({"long_side": "448"}, "long_side: .* got '448'"),
        ({"coarse_side": 31}, "coarse_side: expected a number of pixels, 32 or more, or None"),
        (
            {"coarse_side": 64, "long_side": 64},
            "coarse_side: 64, but with long_side 64 a copy stands for the image already; set one",
        ),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        GLSGN(**options)


@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (1, 1, 64, 64), (3, 64, 64), (1, 4, 64, 64)])
def test_impossible_images_are_named(shape):
    with pytest.raises(InputError, match="expects images of"):
        GLSGN(**TINY)(torch.rand(shape))


@pytest.mark.parametrize("grids", [PAPER_GRIDS, ((8, 8), (4, 4), (2, 2)), ((6, 4), (3, 2), (1, 1))])
def test_other_grids_work(grids):
    net = GLSGN(**TINY, grids=grids).train()
    rows, cols = net.size_multiple
    x = torch.rand(1, 3, 2 * rows + 1, 2 * cols + 3)
    with torch.no_grad():
        assert (net(x) - x).abs().max() < 1e-3


def test_images_too_small_for_their_grids_are_named():
    net = GLSGN(**TINY, grids=((16, 16), (8, 8), (8, 8)))
    with pytest.raises(InputError, match="too small for these patch grids"):
        net(torch.rand(1, 3, 33, 200))
    assert net.eval()(torch.rand(1, 3, 33, 200)).shape == (1, 3, 33, 200)


def test_size_multiples():
    net = GLSGN(**TINY, grids=PAPER_GRIDS)
    assert net.train().size_multiple == (32, 16)
    assert net.eval().size_multiple == GLSGN(**TINY).size_multiple == (16, 16)


def test_the_size_to_restore_at_may_be_set():
    net = GLSGN(widths=(4, 4, 4, 4))
    net.long_side = 320
    assert net.long_side == net.options["long_side"] == 320
    net.long_side = None
    assert net.long_side is None
    with pytest.raises(InputError, match="GLSGN long_side: expected a number of pixels"):
        net.long_side = 3
    net.coarse_side = 320
    assert net.coarse_side == net.options["coarse_side"] == 320
    with pytest.raises(InputError, match="GLSGN coarse_side: expected a number of pixels"):
        net.coarse_side = 3
    with pytest.raises(InputError, match="coarse_side: 320, but with long_side 640 a copy stands"):
        net.long_side = 640
    net.coarse_side, net.long_side = None, 640
    with pytest.raises(InputError, match="coarse_side: 320, but with long_side 640 a copy stands"):
        net.coarse_side = 320
    assert GLSGN(**net.options).long_side == 640  # what was set is what is saved and loaded


def test_weights_of_a_network_that_restores_in_another_way_say_so():
    """Their tensors fit, and images came out otherwise without a word."""
    options = {"widths": (4, 4, 4, 4)}
    state = GLSGN(**options, long_side=320, padding_mode="replicate").state_dict()
    with pytest.warns(UserWarning, match="these weights are of") as told:
        GLSGN(**options).load_state_dict(state)
    assert [str(one.message).split(",")[0] for one in told] == [
        "GLSGN padding_mode: zeros",
        "GLSGN long_side: None",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GLSGN(**options, long_side=320, padding_mode="replicate").load_state_dict(state)
        GLSGN(**options).load_state_dict(dict(state))  # which knows nothing of its network
    with pytest.warns(UserWarning, match="GLSGN coarse_side: None, but these weights are of"):
        GLSGN(**options).load_state_dict(GLSGN(**options, coarse_side=64).state_dict())
