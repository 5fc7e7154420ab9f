"""Draft: a moment with changes of one's own over it, which nobody else sees before they are committed.

    own memtables      what was written into the draft, newest first
    base               the view of the moment
    view               both: what the draft reads

Rules
  1. The changes are more memtables over those of the moment: reads, ranges and the length are those of any
     view.  A walk and a mark seal what is active, so that nothing below them moves.
  2. What the moment says counts as read, what the draft's own memtables say does not.
  3. What was read stays read when the changes are taken back.

Thread safety: used by one thread at a time.  `close` may come from any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from lsmdbm._base.chunk import Chunks
from lsmdbm._engine.count import census
from lsmdbm._engine.dead import DeadRanges
from lsmdbm._engine.memtable import Memtable, fold_newest
from lsmdbm._engine.moment import Moment
from lsmdbm._engine.validation import Footprint, Reads
from lsmdbm._engine.view import GoneView, View

Mark = tuple[Memtable, ...]  # the memtables of a draft, all of them sealed


class Draft(Moment):
    """Changes over one state of a store.

    Args:
        base: nothing changes it any more.
        after_close: see Moment.
    """

    __slots__ = ("base", "reads")

    def __init__(self, base: View, after_close: Callable[[], None]) -> None:
        super().__init__(base.with_active(Memtable(base.active.first_seq), base.sealed), after_close)
        self.base = base
        self.reads = Reads()

    # -- reading ------------------------------------------------------------------------------------

    def _own(self) -> Mark:
        view = self.view
        return (view.active, *view.sealed[: len(view.sealed) - len(self.base.sealed)])

    def _is_own(self, key: bytes) -> bool:
        return any(key in memtable.entries for memtable in self._own())

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if there is none."""
        self.check_open()
        if not self._is_own(key):
            self.reads.keys.add(key)
        return self.view.get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that have one."""
        self.check_open()
        self.reads.keys.update(key for key in keys if not self._is_own(key))
        return super().get_many(keys)

    def chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> Chunks:
        """Return the entries with `start <= key < stop`, as they are now, as a stream of chunks."""
        self.check_open()
        low, high = self._dead.narrowed(start, stop)
        chunks = self._pin().chunks(low, high, reverse=reverse, keys_only=keys_only)
        return self.reads.walk(chunks, start, stop, reverse=reverse, keys_only=keys_only)

    def first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> tuple[bytes, bytes] | None:
        """Return the first entry of a range, the last one if `reverse`; None if there is none."""
        found = super().first(start, stop, reverse=reverse, keys_only=keys_only)
        key = None if found is None else found[0]
        self.reads.end_of(start, stop, key, reverse=reverse, keys_only=keys_only)
        return found

    def length(self) -> int:
        """Return the exact number of keys."""
        self.check_open()
        view = self._pin()
        self.base.table_keys, total = census(view)  # a memo: it was true all along
        self.view = view.with_table_keys(self.base.table_keys)
        self.reads.end_of(None, None, None, reverse=False, keys_only=True)
        return total

    # -- writing ------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Set one key."""
        self.check_open()
        self._dead.revive(key)
        self.view.active.entries[key] = value

    def delete(self, key: bytes) -> None:
        """Delete one key, which need not be there."""
        self.check_open()
        active = self.view.active
        active.deletes = True
        active.entries[key] = None

    def changes(self) -> dict[bytes, bytes | None]:
        """Return all that was written, None for what was deleted."""
        self.check_open()
        changes: dict[bytes, bytes | None] = {}
        for memtable in reversed(self._own()):
            changes.update(memtable.entries)
        return changes

    def footprint(self) -> Footprint:
        """Return what must be as it was for the changes to be committed."""
        return self.reads.footprint(key for memtable in self._own() for key in memtable.entries)

    # -- marks --------------------------------------------------------------------------------------

    def _pin(self) -> View:
        """Return a view that nothing changes any more: see `Tree.pin`."""
        view = self.view
        if view.active.entries:
            sealed = fold_newest((view.active, *view.sealed), len(self.base.sealed))
            view = self.view = view.with_active(self._blank(), sealed)
        return view.with_active(self._blank(), view.sealed)

    def _blank(self) -> Memtable:
        return Memtable(self.base.active.first_seq)

    def mark(self) -> Mark:
        """Return what `go_back` takes.  O(1), but for folding small memtables."""
        self.check_open()
        return self._pin().sealed

    def go_back(self, mark: Mark) -> None:
        """Forget what was written since a mark.  O(1)."""
        self.check_open()
        self._dead = DeadRanges()  # some may be alive again; forgotten first, if an exception comes between
        self.view = self.view.with_active(self._blank(), mark)

    def close(self, *why: str) -> None:
        """Let go of everything: see Moment."""
        super().close(*why)
        self.base = cast(View, GoneView(*why))
