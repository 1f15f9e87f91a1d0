"""Patches for MMEngine: checkpoints, resuming, ranks, sampler and messages."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from glsgn_plugins.archs.glsgn import RECORD
from glsgn_plugins.compat.patch import Patch, is_ours
from glsgn_plugins.data.sampling import numbered
from glsgn_plugins.errors import InputError, NotSavedError, StoppedError, message_of
from glsgn_plugins.io.atomic import NO_SPACE, atomic_write_into
from glsgn_plugins.io.checkpoints import mmengine_globals, read_checkpoint
from glsgn_plugins.io.weights import (
    ANCHOR,
    is_safetensors,
    of_generator,
    read_safetensors,
    safetensors_metadata,
    states_of,
)


def _patch_mmengine_loading() -> None:
    import mmengine.runner.checkpoint as loading
    from mmengine.logging.history_buffer import HistoryBuffer

    def load_url(
        url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True
    ) -> Any:
        folder = Path(model_dir or Path(torch.hub.get_dir(), "checkpoints"))
        file = folder / Path(urlparse(url).path).name
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), progress=progress)
        return read_checkpoint(file, mmengine_globals(HistoryBuffer))

    loading.load_url = load_url

    # Onto the CPU wherever it is to go: models and optimisers copy what they load.
    @loading.CheckpointLoader.register_scheme(prefixes="", force=True)
    def load_from_local(filename: str, map_location: Any) -> Any:
        file = Path(filename).expanduser()
        if is_safetensors(file):
            weights, told = read_safetensors(file), safetensors_metadata(file)
            glsgn = states_of(weights, ANCHOR)
            record = {RECORD: told[RECORD]} if RECORD in told else {}
            return {"state_dict": of_generator(glsgn[0].weights) if glsgn else weights, **record}
        return read_checkpoint(file, mmengine_globals(HistoryBuffer))


def _patch_mmengine_saving() -> None:
    import mmengine.runner.runner as runner

    write = runner.save_checkpoint

    @functools.wraps(write)
    def save_checkpoint(
        checkpoint: dict[str, Any], filename: str, *args: Any, **kwargs: Any
    ) -> None:
        if "://" in filename:  # no file of ours
            return write(checkpoint, filename, *args, **kwargs)
        file = Path(filename)
        try:
            with atomic_write_into(file.parent) as scratch:
                write(checkpoint, str(scratch / file.name), *args, **kwargs)
        except OSError as error:
            whole = sorted(path.name for path in file.parent.glob("*.pth"))
            raise NotSavedError(
                f"{file}: can't be written ({error.strerror or error}); "
                + (f"{', '.join(whole[-3:])} are kept" if whole else "no earlier one is there yet")
                + ". Free some space, then --resume"
            ) from None

    runner.save_checkpoint = save_checkpoint


def _newest_whole_checkpoint(work_dir: str) -> str | None:
    """The newest of a run's checkpoints that can be read: the last one, or else those before it."""
    from mmengine.logging.history_buffer import HistoryBuffer

    pointer = Path(work_dir, "last_checkpoint")
    said = pointer.read_text().strip() if pointer.is_file() else ""
    pointed = Path(said) if said else None
    # It is an absolute path: of a folder that was moved or copied the files are where the pointer
    # is. CheckpointHook's out_dir and filename_tmpl put them elsewhere, under other names.
    folder, names = Path(work_dir), ["iter_*.pth", "epoch_*.pth"]
    if pointed is not None:
        names.append(re.sub(r"\d+", "*", pointed.name))
        if not (folder / pointed.name).is_file() and any(pointed.parent.glob(names[-1])):
            folder = pointed.parent
    files = list({path for name in names for path in folder.glob(name)})
    # By time and not by number: an earlier, longer run may have left its files here.
    last = pointed.name if pointed is not None else ""
    files.sort(key=lambda p: (p.name == last, p.stat().st_mtime), reverse=True)
    if pointed is not None and not files:
        raise InputError(
            f"{pointer}: names {pointed}, but neither that folder nor '{work_dir}' holds a "
            "checkpoint; put them back, or leave out --resume to start anew"
        )
    for file in files:
        try:
            read_checkpoint(file, mmengine_globals(HistoryBuffer))
        except InputError as error:
            print(f"Not resumed from {file.name}: {error}", file=sys.stderr, flush=True)
        else:
            return str(file)
    if files:
        raise InputError(
            f"{folder}: none of its {len(files)} checkpoints can be read; move the folder away, or "
            "leave out --resume to start anew"
        )
    return None


def _patch_mmengine_resume() -> None:
    import mmengine.runner.runner as runner

    runner.find_latest_checkpoint = _newest_whole_checkpoint


def _patch_mmengine_cpu_ranks() -> None:
    import mmengine.dist.utils as utils
    from mmengine.model import MMDistributedDataParallel

    wrap = MMDistributedDataParallel.__init__

    def init_dist(backend: str, init_backend: str = "torch", **kwargs: Any) -> None:
        torch.distributed.init_process_group(backend="gloo", **kwargs)

    @functools.wraps(wrap)
    def without_devices(self: Any, *args: Any, device_ids: Any = None, **kwargs: Any) -> None:
        wrap(self, *args, **kwargs)

    utils._init_dist_pytorch = init_dist
    MMDistributedDataParallel.__init__ = without_devices


