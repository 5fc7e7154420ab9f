"""A worker in this very process, on the storage of the test, which goes on only while somebody listens to it.

    with hired(): ...           every compaction of background="process" on a CrashStorage goes to a Hand
    with hired(lives=3): ...    ... which is dead after so many steps

Thread safety: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lsmdbm._base.storage import Storage
from lsmdbm._engine import delegate
from lsmdbm._engine.worker import Worker
from support.crash_storage import CrashStorage


class Hand:
    """Answers to what `lsmdbm._base.process.Process` does.

    Args:
        storage: where its worker finds the files.
        lives: how many steps it does before it dies; None for as long as it is wanted.

    Attributes:
        is_ended: whether its parent has ended it.
    """

    pid = 0

    def __init__(self, storage: Storage, lives: int | None = None) -> None:
        self._orders = bytearray()
        self._answers = bytearray()
        self._lives = lives
        self._worker = Worker(self._Pipe(self), storage)  # type: ignore[arg-type]
        self.is_ended = False

    class _Pipe:
        """The end of the worker."""

        is_clogged = False

        def __init__(self, hand: Hand) -> None:
            self._hand = hand

        def receive(self, timeout: float) -> bytes | None:
            data = bytes(self._hand._orders)
            self._hand._orders.clear()
            return data

        def send(self, data: bytes) -> None:
            self._hand._answers += data

    def is_alive(self) -> bool:
        return not self.is_ended and self._lives != 0

    def send(self, data: bytes) -> None:
        self._orders += data

    def receive(self, timeout: float) -> bytes | None:
        is_patient = True
        while is_patient and not self._answers:
            if not self.is_alive():
                return None
            if self._lives is not None:
                self._lives -= 1
            self._worker.turn()
            is_patient = timeout > 0
        data = bytes(self._answers)
        self._answers.clear()
        return data

    def kill(self) -> None:
        self.is_ended = True

    def end(self) -> None:
        self.kill()


@contextmanager
def hired(lives: int | None = None) -> Iterator[list[Hand]]:
    """Give every compaction to hands; yield all there were, oldest first."""
    made: list[Hand] = []

    def hire(storage: Storage) -> Hand:
        made.append(Hand(storage, lives))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CrashStorage, "workers", staticmethod(hire))
        patch.setattr(delegate, "WORTH_BYTES", 1)
        yield made
