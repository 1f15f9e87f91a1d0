"""The demo's data: real photographs, rain as promised, the same every time; when it resumes."""

import cv2
import demo
import demo_data
import pytest
from harness import psnr, tensor

from glsgn_plugins.io.shipped import find_shipped


def test_misty_rain_on_the_unseen_photograph_leaves_16_to_20_db(tmp_path):
    demo_data.make_data(tmp_path / "a")
    stem = demo_data.UNSEEN_PHOTO.split(".")[0]
    lq, gt = (
        tensor(cv2.imread(str(tmp_path / "a/val" / side / f"{stem}.png"))) for side in ("lq", "gt")
    )
    assert 16 <= psnr(lq, gt) <= 20
    for unseen in (stem, "astronaut"):
        assert not [p for p in (tmp_path / "a/train").rglob("*.png") if p.name.startswith(unseen)]

    demo_data.make_data(tmp_path / "b")
    first = sorted(p for p in (tmp_path / "a").rglob("*.png") if "clean" not in p.parts)
    assert len(first) == 2 * (len(demo_data.TRAIN_PHOTOS) * demo_data.RAINS_PER_PHOTO + 1)
    second = sorted(p for p in (tmp_path / "b").rglob("*.png") if "clean" not in p.parts)
    assert demo_data.digest(*first) == demo_data.digest(*second)


def test_fine_tuning_is_resumed_only_where_it_began_with_the_same_weights(tmp_path, monkeypatch):
    """What ``demo.train`` asks of ``basicsr``, whose own resuming other tests cover."""
    options = find_shipped(demo.TRAIN_OPTIONS, "basicsr_options", ".yml")
    asked = []

    def killed(command, file, *more):
        asked.append(more)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "basicsr", killed)
    demo_data.DEMO.mkdir()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            demo.train(options)
    assert asked == [(), ("--auto_resume",)]
    (tmp_path / "other.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(demo, "pretrained_file", lambda task: tmp_path / "other.safetensors")
    with pytest.raises(KeyboardInterrupt):
        demo.train(options)
    assert asked[2:] == [()]
