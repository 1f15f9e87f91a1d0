"""Checking the sections ``train`` and ``logger`` of options."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel

from glsgn_plugins.basicsr.gan_model import GLSGNGANModel
from glsgn_plugins.basicsr.model import GLSGNModel, amp_type
from glsgn_plugins.basicsr.option_files import Options
from glsgn_plugins.basicsr.schema import Cosine, MultiStep
from glsgn_plugins.basicsr.section_types import check_arguments
from glsgn_plugins.basicsr.tiled_model import TiledSRModel
from glsgn_plugins.errors import InputError, is_number, unknown_name, wrong_type
from glsgn_plugins.schema import validate
from glsgn_plugins.training import compiler

SR_TRAIN_KEYS = GLSGNModel.TRAIN_KEYS - {"pathway_opt", "amp", "grad_clip", "compile"}
SCHEDULERS = ("MultiStepLR", "MultiStepRestartLR", "CosineAnnealingRestartLR")


def check_train(opt: Options, model: type[Any]) -> None:
    """``train`` as the model reads it: losses, optimisers and schedule."""
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
    if (ours or stock) and not adversarial and opt.get("network_d") is not None:
        raise InputError(
            f"network_d: {model.__name__} has no discriminator; use model_type: GLSGNGANModel, or "
            "leave it out"
        )
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


def check_logger(logger: Options) -> None:
    """``logger``: wandb must be there, and be fed, where it is asked for."""
    if (logger.get("wandb") or {}).get("project") is None:
        return
    if not logger["use_tb_logger"]:
        raise InputError("logger.wandb.project: needs use_tb_logger: true, which it copies")
    if importlib.util.find_spec("wandb") is None:
        raise InputError("logger.wandb.project: wandb is not installed; pip install wandb, or ~")


def _torch_optimizers() -> list[str]:
    made = {name: getattr(torch.optim, name) for name in dir(torch.optim) if name[0].isupper()}
    return [name for name, c in made.items() if inspect.isclass(c) and name not in NOT_HERE]


NOT_HERE = ("Optimizer", "LBFGS", "SparseAdam")
"""Of ``torch.optim``: what they all derive from; two that want a closure and sparse gradients."""


def _check_optimizer(place: str, section: Options, known: list[str]) -> None:
    if "type" not in section:
        raise InputError(f"the options lack '{place}.type'; known: {', '.join(known)}")
    if section["type"] not in known:
        raise unknown_name(f"{place}.type", section["type"], known)
    rate = section.get("lr")
    if not is_number(rate) or rate < 0:
        raise wrong_type(f"{place}.lr", rate, "a number from 0 up")
    made = getattr(torch.optim, section["type"])
    check_arguments(place, section, made, known=("type",), supplied=("params",))
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
