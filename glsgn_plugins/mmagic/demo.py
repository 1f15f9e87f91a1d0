"""``python -m glsgn_plugins.mmagic.demo``: the demo's fine-tuning by ``mim train``, ``mim test``.

The data are those of :mod:`glsgn_plugins.demo`. It works in ``demo/`` of the current folder; what
is there already is reused, and an interrupted training goes on where it stopped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config

from glsgn_plugins import demo
from glsgn_plugins.pretrained import pretrained_file
from glsgn_plugins.shipped import find_shipped
from glsgn_plugins.upstream import mend_basicsr

CONFIG = "glsgn_derain_demo.py"


def mim(command: str, config: Path, *more: str) -> None:
    """Run ``mim`` of this environment without a GPU, and stop the demo where it fails."""
    argv = [sys.executable, "-W", "ignore", "-m", "mim", command, "mmagic", str(config)]
    done = subprocess.run([*argv, "--gpus", "0", *more], check=False)
    if done.returncode:
        sys.exit(f"demo: mim {command} failed with exit code {done.returncode}, see above")


def main() -> None:
    """Data, training, test, picture; each only as far as it isn't there yet."""
    config = find_shipped(CONFIG, "mmagic_configs", ".py")
    cfg = Config.fromfile(config)
    demo.DEMO.mkdir(exist_ok=True)
    demo.prepare()
    # Another start, config or other data are another training.
    configs, images = (
        sorted(folder.rglob(kind))
        for folder, kind in ((config.parent, "*.py"), (demo.DATA, "*.png"))
    )
    made_from = demo.digest(pretrained_file(demo.TASK), *configs, *images)
    folder = demo.DEMO / f"mmagic_{made_from[:8]}"
    weights = folder / f"iter_{cfg.train_cfg.max_iters}.pth"
    if weights.is_file():
        print(f"Reusing the weights in {weights}; remove it to train anew", flush=True)
    else:
        mim("train", config, "--work-dir", str(folder), "--resume")
    tested = folder / "test"
    mim("test", config, "--checkpoint", str(weights), "--work-dir", str(tested))
    # Input, output and truth side by side.
    shown = max(tested.rglob(f"{demo.UNSEEN}_*.png"), key=lambda file: file.stat().st_mtime)
    restored = np.hsplit(cv2.imread(str(shown)), 3)[1]
    mend_basicsr()  # whose metrics score both demos alike
    demo.show(restored, demo.DEMO / "before_after_mmagic.png")


if __name__ == "__main__":
    main()
