"""What is worth knowing about a Redis server: version, role, memory, persistence and clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...inspection import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...redis import LinkPool

__all__ = ["diagnose", "judge"]

#: The oldest server that has all commands.
OLDEST_VERSION = (6, 2)
#: Share of the memory limit from which on senders may soon be refused.
MUCH_MEMORY = 0.9
#: Milliseconds by which clocks may differ before delays and dead letters' ages are off.
CLOCK_SKEW_MS = 1_000


def diagnose(links: LinkPool) -> list[Finding]:
    """Return findings about a server; of a cluster, about one of its nodes.

    Raises:
        BrokerConnectionError: If it cannot be reached.
    """
    with links.borrow() as link:
        information, policy, save = link.call(
            [
                ("INFO",),
                ("CONFIG", "GET", "maxmemory-policy"),
                ("CONFIG", "GET", "save"),
            ]
        )
        asked_at = time.time()
        (moment,) = link.call([("TIME",)])
        answered_at = time.time()
    facts = _parse(information)
    # Hosted servers may keep their configuration to themselves.
    facts.setdefault("maxmemory_policy", _setting(policy) or "")
    facts["save"] = _setting(save) or ""
    skew_ms = None
    if not isinstance(moment, Exception):
        server_at = int(moment[0]) + int(moment[1]) / 1_000_000
        skew_ms = (server_at - (asked_at + answered_at) / 2) * 1000
    return judge(facts, skew_ms)


def judge(facts: Mapping[str, str], skew_ms: float | None) -> list[Finding]:
    """Return what follows from the facts of a server.

    Args:
        facts: The fields of ``INFO``, and the setting ``save``; any may be missing.
        skew_ms: By how many milliseconds the server's clock is ahead of ours.
    """
    return [
        *_version(facts),
        *_role(facts),
        *_memory(facts),
        *_persistence(facts),
        *_clock(skew_ms),
    ]


def _version(facts: Mapping[str, str]) -> Iterator[Finding]:
    version = facts.get("redis_version")
    if version is None:
        yield Finding(Level.NOTE, "The server does not tell its version.")
        return
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if parts < OLDEST_VERSION:
        yield Finding(Level.PROBLEM, f"Redis {version} is too old: 6.2 or newer is needed.")
    else:
        yield Finding(Level.OK, f"Redis {version}")


def _role(facts: Mapping[str, str]) -> Iterator[Finding]:
    if facts.get("role") == "slave":
        yield Finding(
            Level.PROBLEM,
            "This server is a replica, and replicas cannot be written to. Use the address of the "
            "primary, or a client that asks the sentinels.",
        )


def _memory(facts: Mapping[str, str]) -> Iterator[Finding]:
    policy = facts.get("maxmemory_policy")
    if policy == "noeviction":
        yield Finding(Level.OK, "maxmemory-policy is noeviction")
    elif policy:
        yield Finding(
            Level.PROBLEM,
            f"maxmemory-policy is {policy}: a full server drops messages. Set it to noeviction.",
        )
    else:
        yield Finding(Level.NOTE, "The server does not tell its maxmemory-policy.")
    limit, used = int(facts.get("maxmemory") or 0), int(facts.get("used_memory") or 0)
    if limit and used > limit * MUCH_MEMORY:
        yield Finding(
            Level.PROBLEM,
            f"{used / limit:.0%} of the server's memory limit are used; new messages are refused "
            "when it is full.",
        )


def _persistence(facts: Mapping[str, str]) -> Iterator[Finding]:
    if facts.get("aof_enabled") == "1":
        yield Finding(Level.OK, "appendonly is on")
        if facts.get("aof_last_write_status", "ok") != "ok":
            yield Finding(Level.PROBLEM, "The last write to the append-only file failed.")
    elif facts.get("save"):
        yield Finding(
            Level.NOTE,
            "appendonly is off: what was sent since the last snapshot is lost if the server dies. "
            "Set it to yes if messages are to survive.",
        )
    else:
        yield Finding(
            Level.NOTE,
            "appendonly is off, and no snapshots are configured as far as the server tells: its "
            "restart loses all messages. Set appendonly to yes if they are to survive.",
        )
    if facts.get("rdb_last_bgsave_status", "ok") != "ok":
        yield Finding(
            Level.PROBLEM,
            "The last snapshot failed; the server may refuse to be written to. Is its disk full?",
        )


def _clock(skew_ms: float | None) -> Iterator[Finding]:
    if skew_ms is None:
        return
    if abs(skew_ms) > CLOCK_SKEW_MS:
        direction = "ahead of" if skew_ms > 0 else "behind"
        yield Finding(
            Level.PROBLEM,
            f"The server's clock is {abs(skew_ms) / 1000:.1f} s {direction} this machine's: delays "
            "are off by as much. Synchronise the clocks.",
        )
    else:
        yield Finding(Level.OK, "The clocks of server and machine agree")


def _parse(information: Any) -> dict[str, str]:
    if isinstance(information, Exception):
        return {}
    lines = information.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _setting(answer: Any) -> str | None:
    if isinstance(answer, Exception) or not answer:
        return None
    if isinstance(answer, dict):  # RESP3
        return bytes(next(iter(answer.values()))).decode()
    return bytes(answer[1]).decode() if len(answer) > 1 else None
