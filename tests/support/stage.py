"""The engine without a store: memtables, tables and versions made from dicts, on a disk in memory.

    stage = Stage(block_bytes=64)
    stage.add(1, {b"a": b"1"})            a table in level 1; of level 0 the newest
    stage.view(memtable({b"a": None}))    a view with this sealed memtable

Thread safety: none.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TypeVar

from lsmdbm._base.chunk import Chunk
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Storage
from lsmdbm._engine.jobs import Workshop, compact, flush
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.names import TABLE, Counter
from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version
from lsmdbm._engine.view import View
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_writer import Origin
from support.crash_storage import CrashStorage
from support.format import finish, table_writer

Entries = Mapping[bytes, "bytes | None"]
Result = TypeVar("Result")


def memtable(entries: Entries, first_seq: int = 1) -> Memtable:
    """Return a sealed memtable; what an entry is charged is about what its log record takes."""
    made = Memtable(first_seq, dict(entries))
    made.last_seq = first_seq + len(entries) - 1
    made.deletes = None in entries.values()
    made.charge = sum(len(key) + len(value or b"") + 12 for key, value in entries.items())
    return made


def merged(layers: Iterable[Entries]) -> dict[bytes, bytes | None]:
    """Return the union of layers given newest first, the newest winning; tombstones included."""
    union: dict[bytes, bytes | None] = {}
    for layer in reversed(list(layers)):
        union.update(layer)
    return dict(sorted(union.items()))


def live(layers: Iterable[Entries]) -> dict[bytes, bytes]:
    """Return what a read must see of layers given newest first."""
    return {key: value for key, value in merged(layers).items() if value is not None}


def chunk(entries: Entries) -> Chunk:
    """Return entries as one chunk."""
    keys = sorted(entries)
    return keys, [entries[key] for key in keys]


def run(steps: Generator[int, None, Result]) -> tuple[Result, list[int]]:
    """Run a job to its end; return its result and what each step said it was worth."""
    worth = []
    while True:
        try:
            worth.append(next(steps))
        except StopIteration as end:
            return end.value, worth


def table_meta(
    number: int, smallest: bytes, largest: bytes, *, file_bytes: int = 10, tombstones: int = 0
) -> TableMeta:
    """Return what a manifest would say of a table that does not exist."""
    return TableMeta(
        number=number,
        file_bytes=file_bytes,
        footer_crc=0,
        entries=max(2, tombstones),
        tombstones=tombstones,
        raw_bytes=20,
        first_seq=number,
        last_seq=number,
        smallest=smallest,
        largest=largest,
    )


class Stage:
    """Tables on a storage, and the current version of them.

    Args:
        storage: where; a new CrashStorage if it is left out.
        path: the directory.
        limits: those of the options if they are left out.
        options: by name, on top of small ones that suit tests.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        path: str = "/",
        *,
        limits: Limits | None = None,
        **options: int | str | None,
    ) -> None:
        self.storage = CrashStorage() if storage is None else storage
        self.directory = self.storage.directory(path, 0o666)
        self.options = Options.choose({"memtable_bytes": 1 << 16, "block_bytes": 256, **options})
        self.tables = Tables(self.directory, self.options)
        self.numbers = Counter(1)
        self.shop = Workshop(
            self.storage,
            self.directory,
            self.numbers,
            self.tables,
            self.options,
            Limits.of(self.options) if limits is None else limits,
        )
        self.version = self.tables.track(Version())
        self.contents: dict[int, Entries] = {}  # by table number, for tables made by add()

    def table(self, entries: Entries) -> TableMeta:
        """Return a new table of these entries that is in no version yet."""
        number, file = self.numbers.create(self.directory, TABLE)
        writer = table_writer(
            file,
            number=number,
            salt=number,
            block_bytes=self.options.block_bytes,
            level=self.options.compression_level if self.options.compression else None,
            bloom_bits=self.options.bloom_bits_per_key,
        )
        writer.add(*chunk(entries))
        meta = finish(writer, Origin(0, number, number))
        file.fsync()
        self.contents[number] = dict(entries)
        return meta

    def add(self, level: int, *tables: Entries) -> list[TableMeta]:
        """Put new tables into a level, one for each mapping; into level 0 the oldest first."""
        metas = [self.table(entries) for entries in tables]
        self.move_to((), {level: metas[::-1] if level == 0 else metas})
        return metas

    def move_to(self, removed: Sequence[TableMeta], added: Mapping[int, Sequence[TableMeta]]) -> None:
        """Make the next version the current one."""
        self.version = self.tables.track(self.version.replace(removed, added))

    def flush(self, *memtables: Memtable) -> list[TableMeta]:
        """Flush memtables, given newest first, into level 0."""
        metas, _ = run(flush(memtables, self.shop))
        self.move_to((), {0: metas})
        return metas

    def compact(self, plan: Plan) -> list[TableMeta]:
        """Carry a plan out."""
        metas, _ = run(compact(plan, self.version, self.shop))
        self.move_to(plan.inputs, {plan.level: metas})
        return metas

    def merge_of(self, level: int, *runs: Sequence[TableMeta]) -> Plan:
        """Return the plan that merges runs, given newest first, into a level."""
        return Plan(level, tuple(map(tuple, runs)))

    def view(self, *sealed: Memtable, active: Entries | None = None, table_keys: int | None = None) -> View:
        """Return a view of the current version and these sealed memtables, newest first."""
        return View(memtable(active or {}), sealed, self.version, self.tables, table_keys)

    def layers(self) -> list[Entries]:
        """Return the contents of the tables made by add(), newest first."""
        return [self.contents[meta.number] for meta in self.version]

    def entries(self, metas: Iterable[TableMeta]) -> dict[bytes, bytes | None]:
        """Return what is in tables that do not overlap, tombstones included."""
        found: dict[bytes, bytes | None] = {}
        for meta in metas:
            for keys, values in self.tables.reader(meta).chunks():
                found.update(zip(keys, values, strict=True))
        return found

    def files(self) -> set[str]:
        """Return the names in the directory."""
        return set(self.directory.listdir())

    def forget_readers(self) -> None:
        """Close all tables and empty the block cache."""
        self.tables.readers.clear()
        self.tables.blocks.clear()


class Calls:
    """What a CrashStorage was asked for since this was made, or since the last `clear()`."""

    def __init__(self, storage: CrashStorage) -> None:
        self._storage = storage
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._first = self._storage.count

    def paths(self, operation: str) -> list[str]:
        """Return the paths of the calls of one operation, in order."""
        return [path for name, path in self._storage.calls[self._first :] if name == operation]

    def count(self, operation: str) -> int:
        """Return the number of calls of one operation."""
        return len(self.paths(operation))
