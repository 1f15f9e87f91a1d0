"""Rain from drizzle to downpour, as photographs show it and as public sets were made.

Streaks are laid over a picture in one of three ways: as opacity in linear light, which is what a
falling drop does while the shutter is open; added to the display values, as in Rain100, Rain1400
and Rain12600; or by a screen, J + m - J m, as drawing programs do. They may come from several
directions at once, in hundreds, as long as a third of the frame or as short as a hundredth. A drop
shows what is around it, so a streak's light is in part that of the blurred background. A veil of
farther rain lies over the depth of the picture (HeavyRain: optical depth 3 to 4.2, A 0.3 to 0.9)
and dims the streaks in it. Ours: soft, broad streaks as of rain that is out of focus, gusts,
splashes on the ground, and drops so near that they are discs.

What is added has the figures of public sets. Of 16 pairs of Rain100H the difference has a mean of
0.13 to 0.41 and a 99th percentile of 0.44 to 0.89 in display values, and half its correlation is
gone after 7 to 35 of 320 or 480 rows along the streaks, after 2 across. Of SIRR20 it is as bright,
but smooth, and brighter towards one side of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.depth import Map, grid_of, over_window, overview
from glsgn_plugins.degradations.drops import Drops, Splashes
from glsgn_plugins.degradations.light import (
    Image,
    Light,
    check_image,
    decode,
    in_display,
    in_light,
)
from glsgn_plugins.degradations.place import Place, smooth_field
from glsgn_plugins.degradations.rain import STEEPEST, STREAK, STREAK_BOUNDS, RainLayer
from glsgn_plugins.degradations.ranges import Range, RangedModel, draw, draw_count
from glsgn_plugins.degradations.real_haze import RealHaze, RealHazeParameters
from glsgn_plugins.degradations.streaks import streaks
from glsgn_plugins.errors import InputError

BLENDS = ("light", "added", "screen")
ADDED = 9 / 13
"""Share of the rains that are added, of those that aren't opaque; the others are screened."""
AROUND = 10
"""Pixels of a photograph's thumbnail to one of the background's light that drops show."""
MOST_STREAKS = 40000
"""In a square of the height, of one layer: more of them can't be told from a veil."""


