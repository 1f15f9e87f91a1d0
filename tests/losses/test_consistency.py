"""The consistencies: zero at agreement, each blind to what the others see, gradients in place."""

from copy import deepcopy

import pytest
import torch
from harness import psnr, tensor

from glsgn_plugins import GLSGN, InputError, PathwayOutputs
from glsgn_plugins.losses import (
    AttentionConsistencyLoss,
    ContentConsistencyLoss,
    GLSGNLoss,
    IntensityConsistencyLoss,
    SemanticConsistencyLoss,
)
from glsgn_plugins.losses.consistency import at_global_scale
from glsgn_plugins.losses.reconstruction import at_scale, frequency_distance

TINY = {"widths": (4, 4, 6, 8), "patch_norm": "pooled"}


def agreeing(size=(64, 96), dtype=torch.float32):
    """Outputs of four pathways that agree, and their input."""
    torch.manual_seed(0)
    image, lq = torch.rand(2, 2, 3, *size, dtype=dtype)
    attention = torch.rand(2, 1, 16, 24, dtype=dtype)
    maps = [attention, at_scale(attention, 2), at_scale(attention, 4), attention]
    return PathwayOutputs(
        image,
        tuple(at_scale(image, s) for s in (1, 2, 4, 4)),
        tuple(maps),
        at_scale(lq, 4),
    )


def with_pathway(outputs, index, change):
    pathways = list(outputs.pathways)
    pathways[index] = change(pathways[index])
    return outputs._replace(pathways=tuple(pathways))


def semantic():
    return SemanticConsistencyLoss(backbone="lpips_alex", weights="random")


LOSSES = {
    "content": ContentConsistencyLoss,
    "attention": AttentionConsistencyLoss,
    "intensity": IntensityConsistencyLoss,
    "semantic": semantic,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [(64, 96), (61, 93)])
def test_zero_exactly_where_the_pathways_agree(name, size):
    loss = LOSSES[name]()
    outputs = agreeing(size)
    if size == (61, 93):  # twice rounded up and reflected is not once, but at the last pixels
        outputs = outputs._replace(
            pathways=tuple(torch.full_like(b, 0.4) for b in outputs.pathways)
        )
    # Averaging by 4 at once and by 2 twice differ by rounding; features are then those of it.
    assert loss(outputs).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["content", "intensity", "semantic"])
@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_grows_with_disagreement(name, index):
    loss = LOSSES[name]()
    values = []
    for strength in (0.02, 0.08, 0.3):
        noise = torch.Generator().manual_seed(1)

        def change(b, strength=strength, noise=noise):
            return b + strength * (1 + torch.randn(b.shape, generator=noise))

        values.append(loss(with_pathway(agreeing(), index, change)).item())
    assert 1e-6 < values[0] < values[1] < values[2]


def test_attention_grows_with_disagreement_and_ignores_the_images():
    loss = AttentionConsistencyLoss()
    outputs = agreeing()
    shuffled = with_pathway(outputs, 0, torch.zeros_like)
    assert loss(shuffled).item() == loss(outputs).item()
    values = []
    for strength in (0.1, 0.5, 1.0):
        maps = list(outputs.attentions)
        maps[1] = maps[1] * (1 - strength)
        values.append(loss(outputs._replace(attentions=tuple(maps))).item())
    assert 0 < values[0] < values[1] < values[2]


def shuffled_within_cells(b):
    """The pixels of each cell of a 4x4 grid in another order."""
    n, c, h, w = b.shape
    cells = b.reshape(n, c, 4, h // 4, 4, w // 4).permute(0, 1, 2, 4, 3, 5)
    flat = cells.reshape(n, c, 4, 4, -1)
    flat = flat[..., torch.randperm(flat.shape[-1], generator=torch.Generator().manual_seed(0))]
    return flat.reshape(cells.shape).permute(0, 1, 2, 4, 3, 5).reshape(b.shape)


def test_intensity_ignores_a_shuffle_within_a_patch_and_content_does_not():
    outputs = agreeing()
    # Of the residual, whose statistics count; the input is set to 0 so that it is the output.
    outputs = outputs._replace(lq_global=torch.zeros_like(outputs.lq_global))
    shuffled = with_pathway(outputs, 2, shuffled_within_cells)
    assert IntensityConsistencyLoss()(shuffled).item() == pytest.approx(0, abs=1e-5)
    assert ContentConsistencyLoss()(shuffled).item() > 0.01


def test_intensity_sees_a_patch_restored_brighter():
    def brighter(b):
        b = b.clone()
        b[..., :4, :6] += 0.1
        return b

    one_patch = IntensityConsistencyLoss()(with_pathway(agreeing(), 2, brighter)).item()
    # One of 16 cells of one of three pathways is off by 0.1.
    assert one_patch == pytest.approx(0.1 / 16 / 3, rel=0.05)


@pytest.mark.parametrize("name", ["content", "intensity", "attention"])
def test_gradcheck(name):
    outputs = agreeing((16, 16), torch.float64)
    loss = LOSSES[name]()
    source = outputs.attentions if name == "attention" else outputs.pathways
    # Away from agreement, where L1 has its corners; the last, the reference, is held.
    parts = [(p + 0.3 * torch.rand_like(p)).requires_grad_() for p in source[:-1]]
    more = (outputs.lq_global,) if name == "intensity" else ()

    def of_first(first):  # content: the coarser of two is a reference too
        return loss([first, *(p.detach() for p in parts[1:]), source[-1]], *more)

    assert torch.autograd.gradcheck(of_first, parts[0])


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_reach_the_narrow_views_and_stop_at_the_reference(name):
    outputs = agreeing()
    source = outputs.attentions if name == "attention" else outputs.pathways
    parts = [(p + 0.1 * torch.rand_like(p)).detach().requires_grad_() for p in source]
    more = (outputs.lq_global,) if name == "intensity" else ()
    loss = LOSSES[name]()
    loss(parts, *more).backward()
    *local, reference = parts
    assert reference.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in local)
    assert not [p for p in loss.parameters() if p.requires_grad or p.grad is not None]


