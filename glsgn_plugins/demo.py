"""``python -m glsgn_plugins.demo``: real photographs, rain, ``basicsr train``, ``basicsr test``.

Works in ``demo/`` and ``experiments/`` of the current folder; what is there already is reused, and
an interrupted training goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from glsgn_plugins.commands.glsgn import main as glsgn
from glsgn_plugins.writing import written_whole

DEMO = Path("demo")
TRAIN_OPTIONS = "glsgn_derain_demo.yml"
TEST_OPTIONS = "glsgn_derain_demo_test.yml"
WEIGHTS = DEMO / "glsgn_derain_demo.pth"
RECORD = DEMO / "trained.json"

# Photographs in scikit-image's wheel, which BasicSR requires. The last is never trained on.
TRAIN_PHOTOS = ("astronaut.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
UNSEEN_PHOTO = "coffee.png"
UNSEEN = Path(UNSEEN_PHOTO).stem
RAINS_PER_PHOTO = 8
SEED = 2207


def photo(name: str) -> Path:
    """One of scikit-image's photographs."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not in this scikit-image; install scikit-image 0.20+")
    return path


def make_data(folder: Path) -> None:
    """``train`` and ``val``, each with ``lq`` and ``gt``, by ``glsgn synthesize``."""
    for phase, names, rains in (
        ("train", TRAIN_PHOTOS, RAINS_PER_PHOTO),
        ("val", (UNSEEN_PHOTO,), 1),
    ):
        clean = folder / "clean" / phase
        clean.mkdir(parents=True)
        for name in names:
            shutil.copyfile(photo(name), clean / name)
        argv = ["synthesize", "rain", "--clean", str(clean), "--out", str(folder / phase)]
        argv += ["--per-image", str(rains), "--seed", str(SEED), "--workers", "1"]
        if glsgn(argv):
            sys.exit("demo: glsgn synthesize failed, see above")


def digest(*paths: Path) -> str:
    """One hash over the content of files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def basicsr(command: str, options: Path, *more: str) -> None:
    """Run the ``basicsr`` command of this environment, and stop the demo where it fails."""
    argv = [sys.executable, "-W", "ignore", "-m", "glsgn_plugins.commands.basicsr", command]
    done = subprocess.run([*argv, "-opt", str(options), *more], check=False)
    if done.returncode:
        sys.exit(f"demo: basicsr {command} failed with exit code {done.returncode}, see above")


def prepare() -> None:
    """The rain set in ``demo/data``, made in a scratch folder so that it is whole or absent."""
    data = DEMO / "data"
    if data.is_dir():
        print(f"Reusing the rain set in {data}", flush=True)
        return
    with written_whole(DEMO) as scratch:
        make_data(scratch / data.name)
    print(f"Made a rain set of {len(TRAIN_PHOTOS)} photographs in {data}", flush=True)


def train(options: Path) -> None:
    """``demo/glsgn_derain_demo.pth``, unless these options and this data have given it already."""
    made_from = digest(options, *sorted((DEMO / "data").rglob("*.png")))
    if RECORD.is_file() and WEIGHTS.is_file():
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        if record == {"made_from": made_from, "weights": digest(WEIGHTS)}:
            print(f"Reusing the weights in {WEIGHTS}; remove it to train anew", flush=True)
            return
    opt = yaml.safe_load(options.read_text(encoding="utf-8"))
    experiment = Path("experiments", opt["name"])
    # The experiment is this training's own only where it began with the same options.
    copied = experiment / options.name
    own = copied.is_file() and copied.read_text("utf-8").endswith(options.read_text("utf-8"))
    basicsr("train", options, *(["--auto_resume"] if own else []))
    with written_whole(WEIGHTS.parent) as scratch:
        shutil.copyfile(experiment / "models" / "net_g_latest.pth", scratch / WEIGHTS.name)
    record = {"made_from": made_from, "weights": digest(WEIGHTS)}
    RECORD.write_text(json.dumps(record), encoding="utf-8")


def restored_by_basicsr(options: Path) -> Path:
    """Where ``basicsr test`` put the restored photograph."""
    opt = yaml.safe_load(options.read_text(encoding="utf-8"))
    folder = Path("results", opt["name"], "visualization", opt["datasets"]["test_1"]["name"])
    return folder / f"{UNSEEN}_{opt['val']['suffix']}.png"


def show(restored: NDArray[Any], picture: Path) -> None:
    """Scores of the unseen photograph (8-bit BGR) before and after, and the picture."""
    from basicsr.metrics import calculate_psnr, calculate_ssim

    images = {
        "input": cv2.imread(str(DEMO / "data/val/lq" / f"{UNSEEN}.png")),
        "restored": restored,
        "truth": cv2.imread(str(DEMO / "data/val/gt" / f"{UNSEEN}.png")),
    }
    columns = []
    scores = {}
    for label, image in images.items():
        text = label
        if label != "truth":
            psnr = calculate_psnr(image, images["truth"], crop_border=0)
            ssim = calculate_ssim(image, images["truth"], crop_border=0)
            scores[label] = psnr, ssim
            text += f"  {psnr:.2f} dB  {ssim:.4f}"
        bar = np.full((28, image.shape[1], 3), 255, np.uint8)
        cv2.putText(bar, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.vstack([bar, image]))
    with written_whole(picture.parent) as scratch:
        cv2.imwrite(str(scratch / picture.name), np.hstack(columns))

    print(f"\n{UNSEEN_PHOTO}, never trained on (RGB, no border cropped):")
    for label, (psnr, ssim) in scores.items():
        print(f"  {label:<9} PSNR {psnr:6.2f} dB   SSIM {ssim:.4f}")
    gains = (b - a for a, b in zip(scores["input"], scores["restored"]))
    print("  gain      PSNR {:+6.2f} dB   SSIM {:+.4f}".format(*gains))
    print(f"Picture: {picture}")


def main() -> None:
    """Data, training, test, picture; each only as far as it isn't there yet."""
    from glsgn_plugins.shipped import find_shipped
    from glsgn_plugins.upstream import mend_basicsr

    mend_basicsr()
    DEMO.mkdir(exist_ok=True)
    prepare()
    train(find_shipped(TRAIN_OPTIONS, "basicsr_options", ".yml"))
    test_options = find_shipped(TEST_OPTIONS, "basicsr_options", ".yml")
    basicsr("test", test_options)
    restored = cv2.imread(str(restored_by_basicsr(test_options)))
    show(restored, DEMO / "before_after.png")


if __name__ == "__main__":
    main()
