"""The contract between producers, stores and workers, and the process-wide broker.

A broker stores messages and hands them out through consumers. One message at a time is the
contract of 2.x (`Broker.enqueue`, `Consumer.__next__`, `ack`, `nack`, `requeue`); many at a time
is the native one (`enqueue_many`, `fetch`, `settle`), whose defaults here are built on the first,
so that a broker that knows only the first works unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .consumer import Consumer
from .default_broker import choose_broker
from .delivery import FollowUps, MessageProxy
from .errors import ActorNotFound
from .logging import get_logger
from .middleware import MiddlewareError, default_middleware
from .middleware.chain import Chain, MiddlewareList
from .workflows.policies import OPTION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .actor import Actor
    from .flight_recorder import FlightRecorder
    from .history import HistoryStore
    from .inspection import Inspection
    from .message import Message
    from .results import ResultBackend
    from .workflows.engine import Workflows
    from .workflows.store import WorkflowStore

__all__ = ["Broker", "Consumer", "MessageProxy", "get_broker", "set_broker"]

#: The process-wide broker. Assign None to have it chosen anew.
global_broker: Broker | None = None


def get_broker() -> Broker:
    """Return the process-wide broker; without one, choose it and keep it.

    It is the one of the URL in ``DRAMATIQ_BROKER_URL``; else RabbitMQ or Redis on this machine,
    whichever client library is installed; else the embedded SQLite broker on ``./dramatiq.db``.
    Choosing touches no network.
    """
    global global_broker  # noqa: PLW0603 (there is one per process, by contract)
    if global_broker is None:
        global_broker = choose_broker()
    return global_broker


def set_broker(broker: Broker) -> None:
    """Make ``broker`` the process-wide one. Call it before actors are declared."""
    global global_broker  # noqa: PLW0603 (as above)
    global_broker = broker


class Broker:
    """Base class of brokers.

    Subclasses implement `consume`, `declare_queue`, `enqueue`, `flush`, `flush_all` and `join`.
    `enqueue` and what is built on it may be called from any thread.

    Args:
        middleware: The middleware to use, in order; by default one of each of
            `default_middleware`.

    Attributes:
        actors: Declared actors by name.
        queues: Declared queues by name.
        delay_queues: Names of declared delay queues.
        actor_options: Names of the options actors may have.
        middleware: The middleware, in the order in which ``before_…`` hooks run.
    """

    actors: dict[str, Actor[Any, Any]]
    queues: Any
    delay_queues: set[str]
    actor_options: set[str]

    #: Why this broker is the process-wide one, if the application did not choose it.
    chosen_because: str | None = None
    #: Whether messages live in this process alone, so that no other one can look at them.
    is_in_memory: bool = False
    #: Whether `Consumer.settle` stores follow-ups in the same step; see `follow_ups`.
    stores_follow_ups: bool = False
    #: Made when it is first needed.
    _workflows: Workflows | None = None

    def __init__(self, middleware: Iterable[Any] | None = None) -> None:
        self.logger = get_logger("dramatiq.broker", type(self))
        self.actors = {}
        self.queues = {}
        self.delay_queues = set()
        self.actor_options = set()
        self._middleware = MiddlewareList()
        self._chain = Chain(self._middleware)
        if middleware is None:
            middleware = [each() for each in default_middleware]
        for each in middleware:
            self.add_middleware(each)

    # -- middleware

    @property
    def middleware(self) -> MiddlewareList:
        """The middleware; a list that may be changed in place or replaced."""
        return self._middleware

    @middleware.setter
    def middleware(self, middleware: Iterable[Any]) -> None:
        self._middleware = MiddlewareList(middleware)
        self._chain = Chain(self._middleware)

    @property
    def chain(self) -> Chain:
        """The compiled middleware, up to date with the list."""
        chain = self._chain
        if chain.version != self._middleware.version:
            chain = self._chain = Chain(self._middleware)
        return chain

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the ``before_<signal>`` hooks in list order.

        Raises:
            MiddlewareError: As soon as a hook raises one. Other errors are logged.
        """
        hook = f"before_{signal}"
        for middleware in self.chain.before(hook):
            try:
                getattr(middleware, hook)(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                self._log_hook_error(hook, middleware)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the ``after_<signal>`` hooks in reverse list order; their errors are logged."""
        hook = f"after_{signal}"
        for middleware in self.chain.after(hook):
            try:
                getattr(middleware, hook)(self, *args, **kwargs)
            except MiddlewareError:
                continue
            except Exception:
                self._log_hook_error(hook, middleware)

    def _log_hook_error(self, hook: str, middleware: Any) -> None:
        # Called from an except clause.
        self.logger.critical(
            "Unexpected failure in %s of %r.",
            hook,
            middleware,
            exc_info=True,  # noqa: LOG014 (there is one, see above)
        )

    def add_middleware(
        self, middleware: Any, *, before: type | None = None, after: type | None = None
    ) -> None:
        """Add a middleware at the end of the list, or next to the first of a class.

        What was declared before is announced to it, and to it alone.

        Args:
            middleware: The middleware.
            before: Insert it before the first instance of this class.
            after: Insert it after the first instance of this class.

        Raises:
            AssertionError: If both ``before`` and ``after`` are given.
            ValueError: If there is no instance of the class.
        """
        assert not (before and after), "provide either 'before' or 'after', but not both"  # noqa: S101
        for existing in self._middleware:
            if isinstance(existing, type(middleware)):
                self.logger.warning(
                    "You're adding a middleware of the same type twice: %r.", middleware
                )
        if before or after:
            index = self._position_of(before or after)
            self._middleware.insert(index if before else index + 1, middleware)
        else:
            self._middleware.append(middleware)
        self.actor_options |= middleware.actor_options
        for actor_name in self.get_declared_actors():
            middleware.after_declare_actor(self, self.actors[actor_name])
        for queue_name in self.get_declared_queues():
            middleware.after_declare_queue(self, queue_name)
        for queue_name in self.get_declared_delay_queues():
            middleware.after_declare_delay_queue(self, queue_name)

    def _position_of(self, middleware_class: Any) -> int:
        for index, existing in enumerate(self._middleware):
            if isinstance(existing, middleware_class):
                return index
        raise ValueError(
            f"Middleware {middleware_class!r} not found. "
            f"This broker has: {[type(each).__name__ for each in self._middleware]}."
        )

    # -- declarations

    def declare_actor(self, actor: Actor[Any, Any]) -> None:
        """Register ``actor`` and declare its queue; an actor of the same name is replaced."""
        self.emit_before("declare_actor", actor)
        self.declare_queue(actor.queue_name)
        self.actors[actor.actor_name] = actor
        self.emit_after("declare_actor", actor)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue; harmless when it is declared already."""
        raise NotImplementedError

    def get_actor(self, actor_name: str) -> Actor[Any, Any]:
        """Return the actor of that name.

        Raises:
            ActorNotFound: If there is none.
        """
        try:
            return self.actors[actor_name]
        except KeyError:
            raise ActorNotFound(actor_name) from None

    def get_declared_actors(self) -> set[str]:
        """Return the names of all declared actors."""
        return set(self.actors)

    def get_declared_queues(self) -> set[str]:
        """Return the names of all declared queues."""
        return set(self.queues)

    def get_declared_delay_queues(self) -> set[str]:
        """Return the names of all declared delay queues."""
        return self.delay_queues.copy()

    def get_results_backend(self) -> ResultBackend:
        """Return the backend of the `Results` middleware.

        Raises:
            RuntimeError: If there is no such middleware.
        """
        from .results import Results  # results are built beside brokers

        for middleware in self._middleware:
            if isinstance(middleware, Results):
                return middleware.backend
        raise RuntimeError(
            "The broker doesn't have a results backend. Add one before actors are declared: "
            "broker.add_middleware(dramatiq.results.Results(backend=…))."
        )

    @property
    def history(self) -> HistoryStore:
        """What became of messages: the store of the `History` middleware.

        Raises:
            RuntimeError: If there is no such middleware.
        """
        from .history import history_of  # built beside brokers, as results are

        return history_of(self)

    def make_history_store(self) -> HistoryStore:
        """Return a store for the history in the place where this broker keeps its messages.

        Raises:
            RuntimeError: If that is no place for it.
        """
        raise RuntimeError(
            f"{type(self).__name__} has no place for a history. Say where to keep it, for example "
            "History(store=dramatiq.history.stores.SQLiteStore(path=…))."
        )

    # -- sending

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Store ``message``; when this returns, it is the broker's.

        Args:
            message: The message.
            delay: Milliseconds before which it must not run. None, and only None, means at once.

        Returns:
            The message as it was stored, which may be a copy.
        """
        raise NotImplementedError

    def enqueue_many(
        self, messages: Iterable[Message[Any]], *, delay: int | None = None
    ) -> list[Message[Any]]:
        """Store many messages, in as few round trips as the broker knows how.

        If it raises, some of them may have been stored.
        """
        return [self.enqueue(message, delay=delay) for message in messages]

    async def enqueue_async(
        self, message: Message[Any], *, delay: int | None = None
    ) -> Message[Any]:
        """Store ``message`` without blocking the running event loop."""
        import asyncio  # only applications that have a loop pay for it

        return await asyncio.to_thread(self.enqueue, message, delay=delay)

    def follow_ups(self, message: Any) -> FollowUps:
        """Return the context in which to enqueue what follows from ``message``.

        Where the broker can, messages that are enqueued inside it in a process hook are stored in
        one step with the settlement of ``message``; elsewhere they are enqueued at once. Either
        way an error inside keeps the message from being acknowledged.
        """
        if not isinstance(message, MessageProxy):
            return FollowUps(self, collects=False)
        follow_ups = message._follow_ups
        if follow_ups is None:
            collects = self.stores_follow_ups and message._origin is not None
            follow_ups = message._follow_ups = FollowUps(self, collects=collects)
        return follow_ups

    # -- workflows

    @property
    def workflows(self) -> Workflows:
        """What lets compositions go on that need to be kept in a store.

        Raises:
            RuntimeError: If there is nowhere to keep them.
        """
        if self._workflows is None:
            from .workflows.engine import Workflows  # many applications have none

            store = self.make_workflow_store()
            if store is None:
                raise RuntimeError(
                    f"{type(self).__name__} cannot keep workflows by itself: a group inside a "
                    "pipeline, for example. Add a result backend or rate limiter backend on Redis, "
                    "PostgreSQL or SQLite to it: broker.add_middleware(Results(backend=…)) or "
                    "broker.add_middleware(GroupCallbacks(…))."
                )
            self._workflows = Workflows(self, store)
        return self._workflows

    def make_workflow_store(self) -> WorkflowStore | None:
        """Return where workflows are kept; None if there is no such place.

        By default beside results or rate limits, in a backend of this broker's middleware.
        """
        for middleware in self._middleware:
            for name in ("backend", "rate_limiter_backend"):
                make = getattr(getattr(middleware, name, None), "make_workflow_store", None)
                store: WorkflowStore | None = None if make is None else make()
                if store is not None:
                    return store
        return None

    def tell_workflows_of_dead(self, messages: Iterable[Message[Any]], reason: str) -> None:
        """Have messages count as failed in their workflows that died without being settled."""
        of_workflows = [message for message in messages if OPTION in message.options]
        if not of_workflows:
            return
        from .workflows.step import dead_arrival

        try:
            self.workflows.settle([dead_arrival(message, reason) for message in of_workflows])
        except Exception:
            # The messages are dead letters all the same; retrying the workflow finds them.
            self.logger.exception(
                "Workflows do not know of dead messages: %s.", ", ".join(map(str, of_workflows))
            )

    # -- receiving and caring

    @property
    def inspection(self) -> Inspection:
        """The door for whoever wants to look at queues and act on them."""
        from .inspection import Inspection  # few processes of an application need it

        return Inspection(self)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> Consumer:
        """Return a consumer of a queue.

        Args:
            queue_name: The queue.
            prefetch: How many messages it may have handed out at a time.
            timeout: Milliseconds after which it gives None when there is nothing.
        """
        raise NotImplementedError

    def make_flight_recorder(self, slots: int) -> FlightRecorder | None:
        """Return where a worker is to write down what it runs; None if nobody would read it.

        Args:
            slots: How many messages it may run at a time.
        """
        return None

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue."""
        raise NotImplementedError

    def flush_all(self) -> None:
        """Drop all messages of all declared queues."""
        raise NotImplementedError

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until a queue has nothing left to run.

        Args:
            queue_name: The queue.
            timeout: Milliseconds; None waits for ever.

        Raises:
            QueueJoinTimeout: At the deadline.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Release connections and threads. Harmless when called twice."""
