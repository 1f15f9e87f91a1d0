"""GLSGN's weights in the checkpoint files of BasicSR, of MMagic, and in safetensors."""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from glsgn_plugins.archs.blocks import SCALES
from glsgn_plugins.archs.glsgn import GLSGN, RECORD
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import atomic_write_into, write_error
from glsgn_plugins.io.checkpoints import mmengine_globals, read_checkpoint
from glsgn_plugins.io.pretrained import weights_file
from glsgn_plugins.io.records import record_by_fingerprint, record_in

LOGGER = logging.getLogger("glsgn_plugins")

Weights = dict[str, Tensor]

ANCHOR = "global_pathway.encoder.stem.weight"
"""A key that every GLSGN has: what stands before it in a file, stands before all of them."""

CONTAINERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
"""Where trainers put a state dict; for messages alone, since any nesting is searched."""

NESTED = 4
"""How deep state dicts are looked for."""

AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?)([._]|$)", re.IGNORECASE)
"""In the names of averaged weights."""

KNOWN = (
    "a checkpoint of BasicSR (params_ema, params), MMagic (state_dict) or another trainer, a state "
    "dict, or safetensors"
)


class _History:
    """Stands for MMEngine's HistoryBuffer, which isn't needed to read weights."""

    min = max = mean = current = None


class Found(NamedTuple):
    """What :func:`read_weights` found.

    Attributes:
        weights: The state dict of :class:`~glsgn_plugins.archs.glsgn.GLSGN`.
        options: Those of that network, see :func:`options_of`.
        place: Where in the file the weights were.
    """

    weights: Weights
    options: dict[str, Any]
    place: str


def read_weights(path: Path | str) -> Found:
    """The network's weights, those of the exponential moving average where there are any.

    Args:
        path: A file of BasicSR, MMagic, ``torch.save`` of a state dict, or safetensors; or
            ``glsgn://TASK`` for those of :mod:`glsgn_plugins.io.pretrained`.

    Raises:
        InputError: The file can't be read safely, or holds no weights of GLSGN.
    """
    path = weights_file(path)
    content: Any
    if is_safetensors(path):
        content = read_safetensors(path)
        states = states_of(content, ANCHOR, "the file")
    else:
        content = read_checkpoint(path, mmengine_globals(_History))
        states = states_of(content, ANCHOR)
    state = states[0] if states else _inside(path, content)
    # Of several networks in a file, each has its own.
    record = record_in(state.metadata, path) or record_of(path, content)
    if not all(isinstance(value, Tensor) for value in state.weights.values()):
        raise InputError(f"{path}: {state.place} holds more than tensors; expected {KNOWN}")
    return Found(dict(state.weights), _recorded(state.weights, path, record), state.place)


def _recorded(
    weights: Mapping[str, Tensor], source: Path | str, record: Mapping[str, Any] | None
) -> dict[str, Any]:
    """:func:`options_of`, and a warning where something is taken for granted."""
    if record is None:
        record = record_by_fingerprint(weights)
    options = options_of(weights, source, record)
    if record is None:
        LOGGER.warning(
            "%s: no record of its network, which is taken for one whose convolutions are padded "
            "with zeros (weights of before 0.2 repeat borders, padding_mode: replicate) and that "
            "restores images as they are (long_side: None, coarse_side: None)",
            source,
        )
    return options


class State(NamedTuple):
    """A network's state dict that was found in a checkpoint.

    Attributes:
        weights: Without what trainers put before the keys.
        place: Where in the file it was.
        metadata: What torch noted beside it, of the network's own modules.
    """

    weights: Weights
    place: str
    metadata: Any = None


def states_of(checkpoint: Any, anchor: str, name: str = "the state dict") -> list[State]:
    """State dicts of a network, wherever a trainer has put them; the best one first.

    Whatever stands before the network's keys is taken off: ``module.`` of several GPUs,
    ``_orig_mod.`` of ``torch.compile``, ``model.``, ``net_g.`` and ``generator.`` of models that
    hold the network, and any of these within one another.

    Args:
        checkpoint: What the file holds.
        anchor: A key of the network, by which it is found.
        name: For the place: of the outermost mapping.

    Returns:
        Averaged weights before others, else in the file's order.
    """
    found: list[tuple[int, State]] = []
    for place, state in _mappings(checkpoint, ()):
        prefixes = [
            key[: -len(anchor)]
            for key in state
            if isinstance(key, str) and (key == anchor or key.endswith(f".{anchor}"))
        ]
        for prefix in prefixes:
            weights = {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if isinstance(key, str) and key.startswith(prefix)
            }
            # MMEngine's EMAHook puts the averaged weights into state_dict when it saves, and those
            # that are trained into ema_state_dict.
            swapped = (
                isinstance(checkpoint, Mapping)
                and {
                    "state_dict",
                    "ema_state_dict",
                }
                <= checkpoint.keys()
            )
            averaged = bool(AVERAGED.search(".".join((*place, prefix))))
            rank = 0 if averaged else 1
            said = " in ".join(reversed(place)) or name
            if swapped:
                rank = {"state_dict": 0, "ema_state_dict": 2}.get(place[0] if place else "", 1)
                said += " (averaged by EMAHook)" if rank == 0 else ""
            said = f"{prefix[:-1]} in {said}" if prefix else said
            noted = getattr(state, "_metadata", None)
            noted = noted.get(prefix[:-1]) if isinstance(noted, Mapping) else None
            found.append((rank, State(weights, said, noted)))
    return [state for _, state in sorted(found, key=lambda one: one[0])]


