"""The real ``mim`` command: train, kill, resume, test, several ranks; and beside BasicSR."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from harness import BIN, environment, make_pairs, of_ranks, run_at_once, run_command
from tiny_mmagic import logged, mim, scores, write

from glsgn_plugins import GLSGN, glsgn_b
from glsgn_plugins.compat import installed, patch_basicsr
from glsgn_plugins.io.weights import read_weights, write_weights

pytestmark = pytest.mark.skipif(installed("mmagic") is None, reason="mmagic is not in this stack")

TERMS = ("restored", "pathway_1", "pathway_2", "pathway_3", "pathway_g")
CONSISTENCIES = ("content", "attention", "intensity")


def checkpoints(folder):
    return sorted(int(p.stem[5:]) for p in folder.glob("work_dirs/tiny/iter_*.pth"))


def resumable(folder):
    """The iteration of the checkpoint that MMEngine resumes from, 0 before there is any."""
    file = folder / "work_dirs/tiny/last_checkpoint"
    named = re.search(r"iter_(\d+)\.pth", file.read_text()) if file.is_file() else None
    return int(named[1]) if named else 0


@pytest.fixture(scope="session")
def trained(tmp_path_factory, rainy_pair):
    """A folder in which ``mim train`` has trained a tiny GLSGNRestorer, with EMA and pictures."""

    def edit(cfg):
        cfg["custom_hooks"] = [
            {"type": "EMAHook", "momentum": 0.5},
            {"type": "BasicVisualizationHook", "interval": 1},
        ]
        cfg["visualizer"] = {
            "type": "ConcatImageVisualizer",
            "vis_backends": [{"type": "VisBackend"}, {"type": "TensorboardVisBackend"}],
            "fn_key": "gt_path",
            "img_keys": ["input", "pred_img", "gt_img"],
            "bgr2rgb": True,
        }

    folder = tmp_path_factory.mktemp("mmagic")
    make_pairs(folder, rainy_pair)
    write(folder, edit)
    (folder / "train.log").write_text(mim("train", folder))
    return folder


def test_the_restorer_trains_and_logs_every_term(trained):
    losses = logged(trained)
    assert [line["iter"] for line in losses] == [1, 2, 3, 4]
    for line in losses:
        terms = [line[f"loss_{term}"] for term in (*TERMS, *CONSISTENCIES)]
        assert line["loss"] == pytest.approx(sum(terms), rel=1e-5)
    assert re.search(r"Iter\(val\).*PSNR: \d\d\.\d+", (trained / "train.log").read_text())
    assert checkpoints(trained) == [2, 4]
    assert list(trained.rglob("events.out.tfevents.*"))


def test_the_visualizer_shows_input_output_and_truth(trained):
    (picture,) = trained.glob("work_dirs/tiny/*/vis_data/vis_image/2_4.png")
    shown = np.hsplit(cv2.imread(str(picture)), 3)
    for part, side in ((shown[0], "lq"), (shown[2], "gt")):
        assert np.array_equal(part, cv2.imread(str(trained / f"data/{side}/2.png")))
    # Hardly trained, the network returns its input.
    assert 0 < np.abs(shown[1].astype(int) - shown[0]).mean() < 5


def test_checkpoints_hold_the_average_and_it_is_the_average_that_is_converted(trained):
    """MMEngine's EMA of momentum 0.5, followed from one checkpoint to the next."""
    from glsgn_plugins.io.checkpoints import mmengine_globals, read_checkpoint
    from glsgn_plugins.io.weights import _History

    path = trained / "work_dirs/tiny/iter_4.pth"
    last = read_checkpoint(path, mmengine_globals(_History))
    key = "generator.fusion.mask1.conv1.weight"
    plain = last["ema_state_dict"][f"module.{key}"]
    averaged = last["state_dict"][key]
    assert not torch.equal(plain, averaged)
    found = read_weights(path)
    assert found.place == "generator in state_dict (averaged by EMAHook)"
    assert torch.equal(found.weights["fusion.mask1.conv1.weight"], averaged)


