"""Shipped weights: verified, better than their input everywhere, and where fine-tuning starts."""

import hashlib
import pickle
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from demo_data import photo
from harness import psnr, run_command, tensor
from tiny_mmagic import write

from glsgn_plugins import GLSGN, InputError, load_pretrained, restore_array
from glsgn_plugins.cli.basicsr import main as basicsr
from glsgn_plugins.cli.glsgn import main as glsgn
from glsgn_plugins.compat import installed, patch_basicsr
from glsgn_plugins.data.synthesis import make_degradation
from glsgn_plugins.degradations import PRESETS, Place, Rain
from glsgn_plugins.degradations.depth import thumbnail
from glsgn_plugins.io import pretrained
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_safetensors, read_weights

UNSEEN = ("coffee.png", "astronaut.png")
MARGINS = {"rain": 2.0, "reflection": 1.5, "haze": 1.5}
"""Decibels by which weights must beat their input to be shipped."""
CLEAN = {"rain": 27.0, "reflection": 24.0, "haze": 40.0}
"""Decibels at which what needs nothing must come back, at the least."""

GLSGN_S = {
    "type": "GLSGN",
    "widths": [16, 24, 32, 32],
    "blocks": [1, 1, 1],
}
needs_mmagic = pytest.mark.skipif(installed("mmagic") is None, reason="mmagic is not in this stack")


def batch(image):
    return tensor(image[..., ::-1])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("task", pretrained.shipped_tasks())
def test_unseen_photographs_gain_what_shipping_asks_for(task, preset):
    net = load_pretrained(task)
    model = make_degradation({"type": task, "preset": preset})
    clean = [read_image(photo(name)) for name in UNSEEN]
    gains = []
    for image, other in (clean, clean[::-1]):
        companion = thumbnail(image) if preset == "real" else None
        if task == "reflection":
            companion = other
        for seed in (1, 2, 3):
            rng = np.random.default_rng(seed)
            parameters = model.sample(rng)
            while getattr(parameters, "faint", None) is not None:  # nothing to restore
                parameters = model.sample(rng)
            lq, gt = parameters.pair(image, companion, Place.whole(image))
            restored = restore_array(net, lq)
            gains.append(psnr(batch(restored), batch(gt)) - psnr(batch(lq), batch(gt)))
    assert np.mean(gains) > MARGINS[task], gains


def test_rain_in_a_large_photograph_gains_by_the_copy_beside_it():
    """Streaks that are wider than any in training stay where the photograph is restored alone."""
    net = load_pretrained("rain")
    assert net.coarse_side == 1280
    clean = cv2.resize(
        read_image(photo("astronaut.png")), (2560, 2560), interpolation=cv2.INTER_CUBIC
    )
    lq = Rain().sample(np.random.default_rng(1)).apply(clean)
    alone, beside = (restore_array(net, lq, long_side=side) for side in (0, None))
    assert psnr(batch(beside), batch(clean)) > psnr(batch(alone), batch(clean)) + 2


@pytest.mark.parametrize("task", pretrained.shipped_tasks())
def test_clean_photographs_stay_what_they_are_as_far_as_the_card_says(task):
    net = load_pretrained(task)
    for name in UNSEEN:
        image = read_image(photo(name))
        assert psnr(batch(restore_array(net, image)), batch(image)) > CLEAN[task]


def test_rain_is_shipped_and_every_file_is_small_whole_and_described():
    assert "rain" in pretrained.shipped_tasks()
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", pretrained.CHECKSUMS],
        cwd=pretrained.FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    files = sorted(pretrained.FOLDER.glob("*.safetensors"))
    assert done.stdout.splitlines() == [f"{file.name}: OK" for file in files]
    card = (pretrained.FOLDER / "README.md").read_text()
    for file in files:
        assert file.stem in pretrained.OPTIONS
        assert file.stat().st_size <= 8e6
        assert {value.dtype for value in read_safetensors(file).values()} == {torch.float16}
        assert f"`{file.name}`" in card


