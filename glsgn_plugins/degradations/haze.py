"""Haze by atmospheric scattering: I = J t + A (1 - t), t = exp(-beta d), in linear light.

The model is Koschmieder's, which public haze sets use (RESIDE, Haze4K, UHD-Haze); that it is
applied to light rather than to sRGB values, and the procedural depth, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.depth import given_depth, ground, over_window
from glsgn_plugins.degradations.light import Image, Light, check_image, in_light
from glsgn_plugins.degradations.place import Place, TruthIsImage, smooth_field
from glsgn_plugins.degradations.ranges import Range, RangedModel, draw
from glsgn_plugins.errors import InputError


@dataclass(frozen=True)
class HazeParameters(TruthIsImage):
    """One haze, as :class:`Haze` draws it.

    Attributes:
        beta: Scattering over the depth's whole range, from 0 up.
        airlight: A, the haze's own light in red, green and blue, 0 to 1.
        depth: ``"given"`` (a map comes with each image) or ``"procedural"``: farther towards the
            horizon, with fractal shapes before it.
        horizon: Of the procedural depth: its row, of the photograph's height.
        relief: Share of the shapes in the procedural depth, 0 to 1.
        seed: Of the shapes.
    """

    beta: float
    airlight: tuple[float, float, float]
    depth: str
    horizon: float
    relief: float
    seed: int

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> HazeParameters:
        """The inverse of ``dataclasses.asdict``, after JSON has made a list of the tuple."""
        return cls(**{**record, "airlight": tuple(record["airlight"])})

    def distance(
        self, companion: NDArray[Any] | None, shape: tuple[int, int], place: Place
    ) -> NDArray[np.float32]:
        """d over a window of the photograph.

        Args:
            companion: The whole photograph's depth map, ``(H', W')`` of any size, float in [0, 1]
                or whole numbers over their type's range, larger is farther; where the depth is
                ``"given"``.
            shape: Rows and columns of the window.
            place: Where it lies.

        Returns:
            Of ``shape``, in [0, 1].

        Raises:
            InputError: A map is needed and missing, or has another shape or range.
        """
        if self.depth == "procedural":
            rows = (place.top + np.arange(shape[0], dtype=np.float32) + 0.5) / place.height
            relief = smooth_field(self.seed, shape, place)
            flat = ground(rows, self.horizon)[:, None]
            return np.asarray((1 - self.relief) * flat + self.relief * relief)
        if companion is None:
            raise InputError("this haze needs a depth map of the photograph")
        return np.asarray(over_window(given_depth(companion), shape, place), np.float32)

    def clear(
        self, companion: NDArray[Any] | None, shape: tuple[int, int], place: Place
    ) -> NDArray[np.float32]:
        """t over a window of the photograph; arguments as of :meth:`distance`."""
        return np.asarray(np.exp(-self.beta * self.distance(companion, shape, place)), np.float32)

    def apply(
        self, image: Image, companion: NDArray[Any] | None = None, place: Place | None = None
    ) -> Image:
        """The image in this haze.

        Args:
            image: ``(H, W, 3)``, RGB, uint8 or uint16.
            companion: The depth map, as of :meth:`distance`; none for procedural depth.
            place: Where the image lies in its photograph; by default it is the whole.

        Returns:
            In the shape and type of ``image``; at beta 0, its very values.

        Raises:
            InputError: It isn't such an image, or the depth map doesn't do.
        """
        check_image(image)
        if not self.beta:
            return image.copy()
        place = place or Place.whole(image)
        clear = self.clear(companion, (image.shape[0], image.shape[1]), place)
        airlight = np.asarray(self.airlight, np.float32)

        def change(light: Light, rows: slice) -> Light:
            light -= airlight
            light *= clear[rows, :, None]
            light += airlight
            return light

        return in_light(image, change)


@dataclass(frozen=True)
class Haze(RangedModel):
    """Ranges from which a haze is drawn, uniformly; ``[low, high]`` each. Our choice.

    Attributes:
        beta: Scattering over the depth's whole range, from 0 up.
        airlight: The haze's own light, 0 to 1.
        tint: How far red, green and blue of it differ, 0 to 1.
        horizon: Row of the horizon of the procedural depth, of the height, 0 to 1.
        relief: Share of fractal shapes in the procedural depth, 0 to 1.
    """

    beta: Range = (0.4, 2.0)
    airlight: Range = (0.4, 0.9)
    tint: Range = (0.0, 0.05)
    horizon: Range = (0.2, 0.6)
    relief: Range = (0.2, 0.6)

    FRACTIONS = frozenset({"airlight", "tint", "horizon", "relief"})

    def sample(self, rng: np.random.Generator) -> HazeParameters:
        """Draw one haze, over procedural depth."""
        light, tint = draw(rng, self.airlight), draw(rng, self.tint)
        red, green, blue = np.clip(light + tint * rng.uniform(-0.5, 0.5, 3), 0, 1)
        return HazeParameters(
            beta=draw(rng, self.beta),
            airlight=(float(red), float(green), float(blue)),
            depth="procedural",
            horizon=draw(rng, self.horizon),
            relief=draw(rng, self.relief),
            seed=int(rng.integers(2**31)),
        )
