"""How the tests are shared out among the processes of pytest-xdist, and what they must agree on.

Each process takes the next group as soon as it is free, and runs its tests one after another. It
starts servers of its own when a test first asks for them. The groups, in this order:

- `tests/chaos`, which measures how soon work goes on, so that one test does not starve another;
- the tests of a RabbitMQ server, of which one is enough: those that have its name in theirs;
- every other file, those with long tests first;
- the crash matrices, each by itself: they keep all processors busy.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

#: The groups of more than one file, and the directories whose tests take longest, in this order.
FIRST = ["chaos", "rabbitmq", "interop", "acceptance", "contract", "worker"]
SEED_VARIABLE = "DRAMATIQ_CHAOS_SEED"


def agree_on_a_seed() -> str:
    """Choose the seed of this run, unless it is set, for all processes of it; return it.

    Parameters of tests are drawn with it, and all processes have to collect the same tests.
    """
    if not int(os.environ.get(SEED_VARIABLE, "0")):
        os.environ[SEED_VARIABLE] = str(random.SystemRandom().randrange(1, 2**32))
    return os.environ[SEED_VARIABLE]


def group_of(nodeid: str) -> str:
    """Return the group of a test, by its id."""
    path = nodeid.partition("::")[0]
    if "crash_matrix" in path:
        return path
    if "rabbitmq" in nodeid:
        return "rabbitmq"
    if path.endswith(("test_postgres_transactions.py", "test_mounting.py")):
        return "contract/django"  # which is configured once in a process, by the first of them
    return "chaos" if path.startswith("tests/chaos/") else path


def place_of(nodeid: str) -> int:
    """Return when it is a test's turn: the lower, the sooner."""
    group = group_of(nodeid)
    if "crash_matrix" in group:
        return len(FIRST) + 1
    names = group.split("/")
    return min((FIRST.index(name) for name in names if name in FIRST), default=len(FIRST))


def make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Make what hands out the groups in the order of the tests."""
    # Only the process that hands out needs it, and only if there are others.
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)


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
