"""Losses over the outputs of all pathways. Plain torch; the frameworks' adapters register them."""

from glsgn_plugins.losses.consistency import (
    AttentionConsistencyLoss,
    ContentConsistencyLoss,
    IntensityConsistencyLoss,
    SemanticConsistencyLoss,
)
from glsgn_plugins.losses.objective import GLSGNLoss, loss_terms
from glsgn_plugins.losses.reconstruction import PathwayReconstructionLoss
from glsgn_plugins.losses.semantic import SemanticDistance

LOSSES = (
    PathwayReconstructionLoss,
    ContentConsistencyLoss,
    AttentionConsistencyLoss,
    IntensityConsistencyLoss,
    SemanticConsistencyLoss,
    GLSGNLoss,
)
"""What the adapters register."""

__all__ = [
    "LOSSES",
    "AttentionConsistencyLoss",
    "ContentConsistencyLoss",
    "GLSGNLoss",
    "IntensityConsistencyLoss",
    "PathwayReconstructionLoss",
    "SemanticConsistencyLoss",
    "SemanticDistance",
    "loss_terms",
]
