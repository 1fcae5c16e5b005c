"""Settings of the documentation's build."""

from __future__ import annotations

import dramatiq

project = "dramatiq"
author = "the dramatiq maintainers"
copyright = "2026, the dramatiq maintainers"
version = release = dramatiq.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]

exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
# Headings can be linked to as page.md#heading.
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"dramatiq {release}"
