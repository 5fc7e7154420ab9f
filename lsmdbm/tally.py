"""Tally: entries that go by, counted, reported and checked; for what moves many of them.

Rules
  1. What cannot be stored ends it, with an error that names the entry: nothing is left out.
  2. `progress` is called between two entries, so that what it raises ends it too.

Thread safety: one thread at a time.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lsmdbm._base.chunk import MAX_KEY_BYTES, MAX_VALUE_BYTES
from lsmdbm._base.errors import error
from lsmdbm.coercion import key_bytes, value_bytes

Progress = Callable[[int, "int | None"], object]

PROGRESS_ENTRIES = 1000  # between two calls of `progress`


class Tally:
    """Counts entries as they go by, and reports them."""

    def __init__(self, progress: Progress | None, source: Any) -> None:
        self.done = 0
        self._progress = progress
        counts = progress is not None and hasattr(source, "__len__")
        self._total: int | None = len(source) if counts else None  # for some modules a pass over all keys

    def over(self, entries: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """Pass entries on."""
        for entry in entries:
            if self._progress is not None and self.done and self.done % PROGRESS_ENTRIES == 0:
                self._progress(self.done, self._total)
            self.done += 1
            yield entry

    def place(self, key: object) -> str:
        """Return words for the entry that went by last."""
        return f"entry {self.done}, key {reprlib.repr(key)}"

    def compare(self, count: int, path: str) -> None:
        """Raise an `error` if not as many keys are there as entries were written (rule 1)."""
        if count != self.done:
            raise error(f"{path}: holds {count} keys after {self.done} entries were copied into it")

    def report(self) -> None:
        """Say how far it is."""
        if self._progress is not None:
            self._progress(self.done, self._total)


def checked(entries: Iterable[tuple[Any, Any]], tally: Tally) -> Iterator[tuple[bytes, bytes]]:
    """Yield entries as bytes.

    Raises:
        TypeError, ValueError: an entry cannot be stored; its number and its key are named.
    """
    for key, value in entries:
        if (
            type(key) is bytes
            and type(value) is bytes
            and len(key) <= MAX_KEY_BYTES
            and len(value) <= MAX_VALUE_BYTES
        ):
            yield key, value
            continue
        try:
            entry = key_bytes(key), value_bytes(value)
        except (TypeError, ValueError) as exc:
            kind = TypeError if isinstance(exc, TypeError) else ValueError
            raise kind(f"{tally.place(key)}: {exc}") from exc
        yield entry
