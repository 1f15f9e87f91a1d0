"""Feeds damaged and odd files to every command that reads them.

    .venv/bin/python benchmarks/fuzz.py [--files 2000] [--seed 0] [--only WORD]

Images (of every kind in ``tests/helpers/image_cases.py``), checkpoints and YAML are cut,
overwritten, zeroed, doubled, renamed and mixed, and given to ``glsgn restore``, ``prepare``,
``preview``, ``synthesize`` and ``convert``, and to ``basicsr train`` and ``test``. Each runs in a
forked process of its own with a limit of time and of memory. Right is: exit code 0; or 1 or 2 with
a line that says why; no traceback, no crash, no hang. The files of what went wrong are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/helpers"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from image_cases import cases

from glsgn_plugins import GLSGN
from glsgn_plugins.cli.basicsr import load_plugins
from glsgn_plugins.cli.basicsr import main as basicsr
from glsgn_plugins.cli.glsgn import main as glsgn

TIME = 60
"""Seconds that a command has."""
MEMORY = 12 * 2**30
"""Bytes of addresses that it has."""
WIDTHS = [4, 4, 4, 4]

TOGETHER = ("restore", "prepare", "synthesize")
"""Commands that take a folder of images, and are given so many at once:"""
BATCH = 8

Outcome = tuple[str, str]
Spoilt = tuple[str, str, str, bytes]
"""Kind, what was done, name and content."""


def damage(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One way in which files come to harm, and what is left."""
    data = bytearray(content)
    size = len(data)
    at, length = int(rng.integers(size)), int(rng.integers(1, max(2, min(size, 600))))
    # Headers are where most is decided.
    at = int(rng.integers(min(size, 200))) if rng.random() < 0.4 else at
    flipped = 1 << int(rng.integers(8))
    limit = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)][int(rng.integers(3))]
    ways: dict[str, Callable[[], bytes]] = {
        "cut short": lambda: bytes(data[:at]),
        "zeroed": lambda: bytes(data[:at] + bytes(length) + data[at + length :]),
        "filled": lambda: bytes(data[:at] + b"\xff" * length + data[at + length :]),
        "overwritten": lambda: bytes(data[:at] + rng.bytes(length) + data[at + length :]),
        "a bit": lambda: bytes(data[:at] + bytes([data[at] ^ flipped]) + data[at + 1 :]),
        "removed": lambda: bytes(data[:at] + data[at + length :]),
        "inserted": lambda: bytes(data[:at] + rng.bytes(length) + data[at:]),
        "doubled": lambda: bytes(data + data),
        "beginning gone": lambda: bytes(data[at:]),
        "numbers at their limit": lambda: bytes(data[:at] + limit + data[at + 4 :]),
    }
    way = list(ways)[int(rng.integers(len(ways)))]
    return way, ways[way]()


def odd(rng: np.random.Generator) -> tuple[str, bytes]:
    """What was never such a file."""
    kinds = {
        "empty": b"",
        "text": b"this is no such file\n" * 20,
        "noise": rng.bytes(3000),
        "zeros": bytes(5000),
        "HTML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\nsize 9\n",
        "pickle": pickle.dumps({"params": os.system}),
    }
    kind = list(kinds)[int(rng.integers(len(kinds)))]
    return kind, kinds[kind]


