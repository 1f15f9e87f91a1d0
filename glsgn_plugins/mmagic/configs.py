"""Checking a config before MMEngine's Runner is built, which answers many a slip by a KeyError."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmagic import registry as mmagic
from mmengine import registry as engine
from torch.utils.data import DataLoader

from glsgn_plugins.archs.glsgn import GLSGN, SIDES
from glsgn_plugins.data.datasets import check_whole
from glsgn_plugins.errors import InputError, lacks_type, nearest, unknown_name, wrong_type
from glsgn_plugins.mmagic.datasets import OWN_KEYS, FromConfig
from glsgn_plugins.mmagic.preprocessor import DegradingPreprocessor
from glsgn_plugins.mmagic.tiled_model import TiledEditModel
from glsgn_plugins.schema import (
    Natural,
    Number,
    Open,
    Positive,
    check_numbers,
    validate,
)


class Loader(Open):
    """A dataloader."""

    dataset: dict[str, Any]
    batch_size: Positive = 1
    num_workers: Natural = 0
    persistent_workers: bool = False


class Loop(Open):
    """``train_cfg``."""

    type: str | None = None
    by_epoch: bool | None = None
    max_iters: Positive | None = None
    max_epochs: Positive | None = None
    val_interval: Positive = 1


class Optimizer(Open):
    """``optim_wrapper.optimizer``."""

    type: str
    lr: Number


class Wrapper(Open):
    """``optim_wrapper``."""

    type: str = "OptimWrapper"
    optimizer: Optimizer
    clip_grad: dict[str, Any] | None = None


CLIP_GRAD = ("type", "max_norm", "norm_type", "error_if_nonfinite", "foreach", "clip_value")
"""Keys of ``optim_wrapper.clip_grad``: of torch's two ways, by norm and by value."""


LOADER_KEYS = frozenset(
    (*inspect.signature(DataLoader).parameters, "batch_sampler", "num_batch_per_epoch", "_scope_")
)
"""Of a dataloader: torch's, and what MMEngine reads before."""

TOGETHER = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)
"""Sections of which each needs the others."""


def check_config(cfg: Mapping[str, Any]) -> None:
    """Check what can be known before anything is built.

    Args:
        cfg: With what the command line has set in it.

    Raises:
        InputError: The first thing that is wrong.
    """
    for key in ("model", "work_dir"):
        if cfg.get(key) is None:
            raise _lacks(cfg, key)
    for keys in TOGETHER:
        missing = [key for key in keys if cfg.get(key) is None]
        if missing and len(missing) < len(keys):
            there = ", ".join(key for key in keys if key not in missing)
            raise InputError(f"{_lacks(cfg, missing[0])}; {there} can't do without it")
    for key in (key for keys in TOGETHER for key in keys if key.endswith(("_cfg", "_wrapper"))):
        if not isinstance(cfg.get(key) or {}, Mapping):
            raise wrong_type(key, cfg[key], "a mapping of options")
    check_numbers(_plain(cfg))
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for place, loader in _each(cfg.get(key), key):
            _check_loader(place, loader)
    if cfg.get("train_cfg") is not None:
        _check_loop(_plain(cfg["train_cfg"]))
        wrapper = _plain(cfg["optim_wrapper"])
        # One for each network is made in its own way.
        if not any(isinstance(v, dict) and "optimizer" in v for v in wrapper.values()):
            validate(Wrapper, wrapper, "optim_wrapper.")
            for key in wrapper.get("clip_grad") or ():
                if key not in CLIP_GRAD:
                    raise unknown_name(f"optim_wrapper.clip_grad.{key}", key, CLIP_GRAD)
    for place, section, registry in _typed(cfg):
        _check_type(place, section, registry)
    for phase in ("train", "val", "test"):
        for place, loader in _each(cfg.get(f"{phase}_dataloader"), f"{phase}_dataloader"):
            _check_dataset(f"{place}.dataset", loader["dataset"], whole=phase != "train")
            _check_preprocessor(f"{place}.dataset", loader["dataset"], cfg["model"])
    _check_restoring(cfg["model"])


def _check_preprocessor(place: str, dataset: Any, model: Any) -> None:
    """Samples that come clean are degraded by one preprocessor alone."""
    if not isinstance(dataset, Mapping) or not dataset.get("degrade_on_device"):
        return
    found = model.get("data_preprocessor") if isinstance(model, Mapping) else None
    fits = isinstance(found, Mapping) and _derives(found, mmagic.MODELS, DegradingPreprocessor)
    if not fits:
        raise InputError(
            f"{place}.degrade_on_device: its samples are degraded by the preprocessor; set "
            "model.data_preprocessor.type='DegradingPreprocessor', or leave it out"
        )


