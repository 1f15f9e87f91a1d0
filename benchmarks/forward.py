"""Time and memory of inference with glsgn_s and glsgn_b, against networks picked for it elsewhere.

One command, unattended, on Linux, with a GPU or without::

    python benchmarks/forward.py --sizes 512 1024 1080p 4k --out docs/forward.md

- Peers: NAFNet (width 32) and Restormer (its default, deraining) of MMagic, SwinIR (the standard
  one for restoration at 1x) of BasicSR; untrained, which changes no cost.
- Every network has a process of its own. Those of one size live together and are asked in turn
  for one forward pass per round, so that a drift of the machine hits all alike.
- One warm-up each, then ``--repeats`` rounds; seconds are their median, memory their maximum.
- glsgn runs in channels_last; peers in the faster of both layouts, by one warm-up in each.
- SwinIR and Restormer need multiples of 8, which all sizes are, so no input is padded here. glsgn
  (to multiples of 32) and NAFNet (of 16) pad inside, as part of what is timed.
- Memory, CPU: peak RSS in the pass, less RSS just before it, when network and input exist and
  freed memory has gone back to the system. CUDA: likewise of the caching allocator.
- CUDA: each timed pass follows an untimed one, since processes give memory back in between.
- Multiply-adds are those of convolutions and matrix products, at the full size.
- The allocator is the default one, which on CPUs maps large blocks anew each time. That costs
  networks of many elementwise steps most; one that keeps freed memory gives other ratios.
- Out of memory on a CPU is: more than 80 % of what was available when the pass began.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import ctypes
import json
import os
import platform
import re
import resource
import select
import shlex
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

SIZES = {"512": (512, 512), "1024": (1024, 1024), "1080p": (1080, 1920), "4k": (2160, 3840)}
"""Height and width."""

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
START_LIMIT = 600.0
"""Seconds for a process to import its framework, build its network and count its operations."""

MEMORY_SHARE = 0.8
"""Of the memory available, what a pass on the CPU may take."""

REFERENCE = "glsgn_s"
NETWORKS = {
    REFERENCE: ("channels_last",),
    "glsgn_b": ("channels_last",),
    "NAFNet-32": tuple(LAYOUTS),
    "Restormer": tuple(LAYOUTS),
    "SwinIR": tuple(LAYOUTS),
}
"""And the layouts that each is tried in."""


def build(network: str) -> nn.Module:
    """One of NETWORKS; ImportError where its framework is missing."""
    import glsgn_plugins
    from glsgn_plugins.compat import patch_basicsr, patch_mmagic

    if network.startswith("glsgn"):
        return getattr(glsgn_plugins, network)()
    if network == "SwinIR":
        patch_basicsr()
        from basicsr.archs.swinir_arch import SwinIR

        six = [6] * 6
        return SwinIR(
            128, 1, 3, 180, depths=six, num_heads=six, window_size=8, mlp_ratio=2, upscale=1
        )
    patch_mmagic()
    if network == "Restormer":
        from mmagic.models.editors.restormer.restormer_net import Restormer

        return Restormer()
    from mmagic.models.editors.nafnet.nafnet_net import NAFNet

    return NAFNet(3, 32, middle_blk_num=12, enc_blk_nums=[2, 2, 4, 8], dec_blk_nums=[2, 2, 2, 2])


# --- In the process of one network ---------------------------------------------------------------


def work(job: dict[str, Any]) -> None:
    """Answer each line of stdin, a layout, with one measured forward pass."""
    # Frameworks may print; what they print must not get among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    device = torch.device(job["device"])
    measure = _measure_cuda if device.type == "cuda" else _measure_cpu
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    else:
        # Should the kernel have to end a process, let it be this one.
        Path("/proc/self/oom_score_adj").write_text("1000")
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    try:
        net = build(job["network"]).eval()
        answer(
            parameters=sum(p.numel() for p in net.parameters()),
            macs=_count_macs(net, job["size"]),
            threads=torch.get_num_threads(),
            device=_name(device),
        )
        prepared = None
        for line in sys.stdin:
            layout = line.strip()
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, job["bf16"]):
                if layout != prepared:
                    # From the first network each time: a 1x1 convolution's weights are of both
                    # layouts at once, so they don't come back from channels_last.
                    ready = copy.deepcopy(net).to(device).to(memory_format=LAYOUTS[layout])
                    image = torch.rand(1, 3, *job["size"], device=device)
                    image = image.contiguous(memory_format=LAYOUTS[layout])
                    ready(image[:, :, :64, :64])  # libraries and threads get set up
                    prepared = layout
                answer(**measure(ready, image))
    except ImportError as error:
        answer(failure=str(error).splitlines()[0])
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        answer(failure="out of memory")


def _count_macs(net: nn.Module, size: list[int]) -> float:
    """Multiply-adds of one image. Nothing is computed, SwinIR's attention masks neither."""
    ghost = copy.deepcopy(net).to("meta")
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        ghost(torch.rand(1, 3, *size))
    return counter.get_total_flops() / 2


