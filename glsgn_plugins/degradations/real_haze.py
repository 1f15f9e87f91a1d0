"""Haze and smoke as photographs show them: tinted, uneven, thick, over the depth of the picture.

I = J t + A (1 - t) with t = exp(-beta d) for each colour, in linear light or in display values: the
first is what a sensor counts, the second what most public sets were made by (RIDCP, RESIDE,
HeavyRain). Optical depth and A are as of RIDCP (RQ-Wu/RIDCP_dehazing: beta 0.3 to 1.5 over a depth
of 2, A 0.25 to 1), the fractal fields as of its Perlin noise (cells of 100 to 200 pixels,
persistence 0.3 to 0.7). Ours: tints, an extinction and an airlight that vary, and the shares of
depth.

Tints reach as far as those of real pairs. Fitted to frames of REVIDE and O-HAZE, I = p J + q for
each colour gives q / (1 - p) of (0.68, 0.73, 0.82), (0.93, 0.92, 0.91) and (0.64, 0.60, 0.56) in
display values, and optical depths of blue, -log p, from 0.4 to 1.7 times those of red.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.depth import (
    Map,
    given_depth,
    over_window,
    overview,
    picture_depth,
)
from glsgn_plugins.degradations.light import (
    Image,
    Light,
    check_image,
    decode,
    in_display,
    in_light,
)
from glsgn_plugins.degradations.place import Place, smooth_field
from glsgn_plugins.degradations.ranges import Range, RangedModel, draw

NEAREST = 1.2
"""Optical depth at most of what is nearest: something is to be seen in every picture."""
GREY_SHARE = 0.45
"""Of hazes, without a tint but for a slight one."""


@dataclass(frozen=True)
class RealHazeParameters:
    """One haze, as :class:`RealHaze` draws it.

    Attributes:
        light: Mixed in linear light; else in display values.
        beta: Optical depth at the farthest of the depth, of green, from 0 up.
        redder: How much less red is dimmed than green, and blue more, as a share of beta.
        airlight: A in red, green and blue, display values, 0 to 1.
        glow: How far A varies over the frame, as a share, 0 to 1.
        near: Depth of what is nearest, as a share of the farthest, 0 to 1.
        shares: Of ground, fractal relief, dark channel and colours in the depth, where no map is
            given: see :func:`~glsgn_plugins.degradations.depth.picture_depth`.
        shuffled: The depth is mirrored, so that it isn't the picture's own.
        horizon: Row of the horizon, of the photograph's height.
        uneven: How far the haze's density varies, 0 to 1: it is in ``1 +- uneven``.
        cells: Broadest clouds along the shorter side.
        roughness: Weight of each finer size of clouds against the one before, 0 to 1.
        seed: Of all that is random in it.
    """

    light: bool
    beta: float
    redder: float
    airlight: tuple[float, float, float]
    glow: float
    near: float
    shares: tuple[float, float, float, float]
    shuffled: bool
    horizon: float
    uneven: float
    cells: int
    roughness: float
    seed: int

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RealHazeParameters:
        """The inverse of ``dataclasses.asdict``, after JSON has made lists of the tuples."""
        tuples = {key: tuple(record[key]) for key in ("airlight", "shares")}
        return cls(**{**record, **tuples})

    def optical_depth(self, companion: NDArray[Any]) -> Map:
        """That of green over a whole photograph.

        Args:
            companion: The photograph's depth map, ``(h, w)``; or its thumbnail, ``(h, w, 3)`` of 8
                bits, to make a depth of.

        Returns:
            ``(h, w)``, 0 to ``2 * beta``.
        """
        if companion.ndim == 3:
            depth = picture_depth(companion, self.shares, self.horizon, self.seed)
        else:
            depth = given_depth(companion)
        if self.shuffled:
            depth = np.ascontiguousarray(depth[:, ::-1])
        depth = self.beta * (self.near + (1 - self.near) * depth)
        if self.uneven:
            grid = (depth.shape[0], depth.shape[1])
            clouds = smooth_field(
                self.seed + 2, grid, Place(*grid), self.cells, octaves=5, fading=self.roughness
            )
            depth *= 1 + self.uneven * (2 * clouds - 1)
        return np.asarray(depth, np.float32)

    def terms(self, companion: NDArray[Any]) -> tuple[Light, Light]:
        """t and A (1 - t) over a whole photograph, ``(h, w, 3)`` each; I = J t + A (1 - t)."""
        depth = self.optical_depth(companion)
        colours = np.array([1 - self.redder, 1, 1 + self.redder], np.float32)
        clear = np.exp(-depth[..., None] * colours)
        airlight = np.asarray(self.airlight, np.float32)
        if self.light:
            airlight = decode(airlight.astype(np.float64)).astype(np.float32)
        veil = airlight * (1 - clear)
        if self.glow:
            grid = (depth.shape[0], depth.shape[1])
            lamps = smooth_field(self.seed + 3, grid, Place(*grid), cells=2, octaves=2)
            veil *= (1 + self.glow * (lamps - 0.5))[..., None]
        return clear, veil

    def pair(
        self, image: Image, companion: NDArray[Any] | None = None, place: Place | None = None
    ) -> tuple[Image, Image]:
        """The image in this haze, and its truth: the image.

        Args:
            image: ``(H, W, 3)``, RGB, uint8 or uint16.
            companion: The whole photograph's depth map, ``(h, w)`` as of
                :class:`~glsgn_plugins.degradations.haze.HazeParameters`, or its thumbnail; by
                default the image's, which must be the whole then.
            place: Where the image lies in its photograph; by default it is the whole.

        Returns:
            In the shape and type of ``image``.

        Raises:
            InputError: It isn't such an image, or the depth map doesn't do.
        """
        check_image(image)
        place = place or Place.whole(image)
        clear, veil = self.terms(overview(companion, image, place))
        columns = image.shape[1]

        def change(values: Light, rows: slice) -> Light:
            at = Place(place.height, place.width, place.top + rows.start, place.left)
            shape = (rows.stop - rows.start, columns)
            values *= over_window(clear, shape, at)
            values += over_window(veil, shape, at)
            return values

        return (in_light if self.light else in_display)(image, change), image


@dataclass(frozen=True)
class RealHaze(RangedModel):
    """Ranges from which a haze is drawn, uniformly unless it says otherwise; ``[low, high]`` each.

    Attributes:
        beta: Optical depth at the farthest, from 0 up; low values are likelier.
        airlight: The haze's own light, display values, 0 to 1: the larger of two draws, as haze
            is seldom darker than what it hides.
        warmth: Red less blue of it, as a share; below 0 it is blue. Nearly half are all but grey.
        redder: How much less red is dimmed, as a share of beta; half of the hazes are neutral.
        glow: How far A varies over the frame, 0 to 1, in half of the hazes.
        near: Depth of what is nearest, 0 to 1; less where that is thicker than :data:`NEAREST`.
        horizon: Its row, of the height, 0 to 1.
        uneven: How far density varies, 0 to 1, in half of the hazes.
        cells: Broadest clouds along the shorter side.
        roughness: Weight of finer clouds, 0 to 1.
        display: Share mixed in display values.
    """

    beta: Range = (0.1, 3.2)
    airlight: Range = (0.25, 1.0)
    warmth: Range = (-0.25, 0.4)
    redder: Range = (-0.4, 0.25)
    glow: Range = (0.0, 0.5)
    near: Range = (0.0, 0.5)
    horizon: Range = (0.0, 0.6)
    uneven: Range = (0.0, 0.9)
    cells: Range = (2, 8)
    roughness: Range = (0.3, 0.7)
    display: float = 0.5

    COUNTS = frozenset({"cells"})
    FRACTIONS = frozenset({"airlight", "glow", "near", "horizon", "uneven", "roughness"})
    BOUNDS: ClassVar = {"warmth": (-1, 1), "redder": (-1, 1), "cells": (1, 64)}
    SHARES = frozenset({"display"})

    def sample(self, rng: np.random.Generator) -> RealHazeParameters:
        """Draw one haze."""
        mixed, grey, even, neutral, glowing, shuffled = rng.random(6)
        level = max(draw(rng, self.airlight), draw(rng, self.airlight))
        warmth = draw(rng, self.warmth) * (0.15 if grey < GREY_SHARE else 1.0)
        # Towards yellow it is blue that differs most from green, towards blue it is red.
        red, blue = (1 / 3, -2 / 3) if warmth > 0 else (2 / 3, -1 / 3)
        tint = 1 + warmth * np.array([red, 0.0, blue])
        other = 0.015 if grey < GREY_SHARE else 0.04  # smoke may be green, or pink
        colour = np.clip(level * tint + rng.uniform(-other, other, 3), 0, 1)
        thinnest, thickest = self.beta
        beta = thinnest + (thickest - thinnest) * float(rng.random()) ** 1.5
        near = draw(rng, self.near)
        # One part leads, so that depths differ between samples.
        shares = rng.dirichlet((0.7, 0.7, 0.5, 0.7))
        return RealHazeParameters(
            light=bool(mixed >= self.display),
            beta=beta,
            redder=draw(rng, self.redder) if neutral < 0.5 else 0.0,
            airlight=(float(colour[0]), float(colour[1]), float(colour[2])),
            glow=draw(rng, self.glow) if glowing < 0.5 else 0.0,
            near=min(near, NEAREST / max(beta, NEAREST)),
            shares=(float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3])),
            shuffled=bool(shuffled < 0.15),
            horizon=draw(rng, self.horizon),
            uneven=draw(rng, self.uneven) if even < 0.5 else 0.0,
            cells=int(rng.integers(int(self.cells[0]), int(self.cells[1]) + 1)),
            roughness=draw(rng, self.roughness),
            seed=int(rng.integers(2**31)),
        )
