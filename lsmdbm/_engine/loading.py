"""Loading: entries in any order into a new database, by tasks that any executor may run in any process.

    runs     as many entries as fit into memory are sorted and written, by one task, into tables
    merge    FAN_IN runs become one: its keys are cut into parts, and each part is merged by one task
    commit   the tables of the last run are one level of the new database: see destination.py

Rules
  1. A task creates files of its own numbers, complete and synced when it returns.  It takes no lock, writes
     no manifest, and unlinks only what it has written, if it fails.
  2. The parent gives the numbers, opens every table that a task says it has written, and unlinks.
  3. At most `in_flight` tasks are under way.  None of them is when `load` returns or raises, unless it was
     interrupted twice.
  4. Of entries with the same key the last one counts: a later run is newer.
  5. Runs that follow each other in order are not merged.

Thread safety: one thread for one database; tasks know nothing of each other.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.options import Options
from lsmdbm._base.paths import absolute
from lsmdbm._base.storage import Storage
from lsmdbm._engine.destination import Destination
from lsmdbm._engine.install import new_state
from lsmdbm._engine.jobs import Workshop, finished, rewrite
from lsmdbm._engine.merge import merge
from lsmdbm._engine.names import TABLE, Counter, file_name
from lsmdbm._engine.plan import Limits
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_writer import Origin

FAN_IN = 16  # each part of a merge opens so many tables
PART_TABLES = 4  # a part of a merge becomes about so many tables, at most
RUN_BLOCK_BYTES, RUN_COMPRESSION_LEVEL = 32 << 10, -5  # of tables that are read once, from end to end
CHUNK_ENTRIES = 1000  # that are given to the writer of a table together
CANDIDATES = 16  # keys of each table at which a merge may be cut: memory for more would grow with the data
NUMBERS = 1000  # set aside for the tables of one task; should it write more, it finds the next free ones
ENTRY_BYTES = 100  # of memory that an entry takes beyond its key and value, in either process
ORIGIN = Origin(1, 1, 1)  # of every table of a new database: one write, in level 1

Run = Sequence[TableMeta]  # in key order, without overlap
Gathered = tuple[list[bytes], list[bytes]]  # keys and their values, in the order in which they came
Task = Callable[[], list[TableMeta]]  # a partial of a function of this module: it can be pickled


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task works, and how."""

    storage: Storage
    path: str  # absolute
    mode: int
    options: Options
    number: int  # of its first table

    def write(self, chunks_of: Callable[[Tables], Chunks]) -> list[TableMeta]:
        """Write a stream of chunks, made of the tables that are there, into new tables."""
        with closing(self.storage.directory(self.path, self.mode)) as directory:
            tables = Tables(directory, self.options)
            with closing(tables):
                limits = Limits.of(self.options)
                counter = Counter(self.number)
                shop = Workshop(self.storage, directory, counter, tables, self.options, limits)
                return finished(rewrite(chunks_of(tables), ORIGIN, shop))


def build_run(place: Place, keys: list[bytes], values: list[bytes]) -> list[TableMeta]:
    """Sort entries, given in the order in which they count, and write them.  A task."""
    newest = dict(zip(keys, values, strict=True))  # rule 4
    ordered = sorted(newest)
    return place.write(lambda _: _slices(ordered, newest))


def _slices(keys: list[bytes], entries: dict[bytes, bytes]) -> Chunks:
    for low in range(0, len(keys), CHUNK_ENTRIES):
        part = keys[low : low + CHUNK_ENTRIES]
        yield part, [entries[key] for key in part]


def merge_part(place: Place, runs: Sequence[Run], start: bytes | None, stop: bytes | None) -> list[TableMeta]:
    """Merge what runs, given newest first, hold in `start <= key < stop`.  A task."""

    def chunks(run: Run, tables: Tables) -> Chunks:
        for meta in run:
            yield from tables.reader(meta).chunks(start, stop)

    return place.write(lambda tables: merge([chunks(run, tables) for run in runs]))


class _Inline:
    """Does each task at once, where no executor was given."""

    def submit(self, task: Task, /) -> Future[list[TableMeta]]:
        future: Future[list[TableMeta]] = Future()
        future.set_result(task())
        return future


class _Crew:
    """Has tasks done, a bounded number at a time; a context manager, left only when none is under way."""

    def __init__(self, executor: Executor | None, in_flight: int) -> None:
        self._executor = executor or _Inline()
        self._in_flight = in_flight
        self._pending: deque[Future[list[TableMeta]]] = deque()

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        wait([future for future in self._pending if not future.cancel()])  # rule 3: they create files

    def results(self, tasks: Iterable[Task]) -> Iterator[Run]:
        """Yield what the tasks return, in their order."""
        for task in tasks:
            while len(self._pending) >= self._in_flight:
                yield self._next()
            self._pending.append(self._executor.submit(task))
        while self._pending:
            yield self._next()

    def _next(self) -> Run:
        result = self._pending[0].result()
        self._pending.popleft()
        return result


