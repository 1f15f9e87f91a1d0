"""The full objective: reconstruction, and the four consistencies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from glsgn_plugins.archs.glsgn import PathwayOutputs
from glsgn_plugins.errors import InputError
from glsgn_plugins.losses.consistency import (
    AttentionConsistencyLoss,
    ContentConsistencyLoss,
    IntensityConsistencyLoss,
    SemanticConsistencyLoss,
)
from glsgn_plugins.losses.reconstruction import (
    PathwayReconstructionLoss,
    checked_weight,
    criterion_of,
)


class GLSGNLoss(nn.Module):
    """The restored image and every pathway against the truth, and the pathways with each other.

    A weight of 0 leaves a term out. The weights are our choice. It needs the network's own outputs
    (``return_pathways: true``), and then serves as ``pixel_opt`` of BasicSR's stock ``SRModel``.

    Args:
        restored_weight: Of the restored image.
        pathway_weight: Of :class:`PathwayReconstructionLoss`.
        content_weight: Of :class:`ContentConsistencyLoss`.
        attention_weight: Of :class:`AttentionConsistencyLoss`.
        intensity_weight: Of :class:`IntensityConsistencyLoss`.
        semantic_weight: Of :class:`SemanticConsistencyLoss`; 0 by default, as it wants weights.
        frequency_weight: Of the Fourier term in :class:`PathwayReconstructionLoss`.
        criterion: Of restored image and pathways: ``"l1"``, ``"charbonnier"`` or ``"mse"``.
        backbone: Of the semantic term, see
            :class:`~glsgn_plugins.losses.semantic.SemanticDistance`.
        layers: Likewise.
        weights: Likewise.

    Raises:
        InputError: A value above can't be used, or the network returned the image alone.
    """

    def __init__(
        self,
        restored_weight: float = 1.0,
        pathway_weight: float = 0.25,
        content_weight: float = 0.1,
        attention_weight: float = 0.004,
        intensity_weight: float = 0.1,
        semantic_weight: float = 0.0,
        frequency_weight: float = 0.0,
        criterion: str = "l1",
        backbone: str = "lpips_alex",
        layers: Sequence[int] | None = None,
        weights: str = "cache",
    ) -> None:
        super().__init__()
        weights_of_terms = {
            "restored_weight": restored_weight,
            "pathway_weight": pathway_weight,
            "content_weight": content_weight,
            "attention_weight": attention_weight,
            "intensity_weight": intensity_weight,
            "semantic_weight": semantic_weight,
            "frequency_weight": frequency_weight,
        }
        for name, weight in weights_of_terms.items():
            checked_weight(weight, f"GLSGNLoss {name}")
        if frequency_weight and not pathway_weight:
            raise InputError(
                "GLSGNLoss frequency_weight: of the pathways' distances, which pathway_weight: 0 "
                "leaves out; leave it out as well"
            )
        self.restored_weight = restored_weight
        self.criterion = criterion_of(criterion, type(self).__name__)
        self.reconstruction = (
            PathwayReconstructionLoss(
                pathway_weight, criterion=criterion, frequency_weight=frequency_weight
            )
            if pathway_weight
            else None
        )
        self.consistencies = nn.ModuleDict()
        if content_weight:
            self.consistencies["content"] = ContentConsistencyLoss(content_weight)
        if attention_weight:
            self.consistencies["attention"] = AttentionConsistencyLoss(attention_weight)
        if intensity_weight:
            self.consistencies["intensity"] = IntensityConsistencyLoss(intensity_weight)
        if semantic_weight:
            self.consistencies["semantic"] = SemanticConsistencyLoss(
                semantic_weight, backbone, layers, weights
            )
        if not (restored_weight or pathway_weight or self.consistencies):
            raise InputError("GLSGNLoss: every weight is 0, so that nothing would be trained")

    def terms(self, outputs: PathwayOutputs, gt: Tensor) -> dict[str, Tensor]:
        """Weighted scalars by name: ``restored``, ``pathway_1`` to ``pathway_g``, ``content``,
        ``attention``, ``intensity``, ``semantic``, as far as their weight isn't 0.

        Args:
            outputs: The network's.
            gt: ``(N, 3, H, W)``, RGB in [0, 1].
        """
        if not isinstance(outputs, PathwayOutputs):
            raise InputError("GLSGNLoss needs network_g.return_pathways: true")
        found: dict[str, Tensor] = {}
        if self.restored_weight:
            restored = outputs.restored.to(gt.dtype)
            found["restored"] = self.restored_weight * self.criterion(restored, gt)
        if self.reconstruction is not None:
            found |= self.reconstruction.terms(outputs, gt)
        for name, consistency in self.consistencies.items():
            found[name] = consistency(outputs)
        return found

    def forward(self, outputs: PathwayOutputs, gt: Tensor) -> Tensor:
        """The sum of :meth:`terms`, a scalar."""
        return torch.stack(list(self.terms(outputs, gt).values())).sum()


def loss_terms(
    pixel: nn.Module | None, pathway: nn.Module | None, outputs: PathwayOutputs, gt: Tensor
) -> dict[str, Tensor]:
    """Each term of a loss of the restored image and of one over the pathways, by name.

    Args:
        pixel: Any loss of two images, whose term is ``pix``; or one with ``terms``.
        pathway: A loss of :class:`PathwayOutputs`, whose term is ``pathway``; or one with
            ``terms``. Terms of one name in both are added.
        outputs: The network's.
        gt: ``(N, 3, H, W)``, RGB in [0, 1].

    Returns:
        Weighted scalars; training takes their sum.
    """
    terms: dict[str, Tensor] = {}
    for criterion in (pixel, pathway):
        if criterion is None:
            continue
        own_terms: Callable[..., dict[str, Tensor]] | None = getattr(criterion, "terms", None)
        if own_terms is not None:
            for name, value in own_terms(outputs, gt).items():
                terms[name] = terms[name] + value if name in terms else value
        elif criterion is pixel:
            terms["pix"] = criterion(outputs.restored.to(gt.dtype), gt)
        else:
            terms["pathway"] = criterion(outputs)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        _reach_all(terms, outputs)
    return terms


def _reach_all(terms: dict[str, Tensor], outputs: PathwayOutputs) -> None:
    """Let the loss reach every weight, with a gradient of 0 where it is left out.

    Among several ranks a weight without a gradient is an error of DistributedDataParallel's. What
    reaches the restored image has come through all of them.
    """
    name = next(iter(terms))
    terms[name] = terms[name] + 0 * outputs.restored.float().mean()
