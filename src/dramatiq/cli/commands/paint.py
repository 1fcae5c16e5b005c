"""Colours, where somebody sees them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

__all__ = ["Paint"]

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


class Paint:
    """Colours text for a stream: on a terminal, unless ``NO_COLOR`` is set.

    ``FORCE_COLOR`` colours elsewhere too; ``NO_COLOR`` wins (https://no-color.org).

    Args:
        stream: Where the text will go.
        environment: The environment variables.
    """

    def __init__(self, stream: TextIO, environment: Mapping[str, str] = os.environ) -> None:
        if environment.get("NO_COLOR"):
            self.is_on = False
        elif environment.get("FORCE_COLOR"):
            self.is_on = True
        else:
            self.is_on = stream.isatty() and environment.get("TERM") != "dumb"

    def __call__(self, style: str, text: str) -> str:
        """Return the text in a style: bold, dim, red, green, yellow or cyan."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.is_on and text else text
