"""A second photograph, reflected by the glass before the first.

I = a B + b (R convolved with k), in linear light, clipped as a sensor does. The terms are those of
published models of reflection (defocus, ghosting, vignette); making all of them
relative to the photograph's shorter side is ours, so that reflections at 4K are as soft against the
frame as at 1080p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from glsgn_plugins.degradations.light import Image, Light, check_image, in_light, to_light
from glsgn_plugins.degradations.place import Place, TruthIsImage, smooth_field, warped
from glsgn_plugins.degradations.ranges import Range, RangedModel, draw
from glsgn_plugins.errors import InputError

LAMP_AREA = 0.03
"""White share of a photograph from which on what is white was hardly brighter than that."""


GLASS_BOUNDS: dict[str, tuple[float, float]] = {"defocus": (0, 0.1), "ghost_offset": (0, 0.5)}
"""What fields of either reflection may be, shares of the shorter side, and no pixels."""


@dataclass(frozen=True)
class ReflectionParameters(TruthIsImage):
    """One reflection, as :class:`Reflection` draws it.

    Attributes:
        transmission: a, the share of the scene's light that comes through the glass, 0 to 1.
        strength: b, the share of the reflected scene's light that the glass returns, 0 to 1.
        defocus: Standard deviation of the Gaussian in k, of the photograph's shorter side.
        ghost_offset: Of the second surface's image: right and down, of the shorter side.
        ghost_decay: Share of the reflected light that comes from the second surface, 0 to 1: k is
            ``(1 - decay) delta + decay delta(offset)``, convolved with the Gaussian.
        variation: How far the strength falls in places, 0 to 1: in ``[1 - variation, 1]``.
        vignette: How far it falls towards the corners, 0 to 1.
        zoom: Share of the reflected photograph's largest fitting window that is seen, above 0 to 1.
        shift: Where that window lies: 0 top and left, 1 bottom and right.
        mirrored: Whether the reflected photograph is flipped left to right.
        seed: Of the variation.
    """

    transmission: float
    strength: float
    defocus: float
    ghost_offset: tuple[float, float]
    ghost_decay: float
    variation: float
    vignette: float
    zoom: float
    shift: tuple[float, float]
    mirrored: bool
    seed: int

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> ReflectionParameters:
        """The inverse of ``dataclasses.asdict``, after JSON has made lists of the tuples."""
        pairs = {key: tuple(record[key]) for key in ("ghost_offset", "shift")}
        return cls(**{**record, **pairs})

    def reflected(
        self, companion: Image, shape: tuple[int, int], place: Place, lamps: float | None = None
    ) -> Light:
        """R convolved with k, over a window of the photograph.

        Args:
            companion: The reflected photograph, ``(H', W', 3)`` of any size.
            shape: Rows and columns of the window.
            place: Where it lies.
            lamps: How many times brighter what is white in it was than white, where that is little
                of it; by default it is white.

        Returns:
            ``(*shape, 3)`` of linear light, before strength, variation and vignette. A blur of
            more than 4 pixels is computed at a reduced size, and its Gaussian is one to within a
            few per cent.
        """
        sigma = self.defocus * place.short
        shrink = 1 << max(0, int(np.log2(max(sigma, 1) / 2)))
        right, down = (shift * place.short for shift in self.ghost_offset)
        margin = int(np.ceil(3 * sigma + max(abs(right), abs(down)))) + 2 * shrink
        top, left = place.top - margin, place.left - margin
        top, left = top // shrink * shrink, left // shrink * shrink
        rows = -(-(place.top + shape[0] + margin - top) // shrink)
        cols = -(-(place.left + shape[1] + margin - left) // shrink)

        # The largest window of the frame's proportions, zoomed.
        high, wide = companion.shape[:2]
        scale = self.zoom * min(high / place.height, wide / place.width)
        y = self.shift[0] * (high - scale * place.height) + scale * (top + (shrink - 1) / 2)
        x = self.shift[1] * (wide - scale * place.width) + scale * (left + (shrink - 1) / 2)
        step = scale * shrink
        # A shrunken picture must first lose what its pixels can't show.
        halves = int(np.log2(step) + 0.5) if step > 1 else 0
        y, x, step = (v / 2**halves for v in (y, x, step))
        if self.mirrored:
            x = -(-wide // 2**halves) - 1 - x
        if lamps is not None:
            # A white sky is hardly brighter than white; lamps are, and they are small.
            area = float(_white(companion[::8, ::8]).mean()) / 255
            lamps = 1 + (lamps - 1) * float(np.exp(-area / LAMP_AREA))
            first = x - step * (cols - 1) if self.mirrored else x
            companion, above, before = _around(companion, (y, first), (rows, cols), step, halves)
            y, x = y - above, x - before
        column = [-step if self.mirrored else step, 0, x]

        def shown(picture: Image) -> Image:
            for _ in range(halves):
                picture = cv2.pyrDown(picture)
            return warped(picture, [column, [0, step, y]], (rows, cols), cv2.BORDER_REFLECT)

        light = to_light(shown(companion))
        if lamps is not None:
            light += (np.float32((lamps - 1) / 255) * shown(_white(companion)))[..., None]
        if sigma > 0.2:
            light = np.asarray(cv2.GaussianBlur(light, (0, 0), sigma / shrink))
        if self.ghost_decay:
            moved = [[1, 0, -right / shrink], [0, 1, -down / shrink]]
            ghost = warped(light, moved, (rows, cols), cv2.BORDER_REFLECT)
            light *= 1 - self.ghost_decay
            light += self.ghost_decay * ghost
        if shrink > 1:
            light = np.asarray(cv2.resize(light, (cols * shrink, rows * shrink)), np.float32)
        at_y, at_x = place.top - top, place.left - left
        return np.asarray(light[at_y : at_y + shape[0], at_x : at_x + shape[1]], np.float32)

    def gain(self, shape: tuple[int, int], place: Place) -> Light:
        """b with its variation and vignette over a window: ``shape``, 0 to ``strength``."""
        gain = np.full(shape, self.strength, np.float32)
        if self.variation:
            gain *= 1 - self.variation * smooth_field(self.seed, shape, place, cells=2, octaves=2)
        if self.vignette:
            y = (place.top + np.arange(shape[0], dtype=np.float32) + 0.5) / place.height * 2 - 1
            x = (place.left + np.arange(shape[1], dtype=np.float32) + 0.5) / place.width * 2 - 1
            gain *= 1 - self.vignette * 0.5 * (y[:, None] ** 2 + x**2)
        return gain

    def apply(
        self, image: Image, companion: Image | None = None, place: Place | None = None
    ) -> Image:
        """The image behind this glass.

        Args:
            image: ``(H, W, 3)``, RGB, uint8 or uint16.
            companion: The reflected photograph, likewise, of any size and either depth.
            place: Where the image lies in its photograph; by default it is the whole.

        Returns:
            In the shape and type of ``image``; at transmission 1 and strength 0, its very values.

        Raises:
            InputError: Either isn't such an image.
        """
        check_image(image)
        if self.transmission == 1 and self.strength == 0:
            return image.copy()
        if companion is None:
            raise InputError("a reflection needs a second photograph, the reflected one")
        check_image(companion)
        place = place or Place.whole(image)
        shape = (image.shape[0], image.shape[1])
        reflected = self.reflected(companion, shape, place)
        reflected *= self.gain(shape, place)[..., None]

        def change(light: Light, rows: slice) -> Light:
            light *= self.transmission
            light += reflected[rows]
            return light

        return in_light(image, change)


def _around(
    image: Image, at: tuple[float, float], size: tuple[int, int], step: float, halves: int
) -> tuple[Image, int, int]:
    """What of an image is needed to show a window of it.

    Args:
        image: Of which a window is to be shown, halved ``halves`` times.
        at: The window's first row and column in the halved image.
        size: Rows and columns that are shown.
        step: From one of them to the next, in the halved image.
        halves: The part gives the same values there: it starts at whole steps, with a margin.

    Returns:
        The part, and its first row and column in the halved image; all of the image where the
        window reaches beyond it.
    """
    parts, begun = [], []
    for first, count, have in zip(at, size, image.shape):
        start, stop = int(first) - 4, int(first + step * count) + 5
        if start < 0 or stop << halves > have:
            return image, 0, 0
        parts.append(slice(start << halves, stop << halves))
        begun.append(start)
    return image[parts[0], parts[1]], begun[0], begun[1]


def _white(image: Image) -> Image:
    """How near an image is to white, from 0.9 up, in one of its colours at least: 0 to 255."""
    brightest = cv2.max(cv2.max(image[..., 0], image[..., 1]), image[..., 2])
    top = np.iinfo(image.dtype).max
    above = np.maximum(brightest, round(0.9 * top)) - round(0.9 * top)
    return np.asarray(above * (255 / (top - round(0.9 * top))), np.uint8)


@dataclass(frozen=True)
class Reflection(RangedModel):
    """Ranges from which a reflection is drawn, uniformly; ``[low, high]`` each. Our choice.

    Attributes:
        transmission: Share of the scene's light that comes through, 0 to 1.
        strength: Share of the reflected light that is returned, 0 to 1.
        defocus: Blur of the reflected scene, of the photograph's shorter side.
        ghost_offset: Distance of the second surface's image, of the shorter side.
        ghost_decay: That image's share, 0 to 1.
        variation: How far the strength falls in places, 0 to 1.
        vignette: How far it falls towards the corners, 0 to 1.
        zoom: Share of the reflected photograph that is seen, above 0 to 1.
    """

    transmission: Range = (0.75, 1.0)
    strength: Range = (0.15, 0.5)
    defocus: Range = (0.001, 0.008)
    ghost_offset: Range = (0.002, 0.01)
    ghost_decay: Range = (0.0, 0.5)
    variation: Range = (0.0, 0.8)
    vignette: Range = (0.0, 0.5)
    zoom: Range = (0.6, 1.0)

    FRACTIONS = frozenset(
        {"transmission", "strength", "ghost_decay", "variation", "vignette", "zoom"}
    )
    BOUNDS: ClassVar = GLASS_BOUNDS

    def sample(self, rng: np.random.Generator) -> ReflectionParameters:
        """Draw one reflection."""
        offset, turn = draw(rng, self.ghost_offset), float(rng.uniform(0, 2 * np.pi))
        return ReflectionParameters(
            transmission=draw(rng, self.transmission),
            strength=draw(rng, self.strength),
            defocus=draw(rng, self.defocus),
            ghost_offset=(offset * float(np.cos(turn)), offset * float(np.sin(turn))),
            ghost_decay=draw(rng, self.ghost_decay),
            variation=draw(rng, self.variation),
            vignette=draw(rng, self.vignette),
            zoom=max(draw(rng, self.zoom), 0.01),
            shift=(float(rng.random()), float(rng.random())),
            mirrored=bool(rng.random() < 0.5),
            seed=int(rng.integers(2**31)),
        )
