"""Checking option files before anything is started.

BasicSR finds a wrong name or folder one by one, after it has moved the last experiment aside, and
with a traceback; some (a cosine schedule that is too short) only after hours. Here each is one line
that names the key, what was found, and what exists.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)

from glsgn_plugins.archs.glsgn import GLSGN, MIN_SIZE
from glsgn_plugins.basicsr.datasets import FromOptions
from glsgn_plugins.basicsr.gan_model import GLSGNGANModel
from glsgn_plugins.basicsr.image_checks import check_files, check_lmdb, check_pairs
from glsgn_plugins.basicsr.model import GLSGNModel, amp_type
from glsgn_plugins.basicsr.option_files import Options, read_options
from glsgn_plugins.basicsr.output_images import input_paths
from glsgn_plugins.basicsr.schema import (
    Cosine,
    Loader,
    MultiStep,
    PairedTest,
    PairedTrain,
    TrainLoader,
    check_keys,
)
from glsgn_plugins.basicsr.tiled_model import TiledSRModel
from glsgn_plugins.compat.basicsr_training import too_few
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.inference import check_strength, check_tile
from glsgn_plugins.io.files import equal_names
from glsgn_plugins.io.pretrained import is_shipped, weights_file
from glsgn_plugins.io.weights import check_fits, read_weights
from glsgn_plugins.schema import check_names, validate, wrong_type
from glsgn_plugins.training import compiler

SR_TRAIN_KEYS = GLSGNModel.TRAIN_KEYS - {"pathway_opt", "amp", "grad_clip", "compile"}
SCHEDULERS = ("MultiStepLR", "MultiStepRestartLR", "CosineAnnealingRestartLR")


KNOWN_MODELS = (
    "basicsr.models.sr_model",
    "basicsr.models.srgan_model",
    "basicsr.models.esrgan_model",
    "glsgn_plugins.basicsr.",
)
"""Modules whose models read no keys at the top of a file but BasicSR's common ones."""


def check_options(opt: Options, train: bool) -> None:
    """Check what can be known before the start.

    Args:
        opt: As of :func:`read_options`.
        train: For ``basicsr train``, else for ``basicsr test``.

    Raises:
        InputError: The first thing that is wrong.
    """
    check_names(opt)
    kind = opt.get("model_type")
    model = _registered(MODEL_REGISTRY, kind) if isinstance(kind, str) else None
    if isinstance(kind, str) and model is None:
        raise unknown_name("model_type", kind, MODEL_REGISTRY.keys())
    known = model is not None and model.__module__.startswith(KNOWN_MODELS)
    check_keys(opt, train, known)
    assert model is not None  # a type that isn't text is an error by now
    _check_gpus(opt["num_gpu"])
    _check_phases(opt["datasets"], train)
    _check_types(opt, train)
    if train:
        _check_train(opt, model)
        _check_logger(opt["logger"])
    for key, value in opt["path"].items():
        if value is not None and ("pretrain_network" in key or "resume_state" in key):
            _check_weights(f"path.{key}", value)
    network = _registered(ARCH_REGISTRY, opt["network_g"]["type"])
    ours = inspect.isclass(network) and issubclass(network, GLSGN)
    start = opt["path"].get("pretrain_network_g")
    net = _built(network, opt["network_g"]) if ours else None
    if net is not None and is_shipped(start) and opt["path"].get("strict_load_g", True):
        place = "path.pretrain_network_g"
        check_fits(read_weights(start), net.state_dict(), f"{place}: {start}", "network_g")
    if issubclass(model, GLSGNModel) and not ours:
        raise InputError(
            f"model_type: {model.__name__} trains GLSGN, but network_g.type is "
            f"'{opt['network_g']['type']}'; use model_type: SRModel for it"
        )
    val = opt.get("val") or {}
    _check_restoring(val, model, net)
    tiled = issubclass(model, TiledSRModel)
    if not train and val.get("save_img") and "suffix" not in val and not tiled:
        raise InputError("the options lack 'val.suffix', which save_img needs; ~ for none")
    for phase, dataset in opt["datasets"].items():
        training = train and phase == "train"
        if dataset.get("as_bytes") and not (training and issubclass(model, GLSGNModel)):
            raise InputError(
                f"datasets.{phase}.as_bytes: only GLSGNModel converts bytes, in training; leave it "
                "out"
            )
        paths = _check_dataset(phase, dataset, training, ours)
        if training and paths is not None:
            _check_batches(opt, len(paths))
        if not training and val.get("metrics"):
            _check_truth(phase, dataset, val["metrics"])
        if not training and val.get("save_img") and not tiled:
            same = equal_names(paths or ())
            if same:
                raise InputError(
                    f"datasets.{phase}: the results of {same[0]} and {same[1]} would get one "
                    "name; use model_type: TiledSRModel, which keeps their folders, or save_img: "
                    "false"
                )


