"""Messages that belong together: one after the other, or side by side."""

from __future__ import annotations

from .groups import group
from .pipelines import pipeline

__all__ = ["group", "pipeline"]
