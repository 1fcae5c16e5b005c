"""Templates: everything is escaped, and what is missing is an error."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from . import formats
from .asking import COUNT_LIMIT

__all__ = ["STATIC", "render", "static_version"]

_FOLDER = Path(__file__).parent
#: Stylesheet, script and icon.
STATIC = _FOLDER / "static"


def render(template: str, block: str | None, **values: Any) -> str:
    """Return a page, or one block of it."""
    page = _template(template)
    if block is None:
        return page.render(values)
    part = page.blocks.get(block)
    return "" if part is None else "".join(part(page.new_context(values)))


@cache
def static_version() -> str:
    """Return what changes with the stylesheet or the script, so that browsers may keep them."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _template(name: str) -> Template:
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": formats.as_count,
        "duration": formats.as_duration,
        "percent": formats.as_percent,
        "moment": formats.as_moment,
        "iso": formats.as_iso,
        "ago": formats.ago,
        "shorten": formats.shorten,
        "without_class": lambda reason: (reason or "").partition(": ")[2] or reason or "",
        "quoted": lambda text: quote(str(text), safe=""),
    }
    environment.globals |= {"COUNT_LIMIT": COUNT_LIMIT, "static_version": static_version}
    # Not imported by each template: a block that is rendered alone would not see it.
    environment.globals["parts"] = environment.get_template("_parts.html").module
    return environment
