"""Networks on the Hugging Face Hub, by ``huggingface_hub``'s own mixin, which is an extra.

What lies there is ``model.safetensors``, whose metadata say what network it is, ``config.json``
with the same for people, and a card. Local folders of that kind need no package and no network.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glsgn_plugins.errors import InputError

if TYPE_CHECKING:
    from glsgn_plugins.archs.glsgn import GLSGN

FILE = "model.safetensors"
CONFIG = "config.json"
REPOSITORY = r"[\w.-]+/[\w.-]+"
"""What the Hub's repositories are named like."""

CARD = """---
{{ card_data }}
---

# GLSGN

Weights of a network for the restoration of photographs, of glsgn-plugins.

```python
from glsgn_plugins import GLSGN, restore

net = GLSGN.from_pretrained("{{ repo_id | default("user/name", true) }}")
restored = restore(net, image)  # (N, 3, H, W), RGB in [0, 1]
```

What it was trained on, how good it is and where it fails: to be written by whoever publishes it.
"""

MISSING = "huggingface_hub is missing: pip install 'glsgn-plugins[hub]'"


@lru_cache(maxsize=1)
def _published() -> Any:
    """The mixin's class around a network, which is made where the package is there."""
    try:
        from huggingface_hub import PyTorchModelHubMixin
    except ImportError:
        raise InputError(MISSING) from None

    class Published(  # type: ignore[call-arg]
        PyTorchModelHubMixin,
        library_name="glsgn-plugins",
        license="apache-2.0",
        pipeline_tag="image-to-image",
        tags=["image-restoration"],
        model_card_template=CARD,
    ):
        """A network, as the mixin wants it."""

        def __init__(self, net: Any = None) -> None:
            self.net = net

        def _save_pretrained(self, save_directory: Path) -> None:
            _write(self.net, Path(save_directory))

    return Published


def _write(net: GLSGN, folder: Path) -> None:
    from glsgn_plugins.io.weights import write_weights  # which knows networks

    write_weights(net.state_dict(), folder / FILE, options=net.options)


def save(net: GLSGN, folder: Path, **options: Any) -> Any:
    """As of :meth:`~glsgn_plugins.archs.glsgn.GLSGN.save_pretrained`."""
    # Before the mixin, which begins by removing config.json.
    target = Path(folder) / FILE
    if target.exists():
        raise InputError(f"{target} exists; remove it or give another folder")
    if Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"{folder}: expected a folder, which may be new; this is a file")
    return _published()(net).save_pretrained(folder, config=net.options, **options)


def push(net: GLSGN, repo_id: str, **options: Any) -> Any:
    """As of :meth:`~glsgn_plugins.archs.glsgn.GLSGN.push_to_hub`."""
    model = _published()(net)
    card = {"repo_id": repo_id, **(options.pop("model_card_kwargs", None) or {})}
    try:
        return model.push_to_hub(repo_id, config=net.options, model_card_kwargs=card, **options)
    except _refusals() as error:
        raise InputError(f"{repo_id}: not pushed ({_reason(error)})") from error


def load(kind: type[GLSGN], name: str | Path, **options: Any) -> GLSGN:
    """As of :meth:`~glsgn_plugins.archs.glsgn.GLSGN.from_pretrained` of the class ``kind``."""
    from glsgn_plugins.io.pretrained import SCHEME, is_shipped, shipped_tasks
    from glsgn_plugins.io.weights import read_glsgn

    path = Path(name)
    if is_shipped(name) or path.is_file():
        return read_glsgn(name, kind)
    if path.is_dir():
        return _of_folder(path, kind)
    if not re.fullmatch(REPOSITORY, str(name)):
        tasks = ", ".join(SCHEME + task for task in shipped_tasks())
        raise InputError(
            f"{name}: no such folder or file, and no repository of the Hub (user/name); weights "
            f"that are shipped are {tasks}"
        )
    return read_glsgn(_downloaded(str(name), options), kind)


def _of_folder(folder: Path, kind: type[GLSGN]) -> GLSGN:
    from glsgn_plugins.io.weights import read_glsgn

    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: holds no {FILE}, which GLSGN.save_pretrained writes")
    net = read_glsgn(folder / FILE, kind)
    config = folder / CONFIG
    if config.is_file():
        try:
            said = json.loads(config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{config}: damaged ({error}); remove it or save it again") from None
        said = said if isinstance(said, dict) else {}
        differ = [key for key, value in net.options.items() if said.get(key, value) != value]
        if differ:
            raise InputError(
                f"{config}: says {differ[0]} {said[differ[0]]!r}, but {FILE} is of a network with "
                f"{net.options[differ[0]]!r}; remove {CONFIG} or save both again"
            )
    return net


def _downloaded(name: str, options: dict[str, Any]) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise InputError(f"{name}: no such folder or file, and {MISSING}") from None
    try:
        return Path(hf_hub_download(repo_id=name, filename=FILE, **options))
    except TypeError:  # an option that it hasn't, which is the caller's
        raise
    except (OSError, ValueError) as error:  # all that the package raises are among these
        raise InputError(
            f"{name}: no such folder or file, and the Hub doesn't give it ({_reason(error)})"
        ) from None


def _refusals() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises; where there is no connection, 1.0 and later hand on httpx's."""
    try:
        import httpx
    except ImportError:
        return OSError, ValueError
    return OSError, ValueError, httpx.HTTPError


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
