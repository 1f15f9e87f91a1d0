"""What may import what (docs/architecture.md draws it), no circles, and modules of one sitting."""

import ast
import importlib
import sys
from pathlib import Path

import pytest
from harness import run_code, run_python

from glsgn_plugins import _renamed
from glsgn_plugins.compat import installed

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "glsgn_plugins"

LAYERS = (
    ("errors", "_renamed"),
    ("archs", "degradations", "schema", "shards"),
    ("io",),
    ("losses", "data", "inference"),
    ("training",),
    ("metrics", "pretrained", "compat"),
    ("app", "basicsr", "mmagic", "spandrel"),
    ("cli",),
)
"""From the bottom to the top: a package imports those below, none beside it or above it."""

FRAMEWORKS = {"basicsr", "mmagic", "mmengine", "mmcv", "mim"}
MAY_IMPORT_FRAMEWORKS = {"basicsr", "mmagic", "compat", "cli"}
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
UPWARDS = {("glsgn_plugins.archs.glsgn", "glsgn_plugins.io.hub")}
"""Within functions alone: the Hub's users expect ``from_pretrained`` and so on of the class itself,
and files of weights are the business of ``io``."""
MOST_LINES = 450


def name_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(file, lazy):
    """Modules that a file imports, within functions as well where ``lazy`` is set."""
    todo = [ast.parse(file.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Relative ones from the package that holds the file, or a package's own __init__.
            above = file.relative_to(ROOT).parts[: -node.level] if node.level else ()
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in MODULES else source
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            todo += ast.iter_child_nodes(node)


def package_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "glsgn_plugins" else None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from glsgn_plugins.cli import path", "glsgn_plugins.cli.path"),
        ("from glsgn_plugins.cli.path import run", "glsgn_plugins.cli.path"),
        ("from glsgn_plugins import cli", "glsgn_plugins.cli"),
        ("import glsgn_plugins.cli.path as p", "glsgn_plugins.cli.path"),
        ("from ..cli import path", "glsgn_plugins.cli.path"),
        ("from . import headers", "glsgn_plugins.io.headers"),
        ("from .headers import Header", "glsgn_plugins.io.headers"),
        ("importlib.import_module('glsgn_plugins.cli')", "glsgn_plugins.cli"),
    ],
)
def test_no_way_to_import_is_overlooked(line, found, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "glsgn_plugins/io/some.py"
    file.parent.mkdir(parents=True)
    file.write_text(f"def work():\n    try:\n        {line}\n    finally:\n        pass\n")
    assert list(imports(file, lazy=True)) == [found]
    assert not list(imports(file, lazy=False))


def test_every_package_has_its_layer():
    assert {package_of(module) for module in MODULES} - {None} == LEVEL.keys()


@pytest.mark.parametrize("module", [m for m in MODULES if m != "glsgn_plugins"])
def test_imports_go_down_the_layers_also_within_functions(module):
    own = package_of(module)
    for imported in imports(MODULES[module], lazy=True):
        other = package_of(imported)
        if other is not None and other != own and (module, imported) not in UPWARDS:
            assert LEVEL[other] < LEVEL[own], f"{module} imports {imported}"
        if imported.split(".")[0] in FRAMEWORKS:
            assert own in MAY_IMPORT_FRAMEWORKS, f"{module} imports {imported}"


def test_neither_framework_is_imported_for_the_other():
    foreign = {"basicsr": {"mmagic", "mmengine", "mmcv"}, "mmagic": {"basicsr"}}
    for module, file in MODULES.items():
        for imported in imports(file, lazy=True):
            assert imported.split(".")[0] not in foreign.get(package_of(module), ()), module


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        module: {
            m
            for m in imports(file, lazy=True)
            if m in MODULES and m != "glsgn_plugins" and (module, m) not in UPWARDS
        }
        for module, file in MODULES.items()
    }
    open_, done = [], set()

    def visit(module):
        assert module not in open_, " -> ".join([*open_[open_.index(module) :], module])
        if module in done:
            return
        open_.append(module)
        for other in sorted(graph[module] - {module}):
            visit(other)
        done.add(open_.pop())

    for module in graph:
        visit(module)


def test_what_imports_upwards_does_so_within_functions():
    for module, above in UPWARDS:
        assert above in imports(MODULES[module], lazy=True)
        assert above not in imports(MODULES[module], lazy=False)


