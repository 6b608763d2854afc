"""What is wrong with Redis is named by its errors, whatever its version, and each change is told once."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,  # noqa: A004 - the name that redis-py has given it
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from cell_worker.contract.redis_client import SETTLED_S, RedisFault, RedisHealth, fault_of, why_unusable

IN_A_SCRIPT = (
    "Error running script (call to f_1): @user_script:1: -READONLY You can't write against a read only replica."
)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ReadOnlyError("You can't write against a read only replica."), "read-only"),
        (ResponseError(IN_A_SCRIPT), "read-only"),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "full"),
        (ResponseError("MISCONF Valkey is configured to save RDB snapshots"), "cannot save"),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "too few replicas"),
        (AuthenticationError("Authentication required."), "login refused"),
        (AuthenticationError("invalid username-password pair or user is disabled."), "login refused"),
        (NoPermissionError("User cells has no permissions to run the 'hset' command"), "permission refused"),
        (ResponseError("BUSY Redis is busy running a script."), "refuses"),
        (ConnectionError("Connection refused"), "unreachable"),
        (OSError("Broken pipe"), "unreachable"),
        (TimeoutError(), "unreachable"),
    ],
)
def test_an_error_names_what_is_wrong(error: Exception, fault: str) -> None:
    """redis-py cuts some codes off and has classes for them; Redis 6 puts words before the others."""
    assert fault_of(error) == fault
    assert ": " in why_unusable(error)


def test_each_change_is_told_once() -> None:
    """Reads that succeed among writes that fail are no change; all is well when nothing has failed for a while."""
    told: list[RedisFault | None] = []
    health = RedisHealth(lambda fault, _: told.append(fault))
    health.answered(0)
    for at in range(10):
        health.failed(at, ReadOnlyError("no"))
        health.answered(at + 0.5)
    assert told == [RedisFault.READ_ONLY]
    health.failed(10, TimeoutError())
    health.failed(11, ReadOnlyError("no"))
    assert told == [RedisFault.READ_ONLY, RedisFault.UNREACHABLE]
    health.answered(11 + SETTLED_S)
    health.answered(12 + SETTLED_S)
    assert told == [RedisFault.READ_ONLY, RedisFault.UNREACHABLE, None]
    health.failed(20, ReadOnlyError("no"))
    assert told[3:] == [RedisFault.READ_ONLY]