def test_networks_come_in_float32_ready_to_restore():
    net = load_pretrained("rain")
    assert isinstance(net, GLSGN)
    assert not net.training
    assert {(p.dtype, p.device.type) for p in net.parameters()} == {(torch.float32, "cpu")}
    packed = read_safetensors(pretrained.pretrained_file("rain"))
    assert all(torch.equal(v, packed[k].float()) for k, v in net.state_dict().items())


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A copy of the shipped folder, to be spoilt."""
    folder = tmp_path / "shipped"
    shutil.copytree(pretrained.FOLDER, folder)
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder


def test_a_damaged_file_is_refused_with_what_to_do(shipped):
    file = shipped / "rain.safetensors"
    whole = file.read_bytes()
    again = "pip install --force-reinstall"
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=f"rain.safetensors: damaged or changed.*{again}"):
        load_pretrained("rain")
    file.unlink()
    with pytest.raises(InputError, match=f"rain.safetensors: can't be read.*{again}"):
        load_pretrained("rain")
    for spoilt in ("nonsense", "a b c\n", "\N{SNOWMAN}"):
        (shipped / "SHA256SUMS").write_text(spoilt, encoding="utf-8")
        with pytest.raises(InputError, match=f"SHA256SUMS: missing or damaged; .*{again}"):
            load_pretrained("rain")


def test_code_in_place_of_weights_is_not_run_whatever_its_checksum(shipped, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    file = shipped / "rain.safetensors"
    file.write_bytes(pickle.dumps(Hostile()))
    total = hashlib.sha256(file.read_bytes()).hexdigest()
    (shipped / "SHA256SUMS").write_text(f"{total}  rain.safetensors\n")
    with pytest.raises(InputError, match="damaged or no safetensors file"):
        load_pretrained("rain")
    assert not (tmp_path / "ran").exists()


def test_what_is_not_shipped_is_said_with_what_to_do(shipped, tmp_path, capsys):
    sums = (shipped / "SHA256SUMS").read_text().splitlines()
    (shipped / "SHA256SUMS").write_text("".join(f"{s}\n" for s in sums if "rain" in s))
    with pytest.raises(InputError) as error:
        load_pretrained("haze")
    assert "haze: no weights are shipped for this task" in str(error.value)
    assert "basicsr train -opt glsgn_dehaze.yml" in str(error.value)
    assert str(error.value).endswith("Shipped: rain")
    with pytest.raises(InputError, match=r"'rian' does not exist\. Did you mean 'rain'"):
        read_weights("glsgn://rian")
    source = str(photo("coffee.png"))
    assert glsgn(["restore", source, str(tmp_path / "out.png"), "--task", "haze"]) == 2
    assert "glsgn restore: error: haze: no weights" in capsys.readouterr().err
    assert glsgn(["path", "reflection"]) == 2
    assert "reflection: no weights" in capsys.readouterr().err


def test_commands_take_shipped_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clean = read_image(photo("coffee.png"))[:128, :160]
    cv2.imwrite("in.png", clean[..., ::-1])
    assert glsgn(["restore", "in.png", "out.png", "--task", "rain", "--device", "cpu"]) == 0
    expected = restore_array(load_pretrained("rain"), clean)
    assert np.abs(read_image(tmp_path / "out.png").astype(int) - expected).max() <= 1
    for both, said in (
        (["--task", "rain", "--weights", "net.pth"], "not allowed with"),
        ([], "one of the arguments --task --weights is required"),
    ):
        with pytest.raises(SystemExit) as left:
            glsgn(["restore", "in.png", "out.png", *both])
        assert left.value.code == 2
        assert said in capsys.readouterr().err

    assert glsgn(["path", "rain"]) == 0
    assert capsys.readouterr().out == f"{pretrained.pretrained_file('rain')}\n"
    assert glsgn(["convert", "glsgn://rain", "net.pth"]) == 0
    converted = torch.load("net.pth", weights_only=True)["params_ema"]
    packed = read_safetensors(pretrained.pretrained_file("rain"))
    assert all(torch.equal(converted[key], value) for key, value in packed.items())


@pytest.mark.parametrize("task", pretrained.shipped_tasks())
def test_spandrel_loads_the_shipped_file(task, caplog):
    """It hands on tensors alone; what their record says is known all the same."""
    spandrel = pytest.importorskip("spandrel")
    from glsgn_plugins.spandrel import install

    install()
    file = pretrained.pretrained_file(task)
    model = spandrel.ModelLoader(device="cpu").load_from_file(file)
    image = batch(read_image(photo("coffee.png"))[:96, :128])
    with torch.no_grad():
        wanted = load_pretrained(task)(image).clamp(0, 1)
        torch.testing.assert_close(model(image), wanted, atol=1e-6, rtol=0)
    assert model.model.options == load_pretrained(task).options
    assert not caplog.records


def test_spandrel_loads_what_convert_and_mmagic_write(tmp_path):
    """It takes a file's ``state_dict`` first, in which MMagic's keys begin with ``generator.``."""
    spandrel = pytest.importorskip("spandrel")
    from glsgn_plugins.spandrel import install

    install()
    assert glsgn(["convert", "glsgn://haze", str(tmp_path / "net.pth")]) == 0
    model = spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "net.pth")
    image = batch(read_image(photo("coffee.png"))[:64, :64])
    with torch.no_grad():
        wanted = load_pretrained("haze")(image).clamp(0, 1)
        torch.testing.assert_close(model(image), wanted, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def rainy_crop():
    """An unseen rainy photograph's crop and the clean one, 8-bit RGB."""
    clean = read_image(photo("coffee.png"))
    rainy = Rain().sample(np.random.default_rng(1)).apply(clean)
    return [np.ascontiguousarray(image[72:328, 172:428]) for image in (rainy, clean)]


