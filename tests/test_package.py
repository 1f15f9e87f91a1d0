"""What is installed: the wheel, its metadata, its place beside other people's versions."""

import email
import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from harness import run_command, run_python

import glsgn_plugins
from glsgn_plugins.compat import installed
from glsgn_plugins.io.pretrained import is_shipped, shipped_tasks
from glsgn_plugins.io.shipped import find_shipped, shipped_files

ROOT = Path(__file__).resolve().parent.parent
PERIOD = Path(__file__).parent / "assets" / "period_stack.json"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Built by the real back end, without a build environment of its own."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        + ["--no-index", "-w", str(out), str(ROOT)],
        check=True,
    )
    (file,) = out.glob("*.whl")
    return file


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_holds_the_options_and_the_package_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    shipped = [*ROOT.glob("basicsr_options/*.yml"), *ROOT.glob("mmagic_configs/**/*.py")]
    assert len(shipped) > 10
    for file in shipped:
        assert f"glsgn_plugins/{file.relative_to(ROOT)}" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"glsgn_plugins", f"glsgn_plugins-{glsgn_plugins.__version__}.dist-info"}
    assert zipfile.Path(wheel).joinpath("glsgn_plugins").is_dir()


def test_metadata_says_which_python_each_part_is_for(wheel):
    meta = metadata(wheel)
    assert meta["Requires-Python"] == "<3.14,>=3.10"
    requires = [r.replace('"', "'") for r in meta.get_all("Requires-Dist")]
    required = [r for r in requires if "extra ==" not in r]
    assert sorted(r.split(">")[0] for r in required) == ["numpy", "safetensors", "torch"]
    for extra, below in (("basicsr", "3.13"), ("mmagic", "3.12")):
        (line,) = (r for r in requires if r.startswith(f"{extra}<") or r.startswith(f"{extra}>"))
        assert f"python_version < '{below}'" in line
        assert f"extra == '{extra}'" in line


