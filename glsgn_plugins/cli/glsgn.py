"""The ``glsgn`` command: one module per subcommand, each with ``add_to`` and ``run``."""

from __future__ import annotations

import argparse
import os
import sys

from glsgn_plugins import __version__
from glsgn_plugins.cli import (
    INTERRUPTED,
    app,
    convert,
    doctor,
    export,
    path,
    prepare,
    preview,
    restore,
    synthesize,
)
from glsgn_plugins.errors import InputError, StoppedError
from glsgn_plugins.io.atomic import tolerate_undecodable_names

DATA_PACKAGES = ("cv2", "PIL", "tqdm")
SUBCOMMANDS = (doctor, path, restore, convert, export, synthesize, prepare, preview, app)


def main(argv: list[str] | None = None) -> int:
    """What the subcommand's ``run`` returns; 2 for wrong input, said in one line."""
    parser = argparse.ArgumentParser(
        prog="glsgn", description="GLSGN's own commands, beside those of the frameworks."
    )
    parser.add_argument("--version", action="version", version=f"glsgn-plugins {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for subcommand in SUBCOMMANDS:
        subcommand.add_to(commands)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    tolerate_undecodable_names()
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"glsgn {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # of `glsgn path | head -1`: Python would complain at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except InputError as error:
        print(f"glsgn {args.command}: error: {error}", file=sys.stderr)
        return 2
    except StoppedError as error:
        print(f"glsgn {args.command}: error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name not in DATA_PACKAGES:
            raise
        print(
            f"glsgn {args.command}: error: {error.name} is not installed: pip install "
            "'glsgn-plugins[data]'",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
