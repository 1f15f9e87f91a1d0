"""Rain, reflection and haze over clean photographs: physical models, seeded.

Each is two dataclasses: ranges (:class:`Rain`) whose ``sample(rng)`` draws parameters
(:class:`RainParameters`) whose ``pair(image)`` gives an input and its truth; ``apply(image)`` the
input alone. ``dataclasses.asdict`` of the parameters goes into JSON, ``from_record`` brings them
back, and the same parameters give the same picture.

The preset ``plain`` is :class:`Rain`, :class:`Reflection` and :class:`Haze`: one degradation in
linear light, whose truth is the image. The preset ``real`` is :class:`Real` around
:class:`RealRain`, :class:`RealReflection` or :class:`RealHaze`: what photographs and public sets
show, with clean samples and cameras, and truths as far as they can be known.
Needs numpy and OpenCV.
"""

from glsgn_plugins.degradations.haze import Haze, HazeParameters
from glsgn_plugins.degradations.place import Place
from glsgn_plugins.degradations.rain import Rain, RainLayer, RainParameters
from glsgn_plugins.degradations.real import WEATHER, Real, RealParameters
from glsgn_plugins.degradations.real_haze import RealHaze
from glsgn_plugins.degradations.real_rain import RealRain
from glsgn_plugins.degradations.real_reflection import RealReflection
from glsgn_plugins.degradations.reflection import Reflection, ReflectionParameters

Degradation = Rain | Reflection | Haze | Real
Parameters = RainParameters | ReflectionParameters | HazeParameters | RealParameters

PRESETS = ("real", "plain")
"""The first is the default."""

DEGRADATIONS: dict[str, type[Rain] | type[Reflection] | type[Haze]] = {
    "rain": Rain,
    "reflection": Reflection,
    "haze": Haze,
}
PARAMETERS: dict[str, type[RainParameters] | type[ReflectionParameters] | type[HazeParameters]] = {
    "rain": RainParameters,
    "reflection": ReflectionParameters,
    "haze": HazeParameters,
}

__all__ = [
    "DEGRADATIONS",
    "PARAMETERS",
    "PRESETS",
    "WEATHER",
    "Degradation",
    "Haze",
    "HazeParameters",
    "Parameters",
    "Place",
    "Rain",
    "RainLayer",
    "RainParameters",
    "Real",
    "RealHaze",
    "RealParameters",
    "RealRain",
    "RealReflection",
    "Reflection",
    "ReflectionParameters",
]
