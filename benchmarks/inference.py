"""The bars of inference at 4K and beyond, as ratios within one run.

One command, unattended, on Linux, with a GPU or without (on a CPU NAFNet and 16K take most of the
time; ``--repeats 1`` is one pass each)::

    python benchmarks/inference.py --out docs/benchmarks.md

- ``glsgn_s`` whole and streamed, and NAFNet (width 32, MMagic's own) whole and in tiles of 512, at
  4K; ``glsgn_s`` streamed at 16K.
- Every pass has a process of its own, which restores a small image first (on a GPU the same one,
  and then several, from and to its own memory but at 16K).
- Both settings of glibc's allocator on a CPU: its default, which gives large blocks back and maps
  them anew, and ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000``, which keeps its heap.
- Memory is the peak RSS (CPU) or that of the caching allocator (GPU) during the pass, less what was
  held before it, less the output. Seconds are of the wall clock, user and system time apart.
- Noise as input: it doesn't change any cost, and neither do weights.
- Floors: multiply-adds over the rate of a large matrix product, and the bytes that convolutions
  read and write over the rate of a large copy, both measured in the same run.
- ``glsgn restore`` on photographs of both sizes, with the peak that ``time -v`` shows.
- ``--before DIR``, a checkout of another commit (``git worktree add``), is measured in between,
  pass by pass, so that both see the same machine.
- Seams: ``calculate_seam`` on degraded photographs, of the output whole and streamed. Without
  ``--weights`` the network is an untrained one whose output is no longer the identity.

What stands below the line ``<!-- by hand -->`` of the file is left as it is.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from costs import TRAFFIC, counted
from forward import build
from restored_photographs import SIZES, photographs_restored, seams

HEAPS = {
    "default": {},
    "kept": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"},
}
Pass = tuple[str, "str | int", str]
FORWARD: Pass = ("glsgn_s", "forward", "4k")
"""The network called, as in training; no engine."""

WHOLE: Pass = ("glsgn_s", "whole", "4k")
STREAMED: Pass = ("glsgn_s", "stream", "4k")
PEER: Pass = ("NAFNet-32", "whole", "4k")
TILED: Pass = ("NAFNet-32", 512, "4k")
LARGE: Pass = ("glsgn_s", "stream", "16k")
BEFORE: Pass = ("glsgn_s before", "whole", "4k")
STREAMED_BEFORE: Pass = ("glsgn_s before", "stream", "4k")
PASSES = (FORWARD, WHOLE, BEFORE, STREAMED, STREAMED_BEFORE, PEER, TILED, LARGE)

FRAMES = 10
"""Restored one after the other on a GPU, but at 16K; a CPU restores one."""

GPU_MEMORY = 6 * 2**30
"""Bytes that streaming is given on a GPU: it would take half of what is free."""

MIB = 2**20
BY_HAND = "<!-- by hand -->"


# --- In the process of one pass ------------------------------------------------------------------


def status(field: str) -> int:
    """Bytes of a line of /proc/self/status, such as VmHWM."""
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found
    return int(found[1]) * 1024


def trimmed() -> int:
    """Give freed memory back and set VmHWM back to what is then held, in bytes."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def work(job: dict[str, Any]) -> dict[str, Any]:
    """One pass, measured."""
    from glsgn_plugins import restore

    device = torch.device(job["device"])
    cuda = device.type == "cuda"
    torch.manual_seed(0)
    net = build(job["network"]).eval().to(device)
    if job["network"].startswith("glsgn"):
        net = net.to(memory_format=torch.channels_last)
    options: dict[str, Any] = {"amp": job["amp"]}
    if cuda and job["tile"] == "stream":
        options["memory"] = GPU_MEMORY
    on_device = cuda and job["size"] != "16k"
    frames = FRAMES if on_device else 1
    image = torch.rand(1, 3, *job["pixels"], device=device if on_device else "cpu")
    warm = image if on_device else torch.rand(1, 3, 128, 128)

    def run(image: torch.Tensor) -> torch.Tensor:
        if job["tile"] != "forward":
            return restore(net, image, job["tile"], **options)
        with torch.no_grad():
            return net(image.contiguous(memory_format=torch.channels_last))

    for _ in range(2 if on_device else 1):
        run(warm)
    held = trimmed()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    for _ in range(frames):
        restored = run(image)
    if cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / frames
    after = resource.getrusage(resource.RUSAGE_SELF)
    peak = torch.cuda.max_memory_allocated() if cuda else status("VmHWM")
    output = restored.numel() * 4 if restored.device == device else 0
    return {
        "seconds": seconds,
        "user": (after.ru_utime - before.ru_utime) / frames,
        "system": (after.ru_stime - before.ru_stime) / frames,
        "bytes": peak - held - output,
    }


