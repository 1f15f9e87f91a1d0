"""The preset ``real``: clean ones among the samples, weather, and a camera before and after it.

A share of the samples is clean, or so nearly that nothing needs to be done, and their truth is
their input: weights that never saw such change what is right as it is. (The one fine-tune of ERRNet
on OpenRR-5k that beat its baseline had them.)

A camera before the weather is part of the scene: input and truth have all of it. Of a camera after
the weather they share what the network is to leave alone; see
:mod:`~glsgn_plugins.degradations.camera`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from glsgn_plugins.degradations.camera import Camera, CameraParameters
from glsgn_plugins.degradations.depth import overview
from glsgn_plugins.degradations.light import Image, check_image
from glsgn_plugins.degradations.place import Place
from glsgn_plugins.degradations.ranges import RangedModel
from glsgn_plugins.degradations.real_haze import RealHaze, RealHazeParameters
from glsgn_plugins.degradations.real_rain import RealRain, RealRainParameters
from glsgn_plugins.degradations.real_reflection import RealReflection, RealReflectionParameters

Weather = RealRain | RealReflection | RealHaze
WeatherParameters = RealRainParameters | RealReflectionParameters | RealHazeParameters

WEATHER: dict[str, tuple[type[Weather], type[WeatherParameters]]] = {
    "rain": (RealRain, RealRainParameters),
    "reflection": (RealReflection, RealReflectionParameters),
    "haze": (RealHaze, RealHazeParameters),
}
FAINT = 0.06
"""Most of the weather that is left in a sample that is nearly clean."""


@dataclass(frozen=True)
class RealParameters:
    """One sample of the preset ``real``.

    Attributes:
        kind: ``rain``, ``reflection`` or ``haze``.
        weather: As of that kind.
        faint: Share of the weather that is there, 0 to 1, where the truth is to be the input;
            ``None`` elsewhere: all of the weather is there, and the truth is without it.
        before: What the photograph went through before the weather.
        after: What happens to it after the weather.
        grey: Input and truth are black and white.
    """

    kind: str
    weather: WeatherParameters
    faint: float | None
    before: CameraParameters | None
    after: CameraParameters | None
    grey: bool = False

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RealParameters:
        """The inverse of ``dataclasses.asdict``, after JSON."""
        cameras = {
            key: record[key] and CameraParameters.from_record(record[key])
            for key in ("before", "after")
        }
        weather = WEATHER[record["kind"]][1].from_record(record["weather"])
        return cls(**{**record, **cameras, "weather": weather})

    def pair(
        self, image: Image, companion: Any = None, place: Place | None = None
    ) -> tuple[Image, Image]:
        """The input made of a photograph, and its truth.

        Args:
            image: ``(H, W, 3)``, RGB, uint8 or uint16.
            companion: What the weather needs: the reflected photograph; the whole photograph's
                :func:`~glsgn_plugins.degradations.depth.thumbnail`, or for haze its depth map.
                Haze and rain make the thumbnail of the image where that is the whole.
            place: Where the image lies in its photograph; by default it is the whole. A window
                shows the weather that the whole shows there; noise and JPEG are its own.

        Returns:
            Both in the shape and type of ``image``.

        Raises:
            InputError: It isn't such an image, or the companion doesn't do.
        """
        lq, gt = self._coloured(image, companion, place)
        if not self.grey:
            return lq, gt
        grey = _grey(lq)
        return grey, grey if gt is lq else _grey(gt)

    def _coloured(self, image: Image, companion: Any, place: Place | None) -> tuple[Image, Image]:
        check_image(image)
        if self.kind != "reflection":
            companion = overview(companion, image, place)
        if self.before is not None:
            image = self.before.apply(image)
        if self.faint == 0:
            lq = gt = image
        else:
            lq, gt = self.weather.pair(image, companion, place)
        if self.faint is not None:
            lq = np.asarray(cv2.addWeighted(lq, self.faint, gt, 1 - self.faint, 0))
            if self.after is not None:
                lq = self.after.apply(lq)
            return lq, lq
        if self.after is not None:
            lq, gt = self.after.pair(lq, gt)
        return lq, gt

    def apply(self, image: Image, companion: Any = None, place: Place | None = None) -> Image:
        """The input alone; see :meth:`pair`."""
        return self.pair(image, companion, place)[0]


def _grey(image: Image) -> Image:
    """Luma of display values (BT.601), which is what most programs make of a picture."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB))


@dataclass(frozen=True)
class Real(RangedModel):
    """What samples of the preset ``real`` are drawn from.

    Attributes:
        kind: ``rain``, ``reflection`` or ``haze``.
        weather: Its ranges.
        identity: Share of the samples whose truth is the input: half clean, half nearly so.
        before: Share of the photographs that a camera had before the weather.
        after: Share that a camera has after it.
        grey: Share that is black and white in the end, input and truth.
    """

    kind: str
    weather: Weather
    identity: float = 0.1
    before: float = 0.3
    after: float = 0.7
    grey: float = 0.05

    SHARES = frozenset({"identity", "before", "after", "grey"})

    def _check(self, name: str, value: object) -> None:
        if name in self.SHARES:
            super()._check(name, value)

    def sample(self, rng: np.random.Generator) -> RealParameters:
        """Draw one sample."""
        alike, clean, faint, earlier, later = rng.random(5)
        cameras = [Camera().sample(rng) for _ in range(2)]
        left = 0.0 if clean < 0.5 else FAINT * float(faint)
        return RealParameters(
            kind=self.kind,
            weather=self.weather.sample(rng),
            faint=left if alike < self.identity else None,
            before=cameras[0] if earlier < self.before else None,
            after=cameras[1] if later < self.after else None,
            grey=bool(rng.random() < self.grey),
        )
