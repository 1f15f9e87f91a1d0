"""What ``gpu.py`` and its parts measure with: sizes, times, memory, and what a network must do."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glsgn_plugins.inference import AMP_TYPES

Table = list[str]
"""Lines of Markdown."""


class Sizes(SimpleNamespace):
    """What is measured on: full size, or small enough to be tried on a CPU."""

    @classmethod
    def of(cls, small: bool, quick: bool = False) -> Sizes:
        if small:
            return cls(
                four_k=(64, 96), sixteen_k=(96, 160), crops=(64,), batch=1, repeats=2, steps=3,
                gemm=256, copied=2**20, iterations=20, shortest=8, backend="aot_eager",
                networks=("glsgn_s",), peers=("NAFNet-32", "Restormer"), compiled=(False, True),
            )  # fmt: skip
        sizes = cls(
            four_k=(2160, 3840), sixteen_k=(8640, 15360), crops=(512, 768), batch=4, repeats=10,
            steps=20, gemm=8192, copied=2**30, iterations=240, shortest=400, backend="inductor",
            networks=("glsgn_s", "glsgn_b"), peers=("NAFNet-32", "Restormer"),
            compiled=(False, True),
        )  # fmt: skip
        if quick:
            sizes.repeats, sizes.peers, sizes.compiled = 3, ("NAFNet-32",), (False,)
        return sizes


class Bench:
    """The device, what it reaches, and how to measure on it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        self.small: bool = args.small
        self.sizes = Sizes.of(args.small, args.quick)
        self.rates: dict[str, float] = {}  # multiply-adds and bytes per second

    def finish(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], Any], repeats: int) -> float:
        """Median of a few runs, each of which is waited for; the first two aren't counted."""
        took = []
        for k in range(repeats + 2):
            self.finish()
            start = time.perf_counter()
            run()
            self.finish()
            if k > 1:
                took.append(time.perf_counter() - start)
        return median(took)

    def peak(self, run: Callable[[], Any], whole: bool = False) -> float:
        """GiB that a run takes beside what is there before it, or with it; 0 on a CPU."""
        if not self.cuda:
            run()
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = 0 if whole else torch.cuda.memory_allocated()
        run()
        self.finish()
        return (torch.cuda.max_memory_allocated() - before) / 2**30

    def autocast(self, amp: str | None) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, AMP_TYPES[amp]) if amp else nullcontext()

    def precisions(self, framework: str = "") -> tuple[str | None, ...]:
        """CPUs have no float16 to speak of, and MMEngine none of the two on them."""
        if self.cuda:
            return None, "bf16", "fp16"
        return (None,) if framework == "MMagic" else (None, "bf16")


def work_of(net: nn.Module, shape: tuple[int, ...], width: int) -> tuple[float, float]:
    """Multiply-adds of a forward, and bytes of its convolutions' inputs and outputs.

    Args:
        net: The network; nothing is computed.
        shape: Of the input.
        width: Bytes of a number.
    """
    ghost = copy.deepcopy(net).to("meta")
    moved = 0

    def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal moved
        moved += width * (given[0].numel() + made.numel())

    for module in ghost.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ghost(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2, float(moved)


def short(error: BaseException) -> str:
    """What an error says, for a cell of a table."""
    return " ".join(str(error).split())[:80].replace("|", "/") or type(error).__name__
