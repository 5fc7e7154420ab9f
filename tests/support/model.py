"""The oracle: an ordered map of bytes as a dict, with a sorted list of its keys made when it is asked for.

It is obviously right and slow.  Nothing in it comes from lsmdbm.

Thread safety: none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Pair = tuple[bytes, bytes]


class Model:
    """What a database must contain after the same calls."""

    def __init__(self, entries: Mapping[bytes, bytes] | None = None) -> None:
        self.entries = dict(entries or {})
        self._keys: list[bytes] | None = None

    def copy(self) -> Model:
        """Return the state of this moment."""
        return Model(self.entries)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Model):
            return self.entries == other.entries
        return self.entries == other if isinstance(other, dict) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self.entries

    def __repr__(self) -> str:
        return f"Model({dict(self.range())!r})"

    # Writes

    def put(self, key: bytes, value: bytes) -> None:
        """Enter or replace."""
        if key not in self.entries:
            self._keys = None
        self.entries[key] = value

    def delete(self, key: bytes) -> bool:
        """Take a key away; return whether it was there."""
        self._keys = None
        return self.entries.pop(key, None) is not None

    def update(self, pairs: Mapping[bytes, bytes | None] | Iterable[tuple[bytes, bytes | None]]) -> None:
        """Put many in order; a value of None deletes."""
        for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            if value is None:
                self.delete(key)
            else:
                self.put(key, value)

    def delete_range(self, start: bytes | None = None, stop: bytes | None = None) -> None:
        """Take away every key with `start <= key < stop`."""
        for key, _ in self.range(start, stop):
            self.delete(key)

    def clear(self) -> None:
        """Take everything away."""
        self._keys = None
        self.entries.clear()

    # Reads

    def get(self, key: bytes) -> bytes | None:
        """Return the value, None if there is none."""
        return self.entries.get(key)

    def keys(self) -> list[bytes]:
        """Return all keys, ascending."""
        if self._keys is None:
            self._keys = sorted(self.entries)
        return list(self._keys)

    def range(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
    ) -> list[Pair]:
        """Return the pairs with `start <= key < stop` that begin with `prefix`; None leaves a side open."""
        chosen = [
            (key, self.entries[key])
            for key in self.keys()
            if (start is None or start <= key) and (stop is None or key < stop) and key.startswith(prefix)
        ]
        return chosen[::-1] if reverse else chosen

    def first(self) -> Pair | None:
        """Return the pair with the smallest key."""
        return next(iter(self.range()), None)

    def last(self) -> Pair | None:
        """Return the pair with the largest key."""
        return next(iter(self.range(reverse=True)), None)


def sum_of(value: bytes | None, delta: int) -> int | None:
    """Return the number that an increment must leave; None if the value is none, and must be refused."""
    if value is None:
        return delta
    return int(value) + delta if re.fullmatch(rb"-?[0-9]+", value) else None
