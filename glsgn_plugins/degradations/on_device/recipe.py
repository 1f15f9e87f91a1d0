"""What a crop's degradation is made of: arrays of fixed shapes, so that samples make a batch.

Each weather is the same two steps. What lies between the camera and the scene dims it and adds to
it, by smooth maps over the photograph: ``v = scale * J + offset``. Then streaks or a reflection
are laid over it: ``v = v * (1 - fade) + layer * light``, where the layer is as fine as the crop,
its light another smooth map, and ``fade`` nothing, the layer, or the layer's light (a screen).
Either step is in linear light or in display values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glsgn_plugins.degradations.camera import NOISE, CameraParameters
from glsgn_plugins.degradations.depth import GRID
from glsgn_plugins.degradations.haze import HazeParameters
from glsgn_plugins.degradations.light import Image
from glsgn_plugins.degradations.on_device.jpeg import quantisation
from glsgn_plugins.degradations.place import Place
from glsgn_plugins.degradations.rain import RainParameters
from glsgn_plugins.degradations.real import Real, RealParameters
from glsgn_plugins.degradations.real_haze import RealHazeParameters
from glsgn_plugins.degradations.real_rain import AROUND, RealRainParameters
from glsgn_plugins.degradations.real_reflection import RealReflectionParameters
from glsgn_plugins.degradations.reflection import Reflection, ReflectionParameters

FADES = ("none", "layer", "light")
"""What the scene fades by, behind a layer: its place here is the number in a recipe."""
WHEN = ("before", "after")
"""A recipe's two cameras: when they take the picture, by the weather."""
CAMERA = (*("red", "green", "blue"), "gamma", "rows", "noise", "shot", "read", "sharpen", "jpeg")
NUMBERS = (
    *("in_light", "truth_behind", "layer_in_light", "encoded", "cut", "fade"),
    *("faint", "identity", "grey"),
    *("across", "down", "turned"),
    *("maps_top", "maps_left", "maps_down", "maps_right"),
    *("light_top", "light_left", "light_down", "light_right"),
    *(f"before_{name}" for name in CAMERA),
    *(f"after_{name}" for name in CAMERA),
)
"""What the places of a recipe's ``numbers`` mean."""


class Shapes(NamedTuple):
    """How large the arrays of a recipe are; alike for all samples of a dataset.

    Attributes:
        size: Rows and columns of the crops.
        layer: Channels of the layer; 0 where no sample has one.
        maps: Rows and columns of the maps of haze, and of what glass lets through.
        light: Rows and columns of the map of the layer's light.
    """

    size: int
    layer: int
    maps: int
    light: int


