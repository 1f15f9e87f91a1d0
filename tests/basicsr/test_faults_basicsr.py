"""Situations of public bug reports, in BasicSR: what was asked for is done, or said before."""

import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr_runs import run_here, set_in
from harness import BIN, environment, make_pairs, run_command

from glsgn_plugins import GLSGN, InputError
from glsgn_plugins.compat.basicsr_training import forced_value
from glsgn_plugins.io.weights import states_of

TINY = (4, 4, 4, 4)


def iterations(log):
    return [int(n.replace(",", "")) for n in re.findall(r"iter: +([\d,]+), lr", log)]


def rates(log):
    found = re.findall(r"iter: +([\d,]+), lr:\(([\d.e+-]+)", log)
    return {int(n.replace(",", "")): float(rate) for n, rate in found}


def best(log):
    """The last validation's best score and the iteration that it is of."""
    return re.findall(r"Best: ([\d.]+) @ (\d+) iter", log)[-1]


def cosine(length):
    kind = {"type": "CosineAnnealingRestartLR", "restart_weights": [1], "eta_min": 1e-6}
    return {**kind, "periods": [length]}


@pytest.fixture(scope="session")
def trained(tmp_path_factory, rainy_pair):
    """A folder with the pairs and an experiment of four iterations, validated at 2 and 4.

    Three pairs in batches of two: an epoch is one whole batch, and BasicSR counts two.
    """
    folder = tmp_path_factory.mktemp("trained")
    make_pairs(folder, rainy_pair)
    for side in ("lq", "gt"):
        (folder / "data" / side / "3.png").unlink()
    paired = {
        "name": "rain",
        "type": "PairedImageDataset",
        "dataroot_lq": "data/lq",
        "dataroot_gt": "data/gt",
        "io_backend": {"type": "disk"},
    }
    crops = {"gt_size": 64, "use_hflip": True, "use_rot": False}
    loader = {"num_worker_per_gpu": 0, "batch_size_per_gpu": 2}
    opt = {
        "name": "tiny",
        "model_type": "GLSGNModel",
        "scale": 1,
        "num_gpu": "auto",
        "manual_seed": 0,
        "network_g": {"type": "GLSGN", "widths": list(TINY)},
        "datasets": {"train": {**paired, **crops, **loader}, "val": paired},
        "path": {"pretrain_network_g": None, "resume_state": None},
        "train": {
            "ema_decay": 0.9,
            "optim_g": {"type": "Adam", "lr": 1e-3},
            "scheduler": cosine(4),
            "total_iter": 4,
            "pixel_opt": {"type": "L1Loss"},
        },
        "val": {
            "val_freq": 2,
            "save_img": False,
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0}},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
    }
    (folder / "options.yml").write_text(yaml.safe_dump(opt))
    done = run_command("basicsr", "train", "-opt", "options.yml", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "log").write_text(done.stderr)
    return folder


