"""``load_from = "glsgn://rain"``: shipped weights among the checkpoints that MMEngine loads."""

from __future__ import annotations

import json
from typing import Any

from mmengine.runner import CheckpointLoader

from glsgn_plugins.archs.glsgn import RECORD
from glsgn_plugins.io.pretrained import SCHEME
from glsgn_plugins.io.weights import of_generator, read_weights


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_glsgn(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Shipped weights as a checkpoint of MMagic's models.

    Args:
        filename: ``glsgn://TASK``.
        map_location: Not used: models copy what they load.

    Raises:
        InputError: As of :func:`~glsgn_plugins.io.pretrained.pretrained_file`.
    """
    found = read_weights(filename)
    return {"state_dict": of_generator(found.weights), RECORD: json.dumps(found.options)}
