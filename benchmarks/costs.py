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
from torch.utils.flop_counter import FlopCounterMode

from glsgn_plugins import GLSGN, glsgn_b, glsgn_l, glsgn_s

PARTS = ("encoder", "attention", "decoder", "head")


def conv_bytes(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """What a convolution reads and writes of maps in float32."""
    return 4 * (prod(x) + prod(out_shape))


def counted(
    make: Callable[[], GLSGN], formulas: dict[Any, Any] | None = None
) -> tuple[GLSGN, FlopCounterMode]:
    """A network, and what a forward at 4K adds up to: operations (two to a multiply-add)."""
    with torch.device("meta"):
        net = make().eval()
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter, torch.no_grad():
        net(torch.empty(1, 3, 2160, 3840, device="meta"))
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
    traffic = counted(glsgn_s, {torch.ops.aten.convolution: conv_bytes})[1].get_flop_counts()
    pathways = {f"local pathway {i + 1}": f"local_pathways.{i}" for i in range(3)}
    pathways["global pathway"] = "global_pathway"
    rows = {f"{name}, {p}": f"GLSGN.{path}.{p}" for name, path in pathways.items() for p in PARTS}
    rows.update({"fusion": "GLSGN.fusion", "in all": "GLSGN"})
    print("| stage | multiply-adds (G) | maps that convolutions read and write (GB) |")
    print("| --- | --- | --- |")
    for name, module in rows.items():
        macs, moved = (sum(found[module].values()) for found in (flops, traffic))
        print(f"| {name} | {macs / 2e9:.1f} | {moved / 1e9:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", action="store_true", help="glsgn_s, stage by stage")
    (stages if parser.parse_args().stages else sizes)()


if __name__ == "__main__":
    main()