def test_the_stock_model_with_a_stock_loss(project):
    def stock(cfg):
        cfg["model"]["type"] = "BaseEditModel"
        cfg["model"]["pixel_loss"] = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}

    write(project, stock)
    mim("train", project)
    losses = [line["loss"] for line in logged(project)]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    first, last = (read_weights(project / f"work_dirs/tiny/iter_{i}.pth").weights for i in (2, 4))
    assert [k for k in last if k.endswith("weight") and torch.equal(first[k], last[k])] == []


def test_resumes_after_kill_9_and_past_a_truncated_checkpoint(project):
    def endless(cfg):
        cfg["train_cfg"].update(max_iters=100000, val_interval=100000)

    write(project, endless)
    process = subprocess.Popen(
        [BIN / "mim", "train", "mmagic", "config.py", "--gpus", "0"],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,  # mim trains in a process of its own, which has to go as well
    )
    deadline = time.monotonic() + 240
    while resumable(project) < 6:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    newest = resumable(project)
    for later in (i for i in checkpoints(project) if i > newest):
        # Killed between the file and its name in last_checkpoint: resuming may do without it.
        (project / f"work_dirs/tiny/iter_{later}.pth").unlink()
    *_, second, _ = checkpoints(project)
    file = project / f"work_dirs/tiny/iter_{newest}.pth"
    file.write_bytes(file.read_bytes()[:-100])
    before = len(list(project.glob("work_dirs/tiny/*/vis_data")))
    options = [f"train_cfg.max_iters={newest + 2}", f"train_cfg.val_interval={newest + 2}"]
    log = mim("train", project, "--resume", "--cfg-options", *options)
    assert f"Not resumed from iter_{newest}.pth" in log
    assert f"resumed epoch: 0, iter: {second}" in log
    assert len(list(project.glob("work_dirs/tiny/*/vis_data"))) == before + 1
    assert [line["iter"] for line in logged(project)] == list(range(second + 1, newest + 3))
    assert checkpoints(project)[-1] == newest + 2


def test_wrong_input_is_one_line_of_the_training_process(project):
    def uneven(cfg):
        cfg["model"]["generator"]["grids"] = [[4, 4], [3, 3], [2, 1]]

    write(project, uneven)
    log = mim("train", project, code=1)
    (line,) = (line for line in log.splitlines() if line.startswith("error: "))
    assert "GLSGN grids: the patches of pathway 1, [4, 4], can't be joined" in line
    assert "InputError" not in log


def test_two_ranks(project):
    """DistributedDataParallel without find_unused_parameters, over gloo as there is no GPU."""
    argv = ("mim", "train", "mmagic", write(project), "--launcher", "pytorch")
    done = run_at_once(*argv, cwd=project, of_each=of_ranks(2))
    assert [one.returncode for one in done] == [0, 0], done[0].stderr[-3000:]
    assert "GPU number: 2" in done[0].stdout + done[0].stderr
    assert [line["iter"] for line in logged(project)] == [1, 2, 3, 4]
    assert checkpoints(project) == [2, 4]


# --- beside BasicSR ------------------------------------------------------------------------------

DUMPING_METRIC = """
import pathlib, torch
from mmagic.evaluation.metrics.base_sample_wise_metric import BaseSampleWiseMetric
from mmagic.registry import METRICS

@METRICS.register_module()
class Dump(BaseSampleWiseMetric):
    metric = "Dump"

    def process(self, data_batch, data_samples):
        for data in data_samples:
            name = pathlib.Path(data["gt_path"]).stem
            torch.save(data["output"]["pred_img"], f"mmagic_{name}.pt")
            self.results.append({"Dump": 0})
"""

DUMPING_MODEL = """
import pathlib, torch
from basicsr.utils.registry import MODEL_REGISTRY
from glsgn_plugins.basicsr import GLSGNModel

@MODEL_REGISTRY.register()
class DumpModel(GLSGNModel):
    def feed_data(self, data):
        super().feed_data(data)
        self.image = pathlib.Path(data["lq_path"][0]).stem

    def test(self):
        super().test()
        torch.save(self.output, f"basicsr_{self.image}.pt")
"""


