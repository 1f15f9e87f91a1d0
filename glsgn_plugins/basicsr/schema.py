"""The keys and values of BasicSR's option files: what they are, before anything is touched.

BasicSR reads an option when it comes to it, some after hours, and fails with a traceback or takes
text for a number. The models below have every key that BasicSR 1.4.2 and this package read. What
the names in a file stand for, and which files it needs, is checked by
:mod:`glsgn_plugins.basicsr.options`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from glsgn_plugins.errors import unknown_name, wrong_type
from glsgn_plugins.schema import (
    Natural,
    Number,
    Open,
    Options,
    Positive,
    Section,
    Typed,
    Whole,
    check_numbers,
    validate,
)


def _folder_name(value: str) -> str:
    if not value.strip() or value in (".", "..") or "/" in value or "\0" in value:
        raise ValueError("the name of a folder, without '/'")
    if len(value.encode()) > 180:
        raise ValueError("a name of 180 bytes at most, which becomes that of files, too")
    return value


Name = Annotated[str, AfterValidator(_folder_name)]


class Loss(Typed):
    """A loss; what it needs beside these, its class says."""

    loss_weight: Number = 1.0
    reduction: Literal["mean", "sum"] = "mean"


class Backend(Open):
    """``io_backend``."""

    type: Literal["disk", "lmdb", "memcached"]


class Loader(Open):
    """What BasicSR's loader reads of a dataset's section, and what datasets have in common."""

    name: str
    type: str
    phase: str | None = None
    scale: Positive | None = None
    io_backend: Backend | None = None
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    num_prefetch_queue: Positive = 1
    gt_size: Positive | None = None
    use_hflip: bool | None = None
    use_rot: bool | None = None
    mean: list[Number] | None = None
    std: list[Number] | None = None


class TrainLoader(Loader):
    """The same of ``datasets: train``."""

    batch_size_per_gpu: Positive
    num_worker_per_gpu: Natural
    dataset_enlarge_ratio: Annotated[float, Field(gt=0)] = 1


class Paired(Section):
    """BasicSR's ``PairedImageDataset``, beside what its loader reads."""

    dataroot_lq: str
    dataroot_gt: str
    meta_info_file: str | None = None
    filename_tmpl: str = "{}"
    color: Literal["y"] | None = None
    use_shuffle: bool | None = None  # in BasicSR's own files, read by nothing
    batch_size_per_gpu: Any = None
    num_worker_per_gpu: Any = None
    dataset_enlarge_ratio: Any = None


class PairedTest(Paired, Loader):
    """Of validation and test."""

    model_config = Section.model_config
    io_backend: Backend


class PairedTrain(Paired, TrainLoader):
    """Of training."""

    model_config = Section.model_config
    io_backend: Backend
    batch_size_per_gpu: Positive
    num_worker_per_gpu: Natural
    dataset_enlarge_ratio: Annotated[float, Field(gt=0)] = 1
    gt_size: Positive
    use_hflip: bool
    use_rot: bool


class MultiStep(Section):
    """``MultiStepLR`` and ``MultiStepRestartLR``."""

    type: str
    milestones: list[Whole]
    gamma: Number = 0.1
    restarts: list[Whole] | None = None
    restart_weights: list[Number] | None = None


class Cosine(Section):
    """``CosineAnnealingRestartLR``."""

    type: str
    periods: Annotated[list[Positive], Field(min_length=1)]
    restart_weights: list[Number] | None = None
    eta_min: Number = 0


class Train(Open):
    """``train``; which keys there are depends on ``model_type``."""

    total_iter: Positive
    warmup_iter: Whole = -1
    ema_decay: Annotated[float, Field(ge=0, le=1)] = 0
    optim_g: Options | None = None
    optim_d: Options | None = None
    scheduler: Options | None = None
    grad_clip: Annotated[float, Field(gt=0)] | None = None
    compile: bool | str | None = None
    gan_global_weight: Annotated[float, Field(ge=0)] = 0
    pixel_opt: Loss | None = None
    pathway_opt: Loss | None = None
    perceptual_opt: Loss | None = None
    gan_opt: Loss | None = None


class Metric(Typed):
    """One of ``val: metrics``."""

    better: Literal["higher", "lower"] = "higher"
    crop_border: Natural = 0
    test_y_channel: bool = False


class Val(Section):
    """``val``, of training and of tests."""

    save_img: bool
    val_freq: Positive | None = None
    suffix: str | None = None
    pbar: bool = False
    metrics: dict[str, Metric] | None = None
    tile: Any = "auto"
    tile_overlap: Any = None
    strength: Any = 1.0


class ValInTraining(Val):
    """Of training, where it says how often."""

    val_freq: Positive


class Wandb(Section):
    """``logger: wandb``."""

    project: str | None = None
    resume_id: str | None = None


class Logger(Section):
    """``logger``."""

    print_freq: Positive
    save_checkpoint_freq: Positive
    use_tb_logger: bool
    wandb: Wandb | None = None


class Everything(Section):
    """A file of options."""

    name: Name
    model_type: str
    scale: Positive
    num_gpu: Natural | Literal["auto"]
    manual_seed: Annotated[int, Field(ge=0, lt=2**32 - 2**16)] | None = None
    datasets: dict[str, Options]
    network_g: Typed
    network_d: Typed | None = None
    path: dict[str, Any]
    val: Val | None = None
    logger: Logger | None = None
    train: Options | None = None
    dist_params: Options | None = None
    find_unused_parameters: bool = False


class Training(Everything):
    """Of ``basicsr train``."""

    train: Train  # type: ignore[assignment]
    logger: Logger
    val: ValInTraining | None = None


class Testing(Everything):
    """Of ``basicsr test``."""

    val: Val


class _OpenVal(Val):
    model_config = Open.model_config


class _OpenValInTraining(ValInTraining):
    model_config = Open.model_config


class TrainingOfOthers(Training):
    """Of a model that may read keys of its own."""

    model_config = Open.model_config
    val: _OpenValInTraining | None = None


class TestingOfOthers(Testing):
    """Likewise."""

    model_config = Open.model_config
    val: _OpenVal


PATHS = ("pretrain_network", "strict_load", "param_key")
"""Beginnings of keys of ``path``, one for each network."""


def check_keys(opt: Options, train: bool, known_model: bool) -> None:
    """Check every key and value of which BasicSR's or our own code decides what it is.

    Args:
        opt: The file's content.
        train: For ``basicsr train``, else for ``basicsr test``.
        known_model: The model reads no keys of its own beside those above.

    Raises:
        InputError: The first that is missing, too much, or something else than expected.
    """
    schema: type[BaseModel] = Training if train else Testing
    if not known_model:
        schema = TrainingOfOthers if train else TestingOfOthers
    validate(schema, opt, "")
    _check_path(opt["path"], [key.removeprefix("network") for key in opt if "network_" in key])
    check_numbers(opt)


def _check_path(path: Options, networks: list[str]) -> None:
    """BasicSR makes a folder of the value of every other key."""
    known = [f"{start}{network}" for start in PATHS for network in networks]
    known += ["resume_state", "ignore_resume_networks"]
    for key, value in path.items():
        if key not in known:
            raise unknown_name(f"path.{key}", key, known)
        if key.startswith("strict_load"):
            if not isinstance(value, bool):
                raise wrong_type(f"path.{key}", value, "true or false")
        elif key == "ignore_resume_networks":
            if not isinstance(value, (str, list, type(None))):
                raise wrong_type(f"path.{key}", value, "a list of networks")
        elif not isinstance(value, (str, type(None))):
            raise wrong_type(f"path.{key}", value, "text")
