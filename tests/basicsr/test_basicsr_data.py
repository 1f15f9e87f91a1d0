"""The UHD datasets under the real ``basicsr`` command: the three tasks, and files that go bad."""

import json
import re
import shutil

import numpy as np
import pytest
from demo_data import photo
from harness import run_command, run_python

from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.io.images import png, read_image

TASKS = {
    "glsgn_derain": ("rain", "UHD-Rain", ("training_set", "testing_set"), ("input", "gt")),
    "glsgn_dehaze": ("haze", "UHD-Haze", ("train", "test"), ("input", "gt")),
    "glsgn_dereflection": (
        "reflection",
        "UHD4K-RR",
        ("train", "test"),
        ("blended", "transmission_layer"),
    ),
}
SMALL = ("num_gpu=auto", "network_g:widths=[4,4,4,4]", "network_g:blocks=[1,1,1]")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    root = tmp_path_factory.mktemp("clean")
    for name in ("coffee.png", "rocket.jpg", "astronaut.png"):
        (root / f"{name[:-4]}.png").write_bytes(png(read_image(photo(name))[:128, :160]))
    return root


@pytest.mark.parametrize("name", TASKS)
def test_shipped_options_train_and_test_on_their_sets(name, clean, tmp_path):
    """Each task's own options, on a small set in its own layout that glsgn synthesize made."""
    kind, layout, splits, sides = TASKS[name]
    made = tmp_path / "made"
    argv = ["synthesize", kind, "--clean", str(clean), "--out", str(made), "--workers", "1"]
    assert main(argv) == 0
    for split in splits:
        for side, folder in zip(("lq", "gt"), sides):
            shutil.copytree(made / side, tmp_path / "datasets" / layout / split / folder)
    if kind == "reflection":  # named otherwise, and paired by the set's own lists
        for split in splits:
            records = []
            root = tmp_path / "datasets" / layout / split
            for k, path in enumerate(sorted((root / "blended").iterdir())):
                path.rename(path.with_name(f"b{k}.png"))
                records.append({"blended": f"b{k}.png", "transmission_layer": path.name})
            (root / f"4k_{split}_results_list.json").write_text(json.dumps(records))

    small = [*SMALL, "datasets:train:gt_size=64", "datasets:train:num_worker_per_gpu=1"]
    small += ["datasets:train:batch_size_per_gpu=2", "train:total_iter=2"]
    small += ["val:val_freq=2", "logger:save_checkpoint_freq=2", "logger:print_freq=1"]
    small += ["datasets:train:dataset_enlarge_ratio=4", "datasets:train:scene_share=0.5"]
    done = run_command(
        "basicsr", "train", "-opt", f"{name}.yml", "--force_yml", *small, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-1500:]
    assert "Number of train images: 3" in done.stderr
    assert "# psnr:" in done.stderr

    weights = next((tmp_path / "experiments").glob("*/models/net_g_latest.pth"))
    test = [*SMALL, f"path:pretrain_network_g={weights}", "val:save_img=false"]
    done = run_command(
        "basicsr", "test", "-opt", f"{name}_test.yml", "--force_yml", *test, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-1500:]
    assert re.search(r"Number of test images in \S+: 3", done.stderr)
    assert "# psnr:" in done.stderr


def all_tasks(opt, clean):
    train = opt["datasets"]["train"]
    for key in ("dataroot_lq", "dataroot_gt", "io_backend"):
        train.pop(key)
    train.update(
        type="UHDMixedDataset",
        datasets=[
            {"type": "UHDSynthesisDataset", "dataroot": str(clean), "degradation": {"type": kind}}
            for kind in ("rain", "reflection", "haze")
        ],
    )


def test_all_tasks_train_as_one_dataset_and_a_wrong_part_is_named(clean, tmp_path, write_options):
    def mixed(opt):
        all_tasks(opt, clean)
        opt["train"]["total_iter"] = 4

    options = write_options(mixed)
    done = run_command("basicsr", "train", "-opt", str(options), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-1500:]
    photographs = len(list(clean.glob("*.*")))
    assert f"Number of train images: {3 * photographs}" in done.stderr

    def misspelt(opt):
        mixed(opt)
        opt["datasets"]["train"]["datasets"][2]["degradation"]["type"] = "hazy"

    options = write_options(misspelt)
    done = run_command("basicsr", "train", "-opt", str(options), cwd=tmp_path)
    assert done.returncode == 2
    assert "datasets.train: datasets[2]: degradation.type: 'hazy' does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def on_device(opt, clean):
    all_tasks(opt, clean)
    opt["datasets"]["train"].update(as_bytes=True, degrade_on_device=True)
    opt["train"]["total_iter"] = 3
    opt["logger"]["print_freq"] = 1


def test_all_tasks_train_degraded_where_they_are_trained_on(clean, tmp_path, write_options):
    options = write_options(lambda opt: on_device(opt, clean))
    done = run_command("basicsr", "train", "-opt", str(options), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-1500:]
    assert re.search(r"iter: +3,.*l_", done.stderr), done.stderr[-1500:]
    assert list((tmp_path / "experiments").glob("*/models/net_g_latest.pth"))


@pytest.mark.parametrize(
    ("phase", "change", "said"),
    [
        ("train", {"as_bytes": False}, "degrade_on_device: needs gt_size, and as_bytes: true"),
        ("train", {"degrade_on_device": 1}, "degrade_on_device"),
        ("val", {}, "degrade_on_device: of training alone"),
    ],
)
def test_what_cannot_be_degraded_there_is_said(
    phase, change, said, clean, project, write_options, monkeypatch, capsys
):
    from glsgn_plugins.cli.basicsr import main as basicsr

    def edit(opt):
        if phase == "val":
            pairs = {"type": "UHDPairedDataset", "dataroot": "data", "layout": "synthesized"}
            opt["datasets"]["val"] = {"name": "v", **pairs, "degrade_on_device": True}
        else:
            on_device(opt, clean)
        opt["datasets"][phase].update(change)

    monkeypatch.chdir(project)
    assert basicsr(["train", "-opt", str(write_options(edit))]) == 2
    message = capsys.readouterr().err
    assert f"datasets.{phase}" in message
    assert said in message
    assert not (project / "experiments").exists()


