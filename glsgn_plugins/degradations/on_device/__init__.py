"""Degrading crops where they are trained on: batches on a GPU, instead of samples in a loader.

A loader's worker draws all that is random, as ever, and gives a clean crop with its recipe
(:func:`recipe`): streaks, reflected light and maps of haze, as small as they can be. What costs
most, which is light, cameras and JPEG over each pixel, is then done for a whole batch at once
(:func:`degrade`), by operations whose number doesn't depend on the batch.

The pictures are those of ``Parameters.pair`` to a level or two of 255, but for the noise of
cameras, which is as strong but another (:func:`~.camera.white_noise`). Of 8 bits, in crops of one
size. Our own.
"""

from glsgn_plugins.degradations.on_device.recipe import Shapes, recipe, shapes_of
from glsgn_plugins.degradations.on_device.weather import degrade

__all__ = ["Shapes", "degrade", "recipe", "shapes_of"]