def _is_run_by_mim() -> bool:
    """Whether this process is one of MMagic's own tools, not somebody's script or notebook."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    folders = Path(file).resolve().parts[:-1] if file else ()
    return "mmagic" in folders and "tools" in folders


def _patch_tracebacks() -> None:
    plain = sys.excepthook

    def one_line(kind: Any, error: BaseException, trace: Any) -> None:
        full = isinstance(error, OSError) and error.errno in NO_SPACE
        if full or isinstance(error, (InputError, StoppedError)):
            print(f"error: {message_of(error)}", file=sys.stderr, flush=True)
        else:
            plain(kind, error, trace)

    sys.excepthook = one_line


def _patch_mmengine_sampler() -> None:
    from mmengine.dataset import DefaultSampler, InfiniteSampler

    endless, by_epochs = InfiniteSampler.__iter__, DefaultSampler.__iter__

    @functools.wraps(endless)
    def numbered_indices(self: Any) -> Iterator[int]:
        if not is_ours(self.dataset):
            return endless(self)
        indices = numbered(endless(self), 0, self.rank, self.world_size)
        return islice(indices, getattr(self, "trained_on", 0), None)

    @functools.wraps(by_epochs)
    def numbered_in_epoch(self: Any) -> Iterator[int]:
        indices = by_epochs(self)
        if not is_ours(self.dataset):
            return indices
        return numbered(indices, self.epoch, self.rank, self.world_size)

    InfiniteSampler.__iter__ = numbered_indices
    DefaultSampler.__iter__ = numbered_in_epoch


class _Advanced:
    """An iterator that its owner believes to be at the beginning: it is ``steps`` on already."""

    def __init__(self, iterator: Iterator[Any], steps: int) -> None:
        self.iterator = iterator
        self.steps = steps

    def __next__(self) -> Any:
        if self.steps:
            self.steps -= 1
            return None
        return next(self.iterator)


def _patch_mmengine_advance() -> None:
    from mmengine.dataset import InfiniteSampler
    from mmengine.runner import loops

    plain = loops.IterBasedTrainLoop.run

    @functools.wraps(plain)
    def run(self: Any) -> Any:
        sampler = self.dataloader.sampler
        ours = is_ours(self.dataloader.dataset)
        if ours and self._iter > 0 and isinstance(sampler, InfiniteSampler):
            sampler.trained_on = self._iter * self.dataloader.batch_size
            fresh = loops._InfiniteDataloaderIterator(self.dataloader)
            self.dataloader_iterator = _Advanced(fresh, self._iter)
        return plain(self)

    loops.IterBasedTrainLoop.run = run


AFTER = (
    Patch(
        "safe loading in mmengine",
        symptom="'Weights only load failed' in mim test on a checkpoint that mim train wrote; with "
        "torch < 2.6 a weights file can run code",
        cause="mmengine pickles its HistoryBuffer and calls torch.load with torch's defaults",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_patch_mmengine_loading,
    ),
    Patch(
        "whole checkpoints in mmengine",
        symptom="a run killed or out of disk while saving leaves a checkpoint that can't be loaded",
        cause="save_checkpoint writes under the final name",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_patch_mmengine_saving,
    ),
    Patch(
        "resume in mmengine",
        symptom="--resume: a truncated newest checkpoint or an empty last_checkpoint ends the run",
        cause="find_latest_checkpoint takes what last_checkpoint names as it is",
        versions="mmengine <= 0.10.7",
        needed=lambda: True,
        apply=_patch_mmengine_resume,
    ),
    Patch(
        "ranks without a GPU in mmengine",
        symptom="--launcher pytorch without a GPU: 'Found no NVIDIA driver'",
        cause="the launcher and the model wrapper take it that each rank has a CUDA device",
        versions="mmengine <= 0.10.7, where torch sees no GPU",
        needed=lambda: torch.cuda.device_count() == 0,
        apply=_patch_mmengine_cpu_ranks,
    ),
    Patch(
        "one line for wrong input",
        symptom="what is wrong in a config stands at the end of a page of traceback",
        cause="mim's scripts catch no error",
        versions="mmagic <= 1.2.0, in mim's scripts, for the errors of glsgn_plugins",
        needed=_is_run_by_mim,
        apply=_patch_tracebacks,
    ),
    Patch(
        "sampler in mmengine",
        symptom="random crops and degradations change with the number of workers",
        cause="the samplers' indices don't tell the dataset for which time they are asked",
        versions="mmengine <= 0.10.7, for the datasets of glsgn_plugins",
        needed=lambda: True,
        apply=_patch_mmengine_sampler,
    ),
    Patch(
        "resume without decoding in mmengine",
        symptom="--resume late in a training on 4K images does nothing for hours",
        cause="IterBasedTrainLoop fetches every batch that was trained on, to throw it away",
        versions="mmengine <= 0.10.7, with InfiniteSampler, for the datasets of glsgn_plugins",
        needed=lambda: True,
        apply=_patch_mmengine_advance,
    ),
)