def _mappings(content: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Mappings in a checkpoint, the outermost first, each with the keys that lead there."""
    if isinstance(content, Mapping) and len(place) <= NESTED:
        yield place, content
        for key, value in content.items():
            if isinstance(key, str):
                yield from _mappings(value, (*place, key))


def _inside(path: Path, checkpoint: Any) -> State:
    """What is most likely meant as weights, of whatever network."""
    if isinstance(checkpoint, Mapping):
        for key in CONTAINERS:
            if isinstance(checkpoint.get(key), Mapping):
                return State(dict(checkpoint[key]), key)
        if checkpoint and all(isinstance(value, Tensor) for value in checkpoint.values()):
            return State(dict(checkpoint), "the state dict")
        held = ", ".join(map(str, list(checkpoint)[:4])) or "nothing"
    else:
        held = f"a {type(checkpoint).__name__}"
    raise InputError(f"{path}: expected {KNOWN}; it holds {held}")


def record_of(path: Path, content: Any) -> dict[str, Any] | None:
    """As of :func:`record_in`, of a file: in safetensors it isn't among the tensors.

    Args:
        path: Of the file.
        content: What was read from it.

    Raises:
        InputError: As of :func:`record_in`.
    """
    return record_in(safetensors_metadata(path) if is_safetensors(path) else content, path)


def options_of(
    weights: Mapping[str, Tensor], source: Path | str, record: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Options of the GLSGN that weights are of; every key and shape is checked against it.

    Args:
        weights: A state dict.
        source: For the message.
        record: What :func:`record_in` found. Without it they are read off the weights, as far as
            these show them: ``grids``, whether patch statistics were pooled, how borders are
            padded, ``long_side`` and ``coarse_side`` leave no trace. The last three matter once a
            network is trained.

    Returns:
        Options of :class:`~glsgn_plugins.archs.glsgn.GLSGN`.

    Raises:
        InputError: It is no GLSGN; names the first keys that are missing, too many, or of another
            shape.
    """
    pathways = ("local_pathways.0", "local_pathways.1", "local_pathways.2", "global_pathway")
    stems = [weights.get(f"{pathway}.encoder.stem.weight") for pathway in pathways]
    block = re.compile(r"global_pathway\.encoder\.stages\.(\d+)\.(\d+)\.")
    blocks = {match.groups() for match in map(block.match, weights) if match}
    counts = [sum(scale == str(k) for scale, _ in blocks) for k in range(SCALES)]
    if any(stem is None for stem in stems) or 0 in counts:
        shown = ", ".join(list(weights)[:3]) or "nothing"
        raise InputError(f"{source}: no weights of GLSGN; its keys begin with {shown}")
    options: dict[str, Any] = {
        "widths": [len(stem) for stem in stems if stem is not None],
        "blocks": counts,
        "global_features": "local_pathways.0.encoder.injections.from_global.weight" in weights,
        "local_features": "local_pathways.1.encoder.injections.from_previous.weight" in weights,
        "attention": "local_pathways.0.attention.conv.weight" in weights,
        "patch_norm": "pooled" if "local_pathways.0.decoder.norms.0.weight" in weights else "none",
        "fusion": "laplacian" if any(key.startswith("fusion.") for key in weights) else "sum",
    }
    if record is not None:
        known = inspect.signature(GLSGN).parameters
        for key, value in record.items():
            # What is off in an option that there is no more, or not yet, changes nothing.
            if key not in known and value not in (None, False):
                raise InputError(
                    f"{source}: the record of the network ({RECORD!r}) says {key}: {value!r}, "
                    "which this version of glsgn-plugins doesn't have; use the one that saved it"
                )
        options |= {key: value for key, value in record.items() if key in known}
    try:
        with torch.device("meta"):
            wanted = {key: value.shape for key, value in GLSGN(**options).state_dict().items()}
    except InputError as error:  # what is read off shapes is always possible
        raise InputError(f"{source}: the record of the network ({RECORD!r}): {error}") from None
    wrong = {
        "lacks": [key for key in wanted if key not in weights],
        "has beside them": [key for key in weights if key not in wanted],
        "has of another shape": [
            k for k in wanted if k in weights and weights[k].shape != wanted[k]
        ],
    }
    problems = [f"{what} {', '.join(keys[:3])}" for what, keys in wrong.items() if keys]
    if problems:
        raise InputError(
            f"{source}: not the weights of GLSGN(widths={options['widths']}, "
            f"blocks={options['blocks']}), which its first layers are of: {'; '.join(problems)}"
        )
    return options


def check_fits(found: Found, net: Mapping[str, Any], source: str, place: str) -> None:
    """Check that weights are of the network that options build.

    Args:
        found: What :func:`read_weights` gave.
        net: That network's state dict, of tensors on any device, ``meta`` as well.
        source: For the message: where the weights are from.
        place: For the message: where the options are.

    Raises:
        InputError: A key or shape differs; says which options fit.
    """
    shapes = {key: value.shape for key, value in found.weights.items()}
    if shapes != {key: value.shape for key, value in net.items()}:
        widths, blocks = (found.options[key] for key in ("widths", "blocks"))
        raise InputError(
            f"{source}: doesn't fit the network of {place}; these are the weights of "
            f"GLSGN(widths={widths}, blocks={blocks}): set its widths and blocks so, and leave "
            "out what changes the architecture"
        )


def glsgn_from(weights: Mapping[str, Tensor], source: Path | str) -> GLSGN:
    """The network that weights are of, with them, in float32 and eval mode on the CPU.

    Args:
        weights: A state dict.
        source: For the message.

    Raises:
        InputError: As of :func:`options_of`.
    """
    return _built(weights, _recorded(weights, source, record_in(weights, source)))


def _built(
    weights: Mapping[str, Tensor], options: dict[str, Any], kind: type[GLSGN] = GLSGN
) -> GLSGN:
    # What is made in inference mode could never be trained.
    with torch.inference_mode(False):
        with torch.device("meta"):
            net = kind(**options)
        own = {key: value.float().clone() for key, value in weights.items()}
        net.load_state_dict(own, assign=True)
    return net.eval()


def read_glsgn(path: Path | str, kind: type[GLSGN] = GLSGN) -> GLSGN:
    """The network in a file, as of :func:`read_weights`, in eval mode on the CPU.

    Args:
        path: Likewise.
        kind: The class that is made, GLSGN or one's own that takes the same options.

    Raises:
        InputError: Likewise.
    """
    found = read_weights(path)
    return _built(found.weights, found.options, kind)


def of_generator(weights: Mapping[str, Tensor]) -> Weights:
    """Weights under the names of MMagic's models, whose network is their ``generator``."""
    return {f"generator.{key}": value for key, value in weights.items()}


def write_weights(
    weights: Mapping[str, Tensor],
    path: Path,
    dtype: torch.dtype | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write a file that is there whole or not at all.

    Args:
        weights: A state dict of :class:`~glsgn_plugins.archs.glsgn.GLSGN`.
        path: A new file: ``.safetensors``, or ``.pth`` that both frameworks load (BasicSR as
            ``params`` or ``params_ema``, MMagic as ``state_dict``).
        dtype: Of the weights in the file, ``torch.float16`` for half the size; as they are unless
            given. Whoever loads them gets float32 again.
        options: Of the network, which are written down beside the weights; by default those that
            a state dict has in its metadata.

    Raises:
        InputError: The file exists, its name ends otherwise, a weight is beyond ``dtype``, or it
            can't be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".pth", ".safetensors"):
        raise InputError(f"{path}: expected a name that ends in .pth or .safetensors")
    if path.exists():
        raise InputError(f"{path} exists; remove it or give another name")
    options = record_in(weights, "the weights") if options is None else options
    record = json.dumps(dict(options)) if options is not None else None
    plain = {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
    beyond = [
        key for key in plain if weights[key].isfinite().all() and not plain[key].isfinite().all()
    ]
    if beyond:
        raise InputError(f"{path}: {beyond[0]} holds numbers that {dtype} can't; write float32")
    try:
        with atomic_write_into(path.parent) as scratch:
            if suffix == ".safetensors":
                metadata = {"format": "pt", **({RECORD: record} if record else {})}
                packed = safetensors.torch.save(plain, metadata=metadata)
                (scratch / path.name).write_bytes(packed)
            else:
                both = {"params": plain, "params_ema": plain, "state_dict": of_generator(plain)}
                torch.save({**both, **({RECORD: record} if record else {})}, scratch / path.name)
    except (OSError, RuntimeError) as error:
        raise write_error(path, error) from None


def safetensors_metadata(path: Path) -> dict[str, str]:
    """What a file says of itself beside its tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, by its name or, whatever that says, by its beginning."""
    if path.suffix.lower() == ".safetensors":
        return True
    try:
        with path.open("rb") as file:
            start = file.read(9)  # the header's length, and the header, which is JSON
    except OSError:
        return False
    length = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and 8 + length <= path.stat().st_size


def read_safetensors(path: Path) -> Weights:
    """Every tensor of a file, whatever network it is of.

    Raises:
        InputError: The file is missing, damaged or no safetensors.
    """
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint file") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged or no safetensors file ({error})") from None
