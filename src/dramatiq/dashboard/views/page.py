"""What a module of pages offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from ..visit import Visit

__all__ = ["Page", "Tab"]


class Page(NamedTuple):
    """What answers to one method at one path."""

    path: str
    view: Callable[[Visit], Response]
    method: str = "GET"


class Tab(NamedTuple):
    """An entry of the navigation."""

    title: str
    path: str
    #: The id of its symbol in ``static/icons.svg``.
    icon: str
