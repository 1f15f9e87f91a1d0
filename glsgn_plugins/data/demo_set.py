"""The demos' set of misty rain, made of photographs in scikit-image's wheel.

In the package, not in ``examples/``, since a registered dataset makes it as well: MMagic's
``DemoRainDataset``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from glsgn_plugins.data.generate import generate_set
from glsgn_plugins.data.set_records import Settings
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.atomic import atomic_write_into

DEMO = Path("demo")
"""Where the demos work, in the current folder."""
DATA = DEMO / "misty_rain"

# BasicSR requires scikit-image. Neither coffee.png nor astronaut.png is trained on, here or for the
# shipped weights.
TRAIN_PHOTOS = ("chelsea.png", "rocket.jpg", "motorcycle_left.png")
UNSEEN_PHOTO = "coffee.png"
RAINS_PER_PHOTO = 8
VEIL = (0.02, 0.05)
"""Of rain too far away to be seen as streaks: one even kind of mist, which the weights can be
fine-tuned for."""

SEED = 2207


def photo(name: str) -> Path:
    """One of scikit-image's photographs.

    Raises:
        FileNotFoundError: This version of scikit-image hasn't got it.
    """
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not in this scikit-image; install scikit-image 0.20+")
    return path


def make_data(folder: Path) -> None:
    """``train`` and ``val``, each with ``lq`` and ``gt``, as ``glsgn synthesize`` makes them.

    Raises:
        InputError: A photograph can't be used, or nothing can be written.
    """
    for phase, names, rains in (
        ("train", TRAIN_PHOTOS, RAINS_PER_PHOTO),
        ("val", (UNSEEN_PHOTO,), 1),
    ):
        clean = folder / "clean" / phase
        clean.mkdir(parents=True)
        for name in names:
            shutil.copyfile(photo(name), clean / name)
        settings = Settings(
            str(clean),
            {"type": "rain", "preset": "plain", "veil": list(VEIL)},
            per_image=rains,
            seed=SEED,
        )
        for problem in generate_set(folder / phase, settings, workers=1):
            if problem is not None:
                raise InputError(problem)


def prepare() -> str:
    """The set in ``DATA``, made in a scratch folder so that it is whole or absent.

    Returns:
        What was done, for whoever waits.

    Raises:
        InputError: As of :func:`make_data`.
    """
    if DATA.is_dir():
        return f"Reusing the rain set in {DATA}"
    DEMO.mkdir(exist_ok=True)
    with atomic_write_into(DEMO) as scratch:
        make_data(scratch / DATA.name)
    return f"Made a set of misty rain from {len(TRAIN_PHOTOS)} photographs in {DATA}"