def shapes_of(models: Iterable[Any], size: int) -> Shapes:
    """The smallest shapes that hold what any of some degradations draws.

    Args:
        models: ``Rain``, ``Reflection``, ``Haze`` or ``Real``.
        size: Rows and columns of the crops.
    """
    layer, maps, light = 0, 3, 3  # knots that one colour needs: one beyond either edge
    for model in models:
        kind = model.kind if isinstance(model, Real) else None
        if kind is not None:
            maps = GRID + 4
        if kind == "rain":
            light = max(light, -(-GRID // AROUND) + 4)
        if kind == "reflection":
            light = GRID + 4
        reflecting = kind == "reflection" or isinstance(model, Reflection)
        layer = max(layer, 0 if kind == "haze" else 3 if reflecting else 1)
    return Shapes(size, layer, maps, light)


class Terms(NamedTuple):
    """One weather over a crop. Maps are over the whole photograph, ``(h, w, 3)``.

    Attributes:
        in_light: ``scale`` and ``offset`` are of linear light; else of display values.
        scale: Share of the scene that is left.
        offset: What is added to it.
        truth_behind: The truth is the scene after these two; else as it was before.
        layer_in_light: The layer is laid over linear light; else over display values.
        layer: ``(S, S)`` or ``(S, S, 3)``, from 0 up; ``None`` where there is none.
        light: By which the layer is multiplied.
        encoded: What that gives is linear light, and is laid over as display values.
        cut: What is taken off these.
        fade: One of :data:`FADES`.
    """

    in_light: bool = False
    scale: NDArray[Any] = np.ones((1, 1, 3), np.float32)
    offset: NDArray[Any] = np.zeros((1, 1, 3), np.float32)
    truth_behind: bool = False
    layer_in_light: bool = False
    layer: NDArray[Any] | None = None
    light: NDArray[Any] = np.ones((1, 1, 3), np.float32)
    encoded: bool = False
    cut: float = 0.0
    fade: str = "none"


def terms_of(parameters: Any, size: int, companion: Any, place: Place) -> Terms:
    """One weather as its two steps.

    Args:
        parameters: Of either preset's rain, reflection or haze.
        size: Rows and columns of the crop.
        companion: As of the parameters' ``pair``.
        place: Where the crop lies in its photograph.
    """
    shape = (size, size)
    if isinstance(parameters, RainParameters):
        there, light = 1 - parameters.clear(shape, place), (parameters.radiance,) * 3
        return Terms(layer_in_light=True, layer=there, light=_even(light), fade="layer")
    if isinstance(parameters, HazeParameters):
        there, light = 1 - parameters.clear(companion, shape, place), parameters.airlight
        return Terms(layer_in_light=True, layer=there, light=_even(light), fade="layer")
    if isinstance(parameters, ReflectionParameters):
        returned = parameters.reflected(companion, shape, place)
        returned *= parameters.gain(shape, place)[..., None]
        scale = _even((parameters.transmission,) * 3)
        return Terms(in_light=True, scale=scale, layer_in_light=True, layer=returned)
    if isinstance(parameters, RealHazeParameters):
        return Terms(parameters.light, *parameters.terms(companion))
    if isinstance(parameters, RealRainParameters):
        before = terms_of(parameters.veil, size, companion, place) if parameters.veil else Terms()
        return before._replace(
            layer_in_light=parameters.blend == "light",
            layer=parameters.mask(shape, place),
            light=parameters.light_of(companion),
            fade={"light": "layer", "added": "none", "screen": "light"}[parameters.blend],
        )
    assert isinstance(parameters, RealReflectionParameters)
    return _reflection(parameters, shape, companion, place)


def _reflection(
    parameters: RealReflectionParameters, shape: tuple[int, int], companion: Image, place: Place
) -> Terms:
    through, back = parameters.gains(place)
    return Terms(
        in_light=True,
        scale=through[..., None] * parameters.scene_gain,
        truth_behind=True,
        layer_in_light=parameters.blend == "light",
        layer=parameters.glass.reflected(companion, shape, place, parameters.lamps),
        light=back[..., None] * np.asarray(parameters.reflected, np.float32),
        encoded=parameters.blend != "light",
        cut=parameters.cut if parameters.blend == "overflow" else 0.0,
        fade="light" if parameters.blend == "screen" else "none",
    )


def _even(colour: Any) -> NDArray[np.float32]:
    """A map that is one colour."""
    return np.asarray(colour, np.float32).reshape(1, 1, 3)


def recipe(
    parameters: Any,
    shapes: Shapes,
    companion: Any,
    place: Place,
    turns: tuple[bool, bool, bool] = (False, False, False),
) -> dict[str, NDArray[Any]]:
    """What :func:`~glsgn_plugins.degradations.on_device.degrade` needs beside the clean crop.

    Args:
        parameters: Of either preset, as drawn.
        shapes: Of the dataset.
        companion: As of the parameters' ``pair``: for the preset ``real`` the photograph's
            thumbnail, for reflections the other photograph.
        place: Where the crop lies in its photograph.
        turns: Whether input and truth are then flipped left to right, then top to bottom, then
            rows and columns exchanged.

    Returns:
        ``numbers``, float32, as named by :data:`NUMBERS`; ``seeds``, ``(2,)`` int64, of the noise
        of the camera before and of that after the weather; ``maps``, ``(6, K, K)`` float16: scale
        and offset; ``light``, ``(3, k, k)`` float16; ``jpeg_steps``, ``(2, 2, 8, 8)`` float32, of
        either camera's quantisation; ``layer``, ``(C, S, S)`` float16.
    """
    numbers = dict.fromkeys(NUMBERS, 0.0) | {"faint": 1.0}
    numbers.update(zip(("across", "down", "turned"), map(float, turns)))
    weather, clean = parameters, False
    cameras = [CameraParameters(), CameraParameters()]
    if isinstance(parameters, RealParameters):
        weather = parameters.weather
        numbers["grey"] = float(parameters.grey)
        if parameters.faint is not None:
            numbers |= {"identity": 1.0, "faint": parameters.faint}
            clean = parameters.faint == 0
        cameras = [camera or CameraParameters() for camera in (parameters.before, parameters.after)]
    for when, camera in zip(WHEN, cameras):
        numbers |= _camera(when, camera, shapes.size)
    terms = Terms() if clean else terms_of(weather, shapes.size, companion, place)
    for name in ("in_light", "truth_behind", "layer_in_light", "encoded", "cut"):
        numbers[name] = float(getattr(terms, name))
    numbers["fade"] = float(FADES.index(terms.fade))
    both = np.concatenate(np.broadcast_arrays(terms.scale, terms.offset), axis=2)
    maps = _seen(both, shapes.size, place, shapes.maps, "maps", numbers)
    light = _seen(terms.light, shapes.size, place, shapes.light, "light", numbers)
    return {
        "numbers": np.array([numbers[name] for name in NUMBERS], np.float32),
        "seeds": np.array([camera.seed for camera in cameras], np.int64),
        "maps": maps.astype(np.float16),
        "light": light.astype(np.float16),
        "jpeg_steps": np.stack([quantisation(camera.jpeg or 100) for camera in cameras]),
        "layer": _layer(terms.layer, shapes),
    }


def _camera(when: str, camera: CameraParameters, size: int) -> dict[str, float]:
    noise = float(NOISE.index(camera.noise))
    rows = float(max(1, round(size * camera.resize)))
    steps = (camera.gamma, rows, noise, camera.shot, camera.read, camera.sharpen, camera.jpeg or 0)
    return {f"{when}_{name}": value for name, value in zip(CAMERA, (*camera.gain, *steps))}


def _seen(
    values: NDArray[Any], size: int, place: Place, side: int, name: str, numbers: dict[str, float]
) -> NDArray[np.float32]:
    """The part of a map that a crop shows, ``(C, side, side)``; notes in ``numbers`` where."""
    taken = []
    for axis, (first, whole, corner, step) in enumerate(
        ((place.top, place.height, "top", "down"), (place.left, place.width, "left", "right"))
    ):
        scale = values.shape[axis] / whole
        start = (first + 0.5) * scale - 0.5
        knot = int(np.floor(start))
        assert np.floor(start + scale * (size - 1)) + 1 < knot + side, (values.shape, place, side)
        taken.append(np.clip(np.arange(knot, knot + side), 0, values.shape[axis] - 1))
        numbers |= {f"{name}_{corner}": start - knot, f"{name}_{step}": scale}
    part = values[taken[0]][:, taken[1]]
    return np.ascontiguousarray(part.transpose(2, 0, 1), np.float32)


def _layer(layer: NDArray[Any] | None, shapes: Shapes) -> NDArray[np.float16]:
    if not shapes.layer:
        return np.zeros((1, 1, 1), np.float16)
    shape = (shapes.layer, shapes.size, shapes.size)
    if layer is None:
        return np.zeros(shape, np.float16)
    channels = layer[None] if layer.ndim == 2 else layer.transpose(2, 0, 1)
    return np.array(np.broadcast_to(channels, shape), np.float16, order="C")
