# Dehazing on UHD-Haze (2290 pairs of 3840x2160).
#   one GPU:      mim train mmagic mmagic_configs/glsgn_dehaze.py
#   eight GPUs:   mim train mmagic mmagic_configs/glsgn_dehaze.py --gpus 8 --launcher pytorch
#   go on:        the same with --resume
#   test:         mim test mmagic mmagic_configs/glsgn_dehaze.py --checkpoint FILE
#   fine-tune:    load_from = "glsgn://haze": shipped weights, which are of glsgn_s, long_side=320
# Memory and time on a GPU: not measured yet; benchmarks/side_by_side.py measures both.
_base_ = [
    "_base_/runtime.py",
    "_base_/glsgn_b.py",
    "_base_/pairs.py",
    "_base_/schedule_200k.py",
]

experiment_name = "glsgn-b_4xb512-lr5e-4-200k_uhd-haze"
work_dir = f"./work_dirs/{experiment_name}"

# 320 with glsgn://haze: a copy of that size is restored, and its change carried up.
model = dict(generator=dict(long_side=None))
pairs = dict(
    metainfo=dict(dataset_type="uhd-haze", task_name="dehazing"),
    dataroot="datasets/UHD-Haze",
    layout="UHD-Haze",
)
# Without pairs, out of clean photographs (docs/data.md); preset="plain" is the haze alone:
#   train_dataloader = dict(
#       dataset=dict(
#           _delete_=True,
#           type="UHDSynthesisDataset",
#           dataroot="photographs",
#           degradation=dict(type="haze"),
#           gt_size=512,
#           resize=[0.35, 1],
#       )
#   )
train_dataloader = dict(dataset=dict(split="train", **pairs))
val_dataloader = dict(dataset=dict(split="test", **pairs))
test_dataloader = val_dataloader
