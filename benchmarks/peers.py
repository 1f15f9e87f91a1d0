"""Networks to compare with, in BasicSR's registry: ``python benchmarks/peers.py -opt FILE``.

BasicSR's own training, with MMagic's NAFNet and Restormer, and a plain U-Net of the cost of
``glsgn_s``, registered beside BasicSR's SwinIR. Each is trained by ``GLSGNModel`` itself, so that
optimiser, precision, averaging and data are the same as for GLSGN; in training a peer hands out
its restored image in the form that GLSGN has, with no pathways.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.nn.functional as F
from forward import build
from torch import Tensor, nn

from glsgn_plugins.archs.glsgn import PathwayOutputs

UNET_WIDTH = 20
"""Channels at full scale: 0.56 T multiply-adds at 3840x2160; ``glsgn_s`` has 0.54 T."""


class UNet(nn.Module):
    """Four scales, two convolutions each on the way down and up, channels double with each."""

    def __init__(self, width: int = UNET_WIDTH) -> None:
        super().__init__()
        widths = [width << k for k in range(4)]
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList(_convolutions(w, w) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, 2) for w in widths[:-1])
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[:-1])
        self.up = nn.ModuleList(_convolutions(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        kept = []
        x = self.stem(lq)
        for k, stage in enumerate(self.down):
            x = stage(x)
            if k < len(self.shrink):
                kept.append(x)
                x = self.shrink[k](x)
        for k in reversed(range(len(self.up))):
            x = self.up[k](torch.cat([self.grow[k](x), kept[k]], 1))
        return lq + self.head(x)


def _convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
    )


PEERS = {
    "U-Net": UNet,
    "NAFNet-32": lambda: build("NAFNet-32"),
    "Restormer": lambda: build("Restormer"),
    "SwinIR": lambda: build("SwinIR"),
}


class Peer(nn.Module):
    """A peer behind GLSGN's interface; pads by reflection to the multiple of 16 that all take."""

    def __init__(self, peer: str, return_pathways: bool = False) -> None:
        super().__init__()
        self.net = PEERS[peer]()
        self.return_pathways = return_pathways

    def forward(self, lq: Tensor) -> Tensor | PathwayOutputs:
        rows, cols = -lq.shape[2] % 16, -lq.shape[3] % 16
        restored = self.net(F.pad(lq, (0, cols, 0, rows), mode="reflect"))
        restored = restored[:, :, : lq.shape[2], : lq.shape[3]]
        if not (self.training and self.return_pathways):
            return restored
        return PathwayOutputs(restored, (), (), lq)


def main(argv: list[str]) -> None:
    """``basicsr train`` but for its check that GLSGNModel has a GLSGN."""
    from glsgn_plugins.cli.basicsr import load_plugins

    load_plugins()
    from basicsr.train import train_pipeline
    from basicsr.utils.registry import ARCH_REGISTRY

    ARCH_REGISTRY.register(Peer)
    sys.argv = ["basicsr", *argv]
    train_pipeline(os.getcwd())


if __name__ == "__main__":
    main(sys.argv[1:])
