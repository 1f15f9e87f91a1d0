"""Checking option files before anything is started.

BasicSR finds a wrong name or folder one by one, after it has moved the last experiment aside, and
with a traceback; some (a cosine schedule that is too short) only after hours. Here each is one line
that names the key, what was found, and what exists.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from glsgn_plugins.archs.glsgn import GLSGN, SIDES
from glsgn_plugins.basicsr.dataset_checks import check_batches, check_dataset, check_truth
from glsgn_plugins.basicsr.model import GLSGNModel
from glsgn_plugins.basicsr.option_files import Options, check_exists, read_options
from glsgn_plugins.basicsr.schema import check_keys
from glsgn_plugins.basicsr.section_types import check_types, registered
from glsgn_plugins.basicsr.tiled_model import TiledSRModel
from glsgn_plugins.basicsr.train_checks import check_logger, check_train
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.inference import check_overlap, check_strength, check_tile
from glsgn_plugins.io.files import equal_names
from glsgn_plugins.io.pretrained import is_shipped, weights_file
from glsgn_plugins.io.weights import check_fits, read_weights
from glsgn_plugins.schema import check_names

KNOWN_MODELS = (
    "basicsr.models.sr_model",
    "basicsr.models.srgan_model",
    "basicsr.models.esrgan_model",
    "glsgn_plugins.basicsr.",
)
"""Modules whose models read no keys at the top of a file but BasicSR's common ones."""


LOWER_IS_BETTER = ("calculate_seam", "calculate_lpips")
"""Metrics of this package that are an error rather than a score."""


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
    model = registered(MODEL_REGISTRY, kind) if isinstance(kind, str) else None
    if isinstance(kind, str) and model is None:
        raise unknown_name("model_type", kind, MODEL_REGISTRY.keys())
    known = model is not None and model.__module__.startswith(KNOWN_MODELS)
    check_keys(opt, train, known)
    assert model is not None  # a type that isn't text is an error by now
    _check_gpus(opt["num_gpu"])
    _check_phases(opt["datasets"], train)
    check_types(opt, train)
    if train:
        check_train(opt, model)
        check_logger(opt["logger"])
    for key, value in opt["path"].items():
        if value is not None and ("pretrain_network" in key or "resume_state" in key):
            _check_weights(f"path.{key}", value)
    network = registered(ARCH_REGISTRY, opt["network_g"]["type"])
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
    if known:
        _check_restoring(val, model, net)
    if train:
        _check_best(val)
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
        # As BasicSR's parse_options, which comes later.
        scaled = {"scale": opt["scale"], **dataset}
        paths = check_dataset(phase, scaled, training, ours)
        if training and paths is not None:
            check_batches(opt, len(paths))
        if not training and val.get("metrics"):
            check_truth(phase, dataset, val["metrics"])
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
    named: dict[str, str] = {}
    for phase in (p for p in datasets if not (train and p == "train")):
        name = datasets[phase].get("name")
        if not isinstance(name, str):
            continue  # which is said later
        if name in named:
            raise InputError(
                f"datasets.{phase}.name: '{name}' is the name of datasets.{named[name]}, too; "
                "their scores and pictures would be taken for one set's"
            )
        named[name] = phase


def _check_restoring(val: Options, model: type, net: GLSGN | None) -> None:
    asked = {f"val.{key}": val.get(key) for key in ("tile", "tile_overlap", "strength")}
    asked |= {f"network_g.{key}": getattr(net, key, None) for key in SIDES}
    keys = [key for key, value in asked.items() if value is not None]
    if keys and not issubclass(model, TiledSRModel):
        raise InputError(
            f"{keys[0]}: {model.__name__} restores whole images alone; use model_type: "
            "TiledSRModel, which trains as SRModel does"
        )
    try:
        tile = val.get("tile", "auto")
        check_tile(tile)
        check_overlap(val.get("tile_overlap"), tile, "tile_overlap")
    except InputError as error:
        raise InputError(f"val.{error}") from None
    check_strength(val.get("strength", 1), "val.strength")
    if val.get("tile") == "stream" and net is None:
        raise InputError("val.tile: stream works with GLSGN alone; use auto, whole or pixels")


def _check_best(val: Options) -> None:
    """BasicSR takes the highest score for the best, where nothing else is said."""
    for name, how in (val.get("metrics") or {}).items():
        if how["type"] in LOWER_IS_BETTER and how.get("better") != "lower":
            raise InputError(
                f"val.metrics.{name}: of {how['type']} the lowest is the best; add better: lower"
            )


def _check_weights(place: str, value: str) -> None:
    if not is_shipped(value):
        check_exists(place, value, Path.is_file)
        return
    try:
        weights_file(value)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


__all__ = ["check_options", "read_options"]
