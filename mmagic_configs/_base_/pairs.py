# Pairs of a public set, or of one's own: crops of them to train on, whole images to test on.
# A config that inherits this names its dataroot, layout and split.
train_dataloader = dict(
    num_workers=8,
    batch_size=4,  # on each GPU
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="UHDPairedDataset",
        gt_size=512,
        crops_per_image=2,  # from each image that is decoded
        scene_share=0.1,  # whole scenes scaled down, for the global pathway
        as_bytes=True,  # converted on the device
        use_hflip=True,
        use_rot=False,  # rain falls, haze lies towards the horizon, photographs are upright
    ),
)
val_dataloader = dict(
    num_workers=2,
    batch_size=1,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="UHDPairedDataset"),
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

# How MMagic's inferencers read a photograph.
test_pipeline = [
    dict(type="LoadImageFromFile", key="img"),
    dict(type="PackInputs"),
]