def _measure_cpu(net: nn.Module, image: torch.Tensor) -> dict[str, float]:
    ctypes.CDLL(None).malloc_trim(0)
    available = MEMORY_SHARE * _kib("/proc/meminfo", "MemAvailable") * 1024
    held = _kib("/proc/self/status", "VmData") * 1024
    # With a limit of its own the process gets an error, before the kernel looks for a victim.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(held + available), hard))
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM, the peak, back to VmRSS
    before = _kib("/proc/self/status", "VmRSS")
    start = time.perf_counter()
    net(image)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": (_kib("/proc/self/status", "VmHWM") - before) * 1024}


def _measure_cuda(net: nn.Module, image: torch.Tensor) -> dict[str, float]:
    net(image)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    net(image)
    end.record()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    return {"seconds": start.elapsed_time(end) / 1000, "bytes": peak}


def _kib(file: str, field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path(file).read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def _out_of_memory(error: Exception) -> bool:
    wordings = "out of memory|can't allocate memory|bad_alloc|could not create a memory"
    return isinstance(error, MemoryError) or bool(re.search(wordings, str(error), re.IGNORECASE))


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


# --- In the process that asks --------------------------------------------------------------------


class NoResult(Exception):
    """Why a network has no figures."""


class Worker:
    """One network at one size, in its process; and what came of it."""

    def __init__(self, network: str, size: str, args: argparse.Namespace) -> None:
        self.network, self.size, self.timeout = network, size, args.timeout
        self.job = {"network": network, "size": SIZES[size], "bf16": args.amp == "bf16"}
        self.job |= {"device": args.device, "threads": args.threads}
        self.process: subprocess.Popen[str] | None = None
        self.facts: dict[str, Any] = {}
        self.passes: list[dict[str, float]] = []
        self.layout = ""
        self.failure = ""

    def warm_up(self) -> None:
        """Settle on a layout, or on a failure."""
        seconds = {}
        for layout in NETWORKS[self.network]:
            found = self.forward(layout)
            if not found:
                break  # what takes too long in one layout takes long in the other, too
            seconds[layout] = found["seconds"]
        if seconds:
            self.layout = min(seconds, key=seconds.__getitem__)
            self.failure = ""

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def forward(self, layout: str) -> dict[str, float] | None:
        """One pass, by a new process where the last one ended; ``None`` sets ``failure``."""
        found = None
        try:
            if not self.process:
                command = [sys.executable, "-W", "ignore", __file__, "--worker"]
                self.process = subprocess.Popen(
                    [*command, json.dumps(self.job)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                self.facts = self._answer(START_LIMIT, " to start")
            assert self.process.stdin
            with contextlib.suppress(BrokenPipeError):  # _answer tells what it died of
                print(layout, file=self.process.stdin, flush=True)
            found = self._answer(self.timeout)
            said = f"{found['seconds']:.2f} s"
        except NoResult as error:
            said = str(error)
            self.failure = self.failure or said
            self.stop()
        print(f"{self.size} {self.network}, {layout}: {said}", file=sys.stderr, flush=True)
        return found

    def _answer(self, limit: float, to_do: str = "") -> dict[str, Any]:
        process = self.process
        assert process
        assert process.stdout
        if not select.select([process.stdout], [], [], limit)[0]:
            raise NoResult(f"over {limit:g} s{to_do}")
        line = process.stdout.readline()
        if not line:
            status = process.wait()
            # An allocation that fails where C++ can't throw ends in SIGABRT.
            if status in (-signal.SIGKILL, -signal.SIGABRT):
                raise NoResult("out of memory")
            raise NoResult(f"failed with exit status {status}")
        answer = json.loads(line)
        if "failure" in answer:
            raise NoResult(answer["failure"])
        return answer


def compare(size: str, args: argparse.Namespace) -> list[Worker]:
    """All networks at one size."""
    workers = [Worker(network, size, args) for network in NETWORKS]
    try:
        for worker in workers:
            worker.warm_up()
        for _ in range(args.repeats):
            for worker in workers:
                if not worker.failure and (found := worker.forward(worker.layout)):
                    worker.passes.append(found)
    finally:
        for worker in workers:
            worker.stop()
    return workers


COLUMNS = (
    f"Size | Network | Parameters (M) | TMAC | s / image | time / {REFERENCE} | "
    f"Peak memory (GiB) | memory / {REFERENCE} | Layout"
)


def rows(workers: list[Worker]) -> list[str]:
    """The table's rows of one size."""
    measured = {
        w.network: (median(p["seconds"] for p in w.passes), max(p["bytes"] for p in w.passes))
        for w in workers
        if not w.failure
    }
    reference = measured.get(REFERENCE)
    table = []
    for w in workers:
        cells = [w.size, w.network, "n/a", "n/a", w.failure, "n/a", "n/a", "n/a", w.layout or "n/a"]
        if w.facts:
            cells[2:4] = f"{w.facts['parameters'] / 1e6:.2f}", f"{w.facts['macs'] / 1e12:.3f}"
        if w.network in measured:
            seconds, size = measured[w.network]
            cells[4], cells[6] = f"{seconds:.3g}", f"{size / 2**30:.2f}"
            if reference:
                cells[5], cells[7] = f"{seconds / reference[0]:.2f}", f"{size / reference[1]:.2f}"
        table.append(f"| {' | '.join(cells)} |")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="SIZE")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if cuda else "cpu")
    parser.add_argument("--amp", choices=("bf16",), help="autocast; without it float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=int, default=120, help="seconds per forward")
    parser.add_argument("--threads", type=int, help="of the CPU; torch's default")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker)
        return
    if min(args.repeats, args.timeout, 1 if args.threads is None else args.threads) < 1:
        parser.error("--repeats, --timeout and --threads start at 1")
    if args.device == "cuda" and not cuda:
        parser.error("--device cuda: torch sees no GPU")

    compared = [compare(size, args) for size in args.sizes]
    facts = next((w.facts for workers in compared for w in workers if w.facts), {})
    lines = [
        f"`python benchmarks/forward.py {shlex.join(sys.argv[1:])}`",
        "",
        f"torch {torch.__version__}, {facts.get('device', args.device)}, "
        f"{facts.get('threads', '?')} CPU threads, {args.amp or 'float32'}, {date.today()}; "
        f"median time and largest memory of {args.repeats} passes after warm-up, batch of 1.",
        "",
        f"| {COLUMNS} |",
        f"|{' --- |' * len(COLUMNS.split(' | '))}",
        *(row for workers in compared for row in rows(workers)),
    ]
    report = "\n".join(lines) + "\n"
    print(report, end="")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(report)


if __name__ == "__main__":
    main()
