"""Two ranks over gloo: losses left out, slurm's launcher, and going on with another number."""

import re

import pytest
from harness import free_port, of_ranks, run_at_once, run_command

from glsgn_plugins import InputError, compat
from glsgn_plugins.compat.slurm import first_host, rank_of_slurm

JOINING = """
import itertools, torch
from torch.nn.parallel import DistributedDataParallel
from glsgn_plugins.archs.glsgn import GLSGN
from glsgn_plugins.losses import GLSGNLoss, ContentConsistencyLoss, loss_terms
from glsgn_plugins.training import average_statistics

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
"""

LEFT_OUT = """
names = [f"{n}_weight" for n in ("restored", "pathway", "content", "attention", "intensity")]
plans = [{}] + [{name: 0} for name in names]
# Each alone, too: all others left out.
plans += [{other: 0 for other in names if other != name} for name in names]
for plan, fusion in itertools.product(plans, ("laplacian", "sum")):
    torch.manual_seed(0)
    net = GLSGN((4, 4, 4, 4), fusion=fusion, return_pathways=True)
    wrapped = DistributedDataParallel(net)  # without find_unused_parameters
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-3)
    for step in range(2):
        torch.manual_seed(2 * step + rank)
        lq, gt = torch.rand(2, 1, 3, 64, 64)
        optimizer.zero_grad()
        terms = loss_terms(GLSGNLoss(**plan), ContentConsistencyLoss(), wrapped(lq), gt)
        assert ("restored" in terms) == bool(plan.get("restored_weight", 1))
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    weights = torch.cat([p.detach().flatten() for p in net.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    torch.distributed.all_gather(both, weights)
    assert torch.equal(*both), plan
if rank == 0:
    print(f"{len(plans)} plans")
"""

STATISTICS = """
def running(net):
    return torch.cat([p.flatten() for n, p in net.named_parameters() if "running" in n])

torch.manual_seed(0)
alone = GLSGN((4, 4, 4, 4), patch_norm="pooled").train()
net = DistributedDataParallel(alone)
torch.manual_seed(rank)
for _ in range(2):
    net(torch.rand(1, 3, 64, 64))
    own = running(alone)
    both = [torch.empty_like(own) for _ in range(2)]
    torch.distributed.all_gather(both, own)
    assert not torch.equal(*both)
    average_statistics(alone)
    torch.testing.assert_close(running(alone), (both[0] + both[1]) / 2)
if rank == 0:
    print("averages in common")
torch.distributed.destroy_process_group()
average_statistics(alone)  # nothing without ranks
assert torch.equal(running(alone), (both[0] + both[1]) / 2)
"""


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What the scripts above print, one after another."""
    code = JOINING + LEFT_OUT + STATISTICS
    folder = tmp_path_factory.mktemp("ranks")
    done = run_at_once("python", "-c", code, cwd=folder, of_each=of_ranks(2))
    assert [one.returncode for one in done] == [0, 0], done[0].stderr[-3000:]
    return done[0].stdout.splitlines()


def test_any_loss_can_be_left_out(two_ranks):
    assert "11 plans" in two_ranks


def test_ranks_have_patch_norms_averages_in_common(two_ranks):
    assert "averages in common" in two_ranks


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[03-06,9],login1", "gpu03"),
        ("a[1-2]-ib[7,9]", "a1-ib7"),
        ("node-a.cluster,node-b.cluster", "node-a.cluster"),
    ],
)
def test_the_first_host_of_slurms_list(nodes, first):
    assert first_host(nodes) == first


def test_a_rank_by_slurms_variables():
    task = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
    found = rank_of_slurm({**task, "SLURM_JOB_NODELIST": "gpu[3-4]"}, None)
    assert found == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu3",
        "MASTER_PORT": "29500",
    }
    kept = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"}
    found = rank_of_slurm({**task, **kept, "SLURM_NODELIST": "gpu3"}, 2)
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("10.0.0.1", "2")
    with pytest.raises(InputError, match="SLURM_PROCID isn't set; start each rank by srun"):
        rank_of_slurm({}, None)


def slurm_task(rank, port):
    """What srun tells the tasks of a job on this machine."""
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": str(rank),
        "SLURM_JOB_NODELIST": "localhost",
        "MASTER_PORT": str(port),
    }


def as_tasks(*argv, cwd, port):
    """What a command says as two tasks of slurm's."""
    tasks = [slurm_task(rank, port) for rank in (0, 1)]
    done = run_at_once(*argv, cwd=cwd, of_each=tasks)
    said = [one.stdout + one.stderr for one in done]
    assert [one.returncode for one in done] == [0, 0], "\n".join(said)[-4000:]
    return said


@pytest.mark.skipif(compat.installed("basicsr") is None, reason="basicsr is not in this stack")
def test_slurms_launcher_in_basicsr_and_going_on_with_one_rank(project, write_options):
    port = free_port()

    def edit(opt):
        opt["dist_params"] = {"backend": "nccl", "port": port}
        opt["logger"]["print_freq"] = 2

    options = str(write_options(edit))
    command = ("basicsr", "train", "-opt", options)
    said = as_tasks(*command, "--launcher", "slurm", cwd=project, port=port)
    assert "DistributedDataParallel - GLSGN" in said[0]
    assert re.search(r"iter:\s+4,.*l_pix: \d\.\d+e", said[0])
    more = ("--auto_resume", "--force_yml", "train:total_iter=6")
    done = run_command(*command, *more, cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "iter: 4." in done.stderr
    assert re.search(r"iter:\s+6,", done.stderr)


JOINED = """
import sys, torch
from glsgn_plugins.compat import patch_mmagic
patch_mmagic()
from mmengine.dist import init_dist
init_dist("slurm", backend="nccl")
total = torch.ones(1) * (torch.distributed.get_rank() + 1)
torch.distributed.all_reduce(total)
print("together", int(total.item()), torch.distributed.get_backend())
"""


@pytest.mark.skipif(compat.installed("mmagic") is None, reason="mmagic is not in this stack")
def test_slurms_launcher_in_mmengine(tmp_path):
    said = as_tasks("python", "-c", JOINED, cwd=tmp_path, port=free_port())
    assert all("together 3 gloo" in text for text in said)
