"""A survey of the standard library: one message per file, reduced to one report."""

from __future__ import annotations
