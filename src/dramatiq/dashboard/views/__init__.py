"""The pages, a module for each tab.

A module here has `PAGES`, what it answers to, and `TAB`, its place in the navigation; to add pages,
add a module to `MODULES`.
"""

from __future__ import annotations

from . import actors, audit, failures, messages, overview, queues, settings, workers, workflows
from .page import Page, Tab

__all__ = ["MODULES", "Page", "Tab", "pages", "tabs"]

#: In the order of the navigation.
MODULES = (
    overview,
    queues,
    messages,
    failures,
    workflows,
    actors,
    workers,
    audit,
    settings,
)


def pages() -> list[Page]:
    """Return all pages."""
    return [page for module in MODULES for page in module.PAGES]


def tabs() -> list[Tab]:
    """Return the navigation."""
    return [module.TAB for module in MODULES]
