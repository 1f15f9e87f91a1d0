"""Every figure that needs a GPU, in one command of at most 20 minutes on one card.

python benchmarks/gpu.py --out docs/gpu_measured.md

Parts, by ``--only``; each is written to the file as soon as it is measured, and one that fails says
why and lets the others go on:

- ``device``: what the card reaches in matrix products and in copies; floors below are by these.
- ``waits``: steps of both frameworks under ``torch.cuda.set_sync_debug_mode("error")``, by which
  any synchronisation is an error, with GradScaler, AmpOptimWrapper and NCCL.
- ``steps``: samples per second, memory and arithmetic of a training step at 512 and 768, compiled
  and not.
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
import copy
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
import train
import yaml
from forward import build
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.compat import patch_basicsr, patch_mmagic
from glsgn_plugins.inference import AMP_TYPES, restore
from glsgn_plugins.io.shipped import find_shipped

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from demo_data import TRAIN_PHOTOS, photo

Table = list[str]

BUDGET = 20 * 60
"""Seconds in all; parts that come after it are left out and said to be."""

TASKS = {
    "rain": "glsgn_derain.yml",
    "haze": "glsgn_dehaze.yml",
    "reflection": "glsgn_dereflection.yml",
}


class Sizes(SimpleNamespace):
    """What is measured on: full size, or small enough to be tried on a CPU."""

    @classmethod
    def of(cls, small: bool) -> Sizes:
        if small:
            return cls(
                four_k=(64, 96), sixteen_k=(96, 160), crops=(64,), batch=1, repeats=2, steps=3,
                gemm=256, copied=2**20, iterations=20, shortest=8, backend="aot_eager",
                networks=("glsgn_s",),
            )  # fmt: skip
        return cls(
            four_k=(2160, 3840), sixteen_k=(8640, 15360), crops=(512, 768), batch=4, repeats=10,
            steps=20, gemm=8192, copied=2**30, iterations=240, shortest=400, backend="inductor",
            networks=("glsgn_s", "glsgn_b"),
        )  # fmt: skip


class Bench:
    """The device, what it reaches, and how to measure on it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        self.small: bool = args.small
        self.sizes = Sizes.of(args.small)
        self.rates: dict[str, float] = {}  # multiply-adds and bytes per second

    def finish(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], Any], repeats: int) -> float:
        """Median of a few runs, each of which is waited for; the first two aren't counted."""
        took = []
        for k in range(repeats + 2):
            self.finish()
            start = time.perf_counter()
            run()
            self.finish()
            if k > 1:
                took.append(time.perf_counter() - start)
        return median(took)

    def peak(self, run: Callable[[], Any], whole: bool = False) -> float:
        """GiB that a run takes beside what is there before it, or with it; 0 on a CPU."""
        if not self.cuda:
            run()
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = 0 if whole else torch.cuda.memory_allocated()
        run()
        self.finish()
        return (torch.cuda.max_memory_allocated() - before) / 2**30

    def autocast(self, amp: str | None) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, AMP_TYPES[amp]) if amp else nullcontext()

    def precisions(self, framework: str = "") -> tuple[str | None, ...]:
        """CPUs have no float16 to speak of, and MMEngine none of the two on them."""
        if self.cuda:
            return None, "bf16", "fp16"
        return (None,) if framework == "MMagic" else (None, "bf16")


