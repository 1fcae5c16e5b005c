"""What type checkers know of actors, messages and compositions.

Nothing here is run. A comment that ignores an error says that the error must be there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, assert_type

import dramatiq
from dramatiq import Actor, Message, MessageProxy, Worker, group, pipeline

if TYPE_CHECKING:
    from dramatiq.actor import ActorDecorator

P = ParamSpec("P")
R = TypeVar("R")


def bare() -> None:
    @dramatiq.actor
    def add(left: int, right: int = 0) -> int:
        return left + right

    assert_type(add(1, 2), int)
    assert_type(add.send(1), Message[int])
    assert_type(add.send(1, right=2), Message[int])
    assert_type(add.message(1), Message[int])
    assert_type(add.send(1).get_result(), int)
    assert_type(add.message(1).copy(options={}), Message[int])

    add("one")  # type: ignore[arg-type]
    add.send("one")  # type: ignore[arg-type]
    add.send()  # type: ignore[call-arg]
    add.send(1, 2, 3)  # type: ignore[call-arg]
    add.message(1, middle=2)  # type: ignore[call-arg]


def without_arguments() -> None:
    @dramatiq.actor()
    def add(left: int) -> int:
        return left

    assert_type(add.send(1), Message[int])
    add.send("one")  # type: ignore[arg-type]


def with_options() -> None:
    @dramatiq.actor(queue_name="low", priority=1, max_retries=3, time_limit=float("inf"))
    def greet(name: str) -> str:
        return name

    assert_type(greet("a"), str)
    assert_type(greet.send("a"), Message[str])
    greet.send(1)  # type: ignore[arg-type]

    dramatiq.actor(queue_name=1)  # type: ignore[call-overload]


def called_on_a_function() -> None:
    def half(value: float) -> float:
        return value / 2

    assert_type(dramatiq.actor(half).send(1.0), Message[float])
    halved = dramatiq.actor(half, queue_name="low", max_retries=3)
    assert_type(halved(1.0), float)
    assert_type(halved.send(1.0), Message[float])


def coroutines() -> None:
    @dramatiq.actor
    async def fetch(address: str) -> bytes:
        return address.encode()

    assert_type(fetch("here"), bytes)
    assert_type(fetch.send("here"), Message[bytes])
    assert_type(fetch.send("here").get_result(block=True, timeout=1), bytes)
    fetch.send(1)  # type: ignore[arg-type]

    @dramatiq.actor(queue_name="low")
    async def ping() -> None: ...

    assert_type(ping.send(), Message[None])

    async def count(words: list[str]) -> int:
        return len(words)

    assert_type(dramatiq.actor(count, max_retries=1).send(["a"]), Message[int])


async def sending_from_coroutines() -> None:
    @dramatiq.actor
    def add(left: int, right: int) -> int:
        return left + right

    assert_type(await add.send_async(1, 2), Message[int])
    await add.send_async("one", 2)  # type: ignore[arg-type]


def options_of_messages() -> None:
    @dramatiq.actor
    def add(left: int, right: int) -> int:
        return left + right

    assert_type(add.send_with_options(args=(1, 2), delay=1000), Message[int])
    assert_type(
        add.send_with_options(args=[1], kwargs={"right": 2}, delay=timedelta(hours=1)),
        Message[int],
    )
    assert_type(add.message_with_options(args=(1, 2), on_success=add), Message[int])
    assert_type(add.send_many([(1, 2), {"left": 3, "right": 4}]), list[Message[int]])
    add.send_with_options(delay="soon")  # type: ignore[arg-type]


class Traced(Actor[P, R]):
    """A subclass that is as generic as its base."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return super().__call__(*args, **kwargs)


def subclasses() -> None:
    @dramatiq.actor(actor_class=Traced)
    def add(left: int) -> int:
        return left

    assert_type(add(1), int)
    assert_type(add.send(1).get_result(), int)

    @dramatiq.actor(actor_class=Traced, queue_name="low")
    async def fetch(address: str) -> bytes:
        return address.encode()

    assert_type(fetch("here"), bytes)


def my_actor(**options: Any) -> ActorDecorator:
    """Applications wrap the decorator."""
    return dramatiq.actor(queue_name="mine", **options)


def decorators_of_applications() -> None:
    @my_actor(max_retries=1)
    def add(left: int) -> int:
        return left

    @my_actor()
    async def fetch(address: str) -> bytes:
        return address.encode()

    assert_type(add(1), int)
    assert_type(fetch.send("here"), Message[bytes])


def attributes(actor: Actor[..., int], worker: Worker) -> None:
    assert_type(actor.actor_name, str)
    assert_type(actor.queue_name, str)
    assert_type(actor.priority, int)
    assert_type(actor.options, dict[str, Any])
    assert_type(actor.broker, dramatiq.Broker)
    assert_type(actor.fn, Callable[..., int])
    assert_type(worker.worker_threads, int)


def messages(message: Message[bool], proxy: MessageProxy) -> None:
    numbers: list[Message[int]] = [message]  # The result is covariant.
    assert_type(numbers[0].get_result(), int)
    assert_type(message.args, tuple[Any, ...])
    assert_type(message.options, dict[str, Any])
    assert_type(message.message_id, str)
    assert_type(message.message_datetime, datetime)
    assert_type(message.encode(), bytes)
    assert_type(Message.decode(b""), Message[Any])
    assert_type(proxy.failed, bool)
    message.queue_name = "other"  # type: ignore[misc]


def compositions(number: Message[int], text: Message[str]) -> None:
    assert_type(number | text, pipeline[str])
    assert_type((text | number).get_result(), int)
    assert_type(text | number | text, pipeline[str])
    assert_type((number | text).run(), pipeline[str])
    group([number, text, number | text]).run(delay=1).wait(timeout=5)
    assert_type(group([number, number]), group[int])
    assert_type(number | group([text, text]), pipeline[list[str]])
    assert_type(group([number, number]) | text, pipeline[str])


def steps() -> None:
    @dramatiq.actor
    def count(name: str, times: int = 1) -> int:
        return len(name) * times

    @dramatiq.actor
    def total(counts: list[int]) -> float:
        return sum(counts) / 2

    number = count.message("one")
    assert_type(number | total.message([1]), pipeline[float])

    half = count.message("a") | group([total.message([1]), total.message([2])])
    assert_type(half, pipeline[list[float]])
    assert_type(group([number, count.message("two")]) | total.partial(), pipeline[float])
    assert_type(count.message("a").get_result(), int)

    count.partial(times=2)
    count.partial("two")  # type: ignore[arg-type]
    # The result before it must be what the first parameter takes.
    number | count.partial(2)  # type: ignore[operator]
    number | total.partial()  # type: ignore[operator]
    group([number]) | count.partial()  # type: ignore[operator]

    @dramatiq.actor
    def report(error: dict[str, Any], name: str) -> None: ...

    # What follows an end gets its first argument then, too.
    pipeline([number], on_failure=report.partial("a"), on_success=total.partial())
    group([number], on_failure=report.partial("a"), on_success=report.message({}, "a"))
    pipeline([number], on_failure=report)  # type: ignore[arg-type]
    report.partial(1)  # type: ignore[arg-type]
