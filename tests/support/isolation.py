"""The oracle of transactions: a model at its begin, one with its changes, and what it has seen.

    expected = Isolated(model)          begin
    expected.get(key)                   what the transaction must answer; the look is noted
    expected.conflicts(model)           keys of which one must be named at its commit; none: it must succeed

It goes by the definition: a transaction may commit if everything that it has read or written has the value
that it had at its begin.  Nothing in it comes from lsmdbm.

Thread safety: none.
"""

from __future__ import annotations

from typing import NamedTuple

from support.model import Model, Pair


class Seen(NamedTuple):
    """Keys with `start <= key < stop`, their values too or not; None leaves a side open."""

    start: bytes | None
    stop: bytes | None
    keys_only: bool


class Isolated:
    """What one transaction must read, and what it must be in conflict with.

    Args:
        now: the content at its begin.
    """

    def __init__(self, now: Model) -> None:
        self.base = now.copy()
        self.model = now.copy()
        self.written: set[bytes] = set()
        self.looked_at: set[bytes] = set()
        self.seen: list[Seen] = []

    # Reads

    def get(self, key: bytes) -> bytes | None:
        """Return what a look must give."""
        if key not in self.written:
            self.looked_at.add(key)
        return self.model.get(key)

    def walk(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool, count: int | None
    ) -> list[Pair]:
        """Return what a walk must give that is broken off after so many entries; None: it is not."""
        entries = self.model.range(start, stop, reverse=reverse)
        if count is None or count > len(entries):
            self.seen.append(Seen(start, stop, keys_only))
            return entries
        if count:
            edge = entries[count - 1][0]
            part = (edge, stop) if reverse else (start, edge + b"\0")
            self.seen.append(Seen(*part, keys_only))
        return entries[:count]

    def end(self, start: bytes | None, stop: bytes | None, *, reverse: bool) -> Pair | None:
        """Return the first entry of a range, the last one if `reverse`."""
        found = self.walk(start, stop, reverse=reverse, keys_only=False, count=1)
        return found[0] if found else None

    def length(self, start: bytes | None = None, stop: bytes | None = None) -> int:
        """Return how many keys there are."""
        return len(self.walk(start, stop, reverse=False, keys_only=True, count=None))

    # Writes

    def put(self, key: bytes, value: bytes) -> None:
        """Set one key."""
        self.model.put(key, value)
        self.written.add(key)

    def pop(self, key: bytes) -> bytes | None:
        """Delete one key, after a look; of what is not there, nothing is written."""
        value = self.get(key)
        if value is not None:
            self.model.delete(key)
            self.written.add(key)
        return value

    def delete_range(self, start: bytes | None, stop: bytes | None) -> None:
        """Delete what a walk finds."""
        for key, _ in self.walk(start, stop, reverse=False, keys_only=True, count=None):
            self.model.delete(key)
            self.written.add(key)

    def mark(self) -> tuple[Model, set[bytes]]:
        """Return what `go_back` takes."""
        return self.model.copy(), set(self.written)

    def go_back(self, mark: tuple[Model, set[bytes]]) -> None:
        """Forget the changes since; what was seen stays seen."""
        self.model, self.written = mark[0].copy(), set(mark[1])

    # The end

    def changes(self) -> dict[bytes, bytes | None]:
        """Return what a commit writes."""
        return {key: self.model.get(key) for key in self.written}

    def conflicts(self, now: Model) -> set[bytes]:
        """Return the keys that it has read or written and that are not as they were."""
        if not self.written:
            return set()
        changed = {key for key in {*self.base.entries, *now.entries} if self.base.get(key) != now.get(key)}
        came_or_went = {key for key in changed if (key in self.base) != (key in now)}
        found = changed & (self.looked_at | self.written)
        for start, stop, keys_only in self.seen:
            found |= {
                key
                for key in (came_or_went if keys_only else changed)
                if (start is None or start <= key) and (stop is None or key < stop)
            }
        return found
