"""The networks that ``networks.py`` compares: GLSGN without or with one part, and peers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from peers import UNET_WIDTH, UNet
from torch import Tensor, nn

from glsgn_plugins.archs.blocks import GlobalPathway, LocalPathway, ResidualBlock, near_zero_
from glsgn_plugins.archs.glsgn import GLSGN, PAPER_GRIDS

WIDTHS, BLOCKS = (8, 12, 16, 16), (1, 1, 1)
"""Half of ``glsgn_s``: a quarter of its multiply-adds, so that the same time sees more crops."""
TASKS = ("rain", "haze", "reflection")
SCENE = 256
"""Longer side of the scenes that some variants of the global pathway see, in training and after."""


# --- the variants ---------------------------------------------------------------------------------


class GainHead(nn.Module):
    """A gain and an offset, B = I + K * I + R, in place of a residual alone.

    Haze takes a share of the scene's light and adds its own, so networks that take it away have
    both (gUNet, DehazeFormer).
    """

    image: Tensor
    """I, as the pathway has just been given it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = near_zero_(nn.Conv2d(width, 6, 3, padding=1))

    def forward(self, feature: Tensor) -> Tensor:
        gain, offset = self.conv(feature).chunk(2, dim=1)
        return gain * self.image + offset


def with_gain(net: GLSGN) -> GLSGN:
    """In each pathway."""

    def tell(pathway: nn.Module, given: tuple[Any, ...]) -> None:
        pathway.head.image = given[0]  # type: ignore[union-attr]

    for pathway in (*net.local_pathways, net.global_pathway):
        pathway.head = GainHead(pathway.head.in_channels)
        pathway.register_forward_pre_hook(tell)
    return net


class OnePathway(nn.Module):
    """Pathway 1 alone, with no other to hear from. Half as wide again, for like multiply-adds."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.pathway = LocalPathway(width, BLOCKS)

    def forward(self, lq: Tensor) -> Tensor:
        return on_multiple(lambda image: self.pathway(image, {})[0], lq, 4)


class PlainUNet(UNet):
    """The U-Net that ``glsgn_s`` is compared with elsewhere, half as wide."""

    def __init__(self) -> None:
        super().__init__(UNET_WIDTH // 2)

    def forward(self, lq: Tensor) -> Tensor:
        return on_multiple(super().forward, lq, 8)


def on_multiple(net: Callable[[Tensor], Tensor], lq: Tensor, multiple: int) -> Tensor:
    """Reflect an image to a multiple of rows and columns, and cut the result back."""
    rows, cols = -lq.shape[2] % multiple, -lq.shape[3] % multiple
    return net(F.pad(lq, (0, cols, 0, rows), mode="reflect"))[..., : lq.shape[2], : lq.shape[3]]


class Deeper(nn.Module):
    """Two more scales below the coarsest features, which then see some hundred pixels of I_4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.downs = nn.ModuleList(nn.Conv2d(width, width, 2, stride=2) for _ in range(2))
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        rows, cols = -x.shape[2] % 4, -x.shape[3] % 4
        size = x.shape[2:]
        y = F.pad(x, (0, cols, 0, rows), mode="replicate")
        for down, block in zip(self.downs, self.blocks):
            y = block(down(y))
        up = F.interpolate(y, scale_factor=4, mode="bilinear")
        return x + up[:, :, : size[0], : size[1]]


class Pooled(nn.Module):
    """The mean and the maximum of the coarsest features over the whole, added everywhere."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Linear(2 * width, width), nn.LeakyReLU(0.2), nn.Linear(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return x + self.mix(seen)[:, :, None, None]


class Context(GlobalPathway):
    """A global pathway whose coarsest features see more of the image."""

    def __init__(self, context: Callable[[int], nn.Module]) -> None:
        super().__init__(WIDTHS[3], BLOCKS)
        self.context = context(4 * WIDTHS[3])

    def look(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """F_g and A_g."""
        *finer, coarsest = self.encoder(image, {})
        feature, _ = self.decoder([*finer, self.context(coarsest)])
        return feature, self.attention(feature)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feature, attention = self.look(image)
        return image + self.head(feature * attention), attention, feature


class Scene(Context):
    """One that sees the whole photograph scaled down, whatever part of it is restored."""

    scene: Tensor | None = None
    """``(N, 3, h, w)``; by default the image itself, scaled down to :data:`SCENE`."""

    window: Tensor | None = None
    """Of each sample: the centre and half the size of the part, in the scene's -1 to 1."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scene, window = self.scene, self.window
        if scene is None or window is None:
            scale = SCENE / max(image.shape[2:])
            scene = F.interpolate(image, scale_factor=min(scale, 1.0), mode="area")
            window = image.new_tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(image), 4)
        feature, attention = on_scene(self.look, scene)
        y, x, high, wide = window.unbind(1)
        zero = torch.zeros_like(x)
        theta = torch.stack([wide, zero, x, zero, high, y], dim=1).reshape(-1, 2, 3)
        size = [len(image), 1, *image.shape[2:]]
        grid = F.affine_grid(theta, size, align_corners=False)
        feature, attention = (
            F.grid_sample(m, grid, padding_mode="border", align_corners=False)
            for m in (feature, attention)
        )
        return image + self.head(feature * attention), attention, feature


