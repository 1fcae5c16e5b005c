"""One file per system, run inside that system's environment; `driver` says what each must have."""

from __future__ import annotations
