"""MMagic's registries, loading and errors, in this process: ``mim`` runs the same code."""

import logging
import os
import pickle
import shutil
from collections import OrderedDict

import cv2
import numpy as np
import pytest
import torch

from glsgn_plugins import GLSGN, InputError, compat, restore
from glsgn_plugins.data import datasets
from glsgn_plugins.data.crops import Crops
from glsgn_plugins.data.sampling import SampleIndex
from glsgn_plugins.errors import NonFiniteLossError, NotSavedError
from glsgn_plugins.io import checkpoints
from glsgn_plugins.io.shipped import shipped_files
from glsgn_plugins.io.weights import of_generator, write_weights
from glsgn_plugins.metrics import calculate_lpips, calculate_seam
from glsgn_plugins.training import pair_on_device

if compat.installed("mmagic") is None:
    pytest.skip("mmagic is not in this stack", allow_module_level=True)

import glsgn_plugins.mmagic  # noqa: F401, I001  # patches first, and registers

from mmagic.apis import MMagicInferencer
from mmagic.registry import DATASETS, METRICS, MODELS
from mmagic.structures import DataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import HistoryBuffer, MessageHub, MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner import checkpoint as loading
from networks import trained_like
from tiny_mmagic import tiny, write


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmagic")


# --- configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_files("mmagic_configs", ".py"))
def test_every_shipped_config_builds_its_model_and_metrics(name):
    cfg = Config.fromfile(shipped_files("mmagic_configs", ".py")[name])
    model = MODELS.build(cfg.model)
    assert isinstance(model.generator, GLSGN)
    assert model.generator.return_pathways
    metrics = [METRICS.build(metric) for metric in cfg.test_evaluator.metrics]
    assert [m.metric for m in metrics][:2] == ["PSNR", "SSIM"]
    assert cfg.work_dir == f"./work_dirs/{cfg.experiment_name}"
    assert cfg.test_dataloader == cfg.val_dataloader


def test_a_gradient_reaches_every_parameter_and_terms_are_summed():
    model = MODELS.build({**tiny()["model"], "pathway_loss": {"type": "PathwayReconstructionLoss"}})
    sample = DataSample(gt_img=torch.rand(2, 3, 64, 64))
    losses = model(torch.rand(2, 3, 64, 64), sample, mode="loss")
    total, logged = model.parse_losses(losses)
    assert total.item() == pytest.approx(sum(v.item() for v in losses.values()), rel=1e-5)
    assert {"loss", "loss_restored", "loss_pathway_1", "loss_content"} <= set(logged)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_a_loss_that_is_not_finite_stops_training_where_it_is_read():
    model = MODELS.build(tiny()["model"])
    hub = MessageHub.get_instance("finite")
    truth = torch.rand(1, 3, 64, 64)
    for step, fill in enumerate((0.5, torch.nan, 0.5)):
        hub.update_info("iter", step)
        losses = model(torch.full_like(truth, fill), DataSample(gt_img=truth), mode="loss")
        for name, value in model.parse_losses(losses)[1].items():
            hub.update_scalar(f"train/{name}", value)
    assert hub.get_info("iter") == 2
    with pytest.raises(NonFiniteLossError, match=r"iteration 2: .*loss_restored nan"):
        hub.state_dict()  # as where a checkpoint is written
    assert len(hub.get_scalar("train/loss").data[0]) == 3


