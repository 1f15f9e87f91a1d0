"""Patches for MMEngine's Runner: what it loads, how it resumes, and what it never starts."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.compat.patch import Patch, is_ours
from glsgn_plugins.compat.schedules import (
    BY_VERSION,
    begin_schedule,
    changed_entries,
    keep_implementation,
    settings_of,
)
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.records import record_in, unlike
from glsgn_plugins.io.weights import Found, check_fits, of_generator, options_of, states_of

# --- weights that fit, or none -------------------------------------------------------------------


def _patch_fitting() -> None:
    import mmengine.runner as package
    import mmengine.runner.checkpoint as loading
    import mmengine.runner.runner as runner
    from mmengine.runner import Runner

    read, load, load_here = (
        loading._load_checkpoint,
        loading.load_checkpoint,
        Runner.load_checkpoint,
    )
    models: list[Any] = []

    @contextmanager
    def loaded_into(model: Any) -> Iterator[None]:
        models.append(getattr(model, "module", model))
        try:
            yield
        finally:
            models.pop()

    @functools.wraps(read)
    def _load_checkpoint(filename: str, *args: Any, **kwargs: Any) -> Any:
        checkpoint = read(filename, *args, **kwargs)
        return fitted(models[-1], checkpoint, filename) if models else checkpoint

    @functools.wraps(load)
    def load_checkpoint(model: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
        with loaded_into(model):
            return load(model, filename, *args, **kwargs)

    @functools.wraps(load_here)
    def load_into_runner(self: Any, *args: Any, **kwargs: Any) -> Any:
        with loaded_into(self.model):
            checkpoint = load_here(self, *args, **kwargs)
        self._saved_schedules = checkpoint.get("param_schedulers")
        optimizer = getattr(self.optim_wrapper, "optimizer", None)
        state = checkpoint.get("optimizer")
        # Where nothing is built yet, optim_wrapper is a config, whose keys are attributes.
        built = isinstance(optimizer, torch.optim.Optimizer)
        if built and isinstance(state, dict) and "param_groups" in state:
            keep_implementation(optimizer, state)
        return checkpoint

    loading._load_checkpoint = runner._load_checkpoint = _load_checkpoint
    loading.load_checkpoint = package.load_checkpoint = load_checkpoint
    Runner.load_checkpoint = load_into_runner


def fitted(model: Any, checkpoint: Any, source: str) -> Any:
    """A checkpoint whose ``state_dict`` fits the generator of a model of ours.

    Args:
        model: Any of MMagic's; one that is neither ours nor has a GLSGN is left to MMEngine.
        checkpoint: Of any trainer.
        source: For the message.

    Raises:
        InputError: The checkpoint holds no weights that fit.
    """
    generator = getattr(model, "generator", None)
    if generator is None or not (is_ours(model) or isinstance(generator, GLSGN)):
        return checkpoint
    wanted = generator.state_dict()
    record = record_in(checkpoint, source)
    held = checkpoint.get("state_dict") if isinstance(checkpoint, Mapping) else None
    if not wanted:
        return checkpoint
    if isinstance(held, Mapping) and _holds(held, of_generator(wanted)):
        _warn({key: held[f"generator.{key}"] for key in wanted}, record, generator, source)
        return checkpoint
    states = states_of(checkpoint, next(iter(wanted)))
    for state in states:
        if _holds(state.weights, wanted):
            noted = record_in(state.metadata, source) or record
            _warn(state.weights, noted, generator, source)
            return {**checkpoint, "state_dict": of_generator(state.weights)}
    kind = type(generator).__name__
    if not states:
        keys = list(held if isinstance(held, Mapping) else checkpoint)
        raise InputError(
            f"{source}: no weights of {kind}, which model.generator is; its keys begin with "
            f"{', '.join(map(str, keys[:3])) or 'nothing'}"
        )
    weights, place, _ = states[0]
    if isinstance(generator, GLSGN):
        check_fits(
            Found(weights, options_of(weights, source), place), wanted, source, "model.generator"
        )
    wrong = next(
        key for key in wanted if key not in weights or weights[key].shape != wanted[key].shape
    )
    found = tuple(weights[wrong].shape) if wrong in weights else "nothing"
    raise InputError(
        f"{source}: doesn't fit model.generator, {kind}: of {wrong} it has {found}, expected "
        f"{tuple(wanted[wrong].shape)}; give the options that it was trained with"
    )


def _warn(
    weights: Mapping[str, Any], record: dict[str, Any] | None, generator: Any, source: str
) -> None:
    from mmengine.logging import print_log

    if not isinstance(generator, GLSGN):
        return
    for line in unlike(weights, record, generator, source, "model.generator"):
        print_log(line, "current", logging.WARNING)


def _holds(state: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(key in state and state[key].shape == value.shape for key, value in wanted.items())


# --- starting and resuming -----------------------------------------------------------------------


def _patch_start() -> None:
    import mmengine.runner.runner as runner
    from mmengine.runner import Runner
    from mmengine.runner.checkpoint import CheckpointLoader

    plain = Runner.load_or_resume

    @functools.wraps(plain)
    def load_or_resume(self: Any) -> None:
        start = self._load_from
        if start is not None and self._resume and not self._has_loaded:
            resumable = "optimizer" in CheckpointLoader.load_checkpoint(start, map_location="cpu")
            if not resumable:
                found = runner.find_latest_checkpoint(self.work_dir)
                self._resume, self._load_from = found is not None, found or start
        plain(self)

    Runner.load_or_resume = load_or_resume


def _patch_length() -> None:
    from mmengine.dataset import InfiniteSampler
    from mmengine.runner import Runner

    plain = Runner.build_train_loop

    @functools.wraps(plain)
    def build_train_loop(self: Any, loop: Any) -> Any:
        made = plain(self, loop)
        loader = made.dataloader
        endless = isinstance(loader.sampler, InfiniteSampler)
        if not endless and hasattr(loader.sampler, "__len__") and len(loader) == 0:
            raise InputError(
                f"train_dataloader: {len(loader.dataset)} images are fewer than a batch of "
                f"{loader.batch_size}, and drop_last is set: nothing would be trained. Lower "
                "batch_size, leave drop_last out, or use sampler=dict(type='InfiniteSampler')"
            )
        return made

    Runner.build_train_loop = build_train_loop


config_checks: list[Callable[[Any], None]] = []
"""Called with each config before a Runner is built of it; ``glsgn_plugins.mmagic`` adds its own."""


def _patch_configs() -> None:
    from mmengine.runner import Runner

    plain = Runner.from_cfg.__func__

    @functools.wraps(plain)
    def from_cfg(cls: Any, cfg: Any) -> Any:
        for check in config_checks:
            check(cfg)
        return plain(cls, cfg)

    Runner.from_cfg = classmethod(from_cfg)


PROGRESS = frozenset(("last_step", "_global_step", "_last_value", "verbose"))
"""What the state of a scheduler of MMEngine's says of how far it is."""


