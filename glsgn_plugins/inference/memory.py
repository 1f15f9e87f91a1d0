"""How much memory there is, and how much a forward takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from glsgn_plugins.inference.tiled import weights_dtype

UNKNOWN = 2 * 2**30
"""Bytes that are taken to be free where a system doesn't tell."""

UNKNOWN_PER_PIXEL = 2**12
"""Bytes of a forward for each pixel, where no part is small enough to find out."""

PROBES = (128, 256, 512)
"""Sides of the parts with which that is found out."""

RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")

LIVE_MAPS = 6
"""Peak of a forward in maps as large as its largest: 5.1 in NAFNet, 3.2 in glsgn_s (4K, CPU)."""


def free_memory(device: torch.device) -> int:
    """Bytes that could be allocated on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        recommended = getattr(torch.mps, "recommended_max_memory", None)  # torch 2.5 and later
        return recommended() - torch.mps.current_allocated_memory() if recommended else UNKNOWN
    return min(_available(), *_left_to_group())


def _available() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        found = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return UNKNOWN


def _left_to_group(folder: Path = Path("/sys/fs/cgroup")) -> Iterable[int]:
    """What a container's limit leaves, where there is one (cgroup 2).

    Files that were read stay in memory and count as used until somebody wants it; they don't count
    here.
    """
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        statistics = (folder / "memory.stat").read_text()
    except (OSError, ValueError):
        return [2**62]
    found = dict(re.findall(r"^(\w+) (\d+)$", statistics, re.MULTILINE))
    given_back = sum(int(found.get(key, 0)) for key in RECLAIMABLE)
    return [max(int(limit) - used + given_back, 0)] if limit.isdigit() else [2**62]


class LargestMap(TorchDispatchMode):
    """Notes the largest tensor that any operation puts out.

    Attributes:
        bytes: Its size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, torch.Tensor):
                self.bytes = max(self.bytes, value.numel() * value.element_size())
        return out


@torch.no_grad()
def bytes_per_pixel(
    net: nn.Module, channels: int, size: tuple[int, int], device: torch.device
) -> float:
    """About what a forward takes for each pixel, from one on a small part of noise.

    Args:
        net: Any network.
        channels: Of the image.
        size: Its rows and columns; the part has as many at the most.
        device: Where the network is.
    """
    shape = (1, channels, *(min(PROBES[-1], length) for length in size))
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for side in PROBES:
        rows, cols = (min(side, length) for length in size)
        part = noise[..., :rows, :cols].contiguous().to(device, weights_dtype(net))
        try:
            with LargestMap() as largest:
                net(part)
        except (RuntimeError, ValueError, AssertionError):
            # Some want more pixels than that. If it is for another reason, so will the image be.
            continue
        return LIVE_MAPS * largest.bytes / (rows * cols)
    return UNKNOWN_PER_PIXEL
