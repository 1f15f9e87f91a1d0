"""Parameters, multiply-adds and memory traffic at 3840x2160 on paper; nothing is computed for it.

python benchmarks/costs.py             the named sizes
python benchmarks/costs.py --stages    glsgn_s, stage by stage
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from glsgn_plugins import glsgn_b, glsgn_l, glsgn_s

PARTS = ("encoder", "attention", "decoder", "head")


def traffic(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Elements that a convolution reads and writes, each once."""
    return prod(x) + prod(weight) + prod(out_shape)


TRAFFIC = {torch.ops.aten.convolution: traffic}
"""To be counted in place of operations."""


def counted(
    make: Callable[[], nn.Module],
    formulas: dict[Any, Any] | None = None,
    pixels: tuple[int, int] = (2160, 3840),
) -> tuple[nn.Module, FlopCounterMode]:
    """A network, and what a forward adds up to: operations (two to a multiply-add), or TRAFFIC."""
    with torch.device("meta"):
        net = make().eval()
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter, torch.no_grad():
        net(torch.empty(1, 3, *pixels, device="meta"))
    return net, counter


def sizes() -> None:
    """Print a Markdown table of the named sizes."""
    print("| | parameters | multiply-adds at 3840x2160 |\n| --- | --- | --- |")
    for make in (glsgn_s, glsgn_b, glsgn_l):
        net, counter = counted(make)
        parameters = sum(p.numel() for p in net.parameters()) / 1e6
        macs = counter.get_total_flops() / 2e12
        print(f"| `{make.__name__}` | {parameters:.2f} M | {macs:.2f} T |")


def stages() -> None:
    """Print a Markdown table of the stages of glsgn_s."""
    flops = counted(glsgn_s)[1].get_flop_counts()
    elements = counted(glsgn_s, TRAFFIC)[1].get_flop_counts()
    pathways = {f"local pathway {i + 1}": f"local_pathways.{i}" for i in range(3)}
    pathways["global pathway"] = "global_pathway"
    rows = {f"{name}, {p}": f"GLSGN.{path}.{p}" for name, path in pathways.items() for p in PARTS}
    rows.update({"fusion": "GLSGN.fusion", "in all": "GLSGN"})
    print("| stage | multiply-adds (G) | read and written by convolutions, float32 (GB) |")
    print("| --- | --- | --- |")
    for name, module in rows.items():
        macs, moved = (sum(found[module].values()) for found in (flops, elements))
        print(f"| {name} | {macs / 2e9:.1f} | {4 * moved / 1e9:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", action="store_true", help="glsgn_s, stage by stage")
    (stages if parser.parse_args().stages else sizes)()


if __name__ == "__main__":
    main()
