"""Import the application and ask its broker for a sign of life: for `--check`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import BrokerConnectionError
from .failures import RET_OK, exit_code_for, explain, refuse_warnings
from .imports import import_broker, import_object
from .logs import log_level
from .summary import describe_broker, describe_queues, warn_about_actors, warn_about_queues

if TYPE_CHECKING:
    import argparse

    from ..broker import Broker

#: The broker cannot be reached. Only `--check` ends with it for this reason.
RET_UNREACHABLE = 4


def check(args: argparse.Namespace, logger: logging.Logger) -> int:
    """Do what a worker does before it starts, in this process, and tell how it went.

    No hook is run and no message is taken.

    Returns:
        0; the code with which a worker would end that cannot boot; or 4 if the application is
        fine and its broker cannot be reached.
    """
    try:
        broker = _import_all(args, logger)
    except (Exception, SystemExit) as error:  # user code may raise anything
        logger.error("%s", explain(error, is_verbose=log_level(args) <= logging.DEBUG))  # noqa: TRY400
        return exit_code_for(error)
    try:
        is_known = _ping(broker)
    except BrokerConnectionError as error:
        logger.error("The broker, %s, cannot be reached: %s", describe_broker(broker), error)  # noqa: TRY400
        return RET_UNREACHABLE
    finally:
        broker.close()
    how = "answers" if is_known else "is of a kind that cannot be asked whether it can be reached"
    logger.info("The application is fine. Its broker, %s, %s.", describe_broker(broker), how)
    return RET_OK


def _import_all(args: argparse.Namespace, logger: logging.Logger) -> Broker:
    _, broker = import_broker(args.broker)
    for module_name in getattr(args, "modules", ()):
        import_object(module_name)

    queues, excluded = getattr(args, "queues", None), getattr(args, "exclude_queues", None)
    warnings = warn_about_queues(broker, [*(queues or ()), *(excluded or ())])
    warnings += warn_about_actors(broker, queues, excluded)
    if getattr(args, "strict", False):
        refuse_warnings(warnings)
    for line in describe_queues(broker, queues, excluded):
        logger.info("  %s", line)
    for line in warnings:
        logger.warning("%s", line)
    return broker


def _ping(broker: Broker) -> bool:
    """Make the broker's server answer; tell whether there is a way to.

    Raises:
        BrokerConnectionError: It does not answer.
    """
    count = getattr(broker, "queue_counts", None)
    if count is None:
        return False
    count(min(broker.get_declared_queues(), default="default"))
    return True
