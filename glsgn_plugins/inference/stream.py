"""GLSGN strip by strip: what one forward gives, in the memory of some strips.

The network is followed by torch.fx through its own ``forward``, operation by operation. Strips of
the image go in at one end; each operation makes as many rows as the rows that have come to it
allow, and keeps of its own output what others have yet to see: two rows for a 3x3 convolution, some
dozens where a decoder comes back to a feature of the encoder. So nothing is computed twice, no map
of the whole image is ever held, and each value comes from the same numbers through the same layers
as in the whole forward. What an operation sees is read off the layers: a changed kernel changes it.

On a CPU that is the fast way as well: strips stay in the caches, and a forward that makes new maps
of a full image at each step spends half of its time in the kernel, which hands out and zeroes
pages.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.passes.shape_prop import ShapeProp

from glsgn_plugins.archs.blocks import PatchNorm, ResidualBlock
from glsgn_plugins.archs.glsgn import (
    GLSGN,
    MIN_SIZE,
    PATHWAY_SCALES,
    SCALES,
    check_image,
    padded_size,
)
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference.tiled import as_float

Progress = Callable[[float], None]
"""Told from time to time which share of the work is done, up to 1."""

ALIGN = PATHWAY_SCALES[-1] * 2 ** (SCALES - 1)
"""Strips are a multiple of this, so that each scale gets whole rows, the same number each time."""

Compute = Callable[[list[Tensor], list[bool], bool, "Tensor | None"], Tensor]
"""Rows out of the rows of each input, of which some may be overwritten; whether the image ends
there; and where the result is to lie, if that saves a copy."""

ARITHMETIC: dict[Any, Callable[..., Tensor]] = {
    operator.add: torch.add,
    operator.mul: torch.mul,
    operator.sub: torch.sub,
}
POINTWISE = (*ARITHMETIC, operator.getitem, torch.cat, torch.sigmoid)
POINTWISE_METHODS = ("mean", "amax")  # over channels


class Step:
    """One operation, and as much of its output as is still wanted.

    Output rows ``[a, b)`` are made of input rows ``[a / up * down - reach, b / up * down +
    reach)``.

    Args:
        inputs: Where its inputs come from.
        compute: Makes output rows out of those input rows, see :meth:`advance`.
        up: Rows that one group of ``down`` input rows becomes.
        down: See ``up``.
        reach: Input rows seen beyond those on either side.
        fresh: Its output is a tensor of its own, which a later operation may overwrite.

    Attributes:
        channels: Of its output.
        rate: Rows for each row of the image.
        lag: How many rows into the image the first row is made.
        passes: What is made is read at once.
    """

    def __init__(
        self,
        inputs: Sequence[Step],
        compute: Compute,
        up: int = 1,
        down: int = 1,
        reach: int = 0,
        fresh: bool = True,
    ) -> None:
        self.inputs = inputs
        self.compute = compute
        self.up, self.down, self.reach = up, down, reach
        self.fresh = fresh
        self.readers: list[Step] = []
        for source in inputs:
            source.readers.append(self)
        self.channels = 3
        self.rate: Fraction = Fraction(up, down) * (inputs[0].rate if inputs else 1)
        self.lag: Fraction = max((s.lag + self.behind(s) for s in inputs), default=Fraction(0))
        self.passes = False

    def behind(self, source: Step) -> Fraction:
        """Rows of the image that ``source`` must be ahead."""
        return self.reach / source.rate

    def settle(self, late: bool) -> None:
        """Once the readers' lags are known: work as late as they allow, else as early as it can."""
        wanted = [reader.lag - reader.behind(self) for reader in self.readers]
        if wanted and late:
            self.lag = min(wanted)
        # Whatever is made is then read at once.
        self.passes = not any(r.reach for r in self.readers) and set(wanted) <= {self.lag}

    def footprint(self, strip: int) -> Fraction:
        """Numbers held for each column of the image, where ``strip`` rows of it come at once."""
        until = max((r.lag - r.behind(self) for r in self.readers), default=self.lag)
        return self.channels * self.rate**2 * (until - self.lag + strip)

    def begin(self, rows: int) -> None:
        """Before an image of so many rows."""
        self.total = int(rows * self.rate)
        self.made = 0
        self.first = 0  # the first that somebody wants still
        self.rows: Tensor | None = None
        self.base = 0  # the row that ``rows`` begins with

    def wanted(self, first: int) -> int:
        """The first input row that output rows from ``first`` on are made of."""
        return max(first // self.up * self.down - self.reach, 0)

    def advance(self, seen: int) -> None:
        """Make as many rows as can be made, and are wanted, ``seen`` rows into the image."""
        first = self.made
        last = min(self.total, math.ceil((seen - self.lag) * self.rate / self.up) * self.up)
        for source in self.inputs:
            if source.made < source.total:
                last = min(last, (source.made - self.reach) // self.down * self.up)
        if last <= first:
            return
        low, high = self.wanted(first), last // self.up * self.down + self.reach
        windows = [source.read(low, min(high, source.total)) for source in self.inputs]
        # One that is read here for the last time may be overwritten.
        spare = [s.fresh and s.passes and len(s.readers) == 1 for s in self.inputs]
        end = low > first // self.up * self.down - self.reach or high > self.inputs[0].total
        out = None if self.passes or end else self.room(last - first)
        rows = self.compute(windows, spare, end, out)
        if rows.shape[2] > last - first:
            rows = rows.narrow(2, first - low * self.up // self.down, last - first)
        self.add(rows)
        del windows
        for source in self.inputs:
            source.release()

    def add(self, rows: Tensor) -> None:
        """Take the next rows in."""
        if self.passes and self.first == self.made:
            self.rows, self.base = rows, self.made
        else:
            room = self.room(rows.shape[2], rows)
            if room is not None and room.data_ptr() != rows.data_ptr():
                room.copy_(rows)
        self.made += rows.shape[2]

    def room(self, count: int, like: Tensor | None = None) -> Tensor | None:
        """Where the next rows are to lie; ``None`` where that isn't known without such rows."""
        held, kept = self.rows, self.made - self.first
        end = self.made - self.base
        if held is None or end + count > held.shape[2]:
            fits = held is not None and kept + count <= held.shape[2] and not self.passes
            like = held if like is None and not self.passes else like
            if like is None:
                return None
            if not fits:
                n, channels, _, width = like.shape
                self.rows = torch.empty(
                    (n, channels, kept + count, width),
                    dtype=like.dtype,
                    device=like.device,
                    memory_format=torch.channels_last,
                )
            assert self.rows is not None
            if kept:
                assert held is not None
                wanted = held.narrow(2, end - kept, kept)
                overlap = fits and kept > end - kept
                self.rows.narrow(2, 0, kept).copy_(wanted.clone() if overlap else wanted)
            self.base, end = self.first, kept
        assert self.rows is not None
        return self.rows.narrow(2, end, count)

    def read(self, first: int, last: int) -> Tensor:
        """Rows ``[first, last)``."""
        assert self.rows is not None
        return self.rows.narrow(2, first - self.base, last - first)

    def release(self) -> None:
        """Let go of the rows that nobody wants any more."""
        self.first = min(
            self.made, *(r.wanted(r.made) if r.made < r.total else self.total for r in self.readers)
        )
        if self.passes and self.first == self.made:
            self.rows = None


# --- What the operations do with rows -------------------------------------------------------------


def reach_of(layer: nn.Conv2d | ResidualBlock) -> int:
    """Places on either side that an output place is made of."""
    if isinstance(layer, ResidualBlock):
        return reach_of(layer.conv1) + reach_of(layer.conv2)
    return layer.kernel_size[0] // 2


def _inside(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution whose outermost rows are there already: padded at the sides alone."""
    sides = conv.kernel_size[1] // 2
    if conv.padding_mode == "zeros":
        return F.conv2d(x, conv.weight, conv.bias, padding=(0, sides))
    return F.conv2d(F.pad(x, (sides, sides, 0, 0), conv.padding_mode), conv.weight, conv.bias)


def _convolution(conv: nn.Conv2d) -> Compute:
    """At the image's ends its own padding counts, and what it makes of the other end is cut off."""
    return lambda x, spare, end, out: conv(x[0]) if end else _inside(conv, x[0])


def _block(block: ResidualBlock) -> Compute:
    """Both convolutions at once: one row of the first is computed twice, and none kept."""
    reach = reach_of(block)

    def compute(windows: list[Tensor], spare: list[bool], end: bool, out: Tensor | None) -> Tensor:
        x = windows[0]
        if end:
            return block(x)
        change = F.leaky_relu(_inside(block.conv1, x), block.act.negative_slope, inplace=True)
        change = _inside(block.conv2, change)
        if change.dtype != x.dtype:  # as autocast may have it
            return change + x[:, :, reach:-reach]
        out = change if out is None or out.dtype != x.dtype else out
        return torch.add(change, x[:, :, reach:-reach], out=out)

    return compute


def _pointwise(node: torch.fx.Node) -> Compute:
    """Any operation that makes each place of that place in its inputs alone."""
    sources = node.all_input_nodes
    target = node.target
    call = getattr(torch.Tensor, target) if isinstance(target, str) else target
    arithmetic = ARITHMETIC.get(target)

    def compute(windows: list[Tensor], spare: list[bool], end: bool, out: Tensor | None) -> Tensor:
        if arithmetic is not None and len(windows) == 2:
            one, two = windows
            if one.shape == two.shape and one.dtype == two.dtype:
                if out is None or out.dtype != one.dtype:
                    out = one if spare[0] else two if spare[1] else None
                return arithmetic(one, two, out=out)
        inputs = dict(zip(sources, windows))
        args = torch.fx.node.map_arg(node.args, inputs.__getitem__)
        return call(*args, **node.kwargs)

    return compute


class _Padded(nn.Module):
    """What is followed: no shapes are looked at in it."""

    def __init__(self, net: GLSGN) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net.restore_padded(image)[0]


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, (PatchNorm, ResidualBlock))
        return known or super().is_leaf_module(m, module_qualified_name)


def steps_of(net: GLSGN) -> list[Step]:
    """The operations of a network in eval mode, in order; the first is the image.

    Raises:
        InputError: It has one that isn't known here, as a subclass may.
    """
    root = _Padded(net)
    module = torch.fx.GraphModule(root, _Tracer().trace(root))
    module.graph.eliminate_dead_code()
    ShapeProp(module).propagate(next(net.parameters()).new_zeros(1, 3, MIN_SIZE, MIN_SIZE))
    steps: dict[torch.fx.Node, Step] = {}
    for node in module.graph.nodes:
        if node.op == "output":
            break
        inputs = [steps[source] for source in node.all_input_nodes]
        if node.op == "placeholder":
            steps[node] = Step((), _called(root), fresh=False)  # never computed
            continue
        target: Any = node.target
        seen: dict[str, int] = {}
        compute: Compute
        if node.op == "call_module":
            layer = root.get_submodule(target)
            target = type(layer)
            if isinstance(layer, ResidualBlock):
                compute, seen = _block(layer), {"reach": reach_of(layer)}
            elif isinstance(layer, nn.Conv2d) and layer.stride != (1, 1):
                compute, seen = _called(layer), {"down": layer.stride[0]}
            elif isinstance(layer, nn.Conv2d):
                compute, seen = _convolution(layer), {"reach": reach_of(layer)}
            elif isinstance(layer, nn.PixelShuffle):
                compute, seen = _called(layer), {"up": layer.upscale_factor}
            elif isinstance(layer, PatchNorm):
                compute = _called(layer)
            else:
                raise _unknown(net, target)
        elif target is F.avg_pool2d:
            compute, seen = _pointwise(node), {"down": node.args[1]}
        elif target is F.interpolate:
            compute, seen = _pointwise(node), {"up": node.kwargs["scale_factor"], "reach": 1}
        elif target in POINTWISE or target in POINTWISE_METHODS:
            compute = _pointwise(node)
        else:
            raise _unknown(net, target)
        steps[node] = Step(inputs, compute, fresh=target is not operator.getitem, **seen)
    for node, step in reversed(steps.items()):
        # What an encoder makes of the image waits for the global pathway, and better as the image,
        # which has three channels. A decoder's output has three as well, so it needn't wait.
        path = node.meta.get("nn_module_stack", ())
        step.settle(late=any(key.endswith("encoder") for key in path))
        step.channels = node.meta["tensor_meta"].shape[1]
    return list(steps.values())


def _called(module: nn.Module) -> Compute:
    return lambda x, spare, end, out: module(x[0])


def _unknown(net: nn.Module, operation: object) -> InputError:
    name = getattr(operation, "__name__", operation)
    return InputError(
        f"{type(net).__name__}: {name} can't be worked out strip by strip; restore it whole"
    )


# --- The image ------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """How an image goes through.

    Attributes:
        strip: Rows that go in at once.
        band: Columns of the bands that a wide image is cut into; they share ``halo`` on each side.
        halo: What an output place sees around it.
    """

    strip: int
    band: int
    halo: int


def layout(steps: Sequence[Step], width: int, memory: int, strip: int) -> Layout:
    """The thickest strips, up to ``strip``, with which ``width`` columns take ``memory`` bytes.

    Where even the thinnest take more, bands of the image go through one after the other.
    """
    halo = math.ceil(steps[-1].lag / ALIGN) * ALIGN

    def columns(strip: int) -> int:
        kept = sum(step.footprint(strip) for step in steps if not step.passes)
        # Beside what is kept, an operation's input, output and what it makes in between.
        passing = 4 * max(step.footprint(strip) for step in steps)
        return int(memory / (4 * (kept + passing)))

    strip = max(strip // ALIGN, 1) * ALIGN
    while strip > ALIGN and columns(strip) < width:
        strip -= ALIGN
    if columns(strip) >= width:
        return Layout(strip, width, 0)
    band = max(columns(strip) - 2 * halo, 2 * halo) // ALIGN * ALIGN
    bands = math.ceil(width / band)
    return Layout(strip, math.ceil(width / bands / ALIGN) * ALIGN, halo)


@torch.no_grad()
def restore_streamed(
    net: GLSGN,
    image: Tensor,
    *,
    memory: int,
    strip: int,
    device: torch.device,
    progress: Progress = lambda share: None,
) -> Tensor:
    """What ``net(image)`` gives, strip by strip.

    Args:
        net: In eval mode, on ``device``.
        image: ``(N, 3, H, W)``, RGB in [0, 1], or uint8, on any device; read strip by strip.
        memory: Bytes on ``device`` to make do with, beside the network: strips become thinner, and
            bands of a wide image are restored one after the other, which costs time.
        strip: Rows that go in at once, at the most.
        device: Where to compute.
        progress: See :data:`Progress`.

    Returns:
        The restored images, ``(N, 3, H, W)``, float32, on the device of ``image``.

    Raises:
        InputError: The shape is another, or the network isn't GLSGN's own.
    """
    height, width = check_image(image)
    rows, cols = padded_size((height, width), (ALIGN, ALIGN))
    steps = steps_of(net)
    found = layout(steps, cols, memory, strip)
    output = torch.empty(
        image.shape, device=image.device, memory_format=torch.channels_last
    )  # as strips come, and as arrays and files want it
    starts = range(0, width, found.band)
    for k in range(len(image)):
        for number, left in enumerate(starts):
            right = min(left + found.band, width)
            first = max(left - found.halo, 0)
            last = cols if right == width else min(right + found.halo, cols)
            written = 0
            for part in _strips(steps, image[k : k + 1], (first, last), rows, found.strip, device):
                part = part[:, :, : height - written, left - first : right - first]
                output[k : k + 1, :, written : written + part.shape[2], left:right] = part
                written += part.shape[2]
                share = (number + written / height) / len(starts)
                progress((k + share) / len(image))
    return output


def _strips(
    steps: Sequence[Step],
    image: Tensor,
    columns: tuple[int, int],
    rows: int,
    strip: int,
    device: torch.device,
) -> Iterator[Tensor]:
    """Restored strips of some columns of an image, from the top; ``rows`` of them in all."""
    source, restored = steps[0], steps[-1]
    for step in steps:
        step.begin(rows)
    seen = 0
    while restored.made < rows:
        if seen < rows:
            part = _part(_part(image, 2, seen, min(seen + strip, rows)), 3, *columns)
            part = as_float(part.to(device))
            source.add(part.contiguous(memory_format=torch.channels_last))
        seen += strip
        first = restored.made
        for step in steps[1:]:
            step.advance(seen)
        if restored.made > first:
            yield restored.read(first, restored.made)
            restored.first = restored.made


def _part(image: Tensor, dim: int, first: int, last: int) -> Tensor:
    """Rows or columns, beyond whose end lie those just before it, as the network pads it."""
    length = image.shape[dim]
    if last <= length:
        return image.narrow(dim, first, last - first)
    index = torch.arange(first, last, device=image.device)
    return image.index_select(dim, torch.where(index < length, index, 2 * (length - 1) - index))
