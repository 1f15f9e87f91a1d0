"""What a camera and its files do to a photograph: light, sharpness, noise, compression.

Applied to an input and its truth together. What the network is to leave as it is happens to both:
exposure, white balance, a gamma as of badly lit pictures, loss of sharpness by resizing,
sharpening, and the very same noise. So a picture that is dark, soft or grainy stays dark, soft and
grainy: a network that were to give back a truth without noise would learn to smear. JPEG alone is
the input's: its blocks grow with the contrast that is restored, nobody wants them back, and most of
them are weak.

The steps are those of RIDCP's chain (RQ-Wu/RIDCP_dehazing: gamma 1.5 to 3, noise of 2 to 25/255 of
which 40 % is coloured, 40 % grey and 20 % correlated, JPEG 30 to 95, resizing). Ours: noise of shot
and read parts in linear light, white balance, sharpening, and what is done to the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.light import STRIP_ROWS, Image, decode, encode, to_bytes
from glsgn_plugins.degradations.ranges import Range, RangedModel, draw

NOISE = ("grey", "coloured", "correlated")
NOISE_SHARES = (0.4, 0.4, 0.2)
CORRELATION = 3
"""Pixels that the blur of correlated noise reaches."""
CORRELATED_SIGMA = 0.8
"""Of that blur, a Gaussian, in pixels."""
CORRELATED_GAIN = 2.836
"""What brings its noise back to the strength before: 2 sqrt(pi) times sigma."""


@dataclass(frozen=True)
class CameraParameters:
    """One camera, as :class:`Camera` draws it. Each default leaves the picture as it is.

    Attributes:
        gain: Of red, green and blue in linear light: exposure and white balance, above 0.
        gamma: Exponent of the display values, above 0; above 1 darkens the dark parts.
        resize: Size to which it is scaled down and back up, above 0 to 1.
        noise: ``grey``, ``coloured`` or ``correlated`` (coloured, and blurred by a pixel).
        shot: Variance of the noise over the light, both in linear light, from 0 up.
        read: Standard deviation of the noise in the dark, linear light, from 0 up.
        sharpen: Share of what differs from a blur by a pixel that is added, from 0 up.
        jpeg: Quality of the input's file, 1 to 100; ``None`` for none.
        seed: Of the noise.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    resize: float = 1.0
    noise: str = "grey"
    shot: float = 0.0
    read: float = 0.0
    sharpen: float = 0.0
    jpeg: int | None = None
    seed: int = 0

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> CameraParameters:
        """The inverse of ``dataclasses.asdict``, after JSON has made a list of the tuple."""
        return cls(**{**record, "gain": tuple(record["gain"])})

    def apply(self, image: Image) -> Image:
        """The picture as this camera stores it.

        Args:
            image: ``(H, W, 3)``, RGB, uint8 or uint16.

        Returns:
            In the shape and type of ``image``.
        """
        return self.pair(image, image)[0]

    def pair(self, lq: Image, gt: Image) -> tuple[Image, Image]:
        """Input and truth as this camera stores them: all of it on both, but JPEG.

        Args:
            lq: ``(H, W, 3)``, RGB, uint8 or uint16.
            gt: Likewise.

        Returns:
            Both, each in its shape and type.
        """
        lq, gt = self._light(lq), self._light(gt)
        if self.resize < 1:
            lq, gt = (_resized(image, self.resize) for image in (lq, gt))
        if self.shot or self.read:
            lq, gt = self._with_noise(lq, gt)
        if self.sharpen:
            lq, gt = (_sharpened(image, self.sharpen) for image in (lq, gt))
        if self.jpeg is not None:
            lq = _compressed(lq, self.jpeg)
        return lq, gt

    def _light(self, image: Image) -> Image:
        """Exposure, white balance and gamma."""
        if self.gain == (1, 1, 1) and self.gamma == 1:
            return image
        top = np.iinfo(image.dtype).max
        level = np.arange(top + 1) / top
        table = np.stack(
            [encode(np.clip(decode(level) * gain, 0, 1)) ** self.gamma for gain in self.gain], 1
        )
        return _looked_up(image, np.round(table * top).astype(image.dtype))

    def _with_noise(self, lq: Image, gt: Image) -> tuple[Image, Image]:
        """The same noise on both: as strong as the light of the first makes it."""
        rng = np.random.default_rng(self.seed)
        height, width = lq.shape[:2]
        channels = 1 if self.noise == "grey" else 3
        top = np.iinfo(lq.dtype).max
        light = decode(np.arange(top + 1) / top)
        # In display values it is as many times stronger as the curve is steep there.
        slope = np.gradient(np.arange(top + 1) / top, light)
        spread = (top * slope * np.sqrt(self.shot * light + self.read**2)).astype(np.float32)
        noisy = np.empty_like(lq), np.empty_like(gt)
        # Rows above and below a strip, which its blur reaches.
        around = CORRELATION if self.noise == "correlated" else 0
        drawn = rng.standard_normal((2 * around, width, channels), np.float32)
        for first in range(0, height, STRIP_ROWS):
            rows = slice(first, min(first + STRIP_ROWS, height))
            more = rng.standard_normal((rows.stop - first, width, channels), np.float32)
            noise = drawn = np.concatenate([drawn[len(drawn) - 2 * around :], more])
            if around:
                side = 2 * around + 1
                noise = np.asarray(cv2.GaussianBlur(noise, (side, side), CORRELATED_SIGMA))
                noise = noise * np.float32(CORRELATED_GAIN)
                noise = noise.reshape(drawn.shape)[around:-around]
            shown = np.ascontiguousarray(lq[rows, :, 1:2] if channels == 1 else lq[rows])
            noise *= _looked_up(shown, spread).reshape(shown.shape)
            for image, out in zip((lq, gt), noisy):
                out[rows] = np.clip(image[rows] + noise + np.float32(0.5), 0, top)
        return noisy


