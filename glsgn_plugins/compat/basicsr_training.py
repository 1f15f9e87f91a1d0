"""Patches for BasicSR's training: its length, schedules, scores, and starts that fail."""

from __future__ import annotations

import errno
import functools
import json
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from glsgn_plugins.compat.patch import Patch, is_ours
from glsgn_plugins.compat.schedules import (
    BY_VERSION,
    begin_schedule,
    changed_entries,
    keep_implementation,
    settings_of,
)
from glsgn_plugins.errors import EXPONENT, InputError
from glsgn_plugins.io.atomic import atomic_write

SCORES = "validations.jsonl"
"""In an experiment's folder: every validation's scores, a line each."""


def _patch_length() -> None:
    import basicsr.train
    from basicsr.models.base_model import BaseModel

    make_loaders, validate = basicsr.train.create_train_val_dataloader, BaseModel.validation

    @functools.wraps(make_loaders)
    def create_train_val_dataloader(opt: dict[str, Any], logger: Any) -> tuple[Any, ...]:
        if not torch.cuda.is_available():  # torch would warn in each epoch
            opt["datasets"]["train"]["pin_memory"] = False
        loader, sampler, val_loaders, _, total = make_loaders(opt, logger)
        batches = len(loader)
        if not batches:
            raise too_few("datasets.train", len(loader.dataset), len(sampler), loader.batch_size)
        start = opt.get("resumed") or {"epoch": 0, "iter": 0}
        done = 0
        if is_ours(loader.dataset):
            start["epoch"], done = _place_in_data(start["epoch"], start["iter"], batches)
            # For EnlargedSampler.__iter__, see the patch "sampler".
            sampler.resumed = (start["epoch"], done * loader.batch_size)
        left = max(0, total - start["iter"])
        if not left:
            logger.warning(
                f"Trained for {start['iter']} iterations already: with total_iter {total} there is "
                "nothing to do"
            )
        # BasicSR goes through one epoch more than it is told.
        epochs = start["epoch"] + math.ceil((done + left) / batches) - 1
        logger.info(
            f"{batches} whole batches in an epoch; trained up to iteration {total}, in epoch "
            f"{max(epochs, 0)}"
        )
        return loader, sampler, val_loaders, epochs, total

    @functools.wraps(validate)
    def validation(
        self: Any, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool = False
    ) -> None:
        if self.is_train:  # the counter goes on to where it finds that enough is done
            done = (self.opt.get("resumed") or {}).get("iter", 0)
            current_iter = min(current_iter, max(int(self.opt["train"]["total_iter"]), done))
        validate(self, dataloader, current_iter, tb_logger, save_img)

    basicsr.train.create_train_val_dataloader = create_train_val_dataloader
    BaseModel.validation = validation


def _place_in_data(epoch: int, iteration: int, batches: int) -> tuple[int, int]:
    """The epoch to go on with, and its batches that were trained on already.

    Args:
        epoch: In which the state was saved.
        iteration: Likewise.
        batches: In an epoch; others than before where ranks or the batch have changed.
    """
    now, done = divmod(iteration, batches)
    # Epochs that are longer than before must not come again.
    return (now, done) if now >= epoch else (epoch + 1, 0)


def too_few(place: str, images: int, samples: int, batch: int) -> InputError:
    """What to say of a training set that doesn't fill one batch.

    Args:
        place: Of its options.
        images: In the set.
        samples: Of an epoch, on each rank.
        batch: Samples of a batch.
    """
    return InputError(
        f"{place}: {images} images give {samples} samples in an epoch, fewer than a batch of "
        f"{batch}: nothing would be trained. Lower batch_size_per_gpu, or set "
        f"dataset_enlarge_ratio to {math.ceil(batch / max(1, images))} or more"
    )


# --- schedules that were changed before resuming -------------------------------------------------

PROGRESS = frozenset(
    ("lr", "last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_initial_step")
)
"""What the states of schedulers and optimisers say of how far it is."""


