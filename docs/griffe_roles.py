"""For mkdocs.yml: docstrings' Sphinx roles, such as :class:`~a.b.C`, as plain code."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`(?:~[\w.]*\.|\.)?([^`]+)`")


class SphinxRoles(griffe.Extension):
    """Takes the roles out of every docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called with each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
