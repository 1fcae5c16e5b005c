"""What may go wrong when a result is read."""

from __future__ import annotations

from typing import Any

from ..errors import DramatiqError

__all__ = ["ResultError", "ResultFailure", "ResultMissing", "ResultTimeout"]


class ResultError(DramatiqError):
    """Base class of the errors that reading a result may raise."""


class ResultTimeout(ResultError):
    """Raised when there is no result in time; its ``message`` is the message waited for."""


class ResultMissing(ResultError):
    """Raised when there is no result yet, or none any more; its ``message`` is the message."""


class ResultFailure(ResultError):
    """Raised when the result is that the actor failed for good.

    Attributes:
        orig_exc_type: Name of the class of the actor's exception.
        orig_exc_msg: Text of the actor's exception.
    """

    def __init__(self, message: Any = "", orig_exc_type: str = "", orig_exc_msg: str = "") -> None:
        super().__init__(message)
        self.orig_exc_type = orig_exc_type
        self.orig_exc_msg = orig_exc_msg
