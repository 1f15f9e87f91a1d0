"""Patches for BasicSR: its import, checkpoints, ranks and sampler."""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.compat.patch import Patch, is_ours
from glsgn_plugins.data.sampling import numbered
from glsgn_plugins.errors import InputError, NotSavedError
from glsgn_plugins.io.atomic import atomic_write_into
from glsgn_plugins.io.checkpoints import read_checkpoint
from glsgn_plugins.io.pretrained import weights_file
from glsgn_plugins.io.records import unlike
from glsgn_plugins.io.weights import is_safetensors, read_safetensors, record_of, states_of


def _lacks_functional_tensor() -> bool:
    name = "torchvision.transforms.functional_tensor"
    return name not in sys.modules and importlib.util.find_spec(name) is None


def _alias_functional_tensor() -> None:
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType("torchvision.transforms.functional_tensor")
    module.__dict__["rgb_to_grayscale"] = rgb_to_grayscale
    module.__spec__ = ModuleSpec(module.__name__, None)  # without one, find_spec raises
    sys.modules[module.__name__] = module


def saved_iterations(states: str | Path) -> list[int]:
    """Iterations whose training states are in a folder, in order; other names are passed over."""
    return sorted(int(path.stem) for path in Path(states).glob("*.state") if path.stem.isdigit())


