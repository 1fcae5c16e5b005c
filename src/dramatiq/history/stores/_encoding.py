"""Attempts as text: a JSON list of their fields in order, without the position.

A field that is added later goes to the end and gets a default: older records lack it then, and
what a newer version added is left out by an older one.
"""

from __future__ import annotations

import dataclasses
import json
from operator import attrgetter

from ..records import Attempt, AttemptOutcome

__all__ = ["decode", "encode"]

_NAMES = tuple(field.name for field in dataclasses.fields(Attempt) if field.name != "position")
_OUTCOME = _NAMES.index("outcome")
_fields_of = attrgetter(*_NAMES)
_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def encode(attempt: Attempt) -> str:
    """Return an attempt as text."""
    fields = list(_fields_of(attempt))
    fields[_OUTCOME] = attempt.outcome.value
    return _encoder.encode(fields)


def decode(text: str | bytes, position: int = 0) -> Attempt:
    """Return the attempt that `encode` made the text of."""
    fields = dict(zip(_NAMES, json.loads(text), strict=False))
    fields["outcome"] = AttemptOutcome(fields["outcome"])
    return Attempt(**fields, position=position)
