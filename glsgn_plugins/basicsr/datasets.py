"""The UHD datasets in BasicSR: from its options to :mod:`glsgn_plugins.data.datasets`.

A section takes the arguments of the dataset and the fields of
:class:`~glsgn_plugins.data.crops.Crops` as its keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from basicsr.utils.registry import DATASET_REGISTRY

from glsgn_plugins.data import datasets
from glsgn_plugins.errors import InputError, wrong_type

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


OWN_KEYS = ("as_bytes", "degrade_on_device")
"""What a section says beside the arguments of the core's dataset and its crops."""


class FromOptions:
    """Mixed into a dataset: builds it from BasicSR's options, and keeps them as BasicSR wants.

    With ``as_bytes: true`` samples stay uint8, for models that convert them on the device. With
    ``degrade_on_device: true`` beside it these degrade them there, too.

    Raises:
        InputError: A key doesn't exist or is missing; or as of the dataset.
    """

    degrade_on_device: Callable[[], None]

    def __init__(self, opt: dict[str, Any]) -> None:
        options = {key: value for key, value in opt.items() if key not in LOADER_KEYS}
        own = {key: options.pop(key, False) for key in OWN_KEYS}
        for key, value in own.items():
            if not isinstance(value, bool):
                raise wrong_type(key, value, "true or false")
        if opt.get("phase") == "train" and options.get("gt_size") is None:
            raise InputError(f"{opt['type']} lacks 'gt_size', the training crop in pixels")
        if opt.get("phase", "train") != "train":
            datasets.check_whole({**options, **own})
        made = datasets.arguments(super().__init__, options, opt["type"], OWN_KEYS)
        if opt.get("scale", 1) != 1:
            raise InputError(f"scale: {opt['scale']}, but {opt['type']} has inputs of equal size")
        super().__init__(**made)
        self.opt = opt
        self.as_bytes = own["as_bytes"]
        if own["degrade_on_device"]:
            self.degrade_on_device()


@DATASET_REGISTRY.register()
class UHR4KDataset(FromOptions, datasets.UHR4KDataset):
    """:class:`glsgn_plugins.data.datasets.UHR4KDataset`."""


@DATASET_REGISTRY.register()
class UHDPairedDataset(FromOptions, datasets.UHDPairedDataset):
    """:class:`glsgn_plugins.data.datasets.UHDPairedDataset`."""


@DATASET_REGISTRY.register()
class UHDSynthesisDataset(FromOptions, datasets.UHDSynthesisDataset):
    """:class:`glsgn_plugins.data.datasets.UHDSynthesisDataset`."""


@DATASET_REGISTRY.register()
class UHDMixedDataset(FromOptions, datasets.UHDMixedDataset):
    """:class:`glsgn_plugins.data.datasets.UHDMixedDataset`."""
