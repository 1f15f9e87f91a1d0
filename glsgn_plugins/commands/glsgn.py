"""The ``glsgn`` command: one module per subcommand, each with ``add_to`` and ``run``."""

from __future__ import annotations

import argparse
import sys

from glsgn_plugins.commands import doctor, export, restore
from glsgn_plugins.errors import InputError

SUBCOMMANDS = (doctor, export, restore)


def main(argv: list[str] | None = None) -> int:
    """What the subcommand's ``run`` returns; 2 for wrong input, said in one line."""
    parser = argparse.ArgumentParser(
        prog="glsgn", description="GLSGN's own commands, beside those of the frameworks."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for subcommand in SUBCOMMANDS:
        subcommand.add_to(commands)
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    try:
        return int(args.run(args))
    except InputError as error:
        print(f"glsgn {args.command}: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
