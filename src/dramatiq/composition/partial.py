"""What type checkers know of steps whose first argument comes out of the pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..message import Message

__all__ = ["Partial"]

T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

if TYPE_CHECKING:

    class Partial(Generic[T_contra, R_co]):
        """A message that waits for its first argument: the result of the step before.

        Made by `Actor.partial`; a plain `Message` when the program runs.
        """

        message_id: str
        options: dict[str, Any]

        def if_failed(self, policy: str) -> Partial[T_contra, R_co]:
            """Return a copy that says what becomes of its failure; see `Message.if_failed`."""

        def copy(self, **attributes: Any) -> Partial[T_contra, R_co]:
            """Return a copy with some fields replaced; see `Message.copy`."""

        def asdict(self) -> dict[str, Any]:
            """Return the fields."""

else:
    Partial = Message
