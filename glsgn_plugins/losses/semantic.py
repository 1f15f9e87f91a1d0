"""Distance of deep features, from a backbone that is frozen and never downloaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.io.checkpoints import read_checkpoint

LPIPS_TRUNKS = {
    "lpips_alex": ("alexnet", "alexnet-owt-7be5be79.pth"),
    "lpips_vgg": ("vgg16", "vgg16-397923af.pth"),
    "lpips_squeeze": ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth"),
}
"""Torchvision's name of each trunk, and of its weights in torch's cache."""

SMALLEST = 64
"""Sides below are enlarged to this many pixels, under which the trunks' last layers are empty."""


class SemanticDistance(nn.Module):
    """LPIPS, or a distance of the features of any timm backbone.

    Args:
        backbone: ``"lpips_alex"``, ``"lpips_vgg"``, ``"lpips_squeeze"`` (package lpips), or a name
            of timm with ``features_only``.
        layers: Of timm's feature maps, those compared; by default all. LPIPS has its own.
        weights: A local file (of torchvision's trunk for LPIPS, ``.pth`` or ``.safetensors`` of the
            whole model for timm), ``"cache"`` for what torch or huggingface_hub have downloaded
            before, or ``"random"``, which is the same each time.

    Raises:
        InputError: No such backbone or layer; no weights where they are looked for; it says where
            to get them.
        ImportError: The package (lpips or timm) is missing.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str = "lpips_alex",
        layers: Sequence[int] | None = None,
        weights: str = "cache",
    ) -> None:
        super().__init__()
        self.heads: nn.ModuleList | None = None
        # Random weights are to be the same wherever and whenever they are made.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if backbone in LPIPS_TRUNKS:
                if layers is not None:
                    raise InputError(f"layers: {backbone} has its own; leave layers out")
                self.net, self.heads = _lpips(backbone, weights)
                mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
            else:
                self.net, mean, std = _timm(backbone, layers, weights)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> SemanticDistance:
        """Always in evaluation mode: it is a measure, and not trained."""
        return super().train(False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of ``(N, 3, H, W)``, RGB in [0, 1], each of unit length over channels."""
        short = min(image.shape[2:])
        if short < SMALLEST:
            size = [max(SMALLEST, side * SMALLEST // short) for side in image.shape[2:]]
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        # Inside the root: where no channel answers, its gradient would not be finite at 0.
        return [
            f * (f.square().sum(dim=1, keepdim=True) + 1e-20).rsqrt()
            for f in self.net((image - self.mean) / self.std)
        ]

    def between(self, features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Distances ``(N,)`` of what :meth:`features` gave."""
        layers = []
        for k, (x, y) in enumerate(zip(features, others)):
            difference = (x - y).square()
            layer = self.heads[k](difference) if self.heads else difference.sum(1, keepdim=True)
            layers.append(layer.mean(dim=(1, 2, 3)))
        total = torch.stack(layers).sum(0)
        return total if self.heads else total / len(features)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances ``(N,)`` of images ``(N, 3, H, W)``, RGB in [0, 1]."""
        return self.between(self.features(x), self.features(y))


def _lpips(backbone: str, weights: str) -> tuple[nn.Module, nn.ModuleList]:
    """The trunk of LPIPS with the wanted weights, and its calibrated heads."""
    try:
        import lpips
    except ImportError:
        raise ImportError(f"backbone {backbone} needs: pip install lpips") from None
    with warnings.catch_warnings():
        # lpips calls torchvision in a way that is deprecated; its users can do nothing about it.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        model = lpips.LPIPS(net=backbone.removeprefix("lpips_"), pnet_rand=True, verbose=False)
    if weights != "random":
        trunk, name = LPIPS_TRUNKS[backbone]
        path = Path(weights)
        if weights == "cache":
            path = Path(torch.hub.get_dir(), "checkpoints", name)
        if not path.is_file():
            raise InputError(
                f"weights of {backbone}: no file '{path}'. Where there is internet, "
                f"torchvision.models.{trunk}(weights='IMAGENET1K_V1') puts {name} into torch's "
                "cache; give its path, or weights: random"
            )
        state = read_checkpoint(path)
        # The slices of lpips keep the numbers that layers have in torchvision's model.
        own = model.net.state_dict()
        try:
            model.net.load_state_dict({k: state[f"features.{k.split('.', 1)[1]}"] for k in own})
        except (KeyError, RuntimeError, TypeError):
            raise InputError(f"{path}: not the weights of torchvision's {trunk}") from None
    return model.net, model.lins


def _timm(backbone: str, layers: Sequence[int] | None, weights: str) -> tuple[nn.Module, Any, Any]:
    """A timm backbone that returns feature maps, and the mean and deviation of its input."""
    try:
        import timm
    except ImportError:
        raise ImportError(f"backbone {backbone} needs: pip install timm") from None
    if not timm.is_model(backbone):
        raise unknown_name("backbone", backbone, [*LPIPS_TRUNKS, *timm.list_models()])
    options: dict[str, Any] = {"features_only": True}
    if weights != "random":
        file = _timm_cache(backbone) if weights == "cache" else weights
        if not os.path.isfile(file):
            raise InputError(f"weights of {backbone}: no file '{file}'; give a path or 'random'")
        options.update(pretrained=True, pretrained_cfg_overlay={"file": file})
    try:
        net: Any = timm.create_model(backbone, **options)
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"backbone {backbone}: {reason} (weights: {weights})") from None
    try:
        with torch.no_grad():
            count = len(net.eval()(torch.zeros(1, 3, SMALLEST, 3 * SMALLEST // 2)))
    except (AssertionError, RuntimeError) as error:
        raise InputError(
            f"backbone {backbone}: takes images of one size alone ({str(error).splitlines()[0]}); "
            "use one of convolutions, resnet18 say"
        ) from None
    wanted = list(range(count)) if layers is None else layers
    if not isinstance(wanted, Sequence) or not wanted or not all(k in range(count) for k in wanted):
        raise InputError(f"layers: {backbone} has 0 to {count - 1}; got {wanted}")
    cfg = net.pretrained_cfg
    return _Chosen(net, wanted), cfg["mean"], cfg["std"]


def _timm_cache(backbone: str) -> str:
    """The file that huggingface_hub has of a timm model."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    cfg = timm.get_pretrained_cfg(backbone)
    repo = cfg.hf_hub_id if cfg else None
    for name in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(repo, name) if repo else None
        if isinstance(found, str):
            return found
    raise InputError(
        f"weights of {backbone}: not in huggingface_hub's cache. Where there is internet, "
        f"timm.create_model('{backbone}', pretrained=True) puts them there; or give a file's path, "
        "or weights: random"
    )


class _Chosen(nn.Module):
    """Some of a backbone's feature maps."""

    def __init__(self, net: nn.Module, layers: Sequence[int]) -> None:
        super().__init__()
        self.net, self.layers = net, list(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.net(x)
        # Swin's and Mamba's are (N, H, W, C).
        last = "NHWC" in str(getattr(self.net, "output_fmt", ""))
        return [maps[k].permute(0, 3, 1, 2) if last else maps[k] for k in self.layers]