def _looked_up(image: Image, table: NDArray[Any]) -> NDArray[Any]:
    """``table`` of ``(levels,)``, or ``(levels, 3)`` for each channel its own."""
    if image.dtype == np.uint8:
        return np.asarray(cv2.LUT(image, table if table.ndim == 1 else table[None]))
    if table.ndim == 1:
        return np.asarray(table[image])
    return np.stack([table[image[..., c], c] for c in range(3)], axis=-1)


def _resized(image: Image, scale: float) -> Image:
    height, width = image.shape[:2]
    to = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, to, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def _sharpened(image: Image, share: float) -> Image:
    blurred = cv2.GaussianBlur(image, (0, 0), 1.0)
    return np.asarray(cv2.addWeighted(image, 1 + share, blurred, -share, 0))


def _compressed(image: Image, quality: int) -> Image:
    """Through a JPEG, which has 8 bits; images of 16 bits keep their type."""
    eight = to_bytes(image)[..., ::-1]
    _, content = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, quality])
    found = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))[..., ::-1]
    if image.dtype == np.uint8:
        return np.ascontiguousarray(found)
    return found.astype(np.uint16) * np.uint16(257)


@dataclass(frozen=True)
class Camera(RangedModel):
    """Ranges from which a camera is drawn; ``[low, high]`` each. Each step has a share of its own.

    Attributes:
        exposure: Gain in linear light, in powers of two.
        white: Gain of red and of blue against green, in powers of two.
        gamma: Of badly lit pictures.
        resize: Size to which a picture is scaled down and back up.
        shot: Of the noise's variance over the light; low values are likelier.
        read: Noise in the dark; low values are likelier.
        sharpen: Share of the difference from a blur.
        jpeg: Quality; high values are likelier.
    """

    exposure: Range = (-0.7, 0.3)
    white: Range = (-0.2, 0.2)
    gamma: Range = (1.0, 2.2)
    resize: Range = (0.5, 1.0)
    shot: Range = (0.0, 0.006)
    read: Range = (0.0, 0.003)
    sharpen: Range = (0.0, 1.0)
    jpeg: Range = (30, 95)

    COUNTS = frozenset({"jpeg"})
    FRACTIONS = frozenset({"resize"})
    BOUNDS: ClassVar = {"exposure": (-8, 8), "white": (-8, 8)}

    def sample(self, rng: np.random.Generator) -> CameraParameters:
        """Draw one camera."""
        lit, dark, small, noisy, sharp, stored = rng.random(6)
        exposure = draw(rng, self.exposure)
        red, blue = (exposure + draw(rng, self.white) for _ in range(2))
        gamma, resize = draw(rng, self.gamma), draw(rng, self.resize)
        kind = str(rng.choice(NOISE, p=NOISE_SHARES))
        low = rng.random() ** 2
        shot, read = (r[0] + low * (r[1] - r[0]) for r in (self.shot, self.read))
        sharpen = draw(rng, self.sharpen)
        worst, best = self.jpeg
        quality = round(best - (best - worst) * float(rng.random()) ** 2)
        seed = int(rng.integers(2**31))
        return CameraParameters(
            gain=(2.0**red, 2.0**exposure, 2.0**blue) if lit < 0.5 else (1.0, 1.0, 1.0),
            gamma=gamma if dark < 0.15 else 1.0,
            resize=resize if small < 0.2 else 1.0,
            noise=kind,
            shot=float(shot) if noisy < 0.4 else 0.0,
            read=float(read) if noisy < 0.4 else 0.0,
            sharpen=sharpen if sharp < 0.2 else 0.0,
            jpeg=quality if stored < 0.5 else None,
            seed=seed,
        )
