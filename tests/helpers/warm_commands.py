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
    "diffusers.models.attention",
    "transformers",
    "matplotlib.pyplot",
    "albumentations",
    "pandas",
    "numba",
    "av",
    "onnxruntime",
)
"""What isn't installed is passed over."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(list(PRELOADED))


def is_warm(argv: Sequence[str]) -> bool:
    """Whether the command can be run here: it starts no other Python by itself."""
    if argv[0] == "mim":
        return argv[1] in ("train", "test", "run") and "--launcher" not in argv
    return argv[0] in ("basicsr", "glsgn")


def _main_of(argv: Sequence[str]) -> Callable[[], object]:
    """What the command calls, with ``sys.argv`` set for it."""
    command, *rest = argv
    if command == "python":
        return _python(rest)
    if command == "mim":
        return _tool_of_mim(rest)
    (script,) = entry_points(group="console_scripts", name=command)
    sys.argv = [command, *rest]
    return lambda: sys.exit(script.load()())


def _python(argv: list[str]) -> Callable[[], object]:
    """``-c CODE``, ``-m MODULE`` or ``SCRIPT``, and what follows."""
    how, *rest = argv
    if how == "-c":
        sys.argv = ["-c", *rest[1:]]
        return lambda: exec(rest[0], {"__name__": "__main__"})
    if how == "-m":
        sys.argv = rest
        return lambda: runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    sys.argv = argv
    sys.path.insert(0, str(Path(how).parent))
    return lambda: runpy.run_path(how, run_name="__main__")


def _tool_of_mim(argv: list[str]) -> Callable[[], object]:
    """MMagic's own script that mim starts, with what mim hands on to it."""
    import mmagic

    tools = Path(mmagic.__file__).parent / ".mim/tools"
    command, _, name, *more = argv
    if command == "run":  # mim run mmagic TOOL ...
        (script,) = tools.rglob(f"{name}.py")
        sys.argv = [str(script), *more]
    else:  # mim train mmagic CONFIG --gpus 0 ...
        options = argparse.ArgumentParser(allow_abbrev=False)
        options.add_argument("--gpus")
        options.add_argument("--checkpoint")  # of mim test; the script takes it by position
        mims, others = options.parse_known_args(more)
        weights = [mims.checkpoint] if mims.checkpoint else []
        script = tools / f"{command}.py"
        launcher = () if "--launcher" in others else ("--launcher", "none")
        sys.argv = [str(script), name, *weights, *launcher, *others]
    return lambda: runpy.run_path(str(script), run_name="__main__")


def _run(argv: Sequence[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    """In the forked process: as if Python had been started with these."""
    # Else loaders' workers come of a server of their own, which imports everything once more.
    multiprocessing.set_start_method(None, force=True)
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


class Started:
    """A command that runs, for which :func:`is_warm`, or ``python`` with arguments."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: dict[str, str]) -> None:
        self.argv = list(argv)
        self.folder = tempfile.TemporaryDirectory()
        self.said = [Path(self.folder.name, name) for name in ("out", "err")]
        for file in self.said:
            file.touch()
        with mock.patch.dict(os.environ, env, clear=True):
            forkserver.ensure_running()
        self.process = CONTEXT.Process(
            target=_run, args=(self.argv, str(cwd), env, *map(str, self.said))
        )
        self.process.start()

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """What it said when it has ended.

        Raises:
            subprocess.TimeoutExpired: It took longer than ``timeout`` seconds; it was killed.
        """
        with self.folder:
            self.process.join(timeout)
            if self.process.exitcode is None:
                self.process.kill()
                self.process.join()
                raise subprocess.TimeoutExpired(self.argv, timeout)
            said = [f.read_text(encoding="utf-8", errors="backslashreplace") for f in self.said]
            return subprocess.CompletedProcess(self.argv, self.process.exitcode, *said)
