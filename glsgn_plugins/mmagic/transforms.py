"""Crops and degradations as transforms, for pipelines of MMagic's own datasets.

Images are ``(H, W, 3)`` of 8 bits, BGR, as ``LoadImageFromFile`` gives them by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmagic.registry import TRANSFORMS
from mmcv.transforms import BaseTransform

from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.datasets import CROP_KEYS
from glsgn_plugins.data.sampling import worker_seed
from glsgn_plugins.data.synthesis import list_photographs, make_degradation
from glsgn_plugins.degradations import Real
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.errors import InputError, unknown_name
from glsgn_plugins.io.images import read_image


def _generator() -> np.random.Generator:
    """From numpy's own state, which MMEngine seeds in every worker, alike in all epochs."""
    return np.random.default_rng([*np.random.randint(2**31, size=4), worker_seed()])


OPTIONS = [key for key in CROP_KEYS if key not in ("crops_per_image", "seed")]
"""Fields of ``Crops`` that mean something where each sample is a call of its own."""


@TRANSFORMS.register_module()
class UHDCrop(BaseTransform):
    """Crops, scene views, flips and turns of :class:`~glsgn_plugins.data.crops.Crops`.

    It cuts ``gt``, and ``img`` where it is there, alike, and leaves the crop's place in its
    photograph as ``place``, and a small picture of the whole of it as ``overview``.

    Args:
        options: ``gt_size``, ``scene_share``, ``resize``, ``use_hflip`` and ``use_rot``.

    Raises:
        InputError: There is no such option, or its value is not possible.
    """

    def __init__(self, **options: Any) -> None:
        for key in options:
            if key not in OPTIONS:
                raise unknown_name(f"UHDCrop: {key}", key, OPTIONS)
        self.crops = Crops(**options)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut the images of a sample."""
        rng = _generator()
        keys = [key for key in ("gt", "img") if key in results]
        height, width = results["gt"].shape[:2]
        results["overview"] = thumbnail(results["gt"])
        window = self.crops.window(height, width, Path(results["gt_path"]), rng)
        cut = self.crops.turn(tuple(window.cut(results[key]) for key in keys), rng)
        results.update(zip(keys, map(np.ascontiguousarray, cut)), place=window.place)
        return results


@TRANSFORMS.register_module()
class UHDDegradation(BaseTransform):
    """Makes ``img`` of ``gt``: rain, reflection or haze over a clean photograph.

    ``gt`` may change, too: it is what a network can know of the photograph.

    After ``UHDCrop`` (without flips, which belong after this), only the crop is degraded, as part
    of its photograph.

    Args:
        degradation: As of :class:`~glsgn_plugins.data.synthesis.Synthesis`; haze is of procedural
            depth.
        dataroot_reflection: Folder of the photographs to be reflected.

    Raises:
        InputError: A type, range or folder is missing or not possible.
    """

    def __init__(
        self, degradation: Mapping[str, Any], dataroot_reflection: str | None = None
    ) -> None:
        self.model = make_degradation(degradation)
        if (degradation["type"] == "reflection") != (dataroot_reflection is not None):
            raise InputError(
                "UHDDegradation: dataroot_reflection goes with the degradation 'reflection' alone"
            )
        self.reflected = list_photographs(Path(dataroot_reflection)) if dataroot_reflection else ()

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Degrade one image."""
        rng = _generator()
        companion = None
        if self.reflected:
            companion = read_image(self.reflected[rng.integers(len(self.reflected))])
        elif isinstance(self.model, Real) and "overview" in results:
            companion = np.ascontiguousarray(results["overview"][..., ::-1])
        gt = np.ascontiguousarray(results["gt"][..., ::-1])
        lq, gt = self.model.sample(rng).pair(gt, companion, results.get("place"))
        results.update(
            img=np.ascontiguousarray(lq[..., ::-1]), gt=np.ascontiguousarray(gt[..., ::-1])
        )
        return results
