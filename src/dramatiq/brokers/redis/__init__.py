"""The broker on Redis, Valkey and other servers that speak their protocol."""

from __future__ import annotations

from ...common import getenv_int
from .broker import (
    DEFAULT_DEAD_MESSAGE_TTL,
    DEFAULT_HEARTBEAT_TIMEOUT,
    DEFAULT_MAINTENANCE_CHANCE,
    RedisBroker,
)
from .commands import LUA_MAX_STACK_VARIABLE, MAINTENANCE_COMMAND_BLACKLIST, MAINTENANCE_SCALE
from .consumer import RedisConsumer

__all__ = [
    "DEFAULT_DEAD_MESSAGE_TTL",
    "DEFAULT_HEARTBEAT_TIMEOUT",
    "DEFAULT_LUA_MAX_STACK",
    "DEFAULT_MAINTENANCE_CHANCE",
    "MAINTENANCE_COMMAND_BLACKLIST",
    "MAINTENANCE_SCALE",
    "RedisBroker",
]

#: How many values Lua's ``unpack`` takes in the server, if the environment says so.
DEFAULT_LUA_MAX_STACK = getenv_int(LUA_MAX_STACK_VARIABLE)

#: The name under which plugins know it.
_RedisConsumer = RedisConsumer
