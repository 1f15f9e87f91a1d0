"""Validation in pieces and on several ranks, through the real command."""

import re

import cv2
import numpy as np
import pytest
import torch
from harness import of_ranks, psnr, run_at_once, run_command, tensor
from networks import trained_like

from glsgn_plugins import GLSGN, restore_array
from glsgn_plugins.compat import patch_basicsr
from glsgn_plugins.io.images import read_image
from glsgn_plugins.io.weights import read_glsgn

TINY = {"widths": [4, 4, 6, 8]}


def stock():
    patch_basicsr()
    from basicsr.archs.edsr_arch import EDSR

    return EDSR(3, 3, num_feat=4, num_block=1, upscale=1)


STOCK = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3}
STOCK |= {"num_feat": 4, "num_block": 1, "upscale": 1}

NETWORKS = {
    "GLSGN": (lambda: trained_like(GLSGN(**TINY)), {"type": "GLSGN", **TINY}),
    "reduced": (
        lambda: trained_like(GLSGN(**TINY, long_side=48)),
        {"type": "GLSGN", **TINY, "long_side": 48},
    ),
    "coarse": (
        lambda: trained_like(GLSGN(**TINY, coarse_side=48)),
        {"type": "GLSGN", **TINY, "coarse_side": 48},
    ),
    # BasicSR's own: at scale 1 a chain of convolutions that sees five pixels around each.
    "EDSR": (stock, STOCK),
}


@pytest.fixture
def tested(project, write_options):
    """Runs ``basicsr test`` on one set of weights; gives the score, images by name, and the log."""

    def run(network, model, tile=None, ranks=0):
        make, options = NETWORKS[network]
        weights = project / "experiments/tiny/models/net_g_latest.pth"
        if not weights.exists():
            weights.parent.mkdir(parents=True)
            torch.save({"params": make().state_dict()}, weights)
        name = f"{model}_{ranks}"

        def edit(opt):
            opt.update(name=name, model_type=model, network_g=options)
            opt["val"].update(tile or {})

        command = ["basicsr", "test", "-opt", str(write_options(edit, test=True))]
        if ranks:
            command += ["--launcher", "pytorch"]
            done = run_at_once(*command, cwd=project, of_each=of_ranks(ranks))
        else:
            done = [run_command(*command, cwd=project)]
        log = "".join(one.stderr for one in done)
        assert not any(one.returncode for one in done), log[-3000:]
        scores = re.findall(r"# psnr: (\d+\.\d+)", log)
        assert len(scores) == 1  # said once, however many ranks there are
        files = (project / "results" / name / "visualization/rain").glob("*.png")
        images = {file.name.removesuffix(f"_{name}.png"): cv2.imread(str(file)) for file in files}
        return float(scores[0]), images, log

    return run


@pytest.mark.parametrize(
    ("network", "tile", "says"),
    [
        ("GLSGN", {"tile": 40}, "96x80: streamed in strips of up to 40 rows"),
        ("EDSR", {"tile": 48, "tile_overlap": 28}, "96x80: in overlapping tiles of 48x48"),
    ],
)
def test_scores_in_pieces_are_those_of_the_whole(tested, network, tile, says):
    whole, expected, _ = tested(network, "SRModel")
    score, images, log = tested(network, "TiledSRModel", tile)
    assert f"Restoring {says}" in log
    assert score == pytest.approx(whole, abs=0.01)
    assert sorted(images) == sorted(expected) == ["0", "1", "2", "3"]
    for name, image in images.items():
        assert np.abs(image.astype(int) - expected[name]).max() <= 1


@pytest.mark.parametrize(("network", "side"), [("reduced", "long_side"), ("coarse", "coarse_side")])
def test_scores_and_images_are_restores_with_the_networks_copy(network, side, project, tested):
    """And options that don't name it are kept to, with a warning."""
    file = project / "experiments/tiny/models/net_g_latest.pth"
    found = {name: tested(name, "TiledSRModel") for name in (network, "GLSGN")}
    net = read_glsgn(file)
    assert net.options[side] == 48
    for name, long_side in ((network, None), ("GLSGN", 0)):
        score, images, log = found[name]
        scores = []
        for stem, image in images.items():
            lq, gt = (read_image(project / f"data/{side}/{stem}.png") for side in ("lq", "gt"))
            expected = restore_array(net, lq, long_side=long_side)
            assert np.abs(image[..., ::-1].astype(int) - expected).max() <= 1
            scores.append(psnr(tensor(expected), tensor(gt)))
        assert len(scores) == 4
        assert score == pytest.approx(np.mean(scores), abs=0.01)
        warned = f"{side}: 48, but network_g.{side} is None" in log
        assert warned == (name == "GLSGN")


def test_at_strength_0_pictures_are_the_inputs(project, tested):
    _, images, _ = tested("GLSGN", "TiledSRModel", {"strength": 0})
    assert sorted(images) == ["0", "1", "2", "3"]
    for name, image in images.items():
        assert np.array_equal(image, cv2.imread(str(project / f"data/lq/{name}.png")))


def test_ranks_share_the_images_and_score_all_of_them(project, tested):
    """Two images for three ranks: the last one has none."""
    for side in ("lq", "gt"):
        for name in ("2.png", "3.png"):
            (project / "data" / side / name).unlink()
    whole, expected, _ = tested("GLSGN", "SRModel")
    score, images, _ = tested("GLSGN", "GLSGNModel", {"tile": "stream"}, ranks=3)
    assert score == pytest.approx(whole, abs=0.01)
    assert sorted(images) == ["0", "1"]
    for name, image in images.items():
        assert np.abs(image.astype(int) - expected[name]).max() <= 1


def test_training_validates_in_pieces_and_goes_on(project, write_options):
    def edit(opt):
        opt["datasets"]["val"] = {**opt["datasets"]["train"], "name": "val"}
        for key in ("gt_size", "use_hflip", "use_rot"):
            opt["datasets"]["val"].pop(key)
        opt["val"].update(val_freq=2, save_img=False, tile="stream")

    options = write_options(edit)
    done = run_command("basicsr", "train", "-opt", str(options), cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("Restoring 96x80: streamed") == 1
    assert len(re.findall(r"# psnr: \d\d\.\d+", done.stderr)) == 3
