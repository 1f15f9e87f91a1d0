"""The real ``basicsr`` command: train, kill, resume, test, several ranks."""

import re
import signal
import subprocess
import time

import pytest
import torch
from harness import BIN, environment, run_command

from glsgn_plugins import GLSGN
from glsgn_plugins.io.checkpoints import read_checkpoint

TERMS = ("l_pix", "l_pathway_1", "l_pathway_2", "l_pathway_3", "l_pathway_g")


def stock(opt):
    """Stock BasicSR, but for the architecture: model, loss, optimiser, dataset, schedule."""
    opt["model_type"] = "SRModel"
    del opt["train"]["pathway_opt"]


def cosine_adamw(opt):
    opt["train"]["optim_g"] = {"type": "AdamW", "lr": 1e-3, "weight_decay": 1e-4}
    opt["train"]["scheduler"] = {
        "type": "CosineAnnealingRestartLR",
        "periods": [10],
        "restart_weights": [1],
        "eta_min": 1e-6,
    }
    opt["train"].update(amp="bf16", grad_clip=1.0)


def train(project, options, *more, code=0):
    done = run_command("basicsr", "train", "-opt", str(options), *more, cwd=project)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def weights(project, iteration="latest", key="params"):
    return read_checkpoint(project / f"experiments/tiny/models/net_g_{iteration}.pth")[key]


@pytest.mark.parametrize("edit", [stock, cosine_adamw], ids=["SRModel", "GLSGNModel"])
def test_trains_and_tests(project, write_options, edit):
    def with_validation(opt):
        edit(opt)
        paired = {k: v for k, v in opt["datasets"]["train"].items() if "gt_size" not in k}
        opt["datasets"]["val"] = {**paired, "name": "held"}
        opt["val"].update(val_freq=4)

    log = train(project, write_options(with_validation)).stderr
    terms = TERMS[:1] if edit is stock else TERMS
    assert all(re.search(rf"{term}: \d\.\d+e", log) for term in terms)
    assert re.search(r"# psnr: \d\d\.\d+", log)
    first, last = weights(project, 2), weights(project)
    assert all(torch.isfinite(v).all() for v in last.values())
    assert all((first[k] != last[k]).any() for k in last)

    test_options = write_options(test=True)
    done = run_command("basicsr", "test", "-opt", str(test_options), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"# psnr: \d\d\.\d+", done.stderr)
    assert len(list((project / "results/tiny/visualization/rain").glob("*.png"))) == 4


def wait_for_state(process, states, iteration):
    deadline = time.monotonic() + 240
    while not (states / f"{iteration}.state").exists():
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def iterations(states):
    return sorted(int(p.stem) for p in states.glob("*.state"))


