"""Networks from weights alone: every hyper-parameter is read off their names and shapes.

The patch grids leave no trace in the weights, nor does whether Patch Norm pools them: those are the
defaults of :class:`~glsgn_plugins.network.GLSGN`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from glsgn_plugins.blocks import SCALES
from glsgn_plugins.checkpoint import read_checkpoint
from glsgn_plugins.errors import InputError
from glsgn_plugins.network import GLSGN

MARK = "global_pathway.encoder.stem.weight"
"""A key that every GLSGN has."""


def options_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of :class:`GLSGN` with which it takes a state dict.

    Raises:
        InputError: A part that every GLSGN has is missing.
    """

    def any_key(*parts: str) -> bool:
        return any(all(part in key for part in parts) for key in state)

    stems = [f"local_pathways.{i}.encoder.stem.weight" for i in range(3)]
    missing = [key for key in (*stems, MARK) if key not in state]
    if missing:
        raise InputError(f"no weights of GLSGN: {missing[0]} is not among them")
    stages = [f"global_pathway.encoder.stages.{scale}" for scale in range(SCALES)]
    return {
        "widths": tuple(int(state[key].shape[0]) for key in (*stems, MARK)),
        "blocks": tuple(
            sum(key.startswith(f"{stage}.") and key.endswith(".conv1.weight") for key in state)
            for stage in stages
        ),
        "global_features": any_key("injections.from_global"),
        "local_features": any_key("injections.from_previous"),
        "attention": any_key("local_pathways.", ".attention."),
        "patch_norm": "pooled" if any_key("decoder.norms.") else "none",
        "fusion": "laplacian" if any_key("fusion.mask") else "sum",
    }


def glsgn_from(state: Mapping[str, Tensor]) -> GLSGN:
    """The network that a state dict is of, with its weights, in eval mode.

    Raises:
        InputError: It is no GLSGN's, or not whole.
    """
    options = options_of(state)
    try:
        with torch.device("meta"):
            net = GLSGN(**options)
        net.load_state_dict(dict(state), assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(f"no whole weights of GLSGN: {' '.join(lines[1:2])[:200]}") from None
    return net.eval()


def find_state(checkpoint: Any) -> dict[str, Tensor]:
    """The state dict of GLSGN in what a framework saved: averaged weights first.

    BasicSR's ``params_ema`` and ``params``, MMagic's ``state_dict`` with its ``generator_ema`` and
    ``generator``, or a bare state dict; also as DistributedDataParallel names its keys.

    Raises:
        InputError: There is none.
    """
    if isinstance(checkpoint, dict):
        for holder in ("params_ema", "params", "state_dict"):
            if isinstance(checkpoint.get(holder), dict):
                checkpoint = checkpoint[holder]
                break
        prefixes = [key.removesuffix(MARK) for key in checkpoint if str(key).endswith(MARK)]
        for prefix in sorted(prefixes, key=lambda prefix: ("ema" not in prefix, prefix)):
            return {
                key.removeprefix(prefix): value.float()
                for key, value in checkpoint.items()
                if key.startswith(prefix) and isinstance(value, Tensor)
            }
    held = ", ".join(map(str, list(checkpoint)[:4])) if isinstance(checkpoint, dict) else ""
    raise InputError(f"no weights of GLSGN in it; it holds {held or type(checkpoint).__name__}")


def read_glsgn(path: str | os.PathLike[str]) -> GLSGN:
    """The network in a checkpoint or safetensors file, in eval mode on the CPU.

    Raises:
        InputError: The file is missing, damaged, could run code, or holds another network.
    """
    checkpoint = read_checkpoint(path)
    try:
        return glsgn_from(find_state(checkpoint))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
