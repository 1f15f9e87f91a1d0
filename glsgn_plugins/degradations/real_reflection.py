"""Reflections as photographs show them, and the truth that can be known: what comes through.

The glass dims and tints what is behind it, and nobody knows by how much who can't take it away; so
the truth is the dimmed scene (RDNet, XReflection), not the scene. Its gains are theirs: about 1.1
+- 0.12 for each colour, in display values. So are the blends: T + R - T R (screen) and T + R less
what overflows, in display values; beside them T + R in linear light (arXiv 2404.14414, where it is
the largest term). From there, too, is that each scene has an exposure and a white balance of its
own, that many reflections are sharp, Fresnel's equations, and the glass's second surface. Ours: the
sizes, relative to the frame, and lights that stay brighter than white until they are blurred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.depth import Map, grid_of, over_window
from glsgn_plugins.degradations.light import (
    STRIP_ROWS,
    Image,
    check_image,
    from_light,
    to_display,
    to_light,
)
from glsgn_plugins.degradations.place import Place
from glsgn_plugins.degradations.ranges import Range, RangedModel, draw
from glsgn_plugins.degradations.reflection import GLASS_BOUNDS, ReflectionParameters
from glsgn_plugins.errors import InputError

INDEX = 1.5
"""Of refraction, of window glass."""
BLENDS = ("light", "screen", "overflow")
BLEND_SHARES = (0.5, 0.3, 0.2)


def reflectance(angle: NDArray[Any]) -> NDArray[Any]:
    """Share of unpolarised light that a pane's two surfaces reflect, by Fresnel's equations.

    Args:
        angle: Of incidence against the pane's normal, degrees, 0 to below 90.
    """
    incident = np.deg2rad(angle)
    outside = np.cos(incident)
    inside = np.sqrt(1 - (np.sin(incident) / INDEX) ** 2)
    across = ((outside - INDEX * inside) / (outside + INDEX * inside)) ** 2
    along = ((inside - INDEX * outside) / (inside + INDEX * outside)) ** 2
    one = (across + along) / 2
    return np.asarray(2 * one / (1 + one))


@dataclass(frozen=True)
class RealReflectionParameters:
    """One reflection, as :class:`RealReflection` draws it.

    Attributes:
        blend: ``light`` (T + R in linear light), ``screen`` (T + R - T R in display values) or
            ``overflow`` (T + R less ``cut`` in display values, clipped).
        glass: Where the reflected photograph is seen, how sharp, doubled and strong: b, and a.
        scene: Gains of what is behind the glass, red, green and blue, in display values.
        reflected: Gains of the reflected scene's red, green and blue, in linear light.
        lamps: How many times brighter than white the reflected photograph's white was, from 1 up.
        cut: What is taken from the reflection where ``overflow``, display values, from 0 up.
        angles: Of incidence at one end of the frame and at the other, degrees.
        turn: Direction in which that falls, degrees; 0 to the right, 90 down.
    """

    blend: str
    glass: ReflectionParameters
    scene: tuple[float, float, float]
    reflected: tuple[float, float, float]
    lamps: float
    cut: float
    angles: tuple[float, float]
    turn: float

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RealReflectionParameters:
        """The inverse of ``dataclasses.asdict``, after JSON has made lists of the tuples."""
        tuples = {key: tuple(record[key]) for key in ("scene", "reflected", "angles")}
        glass = ReflectionParameters.from_record(record["glass"])
        return cls(**{**record, **tuples, "glass": glass})

    @property
    def scene_gain(self) -> NDArray[np.float32]:
        """Of red, green and blue in linear light: those of display values to about the curve's."""
        return np.asarray(self.scene, np.float32) ** 2.2

    def gains(self, place: Place) -> tuple[Map, Map]:
        """Over a whole photograph: of what comes through, and of what is reflected.

        Returns:
            ``(h, w)`` of linear light: the first up to ``glass.transmission``, the second up to
            ``glass.strength``.
        """
        grid = grid_of(place)
        y = (np.arange(grid[0], dtype=np.float32) + 0.5) / grid[0] - 0.5
        x = (np.arange(grid[1], dtype=np.float32) + 0.5) / grid[1] - 0.5
        right, down = np.cos(np.deg2rad(self.turn)), np.sin(np.deg2rad(self.turn))
        along = (x * right + y[:, None] * down) / (abs(right) + abs(down)) + 0.5
        low, high = self.angles
        returned = reflectance(low + (high - low) * along)
        most, least = (float(bound(reflectance(np.array(self.angles)))) for bound in (max, min))
        through = self.glass.transmission * (1 - returned) / (1 - least)
        back = self.glass.gain(grid, Place(*grid)) * returned / most
        return np.asarray(through, np.float32), np.asarray(back, np.float32)

    def pair(
        self, image: Image, companion: Image | None = None, place: Place | None = None
    ) -> tuple[Image, Image]:
        """The image behind this glass, and what comes through of it alone, which is the truth.

        Args:
            image: ``(H, W, 3)``, RGB, uint8 or uint16.
            companion: The reflected photograph, likewise, of any size and either depth.
            place: Where the image lies in its photograph; by default it is the whole.

        Returns:
            In the shape and type of ``image``.

        Raises:
            InputError: Either isn't such an image, or there is no companion.
        """
        check_image(image)
        if companion is None:
            raise InputError("a reflection needs a second photograph, the reflected one")
        check_image(companion)
        place = place or Place.whole(image)
        height, width = image.shape[:2]
        through, back = self.gains(place)
        seen = self.glass.reflected(companion, (height, width), place, self.lamps)
        mirror = np.asarray(self.reflected, np.float32)
        lq, gt = np.empty_like(image), np.empty_like(image)
        for top in range(0, height, STRIP_ROWS):
            rows = slice(top, min(top + STRIP_ROWS, height))
            at = Place(place.height, place.width, place.top + top, place.left)
            shape = (rows.stop - top, width)
            light = to_light(image[rows])
            light *= over_window(through, shape, at)[..., None]
            light *= self.scene_gain
            gt[rows] = from_light(light, image.dtype)
            reflection = seen[rows] * over_window(back, shape, at)[..., None]
            reflection *= mirror
            if self.blend == "light":
                light += reflection
                lq[rows] = from_light(light, image.dtype)
                continue
            scene_shown, shown = (to_display(x, image.dtype) for x in (light, reflection))
            if self.blend == "screen":
                scene_shown += shown - scene_shown * shown
            else:
                scene_shown += np.maximum(shown - np.float32(self.cut), 0)
            top_level = np.float32(np.iinfo(image.dtype).max)
            lq[rows] = np.clip(scene_shown, 0, 1) * top_level + np.float32(0.5)
        return lq, gt