def test_resumes_after_kill_9_and_after_a_truncated_checkpoint(project, write_options):
    def long(opt):
        opt["train"]["total_iter"] = 100000

    options = write_options(long)
    states = project / "experiments/tiny/training_states"
    process = subprocess.Popen(
        [BIN / "basicsr", "train", "-opt", options],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_for_state(process, states, 6)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()

    last = iterations(states)[-1]
    total = ["--force_yml", f"train:total_iter={last + 3}"]
    log = train(project, options, "--auto_resume", *total).stderr
    assert f"iter: {last}." in log  # Resuming training from epoch: 0, iter: N.
    assert f"iter:{last + 1:8,d}," in log
    assert f"iter:{last:8,d}," not in log
    assert not list(project.glob("experiments/*archived*"))

    # Now the newest state is cut short, then the newest network of what is left.
    newest, second, third = iterations(states)[:-4:-1]
    file = states / f"{newest}.state"
    file.write_bytes(file.read_bytes()[:-100])
    file = project / f"experiments/tiny/models/net_g_{second}.pth"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    log = train(project, options, "--auto_resume", *total).stderr
    assert f"Not resumed from iteration {newest}" in log
    assert f"Not resumed from iteration {second}" in log
    assert f"iter: {third}." in log


def test_resuming_goes_on_exactly(project, write_options):
    """Four steps, and two steps plus two resumed ones, end in the same weights: in mid-epoch, too,
    where the samples that were trained on must not come again."""

    def crops(opt):
        loader = {k: v for k, v in opt["datasets"]["train"].items() if "_per_gpu" in k}
        opt["datasets"]["train"] = {
            **loader,
            **{"name": "rain", "type": "UHDPairedDataset", "dataroot": "data"},
            **{"lq": "lq/{n}", "gt": "gt/{n}", "gt_size": 32, "use_hflip": True},
            "dataset_enlarge_ratio": 50,
        }
        cosine_adamw(opt)
        opt["train"]["amp"] = None

    options = write_options(crops)
    train(project, options)
    whole = weights(project)
    for file in project.glob("experiments/tiny/*/*4.*"):
        file.unlink()
    train(project, options, "--auto_resume")
    for key, value in weights(project).items():
        torch.testing.assert_close(value, whole[key], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("epoch", "iteration", "batches", "place"),
    [
        (0, 2, 100, (0, 2)),
        (0, 100, 100, (1, 0)),  # all of an epoch, before the next was begun
        (3, 350, 100, (3, 50)),
        (3, 350, 50, (7, 0)),  # batches twice as large: other epochs than those before
        (3, 350, 200, (4, 0)),  # half as large: epoch 1 has been, and so has 3 in part
    ],
)
def test_where_in_the_data_training_goes_on(epoch, iteration, batches, place):
    from glsgn_plugins.compat.basicsr_training import _place_in_data

    assert _place_in_data(epoch, iteration, batches) == place


def test_the_average_starts_with_the_numbers_of_the_network(project, write_options):
    """Where a file has a part of the weights, the rest is the same in both."""
    torch.save({"params": GLSGN(widths=(4, 4, 4, 4)).state_dict()}, project / "narrow.pth")

    def wider(opt):
        opt["network_g"]["widths"] = [4, 4, 8, 8]
        opt["path"].update(pretrain_network_g="narrow.pth", strict_load_g=False)
        opt["train"].update(total_iter=1, ema_decay=0.999)
        opt["train"]["optim_g"]["lr"] = 0

    train(project, write_options(wider))
    averaged = weights(project, key="params_ema")
    for key, value in weights(project).items():
        torch.testing.assert_close(averaged[key], value, msg=key)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    project, write_options
):
    def exploding(opt):
        opt["train"]["optim_g"] = {"type": "SGD", "lr": 1e25}
        opt["logger"]["save_checkpoint_freq"] = 1
        opt["train"]["total_iter"] = 50

    done = train(project, write_options(exploding), code=1)
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("basicsr train: error: iteration ")
    assert "not finite" in message
    assert "l_pathway_g" in message
    assert "Traceback" not in done.stderr
    kept = int(re.search(r"last good checkpoint, iteration (\d+) is kept", message).group(1))
    assert kept == iterations(project / "experiments/tiny/training_states")[-1]
    assert all(torch.isfinite(v).all() for v in weights(project, kept).values())


