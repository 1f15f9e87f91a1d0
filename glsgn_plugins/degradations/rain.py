"""Rain streaks in depth layers, and the veil of rain too far away to be seen as streaks.

Our own model. What it shares with others: a drop draws a line while the shutter
is open; near drops are fewer, longer, wider and out of focus. All lengths are relative to the
photograph's height.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.light import Image, Light, check_image, in_light
from glsgn_plugins.degradations.place import Place, TruthIsImage, warped
from glsgn_plugins.degradations.ranges import Range, RangedModel, draw, draw_count

FAR = 4.0
"""Distance of the farthest layer of streaks, where the nearest is 1."""
FWHM = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""
STREAK = 1.0645
"""Area under a Gaussian of a width of 1 at half its height."""
STEEPEST = 80
"""Degrees from upright that streaks may lean, either way; beyond that few cross a frame."""
STREAK_BOUNDS: dict[str, tuple[float, float]] = {
    "layers": (1, 50),
    "angle": (-STEEPEST, STEEPEST),
    "length": (0, 1),
    "width": (0, 0.1),
    "defocus": (0, 0.1),
}
"""What fields of either rain may be; sizes are shares of the height, and no pixels."""


@dataclass(frozen=True)
class RainLayer:
    """Streaks at one distance.

    Attributes:
        angle: Of the streaks against the vertical, in degrees; positive leans right on the way
            down.
        length: Of a streak: what the shutter's time makes of a drop; of the photograph's height.
        width: Of a streak at half its opacity, of the height.
        density: Streaks in a square of the photograph's height.
        opacity: How much of the background an average streak hides, 0 to 1.
        defocus: Standard deviation of the blur, of the height.
        seed: Of the streaks' positions and strengths.
    """

    angle: float
    length: float
    width: float
    density: float
    opacity: float
    defocus: float
    seed: int

    def mask(self, shape: tuple[int, int], place: Place) -> Light:
        """Opacity of the streaks at each pixel of a window.

        Args:
            shape: Rows and columns of the window.
            place: Where it lies in the photograph.

        Returns:
            Of ``shape``, from 0 up; its mean over a large area is :data:`STREAK` ``* density *
            length * width * opacity`` whatever the resolution.
        """
        height, width = place.height, place.width
        slope = float(np.tan(np.deg2rad(self.angle)))
        upright = float(np.cos(np.deg2rad(self.angle)))
        fall = self.length * height * upright
        across = self.width * height / FWHM / upright  # along a row
        sigma_x, sigma_y = float(np.hypot(across, self.defocus * height)), self.defocus * height

        # Streaks are upright on a canvas that is then sheared: there, blurring along them is a
        # running mean. Canvas column = column - slope * row, over the whole photograph.
        lean = slope * height
        first, last = -max(0.0, lean), width - min(0.0, lean)
        pad = self.length + 3 * (self.defocus + self.width)
        span_x, span_y = (last - first) / height + 2 * pad, 1 + 2 * pad
        rng = np.random.default_rng(self.seed)
        count = round(self.density * span_x * span_y)
        where = rng.random((count, 3))
        x = np.floor(where[:, 0] * (span_x * height) + first - pad * height).astype(np.int64)
        y = np.floor((where[:, 1] * span_y - pad) * height).astype(np.int64)
        energy = (0.5 + where[:, 2]) * (self.opacity * fall * across * np.sqrt(2 * np.pi))

        rows, cols = shape
        margin_y = int(fall / 2 + 3 * sigma_y) + 2
        margin_x = int(3 * sigma_x) + 2
        leans = (slope * place.top, slope * (place.top + rows))
        left = int(np.floor(place.left - max(leans))) - margin_x
        top = place.top - margin_y
        canvas = np.zeros(
            (rows + 2 * margin_y, int(np.ceil(place.left + cols - min(leans))) + margin_x - left),
            np.float32,
        )
        x -= left
        y -= top
        inside = (x >= 0) & (x < canvas.shape[1]) & (y >= 0) & (y < canvas.shape[0])
        np.add.at(canvas, (y[inside], x[inside]), energy[inside].astype(np.float32))

        # Two running means, so that a streak fades at its ends.
        for share in (0.75, 0.25):
            taps = max(1, round(share * fall))
            canvas = np.asarray(cv2.blur(canvas, (1, taps), borderType=cv2.BORDER_CONSTANT))
        canvas = blurred(canvas, sigma_x, sigma_y)
        # Output (x, y) shows the canvas at (x + place.left - left - slope * (y + place.top), ...).
        shear = [[1, -slope, place.left - left - slope * place.top], [0.0, 1.0, margin_y]]
        return warped(canvas, shear, (rows, cols))


def blurred(image: NDArray[np.float32], sigma_x: float, sigma_y: float) -> NDArray[np.float32]:
    """Blur that keeps the sum; nothing where a sigma is too small to reach the next pixel."""

    def taps(sigma: float) -> int:
        return 2 * int(3 * sigma + 0.5) + 1

    size = (taps(sigma_x), taps(sigma_y))
    if size == (1, 1):
        return image
    # OpenCV takes a sigma of 0 for "guess it from the size".
    blurred = cv2.GaussianBlur(
        image,
        size,
        sigmaX=max(sigma_x, 0.1),
        sigmaY=max(sigma_y, 0.1),
        borderType=cv2.BORDER_CONSTANT,
    )
    return np.asarray(blurred, np.float32)


@dataclass(frozen=True)
class RainParameters(TruthIsImage):
    """One rain, as :class:`Rain` draws it.

    I = (1 - m) J + m L for each layer's mask m, then (1 - veil) I + veil L; linear light.

    Attributes:
        layers: From far to near.
        veil: Share of the light that comes from rain too far away to be seen as streaks, 0 to 1.
        radiance: L, the light of drops and veil, 0 to 1.
    """

    layers: tuple[RainLayer, ...]
    veil: float
    radiance: float

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RainParameters:
        """The inverse of ``dataclasses.asdict``."""
        layers = tuple(RainLayer(**layer) for layer in record["layers"])
        return cls(**{**record, "layers": layers})

    @property
    def _streaks(self) -> list[RainLayer]:
        return [layer for layer in self.layers if layer.density * layer.opacity > 0]

    def clear(self, shape: tuple[int, int], place: Place) -> Light:
        """What is left of the background over a window, behind one layer after the other."""
        clear = np.full(shape, 1 - self.veil, np.float32)
        for layer in self._streaks:
            clear *= 1 - np.minimum(layer.mask(shape, place), 1)
        return clear

    def apply(self, image: Image, companion: Any = None, place: Place | None = None) -> Image:
        """The image in this rain.

        Args:
            image: ``(H, W, 3)``, RGB, uint8 or uint16.
            companion: Not used: rain needs none.
            place: Where the image lies in its photograph; by default it is the whole.

        Returns:
            In the shape and type of ``image``; without streaks and veil, its very values.

        Raises:
            InputError: It isn't such an image.
        """
        check_image(image)
        if not self._streaks and not self.veil:
            return image.copy()
        clear = self.clear((image.shape[0], image.shape[1]), place or Place.whole(image))

        def change(light: Light, rows: slice) -> Light:
            light -= self.radiance
            light *= clear[rows, :, None]
            light += self.radiance
            return light

        return in_light(image, change)


@dataclass(frozen=True)
class Rain(RangedModel):
    """Ranges from which a rain is drawn, uniformly; ``[low, high]`` each. Our choice.

    Attributes:
        layers: Number of depth layers.
        angle: Against the vertical, degrees; layers differ by up to 3 degrees.
        length: Of the nearest streaks, of the photograph's height. Others are shorter by distance.
        width: Of the nearest streaks, of the height; others are thinner by distance.
        density: Nearest streaks in a square of the height; others more by distance squared.
        opacity: Of a streak, 0 to 1.
        defocus: Blur of what is as near as the nearest layer, of the height.
        veil: Rain accumulation, 0 to 1.
        radiance: Light of drops and veil, 0 to 1.
    """

    layers: Range = (3, 5)
    angle: Range = (-25, 25)
    length: Range = (0.05, 0.12)
    width: Range = (0.0015, 0.004)
    density: Range = (20, 100)
    opacity: Range = (0.2, 0.5)
    defocus: Range = (0.0, 0.002)
    veil: Range = (0.0, 0.0)
    radiance: Range = (0.7, 1.0)

    COUNTS = frozenset({"layers"})
    FRACTIONS = frozenset({"opacity", "veil", "radiance"})
    BOUNDS: ClassVar = {**STREAK_BOUNDS, "density": (0, 20000)}

    def sample(self, rng: np.random.Generator) -> RainParameters:
        """Draw one rain."""
        count = draw_count(rng, self.layers)
        angle, length, width = (draw(rng, r) for r in (self.angle, self.length, self.width))
        density, opacity, defocus = (
            draw(rng, r) for r in (self.density, self.opacity, self.defocus)
        )
        focus = float(rng.uniform(1.5, FAR))
        layers = []
        for distance in np.geomspace(FAR, 1, count) if count > 1 else [1.0]:
            layers.append(
                RainLayer(
                    angle=angle + float(rng.uniform(-3, 3)),
                    length=length / float(distance),
                    width=width / float(distance),
                    density=density * float(distance) ** 2,
                    opacity=opacity,
                    defocus=defocus * abs(1 / float(distance) - 1 / focus) / (1 - 1 / FAR),
                    seed=int(rng.integers(2**31)),
                )
            )
        return RainParameters(tuple(layers), draw(rng, self.veil), draw(rng, self.radiance))
