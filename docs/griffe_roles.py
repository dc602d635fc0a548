"""Griffe extension: docstrings as the site's pages need them, which are Markdown."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:mod|class|func|meth|data|attr):`~?\.?([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)  # the parser knows the plural


class Roles(griffe.Extension):
    """Turn cross-reference roles into plain code, and the heading ``Example:`` into the one that the parser knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub("Examples:", ROLE.sub(r"`\1`", obj.docstring.value))
