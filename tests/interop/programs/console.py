"""Runs lines of Python in the application, under either fleet: the long arm of the tests.

Each line of the standard input is a request, ``{"code": ...}``: one expression, or statements.
Each gets one line of answer on the standard output, ``{"value": ...}`` or ``{"error": ...}``.
"""

from __future__ import annotations

import json
import logging
import os
import runpy
import sys
import traceback
from pathlib import Path

import dramatiq

scope = {"dramatiq": dramatiq}


def load(**settings):
    """Load the application anew."""
    finish_app()
    for name in [name for name in os.environ if name.startswith("APP_") and name != "APP_FLEET"]:
        del os.environ[name]
    os.environ.update({f"APP_{name.upper()}": str(value) for name, value in settings.items()})
    program = os.environ.get("APP_PROGRAM", "app.py")
    scope.update(runpy.run_path(Path(__file__).with_name(program)))


def start(*, queues=None, threads=4, prefetch=0, delay_prefetch=0):
    """Start a worker in this process."""
    worker = dramatiq.Worker(
        scope["broker"], queues=queues, worker_threads=threads, worker_timeout=200
    )
    worker.queue_prefetch = prefetch or worker.queue_prefetch
    worker.delay_prefetch = delay_prefetch or worker.delay_prefetch
    worker.start()
    scope["worker"] = worker


def stop(timeout=10_000):
    """Stop the worker, if there is one."""
    if "worker" in scope:
        scope.pop("worker").stop(timeout=timeout)


def finish_app():
    stop()
    if "broker" in scope:
        scope.pop("broker").close()


def run(code):
    try:
        program = compile(code, "request", "eval")
    except SyntaxError:
        exec(compile(code, "request", "exec"), scope)  # noqa: S102 - This is what it is for.
        return None
    value = eval(program, scope)  # noqa: S307 - As above.
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


def main():
    # What user code prints must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    scope.update(load=load, start=start, stop=stop, finish_app=finish_app)
    for line in sys.stdin:
        try:
            answer = {"value": run(json.loads(line)["code"])}
        except Exception as error:
            traceback.print_exc()
            bases = [base.__module__ + "." + base.__qualname__ for base in type(error).__mro__]
            answer = {"error": str(error), "bases": bases}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    main()