@pytest.fixture(scope="module")
def in_core(rainy_crop):
    """PSNR of that crop: as it is, restored, and restored and rounded to 8 bits."""
    rainy, clean = rainy_crop
    net = load_pretrained("rain")
    with torch.no_grad():
        full = net(batch(rainy))
    rounded = restore_array(net, rainy, "whole")
    return tuple(psnr(image, batch(clean)) for image in (batch(rainy), full, batch(rounded)))


@pytest.fixture
def rainy_project(project, rainy_crop):
    """The pair as the only one in ``data``."""
    for side, image in zip(("lq", "gt"), rainy_crop):
        shutil.rmtree(project / "data" / side)
        (project / "data" / side).mkdir()
        cv2.imwrite(str(project / "data" / side / "coffee.png"), image[..., ::-1])
    return project


def scored(log):
    """PSNR of the last validation or test, in either framework's form."""
    return float(re.findall(r"psnr: (\d+\.\d+)", log, re.I)[-1])


def from_rain(opt):
    opt["network_g"] = GLSGN_S
    opt["path"].update(pretrain_network_g="glsgn://rain", param_key_g="params_ema")


def test_basicsr_tests_and_fine_tunes_from_them(rainy_project, write_options, in_core):
    lq, _, restored = in_core
    assert restored > lq + MARGINS["rain"]
    options = write_options(from_rain, test=True)
    done = run_command("basicsr", "test", "-opt", str(options), cwd=rainy_project)
    assert done.returncode == 0, done.stderr[-3000:]
    assert scored(done.stderr) == pytest.approx(restored, abs=0.01)

    def fine_tuning(opt):
        from_rain(opt)
        pair = {k: v for k, v in opt["datasets"]["train"].items() if "gt_size" not in k}
        opt["datasets"]["val"] = {**pair, "name": "held"}
        opt["val"].update(val_freq=1)
        opt["train"].update(total_iter=1, optim_g={"type": "Adam", "lr": 1e-9})

    options = write_options(fine_tuning)
    done = run_command("basicsr", "train", "-opt", str(options), cwd=rainy_project)
    assert done.returncode == 0, done.stderr[-3000:]
    # One step of 1e-9 later; from scratch it would be the input's, a fresh network returns it.
    assert scored(done.stderr) == pytest.approx(restored, abs=0.01)


