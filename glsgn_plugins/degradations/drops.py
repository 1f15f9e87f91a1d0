"""What rain does besides streaks: near drops that are out of focus, and splashes. Our own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.place import Place


@dataclass(frozen=True)
class Drops:
    """Drops so near that the lens makes discs of them.

    Attributes:
        count: In the whole photograph.
        radius: Of the largest, of the height; the others are down to a third of it.
        opacity: Of the strongest, 0 to 1.
        seed: Of where they are.
    """

    count: int
    radius: float
    opacity: float
    seed: int

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Drops:
        """Draw some: 3 to 25 of 0.006 to 0.03 of the height, opacity 0.05 to 0.35."""
        return cls(
            count=int(rng.integers(3, 26)),
            radius=float(rng.uniform(0.006, 0.03)),
            opacity=float(rng.uniform(0.05, 0.35)),
            seed=int(rng.integers(2**31)),
        )

    def mask(self, shape: tuple[int, int], place: Place) -> NDArray[np.float32]:
        """Opacity over a window, ``shape``, 0 to ``opacity``."""
        found = np.zeros(shape, np.float32)
        rng = np.random.default_rng(self.seed)
        for row, col, size, strength in rng.random((self.count, 4)):
            y, x = row * place.height - place.top, col * place.width - place.left
            radius = max(self.radius * place.height * (1 + 2 * size) / 3, 0.5)
            reach = radius + 1
            rows = slice(max(0, int(y - reach)), max(0, int(y + reach) + 2))
            cols = slice(max(0, int(x - reach)), max(0, int(x + reach) + 2))
            part = found[rows, cols]
            if not part.size:
                continue
            down = np.arange(rows.start, rows.start + part.shape[0]) + 0.5 - y
            right = np.arange(cols.start, cols.start + part.shape[1]) + 0.5 - x
            away = np.hypot(down[:, None], right) / radius
            # Discs of a lens are a little brighter at the rim, and soft by a tenth of the radius.
            edge = np.clip((1 - away) / 0.1, 0, 1)
            disc = self.opacity * (0.4 + 0.6 * strength) * edge * (0.8 + 0.2 * away**2)
            np.maximum(part, disc.astype(np.float32), out=part)
        return found


@dataclass(frozen=True)
class Splashes:
    """Crowns of water where drops hit the ground.

    Attributes:
        density: In a square of the photograph's height.
        size: Of a crown, of the height.
        opacity: Of the strongest, 0 to 1.
        horizon: Above this row, of the height, there are none; they get more and larger below.
        seed: Of where they are.
    """

    density: float
    size: float
    opacity: float
    horizon: float
    seed: int

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Splashes:
        """Draw some: 50 to 800 of 0.004 to 0.014 of the height, opacity 0.1 to 0.6."""
        return cls(
            density=float(rng.uniform(50, 800)),
            size=float(rng.uniform(0.004, 0.014)),
            opacity=float(rng.uniform(0.1, 0.6)),
            horizon=float(rng.uniform(0.4, 0.8)),
            seed=int(rng.integers(2**31)),
        )

    def mask(self, shape: tuple[int, int], place: Place) -> NDArray[np.float32]:
        """Opacity over a window, ``shape``, 0 to ``opacity``."""
        rng = np.random.default_rng(self.seed)
        count = round(self.density * place.width / place.height)
        row, col, strength = rng.random((count, 3)).T
        # Evenly over the ground, which is seen at a slant.
        row = self.horizon + (1 - self.horizon) * np.sqrt(row)
        found = np.zeros(shape, np.float32)
        for share, part in ((0.6, slice(0, None, 2)), (1.0, slice(1, None, 2))):
            crown = _crown(max(3, round(share * self.size * place.height)))
            half = crown.shape[0] // 2
            canvas = np.zeros((shape[0] + 2 * half, shape[1] + 2 * half), np.float32)
            y = np.floor(row[part] * place.height).astype(np.int64) - place.top + half
            x = np.floor(col[part] * place.width).astype(np.int64) - place.left + half
            inside = (y >= 0) & (y < canvas.shape[0]) & (x >= 0) & (x < canvas.shape[1])
            np.maximum.at(
                canvas,
                (y[inside], x[inside]),
                (self.opacity * (0.3 + 0.7 * strength[part][inside])).astype(np.float32),
            )
            drawn = cv2.filter2D(canvas, -1, crown[::-1, ::-1], borderType=cv2.BORDER_CONSTANT)
            inner = drawn[half : half + shape[0], half : half + shape[1]]
            np.maximum(found, np.asarray(inner), out=found)
        return np.minimum(found, self.opacity)


def _crown(size: int) -> NDArray[np.float32]:
    """A flat ring, and droplets that leave it upwards: ``(2 size + 1, 2 size + 1)``, up to 1."""
    fine = 8
    across = fine * (2 * size + 1)
    canvas = np.zeros((across, across), np.uint8)
    centre = np.array([across / 2, across / 2])
    unit = fine * size
    ring = (int(0.45 * unit), int(0.16 * unit))
    cv2.ellipse(canvas, _whole(centre), ring, 0, 0, 360, (200,), max(1, unit // 6))
    for turn, far, thick in ((-50, 0.6, 0.07), (-20, 0.85, 0.1), (15, 0.7, 0.06), (48, 0.55, 0.09)):
        away = np.array([np.sin(np.deg2rad(turn)), -np.cos(np.deg2rad(turn))])
        tip = _whole(centre + far * unit * away)
        cv2.line(canvas, _whole(centre + 0.2 * unit * away), tip, (90,), max(1, int(0.06 * unit)))
        cv2.circle(canvas, tip, max(1, int(thick * unit)), (255,), -1)
    soft = cv2.GaussianBlur(canvas, (0, 0), max(1.0, 0.07 * unit))
    small = cv2.resize(soft, (2 * size + 1, 2 * size + 1), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / max(float(small.max()), 1.0)


def _whole(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