@dataclass(frozen=True)
class RealReflection(RangedModel):
    """Ranges from which a reflection is drawn, uniformly unless it says otherwise.

    Attributes:
        transmission: Share of the scene's light that comes through where most does, 0 to 1.
        scene: Gain of each of its colours, display values: a normal distribution that has its mean
            and two standard deviations either way within this range.
        strength: Share of the reflected light that is returned where most is, 0 to 1; low values
            are likelier.
        white: Gain of the reflected red and blue against green, in powers of two.
        lamps: How many times brighter than white its white was, from 1 up; low values are likelier.
        cut: What is taken off before it is added, display values, where it is added with overflow.
        incidence: Angle at the end of the frame where it is lower, degrees.
        turned: How much higher it is at the other, degrees.
        defocus: Blur of the reflected scene, of the photograph's shorter side; a third are sharp.
        ghost_offset: Distance of the second surface's image, of the shorter side.
        ghost_decay: That image's share, 0 to 1, in half of the reflections.
        variation: How far the strength falls in places, 0 to 1.
        vignette: How far it falls towards the corners, 0 to 1.
        zoom: Share of the reflected photograph that is seen, above 0 to 1.
    """

    transmission: Range = (0.75, 1.0)
    scene: Range = (0.86, 1.34)
    strength: Range = (0.05, 1.0)
    white: Range = (-0.35, 0.35)
    lamps: Range = (1.0, 12.0)
    cut: Range = (0.0, 0.25)
    incidence: Range = (0.0, 50.0)
    turned: Range = (0.0, 30.0)
    defocus: Range = (0.0, 0.012)
    ghost_offset: Range = (0.001, 0.02)
    ghost_decay: Range = (0.0, 0.5)
    variation: Range = (0.0, 1.0)
    vignette: Range = (0.0, 0.5)
    zoom: Range = (0.4, 1.0)

    FRACTIONS = frozenset(
        {"transmission", "strength", "ghost_decay", "variation", "vignette", "zoom"}
    )
    BOUNDS: ClassVar = {
        **GLASS_BOUNDS,
        "white": (-8, 8),
        "lamps": (1, np.inf),
        "incidence": (0, 85),
    }

    def sample(self, rng: np.random.Generator) -> RealReflectionParameters:
        """Draw one reflection."""
        blend = str(rng.choice(BLENDS, p=BLEND_SHARES))
        low, high = self.scene
        gains = np.clip(rng.normal((low + high) / 2, (high - low) / 4, 3), low, high)
        weakest, strongest = self.strength
        strength = weakest + (strongest - weakest) * float(rng.random()) ** 1.5
        dimmest, brightest = self.lamps
        lamps = dimmest + (brightest - dimmest) * float(rng.random()) ** 3
        offset, turn = draw(rng, self.ghost_offset), float(rng.uniform(0, 2 * np.pi))
        sharp, doubled = rng.random(2)
        defocus, decay = draw(rng, self.defocus), draw(rng, self.ghost_decay)
        glass = ReflectionParameters(
            transmission=draw(rng, self.transmission),
            strength=strength,
            defocus=0.0 if sharp < 1 / 3 else defocus,
            ghost_offset=(offset * float(np.cos(turn)), offset * float(np.sin(turn))),
            ghost_decay=decay if doubled < 0.5 else 0.0,
            variation=draw(rng, self.variation),
            vignette=draw(rng, self.vignette),
            zoom=max(draw(rng, self.zoom), 0.01),
            shift=(float(rng.random()), float(rng.random())),
            mirrored=bool(rng.random() < 0.5),
            seed=int(rng.integers(2**31)),
        )
        nearest = draw(rng, self.incidence)
        return RealReflectionParameters(
            blend=blend,
            glass=glass,
            scene=(float(gains[0]), float(gains[1]), float(gains[2])),
            reflected=(2.0 ** draw(rng, self.white), 1.0, 2.0 ** draw(rng, self.white)),
            lamps=lamps,
            cut=draw(rng, self.cut),
            angles=(nearest, min(nearest + draw(rng, self.turned), 85.0)),
            turn=float(rng.uniform(0, 360)),
        )
