# Rain streak removal on UHD-Rain with the paper's patches and its Patch Norm; glsgn_derain.py has
# neither. Patches are cut in training alone, and Patch Norm evaluates with running averages.
#   mim train mmagic mmagic_configs/glsgn_derain_paper.py
_base_ = ["glsgn_derain.py"]

experiment_name = "glsgn-b-paper_4xb512-lr5e-4-200k_uhd-rain"
work_dir = f"./work_dirs/{experiment_name}"

model = dict(generator=dict(grids=[[4, 4], [2, 2], [2, 1]], patch_norm="pooled"))