def _built(network: type[GLSGN], section: Options) -> GLSGN:
    """The network without its numbers: what can't be, is said now."""
    try:
        with torch.device("meta"):
            return network(**{key: value for key, value in section.items() if key != "type"})
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"network_g: {section['type']} can't be built so ({error})") from None


def _check_gpus(num_gpu: int | str) -> None:
    found = torch.cuda.device_count()
    if isinstance(num_gpu, int) and num_gpu > found:
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
            if key.endswith("_opt") and isinstance(section, dict):
                yield f"train.{key}", section, LOSS_REGISTRY


def _registered(registry: Any, name: str) -> Any:
    """As BasicSR looks names up, without what it prints."""
    found = dict(iter(registry))
    return found.get(name, found.get(f"{name}_basicsr"))


def _check_phases(datasets: Options, train: bool) -> None:
    """Names of datasets, by which BasicSR knows what to do with each."""
    if train and "train" not in datasets:
        raise InputError("the options lack 'datasets.train'")
    if not datasets:
        raise InputError("datasets: expected at least one to test, e.g. test_1")
    known = ("train", "val") if train else ("val", "test")
    for phase in datasets:
        if phase.split("_")[0] not in known or (phase != "train" and phase.startswith("train")):
            raise unknown_name(f"datasets.{phase}", phase, (*known, f"{known[1]}_1"))


def _check_types(opt: Options, train: bool) -> None:
    for place, section, registry in _typed_sections(opt, train):
        if not isinstance(section, dict) or not isinstance(section.get("type"), str):
            raise InputError(f"{place}: expected a mapping with a 'type', found {section!r}")
        made = _registered(registry, section["type"])
        if made is None:
            raise unknown_name(f"{place}.type", section["type"], registry.keys())
        # Datasets take their options as one dict.
        if registry in (ARCH_REGISTRY, LOSS_REGISTRY):
            _check_keys(place, section, made, known=("type",))
        elif registry is METRIC_REGISTRY:
            _check_keys(place, section, made, known=("type", "better"), supplied=("img", "img2"))


def _check_keys(
    place: str,
    section: Options,
    made: Callable[..., Any],
    known: Sequence[str],
    supplied: Sequence[str] = (),
) -> None:
    """Each key must be a parameter of what the section makes, and each parameter have a value.

    Args:
        place: Of the section.
        section: What stands there.
        made: A class or function.
        known: Keys that are none of its parameters.
        supplied: Parameters that the caller passes, not the section.
    """
    parameters = {
        name: p for name, p in inspect.signature(made).parameters.items() if name not in supplied
    }
    kinds = [p.kind for p in parameters.values()]
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    # BasicSR's and our metrics take whatever else they are given, and leave it out.
    swallows = made.__module__.startswith(("basicsr.metrics", "glsgn_plugins."))
    if inspect.Parameter.VAR_KEYWORD not in kinds or swallows:
        for key in section:
            if key not in named and key not in known:
                raise unknown_name(f"{place}.{key} ({section['type']})", key, named)
    for name, parameter in named.items():
        if name not in section:
            if parameter.default is parameter.empty:
                raise InputError(f"the options lack '{place}.{name}' ({section['type']})")
            continue
        value, default = section[name], parameter.default
        expected = {bool: "true or false", int: "a number", float: "a number"}.get(type(default))
        if isinstance(value, str) and expected:
            raise wrong_type(f"{place}.{name}", value, expected)
        if isinstance(value, bool) and type(default) in (int, float):
            raise wrong_type(f"{place}.{name}", value, "a number")


