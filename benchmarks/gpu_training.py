"""The parts of ``gpu.py`` that train: steps that never wait, their time, the real commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import train
import yaml
from forward import build
from gpu_bench import Bench, Table, short, work_of

from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.compat import patch_basicsr, patch_mmagic
from glsgn_plugins.io.pretrained import OPTIONS
from glsgn_plugins.io.shipped import find_shipped

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from demo_data import TRAIN_PHOTOS, photo


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
                        said = f"{done}, then: {short(error)}"
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
                    for compiled in bench.sizes.compiled if amp == "bf16" else (False,):
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
        for task, shipped in OPTIONS.items():
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
