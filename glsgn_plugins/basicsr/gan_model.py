"""``GLSGNGANModel``: the adversarial term, with BasicSR's own discriminators and ``GANLoss``."""

from __future__ import annotations

from collections import OrderedDict

from basicsr.archs import build_network
from basicsr.losses import build_loss
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor

from glsgn_plugins.archs.glsgn import PATHWAY_SCALES, PathwayOutputs
from glsgn_plugins.basicsr.model import GLSGNModel
from glsgn_plugins.losses.reconstruction import at_scale
from glsgn_plugins.training import FiniteWatch


@MODEL_REGISTRY.register()
class GLSGNGANModel(GLSGNModel):
    """``GLSGNModel`` and a discriminator, of the restored image and where asked for of B_g.

    It takes a ``network_d`` (``UNetDiscriminatorSN``, say), and under ``train``:

    - ``gan_opt``: BasicSR's ``GANLoss``; the generator's term is logged as ``l_g_gan``.
    - ``gan_global_weight``: weight of the same on the global pathway's output, as ``l_g_gan_g``,
      relative to that on the restored image; 0 by default.
    - ``optim_d``: the discriminator's optimiser, any of ``torch.optim``.
    """

    TRAIN_KEYS = GLSGNModel.TRAIN_KEYS | {"gan_opt", "gan_global_weight", "optim_d"}

    def init_training_settings(self) -> None:
        """What ``GLSGNModel`` has, and the discriminator with its loss and optimiser."""
        options = self.opt["train"]
        self.net_d = self.model_to_device(build_network(self.opt["network_d"]))
        self.print_network(self.net_d)
        path = self.opt["path"].get("pretrain_network_d")
        if path is not None:
            self.load_network(self.net_d, path, self.opt["path"].get("strict_load_d", True))
        self.net_d.train()
        self.cri_gan = build_loss(options["gan_opt"]).to(self.device)
        self.watch_d = FiniteWatch()
        self.global_weight = options.get("gan_global_weight", 0)
        super().init_training_settings()

    def setup_optimizers(self) -> None:
        """The generator's, then the discriminator's."""
        super().setup_optimizers()
        options = self.opt["train"]["optim_d"]
        kind = options.pop("type")
        self.optimizer_d = self.get_optimizer(kind, list(self.net_d.parameters()), **options)
        self.optimizers.append(self.optimizer_d)

    def _judged(self, outputs: PathwayOutputs) -> list[tuple[str, float, Tensor, Tensor]]:
        """What the discriminator sees: a name, its weight, the made one, the real one."""
        judged = [("", 1.0, outputs.restored.float(), self.gt)]
        if self.global_weight:
            real = at_scale(self.gt, PATHWAY_SCALES[-1])
            judged.append(("_g", self.global_weight, outputs.pathways[-1].float(), real))
        return judged

    def _loss_terms(self, outputs: PathwayOutputs) -> OrderedDict[str, Tensor]:
        terms = super()._loss_terms(outputs)
        self.net_d.requires_grad_(False)
        for name, weight, made, _ in self._judged(outputs):
            terms[f"l_g_gan{name}"] = weight * self.cri_gan(self.net_d(made), True)
        self.outputs = outputs
        return terms

    def optimize_parameters(self, current_iter: int) -> None:
        """One step of the generator, then one of the discriminator, in float32."""
        super().optimize_parameters(current_iter)
        outputs = self.outputs
        del self.outputs
        self.net_d.requires_grad_(True)
        self.optimizer_d.zero_grad()
        terms: OrderedDict[str, Tensor] = OrderedDict()
        for name, weight, made, real in self._judged(outputs):
            # Real and made apart, each with its backward pass, as batch statistics want it.
            for kind, image, is_real in (("real", real, True), ("fake", made.detach(), False)):
                score = self.net_d(image)
                loss = weight * self.cri_gan(score, is_real, is_disc=True)
                loss.backward()
                terms[f"l_d_{kind}{name}"] = loss.detach()
        self.watch_d.see(current_iter, terms)
        self.optimizer_d.step()
        self.log_dict.update(terms)

    def _stop_unless_finite(self, watch: FiniteWatch) -> None:
        """Neither the generator's losses nor the discriminator's."""
        super()._stop_unless_finite(watch)
        super()._stop_unless_finite(self.watch_d)

    def save(self, epoch: int, current_iter: int) -> None:
        """The discriminator first: a training state is written when all it needs is there."""
        self._stop_unless_finite(self.watch)
        self.save_network(self.net_d, "net_d", current_iter)
        super().save(epoch, current_iter)