@needs_mmagic
def test_mmagic_tests_fine_tunes_from_them_and_resumes(rainy_project, in_core, monkeypatch):
    lq, restored, _ = in_core
    assert restored > lq + MARGINS["rain"]

    def fine_tuning(cfg):
        cfg["model"]["generator"] = GLSGN_S
        cfg["load_from"] = "glsgn://rain"
        cfg["optim_wrapper"]["optimizer"] = {"type": "AdamW", "lr": 1e-9}
        cfg["train_cfg"].update(max_iters=1, val_interval=1)
        cfg["default_hooks"]["checkpoint"]["interval"] = 1
        cfg["custom_hooks"] = [{"type": "EMAHook", "momentum": 0.5}]

    def mim(command, *more):
        argv = ("mim", command, "mmagic", "config.py", "--gpus", "0", *more)
        done = run_command(*argv, cwd=rainy_project)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    write(rainy_project, fine_tuning)
    assert scored(mim("test", "--checkpoint", "glsgn://rain")) == pytest.approx(restored, abs=0.01)
    # One step of 1e-9 later; there was nothing to resume yet.
    log = mim("train", "--resume")
    assert "Load checkpoint from glsgn://rain" in log
    assert scored(log) == pytest.approx(restored, abs=0.01)

    def resuming(cfg):
        fine_tuning(cfg)
        cfg["resume"] = True
        del cfg["custom_hooks"]

    monkeypatch.chdir(rainy_project)
    runner = runner_of(rainy_project, resuming)
    runner.load_or_resume()
    assert runner.iter == 1


def runner_of(folder, edit):
    """MMEngine's runner of a tiny configuration."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    import glsgn_plugins.mmagic  # noqa: F401  # patches and registers

    return Runner.from_cfg(Config.fromfile(write(folder, edit)))


@needs_mmagic
def test_mmengine_loads_them_by_scheme_and_by_file():
    from mmengine.runner import CheckpointLoader

    import glsgn_plugins.mmagic  # noqa: F401  # patches and registers

    weights = read_safetensors(pretrained.pretrained_file("rain"))
    for source in ("glsgn://rain", str(pretrained.pretrained_file("rain"))):
        loaded = CheckpointLoader.load_checkpoint(source)["state_dict"]
        assert loaded.keys() == {f"generator.{key}" for key in weights}
        assert all(torch.equal(loaded[f"generator.{key}"], value) for key, value in weights.items())


@needs_mmagic
@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("glsgn://rain", "doesn't fit the network of model.generator; .*widths=.16, 24, 32, 32."),
        ("glsgn://rian", r"'rian' does not exist\. Did you mean 'rain'"),
    ],
)
def test_mmagic_takes_no_weights_of_another_size_or_name(project, monkeypatch, start, said):
    monkeypatch.chdir(project)
    runner = runner_of(project, lambda cfg: cfg.update(load_from=start))
    with pytest.raises(InputError, match=said):
        runner.load_or_resume()


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("glsgn://rain", "doesn't fit the network of network_g; .*widths=.16, 24, 32, 32."),
        ("glsgn://rian", "'rian' does not exist. Did you mean 'rain'"),
    ],
)
def test_basicsr_takes_no_weights_of_another_size_or_name(
    project, write_options, monkeypatch, capsys, start, said
):
    def edit(opt):
        opt["path"]["pretrain_network_g"] = start

    monkeypatch.chdir(project)
    assert basicsr(["train", "-opt", str(write_options(edit))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "path.pretrain_network_g: " in line
    assert re.search(said, line)
    assert not (project / "experiments").exists()


def test_basicsr_takes_safetensors_whatever_the_key(tmp_path):
    patch_basicsr()
    from basicsr.models.base_model import BaseModel

    model = BaseModel({"num_gpu": 0, "is_train": False})
    weights = load_pretrained("rain").state_dict()
    for source in ("glsgn://rain", str(pretrained.pretrained_file("rain"))):
        for key in ("params", "params_ema", None):
            net = GLSGN(GLSGN_S["widths"], GLSGN_S["blocks"])
            model.load_network(net, source, param_key=key)
            assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    with pytest.raises(InputError, match="glsgn://rain: doesn't fit GLSGN"):
        model.load_network(GLSGN((4, 4, 4, 4)), "glsgn://rain")
