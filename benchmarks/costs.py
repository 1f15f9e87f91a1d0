"""Parameters and multiply-adds of the named sizes at 3840x2160; nothing is computed for it.

python benchmarks/costs.py
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from glsgn_plugins import glsgn_b, glsgn_l, glsgn_s


def main() -> None:
    """Print a Markdown table."""
    print("| | parameters | multiply-adds at 3840x2160 |\n| --- | --- | --- |")
    for make in (glsgn_s, glsgn_b, glsgn_l):
        with torch.device("meta"):
            net = make().eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, 2160, 3840, device="meta"))
        parameters = sum(p.numel() for p in net.parameters()) / 1e6
        macs = counter.get_total_flops() / 2e12
        print(f"| `{make.__name__}` | {parameters:.2f} M | {macs:.2f} T |")


if __name__ == "__main__":
    main()