def rates(job: dict[str, Any]) -> dict[str, float]:
    """Multiply-adds and bytes per second of this device, the best of several tries."""
    device = torch.device(job["device"])
    cuda = device.type == "cuda"
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(job["amp"], torch.float32)
    side, size = (8192, 2**30) if cuda else (1024, 2**26)
    one, two = (torch.rand(side, side, device=device).to(kind) for _ in range(2))
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))

    def best(work: Callable[[], Any]) -> float:
        found = []
        for _ in range(30):
            if cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            if cuda:
                torch.cuda.synchronize()
            found.append(time.perf_counter() - start)
        return min(found)

    return {
        "macs": side**3 / best(lambda: one @ two),
        "bytes": 2 * size / best(lambda: target.copy_(source)),
    }


def costs(network: str, pixels: tuple[int, int]) -> tuple[float, float]:
    """Multiply-adds and convolutions' elements of one image; nothing is computed."""
    flops, elements = (
        counted(lambda: build(network), formulas, pixels)[1].get_total_flops()
        for formulas in (None, TRAFFIC)
    )
    return flops / 2, elements


# --- The run -------------------------------------------------------------------------------------


def in_a_process(
    what: str, job: dict[str, Any], environment: dict[str, str], timeout: float
) -> dict[str, Any]:
    """A job in a process of its own; ``failure`` says why there is no result."""
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--worker", json.dumps(job)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        lines = done.stdout.splitlines()
        found = json.loads(lines[-1]) if not done.returncode and lines else {}
        if not found:
            last = done.stderr.strip().splitlines()[-1:] or [""]
            found = {"failure": f"exit status {done.returncode} {last[0]}".strip()}
    except subprocess.TimeoutExpired:
        found = {"failure": f"over {timeout:g} s"}
    said = found.get("failure") or ", ".join(f"{k} {v:.4g}" for k, v in found.items())
    print(f"{what}: {said}", file=sys.stderr, flush=True)
    return found


Summary = dict[tuple[Pass, str], dict[str, float]]


