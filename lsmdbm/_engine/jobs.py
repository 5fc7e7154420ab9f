"""Jobs: flush and compaction as generators, one bounded step per next().

A step yields how many bytes of log or of blocks it has worked off, or what its work is worth in such
bytes; the result is what to install.  Where somebody else does the work, and nothing was heard of it, the
step yields NO_NEWS.

Rules
  1. A job reads immutable things and writes new files.  It installs nothing and unlinks nothing but its
     own outputs, and those only if it is dropped or fails.
  2. Every output is complete and synced when the job returns: step (1) of the install.
  3. A tombstone is dropped only if no deeper level can hold its key; never by a merge within level 0.
  4. A run of blocks that overlaps no other input, and no hole, goes over as it is, values still compressed;
     those of another dictionary are compressed again.
  5. What is in the holes of an input, or under the ranges of a newer memtable, is not in the outputs, and
     read only where a block has other entries too.
  6. All outputs of a job have the same dictionary, or none.

Thread safety: one thread at a time, under the lock of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from lsmdbm._base.chunk import Chunk, Chunks
from lsmdbm._base.intervals import Intervals, holds_all, inside, spared
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._engine.memtable import Memtable, sources
from lsmdbm._engine.merge import merge, merge_spans, survivors
from lsmdbm._engine.names import TABLE, Counter, file_name, unlink_all
from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.samples import dictionary_of_memtables, dictionary_of_tables
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_reader import TableReader
from lsmdbm._format.table_writer import BLOOM_STEP, Origin, StoredBlock, TableWriter

SPAN_BLOCKS = 16  # blocks that are read, or passed through, together
STEP_ENTRIES = 4096  # of a merged window that are written in one step: with many runs a window is long
BATCH_BYTES = 256 << 10  # raw bytes of blocks that are compressed together: a step of less than a millisecond
TABLE_BATCHES = 8  # and at least so many batches a table, which is cut by what is in the file already
ENTRY_BYTES = 13  # for which an entry counts at least in the length of a table: until the table is cut, its
# writer holds four times as much in memory for each entry, however well they compress
FILTER_SHARE = 4  # to enter a key into the filter costs about a fourth of merging it

NO_NEWS = -1  # instead of bytes: to ask again at once would be waiting

Steps = Generator[int, None, list[TableMeta]]
E = TypeVar("E")
S = TypeVar("S")
T = TypeVar("T")


MOST_BLOOM_BITS = 24  # per key, in any table


class Workshop(NamedTuple):
    """What a job works with."""

    storage: Storage
    directory: Directory
    counter: Counter
    tables: Tables
    options: Options
    limits: Limits
    batch_bytes: int = BATCH_BYTES
    span_blocks: int = SPAN_BLOCKS


class _Outputs:
    """The tables a job writes, one after the other.

    Args:
        origin: for their metadata.
        cut_bytes: a table is cut when it is this long.
        entry_worth: bytes of input that one entry stands for.
        dictionary: to compress them with; b"" for none.
        bloom_bits: of filter per key; what the options say if it is None.
    """

    def __init__(
        self,
        workshop: Workshop,
        origin: Origin,
        cut_bytes: int,
        entry_worth: float,
        dictionary: bytes = b"",
        bloom_bits: int | None = None,
    ) -> None:
        self._workshop = workshop
        self._bloom_bits = workshop.options.bloom_bits_per_key if bloom_bits is None else bloom_bits
        self._origin = origin
        self._cut_bytes = cut_bytes
        self._entry_worth = entry_worth
        self._dictionary = dictionary
        self._writer: TableWriter | None = None
        self._file: File | None = None
        self._numbers: list[int] = []
        self._metas: list[TableMeta] = []

    def writer(self) -> TableWriter:
        """Return the writer of the current table."""
        if self._writer is None:
            shop, options = self._workshop, self._workshop.options
            number, self._file = shop.counter.create(shop.directory, TABLE)
            self._numbers.append(number)
            self._writer = TableWriter(
                self._file,
                number,
                int.from_bytes(shop.storage.urandom(8), "little"),
                block_bytes=options.block_bytes,
                level=_level(options),
                bloom_bits=self._bloom_bits,
                dictionary=self._dictionary,
                batch_bytes=min(shop.batch_bytes, self._cut_bytes // TABLE_BATCHES),
            )
        return self._writer

    def whole_blocks(self, span: TableSpan) -> Iterator[Chunk | StoredBlock]:
        """Yield the blocks of a span as these tables take them."""
        options = self._workshop.options
        return span.parts(options.block_bytes, _level(options), self._dictionary)

    def worth(self, entries: int) -> int:
        """Return the bytes of input that so many entries stand for."""
        return int(self._entry_worth * entries)

    def cut(self) -> Generator[int, None, None]:
        """Finish the current table if it is long enough."""
        writer = self._writer
        if writer is not None and max(writer.stored_bytes, ENTRY_BYTES * writer.entries) >= self._cut_bytes:
            yield from self._finish_table()

    def _finish_table(self) -> Generator[int, None, None]:
        writer, file = self._writer, self._file
        if writer is None or file is None:
            return
        worth = self.worth(min(BLOOM_STEP, writer.entries) // FILTER_SHARE)
        meta = yield from told(writer.finish(self._origin), lambda _: worth)
        file.fsync()  # rule 2; if it fails, this table is worthless and nothing else is
        file.close()
        self._metas.append(meta)
        self._writer = self._file = None

    def finish(self) -> Steps:
        """Finish the last table; return all of them."""
        yield from self._finish_table()
        return self._metas

    def abandon(self) -> None:
        """Unlink what was written."""  # rule 1
        if self._file is not None:
            self._file.close()  # the error on its way may be kept, and its traceback refers to the file
        self._writer = self._file = None
        unlink_all(self._workshop.directory, [file_name(number, TABLE) for number in self._numbers])


def _level(options: Options) -> int | None:
    return options.compression_level if options.compression else None


def _bits_above(options: Options, level: int) -> int:
    """Return the bits of filter per key of a table above others: more than theirs, because it is smaller.

    What lookups of missing keys cost is the sum over all tables that are asked.  A bit is cheapest where
    there are the fewest keys: Dayan, Athanassoulis and Idreos, "Monkey" (2017).
    """
    bits = options.bloom_bits_per_key
    if not bits:
        return 0
    return min(bits + 4 if level else 2 * bits, MOST_BLOOM_BITS)


def flush(memtables: Sequence[Memtable], workshop: Workshop) -> Steps:
    """Write sealed memtables, given newest first, into level-0 tables.

    Returns the tables newest first, as level 0 wants them; more than one only if a memtable is far
    larger than `memtable_bytes`.
    """
    origin = Origin(0, memtables[-1].first_seq, memtables[0].last_seq)
    entry_worth = sum(memtable.charge for memtable in memtables) / max(1, sum(map(len, memtables)))
    cut_bytes = 4 * workshop.limits.table_bytes
    dictionary = dictionary_of_memtables(memtables, workshop.options, cut_bytes)
    bloom_bits = _bits_above(workshop.options, 0)
    outputs = _Outputs(workshop, origin, cut_bytes, entry_worth, dictionary, bloom_bits)
    return (yield from _write(merge(sources(memtables)[0]), outputs))


def rewrite(chunks: Chunks, origin: Origin, workshop: Workshop) -> Steps:
    """Write a stream of chunks into tables of one level, in key order; each entry counts as one byte."""
    return _write(chunks, _Outputs(workshop, origin, workshop.limits.table_bytes, 1.0))


def _write(chunks: Chunks, outputs: _Outputs) -> Steps:
    try:
        for keys, values in chunks:
            outputs.writer().add(keys, values)
            yield outputs.worth(len(keys))
            yield from outputs.cut()
        return (yield from outputs.finish())
    except BaseException:
        outputs.abandon()
        raise


def finished(steps: Generator[object, None, T]) -> T:
    """Do a job in one go, and return what it gives: its tables, if it writes some."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def told(steps: Generator[E, None, T], what: Callable[[E], S]) -> Generator[S, None, T]:
    """Do a job in its steps, each of which yields what a function makes of it."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        yield what(step)


def after(first: Iterator[int], steps: Steps) -> Steps:
    """Do one thing after another, as one job."""
    yield from first
    return (yield from steps)


def compact(plan: Plan, version: Version, workshop: Workshop) -> Steps:
    """Merge the tables of a plan into tables of its level, in key order.

    Raises:
        CorruptionError: an input is damaged; nothing was changed.
    """
    inputs = plan.inputs
    origin = Origin(
        plan.level,
        min(meta.first_seq for meta in inputs),
        max(meta.last_seq for meta in inputs),
        tuple(sorted(meta.number for meta in inputs)),
    )
    entry_worth = sum(meta.raw_bytes for meta in inputs) / sum(meta.entries for meta in inputs)
    table_bytes = workshop.limits.table_bytes
    dictionary = dictionary_of_tables(inputs, workshop.tables, workshop.options, table_bytes)
    is_above = version.overlaps_below(plan.level, *plan.bounds)
    bloom_bits = _bits_above(workshop.options, plan.level) if is_above else None
    outputs = _Outputs(workshop, origin, table_bytes, entry_worth, dictionary, bloom_bits)

    def is_bottom(key: bytes) -> bool:  # rule 3
        return plan.level > 0 and not version.holds_below(plan.level, key)

    reader = workshop.tables.reader
    spans = [
        table_spans(((reader(meta), meta.holes) for meta in run), workshop.span_blocks) for run in plan.runs
    ]
    return (yield from _merge(spans, is_bottom, outputs))


def adopt(runs: Sequence[Iterator[TableSpan]], version: Version, origin: Origin, workshop: Workshop) -> Steps:
    """Merge tables that are not of this database into tables that are, above all of a version.

    Args:
        runs: newest first; the spans of a run in key order.

    Raises:
        CorruptionError: an input is damaged; nothing was changed.
    """
    outputs = _Outputs(workshop, origin, workshop.limits.table_bytes, 1.0)
    return _merge(runs, lambda key: not version.holds_below(-1, key), outputs)


def _merge(
    runs: Sequence[Iterator[TableSpan]], is_bottom: Callable[[bytes], bool], outputs: _Outputs
) -> Steps:
    """Write what runs of tables hold; without the deletions of keys that nothing below can hold."""
    try:
        for part in _parts(runs, outputs):
            if isinstance(part, StoredBlock):
                outputs.writer().add_block(part)  # rule 4
                yield outputs.worth(len(part.keys))
                yield from outputs.cut()
                continue
            keys, values = survivors(part, is_bottom)
            for low in range(0, len(keys), STEP_ENTRIES):
                piece = keys[low : low + STEP_ENTRIES]
                outputs.writer().add(piece, values[low : low + STEP_ENTRIES])
                yield outputs.worth(len(piece))
                yield from outputs.cut()
            yield outputs.worth(len(part[0]) - len(keys))
        return (yield from outputs.finish())
    except BaseException:
        outputs.abandon()
        raise


def _parts(runs: Sequence[Iterator[TableSpan]], outputs: _Outputs) -> Iterator[Chunk | StoredBlock]:
    """Yield what runs of tables hold, merged, in key order; as whole blocks where that is possible."""
    for piece in merge_spans(runs):
        if isinstance(piece, TableSpan):
            yield from outputs.whole_blocks(piece)
        else:
            yield piece


class TableSpan:
    """Consecutive blocks of one table: read together when they overlap something, else one by one.

    Without what is in its holes.
    """

    __slots__ = ("_first", "_holes", "_reader", "_stop", "lower", "upper")

    def __init__(
        self, reader: TableReader, first: int, holes: Intervals = (), length: int = SPAN_BLOCKS
    ) -> None:
        separators = reader.separators()
        self._reader = reader
        self._first = first
        self._holes = holes
        self._stop = min(first + length, len(separators))
        self.lower = separators[first - 1] if first else reader.meta.smallest
        self.upper = separators[self._stop - 1]

    def load(self) -> Chunk:
        """Return all entries of the span."""
        return spared(self._reader.block_chunk(self._first, self._stop), self._holes)

    def parts(self, block_bytes: int, level: int | None, dictionary: bytes) -> Iterator[Chunk | StoredBlock]:
        """Yield block after block: whole, or as a chunk if it holds tombstones or is small."""
        for index, stored in enumerate(self._stored_run(), self._first):
            if self._has_hole(index):
                keys, values = spared(self._reader.block_chunk(index, index + 1), self._holes)
                if keys:
                    yield keys, values
                continue
            block = self._reader.stored_block(index, level, dictionary, stored)
            if block.tombstones or 2 * (block.head_raw + block.body_raw) < block_bytes:
                yield self._reader.block_chunk(index, index + 1)
            else:
                yield block

    def _stored_run(self) -> Sequence[bytes | None]:
        """Return the blocks as they stand in the file; for each None if some need not be read."""  # rule 5
        if self._holes:
            return [None] * (self._stop - self._first)
        return self._reader.stored_run(self._first, self._stop)

    def _has_hole(self, index: int) -> bool:
        separators = self._reader.separators()
        lower = separators[index - 1] if index else self._reader.meta.smallest
        return bool(self._holes) and bool(inside(self._holes, lower, separators[index] + b"\0"))


def table_spans(
    tables: Iterable[tuple[TableReader, Intervals]], length: int = SPAN_BLOCKS
) -> Iterator[TableSpan]:
    """Yield the spans of tables that do not overlap, given in key order, each with its holes."""
    for reader, holes in tables:
        for first in range(0, reader.block_count, length):
            span = TableSpan(reader, first, holes, length)
            if not holds_all(holes, span.lower, span.upper):  # rule 5
                yield span
