"""``GLSGNModel``: ``TiledSRModel`` with every pathway supervised."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor

from glsgn_plugins.archs.glsgn import PathwayOutputs
from glsgn_plugins.basicsr.tiled_model import TiledSRModel
from glsgn_plugins.compat.basicsr import saved_iterations
from glsgn_plugins.errors import InputError, NonFiniteLossError, unknown_name
from glsgn_plugins.inference import AMP_TYPES
from glsgn_plugins.losses import loss_terms
from glsgn_plugins.training import (
    FiniteWatch,
    average_statistics,
    compile_forward,
    compiler,
    pair_on_device,
    uncompiled,
    update_averages,
    with_fused,
)


def amp_type(name: str | None) -> torch.dtype | None:
    """The type of ``train.amp``.

    Raises:
        InputError: There is no such type.
    """
    if name is not None and name not in AMP_TYPES:
        raise unknown_name("train.amp", name, [*AMP_TYPES, "~"])
    return AMP_TYPES[name] if name else None


@MODEL_REGISTRY.register()
class GLSGNModel(TiledSRModel):
    """Trains GLSGN: the restored image and each pathway against the truth, and with each other.

    Beside those of ``TiledSRModel`` it takes these options under ``train``:

    - ``pixel_opt``: a loss of the restored image, or ``type: GLSGNLoss``, the full objective.
    - ``pathway_opt``: one over all pathways, ``PathwayReconstructionLoss`` or a consistency, say.
      Each term of these losses is logged apart, as ``l_`` and its name.
    - ``amp``: ``bf16``, ``fp16`` (GPU only) or ``~``. Losses are computed in float32 all the same,
      validation is not affected.
    - ``grad_clip``: largest norm of all gradients together, or ``~``.
    - ``optim_g: type``: any optimiser of ``torch.optim``; fused on a GPU where torch has that.
    - ``compile``: ``true``, or a backend of ``torch.compile``: the network's forward and backward
      are compiled, as one graph. Validation runs the network as it is.

    No step waits for the device: losses are read when they are logged.

    Raises:
        InputError: An option above can't be used.
        NonFiniteLossError: In training, when the loss or a gradient was no longer finite: at the
            next line of the log, and before anything is saved or validated. The last checkpoint is
            from before that iteration.
    """

    TRAIN_KEYS = frozenset(
        {
            # SRModel's
            *("ema_decay", "optim_g", "scheduler", "total_iter", "warmup_iter"),
            *("pixel_opt", "perceptual_opt"),
            # and this model's own.
            *("pathway_opt", "amp", "grad_clip", "compile"),
        }
    )
    """Every option there is under ``train``."""

    schedulers: list[Any]

    def __init__(self, opt: dict[str, Any]) -> None:
        network = opt["network_g"]
        if network.setdefault("return_pathways", True) is not True:
            raise InputError(
                "network_g.return_pathways: GLSGNModel supervises every pathway and needs true; "
                "use model_type: SRModel to train on the restored image alone"
            )
        super().__init__(opt)

    def init_training_settings(self) -> None:
        """Losses, optimiser and schedule of ``SRModel``, and what this model adds."""
        options = self.opt["train"]
        amp = options.get("amp")
        self.amp_type = amp_type(amp)
        if amp == "fp16" and self.device.type != "cuda":
            raise InputError("train.amp: fp16 needs a GPU; use bf16 or ~ without one")
        # bfloat16 has the range of float32, so only float16 needs its gradients scaled.
        self.scaler = _grad_scaler() if amp == "fp16" else None
        self.grad_clip = options.get("grad_clip") or float("inf")
        pathway_opt = options.get("pathway_opt")
        self.cri_pathway = build_loss(pathway_opt).to(self.device) if pathway_opt else None
        self.watch = FiniteWatch()
        backend = compiler(options.get("compile"), "train.compile")
        if backend is not None and isinstance(self.net_g, torch.nn.DataParallel):
            raise InputError(
                "train.compile: DataParallel copies the network at each step; start a process for "
                "each GPU by torchrun, or set num_gpu: 1"
            )
        compile_forward(self.get_bare_model(self.net_g), backend)
        super().init_training_settings()
        if self.ema_decay > 0:  # in the format of net_g's, of which it is the average
            self.net_g_ema.to(memory_format=torch.channels_last)

    def model_to_device(self, net: torch.nn.Module) -> torch.nn.Module:
        """Channels-last, in which convolutions of few channels are faster on CPUs and on GPUs."""
        return super().model_to_device(net.to(memory_format=torch.channels_last))

    def feed_data(self, data: dict[str, Any]) -> None:
        """``lq`` and ``gt``: ``(N, 3, H, W)``, RGB in [0, 1] or uint8.

        In training, where the dataset leaves degrading to the device, ``gt`` and its ``recipe``.
        """
        if self.validating:  # the tester takes what it needs of an image
            super().feed_data(data)
        else:
            self.lq, self.gt = pair_on_device(data, self.device)

    def test(self) -> None:
        """As of ``TiledSRModel``."""
        with uncompiled(self.get_bare_model(self.net_g)):
            super().test()

    def get_optimizer(
        self, optim_type: str, params: list[Tensor], lr: float, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """Any optimiser of ``torch.optim`` by name, where BasicSR has Adam alone."""
        kind = getattr(torch.optim, optim_type)
        return kind(params, lr, **with_fused(kind, kwargs, self.device.type))

    def model_ema(self, decay: float = 0.999) -> None:
        """As BasicSR's, of all weights at once."""
        weights = dict(self.get_bare_model(self.net_g).named_parameters())
        averages = dict(self.net_g_ema.named_parameters())
        update_averages(
            [average.data for average in averages.values()],
            [weights[name].data for name in averages],
            decay,
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.amp_type is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.amp_type)

    def _loss_terms(self, outputs: PathwayOutputs) -> OrderedDict[str, Tensor]:
        terms = OrderedDict(
            (f"l_{name}", value)
            for name, value in loss_terms(self.cri_pix, self.cri_pathway, outputs, self.gt).items()
        )
        if self.cri_perceptual:
            percep, style = self.cri_perceptual(outputs.restored.float(), self.gt)
            for name, value in (("l_percep", percep), ("l_style", style)):
                if value is not None:
                    terms[name] = value
        return terms

    def optimize_parameters(self, current_iter: int) -> None:
        """One step: forward, every loss term, backward, clip, update; nothing of it is read."""
        self.optimizer_g.zero_grad()
        with self._autocast():
            outputs = self.net_g(self.lq)
        average_statistics(self.get_bare_model(self.net_g))
        self.output = outputs.restored
        terms = self._loss_terms(outputs)
        total = torch.stack(list(terms.values())).sum()

        parameters = [p for p in self.net_g.parameters() if p.requires_grad]
        if self.scaler is None:
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.grad_clip)
            self.watch.see(current_iter, terms, total, norm)
            self.optimizer_g.step()
        else:
            self.scaler.scale(total).backward()
            self.scaler.unscale_(self.optimizer_g)
            torch.nn.utils.clip_grad_norm_(parameters, self.grad_clip)
            # Gradients beyond float16's range are the scaler's business: it skips such a step.
            self.watch.see(current_iter, terms, total)
            self.scaler.step(self.optimizer_g)
            self.scaler.update()

        self.log_dict = self.reduce_loss_dict(terms)  # which leaves them on the device
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def get_current_log(self) -> dict[str, float]:
        """Each term's value in the last step, the mean of all ranks."""
        self._stop_unless_finite(self.watch)
        return dict(super().get_current_log())

    def save(self, epoch: int, current_iter: int) -> None:
        """As BasicSR's, of weights that are good."""
        self._stop_unless_finite(self.watch)
        super().save(epoch, current_iter)

    def validation(self, *args: Any, **kwargs: Any) -> None:
        """As BasicSR's; in training of weights that are good."""
        if self.is_train:
            self._stop_unless_finite(self.watch)
        super().validation(*args, **kwargs)

    def _stop_unless_finite(self, watch: FiniteWatch) -> None:
        """Before anything is saved, so that the last checkpoint is a good one."""
        spoilt = watch.read()
        if spoilt is None:
            return
        iterations = saved_iterations(self.opt["path"]["training_states"])
        kept = f"iteration {iterations[-1]} is kept" if iterations else "none was saved yet"
        raise NonFiniteLossError(
            f"iteration {spoilt.step}: not finite: {', '.join(spoilt.bad) or 'the gradient'} "
            f"({spoilt.values}). The last good checkpoint, {kept}. Lower train.optim_g.lr, set "
            "train.grad_clip, or use train.amp: bf16 or ~ in place of fp16; then --auto_resume"
        )

    @contextmanager
    def _scaler_beside_schedulers(self) -> Iterator[None]:
        """BasicSR saves and loads optimisers and schedulers only; a scaler's state goes along."""
        schedulers = self.schedulers
        self.schedulers = [*schedulers, self.scaler]
        try:
            yield
        finally:
            self.schedulers = schedulers

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """As BasicSR's, with the state of the gradient scaler where there is one."""
        with self._scaler_beside_schedulers() if self.scaler else nullcontext():
            super().save_training_state(epoch, current_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """As BasicSR's; a state that was saved with another ``train.amp`` serves too."""
        states = resume_state["schedulers"]
        scaled = len(states) > len(self.schedulers)
        if scaled and self.scaler is None:
            del states[len(self.schedulers) :]
        with self._scaler_beside_schedulers() if scaled and self.scaler else nullcontext():
            super().resume_training(resume_state)


def _grad_scaler() -> Any:
    if hasattr(torch.amp, "GradScaler"):  # torch 2.3 and later
        return torch.amp.GradScaler("cuda")
    return torch.cuda.amp.GradScaler()
