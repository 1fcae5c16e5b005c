"""Messages that belong together: one after the other, or side by side."""

from __future__ import annotations

from ..workflows.policies import check_policy
from .errors import WorkflowFailed
from .groups import group
from .pipelines import pipeline

__all__ = ["WorkflowFailed", "check_policy", "group", "pipeline"]