def _patch_schedules() -> None:
    from mmengine.runner import Runner

    plain = Runner.resume

    @functools.wraps(plain)
    def resume(self: Any, filename: str, *args: Any, **kwargs: Any) -> None:
        optimizer = getattr(self.optim_wrapper, "optimizer", None)
        schedulers = self.param_schedulers
        if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(schedulers, dict):
            return plain(self, filename, *args, **kwargs)  # several networks
        schedulers = schedulers or []
        asked = [dict(scheduler.state_dict()) for scheduler in schedulers]
        groups = [settings_of(group) for group in optimizer.param_groups]
        try:
            plain(self, filename, *args, **kwargs)
        except ValueError as error:
            if "parameter group" not in str(error):
                raise
            raise InputError(f"{filename}: of another network ({error}); start anew") from None
        for settings, group in zip(groups, optimizer.param_groups):
            lacking = sorted(settings.keys() - group.keys() - BY_VERSION)
            if lacking:
                raise InputError(
                    f"{filename}: of another optimiser than {type(optimizer).__name__}, it has no "
                    f"{', '.join(lacking)}; resume with the type that it was trained by"
                )
        saved = self._saved_schedules or []
        changed = {
            key
            for before, now in zip([*groups, *asked], [*optimizer.param_groups, *saved])
            for key in changed_entries(before, now, PROGRESS | _scheduled(schedulers))
        }
        if len(saved) != len(asked):
            changed.add("param_scheduler")
        if changed:
            _replay(self, optimizer, groups, schedulers, asked)
            rates = ", ".join(f"{group['lr']:.3e}" for group in optimizer.param_groups[:3])
            self.logger.warning(
                "param_scheduler or optimizer is not that of the checkpoint "
                f"({', '.join(sorted(changed))}): resuming as the config says now, at a learning "
                f"rate of {rates}"
            )

    Runner.resume = resume


def _scheduled(schedulers: list[Any]) -> frozenset[str]:
    """Entries of an optimiser's groups that schedulers change as they go."""
    return frozenset(("lr", *(s.param_name for s in schedulers if hasattr(s, "param_name"))))


def _replay(
    runner: Any,
    optimizer: Any,
    groups: list[dict[str, Any]],
    schedulers: list[Any],
    asked: list[dict[str, Any]],
) -> None:
    """Bring schedulers as they were built to where training is."""
    for settings, group in zip(groups, optimizer.param_groups):
        group.update(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimiser has made no step: these are past
        for scheduler, schedule in zip(schedulers, asked):
            begin_schedule(scheduler, schedule)
        for by_epoch, count in ((False, runner.iter), (True, runner.epoch)):
            stepped = [
                s for s in schedulers if s.by_epoch == by_epoch and not hasattr(s, "monitor")
            ]
            for _ in range(count if stepped else 0):
                for scheduler in stepped:
                    scheduler.step()


AFTER = (
    Patch(
        "weights that don't fit in mmengine",
        symptom="mim test and load_from with BasicSR's checkpoint, a plain state dict, a prefix or "
        "other widths: scores of random weights, exit code 0",
        cause="checkpoints are loaded without strict",
        versions="mmengine <= 0.10.7, for models of glsgn_plugins and those with GLSGN",
        needed=lambda: True,
        apply=_patch_fitting,
    ),
    Patch(
        "fine-tuning in mmengine",
        symptom="with load_from = 'glsgn://rain', --resume begins anew from those weights",
        cause="load_or_resume takes load_from for what to resume, be it weights alone",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_patch_start,
    ),
    Patch(
        "configs of mmengine",
        symptom="a slip in a config is a KeyError or TypeError at the end of a page of traceback",
        cause="sections are built one by one, and nothing is checked before",
        versions="mmengine <= 0.10.7, where pydantic is installed",
        needed=lambda: True,
        apply=_patch_configs,
    ),
    Patch(
        "length of training in mmengine",
        symptom="a set smaller than a batch, with drop_last: nothing is trained, or StopIteration",
        cause="the length of the loader isn't looked at",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_patch_length,
    ),
    Patch(
        "changed schedules in mmengine",
        symptom="--resume with a longer schedule or another learning rate: the old one, frozen",
        cause="the checkpoint's schedules are put in place of the config's",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_patch_schedules,
    ),
)
