"""Commands in processes of their own that start with other people's packages imported already.

Starting Python anew costs ten seconds of a slow core for ``basicsr`` and fifteen for ``mim``,
nearly all of it for torch, torchvision and SciPy, and the suite starts a hundred such commands. So
one server imports what is in :data:`PRELOADED` and forks for each command. This package, BasicSR
and MMagic are not in it: every command imports those itself, in its own order, as elsewhere.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

PRELOADED = (
    "torch",
    "torch.utils.tensorboard",
    "torchvision.models",
    "scipy.stats",
    "skimage.metrics",
    "cv2",
    "lmdb",
    "lpips",
    "onnx",
    "pydantic",
    "yaml",
    "mmcv",
    "mmengine.runner",
    "diffusers",
    "transformers",
)
"""What isn't installed is passed over."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(PRELOADED))


def is_warm(argv: Sequence[str]) -> bool:
    """Whether the command can be run here: it starts no other Python by itself."""
    if argv[0] == "mim":
        return argv[1] in ("train", "test") and "--launcher" not in argv
    return argv[0] in ("basicsr", "glsgn")


def _main_of(argv: Sequence[str]) -> Callable[[], object]:
    """What the command calls, with ``sys.argv`` set for it."""
    command, *rest = argv
    if command == "mim":
        # ``mim train mmagic CONFIG --gpus 0 ...`` starts MMagic's own script with what follows.
        import mmagic

        name, _, config, *more = rest
        options = argparse.ArgumentParser(allow_abbrev=False)
        options.add_argument("--gpus")
        options.add_argument("--checkpoint")  # of mim test; the script takes it by position
        mims, others = options.parse_known_args(more)
        weights = [mims.checkpoint] if mims.checkpoint else []
        script = Path(mmagic.__file__).parent / f".mim/tools/{name}.py"
        sys.argv = [str(script), config, *weights, "--launcher", "none", *others]
        return lambda: runpy.run_path(str(script), run_name="__main__")
    (script,) = entry_points(group="console_scripts", name=command)
    sys.argv = [command, *rest]
    return lambda: sys.exit(script.load()())


def _run(argv: Sequence[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    """In the forked process: as if Python had been started with these."""
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [place for place in env.get("PYTHONPATH", "").split(os.pathsep) if place]
    warnings.simplefilter("ignore")
    try:
        _main_of(argv)()
    except Exception:  # noqa: BLE001  # as Python itself does at its end
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


def run_warm(
    argv: Sequence[str], cwd: Path, timeout: float, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command for which :func:`is_warm`.

    Raises:
        subprocess.TimeoutExpired: It took longer than ``timeout`` seconds; it was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        out.touch()
        err.touch()
        with mock.patch.dict(os.environ, env, clear=True):
            forkserver.ensure_running()
        process = CONTEXT.Process(target=_run, args=(argv, str(cwd), env, str(out), str(err)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(argv), timeout)
        said = [file.read_text(encoding="utf-8", errors="backslashreplace") for file in (out, err)]
        return subprocess.CompletedProcess(list(argv), process.exitcode, *said)