def wholes(folder: Path) -> dict[str, list[tuple[str, bytes]]]:
    """Whole files to begin with, by kind."""
    made: dict[str, list[tuple[str, bytes]]] = {"images": [], "checkpoints": [], "YAML": []}
    kinds = cases()
    child = os.fork()
    if not child:  # libvips, which writes some of them, doesn't survive a fork
        for case in kinds:
            case.write(folder / case.name)
        os._exit(0)
    os.waitpid(child, 0)
    made["images"] = [(case.name, (folder / case.name).read_bytes()) for case in kinds]
    torch.manual_seed(0)
    state = GLSGN(widths=WIDTHS).state_dict()
    from safetensors.torch import save

    for name, content in (
        ("params.pth", {"params": state, "params_ema": state}),
        ("bare.pth", state),
        ("nested.ckpt", {"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}),
        ("mmagic.pth", {"state_dict": {f"generator.{k}": v for k, v in state.items()}, "meta": {}}),
        ("numbers.pth", {"params": {k: i for i, k in enumerate(state)}}),
        ("list.pth", [state]),
    ):
        file = io.BytesIO()
        torch.save(content, file)
        made["checkpoints"].append((name, file.getvalue()))
    old = io.BytesIO()
    torch.save({"params": state}, old, _use_new_zipfile_serialization=False)
    made["checkpoints"] += [("old.pth", old.getvalue()), ("net.safetensors", save(state))]
    shipped = Path(__file__).resolve().parent.parent / "basicsr_options"
    made["YAML"] += [(p.name, p.read_bytes()) for p in sorted(shipped.glob("*.yml"))]
    return made


def twisted(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """YAML that reads well and says something else."""
    lines = content.decode().splitlines()
    at = int(rng.integers(len(lines)))
    key = lines[at].split(":")[0]
    values = [
        "~",
        "[]",
        "{}",
        "-1",
        "1e-4",
        "'5'",
        "no",
        "text",
        "[1, {a: b}]",
        "!!float x",
        "&a *a",
    ]
    ways: dict[str, Callable[[], list[str]]] = {
        "a line gone": lambda: lines[:at] + lines[at + 1 :],
        "a line twice": lambda: lines[: at + 1] + lines[at:],
        "another value": lambda: [*lines[:at], f"{key}: {rng.choice(values)}", *lines[at + 1 :]],
        "indented": lambda: [*lines[:at], f"  {lines[at]}", *lines[at + 1 :]],
        "a slip in a key": lambda: [*lines[:at], lines[at].replace(":", "x:", 1), *lines[at + 1 :]],
        "lines exchanged": lambda: [*lines[:at], *lines[at:][::-1]],
    }
    way = list(ways)[int(rng.integers(len(ways)))]
    return way, "\n".join(ways[way]()).encode()


def commands(kind: str, file: Path, work: Path, good: Path, weights: Path) -> dict[str, Any]:
    """What reads a file of a kind: the command's name, its main and its arguments."""
    w = str(work / "out")
    network = ["--weights", str(weights), "--device", "cpu"]
    pairs = ["--lq", "lq/{name}", "--gt", "gt/{name}"]
    if kind == "images":
        return {
            "restore": (glsgn, ["restore", str(file.parent), w, *network]),
            "prepare": (glsgn, ["prepare", str(work), *pairs, "--workers", "1"]),
            "preview": (glsgn, ["preview", str(work), *pairs, "--out", f"{w}.png"]),
            "synthesize": (
                glsgn,
                ["synthesize", "rain", "--clean", str(file.parent), "--out", w, "--workers", "1"],
            ),
        }
    if kind == "checkpoints":
        return {
            "convert": (glsgn, ["convert", str(file), f"{w}.pth"]),
            "restore --weights": (
                glsgn,
                ["restore", str(good), w, "--weights", str(file), "--device", "cpu"],
            ),
            "basicsr test": (basicsr, ["test", "-opt", str(work / "test.yml")]),
        }
    return {
        "basicsr train": (basicsr, ["train", "-opt", str(file)]),
        "basicsr test": (basicsr, ["test", "-opt", str(file)]),
    }


def run(main: Callable[[list[str]], int], argv: list[str], work: Path) -> Outcome:
    """What came of a command, in a process of its own; and what it said."""
    said = work / "said.txt"
    child = os.fork()
    if not child:
        code = 99
        try:
            os.chdir(work)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            with said.open("w", errors="backslashreplace") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
                sys.stdout = sys.stderr = out
                try:
                    code = main(argv)
                except SystemExit as error:
                    code = error.code if isinstance(error.code, int) else 2
                except BaseException:  # noqa: BLE001  # that is what is looked for
                    traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + TIME
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "HANG", ""
        time.sleep(0.005)
    text = said.read_text(errors="backslashreplace") if said.exists() else ""
    if os.WIFSIGNALED(status):
        return f"CRASH by signal {os.WTERMSIG(status)}", text
    code = os.WEXITSTATUS(status)
    if "Traceback (most recent call last)" in text:
        return "TRACEBACK", text
    if code not in (0, 1, 2):
        return f"CODE {code}", text
    if code and not text.strip():
        return "SILENT", text
    return {0: "done", 1: "said, 1", 2: "said, 2"}[code], text


def lay_out(kind: str, files: list[Spoilt], work: Path, good: Path) -> Path:
    """Write files as the commands want them; returns the last one's path."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "lq").mkdir(parents=True)
    (work / "gt").mkdir()
    for number, (_, _, name, content) in enumerate(files):
        name = name if len(files) == 1 else f"{number}-{name}"
        file = work / "lq" / name if kind == "images" else work / name
        file.write_bytes(content)
        if kind == "images":
            shutil.copy(good, work / "gt" / f"{file.stem}.png")
    if kind != "images":
        for side in ("lq", "gt"):
            shutil.copy(good, work / side / "good.png")
        (work / "test.yml").write_text(
            f"name: t\nmodel_type: GLSGNModel\nscale: 1\nnum_gpu: auto\n"
            f"network_g: {{type: GLSGN, widths: {WIDTHS}}}\n"
            f"path: {{pretrain_network_g: {file.name}}}\n"
            "datasets: {test_1: {name: r, type: UHDPairedDataset, dataroot: ., lq: 'lq/{name}', "
            "gt: 'gt/{name}'}}\n"
            "val: {save_img: false, metrics: ~}\n"
        )
    return file


def spoilt(whole: dict[str, list[tuple[str, bytes]]], count: int, seed: int) -> Iterator[Spoilt]:
    """Files to try; the same for the same seed."""
    rng = np.random.default_rng(seed)
    shares = {"images": 0.6, "checkpoints": 0.2, "YAML": 0.2}
    for kind, share in shares.items():
        for k in range(round(count * share)):
            name, content = whole[kind][int(rng.integers(len(whole[kind])))]
            if k < len(whole[kind]):  # each of them whole first
                name, content = whole[kind][k]
                yield kind, "whole", name, content
            elif rng.random() < 0.08:
                yield kind, *_named(odd(rng), name)
            elif kind == "YAML" and rng.random() < 0.6:
                yield kind, *_named(twisted(content, rng), name)
            elif kind == "images" and rng.random() < 0.05:  # under another's name
                other = whole[kind][int(rng.integers(len(whole[kind])))][0]
                yield kind, "another's name", Path(name).stem + Path(other).suffix, content
            else:
                yield kind, *_named(damage(content, rng), name)


def _named(changed: tuple[str, bytes], name: str) -> tuple[str, str, bytes]:
    return changed[0], name, changed[1]


def main() -> int:
    """Exit code 1 where a command was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=2000, help="for each kind's commands, in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands whose name holds this")
    parser.add_argument("--kept", type=Path, default=Path("fuzz_failures"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    load_plugins()
    import glsgn_plugins.basicsr.options  # noqa: F401  # once, and not in every process

    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "whole").mkdir()
        whole = wholes(root / "whole")
        good = next(root / "whole" / n for n, _ in whole["images"] if n == "rgb-0.png")
        weights = root / "net.pth"
        torch.save({"params": GLSGN(widths=WIDTHS).state_dict()}, weights)
        waiting: dict[str, list[Spoilt]] = defaultdict(list)
        files = list(spoilt(whole, args.files, args.seed))
        work = root / "work"
        for number, one in enumerate(files, 1):
            kind = one[0]
            last = number == len(files) or files[number][0] != kind
            for command in commands(kind, Path("x"), work, good, weights):
                if args.only not in command:
                    continue
                waiting[command].append(one)
                full = len(waiting[command]) == BATCH or last
                if command in TOGETHER and not full:
                    continue
                batch = waiting.pop(command)
                file = lay_out(kind, batch, work, good)
                entry, argv = commands(kind, file, work, good, weights)[command]
                outcome, said = run(entry, argv, work)
                table[kind, command][outcome] += len(batch)
                if outcome.split()[0].isupper():
                    args.kept.mkdir(exist_ok=True)
                    for _, _, name, content in batch:
                        (args.kept / f"{number}-{name}").write_bytes(content)
                    ending = said.strip().splitlines()[-1:] or [""]
                    tried = ", ".join(f"{name} ({what})" for _, what, name, _ in batch)
                    wrong.append(f"{number} {command}: {outcome}: {ending[0][:200]}: {tried}")
                    print(wrong[-1], flush=True)
    print("\n| files | command | tried | done | said, exit code 1 | said, exit code 2 | wrong |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    total = 0
    for (kind, command), found in table.items():
        tried = sum(found.values())
        total += tried
        right = [found[key] for key in ("done", "said, 1", "said, 2")]
        cells = (kind, command, tried, *right, tried - sum(right))
        print(f"| {' | '.join(map(str, cells))} |")
    print(f"\n{len(files)} files, {total} times given to a command; {len(wrong)} runs wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
