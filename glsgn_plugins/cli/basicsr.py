"""``basicsr train|test -opt FILE ...``: BasicSR's own pipelines, with every installed plugin.

Under torchrun: ``torchrun --nproc_per_node=N --no-python basicsr train -opt FILE --launcher
pytorch``.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import threading
from importlib.metadata import entry_points
from typing import Any

from glsgn_plugins.cli import INTERRUPTED
from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.errors import InputError, StoppedError, message_of
from glsgn_plugins.io.atomic import NO_SPACE, tolerate_undecodable_names

PLUGIN_GROUP = "basicsr.plugins"


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="basicsr",
        description="Train or test with BasicSR and every plugin of the entry-point group "
        f"'{PLUGIN_GROUP}'. Experiments and results go under the current folder.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "test"):
        command = commands.add_parser(name, help=f"{name} as an options file says")
        command.add_argument(
            "-opt", required=True, metavar="FILE", help="options: a path or a shipped file's name"
        )
        command.add_argument("--auto_resume", action="store_true", help="from the last checkpoint")
        command.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none")
        command.add_argument("--debug", action="store_true", help="validate and save every 8 steps")
        # torch.distributed.launch writes it with a hyphen from torch 2.0 on.
        command.add_argument("--local_rank", "--local-rank", type=int, default=0)
        command.add_argument(
            "--force_yml", nargs="+", default=[], metavar="KEY:KEY=VALUE", help="set options"
        )
    return parser.parse_args(argv)


def load_plugins() -> None:
    """Import every plugin; one that fails is reported, and its names are then unknown."""
    patch_basicsr()  # before any plugin, ours or not, imports basicsr
    for plugin in entry_points(group=PLUGIN_GROUP):
        try:
            plugin.load()
        except Exception as error:  # a plugin is other people's code
            if plugin.value.startswith("glsgn_plugins"):
                raise
            print(f"basicsr: plugin '{plugin.name}' failed: {error}", file=sys.stderr)


def _run(args: argparse.Namespace) -> None:
    if importlib.util.find_spec("pydantic") is None:
        raise ImportError("pydantic is not installed: pip install 'glsgn-plugins[basicsr]'")
    load_plugins()
    from glsgn_plugins.basicsr.options import check_options, read_options

    train = args.command == "train"
    file, opt = read_options(args.opt, args.force_yml)
    try:
        check_options(opt, train)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None

    sys.argv = ["basicsr", "-opt", str(file), "--launcher", args.launcher]
    sys.argv += ["--local_rank", str(args.local_rank)]
    sys.argv += [f"--{flag}" for flag in ("auto_resume", "debug") if getattr(args, flag)]
    if args.force_yml:
        sys.argv += ["--force_yml", *args.force_yml]
    if train:
        from basicsr.train import train_pipeline as pipeline
    else:
        from basicsr.test import test_pipeline as pipeline
    pipeline(os.getcwd())


def _say(command: str, message: str) -> None:
    # Under torchrun each rank finds the same; one says it.
    if os.environ.get("RANK", "0") == "0":
        print(f"basicsr {command}: error: {message}", file=sys.stderr)


def _quietly(args: Any) -> None:
    """A thread that can't write, TensorBoard's say, is one line: the training says the rest."""
    if isinstance(args.exc_value, OSError) and args.exc_value.errno in NO_SPACE:
        print(f"basicsr: {args.exc_value}", file=sys.stderr)
    else:
        threading.__excepthook__(args)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; else one line, and 2 for wrong input, 1 for training that had to stop, 130 for
    Ctrl-C."""
    args = _parse(sys.argv[1:] if argv is None else argv)
    tolerate_undecodable_names()
    # A log that can't be written, on a full disk, is no reason for a traceback on each line.
    logging.raiseExceptions = False
    threading.excepthook = _quietly
    try:
        _run(args)
    except KeyboardInterrupt:
        goes_on = "; --auto_resume goes on from the last checkpoint"
        _say(args.command, f"interrupted{goes_on if args.command == 'train' else ''}")
        return INTERRUPTED
    except (InputError, StoppedError, ImportError) as error:
        _say(args.command, message_of(error))
        return 1 if isinstance(error, StoppedError) else 2
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _say(
            args.command,
            f"{where}can't be written ({error.strerror}); the checkpoints written so far are kept. "
            "Free some space, then --auto_resume",
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