def test_losses_are_float32_under_autocast():
    model = MODELS.build(tiny()["model"])
    images = torch.rand(2, 1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images[0], DataSample(gt_img=images[1]), mode="loss")
    assert {value.dtype for value in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_metrics_are_those_of_the_core(rainy_pair):
    rainy, clean = (image[:128, :160] for image in rainy_pair)
    chw = [torch.from_numpy(x.transpose(2, 0, 1).copy()).float() for x in (rainy, clean)]
    sample = {"output": {"pred_img": chw[0]}, "gt_img": chw[1]}
    for config, expected in (
        ({"type": "LPIPS", "weights": "random"}, calculate_lpips(rainy, clean, weights="random")),
        ({"type": "Seam"}, calculate_seam(rainy, clean)),
        (
            {"type": "Seam", "figure": "residual", "grid": [2, 2]},
            calculate_seam(rainy, clean, figure="residual", grid=(2, 2)),
        ),
    ):
        metric = METRICS.build(config)
        metric.process([], [sample])
        (value,) = metric.compute_metrics(metric.results).values()
        assert value == pytest.approx(expected, rel=1e-5)


def test_the_inferencer_restores_a_photograph(tmp_path, rainy_pair):
    """Colours in their order, any size, from a file to a file."""
    rainy = rainy_pair[0][:97, :131]
    cv2.imwrite(str(tmp_path / "in.png"), rainy)
    write(tmp_path)
    net = GLSGN(widths=(4, 4, 4, 4)).eval()
    with torch.no_grad():  # away from the identity, and not alike in red and blue
        net.local_pathways[2].head.bias.copy_(torch.tensor([0.1, 0.0, -0.1]))
    torch.save({"state_dict": {f"generator.{k}": v for k, v in net.state_dict().items()}},
               tmp_path / "net.pth")  # fmt: skip
    inferencer = MMagicInferencer(
        "nafnet",  # any model of restoration: the config and the checkpoint are ours
        model_config=str(tmp_path / "config.py"),
        model_ckpt=str(tmp_path / "net.pth"),
        device="cpu",
    )
    inferencer.infer(img=str(tmp_path / "in.png"), result_out_dir=str(tmp_path / "out.png"))
    rgb = torch.from_numpy(rainy[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = (net(rgb)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()[..., ::-1]
    restored = cv2.imread(str(tmp_path / "out.png"))
    assert np.abs(restored.astype(int) - expected).max() <= 1
    assert np.abs(restored.astype(int) - rainy).mean() > 5


# --- datasets and transforms ---------------------------------------------------------------------


def test_datasets_are_those_of_the_core(project):
    options = {"dataroot": str(project / "data"), "layout": "synthesized"}
    ours = DATASETS.build({"type": "UHDPairedDataset", "metainfo": {"task_name": "x"}, **options})
    assert ours.metainfo == {"task_name": "x"}
    core = datasets.UHDPairedDataset(**options)
    assert len(ours) == len(core) == 4
    preprocess = MODELS.build(tiny()["model"]["data_preprocessor"])
    for k in range(4):
        ready = preprocess(pseudo_collate([ours[k]]), training=True)
        torch.testing.assert_close(ready["inputs"], core[k]["lq"][None], atol=1e-6, rtol=0)
        truth = ready["data_samples"].gt_img
        torch.testing.assert_close(truth, core[k]["gt"][None], atol=1e-6, rtol=0)
        assert ready["data_samples"].gt_path == [core[k]["gt_path"]]


@pytest.mark.parametrize("mixed", [False, True])
def test_training_crops_follow_from_the_seed_whatever_the_workers(project, mixed):
    made = {
        "type": "UHDSynthesisDataset",
        "dataroot": str(project / "data/gt"),
        "degradation": {"type": "rain", "preset": "real"},
    }
    crops = {"gt_size": 48, "resize": [0.6, 1.0], "crops_per_image": 2, "use_hflip": True}
    pairs = {"type": "UHDPairedDataset", "dataroot": str(project / "data"), "layout": "synthesized"}
    dataset = {"type": "UHDMixedDataset", "datasets": [made, pairs]} if mixed else made
    config = {
        "batch_size": 4,
        "sampler": {"type": "InfiniteSampler", "shuffle": True, "seed": 5},
        "dataset": {**dataset, **crops},
    }
    batches = []
    for workers in (0, 1):
        loader = Runner.build_dataloader({**config, "num_workers": workers}, seed=workers)
        batches.append([batch["inputs"] for batch, _ in zip(loader, range(3))])
    for here, there in zip(*batches):
        assert len(here) == 4
        assert all(torch.equal(a, b) for a, b in zip(here, there))
    assert not torch.equal(batches[0][0][0], batches[0][0][1])


DEGRADED = {
    "type": "UHDSynthesisDataset",
    "dataroot": "data/gt",
    "degradation": {"type": "rain"},
    **{"gt_size": 64, "as_bytes": True, "degrade_on_device": True},
}


def test_batches_are_degraded_by_the_preprocessor(project, monkeypatch):
    monkeypatch.chdir(project)
    own = tiny()["model"]["data_preprocessor"]
    preprocess = MODELS.build({**own, "type": "DegradingPreprocessor"})
    ours = DATASETS.build(DEGRADED)
    core = datasets.UHDSynthesisDataset("data/gt", {"type": "rain"}, crops=Crops(gt_size=64))
    core.as_bytes = True
    core.degrade_on_device()
    batch = [SampleIndex(k, 0, k) for k in range(2)]
    ready = preprocess(pseudo_collate(ours.__getitems__(batch)), training=True)
    data = torch.utils.data.default_collate(core.__getitems__(batch))
    lq, gt = pair_on_device(data, torch.device("cpu"))
    torch.testing.assert_close(ready["inputs"], lq, atol=1e-6, rtol=0)
    torch.testing.assert_close(ready["data_samples"].gt_img, gt, atol=1e-6, rtol=0)

    def edit(cfg):
        cfg["train_dataloader"].update(dataset=DEGRADED, num_workers=1, pin_memory=True)
        cfg["model"]["data_preprocessor"]["type"] = "DegradingPreprocessor"
        cfg["train_cfg"].update(max_iters=2, val_interval=2)

    write(project, edit)
    runner = Runner.from_cfg(Config.fromfile("config.py"))
    runner.train()
    assert runner.iter == 2
    assert (project / "work_dirs/tiny/iter_2.pth").exists()


def test_resuming_goes_on_with_the_next_draws_and_decodes_no_others(project, monkeypatch):
    """Six iterations at once; and two after resuming from the fourth."""
    from glsgn_plugins.data import datasets
    from glsgn_plugins.mmagic import GLSGNRestorer

    def synthesis(cfg):
        cfg["train_dataloader"]["dataset"] = {
            "type": "UHDSynthesisDataset",
            "dataroot": "data/gt",
            "degradation": {"type": "haze"},
            "gt_size": 64,
        }
        cfg["train_cfg"].update(max_iters=6, val_interval=100)

    seen, decoded = [], []
    step, read = GLSGNRestorer.train_step, datasets.read_image

    def train_step(self, data, optim_wrapper):
        seen.append([image.clone() for image in data["inputs"]])
        return step(self, data, optim_wrapper)

    monkeypatch.chdir(project)
    monkeypatch.setattr(GLSGNRestorer, "train_step", train_step)
    monkeypatch.setattr(datasets, "read_image", lambda path: decoded.append(path) or read(path))
    monkeypatch.setattr(datasets, "read_rows", lambda path, *rows: None)  # so that it is asked
    write(project, synthesis)
    cfg = Config.fromfile("config.py")
    Runner.from_cfg(cfg).train()
    assert len(decoded) == 12
    at_once = seen[4:]
    seen.clear()
    decoded.clear()

    cfg.load_from, cfg.resume = "work_dirs/tiny/iter_4.pth", True
    cfg.experiment_name = "resumed"
    Runner.from_cfg(cfg).train()
    assert len(decoded) == 4
    assert len(seen) == 2
    for before, after in zip(at_once, seen):
        for a, b in zip(before, after):
            assert torch.equal(a, b)


def test_the_preset_real_gives_the_truth_that_can_be_known(project):
    """Behind glass it is what comes through; a clean sample is the same twice."""
    np.random.seed(5)
    folder = str(project / "data/gt")
    for share in (0.0, 1.0):
        degradation = {"type": "reflection", "identity": share, "before": 0.0, "after": 0.0}
        pipeline = Compose(
            [
                {"type": "LoadImageFromFile", "key": "gt"},
                {
                    "type": "UHDDegradation",
                    "degradation": degradation,
                    "dataroot_reflection": folder,
                },
                {"type": "PackInputs"},
            ]
        )
        path = str(project / "data/gt/1.png")
        image = cv2.imread(path).transpose(2, 0, 1)
        for _ in range(4):
            sample = pipeline({"gt_path": path})
            truth = sample["data_samples"].gt_img.numpy()
            assert np.array_equal(sample["inputs"].numpy(), truth) == (share == 1)
            assert share == 1 or not np.array_equal(truth, image)


@pytest.mark.parametrize("preset", ["real", "plain"])
def test_transforms_crop_and_degrade(project, preset):
    np.random.seed(3)
    degradation = {"type": "rain", "preset": preset}
    if preset == "real":
        degradation.update(identity=0.0, before=0.0, after=0.0)
    pipeline = Compose(
        [
            {"type": "LoadImageFromFile", "key": "gt"},
            {"type": "UHDCrop", "gt_size": 48},
            {"type": "UHDDegradation", "degradation": degradation},
            {"type": "PackInputs"},
        ]
    )
    path = str(project / "data/gt/1.png")
    first, second = pipeline({"gt_path": path}), pipeline({"gt_path": path})
    for sample in (first, second):
        assert sample["inputs"].shape == sample["data_samples"].gt_img.shape == (3, 48, 48)
        change = sample["inputs"].float() - sample["data_samples"].gt_img.float()
        assert change.abs().max() > 0
    assert not torch.equal(first["inputs"], second["inputs"])
    # The crop is a part of the photograph, in its colours.
    image = cv2.imread(path).transpose(2, 0, 1)
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 48, 48))[0]
    assert (windows == first["data_samples"].gt_img.numpy()).all(axis=(2, 3, 4)).any()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "UHDPairedDataset", "layot": "x"}, r"layot \(UHDPairedDataset\).*'layout'"),
        ({"type": "UHR4KDataset", "split": "train"}, "UHR4KDataset lacks 'dataroot'"),
        (
            {
                "type": "UHDPairedDataset",
                "dataroot": "nowhere",
                "layout": "UHD-Rain",
                "split": "train",
            },
            "nowhere",
        ),
    ],
)
def test_a_wrong_dataset_is_named(config, message):
    with pytest.raises(InputError, match=message):
        DATASETS.build(config)