def _patch_schedules() -> None:
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import get_root_logger

    plain = BaseModel.resume_training

    @functools.wraps(plain)
    def resume_training(self: Any, resume_state: dict[str, Any]) -> None:
        _check_state(self, resume_state)
        if self.opt.get("resumed"):  # the loader knows which epoch goes on
            resume_state["epoch"] = self.opt["resumed"]["epoch"]
        groups = [[settings_of(group) for group in o.param_groups] for o in self.optimizers]
        schedulers = [s for s in self.schedulers if hasattr(s, "last_epoch")]
        asked = [dict(s.state_dict()) for s in schedulers]
        saved = [dict(state) for state in resume_state["schedulers"] if "last_epoch" in state]
        for optimizer, state in zip(self.optimizers, resume_state["optimizers"]):
            keep_implementation(optimizer, state)
        try:
            plain(self, resume_state)
        except ValueError as error:  # of an optimiser, for groups of another size
            raise InputError(
                f"the training state of iteration {resume_state['iter']} is of another network "
                f"({error}); resume with the options that it was trained by, or start anew"
            ) from None
        changed = {
            key
            for schedule, before in zip(asked, saved)
            for key in changed_entries(schedule, before, PROGRESS)
        } | {
            key
            for optimizer, before in zip(self.optimizers, groups)
            for settings, group in zip(before, optimizer.param_groups)
            for key in changed_entries(settings, group, PROGRESS)
        }
        if not changed:
            return
        steps = [scheduler.last_epoch for scheduler in schedulers]
        for optimizer, before in zip(self.optimizers, groups):
            for settings, group in zip(before, optimizer.param_groups):
                group.update(settings)
        with warnings.catch_warnings():
            # A scheduler warns where its optimiser has made no step: these steps are past.
            warnings.simplefilter("ignore")
            for scheduler, schedule, count in zip(schedulers, asked, steps):
                begin_schedule(scheduler, schedule)
                for _ in range(count):
                    scheduler.step()
        rates = ", ".join(f"{rate:.3e}" for rate in self.get_current_learning_rate())
        get_root_logger().warning(
            f"The options of scheduler or optimiser are not those of iteration "
            f"{resume_state['iter']} ({', '.join(sorted(changed))}): resuming as they are now, at "
            f"a learning rate of {rates}"
        )

    BaseModel.resume_training = resume_training


def _check_state(model: Any, state: dict[str, Any]) -> None:
    """InputError for a training state of other optimisers or schedulers than the model has."""
    place = f"the training state of iteration {state['iter']}"
    for key, what in (("optimizers", model.optimizers), ("schedulers", model.schedulers)):
        if len(state[key]) != len(what):
            raise InputError(
                f"{place} has {len(state[key])} {key}, and the options make {len(what)}; resume "
                "with the model_type that it was trained by, or start anew"
            )
    for optimizer, saved in zip(model.optimizers, state["optimizers"]):
        made = type(optimizer).__name__
        for group, before in zip(optimizer.param_groups, saved["param_groups"]):
            lacking = sorted(group.keys() - before.keys() - BY_VERSION)
            if lacking:
                raise InputError(
                    f"{place} is of another optimiser than {made}: it has no {', '.join(lacking)}; "
                    "resume with the type that it was trained by, or start anew"
                )
    for scheduler, saved in zip(model.schedulers, state["schedulers"]):
        if hasattr(scheduler, "last_epoch") and "last_epoch" not in saved:
            raise InputError(f"{place} holds no state of {type(scheduler).__name__}; start anew")


# --- best scores ---------------------------------------------------------------------------------


def _patch_best() -> None:
    from basicsr.models.base_model import BaseModel

    initialize, update = (
        BaseModel._initialize_best_metric_results,
        BaseModel._update_best_metric_result,
    )

    @functools.wraps(initialize)
    def _initialize_best_metric_results(self: Any, dataset_name: str) -> None:
        known = dataset_name in getattr(self, "best_metric_results", {})
        initialize(self, dataset_name)
        if known or not self.is_train or not self.opt.get("resumed"):
            return
        for line in _earlier_scores(self.opt):
            if line["dataset"] == dataset_name and line["metric"] in self.opt["val"]["metrics"]:
                update(self, dataset_name, line["metric"], line["value"], line["iter"])

    @functools.wraps(update)
    def _update_best_metric_result(
        self: Any, dataset_name: str, metric: str, val: float, current_iter: Any
    ) -> None:
        update(self, dataset_name, metric, val, current_iter)
        if self.is_train and self.opt["rank"] == 0:
            line = {"iter": current_iter, "dataset": dataset_name, "metric": metric}
            with Path(self.opt["path"]["experiments_root"], SCORES).open("a") as file:
                file.write(json.dumps({**line, "value": float(val)}) + "\n")

    BaseModel._initialize_best_metric_results = _initialize_best_metric_results
    BaseModel._update_best_metric_result = _update_best_metric_result


