# glsgn_b with the full objective. Widths and blocks of glsgn_s: [16, 24, 32, 32] and [1, 1, 1].
model = dict(
    type="GLSGNRestorer",
    generator=dict(
        type="GLSGN",
        widths=[24, 32, 48, 48],  # pathways 1, 2, 3, global
        blocks=[1, 2, 3],  # residual blocks at full, half and quarter scale
        checkpointing=False,  # True for crops of 1024 and more
    ),
    pixel_loss=dict(
        type="GLSGNLoss",
        restored_weight=1.0,
        pathway_weight=0.25,
        content_weight=0.1,
        attention_weight=0.004,
        intensity_weight=0.1,
        semantic_weight=0,  # e.g. 0.1, with torchvision's alexnet in torch's cache or weights=FILE
        criterion="l1",
    ),
    compile=False,  # True: faster steps after some minutes of compiling
    # Images are loaded as BGR, which MMagic's metrics expect; the network sees RGB in [0, 1].
    data_preprocessor=dict(
        type="DataPreprocessor",
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        output_channel_order="RGB",
    ),
)