def on_scene(
    look: Callable[[Tensor], tuple[Tensor, Tensor]], scene: Tensor
) -> tuple[Tensor, Tensor]:
    """Maps of a scene of any size."""
    height, width = scene.shape[2:]
    padded = F.pad(scene, (0, -width % 4, 0, -height % 4), mode="reflect")
    feature, attention = look(padded)
    return feature[..., :height, :width], attention[..., :height, :width]


def glsgn(gain: bool = False, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        net = GLSGN(WIDTHS, BLOCKS, return_pathways=True, **options)
        return with_gain(net) if gain else net

    return make


def with_global(
    kind: type[Context], context: Callable[[int], nn.Module]
) -> Callable[[], nn.Module]:
    """With a gain, as every context was tried."""

    def make() -> nn.Module:
        net = GLSGN(WIDTHS, BLOCKS, return_pathways=True)
        net.global_pathway = kind(context)
        return with_gain(net)

    return make


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        make: Makes the network.
        losses: Options of the objective.
        cost: Time of a training step over that of the plain network, where steps are to be fewer.
        drawn: Grids are drawn anew each step.
    """

    make: Callable[[], nn.Module]
    losses: dict[str, float] = dataclasses.field(default_factory=dict)
    cost: float = 1.0
    drawn: bool = False


NO_CONSISTENCY = {"content_weight": 0, "attention_weight": 0, "intensity_weight": 0}
VARIANTS = {
    "plain": Variant(glsgn()),
    "repeated borders": Variant(glsgn(padding_mode="replicate")),
    "the figure's grids, repeated borders": Variant(
        glsgn(grids=PAPER_GRIDS, padding_mode="replicate")
    ),
    "grids drawn each step": Variant(glsgn(grids=PAPER_GRIDS), drawn=True),
    "Patch Norm pooled": Variant(glsgn(patch_norm="pooled")),
    "Patch Norm pooled, the figure's grids": Variant(glsgn(patch_norm="pooled", grids=PAPER_GRIDS)),
    "Patch Norm per patch, the figure's grids": Variant(
        glsgn(patch_norm="per_patch", grids=PAPER_GRIDS)
    ),
    "gain": Variant(glsgn(gain=True)),
    "gain, deeper": Variant(with_global(Context, Deeper)),
    "gain, pooled": Variant(with_global(Context, Pooled)),
    "gain, pooled, scenes": Variant(with_global(Scene, Pooled), cost=1.5),
    "no features of the global pathway": Variant(glsgn(global_features=False)),
    "gain, no features of the global pathway": Variant(glsgn(global_features=False, gain=True)),
    "no features passed on": Variant(glsgn(local_features=False)),
    "no PAC": Variant(glsgn(attention=False), {"attention_weight": 0}),
    "up-sample and add": Variant(glsgn(fusion="sum")),
    "no consistency": Variant(glsgn(), NO_CONSISTENCY),
    "restored image alone": Variant(glsgn(), {**NO_CONSISTENCY, "pathway_weight": 0}),
    "one pathway": Variant(OnePathway),
    "U-Net": Variant(PlainUNet),
}

TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "padding": (
        (
            "plain",
            "repeated borders",
            "the figure's grids, repeated borders",
            "grids drawn each step",
        ),
        TASKS,
    ),
    "norm": (
        (
            "plain",
            "Patch Norm pooled",
            "Patch Norm pooled, the figure's grids",
            "Patch Norm per patch, the figure's grids",
        ),
        TASKS,
    ),
    "global": (
        (
            "plain",
            "gain",
            "gain, deeper",
            "gain, pooled",
            "gain, pooled, scenes",
            "gain, no features of the global pathway",
        ),
        ("haze", "reflection"),
    ),
    "pathways": (  # for longer trainings
        (
            "plain",
            "one pathway",
            "U-Net",
            "no features of the global pathway",
            "Patch Norm pooled",
        ),
        TASKS,
    ),
    "parts": (
        (
            "plain",
            "no features of the global pathway",
            "no features passed on",
            "no PAC",
            "up-sample and add",
            "no consistency",
            "restored image alone",
            "one pathway",
            "U-Net",
        ),
        TASKS,
    ),
}
