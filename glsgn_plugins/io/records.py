"""What weights say of their network: the options that it wrote down beside them.

:class:`~glsgn_plugins.archs.glsgn.GLSGN` puts them into its state dicts, as
:data:`~glsgn_plugins.archs.glsgn.RECORD`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor

from glsgn_plugins.archs.glsgn import GLSGN, RECORD, SIDES
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.pretrained import FOLDER

UNRECORDED = {
    "56038929b3043a0f": {"padding_mode": "replicate"},
    "fcd0feb0a9da3025": {"padding_mode": "replicate"},
}
"""What shapes don't show of weights that were shipped before, without a record of their network: by
:func:`fingerprint`, since hosts such as spandrel hand on tensors without a file's name."""

TOLD_BY = "global_pathway.head.bias"
"""The key whose numbers tell weights apart."""


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A few digits that tell GLSGN's weights apart, in whichever precision they are."""
    bias = weights.get(TOLD_BY, torch.zeros(0)).to("cpu", torch.float16)
    return hashlib.sha256(bias.numpy().tobytes()).hexdigest()[:16]


def record_in(content: Any, source: Path | str) -> dict[str, Any] | None:
    """The options that a network wrote down in what was saved of it.

    Args:
        content: A checkpoint, or a state dict as it came from the network.
        source: For the message.

    Raises:
        InputError: What stands in the record's place is none.
    """
    if not isinstance(content, Mapping):
        return None
    metadata = getattr(content, "_metadata", None)
    for one in (content, *(metadata.values() if isinstance(metadata, Mapping) else ())):
        found = one.get(RECORD) if isinstance(one, Mapping) else None
        if isinstance(found, str):
            return _parsed(found, source)
    for value in content.values():
        found = record_in(value, source)
        if found is not None:
            return found
    return None


def _parsed(record: str, source: Path | str) -> dict[str, Any]:
    try:
        options = json.loads(record)
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError alike
        problem = f"is no JSON ({error})"
    else:
        if isinstance(options, dict):
            return options
        problem = f"is a {type(options).__name__}"
    raise InputError(
        f"{source}: the record of the network ({RECORD!r}) {problem}; expected an object of "
        'GLSGN\'s options, e.g. {"widths": [16, 24, 32, 32]}: save the weights anew, or without it'
    )


def record_by_fingerprint(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Of shipped weights that a host such as spandrel hands on as tensors alone."""
    wanted = fingerprint(weights)
    for path in sorted(FOLDER.glob("*.safetensors")):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                if fingerprint({TOLD_BY: file.get_tensor(TOLD_BY)}) == wanted:
                    return record_in(file.metadata(), path)
        except (SafetensorError, OSError):  # which is said where that file is asked for
            continue
    return UNRECORDED.get(wanted)


def unlike(
    weights: Mapping[str, Tensor],
    record: Mapping[str, Any] | None,
    net: GLSGN,
    source: str,
    place: str,
) -> list[str]:
    """What a network does otherwise than its weights were made for, and no key or shape shows.

    Args:
        weights: A state dict that fits the network.
        record: What :func:`record_of` found beside it.
        net: The network as its options have built it; it keeps these.
        source: For the messages: where the weights are from.
        place: For the messages: where the options are.

    Returns:
        Warnings, each a line.
    """
    if record is None:
        record = record_by_fingerprint(weights) or {}
    said = []
    padded = net.options["padding_mode"]
    if record.get("padding_mode", padded) != padded:
        said.append(
            f"{source}: trained with padding_mode: {record['padding_mode']}, but the network of "
            f"{place} has {padded}: what lies near an image's border will differ until some "
            "training has corrected it"
        )
    for name in SIDES:
        side, own = record.get(name), net.options[name]
        if side is not None and side != own:
            said.append(
                f"{source}: to be restored with {name}: {side}, but {place}.{name} is {own}, by "
                f"which images are restored, and which is saved; set it to {side} unless that is "
                "meant"
            )
    return said
