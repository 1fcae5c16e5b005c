"""Lists on standard output: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .paint import Paint

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["add_json_option", "clean", "format_table", "print_json", "print_table", "shorten"]

#: Spaces between two columns.
GAP = "  "


def add_json_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON does not know is printed as text."""
    print(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Print rows under their headers.

    Args:
        headers: The names of the columns.
        rows: Their values; None is shown as a dash, numbers stand to the right.
        empty: What to say on standard error when there are no rows.
    """
    if not rows:
        sys.stderr.write(f"{empty}\n")
        return
    head, *lines = format_table(headers, rows)
    print(Paint(sys.stdout)("bold", head))
    for line in lines:
        print(line)


def format_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return the header and the rows as lines; see `print_table`."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    is_number = [
        bool(column) and all(isinstance(value, int | float | None) for value in column)
        for column in (list(zip(*rows, strict=True)) or [()] * len(headers))
    ]
    return [
        GAP.join(
            cell.rjust(width) if to_the_right else cell.ljust(width)
            for cell, width, to_the_right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in [list(headers), *cells]
    ]


def shorten(text: str, width: int) -> str:
    """Return a text on one line, cut to a width."""
    text = clean(text)
    return text if len(text) <= width else f"{text[: max(width - 3, 0)]}..."[:width]


def clean(text: str) -> str:
    """Return a text on one line and without control characters, which could move the cursor."""
    return "".join(each if each.isprintable() else " " for each in text)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clean(str(value))