@pytest.fixture
def plugin(tmp_path):
    """A lab's own package: ``PYTHONPATH`` for both frameworks."""
    site = tmp_path / "site"
    info = site / "lab-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[basicsr.plugins]\nlab = lab_basicsr\n")
    (site / "lab_basicsr.py").write_text(DUMPING_MODEL)
    (site / "lab_mmagic.py").write_text(DUMPING_METRIC)
    return {"PYTHONPATH": str(site)}


def test_one_checkpoint_gives_one_output_in_the_core_and_under_both_frameworks(
    trained, project, write_options, plugin
):
    """``mim train`` wrote it, ``glsgn convert`` carries it. Scores differ by 8-bit rounding."""
    checkpoint = str(trained / "work_dirs/tiny/iter_4.pth")

    def dump(cfg):
        cfg["custom_imports"]["imports"].append("lab_mmagic")
        cfg["test_evaluator"] = {
            "type": "Evaluator",
            "metrics": [{"type": kind} for kind in ("PSNR", "SSIM", "Dump")],
        }

    write(project, dump)
    mmagic = scores(mim("test", project, "--checkpoint", checkpoint, **plugin))

    done = run_command("glsgn", "convert", checkpoint, "net.pth", cwd=project)
    assert done.returncode == 0, done.stderr

    def converted(opt):
        opt["model_type"] = "DumpModel"
        opt["path"].update(pretrain_network_g="net.pth", param_key_g="params_ema")

    options = write_options(converted, test=True)
    done = run_command("basicsr", "test", "-opt", str(options), cwd=project, **plugin)
    assert done.returncode == 0, done.stderr[-3000:]
    basicsr = scores(done.stderr)

    net = GLSGN(widths=(4, 4, 4, 4)).eval()
    net.load_state_dict(read_weights(Path(checkpoint)).weights)
    patch_basicsr()
    from basicsr.metrics import calculate_psnr, calculate_ssim

    rounded = []
    for k in range(4):
        lq, gt = (cv2.imread(str(project / f"data/{side}/{k}.png")) for side in ("lq", "gt"))
        rgb = torch.from_numpy(lq[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            core = net(rgb)
        under_basicsr = torch.load(project / f"basicsr_{k}.pt", weights_only=True)
        under_mmagic = torch.load(project / f"mmagic_{k}.pt", weights_only=True)
        torch.testing.assert_close(under_basicsr, core, atol=1e-6, rtol=0)
        in_rgb = under_mmagic.flip(0)[None] / 255  # MMagic hands out clipped BGR in [0, 255]
        torch.testing.assert_close(in_rgb, core.clamp(0, 1), atol=1e-6, rtol=0)
        image = under_mmagic.permute(1, 2, 0).numpy().round()
        rounded.append([f(image, gt, crop_border=0) for f in (calculate_psnr, calculate_ssim)])
    # Rounded as BasicSR rounds, MMagic's output scores what BasicSR prints, to its four digits.
    assert np.mean(rounded, axis=0) == pytest.approx(basicsr, abs=1e-4)
    # The rounding itself adds a mean square of 1/12: next to nothing at these 20 to 30 dB.
    assert mmagic[0] == pytest.approx(basicsr[0], abs=0.02)
    assert mmagic[1] == pytest.approx(basicsr[1], abs=1e-3)


def test_ten_steps_follow_the_same_losses(project, write_options):
    """The same data, weights and optimiser: each of GLSGNLoss's terms, to 1e-4 of its value."""
    net = GLSGN(widths=(4, 4, 4, 4))
    write_weights(net.state_dict(), project / "start.pth")
    for side in ("lq", "gt"):  # one pair of the crop's size, so that no draw plays a part
        for k in (1, 2, 3):
            (project / f"data/{side}/{k}.png").unlink()
        file = str(project / f"data/{side}/0.png")
        cv2.imwrite(file, cv2.imread(file)[:64, :64])
    adamw = {"type": "AdamW", "lr": 1e-3, "weight_decay": 1e-4, "betas": [0.9, 0.99]}

    def for_basicsr(opt):
        opt["datasets"]["train"].update(use_hflip=False)
        opt["path"].update(pretrain_network_g="start.pth", param_key_g="params")
        opt["train"].update(ema_decay=0, optim_g=adamw, total_iter=10, grad_clip=1.0)
        opt["train"].update(pixel_opt={"type": "GLSGNLoss"})
        del opt["train"]["pathway_opt"]

    def for_mmagic(cfg):
        cfg["load_from"] = "start.pth"
        cfg["train_cfg"].update(max_iters=10, val_interval=100)
        cfg["optim_wrapper"]["optimizer"] = adamw

    options = write_options(for_basicsr)
    done = run_command("basicsr", "train", "-opt", str(options), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    write(project, for_mmagic)
    mim("train", project)
    steps = logged(project)
    assert len(steps) == 10
    for term in (*TERMS, *CONSISTENCIES):
        basicsr = [float(v) for v in re.findall(rf"l_{term}: (\d\.\d+e[-+]\d+)", done.stderr)]
        assert basicsr == pytest.approx([step[f"loss_{term}"] for step in steps], rel=1e-4)
    assert steps[-1]["loss_restored"] != pytest.approx(steps[0]["loss_restored"], rel=0.01)


def test_a_checkpoint_of_basicsr_tests_alike_under_mim(project, write_options):
    def ema(opt):
        opt["train"].update(total_iter=2, ema_decay=0.5)

    done = run_command("basicsr", "train", "-opt", str(write_options(ema)), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    source = "experiments/tiny/models/net_g_latest.pth"
    done = run_command("glsgn", "convert", source, "travelled.pth", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "params_ema" in done.stdout

    def averaged(opt):
        opt["path"]["param_key_g"] = "params_ema"

    options = write_options(averaged, test=True)
    done = run_command("basicsr", "test", "-opt", str(options), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    write(project)
    mmagic = scores(mim("test", project, "--checkpoint", "travelled.pth"))
    basicsr = scores(done.stderr)
    assert mmagic[0] == pytest.approx(basicsr[0], abs=0.02)
    assert mmagic[1] == pytest.approx(basicsr[1], abs=1e-3)


@pytest.mark.parametrize("arch", ["GLSGN", "NAFNet"])
def test_in_tiles_images_score_as_whole_ones(arch, project, rainy_pair):
    """Within 0.01 dB, through ``mim test``; NAFNet pools over all that it sees, so only nearly."""
    for side, image in zip(("lq", "gt"), rainy_pair):
        cv2.imwrite(str(project / f"data/{side}/0.png"), image)

    found = []
    for tile in ({}, {"tile": "stream" if arch == "GLSGN" else 128, "tile_overlap": 64}):

        def tiled(cfg, tile=tile):
            if arch == "NAFNet":
                cfg["model"] = {
                    **cfg["model"],
                    "type": "TiledEditModel",
                    "generator": {"type": "NAFNet", "img_channels": 3, "mid_channels": 4},
                    "pixel_loss": {"type": "L1Loss"},
                }
            if tile:
                cfg["model"]["test_cfg"] = tile

        write(project, tiled)
        if not found:
            mim("train", project)
        checkpoint = "work_dirs/tiny/iter_4.pth"
        found.append(scores(mim("test", project, "--checkpoint", checkpoint))[0])
    assert found[1] == pytest.approx(found[0], abs=0.01)


def test_flops_by_mims_own_tool(tmp_path):
    done = run_command("glsgn", "path", "glsgn_derain.py", cwd=tmp_path)
    config = done.stdout.strip()
    argv = ("mim", "run", "mmagic", "get_flops", config, "--shape", "3", "64", "64")
    done = run_command(*argv, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    parameters = sum(p.numel() for p in glsgn_b().parameters())
    assert f"Params: {parameters / 1e6:.3f}M" in done.stdout