class _Loader:
    """Loads one new database."""

    def __init__(self, destination: Destination, place: Place, crew: _Crew, in_flight: int) -> None:
        self._destination = destination
        self._place = place
        self._crew = crew
        self._in_flight = in_flight
        self._limits = Limits.of(place.options)
        self._last: bytes | None = None  # largest key of the runs so far,
        self._is_in_order = True  # of which each is above the one before

    def _next_place(self, *, is_final: bool) -> Place:
        """Return the place for another task.  Tables that will be merged are written in a hurry."""
        counter, options = self._destination.counter, self._place.options
        number = counter.reserve(NUMBERS)[0]
        if not is_final:
            options = options.replace(
                bloom_bits_per_key=0,
                block_bytes=max(options.block_bytes, RUN_BLOCK_BYTES),
                compression_level=min(options.compression_level, RUN_COMPRESSION_LEVEL),
            )
        return dataclasses.replace(self._place, number=number, options=options)

    def load(self, gathered: Iterable[Gathered], turned: Callable[[], object]) -> Run:
        """Return the tables of the database."""
        runs = [*self._noted(self._crew.results(self._builds(gathered)), turned)]
        if self._is_in_order:  # rule 5
            return _joined(runs)
        while True:
            is_last = len(runs) <= FAN_IN
            groups = [runs[low : low + FAN_IN] for low in range(0, len(runs), FAN_IN)]
            runs = [self._merged(group, turned, is_final=is_last) for group in groups]
            if is_last:
                return runs[0]

    def _builds(self, gathered: Iterable[Gathered]) -> Iterator[Task]:
        for keys, values in gathered:
            if self._is_in_order:
                self._is_in_order = self._last is None or self._last < min(keys)
                self._last = max(keys)
            yield partial(build_run, self._next_place(is_final=self._is_in_order), keys, values)

    def _merged(self, runs: Sequence[Run], turned: Callable[[], object], *, is_final: bool) -> Run:
        """Return one run in place of some, given oldest first."""
        newest_first = runs[::-1]
        bounds = [None, *self._cuts(runs), None]
        tasks = (
            partial(
                merge_part,
                self._next_place(is_final=is_final),
                _inside(newest_first, start, stop),
                start,
                stop,
            )
            for start, stop in zip(bounds, bounds[1:], strict=False)
        )
        merged = _joined([*self._noted(self._crew.results(tasks), turned)])
        for meta in _joined(runs):
            self._destination.directory.unlink(file_name(meta.number, TABLE))
        return merged

    def _cuts(self, runs: Sequence[Run]) -> list[bytes]:
        """Return the keys at which a merge is cut into parts of about the same size."""
        metas = _joined(runs)
        total = sum(meta.file_bytes for meta in metas)
        table_bytes = self._limits.table_bytes
        part_bytes = max(table_bytes, min(PART_TABLES * table_bytes, total // self._in_flight))
        weights: list[tuple[bytes, float]] = []
        for meta in metas:
            separators = _spread(self._destination.workshop.tables.anew(meta).separators(), CANDIDATES)
            weights += [(key, meta.file_bytes / len(separators)) for key in separators]
        cuts: list[bytes] = []
        size = 0.0
        for key, weight in sorted(weights):
            if size >= part_bytes and (not cuts or cuts[-1] < key):
                cuts.append(key)
                size = 0.0
            size += weight
        return cuts

    def _noted(self, results: Iterator[Run], turned: Callable[[], object]) -> Iterator[Run]:
        """Pass results on; look at each table, and see to it that its number is not given again."""
        counter = self._destination.counter
        for metas in results:
            for meta in metas:
                self._destination.workshop.tables.anew(meta)  # rule 2
                counter.next_number = max(counter.next_number, meta.number + 1)
            turned()
            yield metas


def _spread(keys: Sequence[bytes], most: int) -> Sequence[bytes]:
    """Return at most so many of some keys, evenly spread, the last one among them."""
    step = -(-len(keys) // most)
    return keys[::-step][::-1]


def _joined(runs: Sequence[Run]) -> list[TableMeta]:
    return [meta for run in runs for meta in run]


def _inside(runs: Sequence[Run], start: bytes | None, stop: bytes | None) -> list[Run]:
    """Return what may hold keys with `start <= key < stop`."""
    inside = [Version(((), tuple(run))).within(1, start, stop) for run in runs]
    return [run for run in inside if run]


def in_runs(entries: Iterable[tuple[bytes, bytes]], run_bytes: int) -> Iterator[Gathered]:
    """Gather entries, in the order in which they come, until they take so much memory."""
    keys: list[bytes] = []
    values: list[bytes] = []
    room = run_bytes
    for key, value in entries:
        keys.append(key)
        values.append(value)
        room -= len(key) + len(value) + ENTRY_BYTES
        if room <= 0:
            yield keys, values
            keys, values, room = [], [], run_bytes
    if keys:
        yield keys, values


def load(
    storage: Storage,
    path: str,
    mode: int,
    options: Options,
    entries: Iterable[tuple[bytes, bytes]],
    executor: Executor | None,
    *,
    run_bytes: int,
    in_flight: int,
    turned: Callable[[], object],
) -> int:
    """Make a database of entries, and return how many keys it has.

    Args:
        path: absent, or an empty directory.
        turned: called whenever a task is over.

    Raises:
        error: `path` holds something; the system refuses something.  Nothing is left.
    """
    destination = Destination(storage, path, None, options, 1, mode)
    with destination, _Crew(executor, in_flight) as crew:
        place = Place(storage, absolute(path), mode, options, 0)
        metas = _Loader(destination, place, crew, in_flight).load(in_runs(entries, run_bytes), turned)
        level = Limits.of(options).roomy_level(sum(meta.file_bytes for meta in metas))
        state = new_state(storage, options, ORIGIN.last_seq, level, metas)
        destination.commit(state)
    return sum(meta.entries for meta in metas)
