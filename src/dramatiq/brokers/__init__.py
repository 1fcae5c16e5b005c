"""Brokers: one module or package each, importing its own client library and nothing else's."""

from __future__ import annotations
