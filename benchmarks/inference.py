"""The bars of inference at 4K and beyond, as ratios within one run.

One command, unattended, on Linux (about half an hour on two cores; 16K takes most of it)::

    python benchmarks/inference.py --out docs/benchmarks.md

- ``glsgn_s`` whole and streamed, and NAFNet (width 32, MMagic's own) whole and in tiles of 512.
- Every pass has a process of its own, which restores a small image first; then one 4K image.
- Both settings of glibc's allocator: its default, which gives large blocks back and maps them anew,
  and ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000``, which keeps its heap.
- Memory is the peak RSS (CPU) or that of the caching allocator (CUDA) during the pass, less what
  was held before it, less the output. Seconds are of the wall clock, user and system time apart.
- Seams: ``calculate_seam`` of whole and streamed output, and of the same weights without patches.
- Noise as input, untrained weights: neither changes any cost.
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
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from forward import build

SIZES = {"1080p": (1080, 1920), "4k": (2160, 3840), "16k": (8640, 15360)}
HEAPS = {
    "default": {},
    "kept": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"},
}
PASSES = [
    ("glsgn_s", "whole", "4k"),
    ("glsgn_s", "stream", "4k"),
    ("NAFNet-32", "whole", "4k"),
    ("NAFNet-32", 512, "4k"),
    ("glsgn_s", "stream", "16k"),
]
MIB = 2**20


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found
    return int(found[1]) * 1024


def work(job: dict[str, Any]) -> dict[str, Any]:
    """One pass, measured."""
    from glsgn_plugins import restore

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    torch.manual_seed(0)
    net = build(job["network"]).eval().to(device)
    if job["network"].startswith("glsgn"):
        net = net.to(memory_format=torch.channels_last)
    height, width = SIZES[job["size"]]
    restore(net, torch.rand(1, 3, 128, 128), job["tile"], amp=job["amp"])
    image = torch.rand(1, 3, height, width)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    held = _status("VmRSS")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    restored = restore(net, image, job["tile"], amp=job["amp"])
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    output = restored.numel() * 4
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() - held
    else:
        peak = _status("VmHWM") - held - output
    return {
        "seconds": seconds,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "bytes": peak,
    }


def measure(job: dict[str, Any], heap: str, timeout: float) -> dict[str, Any]:
    """A pass in a process of its own; ``failure`` says why there is none."""
    name = f"{job['network']} {job['tile']} {job['size']}, heap {heap}"
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--worker", json.dumps(job)],
            env={**os.environ, **HEAPS[heap]},
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
    said = found.get("failure") or f"{found['seconds']:.1f} s, {found['bytes'] / MIB:.0f} MiB"
    print(f"{name}: {said}", file=sys.stderr, flush=True)
    return found


def seams() -> dict[str, float]:
    """``calculate_seam`` where parts are not the identity; without patches too."""
    from glsgn_plugins import GLSGN, glsgn_s, restore
    from glsgn_plugins.metrics import calculate_seam

    def bytes_of(image: torch.Tensor) -> Any:
        return image[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy().astype("uint8")

    torch.manual_seed(0)
    net = glsgn_s()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim > 1 and ("head" in name or "mask" in name):
                parameter.normal_(std=0.02)
    without = GLSGN(grids=[(1, 1)] * 3)
    without.load_state_dict(net.state_dict())
    image = torch.rand(1, 3, 512, 768)
    image = torch.nn.functional.avg_pool2d(image, 5, 1, 2)  # neighbours have something in common
    found = {}
    for name, network, tile in (
        ("whole", net, "whole"),
        ("streamed", net, "stream"),
        ("without patches", without, "whole"),
    ):
        restored = restore(network, image, tile)
        found[name] = calculate_seam(bytes_of(restored), bytes_of(image))
    return found


def ratio(one: dict[str, Any] | None, other: dict[str, Any] | None, key: str) -> str:
    if not one or not other:
        return "n/a"
    return f"{one[key] / other[key]:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if cuda else "cpu")
    parser.add_argument("--amp", choices=("bf16", "fp16"))
    parser.add_argument("--threads", type=int, help="of the CPU; torch's default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900, help="seconds per pass")
    parser.add_argument("--sizes", nargs="+", choices=("4k", "16k"), default=["4k", "16k"])
    parser.add_argument("--out", type=Path, help="Markdown file for the tables")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(args.worker)))
        return

    common = {"device": args.device, "amp": args.amp, "threads": args.threads}
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    passes = [p for p in PASSES if p[2] in args.sizes]
    failed: dict[tuple[Any, ...], str] = {}
    for turn in range(args.repeats):
        for heap in HEAPS:
            for network, tile, size in passes:
                key = (network, tile, size, heap)
                if key in failed or (size == "16k" and turn):
                    continue
                job = {"network": network, "tile": tile, "size": size, **common}
                found = measure(job, heap, args.timeout)
                if "failure" in found:
                    failed[key] = found["failure"]
                else:
                    runs.setdefault(key, []).append(found)

    lines = [
        f"`python benchmarks/inference.py {shlex.join(sys.argv[1:])}`",
        "",
        f"torch {torch.__version__}, {args.device} ({platform.machine()}), "
        f"{args.threads or torch.get_num_threads()} CPU threads, {args.amp or 'float32'}, "
        f"{date.today()}; medians of {args.repeats} passes (16K: one), largest memory.",
        "",
        "| Network | Mode | Size | Heap | s | user s | system s | Peak without images (MiB) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    summary: dict[tuple[Any, ...], dict[str, Any]] = {}
    for network, tile, size in passes:
        for heap in HEAPS:
            key = (network, tile, size, heap)
            if key not in runs:
                lines.append(f"| {network} | {tile} | {size} | {heap} | {failed[key]} | | | |")
                continue
            found = {k: median(r[k] for r in runs[key]) for k in ("seconds", "user", "system")}
            found["bytes"] = max(r["bytes"] for r in runs[key])
            summary[key] = found
            cells = [f"{found[k]:.1f}" for k in ("seconds", "user", "system")]
            cells.append(f"{found['bytes'] / MIB:.0f}")
            lines.append(f"| {network} | {tile} | {size} | {heap} | {' | '.join(cells)} |")

    lines += ["", "| Ratio | Bar | " + " | ".join(f"heap {h}" for h in HEAPS) + " |"]
    lines.append("| --- | --- | --- | --- |")

    def row(what: str, bar: str, one: tuple[Any, ...], other: tuple[Any, ...], key: str) -> None:
        cells = [ratio(summary.get((*one, h)), summary.get((*other, h)), key) for h in HEAPS]
        lines.append(f"| {what} | {bar} | {' | '.join(cells)} |")

    whole, streamed, large = ("glsgn_s", "whole", "4k"), ("glsgn_s", "stream", "4k"), PASSES[-1]
    peer, tiled = ("NAFNet-32", "whole", "4k"), ("NAFNet-32", 512, "4k")
    row("time, whole / NAFNet whole", "0.10", whole, peer, "seconds")
    row("time, whole / NAFNet tiled", "0.10", whole, tiled, "seconds")
    row("time, streamed / NAFNet whole", "", streamed, peer, "seconds")
    row("time, streamed / NAFNet tiled", "", streamed, tiled, "seconds")
    row("memory, whole / NAFNet whole", "0.25", whole, peer, "bytes")
    row("memory, streamed / NAFNet tiled", "2", streamed, tiled, "bytes")
    row("memory, streamed / whole", "0.33", streamed, whole, "bytes")
    row("time, streamed / whole", "1", streamed, whole, "seconds")
    row("memory, streamed, 16K / 4K", "1.15", large, streamed, "bytes")
    found_seams = ", ".join(f"{name} {value:.4f}" for name, value in seams().items())
    lines += ["", f"Seam figure (`calculate_seam`, untrained): {found_seams}."]
    report = "\n".join(lines) + "\n"
    print(report, end="")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(report)


if __name__ == "__main__":
    main()
