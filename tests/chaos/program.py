"""The process that chaos tests start, kill and stop: a worker, a producer, or somebody in the way.

Run as ``python program.py ROLE DATABASE LEDGER [ARGUMENT …]``. Every actor writes to the ledger
when it starts and when it ends, each time in one append, which survives the death of its writer.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from functools import partial
from pathlib import Path


def write_line(ledger, *fields):
    line = " ".join(map(str, (*fields, os.getpid(), time.monotonic_ns()))) + "\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def declare(broker, ledger):
    """Declare the actors of all programs on a broker."""
    import dramatiq

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=10, max_backoff=20)
    def work(number, duration_ms=0):
        write_line(ledger, "start", number)
        time.sleep(duration_ms / 1000)
        write_line(ledger, "end", number)

    @dramatiq.actor(broker=broker, max_retries=9, min_backoff=1, max_backoff=2)
    def fail_once(number):
        from dramatiq.middleware import CurrentMessage

        write_line(ledger, "start", number)
        if not CurrentMessage.get_current_message().options.get("retries"):
            raise dramatiq.Retry("once", delay=1)
        write_line(ledger, "end", number)

    @dramatiq.actor(broker=broker, max_retries=0, throws=(LookupError,))
    def fail(number):
        write_line(ledger, "start", number)
        raise LookupError(number)

    @dramatiq.actor(broker=broker)
    def pass_on(number):
        write_line(ledger, "start", number)
        write_line(ledger, "end", number)
        return number + 1000

    @dramatiq.actor(broker=broker)
    def hold_interpreter(number, duration_ms):
        import ctypes

        write_line(ledger, "start", number)
        # Called like a function of the interpreter itself: no other thread runs meanwhile.
        ctypes.PyDLL(None).usleep(duration_ms * 1000)
        write_line(ledger, "end", number)

    @dramatiq.actor(broker=broker)
    def leave_child_behind(number):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        write_line(ledger, "start", number)
        time.sleep(60)

    hang_once = dramatiq.actor(
        partial(hang_the_first_time, ledger), actor_name="hang_once", broker=broker
    )
    actors = (work, fail_once, fail, pass_on, hold_interpreter, leave_child_behind, hang_once)
    return {each.actor_name: each for each in (*actors, *declare_patient(broker, ledger))}


def declare_patient(broker, ledger):
    """Declare the actors that wait until the test has done something."""
    import dramatiq

    @dramatiq.actor(broker=broker)
    def wait_at_gate(number, gates):
        write_line(ledger, "start", number)
        # Each process has a gate of its own.
        while not Path(gates, str(os.getpid())).exists():
            time.sleep(0.01)
        write_line(ledger, "end", number)

    @dramatiq.actor(broker=broker)
    def take_all_descriptors(number, gates):
        taken = take_descriptors()
        os.close(taken.pop())
        write_line(ledger, "start", number)
        taken.append(os.open(os.devnull, os.O_RDONLY))
        while not Path(gates, str(os.getpid())).exists():
            time.sleep(0.01)
        for descriptor in taken:
            os.close(descriptor)
        write_line(ledger, "end", number)

    return wait_at_gate, take_all_descriptors


def take_descriptors():
    """Open files until the process may not open any more; return their descriptors."""
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    return taken


def hang_the_first_time(ledger, number):
    """Run for a minute, but only the first time."""
    write_line(ledger, "start", number)
    marker = Path(f"{ledger}-{number}")
    if not marker.exists():
        marker.touch()
        time.sleep(60)
    write_line(ledger, "end", number)


def make_broker(path, **options):
    """Return a broker on a file or, for a URL, on a server; ``sentinel://`` finds its master."""
    from dramatiq import middleware

    options = {**json.loads(os.environ.get("CHAOS_BROKER_OPTIONS", "{}")), **options}
    if str(path).startswith("sentinel://"):
        options["client"] = find_master(path)
    elif "://" in str(path):
        options["url"] = path
    if str(path).startswith("amqp://"):
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        broker = RabbitmqBroker(**options)
    elif str(path).startswith("postgresql://"):
        from dramatiq.brokers.postgres import PostgresBroker

        broker = PostgresBroker(**options)
    elif "client" in options or "url" in options:
        from dramatiq.brokers.redis import RedisBroker

        broker = RedisBroker(**options)
    else:
        from dramatiq.brokers.sqlite import SQLiteBroker

        broker = SQLiteBroker(path, **options)
    broker.add_middleware(middleware.CurrentMessage())
    return broker


def find_master(url):
    """Return a client of the master that the sentinel at ``sentinel://host:port`` knows."""
    from urllib.parse import urlsplit

    from redis import Sentinel

    address = urlsplit(url)
    timeouts = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0}
    return Sentinel([(address.hostname, address.port)], **timeouts).master_for(
        "mymaster", **timeouts
    )


def work(path, ledger, threads="4"):
    """Work until asked to stop."""
    from dramatiq.worker import Worker

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    broker = make_broker(path)
    declare(broker, ledger)
    worker = Worker(broker, worker_threads=int(threads), worker_timeout=200)
    worker.start()
    write_line(ledger, "ready", 0)
    while not stopping.wait(1):
        continue
    worker.stop(timeout=5000)
    broker.close()


def produce(path, ledger, first, count, duration_ms="0", per_second="0"):
    """Send messages one by one, at most so many per second, and write down which were accepted."""
    from dramatiq.errors import BrokerConnectionError

    broker = make_broker(path)
    actor = declare(broker, ledger)["work"]
    began = time.monotonic()
    for number in range(int(first), int(first) + int(count)):
        if float(per_second):
            due = began + (number - int(first)) / float(per_second)
            time.sleep(max(0.0, due - time.monotonic()))
        try:
            actor.send(number, int(duration_ms))
        except (BrokerConnectionError, OSError) as error:
            logging.getLogger("producer").warning("not accepted: %s", error)
            write_line(ledger, "unknown", number)
        else:
            write_line(ledger, "sent", number)
    broker.close()


def fork(path, ledger, children, each):
    """Fork in the middle of sending; parent and children go on with the same broker."""
    broker = make_broker(path)
    actor = declare(broker, ledger)["work"]
    stopping = threading.Event()

    def send(numbers):
        for number in numbers:
            if not stopping.is_set():
                actor.send(number)
                write_line(ledger, "sent", number)

    def live(first):
        send(range(first, first + int(each)))
        # Until here the parent has the file open as well; from here on it may have closed it.
        os.read(ended, 1)
        send(range(first + int(each), first + 2 * int(each)))
        broker.close()

    # Python does not stand a fork while another thread imports something, as first uses do.
    send([10**9])
    threads = [
        threading.Thread(target=send, args=(range(million * 10**6, (million + 1) * 10**6),))
        for million in (1, 2)
    ]
    for thread in threads:
        thread.start()
    ended, end = os.pipe()
    pids = []
    for child in range(int(children)):
        pids.append(os.fork())
        if not pids[-1]:
            os.close(end)
            live(child * 2 * int(each))
            os._exit(0)
    stopping.set()
    for thread in threads:
        thread.join()
    broker.close()
    os.close(end)
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
    sys.exit(f"children failed: {failed}" if failed else 0)


def hold(path, ledger, seconds):
    """Keep the write lock for a while."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    write_line(ledger, "ready", 0)
    time.sleep(float(seconds))
    connection.execute("ROLLBACK")
    connection.close()


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.WARNING)
    role, *arguments = sys.argv[1:]
    {"work": work, "produce": produce, "fork": fork, "hold": hold}[role](*arguments)
