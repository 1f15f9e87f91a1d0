"""Weights travel between BasicSR, MMagic and safetensors, and every key is checked."""

import resource
import signal

import pytest
import safetensors.torch
import torch
from harness import run_command

from glsgn_plugins import GLSGN, InputError
from glsgn_plugins.archs.glsgn import RECORD
from glsgn_plugins.cli.glsgn import main
from glsgn_plugins.io.weights import options_of, read_weights, write_weights

TINY = {"widths": (4, 6, 8, 10), "blocks": (1, 2, 1)}


def state(seed=0, **options):
    torch.manual_seed(seed)
    return GLSGN(**{**TINY, **options}).state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def saved(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda w, o: {"params": o, "params_ema": w}, "params_ema"),
        (lambda w, o: {"params": w}, "params"),
        (lambda w, o: w, "the state dict"),
        (lambda w, o: {"state_dict": prefixed(w), "meta": {}}, "generator in state_dict"),
        (
            lambda w, o: {
                "state_dict": {
                    **prefixed(o),
                    **prefixed(w, "generator_ema."),
                    "step": torch.ones(1),
                }
            },
            "generator_ema in state_dict",
        ),
        (lambda w, o: prefixed(w), "generator in the state dict"),
    ],
)
def test_the_averaged_weights_are_found_in_every_form(tmp_path, wrap, place):
    wanted, others = state(0), state(1)
    found = read_weights(saved(tmp_path / "in.pth", wrap(wanted, others)))
    assert same(found.weights, wanted)
    assert found.place == place
    assert found.options["widths"] == list(TINY["widths"])
    assert found.options["blocks"] == list(TINY["blocks"])


def prefixed(weights, prefix="generator."):
    return {f"{prefix}{key}": value for key, value in weights.items()}


def test_there_and_back_by_the_real_command(tmp_path):
    wanted = {k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v
              for k, v in state().items()}  # fmt: skip
    saved(tmp_path / "a.pth", {"params_ema": wanted})
    for source, target in (("a.pth", "b.safetensors"), ("b.safetensors", "c.pth")):
        done = run_command("glsgn", "convert", source, target, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{target}: GLSGN(widths=[4, 6, 8, 10], blocks=[1, 2, 1])" in done.stdout
        assert same(read_weights(tmp_path / target).weights, wanted)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "b.safetensors", "c.pth"]
    both = torch.load(tmp_path / "c.pth", weights_only=True)
    assert same(both["params"], wanted)
    assert same(both["params_ema"], wanted)
    assert same(both["state_dict"], prefixed(wanted))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_features": False},
        {"local_features": False},
        {"attention": False},
        {"patch_norm": "pooled"},
        {"fusion": "sum"},
        {"widths": (16, 24, 32, 32), "blocks": (1, 1, 1)},
    ],
)
def test_weights_tell_the_network_they_are_of(tmp_path, options):
    weights = state(**options)
    GLSGN(**options_of(weights, tmp_path)).load_state_dict(weights)


def without(key):
    weights = state()
    del weights[key]
    return weights


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without("fusion.mask1.conv1.bias"), r"lacks fusion\.mask1\.conv1\.bias"),
        ({**state(), "head.weight": torch.ones(1)}, r"has beside them head\.weight"),
        (
            {**state(), "fusion.mask1.conv1.bias": torch.ones(3)},
            r"has of another shape fusion\.mask1\.conv1\.bias",
        ),
        (
            {"params": {"conv.weight": torch.ones(3)}},
            "no weights of GLSGN; its keys begin with con",
        ),
        ({"epoch": 3, "iter": 4}, "expected a checkpoint of BasicSR.*it holds epoch, iter"),
        ({"params": {"a": 3}}, "params holds more than tensors"),
        ([1, 2], "it holds a list"),
    ],
)
def test_what_is_no_glsgn_is_named(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"in\.pth: .*{message}"):
        read_weights(saved(tmp_path / "in.pth", content))


def test_wrong_files_are_named_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_weights(state(), tmp_path / "net.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    for argv, message in (
        (["no.pth", "out.pth"], "no.pth: no such checkpoint file"),
        (["no.safetensors", "out.pth"], "no.safetensors: no such checkpoint file"),
        (["cut.safetensors", "out.pth"], "cut.safetensors: damaged or no safetensors file"),
        (["net.pth", "net.pth"], "net.pth exists; remove it or give another name"),
        (["net.pth", "net.onnx"], "net.onnx: expected a name that ends in .pth or .safetensors"),
    ):
        assert main(["convert", *argv]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"glsgn convert: error: {message}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.safetensors", "net.pth"]


def test_half_precision_is_half_the_size_and_holds_what_it_can(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wanted = state()
    write_weights(wanted, tmp_path / "full.pth")
    for name in ("half.safetensors", "half.pth"):
        assert main(["convert", "full.pth", name, "--half"]) == 0
        found = read_weights(tmp_path / name).weights
        assert same(found, {key: value.half() for key, value in wanted.items()})
    assert main(["convert", "full.pth", "full.safetensors"]) == 0
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    count = sum(value.numel() for value in wanted.values())
    assert sizes[0] - sizes[1] == pytest.approx(2 * count, rel=0.05)

    wanted["fusion.mask1.conv1.bias"][0] = 1e5
    write_weights(wanted, tmp_path / "large.pth")
    assert main(["convert", "large.pth", "large.safetensors", "--half"]) == 2
    assert "fusion.mask1.conv1.bias holds numbers that torch.float16 can't" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "large.safetensors").exists()


def test_shipped_files_have_a_path(capsys):
    assert main(["path", "glsgn_derain.yml"]) == 0
    assert capsys.readouterr().out.strip().endswith("basicsr_options/glsgn_derain.yml")
    assert main(["path"]) == 0
    listed = capsys.readouterr().out
    assert "mmagic_configs/glsgn_dehaze.py" in listed
    assert "pretrained/rain.safetensors" in listed
    assert main(["path", "glsgn_derian.py"]) == 2
    assert "Did you mean 'glsgn_derain.py'" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk_leaves_nothing_half_written(suffix, tmp_path):
    """A limit on the size of files stops the writing as a full disk does."""
    weights = state()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(InputError, match=rf"net\{suffix}: can't be written .* disk full"):
            write_weights(weights, tmp_path / f"net{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"widths": [4, 4', "is no JSON"),
        ("[4, 4, 4, 4]", "is a list; expected an object of GLSGN's options"),
        ('{"widths": [4, 4]}', "GLSGN widths: "),
        ('{"padding_mode": "wrap"}', "GLSGN padding_mode: "),
        ('{"gain": true}', "says gain: True, which this version of glsgn-plugins doesn't have"),
    ],
)
def test_a_record_that_is_none_is_named_with_its_file(suffix, record, message, tmp_path):
    file = tmp_path / f"bad{suffix}"
    weights = dict(state())
    if suffix == ".pth":
        torch.save({"params": weights, RECORD: record}, file)
    else:
        safetensors.torch.save_file(weights, file, metadata={RECORD: record})
    named = rf"bad{suffix}: the record of the network \('glsgn'\):? {message}"
    with pytest.raises(InputError, match=named):
        read_weights(file)
