"""Two nodes: a loader, and a restoration that sees whole images.

ComfyUI's "Upscale Image (using Model)" cuts tiles of 512 whatever a network asks for, each of
which is restored by itself. Here ``glsgn_plugins.restore`` does the work: whole, or streamed with
the same result; ComfyUI keeps its memory, its progress bar and its interrupt.
"""

from __future__ import annotations

import os
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import folder_paths
import torch

from glsgn_plugins import InputError, list_pretrained, restore
from glsgn_plugins.inference import MODES, STRONGEST, check_finite
from glsgn_plugins.io.pretrained import SCHEME
from glsgn_plugins.io.weights import read_glsgn

FOLDERS = ("glsgn", "upscale_models")
"""ComfyUI's model folders in which weights are looked for; the first one is made known to it."""

SHIPPED = "shipped: "
STEPS = 1000
"""Of the progress bar."""

CATEGORY = "image/restoration"

folder_paths.add_model_folder_path("glsgn", os.path.join(folder_paths.models_dir, "glsgn"))


def _names() -> list[str]:
    """What can be loaded: shipped weights by task, and files as ``FOLDER/NAME``."""
    found = [SHIPPED + task for task in list_pretrained()]
    for folder in FOLDERS:
        found += [
            f"{folder}/{name}"
            for name in folder_paths.get_filename_list(folder)
            if name.lower().endswith((".pth", ".safetensors"))
        ]
    return found


class GLSGNLoader:
    """Weights of GLSGN, kept by ComfyUI's model patcher, which moves them as memory asks for."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("GLSGN",)
    FUNCTION = "load"
    DESCRIPTION = "Loads weights of GLSGN: shipped ones by task, or files in models/glsgn."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"weights": (_names(),)}}

    def load(self, weights: str) -> tuple[Any]:
        if weights.startswith(SHIPPED):
            source = SCHEME + weights.removeprefix(SHIPPED)
        else:
            folder, _, name = weights.partition("/")
            source = folder_paths.get_full_path(folder, name)
            if source is None:
                raise InputError(f"{weights}: no such file in ComfyUI's folders")
        net = read_glsgn(source).to(memory_format=torch.channels_last)
        manage = comfy.model_management
        patcher = comfy.model_patcher.ModelPatcher(
            net, load_device=manage.get_torch_device(), offload_device=manage.unet_offload_device()
        )
        return (patcher,)


class GLSGNRestore:
    """Images through a network, each as a whole."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "restore"
    DESCRIPTION = "Removes rain, haze or reflections, seeing the whole image at once."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        strength = {"default": 1.0, "min": 0.0, "max": STRONGEST, "step": 0.05}
        return {
            "required": {
                "model": ("GLSGN",),
                "image": ("IMAGE",),
                "strength": ("FLOAT", strength),
                "mode": (list(MODES),),
            },
            "optional": {
                "keep_colour": ("BOOLEAN", {"default": False}),
                "mask": ("MASK",),
            },
        }

    def restore(
        self,
        model: Any,
        image: torch.Tensor,
        strength: float,
        mode: str,
        keep_colour: bool = False,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        """Restore each image of a batch.

        Args:
            model: Of :class:`GLSGNLoader`.
            image: ``(N, H, W, 3)`` in [0, 1]; of four channels the last, alpha, stays as it is.
            strength: As of ``glsgn_plugins.restore``, and so are ``mode``, its ``tile``, and
                ``keep_colour``.
            mask: ``(H, W)`` or ``(1, H, W)`` for all of them, or ``(N, H, W)``.

        Raises:
            InputError: The mask is of another size, an image is too small, or what the network
                gives isn't finite.
        """
        count, height, width = image.shape[:3]
        if mask is not None:
            mask = mask[None] if mask.ndim == 2 else mask
            if len(mask) not in (1, count) or mask.shape[1:] != image.shape[1:3]:
                raise InputError(
                    f"mask: {len(mask)} of {mask.shape[2]}x{mask.shape[1]}, but there are {count} "
                    f"images of {width}x{height}"
                )
        manage = comfy.model_management
        net = model.model
        # What a forward takes, about; where that isn't there, restore streams in what is.
        needed = 24 * max(net.options["widths"]) * height * width
        manage.load_models_gpu([model], memory_required=needed, force_full_load=True)
        bar = comfy.utils.ProgressBar(STEPS)
        restored = []
        for number, one in enumerate(image):

            def progress(share: float, number: int = number) -> None:
                manage.throw_exception_if_processing_interrupted()
                bar.update_absolute(round(STEPS * (number + share) / count))

            progress(0.0)
            result = restore(
                net,
                one[..., :3].permute(2, 0, 1)[None],
                mode,
                strength=strength,
                mask=None if mask is None else mask[number % len(mask)].float(),
                keep_colour=keep_colour,
                progress=progress,
            )
            check_finite(result, net)
            result = result[0].permute(1, 2, 0).clamp(0, 1)
            restored.append(torch.cat([result, one[..., 3:]], dim=-1))
        return (torch.stack(restored),)


NODE_CLASS_MAPPINGS = {"GLSGNLoader": GLSGNLoader, "GLSGNRestore": GLSGNRestore}
NODE_DISPLAY_NAME_MAPPINGS = {"GLSGNLoader": "Load GLSGN", "GLSGNRestore": "GLSGN Restore"}
