"""``python examples/demo.py``: the shipped weights at 4K, then fine-tuned by ``basicsr``.

Works in ``demo/`` and ``experiments/`` of the current folder; what is there already is reused, and
an interrupted training goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from demo_data import (
    DATA,
    DEMO,
    SEED,
    TASK,
    UNSEEN,
    UNSEEN_PHOTO,
    digest,
    photo,
    prepare,
    show,
)
from numpy.typing import NDArray

from glsgn_plugins.cli.glsgn import main as glsgn
from glsgn_plugins.degradations import Rain
from glsgn_plugins.io.atomic import atomic_write_into
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.pretrained import pretrained_file

TRAIN_OPTIONS = "glsgn_derain_demo.yml"
TEST_OPTIONS = "glsgn_derain_demo_test.yml"
WEIGHTS = DEMO / "glsgn_derain_demo.pth"
RECORD = DEMO / "trained.json"


def basicsr(command: str, options: Path, *more: str) -> None:
    """Run the ``basicsr`` command of this environment, and stop the demo where it fails."""
    argv = [sys.executable, "-W", "ignore", "-m", "glsgn_plugins.cli.basicsr", command]
    done = subprocess.run([*argv, "-opt", str(options), *more], check=False)
    if done.returncode:
        sys.exit(f"demo: basicsr {command} failed with exit code {done.returncode}, see above")


def restore_4k() -> None:
    """A rainy picture of 3840x2160 in ``demo/``, restored there with the shipped weights."""
    rainy, restored = DEMO / "rainy_4k.png", DEMO / "restored_4k.png"
    if not rainy.is_file():
        # No wheel holds a photograph of that size. It is soft, so no scores are taken of it.
        coffee = read_image(photo(UNSEEN_PHOTO))
        clean = cv2.resize(coffee, (3840, 2560), interpolation=cv2.INTER_CUBIC)
        degraded = Rain().sample(np.random.default_rng(SEED)).apply(clean[200:2360])
        with atomic_write_into(DEMO) as scratch:
            cv2.imwrite(str(scratch / rainy.name), degraded[..., ::-1])
    argv = ["restore", str(rainy), str(restored), "--task", TASK, "--compare", "--overwrite"]
    print(
        f"{rainy} is {UNSEEN_PHOTO} enlarged to 3840x2160, for want of a photograph of that size, "
        f"with rain drawn on it. Give your own to:\n  glsgn {' '.join(argv)}",
        flush=True,
    )
    if glsgn(argv):
        sys.exit("demo: glsgn restore failed, see above")
    print(f"Before and after: {restored}_compare.jpg\n", flush=True)


def train(options: Path) -> None:
    """``demo/glsgn_derain_demo.pth``, unless the same start, options and data have given it."""
    images = sorted(DATA.rglob("*.png"))
    made_from = digest(options, pretrained_file(TASK), *images)
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    if WEIGHTS.is_file() and record == {"made_from": made_from, "weights": digest(WEIGHTS)}:
        print(f"Reusing the weights in {WEIGHTS}; remove it to train anew", flush=True)
        return
    # An experiment that began with anything else is not this one's to resume.
    own = record.get("made_from") == made_from
    RECORD.write_text(json.dumps({"made_from": made_from}), encoding="utf-8")
    basicsr("train", options, *(["--auto_resume"] if own else []))
    opt = yaml.safe_load(options.read_text(encoding="utf-8"))
    trained = Path("experiments", opt["name"], "models", "net_g_latest.pth")
    with atomic_write_into(WEIGHTS.parent) as scratch:
        shutil.copyfile(trained, scratch / WEIGHTS.name)
    record = {"made_from": made_from, "weights": digest(WEIGHTS)}
    RECORD.write_text(json.dumps(record), encoding="utf-8")


def restored_by_basicsr(options: Path) -> Path:
    """Where ``basicsr test`` put the restored photograph."""
    opt = yaml.safe_load(options.read_text(encoding="utf-8"))
    folder = Path("results", opt["name"], "visualization", opt["datasets"]["test_1"]["name"])
    return folder / f"{UNSEEN}_{opt['val']['suffix']}.png"


def score(image: NDArray[Any], truth: NDArray[Any]) -> tuple[float, float]:
    """PSNR (decibels) and SSIM, by BasicSR's metrics."""
    from basicsr.metrics import calculate_psnr, calculate_ssim

    psnr = calculate_psnr(image, truth, crop_border=0)
    return psnr, calculate_ssim(image, truth, crop_border=0)


def main() -> None:
    """A 4K picture; data, fine-tuning, test, picture, each only as far as it isn't there yet."""
    from glsgn_plugins.compat import patch_basicsr
    from glsgn_plugins.io.shipped import find_shipped

    patch_basicsr()
    DEMO.mkdir(exist_ok=True)
    restore_4k()
    prepare()
    train(find_shipped(TRAIN_OPTIONS, "basicsr_options", ".yml"))
    test_options = find_shipped(TEST_OPTIONS, "basicsr_options", ".yml")
    basicsr("test", test_options)
    restored = cv2.imread(str(restored_by_basicsr(test_options)))
    show(restored, DEMO / "before_after.png", score)


if __name__ == "__main__":
    main()