@dataclass(frozen=True)
class RealRainParameters:
    """One rain, as :class:`RealRain` draws it.

    Attributes:
        blend: ``light``, ``added`` or ``screen``.
        layers: Streaks, from far to near.
        gusts: How far their density varies over the frame, 0 to 1: it is in ``1 +- gusts``.
        mist: Light that lies over it all without streaks, in places up to this, 0 to 1.
        radiance: Light of streaks, drops and splashes, display values, red, green and blue.
        around: Share of that light that is the blurred background's, 0 to 1.
        veil: Farther rain, which lies behind the streaks; or ``None``.
        drops: Near ones, out of focus; or ``None``.
        splashes: On the ground; or ``None``.
        seed: Of gusts and mist.
    """

    blend: str
    layers: tuple[RainLayer, ...]
    gusts: float
    mist: float
    radiance: tuple[float, float, float]
    around: float
    veil: RealHazeParameters | None
    drops: Drops | None
    splashes: Splashes | None
    seed: int

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RealRainParameters:
        """The inverse of ``dataclasses.asdict``, after JSON."""
        parts: dict[str, Any] = {
            "layers": tuple(RainLayer(**layer) for layer in record["layers"]),
            "radiance": tuple(record["radiance"]),
            "veil": record["veil"] and RealHazeParameters.from_record(record["veil"]),
            "drops": record["drops"] and Drops(**record["drops"]),
            "splashes": record["splashes"] and Splashes(**record["splashes"]),
        }
        return cls(**{**record, **parts})

    def mask(self, shape: tuple[int, int], place: Place) -> Map:
        """How much of streaks, splashes and drops there is at each pixel of a window: 0 to 1."""
        if self.blend == "added":
            total = np.zeros(shape, np.float32)
            for layer in self.layers:
                total += streaks(layer, shape, place)
        else:
            clear = np.ones(shape, np.float32)
            for layer in self.layers:
                clear *= 1 - np.minimum(streaks(layer, shape, place), 1)
            total = 1 - clear
        if self.gusts or self.mist:
            grid = grid_of(place)
            field = smooth_field(self.seed, grid, Place(*grid), cells=1, octaves=3)
            if self.gusts:
                total *= over_window(1 + self.gusts * (2 * field - 1), shape, place)
            if self.mist:
                total += (1 - np.minimum(total, 1)) * over_window(self.mist * field, shape, place)
        for more in (self.splashes, self.drops):
            if more is not None:
                total += (1 - np.minimum(total, 1)) * more.mask(shape, place)
        return np.minimum(total, 1)

    def light_of(self, small: NDArray[np.uint8]) -> Light:
        """The light of streaks over a whole photograph, ``(h, w, 3)``, in values of the blend."""
        # What a drop shows is as wide as its surroundings: some twenty pixels a side are enough.
        size = tuple(max(1, round(side / AROUND)) for side in (small.shape[1], small.shape[0]))
        values = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), np.float64) / 255
        radiance = np.asarray(self.radiance, np.float64)
        if self.blend == "light":
            radiance, values = decode(radiance), decode(values)
        behind = np.asarray(cv2.GaussianBlur(values.astype(np.float32), (0, 0), 2.0))
        share = np.float32(self.around)
        return np.asarray(share * behind + (1 - share) * radiance.astype(np.float32))

    def pair(
        self, image: Image, companion: NDArray[Any] | None = None, place: Place | None = None
    ) -> tuple[Image, Image]:
        """The image in this rain, and its truth: the image.

        Args:
            image: ``(H, W, 3)``, RGB, uint8 or uint16.
            companion: The whole photograph's thumbnail; by default the image's, which must be
                the whole then.
            place: Where the image lies in its photograph; by default it is the whole.

        Returns:
            In the shape and type of ``image``.

        Raises:
            InputError: It isn't such an image, or the companion no thumbnail.
        """
        check_image(image)
        place = place or Place.whole(image)
        small = overview(companion, image, place)
        if small.ndim != 3:
            raise InputError("rain takes the photograph's thumbnail, no depth map")
        rainy = image
        if self.veil is not None:
            rainy, _ = self.veil.pair(image, small, place)
        mask = self.mask((image.shape[0], image.shape[1]), place)
        light = self.light_of(small)
        columns = image.shape[1]

        def change(values: Light, rows: slice) -> Light:
            at = Place(place.height, place.width, place.top + rows.start, place.left)
            of = over_window(light, (rows.stop - rows.start, columns), at)
            there = mask[rows, :, None]
            if self.blend == "light":
                values += there * (of - values)
            elif self.blend == "added":
                values += there * of
            else:
                values += there * of * (1 - np.minimum(values, 1))
            return values

        return (in_light if self.blend == "light" else in_display)(rainy, change), image