@pytest.fixture
def experiment(trained, tmp_path):
    """A copy of it, and a function that goes on with it after an edit of the options."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)

    def go_on(edit=lambda opt: None, *more, resume=True):
        opt = yaml.safe_load((tmp_path / "options.yml").read_text())
        edit(opt)
        (tmp_path / "edited.yml").write_text(yaml.safe_dump(opt))
        flags = ["--auto_resume"] if resume else []
        done = run_command("basicsr", "train", "-opt", "edited.yml", *flags, *more, cwd=tmp_path)
        assert "Traceback" not in done.stderr
        return done

    return tmp_path, go_on


# --- the length of training ----------------------------------------------------------------------


def test_training_goes_to_total_iter_and_the_last_validation_is_of_it(trained):
    log = (trained / "log").read_text()
    assert iterations(log) == [1, 2, 3, 4]
    assert re.findall(r"@ (\d+) iter", log)[-1] in ("2", "4")
    scores = (trained / "experiments/tiny/validations.jsonl").read_text().splitlines()
    assert [json.loads(line)["iter"] for line in scores] == [2, 4, 4]


@pytest.mark.parametrize("kind", ["PairedImageDataset", "UHDPairedDataset"])
def test_a_set_smaller_than_a_batch_is_named(kind, project, write_options, monkeypatch, capsys):
    def edit(opt):
        train = opt["datasets"]["train"]
        train.update(batch_size_per_gpu=5, dataset_enlarge_ratio=1)
        if kind == "UHDPairedDataset":
            ours = {"type": kind, "dataroot": "data", "lq": "lq/{name}", "gt": "gt/{name}"}
            for key in ("dataroot_lq", "dataroot_gt", "io_backend"):
                del train[key]
            train.update(ours)

    options = write_options(edit)
    code, line = run_here(project, monkeypatch, capsys, "train", "-opt", str(options))
    assert code == 2
    assert "datasets.train: 4 images give 4 samples in an epoch, fewer than a batch of 5" in line
    assert "dataset_enlarge_ratio to 2 or more" in line
    assert not (project / "experiments").exists()


# --- resuming ------------------------------------------------------------------------------------


def longer(opt):
    opt["train"].update(total_iter=7, scheduler=cosine(10))


def milestones(opt):
    steps = {"type": "MultiStepLR", "milestones": [5], "gamma": 0.5}
    opt["train"].update(total_iter=7, scheduler=steps)


def another_rate(opt):
    longer(opt)
    opt["train"]["optim_g"].update(lr=4e-3, weight_decay=0.01)


@pytest.mark.parametrize(
    ("edit", "rate"),
    [
        (milestones, lambda n: 1e-3 if n <= 5 else 5e-4),
        (another_rate, lambda n: 1e-6 + 0.5 * (4e-3 - 1e-6) * (1 + np.cos(np.pi * (n - 1) / 10))),
    ],
    ids=["milestones", "longer"],
)
def test_a_changed_schedule_goes_on_as_the_options_now_say(edit, rate, experiment):
    folder, go_on = experiment
    done = go_on(edit)
    assert done.returncode == 0
    found = rates(done.stderr)
    assert found == pytest.approx({n: rate(n) for n in (5, 6, 7)}, rel=1e-3)
    assert "are not those of iteration 4" in done.stderr
    # The best score is that of all validations, those before the resuming among them.
    scores = [
        json.loads(line)
        for line in (folder / "experiments/tiny/validations.jsonl").read_text().splitlines()
    ]
    top = max(scores, key=lambda score: score["value"])
    value, iteration = best(done.stderr)
    assert float(value) == pytest.approx(top["value"], abs=1e-4)
    assert int(iteration) in {s["iter"] for s in scores if s["value"] == top["value"]}


def test_an_earlier_state_forgets_later_scores(experiment):
    folder, go_on = experiment
    for file in (folder / "experiments/tiny").glob("*/*4.*"):
        file.unlink()
    done = go_on()
    assert "iter: 2." in done.stderr
    scores = (folder / "experiments/tiny/validations.jsonl").read_text().splitlines()
    assert [json.loads(line)["iter"] for line in scores] == [2, 4, 4]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            lambda opt: opt["train"].update(optim_g={"type": "SGD", "lr": 1e-3, "momentum": 0.9}),
            "of another optimiser than SGD",
        ),
        (lambda opt: opt["network_g"].update(widths=[8, 4, 4, 4]), "doesn't fit GLSGN"),
    ],
    ids=["optimiser", "network"],
)
def test_a_state_of_something_else_is_refused_before_the_start(edit, said, experiment):
    folder, go_on = experiment
    before = sorted(folder.glob("experiments/tiny/*/*"))
    done = go_on(edit)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert sorted(folder.glob("experiments/tiny/*/*")) == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_state_of_another_name_is_refused_rather_than_left_out(resume, experiment):
    folder, go_on = experiment

    def renamed(opt):
        opt["name"] = "other"
        opt["path"]["resume_state"] = "experiments/tiny/training_states/4.state"

    done = go_on(renamed, resume=resume)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "path.resume_state: experiments/tiny/training_states/4.state goes with" in line
    assert "path.pretrain_network_g" in line
    assert not list(folder.glob("experiments/other/*/*"))


def test_networks_that_are_never_saved_are_not_asked_for(tmp_path):
    """A frozen teacher, say."""
    from glsgn_plugins.compat.basicsr import _saved_networks

    opt = {"network_g": {}, "network_t": {}, "network_d": {}, "path": {"models": str(tmp_path)}}
    for name in ("net_g_4", "net_d_4"):
        (tmp_path / f"{name}.pth").touch()
    assert _saved_networks(opt) == ["net_g", "net_d"]
    opt["path"]["ignore_resume_networks"] = ["network_d"]
    assert _saved_networks(opt) == ["net_g"]


def test_results_of_a_model_that_tests_in_its_own_way_are_kept(tmp_path):
    from glsgn_plugins.compat.basicsr_training import _put_back

    for name in ("empty", "results"):
        (tmp_path / name / "visualization").mkdir(parents=True)
        (tmp_path / name / "test.log").touch()
    (tmp_path / "results/visualization/a.png").touch()
    (tmp_path / "archived").mkdir()
    for name in ("empty", "results"):
        _put_back(tmp_path / name, tmp_path / "archived" if name == "empty" else None)
    assert (tmp_path / "results/visualization/a.png").is_file()
    assert not list((tmp_path / "empty").iterdir())  # what was displaced is back
    assert not (tmp_path / "archived").exists()


def test_pictures_of_two_validation_sets_are_kept_apart(project, write_options):
    def two(opt):
        full(opt)
        opt["datasets"]["val_1"] = {**opt["datasets"]["val"], "name": "a"}
        opt["datasets"]["val_2"] = {**opt["datasets"].pop("val"), "name": "b"}
        opt["train"]["total_iter"] = 1
        opt["val"]["val_freq"] = 5

    done = run_command("basicsr", "train", "-opt", str(write_options(two)), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("a", "b"):
        assert len(list(project.glob(f"experiments/tiny/visualization/{name}/*/*_1.png"))) == 4


def test_weights_are_no_training_state(trained):
    from glsgn_plugins.compat.basicsr import _training_state

    with pytest.raises(InputError, match=r"net_g_4\.pth: no training state of BasicSR's"):
        _training_state(trained / "experiments/tiny/models/net_g_4.pth")
    assert _training_state(trained / "experiments/tiny/training_states/4.state")["iter"] == 4


def test_starts_of_one_name_within_a_second_are_all_kept(tmp_path):
    """BasicSR names the folder that it moves aside after the second."""
    from glsgn_plugins.compat import patch_basicsr

    patch_basicsr()
    from basicsr.utils.misc import mkdir_and_rename

    for start in range(4):
        mkdir_and_rename(str(tmp_path / "tiny"))
        (tmp_path / "tiny" / f"{start}.log").touch()
    assert {p.name for p in tmp_path.glob("tiny*/*")} == {"0.log", "1.log", "2.log", "3.log"}
    assert len(list(tmp_path.iterdir())) == 4


def test_a_start_that_fails_puts_the_last_experiment_back(experiment):
    """This one fails when the loss is built, after the folders have been moved."""
    folder, go_on = experiment
    before = sorted(folder.glob("experiments/**/*"))

    def impossible(opt):
        opt["train"]["pixel_opt"] = {"type": "PathwayReconstructionLoss", "criterion": "l2"}

    done = go_on(impossible, resume=False)
    assert done.returncode == 2
    assert "criterion: 'l2'" in done.stderr
    assert sorted(folder.glob("experiments/**/*")) == before


def test_a_full_disk_is_one_line_and_keeps_what_is_there(experiment):
    """A limit on the size of files stops torch.save as a full disk does."""
    folder, _ = experiment
    more = "--auto_resume --force_yml train:total_iter=6 train:scheduler:periods=[6]"
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; ulimit -f 40; {BIN}/basicsr train -opt options.yml {more}"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(r"can't be written .*iteration 4 is kept.*--auto_resume", last)


# --- weights -------------------------------------------------------------------------------------


def state(seed=0):
    torch.manual_seed(seed)
    return {k: v + 0.01 * torch.rand_like(v) for k, v in GLSGN(widths=TINY).state_dict().items()}


def score(project, options):
    done = run_command("basicsr", "test", "-opt", str(options), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    return re.search(r"# psnr: (\d+\.\d+)", done.stderr)[1]


def test_tests_take_the_averaged_weights_unless_told_otherwise(project, write_options):
    raw, averaged = state(1), state(2)
    torch.save({"params": raw, "params_ema": averaged}, project / "both.pth")
    torch.save({"params": averaged}, project / "averaged.pth")
    found = []
    for file, key in (("both.pth", None), ("averaged.pth", None), ("both.pth", "params")):

        def edit(opt, file=file, key=key):
            opt["path"]["pretrain_network_g"] = file
            opt["val"]["save_img"] = False
            if key:
                opt["path"]["param_key_g"] = key

        found.append(score(project, write_options(edit, test=True)))
    assert found[0] == found[1] != found[2]


PREFIXES = ("_orig_mod.", "module.", "model.", "net_g.", "generator.", "module._orig_mod.", "a.b.")
WRAPPED = {
    "bare": lambda w: w,
    "params": lambda w: {"params": w},
    "model": lambda w: {"model": w, "epoch": 1, "optimizer": {"state": {0: torch.ones(1)}}},
    "lightning": lambda w: {"state_dict": {**w, "step": torch.ones(1)}, "epoch": 1},
    "nested": lambda w: {"checkpoint": {"model": {"state_dict": w}}},
}


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
@pytest.mark.parametrize("wrap", WRAPPED)
def test_weights_are_found_under_any_prefix_in_any_container(prefix, wrap):
    weights = state()
    content = WRAPPED[wrap]({prefix + key: value for key, value in weights.items()})
    (found,) = states_of(content, "global_pathway.encoder.stem.weight")
    assert found.weights.keys() >= weights.keys()
    assert all(torch.equal(found.weights[key], value) for key, value in weights.items())


@pytest.mark.parametrize("name", ["net.SAFETENSORS", "net.pth", "net.ckpt"])
def test_basicsr_loads_what_other_trainers_write(name, tmp_path):
    from safetensors.torch import save_file

    from glsgn_plugins.compat import patch_basicsr

    patch_basicsr()
    from basicsr.models.base_model import BaseModel

    weights = state()
    content = {f"model._orig_mod.{key}": value for key, value in weights.items()}
    if name.endswith("SAFETENSORS"):
        save_file(content, tmp_path / name)
    else:
        torch.save({"state_dict": content}, tmp_path / name)
    net = GLSGN(widths=TINY)
    model = BaseModel({"num_gpu": 0, "is_train": False})
    model.load_network(net, str(tmp_path / name))
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    torch.save({"params": {"conv.weight": torch.ones(3)}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: no weights of GLSGN"):
        model.load_network(net, str(tmp_path / "other.pth"), strict=False)


# --- results -------------------------------------------------------------------------------------


@pytest.fixture
def scenes(project):
    """Three scenes whose images have one name, the last of them of 16 bits; and weights."""
    for side in ("lq", "gt"):
        for k in range(3):
            folder = project / "scenes" / side / f"s{k}"
            folder.mkdir(parents=True)
            image = cv2.imread(str(project / f"data/{side}/{k}.png"))
            image = image.astype(np.uint16) * 257 if k == 2 else image
            cv2.imwrite(str(folder / "frame.png"), image)
    torch.save({"params": state()}, project / "net.pth")
    return project


def of_scenes(opt):
    opt["path"]["pretrain_network_g"] = "net.pth"
    patterns = {"lq": "lq/{scene}/frame", "gt": "gt/{scene}/frame"}
    ours = {"name": "r", "type": "UHDPairedDataset", "dataroot": "scenes", **patterns}
    opt["datasets"] = {"test_1": ours}


def test_results_of_equal_names_are_kept_apart_with_their_depth(scenes, write_options):
    score(scenes, write_options(of_scenes, test=True))
    written = sorted(scenes.glob("results/tiny/visualization/r/**/*.png"))
    folder = scenes / "results/tiny/visualization/r"
    assert written == [folder / f"s{k}/frame_tiny.png" for k in range(3)]
    depths = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED).dtype for file in written]
    assert depths == [np.uint8, np.uint8, np.uint16]


def test_the_stock_model_would_write_them_over_each_other_and_is_refused(
    scenes, write_options, monkeypatch, capsys
):
    def edit(opt):
        of_scenes(opt)
        opt["model_type"] = "SRModel"

    options = write_options(edit, test=True)
    code, line = run_here(scenes, monkeypatch, capsys, "test", "-opt", str(options))
    assert code == 2
    assert "would get one name; use model_type: TiledSRModel" in line


def test_output_that_is_not_finite_is_no_black_picture(scenes, write_options, monkeypatch, capsys):
    torch.save({"params": {k: v * float("nan") for k, v in state().items()}}, scenes / "net.pth")
    options = write_options(of_scenes, test=True)
    done = run_command("basicsr", "test", "-opt", str(options), cwd=scenes)
    assert done.returncode == 2
    assert "frame.png: the network's output is not finite" in done.stderr.splitlines()[-1]
    assert not list(scenes.glob("results/**/*.png"))


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1", -1),
        ("no", False),
        ("yes", True),
        ("off", False),
        ("True", True),
        ("1e-4", 1e-4),
        ("!!float1e-4", 1e-4),
        ("-2.5", -2.5),
        ("[1, -2, 3e2]", [1, -2, 300.0]),
        ("~", None),
        ("none", None),
        ("text", "text"),
        ("007", 7),
        ("data/lq", "data/lq"),
    ],
)
def test_values_of_force_yml_are_those_of_yaml(text, value):
    found = forced_value(text)
    assert found == value
    assert type(found) is type(value)


def at(opt, path):
    for key in path[:-1]:
        opt = opt[key]
    return opt


def paths(section, before=()):
    for key, value in section.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from paths(value, (*before, key))


def without_a_key(path):
    return lambda opt: at(opt, path).pop(path[-1])


def misspelt(path):
    return lambda opt: at(opt, path).update({f"{path[-1]}_": at(opt, path).pop(path[-1])})


def full(opt):
    """Every section that training has."""
    opt["datasets"]["val"] = {
        k: v
        for k, v in opt["datasets"]["train"].items()
        if k.startswith(("name", "type", "dataroot", "io"))
    }


LISTED = {
    "name": 20241105,
    "name/": "lab/tiny",
    "train.ema_decay": "9e-1",
    "train.total_iter": "4e0",
    "train.pixel_opt.loss_weight": "1e0",
    "train.pixel_opt.reduction": "avg",
    "train.optim_g.weight_decay": "1e-4",
    "train.optim_g.lr": "fast",
    "train.optim_g.betas": ["0.9", 0.99],
    "train.scheduler.gamma": "half",
    "train.scheduler.milestones": 100,
    "train.pixel_opt": None,
    "train.grad_clip": 0,
    "datasets.train.gt_size": "64",
    "datasets.train.persistent_workers": True,
    "datasets.train.prefetch_mode": "gpu",
    "datasets.train.batch_size_per_gpu": 0,
    "datasets.train.use_hflip": "no",
    "logger.print_freq": 0,
    "logger.use_tb_logger": "yes",
    "val.val_freq": "1e3",
    "val.save_img": None,
    "val.metrics.psnr.better": "larger",
    "val.metrics.psnr.crop_border": "4",
    "path.strict_load_g": "true",
    "num_gpu": "2",
    "scale": 1.5,
    "manual_seed": -1,
}


@pytest.fixture
def refused(project, write_options, monkeypatch, capsys):
    """Runs ``basicsr train`` after an edit; what it says, in one line, with nothing touched."""

    def run(edit):
        def both(opt):
            full(opt)
            edit(opt)

        options = write_options(both)
        code, line = run_here(project, monkeypatch, capsys, "train", "-opt", str(options))
        assert code == 2, line
        assert line.startswith("basicsr train: error: ")
        assert not (project / "experiments").exists()
        return line

    return run


@pytest.mark.parametrize("key", LISTED)
def test_values_that_can_not_be_are_named_before_the_start(key, refused):
    path = key.rstrip("/").split(".")
    line = refused(set_in(*path, value=LISTED[key]))
    assert path[-1] in line


def test_a_key_that_is_no_text_is_named(refused):
    assert "train: the key False is no text" in refused(lambda opt: opt["train"].update({False: 1}))


def test_the_stock_model_needs_a_suffix(project, write_options, monkeypatch, capsys):
    def edit(opt):
        opt["model_type"] = "SRModel"
        opt["path"]["pretrain_network_g"] = None
        del opt["val"]["suffix"]

    options = write_options(edit, test=True)
    code, line = run_here(project, monkeypatch, capsys, "test", "-opt", str(options))
    assert code == 2
    assert "the options lack 'val.suffix'" in line


def options_of_training(write_options):
    return yaml.safe_load(write_options(full).read_text())


OPTIONAL = {
    *("manual_seed", "network_g.widths", "datasets.train.dataset_enlarge_ratio", "datasets.val"),
    *("path.pretrain_network_g", "path.strict_load_g", "path.resume_state", "train.ema_decay"),
    *("train.scheduler.gamma", "train.warmup_iter", "train.pixel_opt.loss_weight", "val"),
    *("train.pixel_opt.reduction", "train.pathway_opt", "train.pathway_opt.loss_weight"),
    *("val.suffix", "val.metrics", "val.metrics.psnr", "val.metrics.ssim", "logger.wandb"),
    *("logger.wandb.project",),
}


def test_every_key_that_is_missing_or_misspelt_is_named(project, write_options, monkeypatch):
    from glsgn_plugins.basicsr.options import check_options

    monkeypatch.chdir(project)
    opt = options_of_training(write_options)
    check_options(opt, True)
    own = {("val", "metrics", name) for name in opt["val"]["metrics"]} | {("datasets", "val")}
    for path in paths(opt):
        for spoil in (without_a_key, misspelt):
            changed = yaml.safe_load(yaml.safe_dump(opt))
            spoil(path)(changed)
            if path in own or (spoil is without_a_key and ".".join(path) in OPTIONAL):
                check_options(changed, True)
                continue
            try:
                check_options(changed, True)
            except InputError as error:
                assert path[-1] in str(error)  # noqa: PT017
            else:
                pytest.fail(f"{spoil.__name__} {path}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nscale: 1\nname: b\n", "'name' stands twice, in lines 1 and 3"),
        ("train:\n  lr: 1\n  lr: 2\n", "'lr' stands twice, in lines 2 and 3"),
    ],
)
def test_a_key_that_stands_twice_is_named(text, said, project, monkeypatch, capsys):
    (project / "twice.yml").write_text(text)
    code, line = run_here(project, monkeypatch, capsys, "train", "-opt", "twice.yml")
    assert code == 2
    assert said in line


def test_metrics_without_truths_are_named(project, write_options, monkeypatch, capsys):
    def edit(opt):
        opt["path"]["pretrain_network_g"] = None
        single = {"name": "r", "type": "SingleImageDataset", "dataroot_lq": "data/lq"}
        opt["datasets"] = {"test_1": {**single, "io_backend": {"type": "disk"}}}

    options = write_options(edit, test=True)
    code, line = run_here(project, monkeypatch, capsys, "test", "-opt", str(options))
    assert code == 2
    assert "val.metrics.psnr: calculate_psnr compares with truths" in line
