"""``restore``: the one way to run a network on images of any size."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.errors import InputError, is_whole, unknown_name
from glsgn_plugins.inference.coarse import coarse_size, restore_by_coarse
from glsgn_plugins.inference.memory import bytes_per_pixel, free_memory
from glsgn_plugins.inference.reduced import check_long_side, reduced_size, restore_reduced
from glsgn_plugins.inference.steps import NotFollowedError
from glsgn_plugins.inference.stream import ALIGN, restore_streamed
from glsgn_plugins.inference.strength import blend, check_mask, check_strength
from glsgn_plugins.inference.tiled import as_float, restore_tiled, run_network, weights_dtype

is_compiling = getattr(torch.compiler, "is_compiling", lambda: False)  # torch 2.3 and later

LOGGER = logging.getLogger("glsgn_plugins")

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MODES = ("auto", "whole", "stream")

MEMORY = 640 * 2**20
"""Bytes that streaming works with on a CPU, unless told otherwise: 4K in the thickest strips."""

STRIP = 128
"""Rows that go through at once on a CPU, at the most (measured at 4K: a tenth less time than with
64, and next to none more than with 256, which take twice the memory)."""

SHARE = 0.5
"""Of the free memory, what ``auto`` plans with."""

SMALLEST_TILE = 64
STEP = 64
"""Tiles are multiples of this: networks want multiples of 8, 16 or 64."""

STEADY_TILE = 1024
"""Side of the tiles in which validation restores larger images, unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How an image is restored.

    Attributes:
        mode: ``"whole"``, ``"stream"`` or ``"tile"``.
        tile: Rows and columns of a tile, or rows of a strip at the most.
        memory: Bytes that streaming works with.
    """

    mode: str
    tile: int = 0
    memory: int = 0

    def __str__(self) -> str:
        if self.mode == "whole":
            return "whole, in one forward"
        if self.mode == "tile":
            return f"in overlapping tiles of {self.tile}x{self.tile}"
        return (
            f"streamed in strips of up to {self.tile} rows, in about {self.memory / 2**20:.0f} MiB"
        )

    def smaller(self, streamable: bool, side: int) -> Plan | None:
        """What needs less memory, or ``None``; ``side`` is the image's longer one."""
        if self.mode == "whole" and streamable:
            return Plan("stream", STRIP, MEMORY)
        if self.mode == "whole":
            tile = side // 2 // STEP * STEP
            return Plan("tile", tile) if tile >= SMALLEST_TILE else None
        if self.tile <= (ALIGN if self.mode == "stream" else SMALLEST_TILE):
            return None
        return dataclasses.replace(self, tile=self.tile // 2, memory=self.memory // 2)


BRIGHTEST = 2.0
"""What no image in [0, 1] reaches, though it may overshoot."""


def _glsgn(net: nn.Module) -> GLSGN | None:
    """The GLSGN in a network that is one, be it compiled or wrapped for several devices."""
    for name in ("module", "_orig_mod"):
        net = getattr(net, name, net)
    return net if isinstance(net, GLSGN) else None


def _by_strips(net: nn.Module, device: torch.device) -> GLSGN | None:
    """The GLSGN whose forward is worked out strip by strip, which on a CPU is faster.

    Not where somebody looks on or has made something else of the network: hooks, a tracer, a
    compiler.
    """
    found = _glsgn(net)
    if device.type != "cpu" or found is None or hasattr(net, "_orig_mod"):
        return None
    if torch.jit.is_tracing() or is_compiling() or watched(net):
        return None
    return found


def watched(net: nn.Module) -> bool:
    """Whether any module has a forward hook, or all have."""
    everywhere = nn.modules.module
    return any(
        hooks
        for hooks in (
            everywhere._global_forward_hooks,
            everywhere._global_forward_pre_hooks,
            *(m._forward_hooks for m in net.modules()),
            *(m._forward_pre_hooks for m in net.modules()),
        )
    )


def _device(net: nn.Module, image: Tensor) -> torch.device:
    """Where the network is; one without parameters runs where the image is."""
    return next((p.device for p in net.parameters()), image.device)


def check_tile(tile: object) -> None:
    """InputError unless it is something that ``tile`` of :func:`restore` can be."""
    if isinstance(tile, bool) or not isinstance(tile, (int, str)):
        raise InputError(f"tile: expected {', '.join(MODES)} or a number of pixels, got {tile!r}")
    if isinstance(tile, int) and tile < 1:
        raise InputError(f"tile: {tile}, but a tile has at least one pixel")
    if isinstance(tile, str) and tile not in MODES:
        raise unknown_name("tile", tile, (*MODES, "a number of pixels"))


def check_range(highest: float) -> None:
    """InputError where an image's highest value is far beyond 1: it counts to 255, most likely."""
    if highest > BRIGHTEST:
        raise InputError(
            f"values up to {highest:.4g}, expected [0, 1]; divide them by 255, or give uint8"
        )


def check_finite(restored: Tensor, net: nn.Module) -> None:
    """InputError where a network's output isn't finite, which would be shown as black; says why."""
    if restored.isfinite().all():
        return
    broken = any(not value.isfinite().all() for value in net.state_dict().values())
    raise InputError(
        "the network's output is not finite: "
        + (
            "its weights aren't, train them anew or take an earlier checkpoint"
            if broken
            else "its numbers grow beyond what they can hold, try it without amp"
        )
    )


def check_overlap(overlap: object, tile: object, name: str = "overlap") -> None:
    """InputError, with this name, unless ``overlap`` of :func:`restore` can be it."""
    if overlap is None:
        return
    if not is_whole(overlap) or overlap < 0:
        raise InputError(f"{name}: expected a number of pixels from 0 up, got {overlap!r}")
    if isinstance(tile, int) and overlap >= tile:
        raise InputError(f"{name}: {overlap} pixels of tiles of {tile}; expected fewer than tile")


def plan(
    net: nn.Module,
    image: Tensor,
    tile: str | int = "auto",
    memory: int | None = None,
    steady: bool = False,
) -> Plan:
    """How :func:`restore` will go about it; see there."""
    streamable = _glsgn(net) is not None
    check_tile(tile)
    if tile == "whole":
        return Plan("whole")
    if isinstance(tile, int) and not streamable:
        return Plan("tile", tile)
    if tile == "stream" and not streamable:
        raise InputError(
            f"tile: stream works with GLSGN alone, not with {type(net).__name__}; use auto, whole "
            "or a number of pixels"
        )
    device = _device(net, image)
    height, width = image.shape[2:]
    if not streamable and steady:
        larger = max(height, width) > STEADY_TILE
        return Plan("tile", STEADY_TILE) if larger else Plan("whole")
    if streamable and device.type == "cpu":
        # As much as it needs and no more, whatever is free: a forward is no faster with more.
        return Plan("stream", tile if isinstance(tile, int) else STRIP, memory or MEMORY)
    free = int(SHARE * free_memory(device))
    with _evaluating(net):
        per_pixel = bytes_per_pixel(net, image.shape[1], (height, width), device)
    if tile == "auto" and per_pixel * height * width * len(image) <= free:
        return Plan("whole")
    if streamable:
        return Plan("stream", tile if isinstance(tile, int) else height, memory or free)
    found = int((free / per_pixel / len(image)) ** 0.5) // STEP * STEP
    return Plan("tile", max(found, SMALLEST_TILE))


def restore(
    net: nn.Module,
    image: Tensor,
    tile: str | int = "auto",
    *,
    strength: float = 1.0,
    mask: Tensor | None = None,
    keep_colour: bool = False,
    long_side: int | None = None,
    overlap: int | None = None,
    amp: str | None = None,
    memory: int | None = None,
    steady: bool = False,
    progress: Callable[[float], None] = lambda share: None,
    say: Callable[[str], None] = LOGGER.info,
) -> Tensor:
    """Restore images of any size on the device of a network.

    Args:
        net: Any network from images to images of the same size, or of a whole multiple of it, in
            any floating-point type. It is put into eval mode for the time; threads may share one
            that is in eval mode already.
        image: ``(N, 3, H, W)``, RGB in [0, 1] in floating point, or uint8 up to 255; on any device:
            what is needed of it is moved as it is needed.
        tile: How to go about it.

            - ``"whole"``: one forward. GLSGN's is worked out strip by strip on a CPU, which is
              faster, unless hooks, a tracer or a compiler want to see the network itself.
            - ``"stream"`` (GLSGN): strip by strip, with what one forward gives; memory doesn't
              grow with the image.
            - a number: GLSGN is streamed in strips of that many rows. Any other network runs on
              overlapping tiles of that side, which are blended.
            - ``"auto"``: GLSGN on a CPU is streamed. Elsewhere whole, or what fits into half of the
              memory that is free.
        strength: How much of the change is wanted, from 0, the image as it is, to 1.5.
        mask: ``(H, W)`` in [0, 1], by which the change is multiplied: 0 leaves the image as it is.
        keep_colour: The change of luma alone, with the chroma of the image. This and the two above
            are for networks that keep sizes.
        long_side: Restore a copy scaled down to that many pixels on its long side, and carry its
            change up to the images: for haze, whose removal is a smooth gain and offset. 0 for the
            images alone, without any copy. By default what the network says: its ``long_side``, as
            the haze weights have it; or its ``coarse_side``, as those of rain: then the images are
            restored, and beside those with three times its pixels or more a copy of that size is,
            from which what is coarse is taken.
        overlap: Pixels that tiles share; an eighth of ``tile`` unless given. Not for GLSGN.
        amp: ``"bf16"`` or ``"fp16"``: autocast.
        memory: Bytes that streaming is to make do with on the device, beside network and images; by
            default 640 MiB on a CPU, and half of what is free elsewhere.
        steady: ``auto`` goes by the image's size alone, and nothing smaller is tried where memory
            runs out, so that what comes out, and its PSNR, doesn't depend on what else is running.
        progress: Told which share of the work is done, up to 1.
        say: Told what was picked, and when memory ran out and less was tried.

    Returns:
        The restored images, ``(N, 3, H, W)``, float32, not clipped, on the device of ``image``.

    Raises:
        InputError: An argument can't be used, it says which; or memory ran out, and there is no
            smaller way, or none is to be tried.
    """
    if not isinstance(image, Tensor):
        raise InputError(
            f"expected images as a tensor, got {type(image).__name__}; restore_array takes arrays"
        )
    if not isinstance(net, nn.Module):
        raise InputError(f"expected a network, got {net!r}; load_pretrained gives one by its task")
    if image.ndim != 4 or not (image.is_floating_point() or image.dtype == torch.uint8):
        raise InputError(
            "expected images (N, 3, H, W), RGB, in floating point in [0, 1] or uint8; got "
            f"{image.dtype} of shape {tuple(image.shape)}"
        )
    if amp is not None and amp not in AMP_TYPES:
        raise unknown_name("amp", amp, AMP_TYPES)
    strength = check_strength(strength)
    if memory is not None and (not is_whole(memory) or memory < 1):
        raise InputError(f"memory: expected a number of bytes from 1 up, got {memory!r}")
    # On other devices to look would be to wait, and tensors of other classes may have no values.
    if type(image) is Tensor and image.is_floating_point() and image.is_cpu and image.numel():
        check_range(image.amax().item())
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = mask.float()
    check_mask(mask, image.shape[2:])
    check_tile(tile)
    check_overlap(overlap, tile)
    check_long_side(long_side)
    if strength == 0:
        progress(1.0)
        return as_float(image).clone()
    glsgn = _glsgn(net)
    coarse_side = None
    if long_side is None and glsgn is not None:
        long_side = glsgn.long_side
        coarse_side = None if long_side else glsgn.coarse_side
    size = (image.shape[2], image.shape[3])
    copy = reduced_size(*size, long_side) if long_side else size
    beside = coarse_size(*size, coarse_side) if coarse_side else None

    def run(
        these: Tensor,
        progress: Callable[[float], None] = progress,
        say: Callable[[str], None] = say,
    ) -> Tensor:
        return _restore(net, these, tile, overlap, amp, memory, steady, progress, say)

    if copy != size:
        restored = restore_reduced(image, copy, run)
    elif beside is not None:
        restored = restore_by_coarse(image, beside, run, progress, say)
    else:
        restored = run(image)
    return blend(image, restored, strength, mask, keep_colour)


def _restore(
    net: nn.Module,
    image: Tensor,
    tile: str | int,
    overlap: int | None,
    amp: str | None,
    memory: int | None,
    steady: bool,
    progress: Callable[[float], None],
    say: Callable[[str], None],
) -> Tensor:
    """What the network makes of images, in less memory where it runs out."""
    device = _device(net, image)
    glsgn = _glsgn(net)
    found: Plan | None = plan(net, image, tile, memory, steady)
    while True:
        assert found is not None
        say(f"{image.shape[2]}x{image.shape[3]}: {found}")
        try:
            with torch.no_grad(), _evaluating(net), _autocast(device, amp):
                if found.mode == "whole":
                    return _restore_whole(net, image, device, progress)
                if found.mode == "tile":
                    shared = found.tile // 8 if overlap is None else overlap
                    return restore_tiled(
                        net,
                        image,
                        tile=found.tile,
                        overlap=shared,
                        device=device,
                        progress=progress,
                    )
                assert glsgn is not None
                return restore_streamed(
                    glsgn,
                    image,
                    memory=found.memory,
                    strip=found.tile,
                    device=device,
                    progress=progress,
                )
        except NotFollowedError:
            if tile not in ("auto", "whole"):
                raise
            found, glsgn = Plan("whole"), None
            continue
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if steady:
                raise InputError(
                    f"an image of {image.shape[2]}x{image.shape[3]}: memory ran out {found}; set "
                    "tile (in validation, under val or test_cfg) to a number of pixels"
                ) from None
            found = found.smaller(glsgn is not None, max(image.shape[2:]))
        if found is None:
            raise InputError(
                f"an image of {image.shape[2]}x{image.shape[3]}: memory ran out, and there is no "
                "smaller way to restore it; free some, or use another device"
            )
        # Outside of the handler: its traceback holds the tensors of the attempt.
        say("out of memory")
        if device.type == "cuda":
            torch.cuda.empty_cache()
        elif device.type == "mps":
            torch.mps.empty_cache()


def _restore_whole(
    net: nn.Module, image: Tensor, device: torch.device, progress: Callable[[float], None]
) -> Tensor:
    glsgn = _by_strips(net, device)
    if glsgn is not None:
        unlimited = 2**62
        with suppress(NotFollowedError):
            return restore_streamed(
                glsgn, image, memory=unlimited, strip=STRIP, device=device, progress=progress
            )
    if _glsgn(net) is None:
        restored = run_network(net, image, device)
    else:  # which changes nothing in place, and takes what others may not take
        moved = as_float(image.to(device)).to(weights_dtype(net))
        moved = moved.contiguous(memory_format=torch.channels_last)
        restored = net(moved).to(image.device, torch.float32)
    progress(1.0)
    return restored


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Eval mode for the time; each module then has the mode that it had."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _autocast(device: torch.device, amp: str | None) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, AMP_TYPES[amp]) if amp else nullcontext()


def _out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: torch has a type of its own for that on GPUs alone."""
    wordings = "out of memory|can't allocate memory|bad_alloc|could not create a memory"
    return isinstance(error, MemoryError) or bool(re.search(wordings, str(error), re.IGNORECASE))
