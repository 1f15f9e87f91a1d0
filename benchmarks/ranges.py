"""Whether float16 holds: largest activation and gradient of every layer, on extreme pictures.

python benchmarks/ranges.py --task rain haze --out ranges.csv

Pictures are made here, the same each time: black, white, one pixel, single and alternating lines at
every angle, checkers of every size, noise of every contrast, ramps, saturated colours, and parts of
photographs with rain, haze and reflections as heavy as the presets have them, their contrast
stretched and inverted. The network runs in float32, so that nothing is cut off: what is told is
what would have to fit into float16, whose largest number is 65504. A layer is one module; the table
has what any operation inside of it put out, forward and backward, of GLSGNLoss in training mode.
Exit code 1 where a value comes within ``--margin`` of that number: keep that layer in float32.
``--stride N`` takes every N-th picture where there is no time for all.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.pretrained import OPTIONS
from glsgn_plugins.io.weights import read_glsgn
from glsgn_plugins.losses import GLSGNLoss
from glsgn_plugins.pretrained import load_pretrained

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from demo_data import photo

LARGEST = 65504.0
"""Of float16."""

SMALLEST = 2.0**-24
"""Of float16, above 0."""

SIDE = 256


def pictures() -> Iterator[tuple[str, np.ndarray]]:
    """Names and ``(SIDE, SIDE, 3)``, RGB in [0, 1]."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    flat = np.ones((SIDE, SIDE, 3), np.float32)
    rng = np.random.default_rng(0)
    for level in (0, 1 / 255, 0.5, 254 / 255, 1):
        yield f"flat {level:.3f}", flat * np.float32(level)
    for channel in range(3):
        colour = np.zeros(3, np.float32)
        colour[channel] = 1
        yield f"saturated {channel}", flat * colour
        yield f"saturated {channel}, inverted", flat * (1 - colour)
    for level in (0, 1):
        dot = flat * level
        dot[SIDE // 2, SIDE // 2] = 1 - level
        yield f"one pixel on {level}", dot
    for period in (1, 2, 3, 4, 8, 16, 32, 64):
        checkers = ((x // period + y // period) % 2)[..., None]
        yield f"checkers {period}", flat * checkers
        yield f"coloured checkers {period}", np.concatenate([checkers, 1 - checkers, checkers], 2)
    for angle in np.arange(0, 180, 15):
        along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
        for period in (2, 4, 12, 48):
            yield f"lines {angle} {period}", flat * ((along % period) < period / 2)[..., None]
        yield f"ramp {angle}", flat * ((along - along.min()) / np.ptp(along))[..., None]
    for contrast in (0.02, 0.1, 0.5, 1.0):
        for coarse in (1, 4, 16):
            noise = rng.random((SIDE // coarse, SIDE // coarse, 3), np.float32)
            noise = noise.repeat(coarse, 0).repeat(coarse, 1)
            yield f"noise {contrast} {coarse}", 0.5 + contrast * (noise - 0.5)
            yield f"binary noise {contrast} {coarse}", 0.5 + contrast * (np.round(noise) - 0.5)
    for k, name in enumerate(("coffee.png", "rocket.jpg", "astronaut.png", "chelsea.png")):
        part = np.ascontiguousarray(read_image(photo(name))[20 : 20 + SIDE, 40 : 40 + SIDE, ::-1])
        other = np.ascontiguousarray(part[::-1, ::-1])
        for kind in ("rain", "haze", "reflection"):
            for draw in range(4):
                model = make_degradation({"type": kind, "preset": ("plain", "real")[draw % 2]})
                parameters = model.sample(np.random.default_rng([k, draw]))
                given = other if kind == "reflection" else None
                lq = parameters.pair(part, given)[0].astype(np.float32) / 255
                yield f"{name} {kind} {draw}", lq
                stretched = np.clip((lq - 0.5) * 8 + 0.5, 0, 1)
                yield f"{name} {kind} {draw}, stretched", stretched
        yield f"{name} inverted", 1 - part.astype(np.float32) / 255


class Ranges(TorchDispatchMode):
    """Notes the largest value that operations put out, by the module they belong to.

    Attributes:
        forward: Largest activation by module, and the picture it came with.
        backward: Largest gradient by module, likewise.
        smallest: Smallest gradient above 0 of any module.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.forward: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, -1))
        self.backward: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, -1))
        self.inside = [""]
        self.first = 0  # number of the first picture of the batch
        self.watching = True
        for name, module in net.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: self.inside.append(name))
            module.register_forward_hook(self._leave)
            if not list(module.children()):
                module.register_full_backward_hook(
                    lambda _, given, taken, name=name: self._note(
                        self.backward, name, [*given, *taken]
                    )
                )

    def _leave(self, *_: Any) -> None:
        self.inside.pop()

    def _note(self, table: dict[str, tuple[float, int]], name: str, values: Any) -> None:
        for value in values:
            if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
                self.watching = False  # what follows is ours
                flat = value.detach().abs()
                top = float(flat.max())
                if top > table[name][0]:
                    batched = flat.dim() == 4
                    each = flat.flatten(1).amax(1) if batched else flat.reshape(1)[:1]
                    table[name] = (top, self.first + int(each.argmax()) if batched else -1)
                self.watching = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if self.watching and self.inside[-1]:
            self._note(self.forward, self.inside[-1], made if isinstance(made, tuple) else [made])
        return made


Row = tuple[str, tuple[float, int], tuple[float, int]]
"""A layer, its largest activation and its largest gradient, each with its picture's number."""


def measured(net: nn.Module, images: Sequence[np.ndarray], device: str, batch: int) -> list[Row]:
    """All layers of a network, the largest activation first."""
    net = net.to(device).train()
    net.return_pathways = True
    loss, ranges = GLSGNLoss(), Ranges(net)
    truth = torch.full((1, 3, SIDE, SIDE), 0.5, device=device)
    for first in range(0, len(images), batch):
        stacked = np.stack(images[first : first + batch]).transpose(0, 3, 1, 2)
        lq = torch.from_numpy(np.ascontiguousarray(stacked, np.float32)).to(device)
        ranges.first = first
        net.zero_grad()
        with ranges:
            outputs = net(lq)
            value = loss(outputs, truth.expand_as(lq).contiguous())
        value.backward()
        print(f"\r{first + len(lq)} of {len(images)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    layers = sorted({*ranges.forward, *ranges.backward} - {""})
    rows = [(layer, ranges.forward[layer], ranges.backward[layer]) for layer in layers]
    return sorted(rows, key=lambda row: -row[1][0])


def table(rows: list[Row], names: Sequence[str], shown: int, margin: float) -> bool:
    """Print the largest; whether float16 holds."""
    print("| layer | largest activation | 65504 is times more | on | largest gradient |")
    print("| --- | --- | --- | --- | --- |")
    for layer, (top, where), (slope, _) in rows[:shown]:
        on = names[where] if where >= 0 else "n/a"
        times = LARGEST / max(top, SMALLEST)
        print(f"| {layer} | {top:.3g} | {times:.0f} | {on} | {slope:.2e} |")
    steepest = max(row[2][0] for row in rows)
    print(
        f"\n{len(names)} pictures, {len(rows)} layers. The largest activation of all is "
        f"{rows[0][1][0]:.3g}, the largest gradient {steepest:.2e}: a loss scale of up to "
        f"2^{int(np.log2(LARGEST / max(steepest, SMALLEST)))} fits."
    )
    over = [row[0] for row in rows if row[1][0] > LARGEST / margin]
    if over:
        print(f"Within {margin:g} of 65504, to be kept in float32: {', '.join(over)}\n")
    else:
        print(f"None within {margin:g} of 65504: no layer needs float32.\n")
    return not over


def main() -> int:
    """Print a Markdown table for each network; 1 where float16 doesn't hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--task", nargs="+", choices=tuple(OPTIONS), help="the shipped weights")
    network.add_argument("--weights", metavar="FILE", help="one's own")
    parser.add_argument("--margin", type=float, default=8, help="of 65504; 8 by default")
    parser.add_argument("--pictures", type=int, help="the first so many only")
    parser.add_argument("--stride", type=int, default=1, help="every so many-th picture only")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, default=12, help="of each table")
    parser.add_argument("--out", type=Path, help="CSV file for all layers")
    args = parser.parse_args()
    names, images = zip(*list(pictures())[: args.pictures : args.stride])
    print(f"`python benchmarks/ranges.py {shlex.join(sys.argv[1:])}`, torch {torch.__version__}\n")
    holds, lines = True, []
    for which in args.task or [args.weights]:
        net = load_pretrained(which) if args.task else read_glsgn(which)
        rows = measured(net, images, args.device, args.batch)
        print(f"{which}:\n")
        holds = table(rows, names, args.rows, args.margin) and holds
        for layer, (top, where), (slope, _) in rows:
            lines.append((which, layer, top, names[where] if where >= 0 else "", slope))
    if args.out:
        with args.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("network", "layer", "activation", "picture", "gradient"))
            writer.writerows(lines)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