def test_two_ranks_under_torchrun(project, write_options):
    """DistributedDataParallel without find_unused_parameters, over gloo as there is no GPU."""
    options = write_options()
    done = run_command(
        *("torchrun", "--standalone", "--nproc_per_node=2", "--no-python", str(BIN / "basicsr")),
        *("train", "-opt", str(options), "--launcher", "pytorch"),
        cwd=project,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Network: DistributedDataParallel - GLSGN" in done.stderr
    assert all(torch.isfinite(v).all() for v in weights(project).values())


def test_a_labs_own_plugin_is_loaded_and_a_broken_one_reported(project, write_options):
    """Any distribution can add names through the entry-point group ``basicsr.plugins``."""
    site = project / "site"
    info = site / "lab-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[basicsr.plugins]\nlab = lab_plugin\nbad = lab_bad\n")
    (site / "lab_bad.py").write_text("raise RuntimeError('half installed')\n")
    (site / "lab_plugin.py").write_text(
        "from basicsr.utils.registry import ARCH_REGISTRY\n"
        "from torch import nn\n"
        "@ARCH_REGISTRY.register()\n"
        "class LabNet(nn.Conv2d):\n"
        "    def __init__(self):\n"
        "        super().__init__(3, 3, 1)\n"
    )

    def lab(opt):
        stock(opt)
        opt["network_g"] = {"type": "LabNet"}

    argv = ("basicsr", "train", "-opt", str(write_options(lab)))
    done = run_command(*argv, cwd=project, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "plugin 'bad' failed: half installed" in done.stderr
    assert "Network [LabNet] is created" in done.stderr


# --- the full objective, and the adversarial term ------------------------------------------------


def full_objective(opt):
    opt["network_g"]["return_pathways"] = True
    opt["train"]["pixel_opt"] = {
        "type": "GLSGNLoss",
        "semantic_weight": 0.1,
        "backbone": "lpips_alex",
        "weights": "random",
    }
    opt["train"].pop("pathway_opt", None)


def test_the_full_objective_under_the_stock_model(project, write_options):
    def edit(opt):
        stock(opt)
        full_objective(opt)

    log = train(project, write_options(edit)).stderr
    assert "Loss [GLSGNLoss] is created" in log
    assert re.search(r"l_pix: \d\.\d+e", log)
    assert all(torch.isfinite(v).all() for v in weights(project).values())


def test_the_full_objective_logs_every_term_under_our_model(project, write_options):
    log = train(project, write_options(full_objective)).stderr
    consistencies = ("l_content", "l_attention", "l_intensity", "l_semantic")
    for term in ("l_restored", *TERMS[1:], *consistencies):
        assert re.search(rf"{term}: \d\.\d+e", log), term


def adversarial(opt):
    opt["model_type"] = "GLSGNGANModel"
    opt["network_d"] = {"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}
    opt["train"]["gan_opt"] = {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.01}
    opt["train"]["gan_global_weight"] = 0.5
    opt["train"]["optim_d"] = {"type": "Adam", "lr": 1e-3}


def test_the_gan_model_trains_resumes_and_tests(project, write_options):
    options = write_options(adversarial)
    log = train(project, options).stderr
    for term in ("l_g_gan", "l_g_gan_g", "l_d_real", "l_d_fake", "l_d_real_g", "l_d_fake_g"):
        assert re.search(rf"{term}: -?\d\.\d+e", log), term
    models = project / "experiments/tiny/models"
    for label in ("net_g", "net_d"):
        first, last = (read_checkpoint(models / f"{label}_{i}.pth")["params"] for i in (2, 4))
        assert [k for k in last if k.endswith("weight") and torch.equal(first[k], last[k])] == []

    # Without the newest discriminator, the newest state is of no use.
    (models / "net_d_4.pth").unlink()
    log = train(project, options, "--auto_resume").stderr
    assert "Not resumed from iteration 4" in log
    assert "iter: 2." in log
    assert (models / "net_d_4.pth").is_file()

    done = run_command("basicsr", "test", "-opt", str(write_options(test=True)), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]


def test_metrics_of_ours_in_validation(project, write_options):
    train(project, write_options())

    def edit(opt):
        metrics = opt["val"]["metrics"]
        metrics["lpips"] = {"type": "calculate_lpips", "weights": "random", "better": "lower"}
        metrics["seam"] = {"type": "calculate_seam", "better": "lower"}
        metrics["step"] = {"type": "calculate_seam", "figure": "residual", "better": "lower"}

    options = write_options(edit, test=True)
    done = run_command("basicsr", "test", "-opt", str(options), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    for metric in ("psnr", "ssim", "lpips", "seam", "step"):
        assert re.search(rf"# {metric}: \d+\.\d+", done.stderr), metric


def test_a_term_that_is_not_finite_is_named(project, write_options):
    def edit(opt):
        full_objective(opt)
        opt["train"]["pixel_opt"]["content_weight"] = 1e300  # beyond float32

    done = train(project, write_options(edit), code=1)
    assert "iteration 1: not finite: l_content (" in done.stderr.splitlines()[-1]