def _check_restoring(model: Any) -> None:
    """Copies are what our models test by; MMagic's run the generator on whole images."""
    generator = model.get("generator") if isinstance(model, Mapping) else None
    if not isinstance(generator, Mapping) or generator.get("type") not in ("GLSGN", GLSGN):
        return
    asked = [key for key in SIDES if generator.get(key) is not None]
    if not asked:
        return
    if not _derives(model, mmagic.MODELS, TiledEditModel):
        raise InputError(
            f"model.generator.{asked[0]}: {model['type']} tests whole images alone; use "
            "type='TiledEditModel', which trains as BaseEditModel does"
        )


def _derives(section: Mapping[str, Any], registry: Any, base: type) -> bool:
    """Whether what a section is made by, a name or a class, is one of ours or derives from it."""
    kind = section["type"]
    made = registry.get(kind) if isinstance(kind, str) else kind
    return inspect.isclass(made) and issubclass(made, base)


def _check_dataset(place: str, dataset: Any, whole: bool) -> None:
    """One of ours, before MMEngine has made its folder; ``whole``: of validation or tests."""
    if not isinstance(dataset, Mapping) or not _derives(dataset, mmagic.DATASETS, FromConfig):
        return
    kind = dataset["type"]
    made = mmagic.DATASETS.get(kind) if isinstance(kind, str) else kind
    own = {key: value for key, value in dataset.items() if key not in (*OWN_KEYS, *BUILD_KEYS)}
    try:
        if whole:
            check_whole(dataset)
        made.arguments(_plain(own))
    except InputError as error:
        raise InputError(f"{place}.{error}") from None


BUILD_KEYS = ("type", "_scope_")
"""What the registry takes out of a section."""


def _check_loop(loop: dict[str, Any]) -> None:
    validate(Loop, loop, "train_cfg.")
    if "type" not in loop and "by_epoch" not in loop:
        raise InputError(
            "the config lacks 'train_cfg.type': IterBasedTrainLoop with max_iters, or "
            "EpochBasedTrainLoop with max_epochs"
        )
    by_epoch = loop.get("by_epoch", loop.get("type") == "EpochBasedTrainLoop")
    length = "max_epochs" if by_epoch else "max_iters"
    known = loop.get("type") in (None, "IterBasedTrainLoop", "EpochBasedTrainLoop")
    if known and loop.get(length) is None:
        raise InputError(f"the config lacks 'train_cfg.{length}'")


def _plain(section: Any) -> Any:
    """MMEngine's mappings as dicts."""
    if isinstance(section, Mapping):
        return {key: _plain(value) for key, value in section.items()}
    return [_plain(value) for value in section] if isinstance(section, (list, tuple)) else section


def _lacks(cfg: Mapping[str, Any], key: str) -> InputError:
    near = nearest(key, [name for name in cfg if name not in {k for t in TOGETHER for k in t}])
    return InputError(
        f"the config lacks '{key}'" + (f"; is '{near}' meant for it?" if near else "")
    )


def _each(section: Any, place: str) -> Iterator[tuple[str, Any]]:
    """A section, or each of a list of them, with its place."""
    if isinstance(section, (list, tuple)):
        for number, one in enumerate(section):
            yield f"{place}[{number}]", one
    elif section is not None:
        yield place, section


def _check_loader(place: str, loader: Any) -> None:
    if not isinstance(loader, Mapping):
        raise wrong_type(place, loader, "a mapping of options")
    validate(Loader, _plain(loader), f"{place}.")
    for key in loader:
        if key not in LOADER_KEYS:
            raise unknown_name(f"{place}.{key}", key, LOADER_KEYS)
    if "sampler" not in loader and "batch_sampler" not in loader:
        raise InputError(
            f"the config lacks '{place}.sampler', e.g. dict(type='InfiniteSampler') for training "
            "by iterations, or dict(type='DefaultSampler', shuffle=False)"
        )
    if loader.get("persistent_workers") and not loader.get("num_workers"):
        raise InputError(
            f"{place}.persistent_workers: there are no workers to persist; raise num_workers, or "
            "leave it out"
        )