def test_no_module_is_longer_than_one_reads_in_a_sitting():
    folders = (PACKAGE, ROOT / "examples", ROOT / "benchmarks", ROOT / "comfyui")
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, file


@pytest.mark.parametrize("new", sorted(set(_renamed.RENAMED.values())))
def test_every_new_name_is_there(new):
    assert f"glsgn_plugins.{new}" in MODULES


def test_old_names_are_the_new_modules_and_say_so():
    with pytest.warns(DeprecationWarning, match=r"glsgn_plugins.weights is now .*io.weights"):
        old = importlib.import_module("glsgn_plugins.weights")
    assert old is importlib.import_module("glsgn_plugins.io.weights")
    with pytest.warns(DeprecationWarning, match=r"glsgn_plugins.commands.sets is now"):
        old = importlib.import_module("glsgn_plugins.commands.sets")
    assert old is importlib.import_module("glsgn_plugins.cli.dataset_arguments")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("glsgn_plugins.no_such_thing")


def test_names_within_renamed_modules_are_the_new_ones_and_say_so():
    for within, names in _renamed.RENAMED_WITHIN.items():
        old = next(o for o, new in _renamed.RENAMED.items() if new == within)
        module = importlib.import_module(f"glsgn_plugins.{old}")
        for name, new in names.items():
            with pytest.warns(DeprecationWarning, match=f"{name} is now glsgn_plugins.{new};"):
                found = getattr(module, name)
            holder, _, own = f"glsgn_plugins.{new}".rpartition(".")
            assert found is getattr(importlib.import_module(holder), own)
        with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
            _ = module.no_such_thing


@pytest.mark.parametrize("old", _renamed.OUTSIDE)
def test_what_left_the_package_says_where_it_is(old, tmp_path):
    if old.startswith("mmagic."):
        pytest.importorskip("mmagic")
    done = run_python("-m", f"glsgn_plugins.{old}", cwd=tmp_path)
    assert done.returncode == 1
    assert f"the repository has it as {_renamed.OUTSIDE[old]}" in done.stderr
    assert (ROOT / _renamed.OUTSIDE[old]).is_file()


def test_an_old_name_runs_as_a_command(tmp_path):
    done = run_python("-m", "glsgn_plugins.commands.glsgn", "path", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "usage: glsgn path" in done.stdout


def test_importing_the_adapters_leaves_other_peoples_things_alone(tmp_path):
    """No hook of the process; no sampler of datasets that aren't ours."""
    pytest.importorskip("mmagic")
    code = (
        "import sys, torch\n"
        "hook = sys.excepthook\n"
        "import glsgn_plugins.basicsr, glsgn_plugins.mmagic\n"
        "assert sys.excepthook is hook\n"
        "from basicsr.data.data_sampler import EnlargedSampler\n"
        "from mmengine.dataset import InfiniteSampler\n"
        "data = torch.utils.data.TensorDataset(torch.zeros(3))\n"
        "sampler = EnlargedSampler(data, 1, 0)\n"
        "assert all(type(i) is int for i in sampler)\n"
        "assert type(next(iter(InfiniteSampler(data)))) is int\n"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_pydantic_the_command_says_how_to_install_it(tmp_path):
    """And the adapter is imported all the same, as a lab's own code may do."""
    if installed("basicsr") is None:
        pytest.skip("basicsr is not in this stack")
    code = (
        "import sys\n"
        "sys.modules['pydantic'] = None\n"
        "from glsgn_plugins.cli.basicsr import main\n"
        "assert main(['train', '-opt', 'options.yml']) == 2\n"
        "import glsgn_plugins.basicsr\n"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stderr.splitlines()
    assert said == [
        "basicsr train: error: pydantic is not installed: pip install 'glsgn-plugins[basicsr]'"
    ]


def test_restoring_does_not_load_what_torch_compiles_with(tmp_path):
    """It takes a second and more of each command."""
    code = (
        "import sys, numpy, torch\n"
        "before = set(sys.modules)\n"
        "import glsgn_plugins\n"
        "image = numpy.zeros((64, 64, 3), numpy.uint8)\n"
        "glsgn_plugins.restore_array(glsgn_plugins.load_pretrained('rain'), image)\n"
        "assert 'torch._dynamo' not in set(sys.modules) - before\n"
    )
    done = run_code(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
