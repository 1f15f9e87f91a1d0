"""``glsgn app``: a page to restore photographs in a browser, on one's own machine."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from types import FrameType

from glsgn_plugins.app import page
from glsgn_plugins.app.service import Limits, Service
from glsgn_plugins.cli.restore import device_named
from glsgn_plugins.errors import InputError
from glsgn_plugins.io import photographs

LOCAL = "127.0.0.1"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``app`` to the command's parser."""
    limits = Limits()
    parser = commands.add_parser(
        "app",
        help="a page to restore photographs in a browser",
        description="Serve a page on this machine: drop a photograph, compare, download. Nothing "
        "leaves the machine. Uploads and results are removed after an hour, and at the end.",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="your own, beside the shipped")
    parser.add_argument(
        "--host",
        default=LOCAL,
        help=f"address to listen at (default: {LOCAL}, this machine alone; there is no password)",
    )
    parser.add_argument("--port", type=int, help="(default: the first free one from 7860)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    parser.add_argument(
        "--megabytes", type=float, default=limits.megabytes, help="of an upload (default: 200)"
    )
    parser.add_argument(
        "--megapixels", type=float, default=limits.megapixels, help="of a picture (default: 64)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 0, after Ctrl-C."""
    for name in ("megabytes", "megapixels"):
        if not getattr(args, name) > 0:
            raise InputError(f"--{name}: {getattr(args, name)}; expected a number above 0")
    if args.port is not None and not 0 < args.port < 65536:
        raise InputError(f"--port: {args.port}; expected a number from 1 to 65535")
    photographs.vips()
    page.gradio()
    with page.temporary() as folder:
        service = Service(
            Path(folder, "results"),
            Limits(args.megabytes, args.megapixels),
            args.weights,
            device_named(args.device),
        )
        blocks, url = page.serve(service, args.host, args.port)
        print(f"glsgn app: {url} (Ctrl-C ends it)", flush=True)
        if args.host != LOCAL:
            print("glsgn app: whoever reaches this address can use it; there is no password")
        signal.signal(signal.SIGTERM, _end)  # so that the folder goes then, too
        blocks.block_thread()
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
