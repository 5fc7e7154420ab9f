"""Retries: a function is called with one transaction after the other, until one is committed.

Rules
  1. The waits between two attempts are random and grow: two that met once do not meet again and again.

Thread safety: as its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from lsmdbm._base.errors import ConflictError
from lsmdbm._base.storage import Storage

T = TypeVar("T")
X = TypeVar("X")

ATTEMPTS = 20
FIRST_WAIT, LONGEST_WAIT = 0.001, 0.1  # seconds between two attempts, at most
RANDOM_BYTES = 4


def waits(storage: Storage, attempts: int) -> Iterator[float | None]:
    """Yield how long to wait behind each attempt that was in conflict; None behind the last one (rule 1).

    Raises:
        ValueError: there would be no attempt.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts}")
    longest = FIRST_WAIT
    for _ in range(attempts - 1):
        yield longest * int.from_bytes(storage.urandom(RANDOM_BYTES), "little") / (1 << 8 * RANDOM_BYTES)
        longest = min(2 * longest, LONGEST_WAIT)
    yield None


def retried(
    storage: Storage,
    begin: Callable[[], AbstractContextManager[X]],
    function: Callable[[X], T],
    attempts: int,
) -> T:
    """Do what `Database.run` does.

    Args:
        storage: whose clock and randomness are used.
        begin: returns a transaction, which is committed when its block is left.
        function: see `Database.run`, and so `attempts`.
    """
    pauses = waits(storage, attempts)
    while True:
        pause = next(pauses)
        try:
            with begin() as transaction:
                return function(transaction)
        except ConflictError:
            if pause is None:
                raise
        storage.sleep(pause)
