"""What is installed here, for people who report a bug and those who read it."""

from __future__ import annotations

import platform
import sys
import sysconfig
from importlib import metadata
from typing import Any

__all__ = ["describe_environment"]

#: Distributions that matter of each extra.
EXTRAS = {
    "redis": ("redis", "hiredis"),
    "rabbitmq": ("pika",),
    "memcached": ("pylibmc",),
    "postgres": ("psycopg",),
    "sqs": ("boto3",),
    "prometheus": ("prometheus-client",),
    "otel": ("opentelemetry-api",),
    "watch": ("watchfiles",),
    "gevent": ("gevent",),
    "dashboard": ("starlette",),
    "tui": ("textual",),
}


def describe_environment() -> dict[str, Any]:
    """Return versions of the library, the interpreter, the system and the installed extras."""
    from dramatiq import __version__  # late: the package imports lower layers first

    has_no_gil = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return {
        "dramatiq": __version__,
        "python": platform.python_version() + (" free-threaded" if has_no_gil else ""),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "extras": {
            extra: {name: version for name in names if (version := _version_of(name))}
            for extra, names in EXTRAS.items()
        },
    }


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
