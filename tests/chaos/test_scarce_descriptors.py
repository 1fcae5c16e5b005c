"""No descriptors left, and descriptors that a fork copies."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.chaos.program import declare
from tests.chaos.redis_harness import RedisSite, show
from tests.chaos.trees import Tree, open_either

pytestmark = pytest.mark.chaos

PROGRAM = Path(__file__).with_name("descriptors.py")
#: How many descriptors a process may have.
LIMIT = 64
PRODUCERS = 300
CHILDREN = 4
#: Milliseconds without heartbeat after which a worker counts as dead, and three times as many.
TIMEOUT = 500
SILENT_MS = 3 * TIMEOUT


@pytest.fixture(params=["sqlite", "redis"])
def site(request, tmp_path):
    with open_either(request, tmp_path, "descriptors", heartbeat_timeout=TIMEOUT) as site:
        yield site


def run(site, *arguments):
    # Newer Pythons warn of forks in processes with threads: it is what this is about.
    program = site.start(*arguments, program=PROGRAM, PYTHONWARNINGS="ignore")
    assert program.wait() == 0, program.output
    return json.loads(program.output)


def test_three_hundred_threads_and_few_descriptors(site, capsys):
    found = run(site, "crowd", PRODUCERS, LIMIT)

    texts = found.pop("texts")
    assert found.pop("accepted") == list(range(PRODUCERS)), texts
    show(capsys, f"{PRODUCERS} producers, {LIMIT} descriptors, {type(site).__name__}", found)
    assert found["surprises"] == []
    assert found["refused without"] == 8
    assert texts
    assert all("no file descriptor is left" in each and "ulimit -n" in each for each in texts)
    assert found["left for others"] >= LIMIT // 2
    assert site.counts() == [PRODUCERS, 0, 0, 0]
    site.check_store()


@pytest.mark.parametrize("way", ["os.fork", "multiprocessing"])
def test_no_process_has_a_connection_of_another_after_a_fork(site, way, capsys):
    found = run(site, "preload", way, CHILDREN)

    assert found["exit codes"] == [0] * CHILDREN
    before, after = sockets_in(found["before"]), sockets_in(found["after"])
    inherited = [sockets_in(child["inherited"]) for child in found["children"]]
    opened = [sockets_in(child["open"]) for child in found["children"]]
    show(
        capsys,
        f"{way} after a send on {type(site).__name__}",
        {"of the parent": len(after), "of its children": list(map(len, opened))},
    )
    assert before == after
    assert not any(before & each for each in inherited)
    assert sum(map(len, [after, *opened])) == len(after.union(*opened))
    if isinstance(site, RedisSite):
        assert all([after, *opened])
    for child in found["children"]:
        assert not [name for name in child["inherited"] if name.startswith(str(site.database))]
    assert site.counts() == [CHILDREN + 2, 0, 0, 0]
    site.check_store()


def sockets_in(names):
    return {name for name in names if name.startswith("socket:")}


def test_workers_go_on_when_a_message_has_taken_all_descriptors(site, tmp_path, capsys):
    prefix = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh")
    tree = Tree(site, processes=2, threads=1, prefix=prefix).wait_until_ready()
    broker = site.make_broker()
    actors = declare(broker, site.ledger.path)
    actors["take_all_descriptors"].send(0, str(tmp_path))
    site.wait_until(lambda: site.ledger.count("start") == 1, "none is left")
    [greedy] = [entry.pid for entry in site.ledger.entries()]
    actors["work"].send_many((number, 1) for number in range(1, 200))
    site.wait_until(lambda: site.ledger.count("end") == 199, "the other process runs the rest")

    # It lives all the same, for as long as it would take the others to take it for dead.
    time.sleep(SILENT_MS / 1000)
    assert site.leased_to(greedy) == 1
    (tmp_path / str(greedy)).touch()
    site.wait_until_drained()
    actors["work"].send_many((number, 20) for number in range(200, 300))
    site.wait_until_drained()
    assert tree.stop() == 0
    broker.close()

    worked = {entry.pid for entry in site.ledger.entries() if entry.number >= 200}
    figures = {"starts": site.ledger.count("start"), "duplicates": len(site.ledger.duplicates())}
    show(capsys, f"a message with all {LIMIT} descriptors on {type(site).__name__}", figures)
    assert figures == {"starts": 300, "duplicates": 0}
    assert greedy in worked
    site.check_store()
