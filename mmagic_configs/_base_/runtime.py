# Hooks, pictures, logs and checkpoints, which all of GLSGN's configs share.
custom_imports = dict(imports=["glsgn_plugins.mmagic"], allow_failed_imports=False)
default_scope = "mmagic"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=100),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook",
        interval=5000,
        by_epoch=False,
        max_keep_ckpts=5,
        save_best="PSNR",
        rule="greater",
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
custom_hooks = [
    dict(type="EMAHook", ema_type="ForeachEMA", momentum=0.001),
    dict(type="BasicVisualizationHook", interval=dict(val=50, test=1)),
]

vis_backends = [dict(type="VisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(
    type="ConcatImageVisualizer",
    vis_backends=vis_backends,
    fn_key="gt_path",
    img_keys=["input", "pred_img", "gt_img"],  # input, output, truth side by side
    bgr2rgb=True,
)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=2207)
log_level = "INFO"
log_processor = dict(type="LogProcessor", window_size=100, by_epoch=False)
load_from = None
resume = False