def _typed(cfg: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Sections that are made by their ``type``: place, content, and the registry of that type."""
    model = cfg["model"]
    yield "model", model, mmagic.MODELS
    for key in ("generator", "pixel_loss", "pathway_loss", "data_preprocessor"):
        if isinstance(model, Mapping) and isinstance(model.get(key), Mapping):
            yield f"model.{key}", model[key], mmagic.MODELS
    for phase in ("train", "val", "test"):
        for place, loader in _each(cfg.get(f"{phase}_dataloader"), f"{phase}_dataloader"):
            dataset = loader["dataset"]
            yield f"{place}.dataset", dataset, mmagic.DATASETS
            for inner, step in _each(dataset.get("pipeline"), f"{place}.dataset.pipeline"):
                yield inner, step, mmagic.TRANSFORMS
            if "sampler" in loader:
                yield f"{place}.sampler", loader["sampler"], mmagic.DATA_SAMPLERS
        for place, evaluator in _each(cfg.get(f"{phase}_evaluator"), f"{phase}_evaluator"):
            metrics = evaluator.get("metrics") if isinstance(evaluator, Mapping) else None
            whole = isinstance(evaluator, Mapping) and evaluator.get("type") == "Evaluator"
            if whole and metrics is None:
                raise InputError(f"the config lacks '{place}.metrics'")
            found = evaluator if metrics is None else metrics
            for inner, metric in _each(found, place if metrics is None else f"{place}.metrics"):
                yield inner, metric, mmagic.METRICS
        if "type" in (cfg.get(f"{phase}_cfg") or {}):
            yield f"{phase}_cfg", cfg[f"{phase}_cfg"], mmagic.LOOPS
    wrapper = cfg.get("optim_wrapper") or {}
    optimizer = wrapper.get("optimizer")
    if optimizer is not None:
        # MMEngine takes these two out before it builds the wrapper.
        own = {k: v for k, v in wrapper.items() if k not in ("constructor", "paramwise_cfg")}
        yield "optim_wrapper", {"type": "OptimWrapper", **own}, engine.OPTIM_WRAPPERS
        yield "optim_wrapper.optimizer", optimizer, engine.OPTIMIZERS
    for place, scheduler in _each(cfg.get("param_scheduler"), "param_scheduler"):
        if isinstance(scheduler, Mapping) and "type" in scheduler:
            yield place, scheduler, engine.PARAM_SCHEDULERS
    for place, hook in _each(cfg.get("custom_hooks"), "custom_hooks"):
        yield place, hook, mmagic.HOOKS
    hooks = cfg.get("default_hooks") or {}
    for name, hook in hooks.items() if isinstance(hooks, Mapping) else ():
        if hook is not None:
            yield f"default_hooks.{name}", hook, mmagic.HOOKS
    if isinstance(cfg.get("log_processor"), Mapping):
        yield (
            "log_processor",
            {"type": "LogProcessor", **cfg["log_processor"]},
            engine.LOG_PROCESSORS,
        )


def _check_type(place: str, section: Any, registry: Any) -> None:
    if not isinstance(section, Mapping):
        if isinstance(section, (str, int, float, bool, list, tuple)):
            raise wrong_type(place, section, "a mapping of options")
        return  # built already
    kind = section.get("type")
    if kind is None:
        raise lacks_type(place, dict(section))
    if not isinstance(kind, str):
        return  # a class
    made = registry.get(kind.rpartition(".")[2]) or registry.get(kind)
    if made is None:
        raise unknown_name(f"{place}.type", kind, sorted(_names(registry)))
    if not inspect.isclass(made) or issubclass(made, FromConfig):  # which checks its keys itself
        return
    if made.__module__.split(".")[0] in CHECKED:
        _check_keys(place, section, made)


CHECKED = ("glsgn_plugins", "mmagic", "mmengine", "mmcv", "torch")
"""Packages whose classes hand what they don't know to the class that they inherit from."""


def _names(registry: Any) -> set[str]:
    names: set[str] = set()
    while registry is not None:
        names |= set(registry.module_dict)
        registry = registry.parent
    return names


def _check_keys(place: str, section: Mapping[str, Any], made: Any) -> None:
    """Each key must be a parameter of a class or of one that it inherits from."""
    known: dict[str, inspect.Parameter] = {}
    swallows = False
    for kind in made.__mro__:
        if "__init__" not in vars(kind):
            continue
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        swallows = any(p.kind is p.VAR_KEYWORD for p in parameters)
        for p in parameters:
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                known.setdefault(p.name, p)
        if not swallows or kind.__module__.startswith("torch."):
            break
    for key in section:
        if not swallows and key not in (*known, "type", "_scope_"):
            raise unknown_name(f"{place}.{key} ({section['type']})", key, known)
    for name, p in inspect.signature(made).parameters.items():
        named = p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        if named and p.default is p.empty and name not in GIVEN and name not in section:
            raise InputError(f"the config lacks '{place}.{name}' ({section['type']})")


GIVEN = ("params", "optimizer", "runner", "dataloader", "evaluator", "dataset")
"""Parameters that MMEngine has for what it builds."""
