# Rain streak removal on UHD-Rain (3000 pairs of 3840x2160).
#   one GPU:      mim train mmagic mmagic_configs/glsgn_derain.py
#   eight GPUs:   mim train mmagic mmagic_configs/glsgn_derain.py --gpus 8 --launcher pytorch
#   go on:        the same with --resume
#   test:         mim test mmagic mmagic_configs/glsgn_derain.py --checkpoint FILE
#   fine-tune:    load_from = "glsgn://rain": shipped weights: of glsgn_s, coarse_side=1280
# Memory and time on a GPU: not measured yet; benchmarks/side_by_side.py measures both.
_base_ = [
    "_base_/runtime.py",
    "_base_/glsgn_b.py",
    "_base_/pairs.py",
    "_base_/schedule_200k.py",
]

experiment_name = "glsgn-b_4xb512-lr5e-4-200k_uhd-rain"
work_dir = f"./work_dirs/{experiment_name}"

# 1280 with glsgn://rain: beside larger images a copy of that size is restored, for what is coarse.
model = dict(generator=dict(coarse_side=None))
pairs = dict(
    metainfo=dict(dataset_type="uhd-rain", task_name="deraining"),
    dataroot="datasets/UHD-Rain",
    layout="UHD-Rain",
)
# Without pairs, out of clean photographs (docs/data.md); preset="plain" is the streaks alone:
#   train_dataloader = dict(
#       dataset=dict(
#           _delete_=True,
#           type="UHDSynthesisDataset",
#           dataroot="photographs",
#           degradation=dict(type="rain"),
#           gt_size=512,
#           resize=[0.35, 1],
#       )
#   )
train_dataloader = dict(dataset=dict(split="train", **pairs))
val_dataloader = dict(dataset=dict(split="test", **pairs))
test_dataloader = val_dataloader

val_evaluator = dict(
    metrics=[
        dict(type="PSNR", crop_border=0, convert_to="Y"),
        dict(type="SSIM", crop_border=0, convert_to="Y"),
        dict(type="Seam"),
    ]
)
test_evaluator = val_evaluator
