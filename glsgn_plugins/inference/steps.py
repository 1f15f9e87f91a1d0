"""What a network does, operation by operation, for :mod:`glsgn_plugins.inference.stream`.

A copy of the network is followed by torch.fx, so that other threads may use the network meanwhile.
What an operation sees is read off the layers: a changed kernel changes it.
"""

from __future__ import annotations

import copy
import math
import operator
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

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
)
from glsgn_plugins.errors import InputError

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
POINTWISE_LAYERS = (nn.LeakyReLU, nn.ReLU, nn.GELU, nn.SiLU)

FOLLOWING = threading.Lock()
"""torch.fx patches all modules for the time of a trace, and stands no second trace beside it."""


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
        out = None if self.passes or end else self.buffer(last - first)
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
            buffer = self.buffer(rows.shape[2], rows)
            if buffer is not None and buffer.data_ptr() != rows.data_ptr():
                buffer.copy_(rows)
        self.made += rows.shape[2]

    def buffer(self, count: int, like: Tensor | None = None) -> Tensor | None:
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
        return sum(reach_of(conv) for conv in (layer.conv1, layer.conv2))
    return layer.dilation[0] * (layer.kernel_size[0] - 1) // 2


def _inside(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution whose outermost rows are there already: padded at the sides alone."""
    sides = conv.dilation[1] * (conv.kernel_size[1] - 1) // 2
    padding = (0, sides)
    if conv.padding_mode != "zeros":
        x, padding = F.pad(x, (sides, sides, 0, 0), conv.padding_mode), (0, 0)
    return F.conv2d(x, conv.weight, conv.bias, 1, padding, conv.dilation, conv.groups)


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


def _does_as(module: Any, kind: type[nn.Module]) -> bool:
    """Whether a module's forward is that of a kind, whatever its weights are made of."""
    own = "forward" in vars(module) or type(module).forward is not kind.forward
    return isinstance(module, kind) and not own


def _keeps_size(conv: Any) -> bool:
    reach = [d * (k - 1) / 2 for d, k in zip(conv.dilation, conv.kernel_size)]
    return conv.stride == (1, 1) and list(conv.padding) == reach


def _is_block(module: Any) -> bool:
    """Whether :func:`_block` does what the module does."""
    return (
        _does_as(module, ResidualBlock)
        and _does_as(module.act, nn.LeakyReLU)
        and all(_does_as(c, nn.Conv2d) and _keeps_size(c) for c in (module.conv1, module.conv2))
    )


class _Tracer(torch.fx.Tracer):
    """Follows what isn't known as a whole through its own forward."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """What becomes one step."""
        whole = (nn.Conv2d, nn.PixelShuffle, PatchNorm, *POINTWISE_LAYERS)
        return _is_block(m) or any(_does_as(m, kind) for kind in whole)

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """As torch.fx's; other threads' modules, which it has patched as well, run as ever."""
        if not any(isinstance(value, torch.fx.Proxy) for value in (*args, *kwargs.values())):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _followed(net: GLSGN) -> torch.fx.GraphModule:
    """What a copy of the network does, with the shapes of a small image."""
    root = _Padded(copy.deepcopy(net))
    with FOLLOWING:
        graph = _Tracer().trace(root)
    module = torch.fx.GraphModule(root, graph)
    module.graph.eliminate_dead_code()
    ShapeProp(module).propagate(next(net.parameters()).new_zeros(1, 3, MIN_SIZE, MIN_SIZE))
    return module


def steps_of(net: GLSGN) -> list[Step]:
    """The operations of a network in eval mode, in order; the first is the image.

    Raises:
        NotFollowedError: It has one that isn't known here, as a subclass may.
    """
    if not _does_as(net, GLSGN):
        raise NotFollowedError(net, "a forward of its own")
    root = _Padded(net)
    module = _followed(net)
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
            elif isinstance(layer, nn.Conv2d) and _keeps_size(layer):
                compute, seen = _convolution(layer), {"reach": reach_of(layer)}
            elif isinstance(layer, nn.PixelShuffle):
                compute, seen = _called(layer), {"up": layer.upscale_factor}
            elif isinstance(layer, PatchNorm) or (
                isinstance(layer, POINTWISE_LAYERS) and not getattr(layer, "inplace", False)
            ):
                compute = _called(layer)
            else:
                raise NotFollowedError(net, target)
        elif target is F.avg_pool2d:
            compute, seen = _pointwise(node), {"down": node.args[1]}
        elif target is F.interpolate:
            compute, seen = _pointwise(node), {"up": node.kwargs["scale_factor"], "reach": 1}
        elif target in POINTWISE or target in POINTWISE_METHODS:
            compute = _pointwise(node)
        else:
            raise NotFollowedError(net, target)
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


class NotFollowedError(InputError):
    """A network does something, in a subclass, that can't be worked out strip by strip."""

    def __init__(self, net: nn.Module, operation: object) -> None:
        name = getattr(operation, "__name__", operation)
        super().__init__(
            f"{type(net).__name__}: {name} can't be worked out strip by strip; restore it whole"
        )
