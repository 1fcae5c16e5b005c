"""How the tests are shared out among the processes of pytest-xdist, and what they must agree on.

Each process takes the next test as soon as it is free, and starts servers of its own when a test
first asks for them. Tests of one group run in one process, one after another:

- those of a RabbitMQ server, of which one is enough;
- those in `tests/chaos`, which measure how soon work goes on, so that none starves another;
- those of a module that shares something costly and says so by ``pytest.mark.xdist_group``.

These groups come first and then the long tests, so that no process is left with one at the end.
The crash matrices come last: they keep all processors busy by themselves.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

#: The directories whose tests take longest, in this order.
LONG_ONES_FIRST = ["chaos", "interop", "acceptance", "contract", "worker"]
SEED_VARIABLE = "DRAMATIQ_CHAOS_SEED"


def agree_on_a_seed() -> str:
    """Choose the seed of this run, unless it is set, for all processes of it; return it.

    Parameters of tests are drawn with it, and all processes have to collect the same tests.
    """
    if not int(os.environ.get(SEED_VARIABLE, "0")):
        os.environ[SEED_VARIABLE] = str(random.SystemRandom().randrange(1, 2**32))
    return os.environ[SEED_VARIABLE]


def share_out(items: list[pytest.Item]) -> None:
    """Give tests their groups, and sort them in place."""
    for item in items:
        if "rabbitmq_server" in item.fixturenames or item.path.name == "test_rabbitmq_server.py":
            item.add_marker(pytest.mark.xdist_group("rabbitmq"))
        elif item.path.parent.name == "chaos" and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("chaos"))
    items.sort(key=_place)


def writable(data: Any) -> Any:
    """Escape, in a report, what cannot be written as UTF-8: it would end the whole run.

    Tests log and print such text to see what the library does with it.
    """
    match data:
        case str():
            return data.encode(errors="backslashreplace").decode()
        case dict():
            return {key: writable(value) for key, value in data.items()}
        case tuple():
            return tuple(writable(each) for each in data)
        case list():
            return [writable(each) for each in data]
        case _:
            return data


def _place(item: pytest.Item) -> tuple[bool, bool, int]:
    group = item.get_closest_marker("xdist_group")
    keeps_processors_busy = group is not None and "crash-matrix" in group.args[0]
    directory = item.path.parent.name
    rank = LONG_ONES_FIRST.index(directory) if directory in LONG_ONES_FIRST else 9
    return keeps_processors_busy, group is None, rank