def _newest_whole_state(opt: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The newest training state whose file and whose networks can be read."""
    folder = Path("experiments", opt["name"], "training_states")
    networks = _saved_networks(opt)
    iterations = saved_iterations(folder)
    for iteration in reversed(iterations):
        path = folder / f"{iteration}.state"
        try:
            state = _training_state(path)
            for label in networks:
                read_checkpoint(Path(opt["path"]["models"], f"{label}_{iteration}.pth"))
        except InputError as error:
            print(f"Not resumed from iteration {iteration}: {error}", file=sys.stderr, flush=True)
        else:
            return path, state
    if iterations:
        raise InputError(
            f"{folder}: none of its {len(iterations)} checkpoints can be read; move the folder "
            "away, or leave out --auto_resume to start anew"
        )
    return None


def _saved_networks(opt: dict[str, Any]) -> list[str]:
    """Names, in files, of the networks that training goes on with: ``net_g`` and so on.

    A frozen one, such as a teacher, may be saved by no iteration.
    """
    ignored = opt["path"].get("ignore_resume_networks") or ()
    models = Path(opt["path"]["models"])
    labels = [
        key.replace("network_", "net_")
        for key in opt
        if key.startswith("network_") and key not in ignored
    ]
    return [x for x in labels if x == "net_g" or any(models.glob(f"{x}_[0-9]*.pth"))]


def _training_state(path: Path) -> dict[str, Any]:
    """A file of ``training_states``; InputError where it is something else."""
    state = read_checkpoint(path)
    needed = {"epoch", "iter", "optimizers", "schedulers"}
    if not isinstance(state, dict) or not needed <= state.keys():
        raise InputError(f"{path}: no training state of BasicSR's; give training_states/N.state")
    return state


def _patch_resume() -> None:
    import basicsr.train
    from basicsr.utils import check_resume

    def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        found = _newest_whole_state(opt) if opt["auto_resume"] else None
        named = opt["path"].get("resume_state")
        if found is not None:
            path, state = found
            opt["path"]["resume_state"] = str(path)
        elif named:
            state = _training_state(Path(named))
            network = Path(opt["path"]["models"], f"net_g_{state['iter']}.pth")
            if not network.is_file():
                raise InputError(
                    f"path.resume_state: {named} goes with {network}, which isn't there: training "
                    "is resumed under the name that it had. Set that name, or start anew from its "
                    "weights by path.pretrain_network_g"
                )
        else:
            return None
        check_resume(opt, state["iter"])
        opt["resumed"] = {"epoch": state["epoch"], "iter": state["iter"]}
        return state

    basicsr.train.load_resume_state = load_resume_state


@contextmanager
def _into_scratch(model: Any, folder: str) -> Iterator[None]:
    """Points a model's writer at a scratch folder whose files are then moved in place."""
    final = model.opt["path"][folder]
    try:
        with atomic_write_into(final) as scratch:
            model.opt["path"][folder] = str(scratch)
            try:
                yield
            finally:
                model.opt["path"][folder] = final
    except OSError as error:
        iterations = saved_iterations(model.opt["path"]["training_states"])
        kept = f"that of iteration {iterations[-1]} is kept" if iterations else "none is there yet"
        raise NotSavedError(
            f"{final}: a checkpoint can't be written ({error.strerror or error}); the last whole "
            f"one, {kept}. Free some space, then --auto_resume"
        ) from None


def _patch_saving() -> None:
    from basicsr.models.base_model import BaseModel

    write_network, write_state = BaseModel.save_network, BaseModel.save_training_state

    # Both writers do nothing on ranks other than 0, and the second nothing for "latest" (-1).
    @functools.wraps(write_network)
    def save_network(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.opt["rank"] == 0:
            with _into_scratch(self, "models"):
                write_network(self, *args, **kwargs)

    @functools.wraps(write_state)
    def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
        if self.opt["rank"] == 0 and current_iter != -1:
            with _into_scratch(self, "training_states"):
                write_state(self, epoch, current_iter)

    BaseModel.save_network = save_network
    BaseModel.save_training_state = save_training_state


def _patch_loading() -> None:
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import get_root_logger

    def load_network(
        self: Any,
        net: torch.nn.Module,
        load_path: str,
        strict: bool = True,
        param_key: str | None = "params",
    ) -> None:
        file = weights_file(load_path)
        bare = self.get_bare_model(net)
        wanted = bare.state_dict()
        raw = param_key == "params" and not self.is_train and "param_key_g" not in _paths(self)
        weights, place, record = _state(file, wanted, param_key, prefer_averaged=raw)
        name = type(bare).__name__
        get_root_logger().info(f"Loading {name} model from {file}, with param key: [{place}].")
        self._print_different_keys_loading(bare, weights, strict)
        if not wanted.keys() & weights.keys():
            shown = ", ".join(list(weights)[:3]) or "nothing"
            raise InputError(f"{load_path}: no weights of {name}; its keys begin with {shown}")
        try:
            bare.load_state_dict(weights, strict=strict)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise InputError(
                f"{load_path}: doesn't fit {name} as the options build it: "
                f"{' '.join(lines[1:3])[:300]}"
            ) from None
        averaged = bare is getattr(self, "net_g_ema", None)
        if averaged and not strict:
            # What the file lacks starts at random: from the same numbers as in the network that it
            # is the average of.
            begun = self.get_bare_model(self.net_g).state_dict()
            rest = {key: begun[key] for key in begun.keys() - weights.keys()}
            bare.load_state_dict(rest, strict=False)
        # Once: the averaged network is built from the same options and the same file.
        if isinstance(bare, GLSGN) and not averaged:
            for line in unlike(weights, record, bare, load_path, "network_g"):
                get_root_logger().warning(line)

    BaseModel.load_network = load_network


def _paths(model: Any) -> dict[str, Any]:
    return model.opt.get("path") or {}


def _state(
    file: Path, wanted: Mapping[str, Any], param_key: str | None, prefer_averaged: bool
) -> tuple[dict[str, Any], str, dict[str, Any] | None]:
    """The weights in a file, where they were, and what it says of their network.

    Args:
        file: Of any trainer.
        wanted: The network's state dict.
        param_key: Which of the file's are asked for, in the form of BasicSR; ``None`` for the
            outermost.
        prefer_averaged: Take those where the file has any, since nobody asked for others.
    """
    if is_safetensors(file):  # holds one set, whatever param_key asks for
        content, param_key = read_safetensors(file), None
    else:
        content = read_checkpoint(file)
    record = record_of(file, content)
    keys = list(content) if isinstance(content, dict) else []
    if prefer_averaged and "params_ema" in keys:
        param_key = "params_ema"
    if param_key not in keys and "params" in keys:
        param_key = "params"
    state = content[param_key] if param_key in keys else content
    if isinstance(state, dict) and wanted.keys() <= state.keys():
        return dict(state), param_key or "the file", record
    anchor = next(iter(wanted), "")
    for found in states_of(state, anchor) or states_of(content, anchor):
        return found.weights, found.place, record
    if isinstance(state, dict) and state and (param_key in keys or param_key is None):
        return dict(state), param_key or "the file", record
    held = ", ".join(map(str, keys[:4])) or f"a {type(content).__name__}"
    raise InputError(
        f"{file}: has no '{param_key}'; it holds {held}. Set path: param_key_g to the one with the "
        "weights, or to ~ for a bare state dict"
    )


def _patch_cpu_ranks() -> None:
    import basicsr.utils.dist_util as dist_util
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    def init_dist(backend: str = "nccl", **kwargs: Any) -> None:
        torch.distributed.init_process_group(backend="gloo", **kwargs)

    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not self.opt["dist"]:
            return plain(self, net)
        unused = self.opt.get("find_unused_parameters", False)
        return DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    plain = BaseModel.model_to_device
    dist_util._init_dist_pytorch = init_dist
    BaseModel.model_to_device = model_to_device


def _patch_sampler() -> None:
    from basicsr.data.data_sampler import EnlargedSampler

    plain = EnlargedSampler.__iter__

    @functools.wraps(plain)
    def numbered_indices(self: Any) -> Iterator[int]:
        indices = plain(self)
        if not is_ours(self.dataset):
            return indices
        every = numbered(indices, self.epoch, self.rank, self.num_replicas)
        epoch, done = getattr(self, "resumed", (0, 0))
        return islice(every, done if self.epoch == epoch else 0, None)

    EnlargedSampler.__iter__ = numbered_indices


BEFORE = (
    Patch(
        "functional_tensor",
        symptom="No module named 'torchvision.transforms.functional_tensor' at import basicsr",
        cause="BasicSR 1.4.2 imports a module that torchvision 0.17 removed",
        versions="basicsr <= 1.4.2 with torchvision >= 0.17",
        needed=_lacks_functional_tensor,
        apply=_alias_functional_tensor,
    ),
)

AFTER = (
    Patch(
        "resume",
        symptom="--auto_resume: 'Found no NVIDIA driver' without a GPU; a truncated newest "
        "checkpoint ends the run",
        cause="load_resume_state asks for the current CUDA device and takes the newest file as is",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_resume,
    ),
    Patch(
        "whole checkpoints",
        symptom="a run killed or out of disk while saving leaves a checkpoint that can't be loaded",
        cause="save_network and save_training_state write under the final name, ignore failures",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_saving,
    ),
    Patch(
        "safe loading",
        symptom="a weights file can run code (torch < 2.6); a wrong one ends in a traceback; "
        "safetensors are taken for damaged, and what other trainers write is refused; basicsr "
        "test takes the raw weights where there are averaged ones",
        cause="load_network calls torch.load without weights_only, checks nothing, knows one form",
        versions="basicsr <= 1.4.2",
        needed=lambda: True,
        apply=_patch_loading,
    ),
    Patch(
        "ranks without a GPU",
        symptom="--launcher pytorch without a GPU: 'integer modulo by zero'",
        cause="the launcher and the model take it that each rank has a CUDA device",
        versions="basicsr <= 1.4.2, where torch sees no GPU",
        needed=lambda: torch.cuda.device_count() == 0,
        apply=_patch_cpu_ranks,
    ),
    Patch(
        "sampler",
        symptom="random crops and degradations repeat each epoch, and change with the workers; "
        "after --auto_resume the samples of the epoch come again",
        cause="worker_init_fn seeds every epoch alike; EnlargedSampler's indices don't tell the "
        "epoch, nor the repeats of dataset_enlarge_ratio, to the dataset, and begin anew",
        versions="basicsr <= 1.4.2, for the datasets of glsgn_plugins",
        needed=lambda: True,
        apply=_patch_sampler,
    ),
)
