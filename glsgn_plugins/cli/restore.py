"""``glsgn restore IN... OUT --task TASK``: photographs of any size, with all that they hold."""

from __future__ import annotations

import argparse
import glob
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.cli import INTERRUPTED
from glsgn_plugins.cli.shards import add_shard
from glsgn_plugins.errors import InputError
from glsgn_plugins.inference import (
    AMP_TYPES,
    MODES,
    STRONGEST,
    check_long_side,
    check_region,
    check_strength,
    check_tile,
)
from glsgn_plugins.inference.colour import colours_of
from glsgn_plugins.inference.files import RestoredFile, restore_file
from glsgn_plugins.io import formats, photographs
from glsgn_plugins.io.files import NOT_READ, left_out, walk
from glsgn_plugins.io.headers import check_header
from glsgn_plugins.io.pretrained import OPTIONS
from glsgn_plugins.io.weights import read_glsgn
from glsgn_plugins.pretrained import load_pretrained

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}]"

LONGEST = 255
"""Bytes of a file's name on the usual disks."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``restore`` to the command's parser."""
    parser = commands.add_parser(
        "restore",
        help="restore photographs",
        description=f"Restore photographs of any size: {formats.LISTED}. What is in OUT "
        "already is left, so that a folder goes on where it was interrupted. Pictures with a "
        "profile are restored in sRGB and keep their profile, and the colours beyond sRGB. In a "
        "folder, HEIC and BMP become PNG, and raw files TIFF of 16 bits.",
    )
    parser.add_argument(
        "inputs", nargs="+", type=_named, metavar="IN", help="files, folders, 'patterns*'"
    )
    parser.add_argument(
        "output",
        type=lambda text: Path(_named(text)),
        metavar="OUT",
        help="a folder; or a file, of one file",
    )
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument(
        "--task", metavar="TASK", help=f"with the shipped weights: {', '.join(OPTIONS)}"
    )
    network.add_argument(
        "--weights", metavar="FILE", help="with your own: .pth or .safetensors (or glsgn://TASK)"
    )
    parser.add_argument(
        "--tile", default="auto", help=f"{', '.join(MODES)} or pixels of a region (default: auto)"
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="S",
        help=f"how much of the change is wanted, 0 to {STRONGEST} (default: 1)",
    )
    parser.add_argument(
        "--mask", type=Path, metavar="FILE", help="restore where this grey image is white"
    )
    parser.add_argument(
        "--region",
        nargs=4,
        type=int,
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="restore inside of this rectangle of pixels",
    )
    parser.add_argument(
        "--keep-colour",
        action="store_true",
        help="change how light pixels are and leave their colours, as against haze",
    )
    parser.add_argument(
        "--long-side",
        type=int,
        metavar="PIXELS",
        help="restore a copy that long and carry its change up, as against haze; 0 for the "
        "photograph alone (default: what the weights say)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    parser.add_argument(
        "--amp", choices=AMP_TYPES, help="half precision, on GPUs that are good at it"
    )
    parser.add_argument(
        "--compare", action="store_true", help="write NAME_compare.jpg, both in one"
    )
    parser.add_argument("--overwrite", action="store_true", help="make anew what is in OUT already")
    add_shard(parser)
    parser.set_defaults(run=run)


