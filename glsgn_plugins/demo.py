"""``python -m glsgn_plugins.demo``: the shipped weights at 4K, then fine-tuned by ``basicsr``.

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
from glsgn_plugins.data.images import read_image
from glsgn_plugins.degradations import Rain
from glsgn_plugins.inference import restore_array
from glsgn_plugins.pretrained import load_pretrained, pretrained_file
from glsgn_plugins.writing import written_whole

DEMO = Path("demo")
DATA = DEMO / "misty_rain"
TASK = "rain"
TRAIN_OPTIONS = "glsgn_derain_demo.yml"
TEST_OPTIONS = "glsgn_derain_demo_test.yml"
WEIGHTS = DEMO / "glsgn_derain_demo.pth"
RECORD = DEMO / "trained.json"

# Photographs in scikit-image's wheel, which BasicSR requires. Neither coffee.png nor astronaut.png
# is trained on, here or for the shipped weights.
TRAIN_PHOTOS = ("chelsea.png", "rocket.jpg", "motorcycle_left.png")
UNSEEN_PHOTO = "coffee.png"
UNSEEN = Path(UNSEEN_PHOTO).stem
RAINS_PER_PHOTO = 8
VEIL = (0.02, 0.05)
"""Of rain too far away to be seen as streaks: what the shipped weights have never been shown."""

SEED = 2207


def photo(name: str) -> Path:
    """One of scikit-image's photographs."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not in this scikit-image; install scikit-image 0.20+")
    return path


def make_data(
    folder: Path,
    photos: tuple[str, ...] = TRAIN_PHOTOS,
    veil: tuple[float, float] = VEIL,
) -> None:
    """``train`` and ``val``, each with ``lq`` and ``gt``, by ``glsgn synthesize``."""
    for phase, names, rains in (
        ("train", photos, RAINS_PER_PHOTO),
        ("val", (UNSEEN_PHOTO,), 1),
    ):
        clean = folder / "clean" / phase
        clean.mkdir(parents=True)
        for name in names:
            shutil.copyfile(photo(name), clean / name)
        argv = ["synthesize", "rain", "--clean", str(clean), "--out", str(folder / phase)]
        argv += ["--per-image", str(rains), "--seed", str(SEED), "--workers", "1"]
        argv += ["--preset", "plain", "--range", "veil", *map(str, veil)]
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
    """The rain set in ``DATA``, made in a scratch folder so that it is whole or absent."""
    if DATA.is_dir():
        print(f"Reusing the rain set in {DATA}", flush=True)
        return
    with written_whole(DEMO) as scratch:
        make_data(scratch / DATA.name)
    print(f"Made a set of misty rain from {len(TRAIN_PHOTOS)} photographs in {DATA}", flush=True)


def restore_4k() -> None:
    """A rainy picture of 3840x2160 in ``demo/``, restored there with the shipped weights."""
    rainy, restored = DEMO / "rainy_4k.png", DEMO / "restored_4k.png"
    if not rainy.is_file():
        # No wheel holds a photograph of that size. It is soft, so no scores are taken of it.
        coffee = read_image(photo(UNSEEN_PHOTO))
        clean = cv2.resize(coffee, (3840, 2560), interpolation=cv2.INTER_CUBIC)
        degraded = Rain().sample(np.random.default_rng(SEED)).apply(clean[200:2360])
        with written_whole(DEMO) as scratch:
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
    with written_whole(WEIGHTS.parent) as scratch:
        shutil.copyfile(trained, scratch / WEIGHTS.name)
    record = {"made_from": made_from, "weights": digest(WEIGHTS)}
    RECORD.write_text(json.dumps(record), encoding="utf-8")


def restored_by_basicsr(options: Path) -> Path:
    """Where ``basicsr test`` put the restored photograph."""
    opt = yaml.safe_load(options.read_text(encoding="utf-8"))
    folder = Path("results", opt["name"], "visualization", opt["datasets"]["test_1"]["name"])
    return folder / f"{UNSEEN}_{opt['val']['suffix']}.png"


def show(tuned: NDArray[Any], picture: Path) -> None:
    """Scores of the unseen photograph (8-bit BGR) before and after, and the picture."""
    from basicsr.metrics import calculate_psnr, calculate_ssim

    lq, gt = (cv2.imread(str(DATA / "val" / side / f"{UNSEEN}.png")) for side in ("lq", "gt"))
    shipped = restore_array(load_pretrained(TASK), lq[..., ::-1])[..., ::-1]
    images = {"input": lq, "shipped": shipped, "fine-tuned": tuned, "truth": gt}
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

    print(f"\n{UNSEEN_PHOTO} in misty rain, never trained on (RGB, no border cropped):")
    for label, (psnr, ssim) in scores.items():
        gain = psnr - scores["input"][0]
        print(f"  {label:<11} PSNR {psnr:6.2f} dB ({gain:+.2f})   SSIM {ssim:.4f}")
    print(f"Picture: {picture}")


def main() -> None:
    """A 4K picture; data, fine-tuning, test, picture, each only as far as it isn't there yet."""
    from glsgn_plugins.shipped import find_shipped
    from glsgn_plugins.upstream import mend_basicsr

    mend_basicsr()
    DEMO.mkdir(exist_ok=True)
    restore_4k()
    prepare()
    train(find_shipped(TRAIN_OPTIONS, "basicsr_options", ".yml"))
    test_options = find_shipped(TEST_OPTIONS, "basicsr_options", ".yml")
    basicsr("test", test_options)
    restored = cv2.imread(str(restored_by_basicsr(test_options)))
    show(restored, DEMO / "before_after.png")


if __name__ == "__main__":
    main()
