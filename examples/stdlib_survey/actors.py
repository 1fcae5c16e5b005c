"""The work: what the workers run, and how the messages hang together.

    measure_file × every file ──► record_failure, for each that cannot be measured
                  │ when all are done
                  ▼
    group: summarise_package × every package
                  │ completion callback
                  ▼
    pipeline: collect | rank | write_report

Any worker may die at any instant, and then its messages run again elsewhere. So each actor can be
run twice: it computes from what is stored, and overwrites its own result.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.middleware import CurrentMessage, GroupCallbacks
from dramatiq.rate_limits.backends import SQLiteBackend

from . import report
from .measure import measure
from .store import Store

if TYPE_CHECKING:
    from .report import Findings, Ranking

#: The environment variable with the folder of the survey; the program hands it to its workers.
FOLDER_VARIABLE = "SURVEY_FOLDER"
folder = Path(os.environ.get(FOLDER_VARIABLE, "demo-survey"))
folder.mkdir(parents=True, exist_ok=True)
store = Store(folder / "findings.db")

broker = SQLiteBroker(folder / "dramatiq.db")
# Lets an actor see how often its message was retried.
broker.add_middleware(CurrentMessage())
# Counts the members of a group that are done, in the broker's own file.
broker.add_middleware(GroupCallbacks(SQLiteBackend(broker=broker)))
dramatiq.set_broker(broker)

# Old sources are full of what newer Pythons warn about when they parse it.
warnings.filterwarnings("ignore", category=SyntaxWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)


@dramatiq.actor(
    queue_name="measure",
    max_retries=2,
    min_backoff=100,
    max_backoff=1_000,
    on_retry_exhausted="record_failure",
)
def measure_file(root: str, path: str) -> None:
    """Measure one file. If that fails it is tried again, and then becomes a dead letter."""
    measurement = measure(Path(root, path).read_bytes(), path)
    message = CurrentMessage.get_current_message()
    store.record(path, measurement, retries=message.options.get("retries", 0) if message else 0)


@dramatiq.actor(queue_name="measure", priority=-1, max_retries=2, min_backoff=100)
def record_failure(message: dict[str, Any], outcome: dict[str, int]) -> None:
    """Note that a file was given up. Stored in one step with the dead letter itself."""
    _, path = message["args"]
    reason = message["options"]["traceback"].strip().splitlines()[-1]
    store.record_failure(path, reason, retries=outcome["retries"])


@dramatiq.actor(queue_name="report", max_retries=2, min_backoff=100)
def summarise_package(package: str) -> None:
    """Add up the files of one package."""
    store.save_summary(report.summarise(package, store.measurements(package)))


@dramatiq.actor(queue_name="report", max_retries=2, min_backoff=100)
def collect() -> Findings:
    """Add up the packages."""
    return report.merge(store.summaries())


@dramatiq.actor(queue_name="report", max_retries=2, min_backoff=100)
def rank(findings: Findings) -> Ranking:
    """Choose what the report shows."""
    return report.rank(findings)


@dramatiq.actor(queue_name="report", max_retries=2, min_backoff=100)
def write_report(ranking: Ranking) -> None:
    """Write the report and store it."""
    title = store.get("title") or "Survey"
    store.set("report", report.render(title, ranking, store.failures()))


def send_files() -> None:
    """Send a message for each file that is not done: all of them in one step, or none."""
    root = store.get("root")
    measure_file.send_many((root, path) for path in store.missing_files())


def send_reduction() -> None:
    """Send a group with a message per package; when all are done, the pipeline starts."""
    # message() would ask for the arguments, which here are the results of the step before.
    first = collect.message()
    pipeline = first | rank.message_with_options() | write_report.message_with_options()
    summaries: dramatiq.group[None] = dramatiq.group(
        summarise_package.message(package) for package in store.packages()
    )
    # The first message of a pipeline carries the others.
    summaries.add_completion_callback(pipeline.messages[0])
    summaries.run()
