"""The real command line with its children, on either broker, and what to do to them."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.harness import Program, Site, open_site
from tests.chaos.redis_harness import RedisSite

#: Runs a program on a machine with another name.
ELSEWHERE = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "sh")
#: The state of a process that SIGSTOP has stopped.
STOPPED = "T"


def state_of(pid):
    """Return the letter that stands for a process' state; "" if it runs no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0].strip("ZX")


class Tree(Program):
    """One run of the command line.

    Args:
        site: Where it works.
        processes: How many children it has.
        threads: How many threads each of them has.
        arguments: Further arguments of the command line.
        prefix: What to run it with.
        application: Its module.
        environment: What its environment has beside that.
    """

    def __init__(
        self,
        site,
        *,
        processes=2,
        threads=8,
        arguments=(),
        prefix=(),
        application="tests.chaos.storm_app",
        **environment,
    ):
        self.site = site
        self.processes = processes
        super().__init__(
            [
                *(*prefix, sys.executable, "-m", "dramatiq", application),
                *("-p", str(processes), "-t", str(threads), *arguments),
            ],
            site.directory / f"tree-{len(site.programs)}",
            {"PYTHONPATH": str(Path(__file__).parents[2]), **site.app_environment, **environment},
        )
        site.programs.append(self)

    def wait_until_ready(self):
        """Wait until every child works."""
        self.site.wait_until(
            lambda: self.output.count("process is ready") >= self.processes, "the tree is ready"
        )
        return self

    def children(self):
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with suppress(OSError):
            return [int(pid) for pid in path.read_text().split()]
        return []

    def workers(self):
        """Return the children that have started something, by the ledger."""
        busy = {entry.pid for entry in self.site.ledger.entries()}
        return [pid for pid in self.children() if pid in busy]

    def kill_all(self):
        """Kill all at once, so that none can be replaced; `kill` kills the main process alone."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def freeze(self, pids):
        """Stop processes, and wait until they are."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self.site.wait_until(
            lambda: all(state_of(pid) == STOPPED for pid in pids), "the processes are stopped"
        )

    def thaw(self, pids):
        """Let processes go on."""
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def elsewhere():
    """Return the prefix that gives a tree another machine's name."""
    if os.geteuid() != 0:
        pytest.skip("only root may give a process another host name")
    return ELSEWHERE


def open_either(request, directory, namespace, **redis_options):
    """Make a site on the broker that the test is parametrized with, "sqlite" or "redis".

    Args:
        request: Of the fixture.
        directory: A folder of the test's own.
        namespace: What the keys begin with; the name of the directory follows.
        redis_options: Arguments of the brokers on Redis.
    """
    if request.param == "sqlite":
        return open_site(directory, Site)
    server = request.getfixturevalue("redis_server")
    namespace = f"{namespace}-{directory.name}"
    return open_site(directory, RedisSite, server=server, namespace=namespace, **redis_options)


#: Nanoseconds that may pass between the moment of a death, taken before, and the death.
KILLING_NS = 1_000_000_000


def count_fates(site, numbers, deaths):
    """Count what became of messages, from the ledger and the dead letters.

    Args:
        site: Where they were.
        numbers: All that were accepted.
        deaths: When processes died, and which: pairs of a moment and process ids.

    Returns:
        Figures. The recovery from each death of the messages that were running is counted apart
        where one process died and where several did, after which a program has to start first.
    """
    ended = site.ledger.numbers("end")
    running, recoveries = find_recoveries(site, deaths)
    dead = site.counts()[3]
    figures = {
        "messages": len(numbers),
        "deaths": len(deaths),
        "lost": len(set(numbers) - set(ended)) - dead,
        "phantom": len(set(ended) - set(numbers)),
        "dead, having died with three processes": dead,
        "duplicates": len(ended) - len(set(ended)),
        "running when killed": running,
    }
    for name, is_single in (("recovery", True), ("recovery from several deaths", False)):
        times = sorted(ms for pids, ms in recoveries if (len(pids) == 1) is is_single)
        if times:
            figures[f"{name} p50 ms"] = round(quantile(times, 0.5))
            figures[f"{name} p99 ms"] = round(quantile(times, 0.99))
            figures[f"{name} max ms"] = round(times[-1])
    return figures


def find_recoveries(site, deaths):
    """Return how many messages were running at the deaths, and when those ran again.

    The latter as pairs of the process ids that died and milliseconds. A message that had died with
    a process before is left out: it is no longer above suspicion, and waits.
    """
    entries = site.ledger.entries()
    ends = {(entry.number, entry.pid) for entry in entries if entry.kind == "end"}
    starts = {}
    for entry in entries:
        if entry.kind == "start":
            starts.setdefault(entry.number, []).append(entry)
    running, recoveries, died_before = 0, [], set()
    for at_ns, pids in deaths:
        for start in [each for those in starts.values() for each in those if each.pid in pids]:
            # The id of a process that died may be that of another one later.
            if start.at_ns > at_ns + KILLING_NS or (start.number, start.pid) in ends:
                continue
            running += 1
            since_ns = max(at_ns, start.at_ns)
            later = [each.at_ns for each in starts[start.number] if each.at_ns > since_ns]
            if start.number not in died_before and later:
                recoveries.append((pids, (min(later) - at_ns) / 1e6))
            died_before.add(start.number)
    return running, recoveries


def quantile(ordered, share):
    """Return the element of a sorted list below which that share of it is."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
