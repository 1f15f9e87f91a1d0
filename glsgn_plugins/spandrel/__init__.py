"""GLSGN in spandrel: :func:`install` lets its loaders in this Python take our weights."""

from __future__ import annotations

from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchSupport,
    ImageModelDescriptor,
    ModelTiling,
    SizeRequirements,
    StateDict,
)

from glsgn_plugins.archs.glsgn import GLSGN, MIN_SIZE
from glsgn_plugins.errors import InputError
from glsgn_plugins.io.weights import ANCHOR, glsgn_from, options_of, states_of


class GLSGNArch(Architecture[GLSGN]):
    """GLSGN; every hyper-parameter is read off the state dict (:mod:`glsgn_plugins.io.weights`)."""

    def __init__(self) -> None:
        super().__init__(id="GLSGN", detect=self._detects)

    @staticmethod
    def _detects(state_dict: StateDict) -> bool:
        try:
            options_of(_of_network(state_dict), "the state dict")
        except InputError:
            return False
        return True

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[GLSGN]:
        """The network with these weights, and what it can do.

        Calling what comes back is one forward; ``restore`` of its ``model`` heeds ``long_side``
        and ``coarse_side``.
        """
        state_dict = _of_network(state_dict)
        net = glsgn_from(state_dict, "the state dict")
        return ImageModelDescriptor(
            net,
            state_dict,
            architecture=self,
            purpose="Restoration",
            tags=[],
            supports_half=False,  # not tried: no GPU was at hand
            supports_bfloat16=True,
            scale=1,
            input_channels=3,
            output_channels=3,
            size_requirements=SizeRequirements(minimum=MIN_SIZE),
            # Its global pathway and Patch Norm need the whole image: outer tiles would differ.
            tiling=ModelTiling.INTERNAL,
        )


def _of_network(state_dict: StateDict) -> StateDict:
    """Without what MMagic puts before the keys: spandrel takes a file's ``state_dict`` first."""
    found = states_of(state_dict, ANCHOR)
    return state_dict if ANCHOR in state_dict or not found else found[0].weights


def install() -> None:
    """Register GLSGN with spandrel's main registry; a second time does nothing."""
    if not any(support.architecture.id == "GLSGN" for support in MAIN_REGISTRY):
        MAIN_REGISTRY.add(ArchSupport.from_architecture(GLSGNArch()))
