"""A patch for both frameworks' slurm launcher: ranks by slurm's environment variables alone."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from glsgn_plugins.compat.patch import Patch
from glsgn_plugins.errors import InputError

PORT = 29500
"""Where the first rank is met unless said otherwise; torch's default."""


def first_host(nodes: str) -> str:
    """The first of slurm's list of hosts.

    Args:
        nodes: As ``SLURM_JOB_NODELIST`` has it, e.g. ``gpu[03-06,9],login1``.
    """
    first = re.match(r"[^,\[]*(\[[^\]]*\][^,\[]*)*", nodes)
    host = first[0] if first else nodes
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", host)


def rank_of_slurm(environment: Mapping[str, str], port: int | None) -> dict[str, str]:
    """What torch wants to know of a rank, from what slurm tells its task.

    Args:
        environment: Of the task, which ``srun`` has started.
        port: Of the first rank; by default ``MASTER_PORT``, or :data:`PORT`.

    Returns:
        ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``. An address
        that is set already is kept.

    Raises:
        InputError: It is no task of slurm's.
    """
    try:
        found = {
            "RANK": environment["SLURM_PROCID"],
            "WORLD_SIZE": environment["SLURM_NTASKS"],
            "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        }
        nodes = environment.get("SLURM_JOB_NODELIST") or environment["SLURM_NODELIST"]
    except KeyError as error:
        raise InputError(
            f"--launcher slurm: {error.args[0]} isn't set; start each rank by srun, or use "
            "torchrun and --launcher pytorch"
        ) from None
    found["MASTER_ADDR"] = environment.get("MASTER_ADDR") or first_host(nodes)
    found["MASTER_PORT"] = str(port or environment.get("MASTER_PORT") or PORT)
    return found


def init_dist_slurm(
    backend: str = "nccl", port: int | None = None, init_backend: str = "torch", **options: Any
) -> None:
    """Join the other ranks; over gloo where torch sees no GPU.

    Args:
        backend: Of torch's.
        port: As of :func:`rank_of_slurm`.
        init_backend: MMEngine's; ours is torch's.
        options: Of ``init_process_group``.
    """
    os.environ.update(rank_of_slurm(os.environ, port))
    devices = torch.cuda.device_count()
    if devices:  # one, where slurm shows each task its own
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % devices)
    else:
        backend = "gloo"
    torch.distributed.init_process_group(backend=backend, **options)


def _patch_basicsr() -> None:
    import basicsr.utils.dist_util as dist_util

    dist_util._init_dist_slurm = init_dist_slurm


def _patch_mmengine() -> None:
    import mmengine.dist.utils as utils

    utils._init_dist_slurm = init_dist_slurm


def _patch(framework: str, versions: str, apply: Any) -> Patch:
    return Patch(
        f"slurm in {framework}",
        symptom="--launcher slurm: ranks look for a host named 'sh: scontrol: not found'; without "
        "a GPU: 'integer modulo by zero'",
        cause="the first host is asked of scontrol, which containers lack, and each rank is taken "
        "to have a CUDA device",
        versions=versions,
        needed=lambda: True,
        apply=apply,
    )


BASICSR = (_patch("basicsr", "basicsr <= 1.4.2", _patch_basicsr),)
MMENGINE = (_patch("mmengine", "mmengine <= 0.10.7", _patch_mmengine),)
