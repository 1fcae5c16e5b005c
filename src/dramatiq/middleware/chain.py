"""The middleware of one broker, compiled: who overrides which hook, in which order.

A hook that nobody overrides costs a dictionary look-up. The table is made anew after the list
changes, also when others replace, clear or extend it behind our back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

from .middleware import Middleware

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Chain", "MiddlewareList"]

#: The hooks that run between fetching and settling a message.
PROCESS_HOOKS = ("before_process_message", "after_process_message", "after_skip_message")


class MiddlewareList(list[Any]):
    """A plain list of middleware that counts its changes, so that a chain knows it is stale."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(items)
        self.version = 0

    def append(self, item: Any) -> None:
        """Add to the end."""
        super().append(item)
        self.version += 1

    def insert(self, index: SupportsIndex, item: Any) -> None:
        """Insert before ``index``."""
        super().insert(index, item)
        self.version += 1

    def extend(self, items: Iterable[Any]) -> None:
        """Add all of ``items`` to the end."""
        super().extend(items)
        self.version += 1

    def remove(self, item: Any) -> None:
        """Remove the first that equals ``item``."""
        super().remove(item)
        self.version += 1

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Remove and return the one at ``index``."""
        self.version += 1
        return super().pop(index)

    def clear(self) -> None:
        """Remove all."""
        super().clear()
        self.version += 1

    def reverse(self) -> None:
        """Reverse the order."""
        super().reverse()
        self.version += 1

    def sort(self, **kwargs: Any) -> None:
        """Sort in place."""
        super().sort(**kwargs)
        self.version += 1

    def __setitem__(self, index: Any, item: Any) -> None:
        super().__setitem__(index, item)
        self.version += 1

    def __delitem__(self, index: Any) -> None:
        super().__delitem__(index)
        self.version += 1

    def __iadd__(self, items: Iterable[Any]) -> MiddlewareList:  # type: ignore[misc]
        self.extend(items)
        return self


class Chain:
    """Who overrides which hook, for the list as it was when this was compiled.

    It keeps the middleware, not their bound methods, so that a method replaced later on the
    class or the instance is still the one that is called.
    """

    __slots__ = ("_by_hook", "_middleware", "version")

    def __init__(self, middleware: MiddlewareList) -> None:
        self.version = middleware.version
        self._middleware = tuple(middleware)
        self._by_hook: dict[str, tuple[Any, ...]] = {}

    def before(self, hook: str) -> tuple[Any, ...]:
        """Return who is to be called for a ``before_…`` hook, in order."""
        found = self._by_hook.get(hook)
        if found is None:
            found = tuple(each for each in self._middleware if _overrides(each, hook))
            self._by_hook[hook] = found
        return found

    def after(self, hook: str) -> tuple[Any, ...]:
        """Return who is to be called for an ``after_…`` hook, in order."""
        found = self._by_hook.get(hook)
        if found is None:
            found = tuple(each for each in reversed(self._middleware) if _overrides(each, hook))
            self._by_hook[hook] = found
        return found

    def not_loop_safe(self) -> list[Any]:
        """Return the middleware that keeps async actors off the loop's thread."""
        return [
            each
            for each in self._middleware
            if not getattr(each, "is_loop_safe", False)
            and any(_overrides(each, hook) for hook in PROCESS_HOOKS)
        ]


def _overrides(middleware: Any, hook: str) -> bool:
    """Tell whether ``middleware`` has a ``hook`` of its own.

    One that lacks the hook altogether counts too: calling it fails and the failure is logged, so
    that custom signals behave alike for every middleware.
    """
    default = getattr(Middleware, hook, None)
    if default is None or hook in getattr(middleware, "__dict__", ()):
        return True
    return getattr(type(middleware), hook, None) is not default