def _earlier_scores(opt: dict[str, Any]) -> list[dict[str, Any]]:
    """Those up to the state that training goes on from; later ones are struck off the file."""
    own = Path(opt["path"]["experiments_root"], SCORES)
    file = Path(opt["path"]["resume_state"]).parent.parent / SCORES
    try:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        past = [line for line in lines if line["iter"] <= opt["resumed"]["iter"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # none were kept, or the file was cut short: the next ones are the best then
    if opt["rank"] == 0 and (len(past) < len(lines) or not own.is_file()):
        atomic_write(own, "".join(json.dumps(line) + "\n" for line in past).encode())
    return past


# --- values of --force_yml -----------------------------------------------------------------------


def _patch_forced_values() -> None:
    import basicsr.utils.options as options

    options._postprocess_yml_value = forced_value


def forced_value(text: str) -> Any:
    """What a value after ``--force_yml`` is: as in a file, and a number where it has an exponent.

    Raises:
        YAMLError: It is no YAML.
    """
    import yaml  # of BasicSR's requirements

    if text.startswith("!!float"):
        return float(text.removeprefix("!!float"))
    if text.lower() == "none":
        return None
    return _numbers(yaml.safe_load(text))


def _numbers(value: Any) -> Any:
    """YAML 1.1 takes 1e-4 for text, which nobody means on a command line."""
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    if isinstance(value, str) and EXPONENT.fullmatch(value):
        return float(value)
    return value


# --- starts that fail ----------------------------------------------------------------------------


def _patch_archived_names() -> None:
    import basicsr.train
    import basicsr.utils.misc as misc

    move = misc.mkdir_and_rename

    @functools.wraps(move)
    def mkdir_and_rename(path: str) -> None:
        try:
            move(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            time.sleep(1)  # the name is of this second
            move(path)

    misc.mkdir_and_rename = mkdir_and_rename
    basicsr.train.mkdir_and_rename = mkdir_and_rename


def _patch_starts() -> None:
    import basicsr.test
    import basicsr.train
    import basicsr.utils.misc as misc

    move = misc.mkdir_and_rename
    made: list[tuple[Path, Path | None]] = []
    started = [False]

    @functools.wraps(move)
    def mkdir_and_rename(path: str) -> None:
        parent = Path(path).parent
        before = set(parent.iterdir()) if parent.is_dir() else set()
        move(path)
        new = [p for p in parent.iterdir() if p not in before and p != Path(path)]
        made.append((Path(path), new[0] if new else None))

    @contextmanager
    def back_unless_started() -> Iterator[None]:
        made.clear()
        started[0] = False
        try:
            yield
        except BaseException:
            if not started[0]:
                for path, archived in made:
                    _put_back(path, archived)
            raise

    def noted(pipeline: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(pipeline)
        def run(root_path: str) -> None:
            with back_unless_started():
                pipeline(root_path)

        return run

    def watched(build: Callable[..., Any], method: str) -> Callable[..., Any]:
        @functools.wraps(build)
        def build_model(opt: dict[str, Any]) -> Any:
            model = build(opt)
            work = getattr(model, method)

            @functools.wraps(work)
            def worked(*args: Any, **kwargs: Any) -> Any:
                result = work(*args, **kwargs)
                started[0] = True
                return result

            setattr(model, method, worked)
            return model

        return build_model

    misc.mkdir_and_rename = mkdir_and_rename
    basicsr.train.mkdir_and_rename = mkdir_and_rename
    for module, name, method in (
        (basicsr.train, "train_pipeline", "optimize_parameters"),
        (basicsr.test, "test_pipeline", "test"),
    ):
        setattr(module, name, noted(getattr(module, name)))
        module.build_model = watched(module.build_model, method)


BEGINNING = re.compile(r".*\.(log|yml)|events\.out\..*")
"""Names of files that BasicSR writes before anything is trained or tested."""


def _put_back(path: Path, archived: Path | None) -> None:
    """The folder of a start that failed goes, and the one that it displaced is there again.

    A model of another package may have written something all the same: that stays.
    """
    with suppress(OSError):
        if any(p.is_file() and not BEGINNING.fullmatch(p.name) for p in path.rglob("*")):
            return
        shutil.rmtree(path)
        if archived is not None:
            os.rename(archived, path)


AFTER = (
    Patch(
        "length of training",
        symptom="training ends before total_iter, with exit code 0; a set smaller than a batch "
        "trains nothing; the last validation is logged as of a later iteration",
        cause="epochs are counted with the last batch, which the loader drops, and the counter "
        "goes on after the last iteration",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_length,
    ),
    Patch(
        "changed schedules",
        symptom="--auto_resume with a longer schedule is a TypeError in mid-training; other "
        "milestones or another learning rate are not regarded",
        cause="resume_training puts the state's schedule in place of the options'",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_schedules,
    ),
    Patch(
        "best scores",
        symptom="after --auto_resume the best score is that of the first validation",
        cause="the training state doesn't hold the best scores",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_best,
    ),
    Patch(
        "values of --force_yml",
        symptom="--force_yml with a negative number, no, off or 1e-4 sets text",
        cause="_postprocess_yml_value knows digits, true and false alone",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_forced_values,
    ),
    Patch(
        "names of archived folders",
        symptom="the third start of one name within a second is an OSError, Directory not empty",
        cause="mkdir_and_rename moves what was there to a name that tells the second alone",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_archived_names,
    ),
    Patch(
        "failed starts",
        symptom="after a start that failed, --auto_resume begins at iteration 0",
        cause="the last experiment is moved aside before anything is built",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_starts,
    ),
)
