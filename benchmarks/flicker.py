"""How much films would flicker if each frame were restored by itself.

    python benchmarks/flicker.py rain haze --photographs a.bmp b.bmp

A still camera's clip is made of each photograph: the scene and the haze or glass stand still,
streaks fall anew and noise is drawn anew in each frame. So the truth doesn't differ from frame to
frame, and all that restored frames differ by is streaks that were left, noise, and what the
network made of each frame otherwise.

- *pixels*: mean difference of a pixel from one frame to the next, of 255;
- *light*: the same of means over squares of 64, where streaks and noise average out: what people
  see as flicker;
- *worst*: the largest difference of such a square.
"""

from __future__ import annotations

import argparse
import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from results import resized, sample_degraded
from tqdm import tqdm

from glsgn_plugins import load_pretrained, restore_array
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import WEATHER
from glsgn_plugins.degradations.camera import CameraParameters
from glsgn_plugins.degradations.real import RealParameters
from glsgn_plugins.io.images import read_image

SIDE = 64
"""Of the squares whose light is compared."""
NOISE = CameraParameters(noise="coloured", shot=2e-4, read=0.002)
"""Of a film in daylight; the rest of a camera stands still."""


def anew(parameters: RealParameters, frame: int) -> RealParameters:
    """The same weather a frame later."""
    weather: Any = parameters.weather
    if parameters.kind == "rain":
        layers = tuple(
            dataclasses.replace(layer, seed=layer.seed + 1009 * frame) for layer in weather.layers
        )
        weather = dataclasses.replace(weather, layers=layers)
    return dataclasses.replace(
        parameters, weather=weather, after=dataclasses.replace(NOISE, seed=frame)
    )


def differences(frames: list[NDArray[np.uint8]]) -> tuple[float, float, float]:
    """Pixels, light and worst, as above."""
    found = []
    for one, two in pairwise(frames):
        change = two.astype(np.float32) - one
        rows, cols = (side // SIDE for side in change.shape[:2])
        squares = cv2.resize(
            change[: rows * SIDE, : cols * SIDE], (cols, rows), interpolation=cv2.INTER_AREA
        )
        found.append((np.abs(change).mean(), np.abs(squares).mean(), np.abs(squares).max()))
    pixels, light, worst = np.array(found).T
    return float(pixels.mean()), float(light.mean()), float(worst.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tasks", nargs="+", choices=WEATHER)
    parser.add_argument("--photographs", nargs="+", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--long", type=int, default=1280, help="longer side of the clip, pixels")
    args = parser.parse_args()
    images = [np.asarray(read_image(path)) for path in args.photographs]
    images = [resized(image, args.long / max(image.shape)) for image in images]
    print("| task | photograph | frames | pixels | light | worst |")
    print("| --- | --- | --- | --- | --- | --- |")
    for task in args.tasks:
        net = load_pretrained(task)
        model = make_degradation({"type": task})
        for k, (path, image) in enumerate(zip(args.photographs, images)):
            parameters = sample_degraded(model, np.random.default_rng(k))
            companion = images[k - 1] if task == "reflection" else None
            moments = [anew(parameters, frame) for frame in range(args.frames)]
            lq = [moment.pair(image, companion)[0] for moment in moments]
            bar = tqdm(lq, desc=f"{task}, {path.stem}", leave=False, unit="frame", disable=None)
            shown = {"input": lq, "restored": [restore_array(net, frame) for frame in bar]}
            for name, frames in shown.items():
                pixels, light, worst = differences(frames)
                figures = f"{pixels:.2f} | {light:.3f} | {worst:.2f}"
                print(f"| {task} | {path.stem} | {name} | {figures} |")


if __name__ == "__main__":
    main()
