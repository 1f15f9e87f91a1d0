# 200,000 iterations of AdamW in bfloat16, warming up, then along a cosine.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=200_000, val_interval=10_000)

optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=1.0,  # bfloat16 has the range of float32; for float16: "dynamic"
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=1e-4, betas=(0.9, 0.99), fused=True),
    # A norm that isn't finite stops training when it is logged, before a checkpoint is written.
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=2000),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=2000, end=200_000, eta_min=1e-7),
]
