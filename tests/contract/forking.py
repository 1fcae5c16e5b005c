"""A program that shows that a result backend shares no connection with a process it forked."""

from __future__ import annotations

#: Uses a backend, forks, and uses it in both processes at once; each checks what it reads.
FORK = """
import os, sys
from dramatiq.results import backends
from dramatiq.testing.result_contract import make_message

backend = backends.{backend}

def use(who):
    for index in range(300):
        message = make_message(message_id=f"{{who}}-{{index}}")
        backend.store_result(message, [who, index], 60_000)
        assert backend.get_result(message, block=True) == [who, index]

use("before")
child = os.fork()
if child == 0:
    status = 1
    try:
        use("child")
        status = 0
    finally:
        os._exit(status)
use("parent")
assert os.waitpid(child, 0)[1] == 0
use("after")
"""
