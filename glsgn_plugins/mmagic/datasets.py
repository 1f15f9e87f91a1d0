"""The UHD datasets in MMagic: from a config to :mod:`glsgn_plugins.data.datasets`.

A config takes the arguments of the dataset and the fields of
:class:`~glsgn_plugins.data.crops.Crops`. There is no pipeline: crops, flips and degradations are
the dataset's own, which decodes an image once for several crops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmagic.registry import DATASETS
from mmagic.structures import DataSample
from mmengine.logging import print_log

from glsgn_plugins.data import datasets
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.io.files import equal_names

OWN_KEYS = ("metainfo", "as_bytes", "degrade_on_device")
"""What a config says beside the arguments of the core's dataset and its crops."""


class FromConfig:
    """Mixed into a dataset: builds it from a config, and gives samples in MMagic's form.

    Args:
        metainfo: Kept for MMEngine, which writes it into checkpoints.
        as_bytes: Samples stay uint8, which ``DataPreprocessor`` converts on the device.
        degrade_on_device: Samples are clean, and degraded by ``DegradingPreprocessor``.
        options: Of the dataset and of its crops.

    Raises:
        InputError: A key doesn't exist or is missing; or as of the dataset.
    """

    crops: Crops
    degrade_on_device: Callable[[], None]

    def __init__(
        self,
        metainfo: Mapping[str, Any] | None = None,
        as_bytes: bool = False,
        degrade_on_device: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**self.arguments(options))
        self.metainfo = dict(metainfo or {})
        self.as_bytes = as_bytes
        if degrade_on_device:
            self.degrade_on_device()
        same = equal_names([str(pair.gt) for pair in getattr(self, "pairs", ())])
        if same and self.crops.gt_size is None:
            print_log(
                f"{same[0]} and {same[1]} have one name: MMagic's visualizer writes their pictures "
                "over each other; scores are right",
                level=logging.WARNING,
            )

    @classmethod
    def arguments(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the core's dataset.

        Args:
            options: Of a config, without this class's own.

        Raises:
            InputError: A key doesn't exist or is missing, or a value of the crops is not possible.
        """
        init = super().__init__
        return datasets.arguments(init, options, cls.__name__, OWN_KEYS)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A batch: ``inputs``, ``(3, H, W)``, and ``gt_img`` in [0, 255], RGB, as they say."""
        return [_packed(sample) for sample in super().__getitems__(indices)]  # type: ignore[misc]


class PinnableSample(DataSample):
    """MMagic's sample whose truth goes to a GPU from pinned memory, too."""

    gt_img: torch.Tensor

    def pin_memory(self) -> PinnableSample:
        """Asked for by torch's loader, with ``pin_memory=True``."""
        if "gt_img" in self:
            self.gt_img = self.gt_img.pin_memory()
        return self


def _packed(sample: datasets.Sample) -> dict[str, Any]:
    about = {"img_path": sample["lq_path"], "gt_path": sample["gt_path"]}
    about |= {"img_channel_order": "RGB", "gt_channel_order": "RGB"}
    if "recipe" in sample:
        clean = PinnableSample(metainfo=about)
        return {"inputs": sample["gt"], "recipe": sample["recipe"], "data_samples": clean}
    lq, gt = (
        image if image.dtype == torch.uint8 else 255 * image
        for image in (sample["lq"], sample["gt"])
    )
    return {"inputs": lq, "data_samples": PinnableSample(gt_img=gt, metainfo=about)}


@DATASETS.register_module()
class UHR4KDataset(FromConfig, datasets.UHR4KDataset):
    """:class:`glsgn_plugins.data.datasets.UHR4KDataset`."""


@DATASETS.register_module()
class UHDPairedDataset(FromConfig, datasets.UHDPairedDataset):
    """:class:`glsgn_plugins.data.datasets.UHDPairedDataset`."""


@DATASETS.register_module()
class UHDSynthesisDataset(FromConfig, datasets.UHDSynthesisDataset):
    """:class:`glsgn_plugins.data.datasets.UHDSynthesisDataset`."""


@DATASETS.register_module()
class UHDMixedDataset(FromConfig, datasets.UHDMixedDataset):
    """:class:`glsgn_plugins.data.datasets.UHDMixedDataset`."""
