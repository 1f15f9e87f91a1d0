"""Crops of photographs for training: parts at full size, and whole scenes scaled down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations import Place
from glsgn_plugins.errors import InputError, is_number, is_whole, wrong_type

Image = NDArray[Any]


class Window(NamedTuple):
    """A crop of ``size`` rows and columns, of a photograph brought to ``height`` x ``width``."""

    height: int
    width: int
    top: int
    left: int
    size: tuple[int, int]

    def cut(self, image: Image) -> Image:
        """What the window shows of the photograph, ``(*size, C)``; a view where nothing scales."""
        scales = (self.height / image.shape[0], self.width / image.shape[1])
        if max(scales) < 1 and max(self.size) < min(scales) * max(image.shape[:2]) / 2:
            # A small part of it: the rest needn't be scaled down. Within half a pixel of either.
            rows, cols = (
                _span(first, side, scale, have)
                for first, side, scale, have in zip(
                    (self.top, self.left), self.size, scales, image.shape
                )
            )
            to = self.size[::-1]
            return np.asarray(cv2.resize(image[rows, cols], to, interpolation=cv2.INTER_AREA))
        if image.shape[:2] != (self.height, self.width):
            to = (self.width, self.height)
            image = np.asarray(cv2.resize(image, to, interpolation=cv2.INTER_AREA))
        rows = slice(self.top, self.top + self.size[0])
        return image[rows, self.left : self.left + self.size[1]]

    @property
    def place(self) -> Place:
        """For degradations, which are relative to the photograph."""
        return Place(self.height, self.width, self.top, self.left)


def _span(first: int, side: int, scale: float, have: int) -> slice:
    """The rows or columns of a photograph that a part of it, scaled down, shows."""
    start = min(round(first / scale), have - 1)
    return slice(start, min(max(round((first + side) / scale), start + 1), have))


@dataclass(frozen=True)
class Crops:
    """How samples are cut out of photographs.

    Attributes:
        gt_size: Side of the square crops in pixels; ``None`` gives whole images, unturned, and the
            same ones every time.
        scene_share: Share of the crops, 0 to 1, that show the largest square of the photograph
            scaled down to ``gt_size`` instead of a part at full size, so that the global pathway
            sees whole scenes in training, too. (Our choice.)
        resize: Lowest and highest size to which photographs are scaled down before a part is cut
            out, above 0 to 1: one network is to know large photographs and small ones. Never so
            far that a crop wouldn't fit.
        use_hflip: Flip every other crop left to right.
        use_rot: Flip every other crop top to bottom, and exchange rows and columns of every other.
        crops_per_image: Crops from each image that is decoded. That many samples in a row of a
            batch come from one photograph, so a batch should hold several times as many; an epoch
            sees so many fewer photographs, each epoch others.
        seed: Of everything random.

    Raises:
        InputError: A value above is not possible, or does nothing without ``gt_size``.
    """

    gt_size: int | None = None
    scene_share: float = 0.0
    resize: tuple[float, float] = (1.0, 1.0)
    use_hflip: bool = False
    use_rot: bool = False
    crops_per_image: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("gt_size", "crops_per_image"):
            value = getattr(self, name)
            if value is not None and (not is_whole(value) or value < 1):
                raise InputError(f"{name}: expected a whole number from 1 up, got {value!r}")
        if not is_whole(self.seed) or self.seed < 0:
            raise InputError(f"seed: expected a whole number from 0 up, got {self.seed!r}")
        if not is_number(self.scene_share) or not 0 <= self.scene_share <= 1:
            raise InputError(f"scene_share: expected 0 to 1, got {self.scene_share!r}")
        if (
            not isinstance(self.resize, Sequence)
            or len(self.resize) != 2
            or not all(is_number(side) for side in self.resize)
            or not 0 < self.resize[0] <= self.resize[1] <= 1
        ):
            raise InputError(f"resize: expected [low, high], above 0 to 1, got {self.resize!r}")
        for name in ("use_hflip", "use_rot"):
            if not isinstance(getattr(self, name), bool):
                raise wrong_type(name, getattr(self, name), "true or false")
        if self.gt_size is None:
            idle = [
                field.name
                for field in fields(self)
                if field.name != "seed"
                and getattr(self, field.name) != field.default
                and (field.name != "resize" or tuple(self.resize) != (1, 1))
            ]
            if idle:
                raise InputError(
                    f"{idle[0]}: of crops alone; give gt_size, or leave out {', '.join(idle)}"
                )

    def window(self, height: int, width: int, path: Path, rng: np.random.Generator) -> Window:
        """Draw a crop of a photograph.

        Raises:
            InputError: The photograph, named by ``path``, is smaller than the crop.
        """
        size = self.gt_size
        if size is None:
            return Window(height, width, 0, 0, (height, width))
        if min(height, width) < size:
            raise InputError(
                f"{path}: {width}x{height} pixels, smaller than gt_size, {size}; lower gt_size or "
                "remove the image"
            )
        if rng.random() < self.scene_share:
            scale = size / min(height, width)
            height, width = max(size, round(height * scale)), max(size, round(width * scale))
        elif self.resize[0] < 1:
            # Evenly over ratios: as many between a third and a half as between a half and 3/4.
            low, high = (max(bound, size / min(height, width)) for bound in self.resize)
            scale = float(low * (high / low) ** rng.random())
            height, width = max(size, round(height * scale)), max(size, round(width * scale))
        top, left = (int(rng.integers(side - size + 1)) for side in (height, width))
        return Window(height, width, top, left, (size, size))

    def turns(self, rng: np.random.Generator) -> tuple[bool, bool, bool]:
        """Draw whether a crop is flipped left to right, then top to bottom, then transposed."""
        across, down, turned = rng.random(3) < 0.5
        if self.gt_size is None:
            return False, False, False
        return (
            bool(self.use_hflip and across),
            bool(self.use_rot and down),
            bool(self.use_rot and turned),
        )

    def turn(self, images: tuple[Image, ...], rng: np.random.Generator) -> tuple[Image, ...]:
        """Flip and turn images alike, as drawn."""
        across, down, turned = self.turns(rng)
        if across:
            images = tuple(image[:, ::-1] for image in images)
        if down:
            images = tuple(image[::-1] for image in images)
        if turned:
            images = tuple(image.transpose(1, 0, 2) for image in images)
        return images


def center_crop(image: Image, size: tuple[int, int]) -> Image:
    """The middle ``size`` rows and columns of an image, or as many as it has."""
    top, left = (max(0, (have - want) // 2) for have, want in zip(image.shape, size))
    return image[top : top + size[0], left : left + size[1]]