# --- wrong configs -------------------------------------------------------------------------------


def set_in(*path, value):
    def edit(cfg):
        for key in path[:-1]:
            cfg = cfg[key]
        cfg[path[-1]] = value

    return edit


WRONG = {
    "model": (
        set_in("model", "type", value="GLSGNRestoror"),
        InputError,
        r"model\.type: 'GLSGNRestoror' does not exist. Did you mean 'GLSGNRestorer'",
    ),
    "loss": (
        set_in("model", "pixel_loss", "type", value="L1"),
        InputError,
        r"model\.pixel_loss\.type: 'L1' does not exist",
    ),
    "metric": (
        set_in("val_evaluator", "metrics", 0, "type", value="PNSR"),
        InputError,
        r"val_evaluator\.metrics\[0\]\.type: 'PNSR' does not exist. Did you mean 'PSNR'",
    ),
    "grids": (
        set_in("model", "generator", "grids", value=[[4, 4], [3, 3], [2, 1]]),
        InputError,
        r"GLSGN grids: the patches of pathway 1, \[4, 4\], can't be joined to those of pathway 2",
    ),
    "key": (
        set_in("model", "generator", "width", value=[4]),
        InputError,
        r"model\.generator\.width \(GLSGN\): 'width' does not exist. Did you mean 'widths'",
    ),
    "test": (
        set_in("model", "test_cfg", value={"tiel": 64}),
        InputError,
        r"model\.test_cfg\.tiel: 'tiel' does not exist. Did you mean 'tile'",
    ),
    "wrapper": (
        set_in("optim_wrapper", "clip_gard", value={"max_norm": 1}),
        InputError,
        r"optim_wrapper\.clip_gard \(OptimWrapper\): 'clip_gard' .* Did you mean 'clip_grad'",
    ),
    "clipping": (
        set_in("optim_wrapper", "clip_grad", value={"max_nrom": 1}),
        InputError,
        r"optim_wrapper\.clip_grad\.max_nrom: .* Did you mean 'max_norm'",
    ),
    "whole": (
        set_in(
            "val_dataloader",
            "dataset",
            value={"type": "UHDPairedDataset", "dataroot": "data", "lq": "lq/{n}", "gt_size": 64},
        ),
        InputError,
        r"val_dataloader\.dataset\.gt_size: of training alone",
    ),
    "pathways": (
        set_in("model", "generator", "return_pathways", value=False),
        InputError,
        r"model\.generator\.return_pathways",
    ),
    "folder": (
        set_in("train_dataloader", "dataset", "data_root", value="dat"),
        FileNotFoundError,
        "No such file or directory: 'dat/lq'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_config_is_named(case, project, monkeypatch):
    edit, error, message = WRONG[case]
    monkeypatch.chdir(project)
    write(project, edit)
    with pytest.raises(error, match=message):
        Runner.from_cfg(Config.fromfile("config.py")).train()


# --- checkpoints ---------------------------------------------------------------------------------


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


class Attribute:
    """``getattr(owner, name)`` when it is unpickled, as a method of a class is pickled."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


def history(**extra):
    buffer = HistoryBuffer([0.5, 0.25], [1, 1])
    buffer.__dict__.update(extra)
    return buffer


def hidden(target):
    """Ways to code: plainly, inside a history, and through the getattr that histories need."""
    return {
        "plain": {"meta": Malicious(target)},
        "inside a history": {
            "message_hub": {"log_scalars": {"loss": history(x=Malicious(target))}}
        },
        "globals of a statistic": {"hub": history(x=Attribute(HistoryBuffer.mean, "__globals__"))},
        "another attribute": {"hub": history(x=Attribute(HistoryBuffer, "__init__"))},
        "a builtin": {"hub": history(x=Attribute(OrderedDict, "fromkeys"))},
        "an array of objects": {"hub": history(x=np.array([Malicious(target)], dtype=object))},
    }


OLD_TORCH = torch.torch_version.TorchVersion("2.1.0")


@pytest.mark.parametrize("torch_version", [torch.__version__, OLD_TORCH], ids=["here", "2.1"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("way", hidden(""))
def test_code_is_refused_and_not_run(way, zipped, torch_version, tmp_path, monkeypatch):
    file, target = tmp_path / "iter_1.pth", tmp_path / "pwned"
    weights = {"state_dict": {}, **hidden(target)[way]}
    torch.save(weights, file, _use_new_zipfile_serialization=zipped)
    monkeypatch.setattr(torch, "__version__", torch_version)
    with pytest.raises(InputError, match=r"iter_1\.pth: (refused|damaged)"):
        load_checkpoint(torch.nn.Linear(1, 1), str(file))
    assert not target.exists()
    with pytest.raises(InputError):
        checkpoints.read_checkpoint(file)
    with pytest.raises(InputError):  # as if it came over http
        loading.load_url(file.as_uri(), model_dir=str(tmp_path / "cache"), progress=False)
    assert not target.exists()


def test_the_ways_above_would_work_without_us(tmp_path):
    """That is: each of the files runs code, or gets at more than histories, under plain pickle."""
    for k, content in enumerate(hidden(tmp_path / "pwned").values()):
        (tmp_path / "pwned").unlink(missing_ok=True)
        loaded = pickle.loads(pickle.dumps(content, protocol=2))
        ran = (tmp_path / "pwned").exists()
        assert ran or callable(loaded["hub"].x) or "HistoryBuffer" in loaded["hub"].x, k


@pytest.mark.parametrize("torch_version", [torch.__version__, OLD_TORCH], ids=["here", "2.1"])
def test_what_mmengine_saves_is_read(torch_version, tmp_path, monkeypatch):
    hub = {"log_scalars": OrderedDict(loss=history()), "runtime_info": {"best": np.float32(30.5)}}
    content = {"state_dict": torch.nn.Linear(2, 2).state_dict(), "message_hub": hub}
    torch.save(content, tmp_path / "iter_1.pth")
    monkeypatch.setattr(torch, "__version__", torch_version)
    net = torch.nn.Linear(2, 2)
    loaded = load_checkpoint(net, str(tmp_path / "iter_1.pth"))
    assert torch.equal(net.weight, content["state_dict"]["weight"])
    buffer = loaded["message_hub"]["log_scalars"]["loss"]
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.statistics("mean", 2) == 0.375
    assert loaded["message_hub"]["runtime_info"]["best"] == 30.5


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    import mmengine.runner.runner as runner

    file = tmp_path / "iter_1.pth"
    runner.save_checkpoint({"state_dict": {}}, str(file))
    old = file.read_bytes()

    def cut_short(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(
        NotSavedError, match=r"can't be written \(disk full\); iter_1\.pth are kept"
    ):
        runner.save_checkpoint({"state_dict": {"a": 1}}, str(file))
    assert file.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["iter_1.pth"]


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    import mmengine.runner.runner as runner

    assert runner.find_latest_checkpoint(str(tmp_path)) is None
    for k in (900, 9, 10):  # the first is an earlier run's
        torch.save({"state_dict": {}}, tmp_path / f"iter_{k}.pth")
    torch.save({"state_dict": {}}, tmp_path / "best_PSNR_iter_11.pth")
    (tmp_path / "last_checkpoint").write_text("")  # killed while writing it
    assert runner.find_latest_checkpoint(str(tmp_path)) == str(tmp_path / "iter_10.pth")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_9.pth"))
    assert runner.find_latest_checkpoint(str(tmp_path)) == str(tmp_path / "iter_9.pth")
    for file in tmp_path.glob("iter_*.pth"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="none of its 3 checkpoints can be read"):
        runner.find_latest_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["iter_4.pth", "step_4.pth"])
def test_checkpoints_are_found_in_a_folder_that_was_moved(name, tmp_path):
    """``last_checkpoint`` holds an absolute path, and filename_tmpl may name files otherwise."""
    import mmengine.runner.runner as runner

    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    torch.save({"state_dict": {}}, old / name)
    torch.save({"state_dict": {}}, old / name.replace("4", "2"))
    (old / "last_checkpoint").write_text(str(old / name))
    assert runner.find_latest_checkpoint(str(old)) == str(old / name)
    shutil.copytree(old, new)
    assert runner.find_latest_checkpoint(str(new)) == str(new / name)
    shutil.rmtree(old)
    assert runner.find_latest_checkpoint(str(new)) == str(new / name)
    (new / name).write_bytes(b"")  # the one before it is whole
    assert runner.find_latest_checkpoint(str(new)) == str(new / name.replace("4", "2"))


def test_checkpoints_elsewhere_are_found_and_none_is_no_start_anew(tmp_path):
    import mmengine.runner.runner as runner

    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    torch.save({"state_dict": {}}, out / "iter_4.pth")
    (work / "last_checkpoint").write_text(str(out / "iter_4.pth"))
    assert runner.find_latest_checkpoint(str(work)) == str(out / "iter_4.pth")
    shutil.rmtree(out)
    with pytest.raises(InputError, match=r"last_checkpoint: names .*iter_4\.pth, but neither"):
        runner.find_latest_checkpoint(str(work))


class Said(logging.Handler):
    """Keeps what MMEngine's logger, which is none of logging's tree, is told."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.mark.parametrize("side", ["long_side", "coarse_side"])
def test_tests_are_restores_with_the_generators_copy(side, tmp_path):
    """And configs that don't name it are kept to, with a warning."""
    cfg, image, said = tiny()["model"], torch.rand(1, 3, 80, 96), Said()
    net = trained_like(GLSGN(cfg["generator"]["widths"], **{side: 48})).eval()
    write_weights(net.state_dict(), tmp_path / "ours.safetensors")
    torch.save({"state_dict": of_generator(net.state_dict())}, tmp_path / "no record.pth")
    MMLogger.get_current_instance().addHandler(said)
    try:
        for name, own, warned in (
            ("ours.safetensors", 48, False),
            ("ours.safetensors", None, True),
            ("no record.pth", 48, False),
        ):
            generator = {**cfg["generator"], side: own}
            model = MODELS.build({**cfg, "generator": generator}).eval()
            load_checkpoint(model, str(tmp_path / name), logger="current")
            found = model.forward_tensor(image)
            assert torch.equal(found, restore(net, image, "whole", long_side=None if own else 0))
            lines = [line for line in said.lines if side in line]
            assert bool(lines) == warned, lines
            said.lines.clear()
    finally:
        MMLogger.get_current_instance().removeHandler(said)


def test_test_cfg_says_how_much_of_the_change_is_wanted():
    cfg = tiny()["model"]
    image = torch.rand(1, 3, 40, 48)
    found = []
    for strength in (1, 0.5, 0):
        torch.manual_seed(0)
        model = MODELS.build({**cfg, "test_cfg": {"strength": strength}}).eval()
        torch.nn.init.normal_(model.generator.local_pathways[0].head.weight, std=0.1)
        found.append(model.forward_tensor(image))
    assert torch.equal(found[2], image)
    assert torch.allclose(found[1], (image + found[0]) / 2, atol=1e-5)
    assert (found[0] - image).abs().max() > 0.01
    with pytest.raises(InputError, match=r"model\.test_cfg\.strength: expected .*got 2"):
        MODELS.build({**cfg, "test_cfg": {"strength": 2}})
    with pytest.raises(
        InputError, match=r"model\.test_cfg\.tile_overlap: 64 pixels of tiles of 64"
    ):
        MODELS.build({**cfg, "test_cfg": {"tile": 64, "tile_overlap": 64}})
