"""Sets and ``glsgn restore`` read the same pixels out of any file, or refuse it by name."""

from __future__ import annotations

import numpy as np
import pytest
from image_cases import cases

from glsgn_plugins.errors import InputError
from glsgn_plugins.io import photographs
from glsgn_plugins.io.headers import read_header
from glsgn_plugins.io.images import read_image

CASES = {case.name: case for case in cases()}


def read(reader, path):
    """What a reader gives; ``None`` where it refuses the file, which it must name."""
    refusal = ""
    try:
        found = reader(path)
    except InputError as error:
        found, refusal = None, str(error)
    assert not refusal or str(path) in refusal
    return found


def test_there_are_hundreds():
    assert len(CASES) == len(cases()) > 200


@pytest.mark.parametrize("name", CASES)
def test_both_readers_agree(name, tmp_path):
    case = CASES[name]
    path = tmp_path / name
    case.write(path)
    of_sets = read(read_image, path)
    of_restore = read(lambda p: photographs.read(p).pixels, path)
    if case.pixels is None:
        assert of_sets is None
        assert of_restore is None
        return
    # Sets refuse some kinds of TIFF that restore reads.
    assert (of_restore is not None) == case.restored
    assert of_sets is not None or path.suffix == ".tif"
    for found in (of_sets, of_restore):
        if found is not None:
            assert found.dtype == case.pixels.dtype
            assert found.shape == case.pixels.shape
            assert np.abs(found.astype(int) - case.pixels).mean() <= case.near
            header = read_header(path)
            assert (header.height, header.width) == found.shape[:2]
    if of_sets is not None and of_restore is not None:
        assert np.array_equal(of_sets, of_restore)
