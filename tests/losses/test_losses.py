"""The loss over all pathways: zero where they agree with the truth, one term for each."""

import pytest
import torch

from glsgn_plugins import GLSGN, InputError
from glsgn_plugins.losses import (
    ContentConsistencyLoss,
    GLSGNLoss,
    IntensityConsistencyLoss,
    PathwayReconstructionLoss,
    SemanticConsistencyLoss,
)
from glsgn_plugins.losses.reconstruction import CRITERIA, at_scale


def pathways_of(gt):
    return [at_scale(gt, s) for s in (1, 2, 4, 4)]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("size", [(64, 48), (61, 35)])
def test_zero_at_the_truth_and_one_term_for_each_pathway(criterion, size):
    gt = torch.rand(2, 3, *size)
    loss = PathwayReconstructionLoss(criterion=criterion)
    floor = 1e-3 if criterion == "charbonnier" else 0
    terms = loss.terms(pathways_of(gt), gt)
    assert list(terms) == ["pathway_1", "pathway_2", "pathway_3", "pathway_g"]
    for term in terms.values():
        assert term.item() == pytest.approx(floor, abs=1e-6)
    for i, name in enumerate(terms):
        outputs = pathways_of(gt)
        outputs[i] = outputs[i] + 0.1
        changed = loss.terms(outputs, gt)
        assert [k for k in terms if not torch.equal(terms[k], changed[k])] == [name]
        assert loss(outputs, gt).item() == pytest.approx(sum(v.item() for v in changed.values()))


def test_weights_scale_their_terms():
    gt = torch.rand(1, 3, 32, 32)
    outputs = [p + 0.5 for p in pathways_of(gt)]
    terms = PathwayReconstructionLoss(0.5, weights=(1, 2, 0, 4)).terms(outputs, gt)
    assert [v.item() for v in terms.values()] == pytest.approx([0.25, 0.5, 0, 1.0])


def test_gradcheck():
    gt = torch.rand(1, 3, 9, 8, dtype=torch.float64)
    outputs = [torch.rand_like(p, requires_grad=True) for p in pathways_of(gt)]
    loss = PathwayReconstructionLoss(criterion="mse")
    assert torch.autograd.gradcheck(lambda *o: loss(o, gt), outputs)


def test_the_networks_own_outputs_fit():
    x = torch.rand(1, 3, 70, 90)
    out = GLSGN(widths=(4, 4, 4, 4), return_pathways=True)(x)
    assert PathwayReconstructionLoss()(out, x).item() < 4e-3


def test_wrong_options_are_named():
    with pytest.raises(InputError, match="Did you mean 'l1'"):
        PathwayReconstructionLoss(criterion="L1")
    with pytest.raises(InputError, match="expected four"):
        PathwayReconstructionLoss(weights=(1, 1))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -0.1, "0.1", True, None])
@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (GLSGNLoss, "restored_weight"),
        (GLSGNLoss, "semantic_weight"),
        (PathwayReconstructionLoss, "loss_weight"),
        (PathwayReconstructionLoss, "frequency_weight"),
        (ContentConsistencyLoss, "loss_weight"),
        (SemanticConsistencyLoss, "loss_weight"),
    ],
)
def test_weights_that_are_none_are_named(loss, name, weight):
    """NaN trained nothing, text was repeated, and a negative one rewards what is wrong."""
    with pytest.raises(InputError, match=f"{loss.__name__} {name}: expected a number from 0 up"):
        loss(**{name: weight})


def test_a_fourier_term_of_pathways_that_are_left_out_is_refused():
    with pytest.raises(InputError, match="frequency_weight: of the pathways' distances"):
        GLSGNLoss(pathway_weight=0, frequency_weight=0.1)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_the_fourier_term_is_there_in_half_precision_too(kind):
    gt = torch.rand(1, 3, 32, 32)
    outputs = [p + 0.1 for p in pathways_of(gt)]
    loss = PathwayReconstructionLoss(frequency_weight=0.5)
    half = loss([p.to(kind) for p in outputs], gt.to(kind))
    assert half.item() == pytest.approx(loss(outputs, gt).item(), rel=0.05)


def test_outputs_of_other_than_four_pathways_are_named():
    gt = torch.rand(1, 3, 32, 32)
    for loss in (PathwayReconstructionLoss(), ContentConsistencyLoss()):
        arguments = [pathways_of(gt)[:3]] + [gt] * isinstance(loss, PathwayReconstructionLoss)
        with pytest.raises(InputError, match="expected the outputs of four pathways, got 3"):
            loss(*arguments)
    with pytest.raises(InputError, match="IntensityConsistencyLoss grid: expected two numbers"):
        IntensityConsistencyLoss(grid=(0, 4))
