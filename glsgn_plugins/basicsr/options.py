"""Reading option files, and checking them before anything is started.

BasicSR finds a wrong name or folder one by one, after it has moved the last experiment aside, and
with a traceback; some (a cosine schedule that is too short) only after hours. Here each is one line
that names the key, what was found, and what exists.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from basicsr.models.base_model import BaseModel
from basicsr.utils.options import _postprocess_yml_value
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)

from glsgn_plugins.basicsr.datasets import FromOptions
from glsgn_plugins.basicsr.gan_model import GLSGNGANModel
from glsgn_plugins.basicsr.images import check_files, check_pairs
from glsgn_plugins.basicsr.model import GLSGNModel, amp_type
from glsgn_plugins.basicsr.tiled_model import TiledSRModel
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.inference import check_tile
from glsgn_plugins.network import GLSGN, MIN_SIZE
from glsgn_plugins.pretrained import is_shipped, weights_file
from glsgn_plugins.shipped import find_shipped
from glsgn_plugins.weights import check_fits, read_weights

Options = dict[str, Any]

REQUIRED = ("name", "model_type", "num_gpu", "datasets", "network_g", "path")
REQUIRED_TRAIN = ("train", "logger", "scale")
REQUIRED_TEST = ("val", "scale")
MAPPINGS = ("datasets", "path", "train", "val", "logger")
SCHEDULERS = ("MultiStepLR", "MultiStepRestartLR", "CosineAnnealingRestartLR")


def read_options(path: str, force_yml: list[str]) -> tuple[Path, Options]:
    """Read an options file, and set ``force_yml`` in it as BasicSR will.

    Args:
        path: A path, or the name of a file in ``basicsr_options``.
        force_yml: ``key:key=value``, as after ``--force_yml``.

    Returns:
        The path of the file found, and its options.

    Raises:
        InputError: There is no such file, it is no YAML mapping, or an entry can't be set.
    """
    file = find_shipped(path, "basicsr_options", ".yml")
    try:
        opt = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: not plain YAML: {reason}") from None
    if not isinstance(opt, dict):
        raise InputError(f"{file}: expected a mapping of options, found {type(opt).__name__}")
    for entry in force_yml:
        _force(opt, entry)
    return file, opt


def _force(opt: Options, entry: str) -> None:
    keys, equals, value = entry.partition("=")
    if not equals or "=" in value:
        raise InputError(f"--force_yml {entry}: expected key:key=value with one '='")
    *path, last = [key.strip() for key in keys.split(":")]
    at = opt
    for depth, key in enumerate(path):
        if not isinstance(at.get(key), dict):
            raise unknown_name(f"--force_yml {entry}: {':'.join(path[: depth + 1])}", key, at)
        at = at[key]
    at[last] = _postprocess_yml_value(value.strip())


def check_options(opt: Options, train: bool) -> None:
    """Check what can be known before the start.

    Args:
        opt: As of :func:`read_options`.
        train: For ``basicsr train``, else for ``basicsr test``.

    Raises:
        InputError: The first thing that is wrong.
    """
    for key in (*REQUIRED, *(REQUIRED_TRAIN if train else REQUIRED_TEST)):
        if key not in opt:
            near = difflib.get_close_matches(key, map(str, opt), n=1)
            raise InputError(
                f"the options lack '{key}'" + (f"; is '{near[0]}' meant for it?" if near else "")
            )
        if key in MAPPINGS and not isinstance(opt[key], dict):
            raise InputError(f"{key}: expected a mapping of options, found {opt[key]!r}")
    _check_gpus(opt["num_gpu"])
    _check_types(opt, train)
    if train:
        _check_train(opt)
    for key, value in opt["path"].items():
        if value is not None and ("pretrain_network" in key or "resume_state" in key):
            _check_weights(f"path.{key}", value)
    network = _registered(ARCH_REGISTRY, opt["network_g"]["type"])
    ours = inspect.isclass(network) and issubclass(network, GLSGN)
    start = opt["path"].get("pretrain_network_g")
    if ours and is_shipped(start) and opt["path"].get("strict_load_g", True):
        with torch.device("meta"):
            net = network(**{k: v for k, v in opt["network_g"].items() if k != "type"})
        place = "path.pretrain_network_g"
        check_fits(read_weights(start), net.state_dict(), f"{place}: {start}", "network_g")
    model = _registered(MODEL_REGISTRY, opt["model_type"])
    if issubclass(model, GLSGNModel) and not ours:
        raise InputError(
            f"model_type: {model.__name__} trains GLSGN, but network_g.type is "
            f"'{opt['network_g']['type']}'; use model_type: SRModel for it"
        )
    _check_tile(opt.get("val") or {}, model, ours)
    for phase, dataset in opt["datasets"].items():
        _check_dataset(phase, dataset, train and phase == "train", ours)


def _check_gpus(num_gpu: Any) -> None:
    found = torch.cuda.device_count()
    if num_gpu != "auto" and (not isinstance(num_gpu, int) or num_gpu > found):
        raise InputError(
            f"num_gpu: {num_gpu}, but torch sees {found} GPU{'s' * (found != 1)} here; use auto, "
            "which takes those there are"
        )


def _typed_sections(opt: Options, train: bool) -> Iterator[tuple[str, Options, Any]]:
    """Sections with a ``type`` key: their place, content, and the registry of that type."""
    for key, section in opt.items():
        if key.startswith("network_"):
            yield key, section, ARCH_REGISTRY
    for phase, section in opt["datasets"].items():
        yield f"datasets.{phase}", section, DATASET_REGISTRY
    for name, section in ((opt.get("val") or {}).get("metrics") or {}).items():
        yield f"val.metrics.{name}", section, METRIC_REGISTRY
    if train:
        for key, section in opt["train"].items():
            if key.endswith("_opt") and section is not None:
                yield f"train.{key}", section, LOSS_REGISTRY


def _registered(registry: Any, name: str) -> Any:
    """As BasicSR looks names up, without what it prints."""
    found = dict(iter(registry))
    return found.get(name, found.get(f"{name}_basicsr"))


def _check_types(opt: Options, train: bool) -> None:
    if _registered(MODEL_REGISTRY, opt["model_type"]) is None:
        raise unknown_name("model_type", opt["model_type"], MODEL_REGISTRY.keys())
    for place, section, registry in _typed_sections(opt, train):
        if not isinstance(section, dict) or "type" not in section:
            raise InputError(f"{place}: expected a mapping with a 'type', found {section!r}")
        made = _registered(registry, section["type"])
        if made is None:
            raise unknown_name(f"{place}.type", section["type"], registry.keys())
        # Datasets take their options as one dict; metrics take whatever they are given.
        if registry in (ARCH_REGISTRY, LOSS_REGISTRY):
            _check_keys(place, section, made)


def _check_keys(place: str, section: Options, made: Callable[..., Any]) -> None:
    """Each key must be a parameter of what the section makes."""
    parameters = inspect.signature(made).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters]
    for key in section:
        if key != "type" and key not in known:
            raise unknown_name(f"{place}.{key} ({section['type']})", key, known)


def _check_train(opt: Options) -> None:
    train = opt["train"]
    model = _registered(MODEL_REGISTRY, opt["model_type"])
    ours = issubclass(model, GLSGNModel)
    if ours:
        for key in train:
            if key not in model.TRAIN_KEYS:
                raise unknown_name(f"train.{key} ({model.__name__})", key, model.TRAIN_KEYS)
        amp_type(train.get("amp"))
    adversarial = issubclass(model, GLSGNGANModel)
    if adversarial and "network_d" not in opt:
        raise InputError(f"the options lack 'network_d', the discriminator of {model.__name__}")
    # A model of another package may make its own optimisers and schedules, from keys of its own.
    optimizers = {GLSGNModel.get_optimizer: _torch_optimizers(), BaseModel.get_optimizer: ["Adam"]}
    needed = ["total_iter"]
    if model.get_optimizer in optimizers:
        needed += ["optim_g", "optim_d"] if adversarial else ["optim_g"]
    if model.setup_schedulers is BaseModel.setup_schedulers:
        needed.append("scheduler")
    for key in (*needed, *(("gan_opt",) if adversarial else ())):
        if key not in train:
            raise InputError(f"the options lack train.{key}")
    if model.get_optimizer in optimizers:
        for key in ("optim_g", "optim_d"):
            if key in train:
                _check_optimizer(f"train.{key}", train[key], optimizers[model.get_optimizer])
    if "scheduler" in needed:
        _check_scheduler(train)


def _torch_optimizers() -> list[str]:
    made = {name: getattr(torch.optim, name) for name in dir(torch.optim) if name[0].isupper()}
    return [name for name, c in made.items() if inspect.isclass(c) and name != "Optimizer"]


def _check_optimizer(place: str, section: Options, known: list[str]) -> None:
    if section.get("type") not in known:
        raise unknown_name(f"{place}.type", section.get("type"), known)
    if not isinstance(section.get("lr"), (int, float)):
        raise InputError(
            f"{place}.lr: expected a number, found {section.get('lr')!r}; YAML takes 1e-4 for "
            "text: write 1.0e-4 or !!float 1e-4 (--force_yml: !!float1e-4)"
        )


def _check_scheduler(train: Options) -> None:
    scheduler = train["scheduler"]
    if scheduler.get("type") not in SCHEDULERS:
        raise unknown_name("train.scheduler.type", scheduler.get("type"), SCHEDULERS)
    if scheduler["type"].startswith("Cosine") and sum(scheduler["periods"]) < train["total_iter"]:
        raise InputError(
            f"train.scheduler.periods: their sum, {sum(scheduler['periods'])}, is less than "
            f"train.total_iter, {train['total_iter']}; the schedule would run out in mid-training"
        )


def _check_tile(val: Options, model: type, ours: bool) -> None:
    for key in ("tile", "tile_overlap"):
        if val.get(key) is not None and not issubclass(model, TiledSRModel):
            raise InputError(
                f"val.{key}: {model.__name__} restores whole images alone; use model_type: "
                "TiledSRModel, which trains as SRModel does"
            )
    try:
        check_tile(val.get("tile", "auto"))
    except InputError as error:
        raise InputError(f"val.{error}") from None
    if val.get("tile") == "stream" and not ours:
        raise InputError("val.tile: stream works with GLSGN alone; use auto, whole or pixels")
    overlap = val.get("tile_overlap")
    if overlap is not None and (not isinstance(overlap, int) or overlap < 0):
        raise InputError(f"val.tile_overlap: expected a number of pixels, got {overlap!r}")


def _check_weights(place: str, value: str) -> None:
    if not is_shipped(value):
        _check_exists(place, value, Path.is_file)
        return
    try:
        weights_file(value)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _check_exists(place: str, value: str, exists: Callable[[Path], bool]) -> None:
    path = Path(os.path.expanduser(value))
    if exists(path):
        return
    parent = next(p for p in path.absolute().parents if p.is_dir())
    wanted = path.absolute().relative_to(parent).parts[0]
    names = sorted(p.name for p in parent.iterdir() if not p.name.startswith("."))
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f" Did you mean '{parent / near[0]}'?" if near else ""
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"
    kind = "folder" if exists is Path.is_dir else "file"
    raise InputError(f"{place}: {kind} '{value}' does not exist.{hint} '{parent}' holds: {shown}")


def _check_dataset(phase: str, dataset: Options, train: bool, ours: bool) -> None:
    place = f"datasets.{phase}"
    for side in ("dataroot", "dataroot_lq", "dataroot_gt"):
        if isinstance(dataset.get(side), str):
            _check_exists(f"{place}.{side}", dataset[side], Path.is_dir)
    if dataset.get("meta_info_file") is not None:
        _check_exists(f"{place}.meta_info_file", dataset["meta_info_file"], Path.is_file)
    size = dataset.get("gt_size") if train else None
    if ours and size is not None and size < MIN_SIZE:
        raise InputError(f"{place}.gt_size: {size}, but GLSGN needs {MIN_SIZE} or more")
    made = _registered(DATASET_REGISTRY, dataset["type"])
    if inspect.isclass(made) and issubclass(made, FromOptions):
        try:
            check_files(place, made({**dataset, "phase": "train" if train else "test"}))
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        return
    folders = (dataset.get("io_backend") or {}).get("type") == "disk"
    if folders and dataset["type"] == "PairedImageDataset":
        for key in ("dataroot_lq", "dataroot_gt"):
            if dataset.get(key) is None:
                raise InputError(f"the options lack {place}.{key}")
        check_pairs(place, dataset, crop=size, rgb8=ours)
