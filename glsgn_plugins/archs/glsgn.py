"""GLSGN: the network, and its named sizes.

Source: "Global-Local Stepwise Generative Network for Ultra High-Resolution Image Restoration",
Feng, Ji, Pei, Chen, Zhang, Lu, arXiv 2207.08808. The pathways, what they pass to each other and the
fusion follow its Fig. framework and Fig. laplacian_pyramid; docstrings say where a choice is ours.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from glsgn_plugins.archs.blocks import (
    SCALES,
    GlobalPathway,
    LocalPathway,
    PatchNorm,
    keep_averages,
    shrink,
)
from glsgn_plugins.archs.checks import check_counts, check_grids, check_one_copy, check_side
from glsgn_plugins.archs.fusion import LaplacianFusion, SumFusion
from glsgn_plugins.archs.patches import WHOLE, Grid
from glsgn_plugins.errors import InputError, unknown_name, wrong_type

PATHWAY_SCALES = (1, 2, 4, 4)
"""How much smaller than the image pathways 1, 2, 3 and the global one work (paper)."""

PAPER_GRIDS: tuple[Grid, ...] = ((4, 4), (2, 2), (2, 1))
"""Patches of pathways 1, 2, 3 (paper, Fig. framework)."""

PADDING_MODES = ("zeros", "replicate")
PATCH_NORMS = ("pooled", "per_patch", "none")
FUSIONS = ("laplacian", "sum")
SIDES = ("long_side", "coarse_side")
"""Options that say at which size a copy of an image is restored, in its place or beside it."""
MIN_SIZE = 32

RECORD = "glsgn"
"""Key of the options, as JSON: in a state dict's ``_metadata``, beside ``params`` in a ``.pth``,
and in the metadata of safetensors."""


class PathwayOutputs(NamedTuple):
    """What :class:`GLSGN` returns in training with ``return_pathways``.

    Attributes:
        restored: B_out, ``(N, 3, H, W)``.
        pathways: B_1, B_2, B_3 and B_g: ``(N, 3, ceil(H / s), ceil(W / s))``, s = 1, 2, 4, 4.
        attentions: A_1, A_2, A_3 and A_g: ``(N, 1, h, w)`` in (0, 1), over the padded image of
            P x Q pixels (see :attr:`GLSGN.size_multiple`), h = P / 4, P / 8, P / 16 and P / 4,
            and w likewise. A_g alone where ``attention`` is off.
        lq_global: I_4, what the global pathway saw, in the shape of B_g.
    """

    restored: Tensor
    pathways: tuple[Tensor, ...]
    attentions: tuple[Tensor, ...]
    lq_global: Tensor


class GLSGN(nn.Module):
    """Global-local stepwise generative network.

    Three local pathways restore the image at full, half and quarter size, a global one sees the
    whole at quarter size and passes its feature and its attention to all three. A Laplacian pyramid
    joins the four outputs. Every pathway predicts a change of its input, and the untrained network
    returns its input to within 1e-3.

    Args:
        widths: Channels at full scale of pathways 1, 2, 3 and the global one; they double with each
            of the two further scales (our choice).
        blocks: Residual blocks of every encoder and decoder at full, half and quarter scale (our
            choice).
        grids: Rows and columns of patches that pathways 1, 2, 3 are cut into in training
            (:data:`PAPER_GRIDS` in the paper), or ``None`` for no patches. Pathway i decodes on the
            grid of pathway i + 1, the last one on the whole. What is restored is never cut.
        global_features: Pass F_g to the local encoders.
        local_features: Pass F_1 and F_2 to the next pathway's encoder.
        attention: The blocks PAC_i of the local pathways.
        patch_norm: ``"none"``, ``"pooled"`` (Patch Norm with the statistics of all patches of an
            image) or ``"per_patch"``; see :class:`~glsgn_plugins.archs.blocks.PatchNorm`.
        fusion: ``"laplacian"`` (paper) or ``"sum"`` (up-sample and add).
        padding_mode: ``"zeros"``, or ``"replicate"``, which weights without a record of their
            network were trained with.
        long_side: The size, in pixels of the longer side, at which images are to be restored with
            the network: :func:`~glsgn_plugins.inference.restore` and the validation of both
            frameworks restore a copy of that size and carry its change up. ``None`` for the
            images themselves. :meth:`forward` doesn't use it.
        coarse_side: Likewise the size of a copy that is restored beside an image of three times its
            pixels or more (a panorama's is as high as that of a photograph). What is coarse comes
            from the copy, whose streaks and mist are no larger than those of training, what is fine
            from the image (our choice).
        return_pathways: In training mode return :class:`PathwayOutputs`.
        checkpointing: In training, recompute each pathway in the backward pass: less memory on
            large crops, about a third more time.

    Attributes:
        options: What of the above makes the architecture, and both sizes. It travels in the
            metadata of state dicts, which ``torch.save`` and both frameworks keep, see
            :data:`RECORD`.
        long_side, coarse_side: As above.
        size_multiple: Rows and columns of which inputs are padded to a multiple, by reflection; the
            output is cropped back.

    Raises:
        InputError: A value above is not possible; it says which and what is.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 24, 32, 32),
        blocks: Sequence[int] = (1, 1, 1),
        grids: Sequence[Sequence[int]] | None = None,
        *,
        global_features: bool = True,
        local_features: bool = True,
        attention: bool = True,
        patch_norm: str = "none",
        fusion: str = "laplacian",
        padding_mode: str = "zeros",
        long_side: int | None = None,
        coarse_side: int | None = None,
        return_pathways: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_counts("widths", widths, 4)
        check_counts("blocks", blocks, SCALES)
        self.grids = check_grids(grids)
        if patch_norm not in PATCH_NORMS:
            raise unknown_name("GLSGN patch_norm", patch_norm, PATCH_NORMS)
        if fusion not in FUSIONS:
            raise unknown_name("GLSGN fusion", fusion, FUSIONS)
        if padding_mode not in PADDING_MODES:
            raise unknown_name("GLSGN padding_mode", padding_mode, PADDING_MODES)
        check_side("long_side", long_side, MIN_SIZE)
        check_side("coarse_side", coarse_side, MIN_SIZE)
        check_one_copy(long_side, coarse_side)
        self.options: dict[str, Any] = {
            "widths": list(widths),
            "blocks": list(blocks),
            "grids": grids and [list(grid) for grid in grids],
            "global_features": global_features,
            "local_features": local_features,
            "attention": attention,
            "patch_norm": patch_norm,
            "fusion": fusion,
            "padding_mode": padding_mode,
            "long_side": long_side,
            "coarse_side": coarse_side,
        }
        for name in ("global_features", "local_features", "attention"):
            if not isinstance(self.options[name], bool):
                raise wrong_type(f"GLSGN {name}", self.options[name], "true or false")
        self.return_pathways = return_pathways
        self.checkpointing = checkpointing
        self.local_features = local_features

        *local_widths, global_width = widths
        self.global_pathway = GlobalPathway(global_width, blocks)
        self.local_pathways = nn.ModuleList(
            LocalPathway(
                width,
                blocks,
                grid=self.grids[i],
                merged=self.grids[i + 1] if i < 2 else WHOLE,
                # F_g is a quarter of the image, which pathway 1 has at its quarter scale,
                # pathway 2 at its half scale and pathway 3 at its full scale.
                global_scale=SCALES - 1 - i,
                global_width=global_width if global_features else None,
                # F_(i-1) comes from the half scale of a decoder whose channels double there.
                previous_width=2 * widths[i - 1] if i and local_features else None,
                # E_i is a quarter of I_i; A_g and A_1 are a quarter of the image.
                guides=((2**i, 2) if i else (1,)) if attention else None,
                norm=patch_norm,
            )
            for i, width in enumerate(local_widths)
        )
        self.fusion = LaplacianFusion() if fusion == "laplacian" else SumFusion()
        self._register_state_dict_hook(_record)
        if padding_mode != "zeros":
            for module in self.modules():
                if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
                    module.padding_mode = padding_mode  # type: ignore[assignment]

    @property
    def size_multiple(self) -> Grid:
        return _size_multiple(self.grids if self.training else (WHOLE,) * 3)

    @property
    def long_side(self) -> int | None:
        return self.options["long_side"]

    @long_side.setter
    def long_side(self, pixels: int | None) -> None:
        check_side("long_side", pixels, MIN_SIZE)
        check_one_copy(pixels, self.coarse_side)
        self.options["long_side"] = pixels

    @property
    def coarse_side(self) -> int | None:
        return self.options["coarse_side"]

    @coarse_side.setter
    def coarse_side(self, pixels: int | None) -> None:
        check_side("coarse_side", pixels, MIN_SIZE)
        check_one_copy(self.long_side, pixels)
        self.options["coarse_side"] = pixels

    def _load_from_state_dict(
        self, state: Any, prefix: str, metadata: dict[str, Any], *more: Any
    ) -> None:
        """Warn where weights come with a record of a network that restores in another way."""
        try:
            told = dict(json.loads(metadata[RECORD]))
        except (KeyError, TypeError, ValueError):
            told = {}  # none, or a damaged one, which reading the file says
        for name in ("padding_mode", *SIDES):
            own = self.options[name]
            if name in told and told[name] != own:
                warnings.warn(
                    f"GLSGN {name}: {own}, but these weights are of a network with {told[name]}, "
                    f"and do worse with any other; make it GLSGN({name}={told[name]!r})",
                    stacklevel=2,
                )
        super()._load_from_state_dict(state, prefix, metadata, *more)

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> GLSGN:
        """A network of this class with its weights, in float32 and eval mode on the CPU.

        Args:
            name: A folder that :meth:`save_pretrained` has written, a weights file, or
                ``glsgn://TASK``; else a repository of the Hugging Face Hub, ``user/name``.
            options: Of ``huggingface_hub.hf_hub_download``: ``revision``, ``token``, ``cache_dir``,
                ``local_files_only=True`` for what was downloaded before, and so on.

        Raises:
            InputError: There is none, or it isn't GLSGN's; or the extra ``[hub]`` is missing where
                it is needed.
        """
        from glsgn_plugins.io.hub import load  # which knows this class

        return load(cls, name, **options)

    def save_pretrained(self, folder: str | Path, **options: Any) -> Any:
        """Write a folder for the Hub: ``model.safetensors``, ``config.json`` and a card.

        Args:
            folder: Made where it isn't; one that holds a ``model.safetensors`` is refused.
            options: As of ``PyTorchModelHubMixin.save_pretrained``: ``push_to_hub``, ``repo_id``.

        Raises:
            InputError: It can't be written, or the extra ``[hub]`` is missing.
        """
        from glsgn_plugins.io.hub import save

        return save(self, Path(folder), **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Publish the network on the Hub.

        Args:
            repo_id: ``user/name``.
            options: As of ``PyTorchModelHubMixin.push_to_hub``: ``private``, ``token``,
                ``commit_message`` and so on.

        Returns:
            The address of the commit.

        Raises:
            InputError: The extra ``[hub]`` is missing, or the Hub doesn't take it or isn't there.
        """
        from glsgn_plugins.io.hub import push

        return push(self, repo_id, **options)

    def forward(self, lq: Tensor) -> Tensor | PathwayOutputs:
        """Restore images.

        Args:
            lq: ``(N, 3, H, W)``, RGB in [0, 1], H and W from 32 up.

        Returns:
            The restored images, ``(N, 3, H, W)``, not clipped; or :class:`PathwayOutputs` in
            training mode with ``return_pathways``.

        Raises:
            InputError: The shape is another.
        """
        height, width = check_image(lq)
        restored, outputs, attentions, lq_global = self.restore_padded(_pad(lq, self.size_multiple))
        restored = restored[:, :, :height, :width]
        if not (self.training and self.return_pathways):
            return restored
        *cropped, lq_global = (
            b[:, :, : -(-height // s), : -(-width // s)]
            for b, s in zip((*outputs, lq_global), (*PATHWAY_SCALES, PATHWAY_SCALES[-1]))
        )
        return PathwayOutputs(restored, tuple(cropped), tuple(attentions), lq_global)

    def restore_padded(
        self, image: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """:meth:`forward` for sizes that are a multiple of :attr:`size_multiple`.

        No shape is looked at, so that inference can follow it region by region.

        Returns:
            The restored image, the pathways' outputs, the attention maps, and I_4.
        """
        half = shrink(image, 2)
        quarter = shrink(half, 2)
        images = (image, half, quarter, quarter)

        b_global, a_global, f_global = self._run(self.global_pathway, quarter)
        outputs: list[Tensor] = []
        attentions: list[Tensor] = []
        injected = {"from_global": f_global}
        for pathway, source in zip(self.local_pathways, images):
            guides = (a_global, *attentions[-1:])
            output, f_local, attention = self._run(pathway, source, injected, *guides)
            outputs.append(output)
            if attention is not None:
                attentions.append(attention)
            if self.local_features:
                injected = {"from_global": f_global, "from_previous": f_local}
        outputs.append(b_global)
        attentions.append(a_global)

        if isinstance(self.fusion, SumFusion):
            changes = (b - source for b, source in zip(outputs[1:], images[1:]))
            restored = self.fusion(outputs[0], *changes)
        else:
            restored = self.fusion(*outputs)
        return restored, tuple(outputs), tuple(attentions), quarter

    def _run(self, pathway: nn.Module, *args: Any) -> Any:
        """Run a pathway, and where asked for, recompute its activations in the backward pass."""
        if self.training and self.checkpointing and torch.is_grad_enabled():
            norms = [module for module in pathway.modules() if isinstance(module, PatchNorm)]
            if not norms:
                return checkpoint(pathway, *args, use_reentrant=False)

            def contexts() -> tuple[Any, Any]:
                return nullcontext(), keep_averages(norms)  # seen twice, averaged once

            return checkpoint(pathway, *args, use_reentrant=False, context_fn=contexts)
        return pathway(*args)


def _record(
    net: GLSGN, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> dict[str, Any]:
    """Write down what network a state dict is of."""
    metadata[RECORD] = json.dumps(net.options)
    return state


def _size_multiple(grids: Sequence[Grid]) -> Grid:
    """So that each patch of each pathway has whole pixels at the coarsest of its scales."""
    coarsest = 2 ** (SCALES - 1)
    scaled = list(zip(PATHWAY_SCALES, (*grids, (1, 1))))
    rows = math.lcm(*(scale * grid[0] * coarsest for scale, grid in scaled))
    cols = math.lcm(*(scale * grid[1] * coarsest for scale, grid in scaled))
    return rows, cols


def check_image(lq: Tensor) -> tuple[int, int]:
    """Rows and columns of what :meth:`GLSGN.forward` takes; InputError where it doesn't."""
    if lq.ndim != 4 or lq.shape[1] != 3:
        raise InputError(
            f"GLSGN expects images of shape (N, 3, H, W), RGB in [0, 1]; got {tuple(lq.shape)}"
        )
    height, width = lq.shape[2:]
    if height < MIN_SIZE or width < MIN_SIZE:
        raise InputError(
            f"GLSGN expects images of at least {MIN_SIZE}x{MIN_SIZE} pixels; got {height}x{width}"
        )
    return height, width


def padded_size(size: tuple[int, int], multiple: Grid) -> tuple[int, int]:
    """Rows and columns up to a multiple.

    Raises:
        InputError: The image is too small to be padded so by reflection.
    """
    rows, cols = -size[0] % multiple[0], -size[1] % multiple[1]
    if rows >= size[0] or cols >= size[1]:
        raise InputError(
            f"an image of {size[0]}x{size[1]} is too small for these patch grids, which need "
            f"a multiple of {multiple[0]}x{multiple[1]}; use smaller grids or a larger image"
        )
    return size[0] + rows, size[1] + cols


def _pad(x: Tensor, multiple: Grid) -> Tensor:
    """Reflect ``(N, C, H, W)`` at the bottom and right up to a multiple."""
    height, width = x.shape[2:]
    rows, cols = padded_size((height, width), multiple)
    if (rows, cols) == (height, width):
        return x
    return F.pad(x, (0, cols - width, 0, rows - height), mode="reflect")


def glsgn_s(**options: Any) -> GLSGN:
    """Small, for an ordinary GPU or none; ``options`` as of :class:`GLSGN`."""
    return GLSGN(**{"widths": (16, 24, 32, 32), "blocks": (1, 1, 1), **options})


def glsgn_b(**options: Any) -> GLSGN:
    """Base; ``options`` as of :class:`GLSGN`."""
    return GLSGN(**{"widths": (24, 32, 48, 48), "blocks": (1, 2, 3), **options})


def glsgn_l(**options: Any) -> GLSGN:
    """Large; ``options`` as of :class:`GLSGN`."""
    return GLSGN(**{"widths": (32, 48, 64, 64), "blocks": (2, 3, 4), **options})