def _check_train(opt: Options, model: type[Any]) -> None:
    train = opt["train"]
    ours = issubclass(model, GLSGNModel)
    stock = model.__module__ in (SRModel.__module__, TiledSRModel.__module__)
    if ours or stock:
        keys = model.TRAIN_KEYS if ours else SR_TRAIN_KEYS
        for key in train:
            if key not in keys:
                raise unknown_name(f"train.{key} ({model.__name__})", key, keys)
        if not train.get("pixel_opt") and not train.get("perceptual_opt"):
            raise InputError("train: expected a loss, pixel_opt or perceptual_opt; found neither")
    if ours:
        amp_type(train.get("amp"))
        compiler(train.get("compile"), "train.compile")
    adversarial = issubclass(model, GLSGNGANModel)
    if adversarial and "network_d" not in opt:
        raise InputError(f"the options lack 'network_d', the discriminator of {model.__name__}")
    # A model of another package may make its own optimisers and schedules, from keys of its own.
    optimizers = {GLSGNModel.get_optimizer: _torch_optimizers(), BaseModel.get_optimizer: ["Adam"]}
    needed = []
    if model.get_optimizer in optimizers:
        needed += ["optim_g", "optim_d"] if adversarial else ["optim_g"]
    if model.setup_schedulers is BaseModel.setup_schedulers:
        needed.append("scheduler")
    for key in (*needed, *(("gan_opt",) if adversarial else ())):
        if train.get(key) is None:
            raise InputError(f"the options lack 'train.{key}'")
    if model.get_optimizer in optimizers:
        for key in ("optim_g", "optim_d"):
            if train.get(key) is not None:
                _check_optimizer(f"train.{key}", train[key], optimizers[model.get_optimizer])
    if "scheduler" in needed:
        _check_scheduler(train)


def _check_logger(logger: Options) -> None:
    if (logger.get("wandb") or {}).get("project") is None:
        return
    if not logger["use_tb_logger"]:
        raise InputError("logger.wandb.project: needs use_tb_logger: true, which it copies")
    if importlib.util.find_spec("wandb") is None:
        raise InputError("logger.wandb.project: wandb is not installed; pip install wandb, or ~")


def _torch_optimizers() -> list[str]:
    made = {name: getattr(torch.optim, name) for name in dir(torch.optim) if name[0].isupper()}
    return [name for name, c in made.items() if inspect.isclass(c) and name != "Optimizer"]


def _check_optimizer(place: str, section: Options, known: list[str]) -> None:
    if "type" not in section:
        raise InputError(f"the options lack '{place}.type'; known: {', '.join(known)}")
    if section["type"] not in known:
        raise unknown_name(f"{place}.type", section["type"], known)
    rate = section.get("lr")
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate < 0:
        raise wrong_type(f"{place}.lr", rate, "a number from 0 up")
    made = getattr(torch.optim, section["type"])
    _check_keys(place, section, made, known=("type",), supplied=("params",))
    options = {key: value for key, value in section.items() if key != "type"}
    try:
        made([torch.nn.Parameter(torch.zeros(1))], **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{place}: {section['type']} can't be made of {options} ({error})"
        ) from None


def _check_scheduler(train: Options) -> None:
    scheduler = train["scheduler"]
    place = "train.scheduler"
    if "type" not in scheduler:
        raise InputError(f"the options lack '{place}.type'; known: {', '.join(SCHEDULERS)}")
    if scheduler["type"] not in SCHEDULERS:
        raise unknown_name(f"{place}.type", scheduler["type"], SCHEDULERS)
    cosine = scheduler["type"].startswith("Cosine")
    validate(Cosine if cosine else MultiStep, scheduler, f"{place}.")
    steps = scheduler["periods"] if cosine else scheduler.get("restarts") or [0]
    key = "periods" if cosine else "restarts"
    weights = scheduler.get("restart_weights") or [1]
    if len(weights) != len(steps):
        raise InputError(
            f"{place}.restart_weights: {len(weights)} of them for {len(steps)} {key}; expected one "
            "for each"
        )
    if cosine and sum(steps) < train["total_iter"]:
        raise InputError(
            f"{place}.periods: their sum, {sum(steps)}, is less than train.total_iter, "
            f"{train['total_iter']}; the schedule would run out in mid-training"
        )


