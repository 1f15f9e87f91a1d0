"""``glsgn doctor``: what is installed, which patches are applied, what to do about the rest."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

from glsgn_plugins import __version__, compat
from glsgn_plugins.errors import InputError
from glsgn_plugins.io import formats, libvips
from glsgn_plugins.io.checkpoints import trusts_torch
from glsgn_plugins.io.pretrained import pretrained_file, shipped_tasks

PACKAGES = [
    "torch",
    "torchvision",
    "numpy",
    "safetensors",
    "basicsr",
    "mmagic",
    "mmengine",
    "mmcv",
    "mmcv-lite",
    "openmim",
    "diffusers",
    "transformers",
    "huggingface-hub",
    "albumentations",
    "opencv-python",
    "pydantic",
    "pillow",
    "lmdb",
    "lpips",
    "timm",
    "pyvips",
    "pyvips-binary",
    "pillow-heif",
    "pillow-jxl-plugin",
    "rawpy",
    "OpenEXR",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "spandrel",
    "gradio",
]


def _versions() -> None:
    print(f"glsgn-plugins {__version__}, Python {platform.python_version()}")
    for package in PACKAGES:
        print(f"  {package:<18}{compat.installed(package) or 'not installed'}")
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"  {'GPUs':<18}{', '.join(names) or 'none: everything runs on the CPU'}")


def _formats() -> None:
    """Prints what ``glsgn restore`` reads and writes here, and what more would take."""
    print("\nFormats of photographs")
    try:
        vips = libvips.vips()
    except InputError as error:
        print(f"  none: {error}")
        return
    print(f"  libvips {'.'.join(str(vips.version(part)) for part in range(3))}")
    lacking = {suffix: formats.lacking(suffix) for suffix in formats.READ}
    print(f"  read: {' '.join(suffix for suffix, missing in lacking.items() if not missing)}")
    print(f"  written: {' '.join(suffix for suffix in formats.WRITTEN if _is_written(suffix))}")
    for missing in sorted({missing for missing in lacking.values() if missing}):
        these = " ".join(suffix for suffix in lacking if lacking[suffix] == missing)
        print(f"  {these}: {missing}")


def _is_written(suffix: str) -> bool:
    try:
        formats.check_written(Path(suffix[1:] + suffix))
    except InputError:
        return False
    return True


def _weights() -> list[str]:
    """Prints which weights are shipped; returns what is wrong with them."""
    problems = []
    print("\nShipped weights")
    try:
        for task in shipped_tasks():
            try:
                size = pretrained_file(task).stat().st_size
                print(f"  {task:<18}{size / 1e6:.1f} MB, checksum right")
            except InputError as error:
                print(f"  {task:<18}not usable")
                problems.append(str(error))
    except InputError as error:
        problems.append(str(error))
    return problems


def _advice() -> list[str]:
    """What no patch can do."""
    has = {package: compat.installed(package) for package in PACKAGES}
    advice = []
    if not trusts_torch():
        flaws = "CVE-2026-24747"
        if compat.release(has["torch"] or "0") < (2, 6):
            flaws = f"CVE-2025-32434, {flaws}"
        advice.append(
            f"torch {has['torch']}: torch.load(weights_only=True) has flaws ({flaws}), by which a "
            "checkpoint can run code. This package reads checkpoints by a reader of its own there, "
            "and files older than torch 1.6 not at all; your own scripts need torch 2.10 or later "
            "for files that you don't trust"
        )
    mmcv = has["mmcv"] or has["mmcv-lite"]
    if has["mmagic"]:
        if has["numpy"] and compat.release(has["numpy"]) >= (2, 0):
            advice.append("mmagic 1.2.0 needs numpy < 2: pip install 'numpy<2'")
        if mmcv is None:
            advice.append("mmagic needs mmcv: pip install mmcv-lite==2.1.0 (no compiler needed)")
        elif not (2, 0) <= compat.release(mmcv) < (2, 2):
            advice.append(f"mmagic refuses mmcv {mmcv}: pip install mmcv-lite==2.1.0")
        if has["mmcv"] and has["mmcv-lite"]:
            advice.append(
                "mmcv and mmcv-lite share one folder: uninstall both, then install one of them"
            )
        if not has["albumentations"]:
            advice.append("mmagic imports albumentations: pip install albumentations==1.4.24")
    return advice


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``doctor`` to the command's parser."""
    parser = commands.add_parser("doctor", help="what is installed, what is patched, what to do")
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    """Print the report; exit code 1 where there is something left to do."""
    _versions()
    _formats()
    problems = _weights()
    for package, patch, patches in (
        ("basicsr", compat.patch_basicsr, compat.BASICSR_PATCHES),
        ("mmagic", compat.patch_mmagic, compat.MMAGIC_PATCHES),
    ):
        print(f"\nPatches for {package}")
        try:
            patch()
        except Exception as error:  # noqa: BLE001  # whatever fails upstream is the diagnosis
            print(f"  not usable here: {error}")
            if compat.installed(package):
                problems.append(f"{package} doesn't import: {type(error).__name__}: {error}")
            continue
        for p in patches:
            print(
                f"  {'applied   ' if compat.is_applied(p) else 'not needed'} {p.name}: {p.symptom}"
            )
    problems += _advice()
    print("\n" + ("To do" if problems else "Nothing to do."))
    for problem in problems:
        print(f"  - {problem}")
    return 1 if problems else 0
