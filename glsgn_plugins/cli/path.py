"""``glsgn path [NAME]``: where shipped files are, for commands that want a path."""

from __future__ import annotations

import argparse

from glsgn_plugins.errors import unknown_name
from glsgn_plugins.io.pretrained import OPTIONS, pretrained_file, shipped_tasks
from glsgn_plugins.io.shipped import shipped_files


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``path`` to the command's parser."""
    parser = commands.add_parser(
        "path",
        help="where a shipped options file, config or weights file is",
        description="For example: mim train mmagic $(glsgn path glsgn_derain.py); or "
        "glsgn path rain, the weights for rain.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="by default all are listed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one path, or all."""
    known = shipped_files("basicsr_options", ".yml") | shipped_files("mmagic_configs", ".py")
    if args.name in OPTIONS:
        print(pretrained_file(args.name))
        return 0
    known |= {task: pretrained_file(task) for task in shipped_tasks()}
    if args.name is None:
        print(*known.values(), sep="\n")
        return 0
    if args.name not in known:
        raise unknown_name("shipped file", args.name, known)
    print(known[args.name])
    return 0