def _check_restoring(val: Options, model: type, net: GLSGN | None) -> None:
    asked = {f"val.{key}": val.get(key) for key in ("tile", "tile_overlap", "strength")}
    asked["network_g.long_side"] = getattr(net, "long_side", None)
    keys = [key for key, value in asked.items() if value is not None]
    if keys and not issubclass(model, TiledSRModel):
        raise InputError(
            f"{keys[0]}: {model.__name__} restores whole images alone; use model_type: "
            "TiledSRModel, which trains as SRModel does"
        )
    try:
        check_tile(val.get("tile", "auto"))
    except InputError as error:
        raise InputError(f"val.{error}") from None
    check_strength(val.get("strength", 1), "val.strength")
    if val.get("tile") == "stream" and net is None:
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


def _check_dataset(phase: str, dataset: Options, train: bool, ours: bool) -> list[str] | None:
    """The dataset's inputs, where its type is known."""
    place = f"datasets.{phase}"
    paired = dataset["type"] == "PairedImageDataset"
    if paired:
        validate(PairedTrain if train else PairedTest, dataset, f"{place}.")
    else:
        validate(TrainLoader if train else Loader, dataset, f"{place}.")
    _check_loader(place, dataset, train)
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
            built = made({**dataset, "phase": "train" if train else "test"})
            check_files(place, built)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        return input_paths(built)
    backend = (dataset.get("io_backend") or {}).get("type")
    if paired and backend == "disk":
        return [str(lq) for lq, _ in check_pairs(place, dataset, crop=size, rgb8=ours)]
    if paired and backend == "lmdb":
        return check_lmdb(place, dataset)
    return None


def _check_loader(place: str, dataset: Options, train: bool) -> None:
    if dataset.get("persistent_workers") and not (train and dataset["num_worker_per_gpu"]):
        raise InputError(
            f"{place}.persistent_workers: there are no workers to persist; raise "
            "num_worker_per_gpu, or leave it out"
        )
    if dataset.get("prefetch_mode") == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"{place}.prefetch_mode: cuda needs a GPU; use cpu or ~")
        if not dataset.get("pin_memory"):
            raise InputError(f"{place}.prefetch_mode: cuda needs pin_memory: true")
    if (dataset.get("mean") is None) != (dataset.get("std") is None):
        raise InputError(f"{place}: mean and std go together; set both or none")


def _check_batches(opt: Options, images: int) -> None:
    """Fewer samples than a batch train nothing. Under a launcher the ranks' share shows later."""
    dataset = opt["datasets"]["train"]
    gpus = torch.cuda.device_count() if opt["num_gpu"] == "auto" else opt["num_gpu"]
    launched = int(os.environ.get("WORLD_SIZE", 1))
    batch = dataset["batch_size_per_gpu"] * (max(1, gpus) if launched == 1 else 1)
    samples = math.ceil(images * dataset.get("dataset_enlarge_ratio", 1) / launched)
    if samples < batch:
        raise too_few("datasets.train", images, samples, batch)


def _check_truth(phase: str, dataset: Options, metrics: Options) -> None:
    if dataset["type"] != "SingleImageDataset":
        return
    for name, how in metrics.items():
        metric = _registered(METRIC_REGISTRY, how["type"])
        if "img2" in inspect.signature(metric).parameters:
            raise InputError(
                f"val.metrics.{name}: {how['type']} compares with truths, of which datasets."
                f"{phase} ({dataset['type']}) has none; use PairedImageDataset, or leave it out"
            )


__all__ = ["check_options", "read_options"]