@dataclass(frozen=True)
class RealRain(RangedModel):
    """Ranges from which a rain is drawn, uniformly unless it says otherwise; ``[low, high]`` each.

    Attributes:
        opaque: Share of the rains whose streaks hide what is behind them, in linear light; of the
            others nine of thirteen are added to the display values, four screened.
        layers: Number of layers; each has streaks of its own.
        angle: Of the rain against the vertical, degrees: the mean of two draws, as most rain
            falls nearly upright.
        spread: How far the layers' angles differ from it, degrees either way, in two rains of five.
        wind: And in the others, which have one direction but for the wind's changes.
        length: Of streaks, of the photograph's height; ratios are drawn evenly.
        width: Of streaks, of the height; likewise.
        cover: What all layers hide or add, averaged over the picture, 0 to 1; low values are
            likelier.
        opacity: Of a streak, 0 to 1; ratios are drawn evenly.
        defocus: Blur of a layer, of the height; low values are likelier.
        soft: Share of the rains that are broad and soft, two to six times as wide.
        gusts: How far density varies over the frame, 0 to 1, in half of the rains.
        misty: Share of the rains with mist, of those whose streaks are added or screened.
        mist: Its light without streaks, 0 to 1: rain so far that it adds up, but lies over
            everything.
        radiance: Light of drops, display values, 0 to 1.
        around: Share of it that is the blurred background's, 0 to 1; in opacity alone.
        veiled: Share of the rains with a veil.
        veil: Its optical depth at the farthest, from 0 up.
        near: Share of the rains with near drops.
        splashing: Share of the rains with splashes.
    """

    opaque: float = 0.35
    layers: Range = (1, 5)
    angle: Range = (-45, 45)
    spread: Range = (0, 40)
    wind: Range = (0, 4)
    length: Range = (0.012, 0.33)
    width: Range = (0.0008, 0.008)
    cover: Range = (0.01, 0.4)
    opacity: Range = (0.06, 0.8)
    defocus: Range = (0.0, 0.003)
    soft: float = 0.25
    gusts: Range = (0.0, 1.0)
    misty: float = 0.4
    mist: Range = (0.0, 0.5)
    radiance: Range = (0.6, 1.0)
    around: Range = (0.0, 0.6)
    veiled: float = 0.22
    veil: Range = (0.1, 4.2)
    near: float = 0.1
    splashing: float = 0.15

    COUNTS = frozenset({"layers"})
    FRACTIONS = frozenset({"cover", "opacity", "gusts", "mist", "radiance", "around"})
    BOUNDS: ClassVar = {
        **STREAK_BOUNDS,
        "cover": (0, 10),
        "spread": (0, STEEPEST),
        "wind": (0, STEEPEST),
    }
    SHARES = frozenset({"opaque", "soft", "misty", "veiled", "near", "splashing"})

    def sample(self, rng: np.random.Generator) -> RealRainParameters:
        """Draw one rain."""
        shares = (self.opaque, (1 - self.opaque) * ADDED, (1 - self.opaque) * (1 - ADDED))
        blend = str(rng.choice(BLENDS, p=shares))
        soft, veiled, near, splashing, parallel = rng.random(5)
        least, most = self.cover
        cover = least + (most - least) * float(rng.random()) ** 1.3
        angle = (draw(rng, self.angle) + draw(rng, self.angle)) / 2
        spread = draw(rng, self.spread if parallel < 0.4 else self.wind)
        veil = self._veil(rng, blend) if veiled < self.veiled else None
        count = draw_count(rng, self.layers)
        layers = []
        for share in rng.dirichlet([2.0] * count):
            layer = self._layer(rng, cover * float(share), soft < self.soft)
            lean = float(np.clip(angle + rng.uniform(-spread, spread), -STEEPEST, STEEPEST))
            layers.append(replace(layer, angle=lean))
        # Thin streaks look far, and the veil dims what is far.
        layers.sort(key=lambda layer: layer.width)
        if veil is not None:
            farness = np.linspace(0.5, 0.0, count)
            layers = [
                replace(layer, opacity=layer.opacity * float(np.exp(-veil.beta * far)))
                for layer, far in zip(layers, farness)
            ]
        level, tint = draw(rng, self.radiance), rng.uniform(-0.02, 0.02, 3)
        red, green, blue = np.clip(level + tint, 0, 1) if blend != "added" else (1.0, 1.0, 1.0)
        around, gusts, mist = (draw(rng, r) for r in (self.around, self.gusts, self.mist))
        misty = blend != "light" and rng.random() < self.misty
        return RealRainParameters(
            blend=blend,
            layers=tuple(layers),
            gusts=gusts if rng.random() < 0.5 else 0.0,
            mist=mist if misty else 0.0,
            radiance=(float(red), float(green), float(blue)),
            around=around if blend == "light" else 0.0,
            veil=veil,
            drops=Drops.sample(rng) if near < self.near else None,
            splashes=Splashes.sample(rng) if splashing < self.splashing else None,
            seed=int(rng.integers(2**31)),
        )

    def _layer(self, rng: np.random.Generator, cover: float, soft: bool) -> RainLayer:
        length, width, opacity = (
            float(np.exp(rng.uniform(np.log(max(low, 1e-5)), np.log(max(high, 1e-5)))))
            for low, high in (self.length, self.width, self.opacity)
        )
        least, most = self.defocus
        defocus = least + (most - least) * float(rng.random()) ** 3
        if soft:
            width *= float(rng.uniform(2, 6))
            length, opacity = max(length, 6 * width), 0.5 * opacity
        length = max(length, 4 * width)
        density = cover / (STREAK * length * width * opacity)
        return RainLayer(
            angle=0.0,
            length=length,
            width=width,
            density=min(density, MOST_STREAKS),
            opacity=opacity,
            defocus=defocus,
            seed=int(rng.integers(2**31)),
        )

    def _veil(self, rng: np.random.Generator, blend: str) -> RealHazeParameters:
        drawn = RealHaze(
            beta=self.veil,
            airlight=(1.0, 1.0),
            warmth=(-0.1, 0.05),
            redder=(0.0, 0.0),
            near=(0.0, 0.5),
        ).sample(rng)
        # Rain clouds are darker than fog: all levels are as likely.
        level = draw(rng, (0.3, 0.95))
        red, green, blue = (level * value for value in drawn.airlight)
        return replace(drawn, light=blend == "light", airlight=(red, green, blue))
