"""What tests share: commands as subprocesses, small sets on disk, images as tensors."""

from __future__ import annotations

import filecmp
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from warm_commands import Started, is_warm

BIN = Path(sys.executable).parent

WARP_LEVELS = 0 if int(cv2.__version__.split(".")[0]) < 5 else 1
"""Grey levels by which warped pictures of 8 bits differ from window to window: OpenCV 5 takes
positions as they are, in float32, where OpenCV 4 rounds them to a 32nd of a pixel."""


def environment(**more: str) -> dict[str, str]:
    """For subprocesses: one thread, as several tests may share two cores; no requests, no noise."""
    fixed = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **fixed, **more}


def run_command(
    *argv: str, cwd: Path, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment, with these variables as well."""
    if is_warm(argv):
        return Started(argv, cwd, environment(**env)).wait(timeout)
    return start_command(*argv, cwd=cwd, timeout=timeout, **env)


def start_command(
    *argv: str, cwd: Path, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """The same with a Python of its own, started anew, as users start it."""
    return subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(**env),
        check=False,
    )


def run_code(code: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run lines of Python in a process that has imported nothing yet."""
    return start_command("python", "-c", code, cwd=cwd, **env)


def run_python(*argv: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """``python`` with arguments where other people's packages may have been imported already;
    this one and the frameworks have not."""
    return Started(("python", *argv), cwd, environment(**env)).wait(300)


def run_at_once(
    *argv: str, cwd: Path, of_each: Sequence[dict[str, str]]
) -> list[subprocess.CompletedProcess[str]]:
    """As many processes of a command, or of ``python``, as there are dicts of variables."""
    running = [Started(argv, cwd, environment(**env)) for env in of_each]
    return [one.wait(200) for one in running]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def of_ranks(count: int) -> list[dict[str, str]]:
    """The variables of a launcher's processes, as torchrun sets them."""
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    return [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def deep(image: np.ndarray) -> np.ndarray:
    """An 8-bit image with 16 bits."""
    return image.astype(np.uint16) * 257


def tensor(image: np.ndarray) -> torch.Tensor:
    """8-bit BGR ``(H, W, 3)`` to RGB ``(1, 3, H, W)`` in [0, 1]."""
    rgb = np.ascontiguousarray(image[..., ::-1]).transpose(2, 0, 1)
    return torch.from_numpy(rgb.copy()).float()[None] / 255


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    """Decibels, over images in [0, 1]."""
    return float(-10 * torch.log10(((x.clamp(0, 1) - y) ** 2).mean()))


def make_pairs(root: Path, rainy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    """``data/{lq,gt}``: four pairs of 96x80 out of a real photograph."""
    for side, image in zip(("lq", "gt"), rainy_pair):
        folder = root / "data" / side
        folder.mkdir(parents=True)
        for k in range(4):
            cv2.imwrite(str(folder / f"{k}.png"), image[60 * k : 60 * k + 96, 90 * k : 90 * k + 80])


def same_trees(a: Path, b: Path) -> bool:
    """Whether two folders hold the same files, to the byte."""
    files = sorted(p.relative_to(a) for p in a.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(b) for p in b.rglob("*") if p.is_file())
    equal, differ, errors = filecmp.cmpfiles(a, b, files, shallow=False)
    return not differ and not errors and len(equal) == len(files)
