# Pairs of images in two folders, of equal names: crops of them to train on, the whole to test on.
# A config that inherits this names its data_root and data_prefix.
train_pipeline = [
    dict(type="LoadImageFromFile", key="img"),
    dict(type="LoadImageFromFile", key="gt"),
    dict(type="SetValues", dictionary=dict(scale=1)),
    dict(type="PairedRandomCrop", gt_patch_size=512),
    # Not upside down: rain falls, haze lies towards the horizon, photographs are upright.
    dict(type="Flip", keys=["img", "gt"], flip_ratio=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", key="img"),
    dict(type="LoadImageFromFile", key="gt"),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    num_workers=8,
    batch_size=4,  # on each GPU
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="BasicImageDataset",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=2,
    batch_size=1,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="BasicImageDataset",
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="Evaluator",
    metrics=[
        dict(type="PSNR", crop_border=0),
        dict(type="SSIM", crop_border=0),
        dict(type="Seam"),
    ],
)
test_evaluator = val_evaluator
val_cfg = dict(type="MultiValLoop")
test_cfg = dict(type="MultiTestLoop")
