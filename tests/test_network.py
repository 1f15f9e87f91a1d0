"""The network: identity at first, gradients everywhere, parts that switch, any size and format."""

import json
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import psnr, tensor
from torch.utils.flop_counter import FlopCounterMode

from glsgn_plugins import GLSGN, InputError, glsgn_b, glsgn_l, glsgn_s
from glsgn_plugins.blocks import Encoder, PatchNorm, SpatialAttention, edged, joined_edges
from glsgn_plugins.fusion import LaplacianFusion, high_band
from glsgn_plugins.losses import PathwayReconstructionLoss
from glsgn_plugins.losses.reconstruction import at_scale
from glsgn_plugins.patches import merge_patches, split_patches

PINNED = Path(__file__).parent / "data" / "glsgn_s_state_dict.json"
TINY = {"widths": (4, 4, 6, 8), "patch_norm": "pooled"}
"""With every part that there is."""


def trained_like(net: GLSGN) -> GLSGN:
    """Weights of ordinary size in the outputs too, so that every part shows in the result."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim > 1 and parameter.abs().max() < 1e-3:
                assert "head" in name or "mask" in name
                parameter.normal_(std=0.02)
    return net


# --- at initialisation ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(33, 47), (32, 32), (64, 96), (255, 131), (1080, 1920)])
@pytest.mark.parametrize("make", [glsgn_s, lambda: GLSGN(fusion="sum", patch_norm="pooled")])
def test_untrained_network_returns_its_input(size, make):
    x = torch.rand(1 if size[0] > 1000 else 2, 3, *size)
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
@pytest.mark.parametrize("fusion", ["laplacian", "sum"])
def test_every_parameter_gets_a_gradient_in_the_first_step(return_pathways, fusion):
    net = GLSGN(return_pathways=return_pathways, fusion=fusion).train()
    lq, gt = torch.rand(2, 2, 3, 64, 64)
    out = net(lq)
    if return_pathways:
        loss = F.l1_loss(out.restored, gt) + PathwayReconstructionLoss()(out, gt)
    else:  # what the stock SRModel does
        loss = F.l1_loss(out, gt)
    loss.backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
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


def test_pooled_patch_norm_is_instance_norm_of_the_merged_map():
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


def test_an_even_surface_looks_the_same_at_the_border_of_a_patch():
    image = torch.tensor([0.2, 0.5, 0.7])[:, None, None].expand(1, 3, 32, 48)
    features = Encoder(8, (2, 1, 1))(image, {})
    assert len(features) == 3
    for feature in features:
        assert feature.abs().max() > 0.05
        assert (feature - feature[:, :, :1, :1]).abs().max() < 1e-5


@pytest.mark.parametrize("reach", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_edges_are_repeated_alike_on_every_device(reach, dtype):
    given = [torch.rand(2, 5, 4, 6, dtype=dtype) for _ in range(2)]
    given[1] = given[1].contiguous(memory_format=torch.channels_last)
    for x in given:
        x.requires_grad_()
        on_cpu, elsewhere = edged(x, reach), joined_edges(x, reach)
        assert torch.equal(on_cpu, elsewhere)
        assert on_cpu.stride() == elsewhere.stride()
        weights = torch.rand_like(on_cpu)
        one, two = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (on_cpu, elsewhere))
        torch.testing.assert_close(one, two)


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


def test_per_patch_norm_has_the_same_parameters_and_another_output():
    pooled = trained_like(GLSGN(**TINY)).eval()
    apart = GLSGN(**{**TINY, "patch_norm": "per_patch"}).eval()
    apart.load_state_dict(pooled.state_dict())
    x = torch.rand(1, 3, 64, 64) * torch.linspace(0, 1, 64)
    with torch.no_grad():
        assert (pooled(x) - apart(x)).abs().max() > 1e-4


def test_the_global_pathway_reaches_every_place_and_local_encoders_stay_in_their_patch():
    net = trained_like(GLSGN(**TINY)).eval()
    x = torch.rand(1, 3, 128, 128)
    changed = x.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    with torch.no_grad():
        difference = (net(x) - net(changed)).abs().amax(dim=1)[0]
    assert difference[96:, 96:].max() > 0
    features = net.local_pathways[0].encoder
    f_global = {"from_global": torch.zeros(16, 8, 8, 8)}
    with torch.no_grad():
        one = features(split_patches(x, (4, 4)), f_global)[-1]
        two = features(split_patches(changed, (4, 4)), f_global)[-1]
    assert (one - two).flatten(1).abs().amax(dim=1).nonzero().flatten().tolist() == [0]


# --- what comes out ------------------------------------------------------------------------------


def test_return_pathways_gives_all_outputs_at_their_scales_in_training_only():
    net = GLSGN(**TINY, return_pathways=True)
    x = torch.rand(2, 3, 70, 90)
    out = net(x)
    assert out.restored.shape == x.shape
    gt_shapes = [at_scale(x, s).shape for s in (1, 2, 4, 4)]
    assert [b.shape for b in out.pathways] == gt_shapes
    padded = (96, 96)
    for a, s in zip(out.attentions, (4, 8, 16, 4)):
        assert a.shape == (2, 1, padded[0] // s, padded[1] // s)
        assert 0 < a.min() <= a.max() < 1
    for b, s in zip(out.pathways, (1, 2, 4, 4)):
        torch.testing.assert_close(b, at_scale(x, s), atol=1e-3, rtol=0)
    assert isinstance(net.eval()(x), torch.Tensor)


def test_training_and_evaluation_restore_alike():
    net = trained_like(GLSGN(**TINY, return_pathways=True))
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(net.train()(x).restored, net.eval()(x))


def test_images_of_a_batch_do_not_touch_each_other():
    net = trained_like(GLSGN(**TINY)).eval()
    x = torch.rand(3, 3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(net(x)[1:2], net(x[1:2]), atol=1e-6, rtol=1e-5)


def test_checkpointing_changes_neither_output_nor_gradients():
    nets = [trained_like(GLSGN(**TINY, checkpointing=on)).train() for on in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.rand(2, 3, 64, 64)
    outs = [net(x) for net in nets]
    torch.testing.assert_close(outs[0], outs[1])
    for out in outs:
        out.square().mean().backward()
    for one, two in zip(nets[0].parameters(), nets[1].parameters()):
        torch.testing.assert_close(one.grad, two.grad)


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


@pytest.mark.parametrize("options", [{}, {"patch_norm": "none"}, {"fusion": "sum"}], ids=str)
@pytest.mark.parametrize("strip", [1, 5000, 2**22])
def test_maps_are_overwritten_only_where_nobody_sees_it(options, strip, monkeypatch):
    """Without gradients a forward works in place, in strips of some rows on a CPU."""
    monkeypatch.setattr("glsgn_plugins.blocks.STRIP", strip)
    net = trained_like(GLSGN(**{**TINY, **options})).eval()
    x = torch.rand(2, 3, 160, 96)
    given = x.clone()
    recorded = net(x)
    with torch.no_grad():
        found = net(x)
    assert torch.equal(x, given)
    torch.testing.assert_close(found, recorded.detach(), atol=5e-6, rtol=0)


def test_compiles_without_a_graph_break():
    net = trained_like(GLSGN(**TINY, return_pathways=True))
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(compiled(x).restored, net(x).restored)
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))


def test_exports():
    net = trained_like(GLSGN(**TINY)).eval()
    x = torch.rand(1, 3, 64, 70)
    with torch.no_grad():
        program = torch.export.export(net, (x,))
        torch.testing.assert_close(program.module()(x), net(x))


def test_overfits_a_rainy_crop(rainy_pair):
    lq, gt = (tensor(image[40:168, 60:188]) for image in rainy_pair)
    net = glsgn_s().train().to(memory_format=torch.channels_last)
    steps = 150
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
        ({"blocks": (1, 1)}, "blocks: expected 3"),
        ({"grids": ((4, 4), (2, 2))}, "grids: expected three pairs"),
        ({"grids": ((4, 4), (3, 2), (2, 1))}, "patches of pathway 1"),
        ({"patch_norm": "poled"}, "Did you mean 'pooled'"),
        ({"fusion": "Laplacian"}, "Did you mean 'laplacian'"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        GLSGN(**options)


@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (1, 1, 64, 64), (3, 64, 64), (1, 4, 64, 64)])
def test_impossible_images_are_named(shape):
    with pytest.raises(InputError, match="expects images of"):
        GLSGN(**TINY)(torch.rand(shape))


@pytest.mark.parametrize(
    "grids", [((1, 1), (1, 1), (1, 1)), ((8, 8), (4, 4), (2, 2)), ((6, 4), (3, 2), (1, 1))]
)
def test_other_grids_work(grids):
    net = GLSGN(**TINY, grids=grids).eval()
    rows, cols = net.size_multiple
    x = torch.rand(1, 3, 2 * rows + 1, 2 * cols + 3)
    with torch.no_grad():
        assert (net(x) - x).abs().max() < 1e-3


def test_images_too_small_for_their_grids_are_named():
    with pytest.raises(InputError, match="too small for these patch grids"):
        GLSGN(**TINY, grids=((16, 16), (8, 8), (8, 8)))(torch.rand(1, 3, 33, 200))


def test_size_multiple_of_the_papers_grids():
    assert GLSGN(**TINY).size_multiple == (32, 16)
