"""Checking sections of options that name a ``type``, and the arguments that it is made with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
)

from glsgn_plugins.basicsr.option_files import Options
from glsgn_plugins.errors import InputError, lacks_type, unknown_name, wrong_type


def registered(registry: Any, name: str) -> Any:
    """As BasicSR looks names up, without what it prints."""
    found = dict(iter(registry))
    return found.get(name, found.get(f"{name}_basicsr"))


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


def check_types(opt: Options, train: bool) -> None:
    """Each ``type`` must be registered, and what stands beside it fit what it makes."""
    for place, section, registry in _typed_sections(opt, train):
        if not isinstance(section, dict) or not isinstance(section.get("type"), str):
            raise lacks_type(place, section)
        made = registered(registry, section["type"])
        if made is None:
            raise unknown_name(f"{place}.type", section["type"], registry.keys())
        # Datasets take their options as one dict.
        if registry in (ARCH_REGISTRY, LOSS_REGISTRY):
            check_arguments(place, section, made, known=("type",))
        elif registry is METRIC_REGISTRY:
            check_arguments(
                place, section, made, known=("type", "better"), supplied=("img", "img2")
            )


def check_arguments(
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
