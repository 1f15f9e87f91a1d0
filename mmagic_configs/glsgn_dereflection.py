# Reflection removal on UHD4K-RR (2999 pairs of 3840x2160), in folders of equal names.
#   one GPU:      mim train mmagic mmagic_configs/glsgn_dereflection.py
#   eight GPUs:   mim train mmagic mmagic_configs/glsgn_dereflection.py --gpus 8 --launcher pytorch
#   go on:        the same with --resume
#   test:         mim test mmagic mmagic_configs/glsgn_dereflection.py --checkpoint FILE
#   fine-tune:    load_from = "glsgn://reflection": shipped weights: of glsgn_s, long_side=640
# Memory and time on a GPU: not measured yet; benchmarks/side_by_side.py measures both.
_base_ = [
    "_base_/runtime.py",
    "_base_/glsgn_b.py",
    "_base_/pairs.py",
    "_base_/schedule_200k.py",
]

# 640 with glsgn://reflection: a copy of that size is restored, and its change carried up.
model = dict(generator=dict(long_side=None))
experiment_name = "glsgn-b_4xb512-lr5e-4-200k_uhd4k-rr"
work_dir = f"./work_dirs/{experiment_name}"

pairs = dict(
    metainfo=dict(dataset_type="uhd4k-rr", task_name="dereflection"),
    dataroot="datasets/UHD4K-RR",
    layout="UHD4K-RR",
)
# Without pairs, out of clean photographs (docs/data.md); preset="plain" is the reflection alone:
#   train_dataloader = dict(
#       dataset=dict(
#           _delete_=True,
#           type="UHDSynthesisDataset",
#           dataroot="photographs",
#           degradation=dict(type="reflection"),
#           gt_size=512,
#           resize=[0.35, 1],
#       )
#   )
train_dataloader = dict(dataset=dict(split="train", **pairs))
val_dataloader = dict(dataset=dict(split="test", **pairs))
test_dataloader = val_dataloader
