"""``GLSGNRestorer``: ``TiledEditModel`` with every pathway supervised."""

from __future__ import annotations

from typing import Any

import torch
from mmagic.registry import MODELS
from mmengine.logging import MessageHub
from torch import Tensor

from glsgn_plugins.compat.mmengine_waiting import let_wait, stop_unless_finite
from glsgn_plugins.errors import InputError
from glsgn_plugins.losses import loss_terms
from glsgn_plugins.mmagic.tiled_model import TiledEditModel
from glsgn_plugins.training import average_statistics, compile_forward, compiler, uncompiled


@MODELS.register_module()
class GLSGNRestorer(TiledEditModel):
    """Trains GLSGN: the restored image and each pathway against the truth, and with each other.

    Each term of the losses is logged apart, as ``loss_`` and its name; training takes their sum.
    Losses are computed in float32 also under ``AmpOptimWrapper``. No step waits for the device:
    losses are read when they are logged.

    Args:
        generator: Config of the network, ``type="GLSGN"``; ``return_pathways`` is set.
        pixel_loss: A loss of the restored image, or ``type="GLSGNLoss"``, the full objective.
        pathway_loss: One over all pathways, ``PathwayReconstructionLoss`` or a consistency, say.
        compile: ``True``, or a backend of ``torch.compile``: the generator's forward and backward
            are compiled, as one graph. Tests run the generator as it is.
        options: ``train_cfg``, ``test_cfg``, ``init_cfg`` and ``data_preprocessor`` of
            ``TiledEditModel``. Images must reach the network as RGB in [0, 1]:
            ``dict(type="DataPreprocessor", mean=[0] * 3, std=[255] * 3,
            output_channel_order="RGB")``.

    Raises:
        InputError: The generator's ``return_pathways`` is false; or ``compile`` can't be used.
        NonFiniteLossError: In training, when the loss or the norm of the gradients was no longer
            finite: at the next line of the log, and before anything is saved or validated. The last
            checkpoint is from before that iteration.
    """

    def __init__(
        self,
        generator: dict[str, Any],
        pixel_loss: dict[str, Any],
        pathway_loss: dict[str, Any] | None = None,
        compile: bool | str | None = None,
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
        compile_forward(self.generator, compiler(compile, "model.compile"))

    def forward_tensor(self, inputs: Tensor, data_samples: Any = None, **kwargs: Any) -> Any:
        """What the network returns for ``(N, 3, H, W)``, RGB in [0, 1]."""
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        if self.training:
            return super().forward_tensor(inputs, data_samples, **kwargs)
        with uncompiled(self.generator):
            return super().forward_tensor(inputs, data_samples, **kwargs)

    def forward_train(
        self, inputs: Tensor, data_samples: Any = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Weighted scalars by name, of which MMEngine sums and logs those with ``loss``."""
        outputs = self.forward_tensor(inputs, data_samples, **kwargs)
        average_statistics(self.generator)
        with torch.autocast(inputs.device.type, enabled=False):
            terms = loss_terms(self.pixel_loss, self.pathway_loss, outputs, data_samples.gt_img)
        return {f"loss_{name}": value for name, value in terms.items()}

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """As MMEngine's; where they are read to be logged, training stops unless all is finite."""
        hub = MessageHub.get_current_instance()
        let_wait(self, hub)  # which a Runner has asked for already, another loop hasn't
        stop_unless_finite(hub)
        return super().parse_losses(losses)

    def val_step(self, data: Any) -> Any:
        """As MMEngine's; in training of weights that are good."""
        MessageHub.get_current_instance().log_scalars  # noqa: B018  # reading them is the check
        return super().val_step(data)
