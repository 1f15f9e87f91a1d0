"""What will measure on a GPU runs here in small: no table is lost to a slip on the day."""

import csv
import os
import sys
from pathlib import Path

import pytest
from harness import run_python

FOLDER = Path(__file__).parent.parent / "benchmarks"


def run(script, *more):
    path = os.pathsep.join(sys.path)
    return run_python(str(FOLDER / script), *map(str, more), cwd=FOLDER.parent, PYTHONPATH=path)


def test_the_gpu_benchmark_in_small(tmp_path):
    report = tmp_path / "gpu.md"
    parts = ("device", "16k", "degrading")
    done = run("gpu.py", "--device", "cpu", "--small", "--only", *parts, "--out", report)
    assert done.returncode == 0, done.stderr[-2000:]
    text = report.read_text()
    assert "## What the card reaches" in text
    assert "| glsgn_s | bf16 | " in text
    assert "| reflection | 64 | " in text
    assert "Failed" not in text
    assert report.with_suffix(".json").exists()


def test_no_part_begins_when_time_is_up(tmp_path):
    done = run("gpu.py", "--small", "--device", "cpu", "--only", "device", "--minutes", "-1")
    assert done.returncode == 1
    assert "Left out: -1 minutes were over" in done.stdout


def test_ranges_of_the_shipped_weights(tmp_path):
    table = tmp_path / "ranges.csv"
    done = run("ranges.py", "--task", "rain", "--pictures", 2, "--batch", 1, "--out", table)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no layer needs float32" in done.stdout
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert {"fusion.mask1.conv2", "global_pathway.head"} <= {row["layer"] for row in rows}
    largest = max(float(row["activation"]) for row in rows)
    assert 1 < largest < 65504
    done = run("ranges.py", "--task", "rain", "--pictures", 1, "--margin", 65504 / largest * 2)
    assert done.returncode == 1
    assert "to be kept in float32: " in done.stdout


@pytest.mark.parametrize("script", ["gpu.py", "ranges.py", "data.py"])
def test_help(script):
    done = run(script, "--help")
    assert done.returncode == 0
    assert "usage: " in done.stdout
