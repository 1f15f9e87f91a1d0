"""Patches act where they are needed, and leave everything else as it was."""

import pytest
import torch
from harness import run_python

from glsgn_plugins import compat


@pytest.fixture
def run(tmp_path):
    def run(code):
        done = run_python("-c", code, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]

    return run


def test_every_patch_is_described():
    names = [m.name for m in compat.ALL_PATCHES]
    assert len(set(names)) == len(names)
    assert all(m.symptom and m.cause and m.versions for m in compat.ALL_PATCHES)


@pytest.mark.skipif(
    compat.release(compat.installed("torchvision")) < (0, 17),
    reason="this torchvision still has the module",
)
def test_basicsr_imports_with_the_patch_and_not_without(run, tmp_path):
    """If the second half fails, the framework is repaired and ours can go."""
    run("from glsgn_plugins import compat; compat.patch_basicsr(); import basicsr.archs")
    assert "functional_tensor" in run_python("-c", "import basicsr", cwd=tmp_path).stderr


def test_patching_twice_is_patching_once(run):
    run(
        "from glsgn_plugins import compat\n"
        "compat.patch_basicsr()\n"
        "from basicsr.models.base_model import BaseModel\n"
        "first = BaseModel.save_network, BaseModel.load_network\n"
        "compat.patch_basicsr()\n"
        "assert (BaseModel.save_network, BaseModel.load_network) == first\n"
    )


@pytest.mark.skipif(compat.installed("mmagic") is None, reason="mmagic is not in this stack")
def test_mmagic_imports_and_the_stand_in_is_gone_again(run):
    run(
        "import pkgutil, importlib.util, sys\n"
        "before = importlib.util.find_spec('mmcv._ext')\n"
        "from glsgn_plugins import compat; compat.patch_mmagic()\n"
        "import mmagic.models\n"
        "from mmagic.apis import init_model\n"
        "assert importlib.util.find_spec('mmcv._ext') == before\n"
        "if before is None:\n"
        "    assert 'mmcv._ext' not in sys.modules\n"
        "    import torch\n"
        "    from mmcv.ops import nms\n"
        "    try: nms(torch.rand(2, 4), torch.rand(2), 0.5)\n"
        "    except ImportError as error: assert 'install the full mmcv' in str(error)\n"
        "    else: raise AssertionError\n"
    )


@pytest.mark.skipif(compat.installed("mmagic") is None, reason="mmagic is not in this stack")
def test_mmagic_imports_where_numpy_has_no_bool8(run):
    without = (
        "import numpy as np\n"
        "had = np.__getattr__\n"
        "def lacking(name):\n"
        "    if name == 'bool8': raise AttributeError('no bool8')\n"
        "    return had(name)\n"
        "np.__getattr__ = lacking\n"
        "from glsgn_plugins import compat\n"
    )
    run(
        without + "compat.patch_mmagic()\n"
        "import mmagic.models, mmagic.utils.trans_utils\n"
        "assert not hasattr(np, 'bool8')\n"
    )
    run(
        without + "mmagic_patches = [p for p in compat.MMAGIC_PATCHES if 'bool8' not in p.name]\n"
        "compat.MMAGIC_PATCHES = tuple(mmagic_patches)\n"
        "try: compat.patch_mmagic(); import mmagic.models\n"
        "except AttributeError as error: assert 'bool8' in str(error)\n"
        "else: raise AssertionError('the patch can go')\n"
    )


def test_loading_refuses_code_a_wrong_key_and_a_wrong_network(tmp_path):
    from glsgn_plugins import GLSGN, InputError

    compat.patch_basicsr()
    from basicsr.models.base_model import BaseModel

    model = BaseModel({"num_gpu": 0, "is_train": False})
    net = GLSGN(widths=(4, 4, 4, 4))
    file = tmp_path / "net.pth"
    torch.save(net.state_dict(), file)
    model.load_network(net, str(file))
    model.load_network(net, str(file), param_key=None)
    torch.save({"epoch": 3}, file)
    with pytest.raises(InputError, match=r"net\.pth: has no 'params'.*param_key_g"):
        model.load_network(net, str(file))
    torch.save({"params": GLSGN(widths=(8, 4, 4, 4)).state_dict()}, file)
    with pytest.raises(InputError, match=r"net\.pth: doesn't fit GLSGN"):
        model.load_network(net, str(file))
