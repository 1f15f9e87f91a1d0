"""``python examples/demo_mmagic.py``: the demo's fine-tuning by ``mim train``, ``mim test``.

The data are those of :mod:`demo_data`. It works in ``demo/`` of the current folder; what
is there already is reused, and an interrupted training goes on where it stopped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import demo_data
import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

import glsgn_plugins.mmagic  # noqa: F401  # first: without it MMagic's metrics don't import
from glsgn_plugins.io.pretrained import pretrained_file
from glsgn_plugins.io.shipped import find_shipped

CONFIG = "glsgn_derain_demo.py"


def mim(command: str, config: Path, *more: str) -> None:
    """Run ``mim`` of this environment without a GPU, and stop the demo where it fails."""
    argv = [sys.executable, "-W", "ignore", "-m", "mim", command, "mmagic", str(config)]
    done = subprocess.run([*argv, "--gpus", "0", *more], check=False)
    if done.returncode:
        sys.exit(f"demo: mim {command} failed with exit code {done.returncode}, see above")


def score(image: NDArray[Any], truth: NDArray[Any]) -> tuple[float, float]:
    """PSNR (decibels) and SSIM, by MMagic's metrics."""
    from mmagic.evaluation.metrics.psnr import psnr
    from mmagic.evaluation.metrics.ssim import ssim

    return psnr(image, truth), ssim(image, truth)


def main() -> None:
    """Data, training, test, picture; each only as far as it isn't there yet."""
    config = find_shipped(CONFIG, "mmagic_configs", ".py")
    cfg = Config.fromfile(config)
    demo_data.DEMO.mkdir(exist_ok=True)
    demo_data.prepare()
    # Another start, config or other data are another training.
    configs, images = (
        sorted(folder.rglob(kind))
        for folder, kind in ((config.parent, "*.py"), (demo_data.DATA, "*.png"))
    )
    made_from = demo_data.digest(pretrained_file(demo_data.TASK), *configs, *images)
    folder = demo_data.DEMO / f"mmagic_{made_from[:8]}"
    weights = folder / f"iter_{cfg.train_cfg.max_iters}.pth"
    if weights.is_file():
        print(f"Reusing the weights in {weights}; remove it to train anew", flush=True)
    else:
        mim("train", config, "--work-dir", str(folder), "--resume")
    tested = folder / "test"
    mim("test", config, "--checkpoint", str(weights), "--work-dir", str(tested))
    # Input, output and truth side by side.
    shown = max(tested.rglob(f"{demo_data.UNSEEN}_*.png"), key=lambda file: file.stat().st_mtime)
    restored = np.hsplit(cv2.imread(str(shown)), 3)[1]
    demo_data.show(restored, demo_data.DEMO / "before_after_mmagic.png", score)


if __name__ == "__main__":
    main()