def record(site, name, version, requires=()):
    """The recorded metadata of an installed distribution; pip sees no difference."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {r}" for r in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text("")


@pytest.fixture(scope="session")
def period_lab(tmp_path_factory):
    """An environment that holds the stack of labs that never upgraded, by its metadata."""
    lab = tmp_path_factory.mktemp("lab")
    venv.create(lab, with_pip=True)
    (site,) = lab.glob("lib/python*/site-packages")
    for name, (version, requires) in json.loads(PERIOD.read_text()).items():
        if name not in ("pip",) and not list(site.glob(f"{name}-*.dist-info")):
            record(site, name, version, requires)
    # What [basicsr] adds; there is no index here to take it from.
    record(site, "pydantic", "2.5.0")
    return lab


@pytest.mark.parametrize("extra", ["", "[basicsr]"])
def test_a_labs_environment_is_left_as_it_is(wheel, period_lab, tmp_path, extra):
    report = tmp_path / "report.json"
    done = subprocess.run(
        [str(period_lab / "bin/python"), "-m", "pip", "install", "--dry-run", "--no-index"]
        + ["--report", str(report), f"{wheel}{extra}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    changed = [item["metadata"]["name"] for item in json.loads(report.read_text())["install"]]
    assert changed == ["glsgn-plugins"]


def test_an_upgrade_would_be_noticed(wheel, period_lab, tmp_path):
    """The check above can fail: a requirement that the lab lacks is an error for pip."""
    done = subprocess.run(
        [str(period_lab / "bin/python"), "-m", "pip", "install", "--dry-run", "--no-index"]
        + [str(wheel), "torch>=2.2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0


def test_the_installed_wheel_finds_its_options_without_a_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from glsgn_plugins.io.shipped import find_shipped\n"
        "print(find_shipped('glsgn_derain.yml', 'basicsr_options', '.yml'))"
    )
    done = run_python("-c", code, str(site), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == site / "glsgn_plugins/basicsr_options/glsgn_derain.yml"


def test_the_installed_wheel_finds_and_verifies_its_weights_without_a_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = archive.namelist()
    assert [n for n in names if n.endswith(".dist-info/licenses/LICENSE")]
    folder = site / "glsgn_plugins/pretrained"
    assert {"README.md", "SHA256SUMS", "rain.safetensors"} < {p.name for p in folder.iterdir()}
    weights = list(site.rglob("*.safetensors"))
    assert {file.parent for file in weights} == {folder}
    assert max(file.stat().st_size for file in weights) <= 8e6
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from glsgn_plugins import load_pretrained\n"
        "from glsgn_plugins.io.pretrained import pretrained_file, shipped_tasks\n"
        "print(*(pretrained_file(task) for task in shipped_tasks()), sep='\\n')\n"
        "load_pretrained('rain')"
    )

    def load():
        return run_python("-c", code, str(site), cwd=tmp_path)

    done = load()
    assert done.returncode == 0, done.stderr
    assert {Path(line) for line in done.stdout.splitlines()} == set(weights)
    (folder / "rain.safetensors").write_bytes(b"x")
    assert "rain.safetensors: damaged or changed, its checksum differs" in load().stderr


@pytest.mark.skipif(installed("mmagic") is None, reason="mmagic is not in this stack")
def test_mims_tools_take_the_installed_configs_without_a_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    config = site / "glsgn_plugins/mmagic_configs/glsgn_dehaze.py"
    argv = ("mim", "run", "mmagic", "print_config", str(config))
    done = run_command(*argv, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "type='GLSGNRestorer'" in done.stdout  # from _base_
    assert "layout='UHD-Haze'" in done.stdout


def test_a_users_own_file_goes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_shipped("glsgn_derain.yml", "basicsr_options", ".yml")
    assert shipped.parent.name == "basicsr_options"
    (tmp_path / "glsgn_derain.yml").write_text("name: mine")
    assert find_shipped("glsgn_derain.yml", "basicsr_options", ".yml") == Path("glsgn_derain.yml")


def test_importing_the_core_imports_no_framework():
    code = (
        "import sys, glsgn_plugins\n"
        "assert 'safetensors' not in sys.modules\n"
        "import glsgn_plugins.losses, glsgn_plugins.compat\n"
        "found = {m.split('.')[0] for m in sys.modules}\n"
        "assert not found & {'basicsr', 'mmagic', 'mmengine', 'mmcv', 'cv2', 'yaml'}, found\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_importing_the_basicsr_adapter_imports_nothing_of_mmagic():
    code = (
        "import sys, glsgn_plugins.basicsr\n"
        "from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY\n"
        "assert 'GLSGN' in ARCH_REGISTRY and 'GLSGNModel' in MODEL_REGISTRY\n"
        "assert 'PathwayReconstructionLoss' in LOSS_REGISTRY\n"
        "found = {m.split('.')[0] for m in sys.modules}\n"
        "assert not found & {'mmagic', 'mmengine', 'mmcv'}, found\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.skipif(installed("mmagic") is None, reason="mmagic is not in this stack")
def test_importing_the_mmagic_adapter_imports_nothing_of_basicsr():
    code = (
        "import sys, glsgn_plugins.mmagic\n"
        "from mmagic.registry import DATASETS, METRICS, MODELS, TRANSFORMS\n"
        "assert 'GLSGN' in MODELS and 'GLSGNRestorer' in MODELS and 'GLSGNLoss' in MODELS\n"
        "assert 'UHDSynthesisDataset' in DATASETS and 'UHDCrop' in TRANSFORMS\n"
        "assert 'LPIPS' in METRICS and 'Seam' in METRICS\n"
        "assert 'basicsr' not in {m.split('.')[0] for m in sys.modules}\n"
    )
    done = run_python("-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]


def without(package, code, version="raise m.PackageNotFoundError(name)"):
    """Run ``code`` where a distribution is not to be found, or is of another version."""
    hide = (
        "import importlib.metadata as m, sys\n"
        "real = m.version\n"
        "def version(name):\n"
        f"    if name == {package!r}: {version}\n"
        "    return real(name)\n"
        "m.version = version\n"
    )
    return run_python("-c", hide + code, cwd=ROOT).stderr


def test_a_missing_framework_says_what_to_install():
    assert "pip install 'glsgn-plugins[basicsr]'" in without(
        "basicsr", "import glsgn_plugins.basicsr"
    )
    core_first = "import glsgn_plugins\n"  # torch looks at the version itself
    newer = f"{core_first}sys.version_info = (3, 13, 0)\nimport glsgn_plugins.basicsr"
    assert "use Python 3.10 to 3.12" in without("basicsr", newer)
    mmagic = f"{core_first}sys.version_info = (3, 11, 0)\nimport glsgn_plugins.mmagic"
    assert "pip install 'glsgn-plugins[mmagic]'" in without("mmagic", mmagic)
    old = without("mmagic", mmagic, version="return '1.0.2'")
    assert "mmagic 1.0.2 is too old, mmagic 1.2.0 is needed: pip install" in old
    newer = mmagic.replace("3, 11", "3, 12")
    assert "use Python 3.10 or 3.11" in without("mmagic", newer)


def test_every_shipped_option_file_passes_the_checks_once_its_data_is_there(tmp_path, project):
    from glsgn_plugins.basicsr.options import check_options, read_options

    files = shipped_files("basicsr_options", ".yml")
    assert {"glsgn_derain.yml", "glsgn_dereflection.yml", "glsgn_dehaze.yml"} < set(files)
    assert {"glsgn_derain_test.yml", "glsgn_derain_demo.yml"} < set(files)
    weights = project / "net.pth"
    weights.touch()
    for file in files.values():
        train = "train" in yaml.safe_load(file.read_text())
        _, opt = read_options(str(file), [])
        for dataset in opt["datasets"].values():
            assert dataset["type"] == "UHDPairedDataset"
            dataset.update(dataroot=str(project / "data"), layout="synthesized", split="all")
            if "gt_size" in dataset:
                dataset["gt_size"] = 64
        if opt["path"]["pretrain_network_g"] and not is_shipped(opt["path"]["pretrain_network_g"]):
            opt["path"]["pretrain_network_g"] = str(weights)
        check_options(opt, train)


def test_doctor_names_versions_and_patches(tmp_path):
    done = run_command("glsgn", "doctor", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert f"glsgn-plugins {glsgn_plugins.__version__}" in done.stdout
    for name in ("torch", "basicsr", "mmengine"):
        version = installed(name)
        told = next(line for line in lines if line.split()[:1] == [name])
        assert str(version) in told if version else "not installed" in told
    for task in shipped_tasks():
        assert any(line.split()[:1] == [task] and "checksum right" in line for line in lines)
    if installed("pyvips"):
        (read,) = (line for line in lines if line.startswith("  read: "))
        assert ".jpg .jpeg .png .tif .tiff .webp" in read
    of_mmagic = ("mmcv.ops", "safe loading in mmengine:") if installed("mmagic") else ()
    for name in ("resume:", "whole checkpoints:", *of_mmagic):
        assert name in done.stdout
    assert done.returncode == ("Nothing to do." not in done.stdout)
