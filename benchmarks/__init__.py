"""One harness that measures this library and its peers in the same way on the same machine."""

from __future__ import annotations
