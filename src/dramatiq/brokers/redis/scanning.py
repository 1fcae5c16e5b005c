"""Walking through what may be too much for one answer, and reading answers of both protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...redis import Link

__all__ = ["find_id", "flat", "scan_hash", "scan_keys", "scored"]

#: About how many keys or fields the server looks at for one answer.
COUNT = 1000


def scan_keys(link: Link, prefix: bytes, suffix: bytes = b"") -> set[bytes]:
    """Return the keys of the database that begin and end so."""
    pattern = _literally(prefix) + b"*" + _literally(suffix)
    found: set[bytes] = set()
    cursor: Any = b"0"
    while True:
        [[cursor, keys]] = link.call([(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", COUNT)])
        found.update(keys)
        if int(cursor) == 0:
            return found


def scan_hash(link: Link, key: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fields of a hash with their values; a field may come twice."""
    cursor: Any = b"0"
    while True:
        [[cursor, found]] = link.call([(b"HSCAN", key, cursor, b"COUNT", COUNT)])
        pairs = flat(found)
        yield from zip(pairs[::2], pairs[1::2], strict=True)
        if int(cursor) == 0:
            return


def find_id(link: Link, ids_key: bytes, payloads_key: bytes, payload: bytes) -> bytes | None:
    """Return the id of a payload, out of a set of ids, for a payload that does not tell it."""
    [found] = link.call([(b"SMEMBERS", ids_key)])
    ids = list(found)
    if not ids:
        return None
    [payloads] = link.call([(b"HMGET", payloads_key, *ids)])
    by_payload: dict[bytes, bytes] = dict(zip(payloads, ids, strict=True))
    return by_payload.get(payload)


def flat(answer: Any) -> Sequence[bytes]:
    """Return fields and values as version 2 of the protocol gives them."""
    if isinstance(answer, dict):
        return [part for pair in answer.items() for part in pair]
    return answer or []


def scored(found: Any) -> list[tuple[bytes, int]]:
    """Return members with their scores, whichever version of the protocol gave them."""
    if found and isinstance(found[0], (list, tuple)):
        return [(member, int(float(score))) for member, score in found]
    return [
        (member, int(float(score))) for member, score in zip(found[::2], found[1::2], strict=True)
    ]


def _literally(text: bytes) -> bytes:
    """Return a pattern that matches exactly this."""
    return b"".join(b"\\" + bytes([c]) if c in b"*?[]\\^-" else bytes([c]) for c in text)
