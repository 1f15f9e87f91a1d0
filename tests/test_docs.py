"""Pages whose links lead somewhere, a README that comes to the point, a notebook that runs."""

import importlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *DOCS,
    ROOT / "comfyui/README.md",
    ROOT / "glsgn_plugins/pretrained/README.md",
]
IMPORT = re.compile(r"(?:^|`)(?:from|import) (glsgn_plugins[.\w]*)(?: import ([\w, ]+))?", re.M)
FILE = re.compile(
    r"`((?:glsgn_plugins|benchmarks|tests|docs|examples|comfyui|basicsr_options|mmagic_configs)"
    r"/[\w./]+)`"
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """Of headings, as GitHub and MkDocs make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file), link


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_pages_of_the_site_link_to_what_is_on_it(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT / "docs")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_pages_import_is_there(page):
    for module, names in IMPORT.findall(page.read_text(encoding="utf-8")):
        if module == "glsgn_plugins.mmagic" and find_spec("mmagic") is None:
            continue
        found = importlib.import_module(module)
        for name in names.split(",") if names else ():
            assert hasattr(found, name.strip()), f"{module} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_name_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in FILE.findall(text):
        assert (ROOT / name).exists() or f"`{name}` and the network that it measures" in text, name


def test_the_readme_installs_and_runs_on_its_first_screen():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    first = "\n".join(lines[:30])
    for needed in ("pip install", "```python", "glsgn restore ", "!["):
        assert needed in first


def test_every_page_is_in_the_sites_navigation():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS:
        assert f": {page.name}\n" in site


def test_the_notebook_restores_its_photograph(monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    book = json.loads((ROOT / "examples/restore.ipynb").read_text(encoding="utf-8"))
    scope = {}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), scope)
    pyplot.close("all")
    assert scope["psnr"](scope["restored"]) > scope["psnr"](scope["rainy"]) + 3
    assert len(scope["outputs"].pathways) == 4
