"""Training of the networks that ``networks.py`` compares; on a GPU, many side by side.

A step of a network this small is a thousand kernels of some microseconds each, which keep a GPU
idle while the host starts them. So there a step is one CUDA graph, crops, order, learning rate and
all, and the graphs of several trainings are replayed on streams of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm
from variants import SCENE, Scene, Variant

from glsgn_plugins.archs.glsgn import GLSGN, PAPER_GRIDS, PathwayOutputs
from glsgn_plugins.inference.tiled import as_float
from glsgn_plugins.losses import GLSGNLoss

DRAWN = (
    (*PAPER_GRIDS, (1, 1)),
    ((1, 1),) * 4,
    ((4, 1), (2, 1), (2, 1), (1, 1)),
    ((2, 4), (2, 2), (1, 2), (1, 1)),
)
"""What is drawn from anew each step: the figure's grids, none, those of rows or columns alone."""

EAGER = 3
"""First steps on a GPU, which also choose kernels and fill what is kept; then graphs."""


@dataclasses.dataclass
class Crops:
    """Degraded crops, uint8 ``(count, size, size, 3)``, and the scenes that they are parts of."""

    lq: Tensor
    gt: Tensor
    scene: Tensor
    window: Tensor

    def to(self, device: str) -> Crops:
        return Crops(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


def as_input(images: Tensor) -> Tensor:
    """``(N, 3, H, W)`` float32 in [0, 1], channels_last, of uint8 ``(N, H, W, 3)``."""
    return as_float(images.permute(0, 3, 1, 2))


class Training:
    """One training, step by step.

    Args:
        variant: What is trained.
        crops: On the device.
        seed: Of weights, order and drawn grids.
        steps: Of the plain network; one that costs more has so many fewer.
        batch: Crops in a step.
        lr: The highest learning rate.
        amp: In bfloat16.
    """

    def __init__(
        self,
        variant: Variant,
        crops: Crops,
        seed: int,
        steps: int,
        batch: int,
        lr: float,
        amp: bool = False,
    ) -> None:
        self.variant, self.crops, self.amp = variant, crops, amp
        device = crops.lq.device
        self.cuda = device.type == "cuda"
        torch.manual_seed(seed)
        self.net = variant.make().to(device, memory_format=torch.channels_last).train()
        self.objective = GLSGNLoss(**variant.losses)
        self.steps = round(steps / variant.cost)
        self.parameters = list(self.net.parameters())
        first = torch.tensor(lr, device=device) if self.cuda else lr
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            first,
            betas=(0.9, 0.99),
            weight_decay=0,
            capturable=self.cuda,
        )
        rng = np.random.default_rng(seed)
        count = len(crops.lq)
        rounds = -(-self.steps * batch // count)
        order = np.concatenate([rng.permutation(count) for _ in range(rounds)])
        order = order[: self.steps * batch].reshape(self.steps, batch)
        self.drawn = rng.integers(len(DRAWN), size=self.steps)
        self.order = torch.from_numpy(np.sort(order, axis=1)).to(device)
        self.rates = torch.tensor(_one_cycle(lr, self.steps), device=device)
        self.done = torch.zeros(1, dtype=torch.int64, device=device)
        self.count = 0
        self.graphs: dict[int, Any] = {}
        self.stream = torch.cuda.Stream() if self.cuda else None

    def step(self) -> None:
        """The next one."""
        drawn = int(self.drawn[self.count]) if self.variant.drawn else 0
        if self.variant.drawn:
            _cut(self.net, DRAWN[drawn])
        if self.stream is None:
            self._step()
        else:
            self._step_on(self.stream, drawn)
        self.count += 1

    def _step_on(self, stream: Any, drawn: int) -> None:
        with torch.cuda.stream(stream):
            if self.count < EAGER:
                stream.wait_stream(torch.cuda.default_stream())
                self._step()
                return
            if drawn not in self.graphs:
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=stream):
                    self._step()
                self.graphs[drawn] = graph
            self.graphs[drawn].replay()

    def _step(self) -> None:
        some = self.order.index_select(0, self.done)[0]
        lq, gt = (as_input(i.index_select(0, some)) for i in (self.crops.lq, self.crops.gt))
        rate = self.rates.index_select(0, self.done)[0]
        for group in self.optimizer.param_groups:
            if self.cuda:
                group["lr"].copy_(rate)
            else:
                group["lr"] = float(rate)
        # Under a graph, what autocast keeps from one step to the next would be stale.
        device = lq.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.amp, cache_enabled=False):
            outputs = self._forward(lq, some)
        if isinstance(outputs, PathwayOutputs):
            loss = self.objective(outputs, gt)
        else:  # it has no pathways
            loss = F.l1_loss(outputs.float(), gt)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.done += 1

    def _forward(self, lq: Tensor, some: Tensor) -> Any:
        """With the scenes where the network takes them."""
        pathway = getattr(self.net, "global_pathway", None)
        if not isinstance(pathway, Scene):
            return self.net(lq)
        window = self.crops.window.index_select(0, some)
        pathway.scene = as_input(self.crops.scene.index_select(0, some))
        # From the scene's -1 to 1 to the canvas's.
        share = window[:, 4:] / SCENE
        centre = (window[:, :2] + 1) * share - 1
        pathway.window = torch.cat([centre, window[:, 2:4] * share], dim=1)
        outputs = self.net(lq)
        pathway.scene = pathway.window = None
        return outputs


def _cut(net: nn.Module, grids: Sequence[tuple[int, int]]) -> None:
    assert isinstance(net, GLSGN)
    for i, pathway in enumerate(net.local_pathways):
        pathway.grid, pathway.merged = grids[i], grids[i + 1]


def _one_cycle(lr: float, steps: int) -> NDArray[np.float32]:
    """Each step's learning rate."""
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, steps, pct_start=0.05, cycle_momentum=False, final_div_factor=100
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return np.array(rates, np.float32)


def train(trainings: Sequence[Training]) -> None:
    """All of them, to their ends, a step of each in turn."""
    steps = max(training.steps for training in trainings)
    for _ in tqdm(range(steps), leave=False, unit="step", disable=None):
        for training in trainings:
            if training.count < training.steps:
                training.step()
    if trainings[0].cuda:
        torch.cuda.synchronize()
    for training in trainings:
        training.graphs.clear()
        training.net.eval()
