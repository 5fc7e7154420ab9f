"""Flights: of the threads that want the same thing, one makes it and the others wait for that.

Rules
  1. A flight is in the table from before its maker looks for the last time until after it has stored what it
     made: who finds none has yet to look.
  2. What goes wrong goes wrong for all who wait; but an exception that is about one thread alone, such as
     KeyboardInterrupt, leaves the others to try themselves.
  3. Who waits for what it is making itself would wait for ever, and is told so.

Thread safety: any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

PATIENCE = 1.0  # seconds between two looks at whether a flight is still there


class Flight:
    """One thing being made: by which thread, and what has become of it."""

    __slots__ = ("done", "failure", "maker", "result")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.maker = threading.get_ident()
        self.result: bytes | None = None
        self.failure: Exception | None = None


class Flights:
    """The things being made, by key."""

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}

    def make(self, key: bytes, make: Callable[[], bytes]) -> bytes:
        """Return what `make` returns, called here, or by another thread that wants the same.

        Raises:
            RuntimeError: this thread is making it already.
            Exception: what `make` raised.
        """
        while True:
            mine = Flight()
            try:
                flight = self._flights.setdefault(key, mine)
                if flight is mine:
                    mine.result = result = make()
                    return result
            except Exception as exc:  # rule 2
                mine.failure = exc
                raise
            finally:  # wherever an interruption came: those who wait must not wait for ever
                if self._flights.get(key) is mine:
                    del self._flights[key]
                mine.done.set()
            if flight.maker == mine.maker:  # rule 3
                raise RuntimeError("a value is asked for by the function that is computing it")
            while not flight.done.wait(PATIENCE) and self._flights.get(key) is flight:
                pass  # else an interruption came between the two last steps above
            if flight.failure is not None:
                raise flight.failure
            if flight.result is not None:
                return flight.result