@pytest.mark.parametrize("name", LOSSES)
def test_under_autocast_on_the_networks_own_outputs(name):
    net = GLSGN(**TINY, return_pathways=True)
    lq = torch.rand(1, 3, 64, 64)
    loss = LOSSES[name]()
    full = loss(net(lq))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(lq)
    half = loss(outputs)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), abs=0.02)
    half.backward()


def test_plain_tensors_give_what_the_tuple_gives():
    outputs = with_pathway(agreeing(), 1, lambda b: b * 0.9)
    assert ContentConsistencyLoss()(outputs) == ContentConsistencyLoss()(outputs.pathways)
    assert AttentionConsistencyLoss()(outputs) == AttentionConsistencyLoss()(outputs.attentions)
    plain = IntensityConsistencyLoss()(outputs.pathways, outputs.lq_global)
    assert IntensityConsistencyLoss()(outputs) == plain
    with pytest.raises(InputError, match="needs lq_global"):
        IntensityConsistencyLoss()(outputs.pathways)


def test_without_pac_attention_consistency_says_so():
    outputs = GLSGN(**TINY, attention=False, return_pathways=True)(torch.rand(1, 3, 32, 32))
    with pytest.raises(InputError, match="attention: true"):
        AttentionConsistencyLoss()(outputs)


# --- the objective -------------------------------------------------------------------------------


def test_objective_is_the_sum_of_its_terms_and_a_weight_of_0_leaves_one_out():
    lq, gt = torch.rand(2, 1, 3, 64, 64)
    outputs = GLSGN(**TINY, return_pathways=True)(lq)
    loss = GLSGNLoss(semantic_weight=0.1, weights="random", frequency_weight=0.1)
    terms = loss.terms(outputs, gt)
    pathways = [f"pathway_{p}" for p in "123g"]
    assert list(terms) == ["restored", *pathways, *LOSSES]
    torch.testing.assert_close(loss(outputs, gt), sum(terms.values()))
    assert list(GLSGNLoss(content_weight=0).terms(outputs, gt)) == [
        "restored",
        *pathways,
        "attention",
        "intensity",
    ]
    twice = GLSGNLoss(content_weight=0.2).terms(outputs, gt)["content"]
    torch.testing.assert_close(twice, 2 * GLSGNLoss().terms(outputs, gt)["content"])


def test_objective_of_an_image_alone_says_what_is_missing():
    image = torch.rand(1, 3, 64, 64)
    with pytest.raises(InputError, match="return_pathways: true"):
        GLSGNLoss()(image, image)


def test_frequency_distance_keeps_the_scale_of_images():
    x = torch.rand(1, 3, 32, 32)
    assert frequency_distance(x, x).item() == 0
    assert 0 < frequency_distance(x, x + 0.1 * torch.randn_like(x)).item() < 0.2


def disagreement(net, images):
    with torch.no_grad():
        outputs = net.train()(images)
    *local, reference = at_global_scale(outputs)
    return sum((b - reference).abs().mean().item() for b in local)


def train(net, loss, lq, gt, steps):
    optimizer = torch.optim.Adam(net.parameters(), 3e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(net(lq), gt).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return net


def test_the_full_objective_lowers_every_term_and_pathways_agree_better(rainy_pair):
    """From where reconstruction alone has led, since untrained pathways agree in full."""
    corners = [(20, 20), (120, 60), (60, 200), (170, 300)]
    lq, gt = (
        torch.cat([tensor(image[y : y + 64, x : x + 64]) for y, x in corners])
        for image in rainy_pair
    )
    unseen, (lq, gt) = lq[3:], (lq[:3], gt[:3])
    net = GLSGN(**TINY, return_pathways=True)
    full = GLSGNLoss(content_weight=0.5, attention_weight=0.1, intensity_weight=0.5)
    alone = GLSGNLoss(content_weight=0, attention_weight=0, intensity_weight=0)
    train(net, alone, lq, gt, steps=40)
    start = {k: v.item() for k, v in full.terms(net(lq), gt).items()}

    agreeing_net = train(deepcopy(net), full, lq, gt, steps=80)
    end = {k: v.item() for k, v in full.terms(agreeing_net(lq), gt).items()}
    assert [k for k in start if end[k] >= start[k]] == []

    plain_net = train(deepcopy(net), alone, lq, gt, steps=80)
    assert disagreement(agreeing_net, unseen) < disagreement(plain_net, unseen)
    assert psnr(agreeing_net.eval()(lq).detach(), gt) > psnr(lq, gt)
