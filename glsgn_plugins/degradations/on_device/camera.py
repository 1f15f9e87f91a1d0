"""Cameras over batches of crops: what ``CameraParameters.pair`` does to one.

See :mod:`glsgn_plugins.degradations.camera`. All steps run for all samples, since which of them a
sample has is known on the device alone; one that a sample hasn't leaves it as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from glsgn_plugins.degradations.camera import (
    CORRELATED_GAIN,
    CORRELATED_SIGMA,
    CORRELATION,
    NOISE,
)
from glsgn_plugins.degradations.on_device.jpeg import compressed

CUBIC = -0.75
"""OpenCV's free number of bicubic interpolation."""


def decode(shown: Tensor) -> Tensor:
    """Display values in [0, 1] to linear light."""
    return torch.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)


def encode(light: Tensor) -> Tensor:
    """Linear light in [0, 1] to display values."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def photographed(
    images: Sequence[Tensor], camera: Mapping[str, Tensor], steps: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    """Images as one camera stores them: the first is an input, the others are its truths.

    All of the camera is on all of them, but JPEG on the first alone; noise is as strong as the
    light of the first makes it.

    Args:
        images: Each ``(N, 3, S, S)``, levels from 0 to 255.
        camera: Each of ``recipe.CAMERA``, ``(N, 1, 1, 1)``.
        steps: ``(N, 2, 8, 8)``, of the JPEG's quantisation.
        noise: ``(N, 3, S + 2 * CORRELATION, S)`` of variance 1, as of :func:`white_noise`.
    """
    count = len(images)
    each = {name: torch.cat([value] * count) for name, value in camera.items()}
    gain = torch.cat([each["red"], each["green"], each["blue"]], 1)
    found = torch.cat(list(images)) / 255
    found = encode((decode(found) * gain).clamp(0, 1)) ** each["gamma"]
    found = _resized((found * 255).round(), each["rows"])
    strength = _spread(found.chunk(count)[0], camera) * _of_kind(noise, camera["noise"])
    found = (found + torch.cat([strength] * count) + 0.5).floor().clamp(0, 255)
    soft = _blurred(pad(found, (3, 3, 3, 3), mode="reflect"), 1.0).round()
    found = (found + each["sharpen"] * (found - soft)).round().clamp(0, 255)
    lq, *others = found.chunk(count)
    return torch.where(camera["jpeg"] > 0, compressed(lq, steps), lq), *others


def white_noise(seeds: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Gaussian noise that follows from each sample's seed alone, on any device.

    Numbers of pixels and seed are hashed (the finaliser of MurmurHash3, in 32 bits) to two evenly
    spread ones, and these made Gaussian by Box and Muller's transform.

    Args:
        seeds: ``(N,)``, whole numbers of 0 to 2**31 - 1.
        shape: Of one sample's noise.

    Returns:
        ``(N, *shape)`` float32, of mean 0 and variance 1.
    """
    values = math.prod(shape)
    count = -(-values // 2)
    index = torch.arange(count, device=seeds.device, dtype=torch.int32)
    key = _mixed(seeds.to(torch.int32))[:, None]
    first, second = (_mixed(_mixed(index + start) ^ key) for start in (0, count))
    even = ((bits & 0xFFFFFF).float() / 2**24 for bits in (first, second))
    radius, turn = next(even), 2 * math.pi * next(even)
    radius = (-2 * (1 - radius).log()).sqrt()
    drawn = torch.cat([radius * turn.cos(), radius * turn.sin()], 1)
    return drawn[:, :values].reshape(-1, *shape)


def _mixed(bits: Tensor) -> Tensor:
    """Every bit of an int32 depends on every other. Multiplying wraps around."""
    bits = bits ^ (bits >> 16 & 0xFFFF)
    bits = bits * -2048144789  # 0x85EBCA6B
    bits = bits ^ (bits >> 13 & 0x7FFFF)
    bits = bits * -1028477387  # 0xC2B2AE35
    return bits ^ (bits >> 16 & 0xFFFF)


def _of_kind(noise: Tensor, kind: Tensor) -> Tensor:
    inner = noise[:, :, CORRELATION:-CORRELATION]
    wide = pad(noise, (CORRELATION, CORRELATION, 0, 0), mode="reflect")
    correlated = CORRELATED_GAIN * _blurred(wide, CORRELATED_SIGMA)
    found = torch.where(kind == NOISE.index("correlated"), correlated, inner)
    return torch.where(kind == NOISE.index("grey"), inner[:, :1], found)


def _spread(lq: Tensor, camera: Mapping[str, Tensor]) -> Tensor:
    """Standard deviation of the noise at each pixel, levels; of grey noise after green."""
    seen = torch.where(camera["noise"] == NOISE.index("grey"), lq[:, 1:2], lq) / 255
    light = decode(seen)
    # The display curve's steepness: as seen from a level below to a level above.
    low, high = ((seen + step / 255).clamp(0, 1) for step in (-1, 1))
    steep = (high - low) / (decode(high) - decode(low))
    return 255 * steep * (camera["shot"] * light + camera["read"] ** 2).sqrt()


def _blurred(levels: Tensor, sigma: float) -> Tensor:
    """By a Gaussian of 7 taps, without the 3 rows and columns at each edge."""
    away = torch.arange(-3, 4, device=levels.device, dtype=levels.dtype)
    taps = (-(away**2) / (2 * sigma**2)).exp()
    taps = taps / taps.sum()
    flat = levels.flatten(0, 1)[:, None]
    flat = conv2d(conv2d(flat, taps.reshape(1, 1, 7, 1)), taps.reshape(1, 1, 1, 7))
    return flat.unflatten(0, levels.shape[:2])[:, :, 0]


def _resized(levels: Tensor, rows: Tensor) -> Tensor:
    """Scaled down to some rows and columns, by area, and back up, bicubically; both as products."""
    size = levels.shape[-1]
    index = torch.arange(size, device=levels.device, dtype=levels.dtype)
    share = size / rows  # (N, 1, 1, 1): pixels to a row of the small picture
    low = torch.maximum(index[:, None] * share, index)
    high = torch.minimum((index[:, None] + 1) * share, index + 1)
    down = (high - low).clamp(min=0) / share
    small = (down @ levels @ down.mT + 0.5).floor()

    at = (index[:, None] + 0.5) / share - 0.5
    first = at.floor()
    away = at - first
    taps = torch.cat([_cubic(away + 1), _cubic(away), _cubic(1 - away), _cubic(2 - away)], -1)
    places = first + torch.arange(-1, 3, device=levels.device)
    places = torch.minimum(places.clamp(min=0), rows - 1).long()
    up = torch.zeros_like(down).scatter_add_(-1, places, taps)
    return (up @ small @ up.mT).round().clamp(0, 255)


def _cubic(away: Tensor) -> Tensor:
    near = ((CUBIC + 2) * away - (CUBIC + 3)) * away**2 + 1
    far = ((CUBIC * away - 5 * CUBIC) * away + 8 * CUBIC) * away - 4 * CUBIC
    return torch.where(away <= 1, near, far)