def _named(text: str) -> str:
    """Python would take nothing for the current folder, and restore all that is below it."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name; is a variable not set?")
    return text


def run(args: argparse.Namespace) -> int:
    """Exit code 0; 1 where a file could not be restored, and the others were."""
    try:
        tile: str | int = int(args.tile)
    except ValueError:
        tile = args.tile
    check_tile(tile)
    check_strength(args.strength, "--strength")
    check_long_side(args.long_side, "--long-side")
    if args.region is not None:
        check_region(args.region)
    photographs.vips()
    mask = None if args.mask is None else photographs.read_mask(args.mask)
    device = device_named(args.device)
    jobs = args.shard.take(_jobs(args.inputs, args.output, args.compare))
    left = [job for job in jobs if args.overwrite or not _made(job[1], args.compare)]
    if len(left) < len(jobs):
        print(
            f"{args.output}: {len(jobs) - len(left)} of {len(jobs)} skipped: there "
            "already, maybe by other settings; --overwrite makes them anew"
        )
    net = load_pretrained(args.task) if args.weights is None else read_glsgn(args.weights)
    net = net.to(memory_format=torch.channels_last).to(device)
    try:
        return _restore_all(net, left, tile, mask, args)
    except KeyboardInterrupt:
        print("glsgn restore: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def device_named(name: str | None) -> torch.device:
    """What ``--device`` says; ``None`` for a GPU if there is one.

    Raises:
        InputError: There is no such device here.
    """
    mps = torch.backends.mps.is_available()
    found = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name or found)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def _made(target: Path, compared: bool) -> bool:
    """Whether all that is to be written of a file is there."""
    return target.exists() and (not compared or _beside(target).exists())


def _jobs(inputs: list[str], output: Path, compared: bool) -> list[tuple[Path, Path]]:
    """Each file and what becomes of it.

    Raises:
        InputError: There are none, one can't be found, two would become one, or nothing can be
            written there.
    """
    try:
        folder_there = output.is_dir()
    except OSError as error:  # of a name that is too long, before Python 3.12
        raise InputError(f"{output}: can't be made ({error.strerror})") from None
    single = output.suffix.lower() in formats.WRITTEN and not folder_there
    ends = {*NOT_READ, *formats.READ}
    if not single and output.suffix.lower() in ends and not folder_there:
        raise InputError(
            f"{output}: {output.suffix} isn't written; give {', '.join(formats.WRITTEN)}, "
            "or a folder"
        )
    found = [pair for argument in inputs for pair in _files(argument, output)]
    if single and (len(found) > 1 or Path(inputs[0]).is_dir()):
        raise InputError(f"{output}: a file, but there are {len(found)} images; give a folder")
    folder = output.parent if single else output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: can't be made ({error.strerror})") from None
    if not os.access(
        folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        raise InputError(f"{folder}: can't be written to; give another folder")
    jobs = [(path, output if single else output / formats.written_as(name)) for path, name in found]
    for end in {target.suffix.lower() for _, target in jobs}:
        formats.check_written(output if single else output / f"*{end}")
    made: dict[Path, Path] = {}
    for path, target in jobs:
        if target.exists() and target.samefile(path):
            raise InputError(f"{target}: would be written over itself; give another folder")
        if target in made:
            raise InputError(f"{made[target]} and {path} would both become {target}")
        made[target] = path
    for target, path in made.items() if compared else ():
        if _beside(target) in made:
            raise InputError(
                f"{made[_beside(target)]} would become {_beside(target)}, which --compare writes "
                f"of {path}; rename one, or give another folder"
            )
    return jobs


def _files(argument: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """Image files of an argument, and their names in the output folder, whose own are left out."""
    path = Path(argument)
    try:
        path.stat()
        there_is = True
    except PermissionError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except OSError:
        there_is = False  # a pattern, perhaps
    if there_is and path.is_file():
        if path.suffix.lower() not in formats.READ:
            raise InputError(f"{path}: {formats.unreadable(path)}")
        if missing := formats.lacking(path.suffix.lower()):
            raise InputError(f"{path}: {path.suffix} {missing}")
        yield path, Path(path.name)
        return
    if there_is and path.is_dir():
        there = walk(path.absolute(), output.absolute(), _fail)
        yield from ((p, p.relative_to(path.absolute())) for p in _images(there))
    else:
        # Brackets in names of folders that are there are no pattern.
        root = next((p for p in path.parents if os.path.isdir(p)), Path())
        pattern = str(path.relative_to(root))
        there = [root / name for name in sorted(glob.glob(pattern, root_dir=root, recursive=True))]
        own = output.resolve()
        there = [p for p in there if p.is_file() and own not in p.resolve().parents]
        yield from ((p, Path(p.name)) for p in _images(there))
    others = [left_out(there, formats.READ), *_lacking(there)]
    if not _images(there):
        if there_is and path.is_dir() and path.resolve() == output.resolve():
            raise InputError(f"{argument}: input and output are one folder; give another")
        what = "holds no images" if there_is else "no such file, folder or pattern"
        more = "".join(f"; {one}" for one in others if one)
        raise InputError(f"{argument}: {what} ({formats.LISTED}){more}")
    for one in filter(None, others):
        print(f"glsgn restore: {argument}: {one}", file=sys.stderr)


def _beside(target: Path) -> Path:
    """What ``--compare`` writes."""
    return target.with_name(f"{target.name}_compare.jpg")


def _images(paths: list[Path]) -> list[Path]:
    return [
        path
        for path in paths
        if path.suffix.lower() in formats.READ and not formats.lacking(path.suffix.lower())
    ]


def _lacking(paths: list[Path]) -> Iterator[str]:
    """Of files that an optional package would read: how many, and which package."""
    counts = Counter(path.suffix.lower() for path in paths)
    for end, count in sorted(counts.items()):
        if end in formats.READ and (missing := formats.lacking(end)):
            yield f"left out {count} {end}, which {missing}"


def _fail(error: OSError) -> None:
    raise InputError(f"{error.filename}: can't be read ({error.strerror})")


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Yields what raises KeyboardInterrupt once Ctrl-C was pressed.

    Raised wherever Python is, it may be in what libvips calls, where it is only printed.
    """
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _restore_all(
    net: GLSGN,
    jobs: list[tuple[Path, Path]],
    tile: str | int,
    mask: np.ndarray | None,
    args: argparse.Namespace,
) -> int:
    from tqdm import tqdm

    failed, made = 0, 0
    sizes: dict[Path, float] = {}
    with tqdm(unit="MP", bar_format=BAR, disable=None) as bar, _interruptible() as check:

        def say(message: object) -> None:
            bar.write(f"glsgn restore: {message}", file=sys.stderr)

        said: set[str] = set()

        def tell(message: str) -> None:
            if message not in said:
                say(message)
                said.add(message)

        for path, _ in jobs:
            try:
                header = formats.read_header(path)
                check_header(path, header)
                sizes[path] = header.width * header.height / 1e6
            except InputError as error:
                failed += 1
                say(error)
        bar.total = sum(sizes.values())
        for path, target in jobs:
            if path not in sizes:
                continue
            check()
            before = bar.n

            def progress(share: float, start: float = before, size: float = sizes[path]) -> None:
                check()
                bar.update(start + share * size - bar.n)

            bar.set_description(path.name)
            try:
                if args.compare and len(os.fsencode(_beside(target).name)) > LONGEST:
                    raise InputError(f"{path}: its name is too long for --compare; shorten it")
                if target.exists() and not args.overwrite:  # and lacks the comparison
                    photograph = photographs.read(path)
                    colours = colours_of(photograph, path)
                    done = RestoredFile(photograph, photographs.read(target).pixels, colours)
                else:
                    done = restore_file(
                        net,
                        path,
                        target,
                        tile,
                        strength=args.strength,
                        mask=mask,
                        region=args.region,
                        keep_colour=args.keep_colour,
                        long_side=args.long_side,
                        amp=args.amp,
                        progress=progress,
                        say=tell,
                    )
                if args.compare and (args.overwrite or not _beside(target).exists()):
                    photographs.compare(_beside(target), *done.shown())
                made += 1
            except InputError as error:
                failed += 1
                say(
                    error if str(error).startswith((str(path), str(target))) else f"{path}: {error}"
                )
            progress(1.0)
    if made:
        print(f"{args.output}: {made} restored")
    return 1 if failed else 0
