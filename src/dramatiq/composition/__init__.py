"""Messages that belong together: one after the other, or side by side."""

from __future__ import annotations

from .groups import group
from .pipelines import pipeline
from .running import WorkflowFailed, check_policy

__all__ = ["WorkflowFailed", "check_policy", "group", "pipeline"]