def measure(
    passes: list[Pass], heaps: list[str], common: dict[str, Any], args: argparse.Namespace
) -> tuple[Summary, list[str]]:
    """Medians of every pass under every heap, and the table."""
    runs: dict[tuple[Pass, str], list[dict[str, Any]]] = {}
    failed: dict[tuple[Pass, str], str] = {}
    for turn in range(args.repeats):
        for heap in heaps:
            for one in passes:
                key = (one, heap)
                network, tile, size = one
                if key in failed or (size == "16k" and turn):
                    continue
                pixels = [length // args.shrink for length in SIZES[size]]
                job = {"network": network, "tile": tile, "size": size, "pixels": pixels, **common}
                what = f"{network} {tile} {size}, heap {heap}"
                environment = dict(HEAPS[heap])
                if network.endswith(" before"):
                    job["network"] = network.removesuffix(" before")
                    environment["PYTHONPATH"] = str(args.before.resolve())
                found = in_a_process(what, job, environment, args.timeout)
                if "failure" in found:
                    failed[key] = found["failure"]
                else:
                    runs.setdefault(key, []).append(found)
    lines = [
        "| Network | Mode | Size | Heap | s | user s | system s | Peak without images (MiB) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    summary: Summary = {}
    for one in passes:
        for heap in heaps:
            start = f"| {one[0]} | {one[1]} | {one[2]} | {heap} |"
            if (one, heap) in failed:
                lines.append(f"{start} {failed[one, heap]} | | | |")
                continue
            several = runs[one, heap]
            found = {k: median(r[k] for r in several) for k in ("seconds", "user", "system")}
            found["bytes"] = max(r["bytes"] for r in several)
            summary[one, heap] = found
            digits = 3 if common["device"] == "cuda" else 1
            times = " | ".join(f"{found[k]:.{digits}f}" for k in ("seconds", "user", "system"))
            lines.append(f"{start} {times} | {found['bytes'] / MIB:.0f} |")
    return summary, lines


def bars(summary: Summary, heaps: list[str], cuda: bool, sizes: list[str]) -> list[str]:
    """The table of bars; what misses its bar is bold."""
    lines = [
        f"| Figure | Bar | {' | '.join(f'heap {h}' for h in heaps)} |",
        f"| --- | --- |{' --- |' * len(heaps)}",
    ]

    def row(what: str, bar: float | None, figure: Callable[[str], float], least: bool = False):
        cells = []
        for heap in heaps:
            try:
                found = figure(heap)
            except KeyError:
                cells.append("not measured")
                continue
            missed = bar is not None and (found < bar if least else found > bar)
            cells.append(f"**{found:.2f}**" if missed else f"{found:.2f}")
        limit = "" if bar is None else f"{'at least' if least else 'at most'} {bar:g}"
        lines.append(f"| {what} | {limit} | {' | '.join(cells)} |")

    def ratio(one: Pass, other: Pass, key: str) -> Callable[[str], float]:
        return lambda heap: summary[one, heap][key] / summary[other, heap][key]

    if "4k" in sizes:
        best = f"{WHOLE[0]} 4K, time"
        row(f"{best}: whole / before", 1, ratio(WHOLE, BEFORE, "seconds"))
        row(f"{best}: whole / NAFNet whole", 0.1, ratio(WHOLE, PEER, "seconds"))
        row(f"{best}: whole / NAFNet tiled", 0.1, ratio(WHOLE, TILED, "seconds"))
        row(f"{best}: streamed / NAFNet whole", None, ratio(STREAMED, PEER, "seconds"))
        row(f"{best}: streamed / NAFNet tiled", None, ratio(STREAMED, TILED, "seconds"))
        row(f"{best}: streamed / whole", 1, ratio(STREAMED, WHOLE, "seconds"))
        row("4K, memory: whole / NAFNet whole", 0.25, ratio(WHOLE, PEER, "bytes"))
        row("4K, memory: streamed / NAFNet tiled", 2, ratio(STREAMED, TILED, "bytes"))
        row("4K, memory: streamed / one forward", 0.25, ratio(STREAMED, FORWARD, "bytes"))
        row("4K, memory: streamed / whole before", 0.25, ratio(STREAMED, BEFORE, "bytes"))
    if "16k" in sizes:
        row("memory, streamed: 16K / 4K", 1.1, ratio(LARGE, STREAMED, "bytes"))
    if cuda:
        row("4K whole, frames/s", 30, lambda h: 1 / summary[WHOLE, h]["seconds"], least=True)
        row("4K whole, GB", 6, lambda h: summary[WHOLE, h]["bytes"] / 1e9)
        row("16K streamed, GB", 8, lambda h: summary[LARGE, h]["bytes"] / 1e9)
    return lines


def floors(
    summary: Summary, heap: str, common: dict[str, Any], args: argparse.Namespace
) -> list[str]:
    """What no implementation can be faster than, and how far the measured passes are from it."""
    found = in_a_process("rates of the device", {**common, "rates": True}, HEAPS[heap], 600)
    if "failure" in found:
        return [f"Floors: {found['failure']}."]
    lines = [
        f"Floors, heap {heap}: {found['macs'] / 1e12:.3g} T multiply-adds/s of a matrix product, "
        f"{found['bytes'] / 1e9:.3g} GB/s read and written by a copy.",
        "",
        "| Network | Size | T multiply-adds | s | GB of convolutions | s | measured / the larger |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in (WHOLE, PEER, LARGE):
        if (one, heap) not in summary:
            continue
        height, width = SIZES[one[2]]
        macs, elements = costs(one[0], (height // args.shrink, width // args.shrink))
        moved = elements * (2 if common["amp"] else 4)
        computing, moving = macs / found["macs"], moved / found["bytes"]
        times = summary[one, heap]["seconds"] / max(computing, moving)
        lines.append(
            f"| {one[0]} {one[1]} | {one[2]} | {macs / 1e12:.3g} | {computing:.3g} | "
            f"{moved / 1e9:.3g} | {moving:.3g} | {times:.2f} |"
        )
    return lines


# --- The command ---------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if cuda else "cpu")
    parser.add_argument(
        "--amp", choices=("bf16", "fp16", "none"), help="default: bf16 on a GPU, none on a CPU"
    )
    parser.add_argument("--threads", type=int, help="of the CPU; torch's default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=1800, help="seconds per pass")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--shrink", type=int, default=1, help="divides all sides, for a trial run")
    parser.add_argument("--weights", help="of GLSGN, for the seams")
    parser.add_argument("--before", type=Path, help="checkout of another commit to measure beside")
    parser.add_argument("--task", choices=("rain", "reflection", "haze"), default="rain")
    parser.add_argument("--photographs", type=Path, help="folder of clean ones, for the seams")
    parser.add_argument("--out", type=Path, help="Markdown file for the tables")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        if args.worker["threads"]:
            torch.set_num_threads(args.worker["threads"])
        print(json.dumps((rates if "rates" in args.worker else work)(args.worker)))
        return

    cuda = args.device == "cuda"
    amp = {"none": None, None: "bf16" if cuda else None}.get(args.amp, args.amp)
    common = {"device": args.device, "amp": amp, "threads": args.threads}
    heaps = ["default"] if cuda else list(HEAPS)
    passes = [p for p in PASSES if p[2] in args.sizes and (args.before or "before" not in p[0])]
    summary, table = measure(passes, heaps, common, args)
    device = torch.cuda.get_device_name() if cuda else f"CPU ({platform.machine()})"
    lines = [
        "# Inference at 4K and 16K, against NAFNet",
        "",
        f"`python benchmarks/inference.py {shlex.join(sys.argv[1:])}`",
        "",
        f"torch {torch.__version__}, {device}, {args.threads or torch.get_num_threads()} CPU "
        f"threads, {amp or 'float32'}, {date.today()}; medians of {args.repeats} passes (16K: one),"
        " largest memory, each pass in a process of its own. "
        + (f"Sides divided by {args.shrink}: a trial run. " if args.shrink > 1 else "")
        + ("" if cuda else _ABOUT_HEAPS),
        "",
        *table,
        "",
        "What misses its bar is bold.",
        "",
        *bars(summary, heaps, cuda, args.sizes),
        "",
        *floors(summary, heaps[-1], common, args),
        "",
        *photographs_restored(common, args),
        "",
        *seams(args),
    ]
    report = "\n".join(lines) + "\n"
    print(report, end="")
    if args.out:
        save(args.out, report)


_ABOUT_HEAPS = (
    "Heap kept is glibc with `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000`: it then "
    "doesn't give large blocks back to the kernel, which would have to zero their pages anew."
)


def save(file: Path, report: str) -> None:
    """Write the report over the last one, and leave what was written by hand below it."""
    _, mark, by_hand = file.read_text().partition(BY_HAND) if file.is_file() else ("", "", "")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{report}\n{mark}{by_hand}" if mark else report)


if __name__ == "__main__":
    main()
