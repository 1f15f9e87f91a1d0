"""Wrong input to ``basicsr``: one line that names it and what to do, exit code 2, no traceback."""

import os
import shutil

import cv2
import numpy as np
import pytest
from basicsr_runs import run_here, set_in
from harness import run_command, start_command

from glsgn_plugins.errors import InputError


def rename(section, old, new):
    section[new] = section.pop(old)


def stock_model(opt):
    opt["model_type"] = "SRModel"
    opt["train"].pop("pathway_opt")


NAMED_LOSSES = ("restored", "pathway", "content", "attention", "intensity")

OPTION_ERRORS = {
    "arch": (set_in("network_g", "type", value="GLSNG"), "network_g.type: 'GLSNG'", "'GLSGN'"),
    "model": (set_in("model_type", value="GLSGNmodel"), "model_type: 'GLSGNmodel'", "'GLSGNModel'"),
    "dataset": (
        set_in("datasets", "train", "type", value="PairedImagesDataset"),
        "datasets.train.type: 'PairedImagesDataset'",
        "'PairedImageDataset'",
    ),
    "loss": (
        set_in("train", "pixel_opt", "type", value="L1"),
        "train.pixel_opt.type: 'L1'",
        "L1Loss",
    ),
    "metric": (
        set_in("val", "metrics", "psnr", "type", value="calculate_pnsr"),
        "val.metrics.psnr.type",
        "'calculate_psnr'",
    ),
    "arch key": (
        lambda opt: rename(opt["network_g"], "widths", "width"),
        "network_g.width (GLSGN)",
        "'widths'",
    ),
    "tile": (
        set_in("val", "tile", value="streem"),
        "val.tile: 'streem' does not exist",
        "'stream'",
    ),
    "no tile": (set_in("val", "tile", value=-4), "val.tile: -4", "at least one pixel"),
    "overlap": (set_in("val", "tile_overlap", value="8px"), "val.tile_overlap", "'8px'"),
    "strength": (set_in("val", "strength", value=2), "val.strength: expected", "got 2"),
    "strength as text": (set_in("val", "strength", value="1.2"), "val.strength", "'1.2'"),
    "stock model's strength": (
        lambda opt: (stock_model(opt), opt["val"].update(strength=0.5)),
        "val.strength: SRModel",
        "model_type: TiledSRModel",
    ),
    "stock model's tile": (
        lambda opt: (stock_model(opt), opt["val"].update(tile=64)),
        "val.tile: SRModel",
        "model_type: TiledSRModel",
    ),
    "stock model's long side": (
        lambda opt: (stock_model(opt), opt["network_g"].update(long_side=64)),
        "network_g.long_side: SRModel",
        "model_type: TiledSRModel",
    ),
    "stock model's coarse side": (
        lambda opt: (stock_model(opt), opt["network_g"].update(coarse_side=64)),
        "network_g.coarse_side: SRModel",
        "model_type: TiledSRModel",
    ),
    "long side": (set_in("network_g", "long_side", value=7), "GLSGN long_side:", "got 7"),
    "model key": (set_in("train", "grad_clipp", value=1), "train.grad_clipp", "'grad_clip'"),
    "loss key": (
        set_in("train", "pathway_opt", "criterium", value="l1"),
        "train.pathway_opt.criterium (PathwayReconstructionLoss)",
        "'criterion'",
    ),
    "loss value": (
        set_in("train", "pathway_opt", "criterion", value="l2"),
        "criterion: 'l2'",
        "'l1'",
    ),
    "arch value": (
        set_in("network_g", "patch_norm", value="pool"),
        "patch_norm: 'pool'",
        "'pooled'",
    ),
    "amp": (set_in("train", "amp", value="bf-16"), "train.amp: 'bf-16'", "'bf16'"),
    "fp16 on the CPU": (set_in("train", "amp", value="fp16"), "fp16 needs a GPU", "bf16"),
    "optimiser": (
        set_in("train", "optim_g", "type", value="Adamw"),
        "train.optim_g.type",
        "'AdamW'",
    ),
    "learning rate": (
        set_in("train", "optim_g", "lr", value="1e-4"),
        "train.optim_g.lr: expected a number, found '1e-4'",
        "!!float 1e-4",
    ),
    "scheduler": (
        set_in("train", "scheduler", "type", value="CosineAnnealingLR"),
        "train.scheduler.type",
        "'CosineAnnealingRestartLR'",
    ),
    "short schedule": (
        set_in(
            "train",
            "scheduler",
            value={"type": "CosineAnnealingRestartLR", "periods": [3], "restart_weights": [1]},
        ),
        "periods: their sum, 3, is less than train.total_iter, 4",
        "",
    ),
    "GPUs": (set_in("num_gpu", value=64), "num_gpu: 64, but torch sees", "auto"),
    "crop": (set_in("datasets", "train", "gt_size", value=16), "gt_size: 16", "32"),
    "crop too large": (
        set_in("datasets", "train", "gt_size", value=90),
        "80x96 pixels is smaller",
        "90",
    ),
    "weights": (
        set_in("path", "pretrain_network_g", value="data/net.pth"),
        "path.pretrain_network_g: file 'data/net.pth' does not exist",
        "gt, lq",
    ),
    "folder": (
        set_in("datasets", "train", "dataroot_lq", value="data/qlq"),
        "datasets.train.dataroot_lq: folder 'data/qlq' does not exist",
        "data/lq'",
    ),
    "section": (lambda opt: rename(opt, "network_g", "network"), "lack 'network_g'", "'network'"),
    "network of another kind": (
        set_in("network_g", value={"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3}),
        "GLSGNModel trains GLSGN, but network_g.type is 'EDSR'",
        "SRModel",
    ),
    "no discriminator": (set_in("model_type", value="GLSGNGANModel"), "lack 'network_d'", ""),
    "backbone": (
        set_in(
            "train",
            "pixel_opt",
            value={"type": "GLSGNLoss", "semantic_weight": 0.1, "backbone": "lpips_alx"},
        ),
        "backbone: 'lpips_alx'",
        "'lpips_alex'",
    ),
    "no backbone weights": (
        set_in(
            "train",
            "pixel_opt",
            value={"type": "GLSGNLoss", "semantic_weight": 0.1, "weights": "no.pth"},
        ),
        "weights of lpips_alex: no file 'no.pth'",
        "torchvision.models.alexnet",
    ),
    "validation of crops": (
        set_in(
            "datasets",
            "val",
            value={
                **{"name": "held", "type": "UHDPairedDataset", "dataroot": "data"},
                **{"lq": "lq/{n}", "gt": "gt/{n}", "gt_size": 64, "use_hflip": True},
            },
        ),
        "datasets.val: gt_size: of training alone; validation and tests are of whole images",
        "leave out gt_size, use_hflip",
    ),
    "two sets of one name": (
        lambda opt: opt["datasets"].update(
            {
                phase: {
                    k: v
                    for k, v in opt["datasets"]["train"].items()
                    if k.startswith(("name", "type", "dataroot", "io"))
                }
                for phase in ("val_1", "val_2")
            }
        ),
        "datasets.val_2.name: 'rain' is the name of datasets.val_1, too",
        "",
    ),
    "small validation image": (
        set_in(
            "datasets",
            "val",
            value={
                **{"name": "held", "type": "UHDPairedDataset", "dataroot": "data"},
                **{"lq": "small/{n}", "gt": "small/{n}"},
            },
        ),
        "GLSGN needs 32 or more each way",
        "datasets.val",
    ),
    "bytes of 16 bits": (
        lambda opt: opt["datasets"].update(
            train={
                **{
                    k: v
                    for k, v in opt["datasets"]["train"].items()
                    if k not in ("dataroot_lq", "dataroot_gt", "io_backend")
                },
                **{"type": "UHDPairedDataset", "dataroot": "data", "as_bytes": True},
                **{"lq": "deep/{n}", "gt": "deep/{n}"},
            }
        ),
        "has 16 bits, which datasets.train.as_bytes would cut",
        "",
    ),
    "best seam": (
        lambda opt: opt["val"]["metrics"].update(seam={"type": "calculate_seam"}),
        "val.metrics.seam: of calculate_seam the lowest is the best",
        "better: lower",
    ),
    "discriminator of no GAN": (
        set_in("network_d", value={"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 4}),
        "network_d: GLSGNModel has no discriminator",
        "GLSGNGANModel",
    ),
    "optimiser with a closure": (
        set_in("train", "optim_g", value={"type": "LBFGS", "lr": 1}),
        "train.optim_g.type: 'LBFGS' does not exist",
        "",
    ),
    "no loss": (
        lambda opt: (
            opt["train"].pop("pathway_opt"),
            opt["train"].update(
                pixel_opt={
                    "type": "GLSGNLoss",
                    **dict.fromkeys((f"{n}_weight" for n in NAMED_LOSSES), 0),
                }
            ),
        ),
        "GLSGNLoss: every weight is 0",
        "",
    ),
    "overlap of a whole tile": (
        lambda opt: opt["val"].update(tile=64, tile_overlap=64),
        "val.tile_overlap: 64 pixels of tiles of 64",
        "",
    ),
    "no mapping": (set_in("path", value=None), "path: expected a mapping", ""),
    "type": (set_in("network_g", value={"widths": [4, 4, 4, 4]}), "mapping with a 'type'", ""),
}


@pytest.mark.parametrize("case", OPTION_ERRORS)
def test_wrong_options(case, project, write_options, monkeypatch, capsys):
    edit, named, helped = OPTION_ERRORS[case]
    for folder, dtype in (("small", np.uint8), ("deep", np.uint16)):
        (project / "data" / folder).mkdir()
        side = 20 if folder == "small" else 96
        for name in ("0.png", "1.png"):
            cv2.imwrite(str(project / "data" / folder / name), np.zeros((side, side, 3), dtype))
    options = write_options(edit)
    code, line = run_here(project, monkeypatch, capsys, "train", "-opt", str(options))
    assert code == 2
    assert line.startswith("basicsr train: error: ")
    assert named in line
    assert helped in line
    assert not (project / "experiments" / "tiny" / "models").is_dir() or case in (
        # Known only when the model is built.
        "loss value",
        "fp16 on the CPU",
        "backbone",
        "no backbone weights",
        "no loss",
    )


def image(project, side="lq", name="1.png"):
    return project / "data" / side / name


def truncate(project):
    file = image(project)
    file.write_bytes(file.read_bytes()[:-200])


def resave(change):
    def spoil(project):
        file = image(project)
        assert cv2.imwrite(str(file), change(cv2.imread(str(file))))

    return spoil


def empty(project):
    for file in (project / "data" / "lq").iterdir():
        file.unlink()


def text(project):
    image(project).write_text("not an image")


IMAGE_ERRORS = {
    "truncated": (truncate, "lq/1.png: cut short"),
    "no image": (text, "lq/1.png: not an image"),
    "grey": (resave(lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2GRAY)), "lq/1.png: 8-bit grey"),
    "16-bit": (resave(lambda x: x.astype(np.uint16) * 257), "lq/1.png: 16-bit RGB"),
    "RGBA": (
        resave(lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2BGRA)),
        "lq/1.png: 8-bit RGB with transparency",
    ),
    "sizes": (
        resave(lambda x: x[:80, :70]),
        "lq/1.png: 70x80 pixels, but its truth data/gt/1.png has 80x96 pixels",
    ),
    "empty": (empty, "folder 'data/lq' holds no files"),
    "missing": (lambda p: image(p).unlink(), "without its partner in 'data/lq' is '1.png'"),
    "extra": (lambda p: shutil.copy(image(p), image(p, name="9.png")), "in 'data/gt' is '9.png'"),
}


@pytest.mark.parametrize("case", IMAGE_ERRORS)
@pytest.mark.parametrize("command", ["train", "test"])
def test_wrong_images(case, command, project, write_options, monkeypatch, capsys):
    spoil, named = IMAGE_ERRORS[case]
    spoil(project)
    no_weights = set_in("path", "pretrain_network_g", value=None)
    options = write_options(no_weights, test=command == "test")
    code, line = run_here(project, monkeypatch, capsys, command, "-opt", str(options))
    assert code == 2
    assert line.startswith(f"basicsr {command}: error: ")
    assert named in line
    assert not (project / "experiments").exists()
    assert not (project / "results").exists()


def stock_upscaler(opt):
    stock_model(opt)
    opt["scale"] = 2
    opt["network_g"] = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4}
    opt["network_g"].update(num_block=1, upscale=2)


def test_the_scale_of_a_file_is_that_of_its_datasets(project, write_options, monkeypatch):
    from glsgn_plugins.basicsr.options import check_options, read_options

    for file in (project / "data/lq").iterdir():
        small = cv2.resize(cv2.imread(str(file)), None, fx=0.5, fy=0.5)
        cv2.imwrite(str(file), small)
    monkeypatch.chdir(project)
    check_options(read_options(str(write_options(stock_upscaler)), [])[1], train=True)
    options = read_options(str(write_options(stock_model)), [])[1]
    with pytest.raises(InputError, match="with scale 1 they must match"):
        check_options(options, train=True)


def test_other_models_have_keys_of_their_own_under_val(project, write_options, monkeypatch):
    from basicsr.models.sr_model import SRModel
    from basicsr.utils.registry import MODEL_REGISTRY

    from glsgn_plugins.basicsr.options import check_options, read_options

    lab = type("LabModel", (SRModel,), {"__module__": "lab"})
    monkeypatch.setitem(MODEL_REGISTRY._obj_map, "LabModel", lab)
    monkeypatch.chdir(project)

    def edit(opt):
        stock_model(opt)
        opt["model_type"] = "LabModel"
        opt["val"].update(window_size=8, tile=64)

    check_options(read_options(str(write_options(edit)), [])[1], train=True)


def test_other_networks_may_use_images_that_glsgn_refuses(project, write_options):
    IMAGE_ERRORS["grey"][0](project)

    def edsr(opt):
        opt["model_type"] = "SRModel"
        del opt["train"]["pathway_opt"]
        opt["network_g"] = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4}
        opt["network_g"].update(num_block=1, upscale=2)
        opt["scale"] = 1

    from glsgn_plugins.basicsr.options import check_options, read_options

    old = os.getcwd()
    os.chdir(project)
    try:
        check_options(read_options(str(write_options(edsr)), [])[1], train=True)
    finally:
        os.chdir(old)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["-opt", "glsgn_derian.yml"], "Did you mean 'glsgn_derain.yml'"),
        (["-opt", "nowhere/glsgn_derain.yml"], "'nowhere/glsgn_derain.yml' does not exist"),
        (["-opt", "options.yml", "--force_yml", "tarin:total_iter=3"], "Did you mean 'train'"),
        (["-opt", "options.yml", "--force_yml", "train:total_iter"], "expected key:key=value"),
        (["-opt", "broken.yml"], "broken.yml: not plain YAML"),
        (["-opt", "code.yml"], "code.yml: not plain YAML"),
        (["-opt", "list.yml"], "list.yml: expected a mapping"),
        (["-opt", "merged.yml"], "merged.yml: not plain YAML: line 3: BasicSR's reader doesn't"),
    ],
)
def test_wrong_arguments(argv, named, project, write_options, monkeypatch, capsys):
    write_options()
    (project / "broken.yml").write_text("name: [1, 2\nmodel: {")
    (project / "code.yml").write_text("name: !!python/object/apply:os.system ['touch pwned']")
    (project / "list.yml").write_text("- 1\n- 2\n")
    (project / "merged.yml").write_text("name: x\nbase: &b {a: 1}\ntrain: {<<: *b}\n")
    code, line = run_here(project, monkeypatch, capsys, "train", *argv)
    assert code == 2
    assert named in line
    assert not (project / "pwned").exists()


def test_the_real_command_prints_one_line_and_exits_with_2(project, write_options):
    options = write_options(OPTION_ERRORS["arch"][0])
    done = start_command("basicsr", "train", "-opt", str(options), cwd=project)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_a_shipped_file_is_found_by_name_from_any_folder(tmp_path):
    done = run_command("basicsr", "train", "-opt", "glsgn_derain.yml", cwd=tmp_path)
    assert done.returncode == 2
    assert "glsgn_derain.yml: datasets.train.dataroot: folder 'datasets/UHD-Rain" in done.stderr


def test_help_of_the_real_command(tmp_path):
    done = run_command("basicsr", "train", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for flag in ("-opt", "--auto_resume", "--launcher", "--debug", "--force_yml"):
        assert flag in done.stdout


@pytest.mark.parametrize("of", ["train", "test"])
def test_ctrl_c_is_one_line(of, monkeypatch, capsys):
    from glsgn_plugins.cli import basicsr as command

    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_run", interrupted)
    assert command.main([of, "-opt", "a.yml"]) == 130
    said = capsys.readouterr().err
    assert said.startswith(f"basicsr {of}: error: interrupted")
    assert ("--auto_resume goes on" in said) == (of == "train")
