# The small one, for a machine without a GPU: fine-tunes the shipped weights.
#   python examples/demo_mmagic.py         makes the data and runs this (make demo-mmagic)
#   mim train mmagic mmagic_configs/glsgn_derain_demo.py --gpus 0
#   mim test mmagic mmagic_configs/glsgn_derain_demo.py --gpus 0 \
#     --checkpoint work_dirs/glsgn_derain_demo/iter_200.pth
_base_ = ["_base_/runtime.py", "_base_/pairs.py"]

experiment_name = "glsgn_derain_demo"
work_dir = f"./work_dirs/{experiment_name}"
load_from = "glsgn://rain"  # None trains from scratch

model = dict(
    type="GLSGNRestorer",
    # glsgn_s, as glsgn://rain has it
    generator=dict(type="GLSGN", widths=[16, 24, 32, 32], blocks=[1, 1, 1], coarse_side=1280),
    pixel_loss=dict(type="L1Loss", loss_weight=1.0, reduction="mean"),
    pathway_loss=dict(type="PathwayReconstructionLoss", loss_weight=0.25, criterion="l1"),
    data_preprocessor=dict(
        type="DataPreprocessor",
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        output_channel_order="RGB",
    ),
)

pairs = dict(type="UHDPairedDataset", layout="synthesized")
train_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        dataroot="demo/misty_rain/train", gt_size=128, crops_per_image=1, scene_share=0, **pairs
    ),
)
val_dataloader = dict(num_workers=0, dataset=dict(dataroot="demo/misty_rain/val", **pairs))
test_dataloader = val_dataloader

val_evaluator = dict(metrics=[dict(type="PSNR", crop_border=0), dict(type="SSIM", crop_border=0)])
test_evaluator = val_evaluator

train_cfg = dict(type="IterBasedTrainLoop", max_iters=200, val_interval=100)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0, betas=(0.9, 0.99)),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = dict(type="CosineAnnealingLR", by_epoch=False, T_max=200, eta_min=1e-6)

default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=50),
)
custom_hooks = [
    dict(type="EMAHook", ema_type="ForeachEMA", momentum=0.01),
    dict(type="BasicVisualizationHook", interval=1),
]
log_processor = dict(window_size=50)