def work_of(net: nn.Module, shape: tuple[int, ...], width: int) -> tuple[float, float]:
    """Multiply-adds of a forward, and bytes of its convolutions' inputs and outputs.

    Args:
        net: The network; nothing is computed.
        shape: Of the input.
        width: Bytes of a number.
    """
    ghost = copy.deepcopy(net).to("meta")
    moved = 0

    def note(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal moved
        moved += width * (given[0].numel() + made.numel())

    for module in ghost.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ghost(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2, float(moved)


# --- device --------------------------------------------------------------------------------------


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


# --- forward -------------------------------------------------------------------------------------


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
    for network in (*bench.sizes.networks, "NAFNet-32", "Restormer"):
        for way in ("whole", "stream") if network.startswith("glsgn") else ("whole",):
            for amp in bench.precisions():
                # Compiling takes a minute each time; half precision is what one would compile for.
                for compiled in (False, True) if way == "whole" and amp == "bf16" else (False,):
                    yes = "yes" if compiled else "no"
                    name = f"| {network} | {way} | {amp or 'float32'} | {yes}"
                    try:
                        table.append(name + _forward(bench, network, way, amp, compiled, image))
                    except (ImportError, RuntimeError) as error:
                        table.append(f"{name} | {_short(error)} | | | |")
                    print(table[-1], file=sys.stderr, flush=True)
                    if bench.cuda:
                        torch.cuda.empty_cache()
    return table


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:80].replace("|", "/") or type(error).__name__


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


# --- training steps in this process --------------------------------------------------------------


def basicsr_model(bench: Bench, folder: Path, amp: str | None, compiled: bool) -> Any:
    """GLSGNModel by the shipped options of deraining."""
    patch_basicsr()
    from basicsr.models import build_model

    import glsgn_plugins.basicsr  # noqa: F401  # registers

    file = find_shipped("glsgn_derain.yml", "basicsr_options", ".yml")
    opt = yaml.safe_load(file.read_text(encoding="utf-8"))
    opt.update(is_train=True, dist=False, num_gpu=1 if bench.cuda else 0, rank=0, world_size=1)
    opt["path"].update(models=str(folder), training_states=str(folder))
    opt["train"].update(amp=amp, compile=bench.sizes.backend if compiled else False)
    if bench.small:
        opt["network_g"].update(widths=[4, 4, 4, 4], blocks=[1, 1, 1])
    return build_model(opt)


def mmagic_trainer(bench: Bench, amp: str | None, compiled: bool) -> tuple[Any, Any]:
    """GLSGNRestorer by the shipped config, and its optimiser's wrapper."""
    patch_mmagic()
    from mmagic.registry import MODELS
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import init_default_scope

    import glsgn_plugins.mmagic  # noqa: F401  # registers

    init_default_scope("mmagic")
    cfg = Config.fromfile(str(find_shipped("glsgn_derain.py", "mmagic_configs", ".py")))
    cfg.model.compile = bench.sizes.backend if compiled else False
    if bench.small:
        cfg.model.generator.update(widths=[4, 4, 4, 4], blocks=[1, 1, 1])
    wrapper = cfg.optim_wrapper
    if amp is None or not bench.cuda:
        wrapper.type = "OptimWrapper"
        del wrapper["dtype"], wrapper["loss_scale"]
        wrapper.optimizer.fused = bench.cuda
    else:
        wrapper.dtype = {"bf16": "bfloat16", "fp16": "float16"}[amp]
        wrapper.loss_scale = 1.0 if amp == "bf16" else "dynamic"
    model = MODELS.build(cfg.model).to(bench.device).train()
    return model, build_optim_wrapper(model, wrapper)


def basicsr_step(bench: Bench, model: Any, crop: int, dtype: torch.dtype) -> Callable[[], Any]:
    """A step on a batch that lies on the device."""
    shape = (bench.sizes.batch, 3, crop, crop)
    images = torch.randint(0, 256, shape, device=bench.device)
    data = {"lq": images.to(dtype), "gt": images.flip(3).to(dtype)}
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        model.feed_data(data)
        model.optimize_parameters(count)

    return step


def mmagic_step(bench: Bench, model: Any, wrapper: Any, crop: int) -> Callable[[], Any]:
    """A step on a batch that lies on the device, with what MMEngine's hooks do of it."""
    from mmagic.structures import DataSample
    from mmengine.logging import MessageHub

    hub = MessageHub.get_current_instance()
    about = {"img_channel_order": "RGB", "gt_channel_order": "RGB"}
    images = torch.randint(
        0, 256, (bench.sizes.batch, 3, crop, crop), dtype=torch.uint8, device=bench.device
    )

    def step() -> None:
        samples = [DataSample(gt_img=image.flip(2), metainfo=about) for image in images]
        data = {"inputs": list(images), "data_samples": samples}
        for key, value in model.train_step(data, wrapper).items():
            hub.update_scalar(f"train/{key}", value)

    return step


@contextmanager
def waiting_is_an_error(bench: Bench) -> Iterator[None]:
    if bench.cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if bench.cuda:
            torch.cuda.set_sync_debug_mode("default")


def measure_waits(bench: Bench) -> Table:
    """Steps in which any synchronisation is an error."""
    table = ["| framework | precision | compiled | steps without waiting |", "| --- " * 4 + "|"]
    crop = bench.sizes.crops[0]
    with tempfile.TemporaryDirectory() as name:
        for framework in ("BasicSR", "MMagic"):
            for amp in bench.precisions(framework):
                for compiled in (False, True) if amp == bench.precisions()[1] else (False,):
                    step = _step(bench, framework, Path(name), amp, compiled, crop)
                    for _ in range(3):  # libraries, states and graphs get made
                        step()
                    bench.finish()
                    done = 0
                    try:
                        with waiting_is_an_error(bench):
                            for _ in range(5):
                                step()
                                done += 1
                        said = str(done)
                    except RuntimeError as error:
                        said = f"{done}, then: {_short(error)}"
                        traceback.print_exc()
                    yes = "yes" if compiled else "no"
                    table.append(f"| {framework} | {amp or 'float32'} | {yes} | {said} |")
                    print(table[-1], file=sys.stderr, flush=True)
    return [*table, "", *_nccl(bench)]


def _step(
    bench: Bench, framework: str, folder: Path, amp: str | None, compiled: bool, crop: int
) -> Callable[[], Any]:
    if compiled:
        torch.compiler.reset()
    if framework == "BasicSR":
        model = basicsr_model(bench, folder, amp, compiled)
        return basicsr_step(bench, model, crop, torch.uint8)
    return mmagic_step(bench, *mmagic_trainer(bench, amp, compiled), crop)


NCCL = """
import torch
from torch.nn.parallel import DistributedDataParallel
from glsgn_plugins.losses import GLSGNLoss, loss_terms
from glsgn_plugins.archs.glsgn import GLSGN
cuda = torch.cuda.is_available()
torch.distributed.init_process_group("nccl" if cuda else "gloo")
device = torch.device("cuda", 0) if cuda else torch.device("cpu")
for left_out in ({}, {"restored_weight": 0}):
    net = GLSGN((8, 8, 8, 8), return_pathways=True).to(device)
    wrapped = DistributedDataParallel(net, device_ids=[0] if cuda else None)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        lq = torch.rand(2, 3, 64, 64, device=device)
        terms = loss_terms(GLSGNLoss(**left_out), None, wrapped(lq), lq.flip(3))
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
print("OK", torch.distributed.get_backend())
torch.distributed.destroy_process_group()
"""


def _nccl(bench: Bench) -> Table:
    with tempfile.TemporaryDirectory() as name:
        script = Path(name, "ranks.py")
        script.write_text(NCCL)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [*command, "--nproc_per_node=1", str(script)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
    said = done.stdout.strip().splitlines()[-1:] or ["nothing"]
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "Error" in line]
        said = [f"failed: {errors[:1] or done.stderr[-300:]}"]
    return [f"torchrun with one rank and DistributedDataParallel: {said[0]}."]


def measure_steps(bench: Bench) -> Table:
    """Time, memory and arithmetic of a step whose data lies on the device already."""
    table = [
        f"Batches of {bench.sizes.batch}, widths and losses of the shipped options; MFU is the "
        "arithmetic of forward and backward over what the card reaches in matrix products.",
        "",
        "| framework | crop | precision | compiled | ms | samples/s | peak GiB | MFU |",
        "| --- " * 8 + "|",
    ]
    with tempfile.TemporaryDirectory() as name:
        for framework in ("BasicSR", "MMagic"):
            for crop in bench.sizes.crops:
                for amp in bench.precisions(framework):
                    for compiled in (False, True) if amp == "bf16" else (False,):
                        step = _step(bench, framework, Path(name), amp, compiled, crop)
                        took = bench.seconds(
                            lambda step=step: [step() for _ in range(bench.sizes.steps)], 3
                        )
                        took /= bench.sizes.steps
                        peak = bench.peak(step, whole=True)
                        rate = bench.rates[amp or "float32"]
                        used = _arithmetic(bench, crop) / took / rate
                        yes = "yes" if compiled else "no"
                        table.append(
                            f"| {framework} | {crop} | {amp or 'float32'} | {yes} | "
                            f"{1000 * took:.1f} | {bench.sizes.batch / took:.1f} | {peak:.2f} | "
                            f"{100 * used:.1f} % |"
                        )
                        print(table[-1], file=sys.stderr, flush=True)
    return table


def _arithmetic(bench: Bench, crop: int) -> float:
    """Multiply-adds of forward and backward, which takes twice as many."""
    small = {"widths": (4, 4, 4, 4), "blocks": (1, 1, 1)}
    net = GLSGN(**small) if bench.small else build("glsgn_b")
    return 3 * work_of(net, (bench.sizes.batch, 3, crop, crop), 4)[0]


# --- the real commands ---------------------------------------------------------------------------


def measure_training(bench: Bench) -> Table:
    """``basicsr train`` and ``mim train`` with their loaders, by benchmarks/side_by_side.py."""
    table: Table = []
    for crop in bench.sizes.crops:
        command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("side_by_side.py"))]
        command += ["--iterations", str(bench.sizes.iterations)]
        command += ["--crop", str(crop), "--batch", str(bench.sizes.batch)]
        command += ["--workers", "1" if bench.small else str(min(12, os.cpu_count() or 1))]
        command += ["--amp", "bf16"] if bench.cuda else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-1500:])
        table += [*done.stdout.strip().splitlines(), ""]
    return table


