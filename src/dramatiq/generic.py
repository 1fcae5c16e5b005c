"""Classes that become actors."""

from __future__ import annotations

from typing import Any

from .actor import actor

__all__ = ["GenericActor", "generic_actor"]


class generic_actor(type):  # noqa: N801 (a public name others import)
    """Metaclass that binds the name of a concrete class to its one instance, an actor.

    A class whose ``Meta`` says ``abstract = True`` stays a class to derive from.
    """

    def __new__(metaclass, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
        """Make the class; return its instance unless it is abstract."""
        new_class = super().__new__(metaclass, name, bases, attributes)
        meta = getattr(new_class, "Meta", None)
        if getattr(meta, "abstract", False):
            # Classes that inherit this Meta are concrete.
            meta.abstract = False  # type: ignore[union-attr]
            return new_class
        options = {
            name: value for name, value in vars(meta or object).items() if not name.startswith("_")
        }
        options.pop("abstract", None)
        registry = options.pop("actor", actor)
        instance = new_class()
        instance.__actor__ = registry(instance, **options)
        return instance


class GenericActor(metaclass=generic_actor):
    """Base class of class-based actors.

    Define `perform` and, for options, an inner class ``Meta`` whose public attributes are the
    keywords of `dramatiq.actor`. The class statement then binds its name to an actor::

        class Add(GenericActor):
            class Meta:
                max_retries = 3

            def perform(self, left, right):
                return left + right


        Add.send(1, 2)
    """

    class Meta:
        """Options of the actor."""

        abstract = True

    __name__ = property(lambda self: type(self).__name__, doc="The actor's default name.")

    def __getattr__(self, name: str) -> Any:
        if name == "__actor__":
            raise AttributeError(name)
        return getattr(self.__actor__, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `perform` here and now."""
        return self.perform(*args, **kwargs)

    def perform(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement perform()")
