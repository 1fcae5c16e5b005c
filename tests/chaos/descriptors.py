"""Senders that are short of descriptors, or that fork with some of them open.

Run as ``python descriptors.py ROLE DATABASE LEDGER [ARGUMENT …]``. What was found is printed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from pathlib import Path

from dramatiq.errors import BrokerConnectionError
from tests.chaos.program import declare, make_broker, take_descriptors


class Crowd:
    """Many threads that send at once, and what became of what they sent.

    Attributes:
        accepted: The numbers that were sent.
        refused: Those that were not, and may be sent again.
        texts: What the errors said that a sender has to expect.
        surprises: All other errors.
    """

    def __init__(self, actor):
        self.actor = actor
        self.accepted = []
        self.refused = []
        self.texts = set()
        self.surprises = []

    def send(self, numbers):
        """Send each number from a thread of its own, all at once; return how many were refused."""
        barrier = threading.Barrier(len(numbers))
        threads = [threading.Thread(target=self._send, args=(each, barrier)) for each in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(self.refused)

    def _send(self, number, barrier):
        barrier.wait()
        try:
            self.actor.send(number)
        except BrokerConnectionError as error:
            self.texts.add(f"{type(error).__name__}: {error}")
            self.refused.append(number)
        except Exception as error:
            self.surprises.append(repr(error))
        else:
            self.accepted.append(number)


def crowd(path, ledger, threads, limit):
    """Send from many threads: without a free descriptor, then with few, until all are sent."""
    sender = Crowd(declare(make_broker(path), ledger)["work"])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), most))
    everything = range(int(threads))

    taken = take_descriptors()
    without = sender.send(everything[:8])
    for descriptor in taken:
        os.close(descriptor)
    sender.refused.clear()
    with_few = sender.send(everything)
    rounds = 0
    while sender.refused and rounds < 100:
        again, sender.refused = sender.refused, []
        sender.send(again)
        rounds += 1
    taken = take_descriptors()
    return {
        "accepted": sorted(sender.accepted),
        "refused without": without,
        "refused with few": with_few,
        "rounds": rounds,
        "texts": sorted(sender.texts),
        "surprises": sender.surprises,
        "left for others": len(taken),
    }


def open_files():
    """Return what the descriptors of this process lead to; a socket has a number of its own."""
    found = []
    for path in list(Path("/proc/self/fd").iterdir()):
        try:
            found.append(str(path.readlink()))
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def preload(path, ledger, way, children):
    """Send, fork, and send again in all processes, all alive at once."""
    actor = declare(make_broker(path), ledger)["work"]
    reader, writer = os.pipe()
    lifeline, holder = os.pipe()

    def live(number):
        os.close(holder)
        inherited = open_files()
        actor.send(number)
        report = {"inherited": inherited, "open": open_files()}
        os.write(writer, json.dumps(report).encode() + b"\n")
        os.read(lifeline, 1)

    actor.send(0)
    before = open_files()
    start = {"os.fork": fork, "multiprocessing": fork_by_multiprocessing}[way]
    ends = [start(live, number) for number in range(1, int(children) + 1)]
    with os.fdopen(reader, encoding="utf-8") as lines:
        reports = [json.loads(lines.readline()) for _ in ends]
    actor.send(int(children) + 1)
    after = open_files()
    os.close(holder)
    return {
        "before": before,
        "after": after,
        "children": reports,
        "exit codes": [end() for end in ends],
    }


def fork(function, number):
    """Call a function in a child; return what waits for its end."""
    pid = os.fork()
    if not pid:
        function(number)
        os._exit(0)
    return lambda: os.waitpid(pid, 0)[1]


def fork_by_multiprocessing(function, number):
    """Do as `fork` does, as many applications do it."""
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=function, args=(number,))
    process.start()

    def end():
        process.join()
        return process.exitcode

    return end


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print(json.dumps({"crowd": crowd, "preload": preload}[role](*arguments)), flush=True)
    # The descriptors taken are not worth tidying up.
    os._exit(0)
