"""The UHD datasets in BasicSR: from its options to :mod:`glsgn_plugins.data.datasets`.

A section takes the arguments of the dataset and the fields of
:class:`~glsgn_plugins.data.crops.Crops` as its keys.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from glsgn_plugins.data import datasets
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.errors import InputError, unknown_name

CROP_KEYS = [field.name for field in dataclasses.fields(Crops)]
LOADER_KEYS = (
    "name",
    "type",
    "phase",
    "scale",
    "batch_size_per_gpu",
    "num_worker_per_gpu",
    "dataset_enlarge_ratio",
    "prefetch_mode",
    "num_prefetch_queue",
    "pin_memory",
    "persistent_workers",
)
"""For BasicSR's loader, or added by BasicSR."""


class FromOptions:
    """Mixed into a dataset: builds it from BasicSR's options, and keeps them as BasicSR wants.

    Raises:
        InputError: A key doesn't exist or is missing; or as of the dataset.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        made = inspect.signature(super().__init__).parameters
        known = [*(name for name in made if name != "crops"), *CROP_KEYS]
        given = {key: value for key, value in opt.items() if key not in LOADER_KEYS}
        for key in given:
            if key not in known:
                raise unknown_name(f"{key} ({opt['type']})", key, known)
        for name, parameter in made.items():
            if parameter.default is parameter.empty and name not in given:
                raise InputError(f"{opt['type']} lacks '{name}'")
        if opt.get("scale", 1) != 1:
            raise InputError(f"scale: {opt['scale']}, but {opt['type']} has inputs of equal size")
        crops = {key: given.pop(key) for key in CROP_KEYS if key in given}
        if opt.get("phase") == "train" and crops.get("gt_size") is None:
            raise InputError(f"{opt['type']} lacks 'gt_size', the training crop in pixels")
        super().__init__(**given, crops=Crops(**crops))  # type: ignore[call-arg]  # the dataset
        self.opt = opt


@DATASET_REGISTRY.register()
class UHR4KDataset(FromOptions, datasets.UHR4KDataset):
    """:class:`glsgn_plugins.data.datasets.UHR4KDataset`."""


@DATASET_REGISTRY.register()
class UHDPairedDataset(FromOptions, datasets.UHDPairedDataset):
    """:class:`glsgn_plugins.data.datasets.UHDPairedDataset`."""


@DATASET_REGISTRY.register()
class UHDSynthesisDataset(FromOptions, datasets.UHDSynthesisDataset):
    """:class:`glsgn_plugins.data.datasets.UHDSynthesisDataset`."""
