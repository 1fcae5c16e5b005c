"""The one admin door: what one may ask of queues, and do with them, whatever keeps them.

Command line, dashboard, tests and applications use `Broker.inspection` and nothing else. A broker
implements `Inspection` as far as its server allows; where it does not, the method raises
`InspectionNotSupported`, which says why. Values are plain; asking never takes a message.
"""

from __future__ import annotations

from .contract import AUDIT_SIZE, BATCH, Inspection, InspectionNotSupported
from .infos import (
    AuditEntry,
    DeadLetter,
    Finding,
    Level,
    MessageInfo,
    Page,
    QueueCounts,
    QueueInfo,
    RunningInfo,
    Selection,
    State,
    WorkerInfo,
    error_class_of,
)

__all__ = [
    "AUDIT_SIZE",
    "BATCH",
    "AuditEntry",
    "DeadLetter",
    "Finding",
    "Inspection",
    "InspectionNotSupported",
    "Level",
    "MessageInfo",
    "Page",
    "QueueCounts",
    "QueueInfo",
    "RunningInfo",
    "Selection",
    "State",
    "WorkerInfo",
    "error_class_of",
]
