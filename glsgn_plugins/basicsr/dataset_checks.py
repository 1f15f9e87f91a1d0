"""Checking the sections ``datasets`` of options, and by their headers the files of each."""

from __future__ import annotations

import inspect
import math
import os
from pathlib import Path

import torch
from basicsr.utils.registry import DATASET_REGISTRY, METRIC_REGISTRY

from glsgn_plugins.archs.glsgn import MIN_SIZE
from glsgn_plugins.basicsr.datasets import FromOptions
from glsgn_plugins.basicsr.image_checks import check_files, check_lmdb, check_pairs
from glsgn_plugins.basicsr.option_files import Options, check_exists
from glsgn_plugins.basicsr.output_images import input_paths
from glsgn_plugins.basicsr.schema import Loader, PairedTest, PairedTrain, TrainLoader
from glsgn_plugins.basicsr.section_types import registered
from glsgn_plugins.compat.basicsr_training import too_few
from glsgn_plugins.errors import InputError
from glsgn_plugins.schema import validate


def check_dataset(phase: str, dataset: Options, train: bool, ours: bool) -> list[str] | None:
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
            check_exists(f"{place}.{side}", dataset[side], Path.is_dir)
    if dataset.get("meta_info_file") is not None:
        check_exists(f"{place}.meta_info_file", dataset["meta_info_file"], Path.is_file)
    size = dataset.get("gt_size") if train else None
    if ours and size is not None and size < MIN_SIZE:
        raise InputError(f"{place}.gt_size: {size}, but GLSGN needs {MIN_SIZE} or more")
    least = MIN_SIZE if ours and not train else 1  # crops have been looked at above
    made = registered(DATASET_REGISTRY, dataset["type"])
    if inspect.isclass(made) and issubclass(made, FromOptions):
        try:
            built = made({**dataset, "phase": "train" if train else "test"})
            as_bytes = train and bool(dataset.get("as_bytes"))
            check_files(place, built, least, f"{place}.as_bytes" if as_bytes else None)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        return input_paths(built)
    backend = (dataset.get("io_backend") or {}).get("type")
    if paired and backend == "disk":
        return [str(lq) for lq, _ in check_pairs(place, dataset, size, rgb8=ours, least=least)]
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


def check_batches(opt: Options, images: int) -> None:
    """Fewer samples than a batch train nothing. Under a launcher the ranks' share shows later."""
    dataset = opt["datasets"]["train"]
    gpus = torch.cuda.device_count() if opt["num_gpu"] == "auto" else opt["num_gpu"]
    launched = int(os.environ.get("WORLD_SIZE", 1))
    batch = dataset["batch_size_per_gpu"] * (max(1, gpus) if launched == 1 else 1)
    samples = math.ceil(images * dataset.get("dataset_enlarge_ratio", 1) / launched)
    if samples < batch:
        raise too_few("datasets.train", images, samples, batch)


def check_truth(phase: str, dataset: Options, metrics: Options) -> None:
    """Metrics that compare need a dataset with truths."""
    if dataset["type"] != "SingleImageDataset":
        return
    for name, how in metrics.items():
        metric = registered(METRIC_REGISTRY, how["type"])
        if "img2" in inspect.signature(metric).parameters:
            raise InputError(
                f"val.metrics.{name}: {how['type']} compares with truths, of which datasets."
                f"{phase} ({dataset['type']}) has none; use PairedImageDataset, or leave it out"
            )
