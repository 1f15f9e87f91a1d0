"""Batches of clean crops and their recipes to inputs and truths."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from glsgn_plugins.degradations.camera import CORRELATION
from glsgn_plugins.degradations.on_device.camera import decode, encode, photographed, white_noise
from glsgn_plugins.degradations.on_device.jpeg import luma_of
from glsgn_plugins.degradations.on_device.recipe import CAMERA, FADES, NUMBERS

Numbers = dict[str, Tensor]


def degrade(
    clean: Tensor, recipe: Mapping[str, Tensor], noise: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Inputs and truths of a batch. Nothing is read from the device; not for use under autocast.

    Args:
        clean: ``(N, 3, S, S)`` uint8, RGB: crops of photographs.
        recipe: As of :func:`~glsgn_plugins.degradations.on_device.recipe`, stacked, on the same
            device.
        noise: Of the camera before the weather and of that after it, in place of
            :func:`~glsgn_plugins.degradations.on_device.camera.white_noise` of the recipe's seeds.

    Returns:
        ``lq`` and ``gt``, as ``clean``.
    """
    with torch.no_grad():
        numbers = {
            name: value.reshape(-1, 1, 1, 1)
            for name, value in zip(NUMBERS, recipe["numbers"].unbind(1))
        }
        if noise is None:
            shape = (3, clean.shape[2] + 2 * CORRELATION, clean.shape[3])
            before, after = (white_noise(seeds, shape) for seeds in recipe["seeds"].unbind(1))
        else:
            before, after = noise
        steps = recipe["jpeg_steps"]
        (scene,) = photographed([clean.float()], _camera(numbers, "before"), steps[:, 0], before)
        lq, gt = _weather(scene, recipe, numbers)
        lq = (lq * numbers["faint"] + gt * (1 - numbers["faint"])).round()
        identity = numbers["identity"] > 0
        gt = torch.where(identity, lq, gt)
        lq, gt = photographed([lq, gt], _camera(numbers, "after"), steps[:, 1], after)
        gt = torch.where(identity, lq, gt)
        lq, gt = (_turned(_grey(image, numbers), numbers) for image in (lq, gt))
        return lq.to(torch.uint8), gt.to(torch.uint8)


def _camera(numbers: Numbers, when: str) -> Numbers:
    return {name: numbers[f"{when}_{name}"] for name in CAMERA}


def _weather(
    scene: Tensor, recipe: Mapping[str, Tensor], numbers: Numbers
) -> tuple[Tensor, Tensor]:
    """Input and truth, levels from 0 to 255, of a scene in levels."""
    size = scene.shape[-1]
    scale, offset = _over_crop(recipe["maps"], numbers, "maps", size).chunk(2, 1)
    shown = scene / 255
    in_light = numbers["in_light"] > 0
    seen = torch.where(in_light, decode(shown), shown)
    seen = (seen * scale + offset).clamp(0, 1)
    shown = torch.where(in_light, encode(seen), seen)
    gt = torch.where(numbers["truth_behind"] > 0, (shown * 255).round(), scene)

    light = _over_crop(recipe["light"], numbers, "light", size)
    layer = recipe["layer"].float()
    added = layer * light
    encoded = (encode(added.clamp(0, 1)) - numbers["cut"]).clamp(min=0)
    added = torch.where(numbers["encoded"] > 0, encoded, added)
    fade = torch.where(numbers["fade"] == FADES.index("layer"), layer, added)
    fade = torch.where(numbers["fade"] == FADES.index("none"), 0, fade)
    in_light = numbers["layer_in_light"] > 0
    seen = torch.where(in_light, decode(shown), shown)
    seen = (seen * (1 - fade) + added).clamp(0, 1)
    return (torch.where(in_light, encode(seen), seen) * 255).round(), gt


def _over_crop(maps: Tensor, numbers: Numbers, name: str, size: int) -> Tensor:
    """Maps ``(N, C, K, K)`` at each pixel of a crop, by linear interpolation, as two products."""
    knots = torch.arange(maps.shape[-1], device=maps.device, dtype=torch.float32)
    pixels = torch.arange(size, device=maps.device, dtype=torch.float32)[:, None]

    def weights(corner: str, step: str) -> Tensor:
        at = numbers[f"{name}_{corner}"] + numbers[f"{name}_{step}"] * pixels
        return (1 - (at - knots).abs()).clamp(min=0)

    return weights("top", "down") @ maps.float() @ weights("left", "right").mT


def _grey(levels: Tensor, numbers: Numbers) -> Tensor:
    return torch.where(numbers["grey"] > 0, luma_of(levels), levels)


def _turned(levels: Tensor, numbers: Numbers) -> Tensor:
    levels = torch.where(numbers["across"] > 0, levels.flip(3), levels)
    levels = torch.where(numbers["down"] > 0, levels.flip(2), levels)
    return torch.where(numbers["turned"] > 0, levels.mT, levels)
