"""Every figure that needs a GPU, in one command of at most 20 minutes on one card.

python benchmarks/gpu.py --out docs/gpu_measured.md

Parts, by ``--only``; each is written to the file as soon as it is measured, and one that fails says
why and lets the others go on:

- ``device``: what the card reaches in matrix products and in copies; floors below are by these.
- ``waits``: steps of both frameworks under ``torch.cuda.set_sync_debug_mode("error")``, by which
  any synchronisation is an error, with GradScaler, AmpOptimWrapper and NCCL.
- ``steps``: samples per second, memory and arithmetic of a training step at 512 and 768, compiled
  and not.
- ``degrading``: batches that the trainer degrades in place of the loader.
- ``forward``: a 4K image whole and streamed in float32, bf16 and fp16, compiled and not, beside
  NAFNet-32 and Restormer in the same run.
- ``16k``: 15360x8640 streamed.
- ``training``: the real ``basicsr train`` and ``mim train`` under torchrun, and the share of a step
  that waits for data.
- ``tasks``: a short training of each task from scratch, and whether its loss went down.

The floor of a forward is the larger of two times: its multiply-adds at the card's rate, and each
convolution's input and output read and written once at the card's rate. ``--small`` tries all of it
on small images, for machines without a GPU.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forward import build
from gpu_bench import Bench, Table, short, work_of
from gpu_training import measure_steps, measure_tasks, measure_training, measure_waits
from torch import Tensor, nn
from torch.utils.data import default_collate

from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import WEATHER, Place
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.degradations.on_device import degrade, recipe, shapes_of
from glsgn_plugins.inference import AMP_TYPES, restore

BUDGET = 20 * 60
"""Seconds in all; parts that come after it are left out and said to be."""


def measure_device(bench: Bench) -> Table:
    """What the card reaches, by which floors are worked out."""
    n, size = bench.sizes.gemm, bench.sizes.copied
    table = ["| what | rate |", "| --- | --- |"]
    for amp in bench.precisions():
        dtype = AMP_TYPES[amp] if amp else torch.float32
        a, b = (torch.rand(n, n, device=bench.device).to(dtype) for _ in range(2))
        rate = n**3 / bench.seconds(lambda a=a, b=b: a @ b, bench.sizes.repeats)
        bench.rates[amp or "float32"] = rate
        table.append(
            f"| matrix products, {amp or 'float32'} | {rate / 1e12:.3g} T multiply-adds/s |"
        )
    source = torch.empty(size, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    took = bench.seconds(lambda: target.copy_(source), bench.sizes.repeats)
    bench.rates["bytes"] = 2 * size / took
    table.append(f"| copies | {bench.rates['bytes'] / 1e9:.4g} GB/s read and written |")
    return table


def measure_forward(bench: Bench) -> Table:
    """Networks at 4K."""
    rows, cols = bench.sizes.four_k
    table = [
        f"{cols}x{rows}, batch of 1, image and result on the device:",
        "",
        "| network | way | precision | compiled | ms | frames/s | peak GiB | times the floor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    image = torch.rand(1, 3, rows, cols, device=bench.device)
    for network in (*bench.sizes.networks, *bench.sizes.peers):
        ours = network.startswith("glsgn")
        for way in ("whole", "stream") if ours else ("whole",):
            # A CPU takes minutes for each of the others in half precision, and tells nothing by it.
            for amp in bench.precisions() if ours or bench.cuda else (None,):
                # Compiling takes a minute each time; half precision is what one would compile for.
                for compiled in (
                    bench.sizes.compiled if way == "whole" and amp == "bf16" else (False,)
                ):
                    yes = "yes" if compiled else "no"
                    name = f"| {network} | {way} | {amp or 'float32'} | {yes}"
                    try:
                        table.append(name + _forward(bench, network, way, amp, compiled, image))
                    except (ImportError, RuntimeError) as error:
                        table.append(f"{name} | {short(error)} | | | |")
                    print(table[-1], file=sys.stderr, flush=True)
                    if bench.cuda:
                        torch.cuda.empty_cache()
    return table


def _forward(
    bench: Bench, network: str, way: str, amp: str | None, compiled: bool, image: Tensor
) -> str:
    net = build(network).eval().to(bench.device)
    shape, width = (1, 3, *image.shape[2:]), 2 if amp else 4
    macs, moved = work_of(net, shape, width)
    floor = max(macs / bench.rates[amp or "float32"], moved / bench.rates["bytes"])
    if network.startswith("glsgn"):
        net = net.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
    run: Callable[[], Any]
    if way == "stream":
        run = lambda: restore(net, image, "stream", amp=amp, say=lambda said: None)  # noqa: E731
    else:
        called: Any = net
        if compiled:
            torch.compiler.reset()
            called = torch.compile(net, fullgraph=True, dynamic=False, backend=bench.sizes.backend)

        def run() -> Any:
            with torch.inference_mode(), bench.autocast(amp):
                return called(image)

    took = bench.seconds(run, bench.sizes.repeats)
    peak = bench.peak(run)
    return f" | {1000 * took:.2f} | {1 / took:.1f} | {peak:.2f} | {took / floor:.1f} |"


def measure_16k(bench: Bench) -> Table:
    """One large image, on the host as bytes, streamed."""
    rows, cols = bench.sizes.sixteen_k
    table = [
        f"{cols}x{rows}, bytes on the host, result on the host:",
        "",
        "| network | precision | s | peak GiB |",
        "| --- | --- | --- | --- |",
    ]
    image = torch.randint(0, 256, (1, 3, rows, cols), dtype=torch.uint8)
    for network in bench.sizes.networks:
        net = build(network).eval().to(bench.device).to(memory_format=torch.channels_last)
        for amp in bench.precisions():
            # Eight GiB is what it may take, network and all.
            took: list[float] = []

            def run(net: nn.Module = net, amp: str | None = amp, took: Any = took) -> None:
                start = time.perf_counter()
                restore(net, image, "stream", amp=amp, memory=6 * 2**30, say=lambda said: None)
                took.append(time.perf_counter() - start)

            peak = bench.peak(run)
            run()
            table.append(f"| {network} | {amp or 'float32'} | {took[-1]:.2f} | {peak:.2f} |")
    return table


def measure_degrading(bench: Bench) -> Table:
    """Batches of clean crops that the trainer degrades (``degrade_on_device``)."""
    table = [
        f"Batches of {bench.sizes.batch}, crops and recipes on the device:",
        "",
        "| task | crop | ms a batch | samples/s | peak GiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    photograph = np.full((2160, 3840, 3), 90, np.uint8)
    for task in WEATHER:
        model = make_degradation({"type": task})
        companion = photograph if task == "reflection" else thumbnail(photograph)
        for crop in bench.sizes.crops:
            shapes = shapes_of([model], crop)
            drawn = [model.sample(np.random.default_rng(k)) for k in range(bench.sizes.batch)]
            place = Place(2160, 3840, 600, 900)
            made = [recipe(one, shapes, companion, place) for one in drawn]
            stacked = {k: part.to(bench.device) for k, part in default_collate(made).items()}
            shape = (bench.sizes.batch, 3, crop, crop)
            clean = torch.randint(0, 256, shape, dtype=torch.uint8, device=bench.device)

            def run(clean: Tensor = clean, stacked: dict[str, Tensor] = stacked) -> None:
                degrade(clean, stacked)

            took, peak = bench.seconds(run, bench.sizes.repeats), bench.peak(run)
            rate = bench.sizes.batch / took
            table.append(f"| {task} | {crop} | {1000 * took:.2f} | {rate:.0f} | {peak:.2f} |")
    return table


PARTS: dict[str, tuple[str, Callable[[Bench], Table]]] = {
    "device": ("What the card reaches", measure_device),
    "waits": ("Steps that never wait", measure_waits),
    "forward": ("4K", measure_forward),
    "16k": ("16K", measure_16k),
    "steps": ("A training step", measure_steps),
    "degrading": ("Degrading batches", measure_degrading),
    "training": ("Training with its loader", measure_training),
    "tasks": ("A short training of each task", measure_tasks),
}
"""In the order of their worth, should time run out."""


def main() -> int:
    """Measure, print and write; 1 where a part failed."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0],
        epilog="Parts: " + "; ".join(f"{key}: {title}" for key, (title, _) in PARTS.items()),
    )
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if cuda else "cpu")
    parser.add_argument("--small", action="store_true", help="small images, to try it on a CPU")
    parser.add_argument(
        "--quick", action="store_true", help="nothing compiled, medians of 3, without Restormer"
    )
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), metavar="PART")
    parser.add_argument("--minutes", type=float, default=BUDGET / 60, help="then no part is begun")
    parser.add_argument("--out", type=Path, help="Markdown file; also FILE.json with the seconds")
    args = parser.parse_args()
    if args.device == "cuda" and not cuda:
        parser.error("--device cuda: torch sees no GPU")
    torch.backends.cudnn.benchmark = True
    bench = Bench(args)
    name = torch.cuda.get_device_name() if bench.cuda else f"CPU, {torch.get_num_threads()} threads"
    report = [
        f"`python benchmarks/gpu.py {shlex.join(sys.argv[1:])}`",
        "",
        f"{name}, torch {torch.__version__}, {date.today()}",
    ]
    start, failed, took = time.monotonic(), 0, {}
    chosen = [key for key in PARTS if key in (args.only or PARTS)]
    if "device" not in chosen:
        measure_device(bench)
    for key in chosen:
        title, measure = PARTS[key]
        began = time.monotonic()
        if began - start > 60 * args.minutes:
            table = [f"Left out: {args.minutes:g} minutes were over."]
            failed += 1
        else:
            print(f"{key} ...", file=sys.stderr, flush=True)
            try:
                table = measure(bench)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # others are worth having
                traceback.print_exc()
                table = [f"Failed: {short(error)}"]
                failed += 1
        took[key] = round(time.monotonic() - began, 1)
        report += ["", f"## {title}", "", *table]
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text("\n".join(report) + "\n", encoding="utf-8")
            args.out.with_suffix(".json").write_text(json.dumps(took) + "\n")
    print("\n".join(report))
    print(f"{took} s", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