def measure_tasks(bench: Bench) -> Table:
    """A short training of each task from scratch, on demo photographs."""
    table = ["| task | iterations | loss at first | loss at last |", "| --- " * 4 + "|"]
    steps = bench.sizes.shortest
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photographs").mkdir()
        for picture in TRAIN_PHOTOS:
            (folder / "photographs" / picture).write_bytes(photo(picture).read_bytes())
        for task, shipped in TASKS.items():
            file = find_shipped(shipped, "basicsr_options", ".yml")
            opt = yaml.safe_load(file.read_text(encoding="utf-8"))
            del opt["datasets"]["val"], opt["val"]
            opt["name"] = task
            opt["datasets"]["train"] = {
                "name": task,
                "type": "UHDSynthesisDataset",
                "dataroot": "photographs",
                "degradation": {"type": task},
                **({"dataroot_reflection": "photographs"} if task == "reflection" else {}),
                "gt_size": 64 if bench.small else 256,
                "as_bytes": True,
                "pin_memory": True,
                "batch_size_per_gpu": 2 if bench.small else 8,
                "num_worker_per_gpu": 0 if bench.small else min(8, os.cpu_count() or 1),
                "dataset_enlarge_ratio": 10 * steps,
            }
            if bench.small:
                opt["network_g"].update(widths=[4, 4, 4, 4], blocks=[1, 1, 1])
            opt["train"].update(
                total_iter=steps, warmup_iter=-1, amp="bf16" if bench.cuda else None
            )
            every = max(1, steps // 8)
            opt["logger"].update(print_freq=every, save_checkpoint_freq=10**9, use_tb_logger=False)
            (folder / f"{task}.yml").write_text(yaml.safe_dump(opt), encoding="utf-8")
            said, _ = train.watched(task, ["basicsr", "train", "-opt", f"{task}.yml"], folder)
            losses = [float(part.split()[0]) for part in said.split("l_restored: ")[1:]]
            late = f"{losses[-1]:.4f}"
            table.append(f"| {task} | {steps} | {losses[0]:.4f} | {late} |")
            print(table[-1], file=sys.stderr, flush=True)
    return table


PARTS: dict[str, tuple[str, Callable[[Bench], Table]]] = {
    "device": ("What the card reaches", measure_device),
    "waits": ("Steps that never wait", measure_waits),
    "forward": ("4K", measure_forward),
    "16k": ("16K", measure_16k),
    "steps": ("A training step", measure_steps),
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
                table = [f"Failed: {_short(error)}"]
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