def test_synthesis_trains_and_an_image_that_goes_bad_is_named(clean, tmp_path, write_options):
    root = tmp_path / "photographs"
    shutil.copytree(clean, root)

    def synthesis(opt):
        train = opt["datasets"]["train"]
        for key in ("dataroot_lq", "dataroot_gt", "io_backend"):
            train.pop(key)
        train.update(
            type="UHDSynthesisDataset",
            dataroot=str(root),
            degradation={"type": "rain", "preset": "real", "veil": [0.0, 2.0], "identity": 0.2},
            resize=[0.5, 1.0],
            num_worker_per_gpu=2,
            dataset_enlarge_ratio=400,
        )
        opt["train"]["total_iter"] = 4

    options = write_options(synthesis)
    done = run_command("basicsr", "train", "-opt", str(options), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-1500:]

    # Whole at the start, so that the check passes; cut short before the loader comes to it.
    (root / "fifo.png").symlink_to(root / "target.png")
    shutil.copyfile(root / "coffee.png", root / "target.png")
    code = (
        "import sys, pathlib; from glsgn_plugins.compat import patch_basicsr; patch_basicsr()\n"
        "import basicsr.train as train; build = train.create_train_val_dataloader\n"
        "def cut(*a):\n"
        "    made = build(*a)\n"
        f"    for p in pathlib.Path({str(root)!r}).glob('*.png'):\n"
        "        p.write_bytes(p.read_bytes()[:2000])\n"
        "    return made\n"
        "train.create_train_val_dataloader = cut\n"
        "from glsgn_plugins.cli.basicsr import main; sys.exit(main(sys.argv[1:]))\n"
    )
    done = run_python("-c", code, "train", "-opt", str(options), cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("basicsr train: error: ")
    assert "cut short, its end is missing" in last
    assert str(root) in last


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"gt_sise": 64}, "datasets.train: gt_sise (UHDPairedDataset): 'gt_sise'"),
        ({"layout": "synthesised"}, "Did you mean 'synthesized'"),
        ({"gt_size": None}, "lacks 'gt_size', the training crop"),
        ({"gt_size": 90}, "lq/0.png: 80x96 pixels, smaller than gt_size, 90"),
        ({"crops_per_image": 0}, "crops_per_image: expected a whole number from 1 up"),
        ({"dataroot": "dada"}, "datasets.train.dataroot: folder 'dada' does not exist"),
        ({"scale": 2}, "scale: 2, but UHDPairedDataset has inputs of equal size"),
    ],
)
def test_wrong_options_are_found_before_the_start(
    edit, said, project, write_options, monkeypatch, capsys
):
    from glsgn_plugins.cli.basicsr import main as basicsr

    def uhd(opt):
        train = opt["datasets"]["train"]
        for key in ("dataroot_lq", "dataroot_gt", "io_backend"):
            train.pop(key)
        train.update({"type": "UHDPairedDataset", "dataroot": "data", "layout": "synthesized"})
        train.update(edit)

    monkeypatch.chdir(project)
    assert basicsr(["train", "-opt", str(write_options(uhd))]) == 2
    assert said in capsys.readouterr().err
    assert not (project / "experiments").exists()


@pytest.mark.parametrize(
    ("degradation", "said"),
    [
        ({"preset": "plane"}, "degradation.preset: 'plane' does not exist. Did you mean 'plain'"),
        ({"identity": 3}, "preset real: identity: expected one number from 0 to 1, got 3"),
        ({"preset": "plain", "identity": 0.1}, "degradation.identity (rain, preset plain)"),
        ({"cover": [0.5, 0.1]}, "rain: cover: expected two numbers [low, high]"),
    ],
)
def test_wrong_presets_are_found_before_the_start(
    degradation, said, clean, project, write_options, monkeypatch, capsys
):
    from glsgn_plugins.cli.basicsr import main as basicsr

    def synthesis(opt):
        train = opt["datasets"]["train"]
        for key in ("dataroot_lq", "dataroot_gt", "io_backend"):
            train.pop(key)
        train.update(type="UHDSynthesisDataset", dataroot=str(clean))
        train["degradation"] = {"type": "rain", **degradation}

    monkeypatch.chdir(project)
    assert basicsr(["train", "-opt", str(write_options(synthesis))]) == 2
    assert said in capsys.readouterr().err
    assert not (project / "experiments").exists()


def test_a_pair_that_does_not_fit_is_found_before_the_start(
    project, write_options, monkeypatch, capsys
):
    from glsgn_plugins.cli.basicsr import main as basicsr

    def uhd(opt):
        train = opt["datasets"]["train"]
        for key in ("dataroot_lq", "dataroot_gt", "io_backend"):
            train.pop(key)
        train.update(type="UHDPairedDataset", dataroot="data", layout="synthesized")

    (project / "data/lq/2.png").write_bytes(png(np.zeros((96, 70, 3), np.uint8)))
    monkeypatch.chdir(project)
    assert basicsr(["train", "-opt", str(write_options(uhd))]) == 2
    assert "data/lq/2.png: 70x96 pixels, but its truth data/gt/2.png has 80x96" in (
        capsys.readouterr().err
    )
