"""``GLSGNRestorer``: ``TiledEditModel`` with every pathway supervised."""

from __future__ import annotations

from typing import Any

import torch
from mmagic.registry import MODELS
from torch import Tensor

from glsgn_plugins.errors import InputError, NonFiniteLossError
from glsgn_plugins.losses import loss_terms
from glsgn_plugins.mmagic.tiled_model import TiledEditModel


@MODELS.register_module()
class GLSGNRestorer(TiledEditModel):
    """Trains GLSGN: the restored image and each pathway against the truth, and with each other.

    Each term of the losses is logged apart, as ``loss_`` and its name; training takes their sum.
    Losses are computed in float32 also under ``AmpOptimWrapper``.

    Args:
        generator: Config of the network, ``type="GLSGN"``; ``return_pathways`` is set.
        pixel_loss: A loss of the restored image, or ``type="GLSGNLoss"``, the full objective.
        pathway_loss: One over all pathways, ``PathwayReconstructionLoss`` or a consistency, say.
        options: ``train_cfg``, ``test_cfg``, ``init_cfg`` and ``data_preprocessor`` of
            ``TiledEditModel``. Images must reach the network as RGB in [0, 1]:
            ``dict(type="DataPreprocessor", mean=[0] * 3, std=[255] * 3,
            output_channel_order="RGB")``.

    Raises:
        InputError: The generator's ``return_pathways`` is false.
        NonFiniteLossError: In training, when the loss is no longer finite. The weights are those
            before that iteration, and no checkpoint was touched.
    """

    def __init__(
        self,
        generator: dict[str, Any],
        pixel_loss: dict[str, Any],
        pathway_loss: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if generator.get("return_pathways", True) is not True:
            raise InputError(
                "model.generator.return_pathways: GLSGNRestorer supervises every pathway and needs "
                "True; use type='BaseEditModel' to train on the restored image alone"
            )
        super().__init__({**generator, "return_pathways": True}, pixel_loss, **options)
        # In which convolutions of few channels are faster on CPUs and on GPUs.
        self.generator.to(memory_format=torch.channels_last)
        self.pathway_loss = MODELS.build(pathway_loss) if pathway_loss else None

    def forward_tensor(self, inputs: Tensor, data_samples: Any = None, **kwargs: Any) -> Any:
        """What the network returns for ``(N, 3, H, W)``, RGB in [0, 1]."""
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return super().forward_tensor(inputs, data_samples, **kwargs)

    def forward_train(
        self, inputs: Tensor, data_samples: Any = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Weighted scalars by name, of which MMEngine sums and logs those with ``loss``."""
        outputs = self.forward_tensor(inputs, data_samples, **kwargs)
        with torch.autocast(inputs.device.type, enabled=False):
            terms = loss_terms(self.pixel_loss, self.pathway_loss, outputs, data_samples.gt_img)
        if not torch.isfinite(torch.stack([value.detach() for value in terms.values()])).all():
            values = ", ".join(f"loss_{name} {value.item():.4g}" for name, value in terms.items())
            raise NonFiniteLossError(
                f"the loss is not finite ({values}). The last checkpoint is kept. Lower "
                "optim_wrapper.optimizer.lr, set optim_wrapper.clip_grad, or use dtype='bfloat16' "
                "in place of float16; then --resume"
            )
        return {f"loss_{name}": value for name, value in terms.items()}
