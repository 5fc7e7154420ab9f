"""Ingest: tables that were built outside of any database, into this one.

    (1) each file is checked whole: checksums, order, bounds, counts         no lock is held
    (2) all are merged into tables of the database, a later file over an earlier one
    (3) each of these goes into the deepest level that has nothing of its keys, nor has one above it
    (4) one install                                                          by the tree

Rules
  1. A file is never linked.  Number and salt of a table are in its checksums, and who built it has its name:
     what was checked must stay as it is.  Blocks that overlap no other file go over still compressed.
  2. A file is believed in (2) only as far as its checksums hold again: it may have changed since (1).
  3. Files that do not overlap are one run, of which one is open at a time.

Thread safety: pure functions, but for the files.
Spec: docs/bulk.md.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from lsmdbm._base.lru import LRU
from lsmdbm._base.paths import name_in_parent, parent_of
from lsmdbm._base.storage import File, Storage
from lsmdbm._engine.jobs import TableSpan, table_spans
from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_check import problems_of
from lsmdbm._format.table_parts import describe
from lsmdbm._format.table_reader import ReadCounters, TableReader


class Source(NamedTuple):
    """A table outside of any database, as it was when it was checked."""

    storage: Storage
    path: str
    meta: TableMeta

    def reader(self) -> TableReader:
        """Open it again.

        Raises:
            CorruptionError: it is another file by now.
        """
        return lone_reader(open_file(self.storage, self.path), self.meta)


def open_file(storage: Storage, path: str) -> File:
    """Open a file by its path, for reading; no symbolic link is followed."""
    directory = storage.directory(parent_of(path), 0o600)
    try:
        return directory.open(name_in_parent(path))
    finally:
        directory.close()


def _length(storage: Storage, path: str) -> int:
    file = open_file(storage, path)
    return file.size()


def lone_reader(file: File, meta: TableMeta) -> TableReader:
    """Return a reader of a table that is in no database, without a cache."""
    return TableReader(file, meta, LRU(0), ReadCounters())


def check_all(storage: Storage, paths: Sequence[str]) -> Generator[tuple[int, int], None, list[Source]]:
    """Read tables whole, and return them if nothing is wrong.  Each step yields bytes done, and in all.

    Raises:
        NotFoundError: there is no file.
        CorruptionError: it is no table, or a damaged one.
        error: it is of a newer format.
    """
    total = sum(_length(storage, path) for path in paths)
    sources: list[Source] = []
    done = 0
    for path in paths:
        file = open_file(storage, path)
        meta, _ = describe(file, None)
        for problem in problems_of(lone_reader(file, meta)):
            raise problem
        sources.append(Source(storage, path, meta))
        done += meta.file_bytes
        yield done, total
    return sources


def runs(sources: Sequence[Source]) -> list[list[Source]]:
    """Sort files, given oldest first, into runs, newest first, within which nothing overlaps."""  # rule 3
    found: list[list[Source]] = []  # oldest first
    for source in sources:
        place = len(found)
        while place and not any(_overlap(source.meta, other.meta) for other in found[place - 1]):
            place -= 1
        if place == len(found):
            found.append([])
        found[place].append(source)
    return [sorted(run, key=lambda source: source.meta.smallest) for run in reversed(found)]


def _overlap(one: TableMeta, other: TableMeta) -> bool:
    return one.smallest <= other.largest and other.smallest <= one.largest


def spans(sources: Sequence[Source]) -> list[Iterator[TableSpan]]:
    """Return what `jobs.adopt` merges."""
    return [table_spans((source.reader(), ()) for source in run) for run in runs(sources)]


def placed(
    metas: Sequence[TableMeta], version: Version, limits: Limits, plan: Plan | None
) -> dict[int, list[TableMeta]]:
    """Say into which level each of some tables goes, which do not overlap and are newer than a version.

    Args:
        plan: what is being compacted; its outputs may come to lie between its inputs.
    """
    if limits.compaction == "fifo":  # which would take what lies deeper for older, and drop it first
        return {0: list(metas)}
    total = sum(meta.file_bytes for meta in (*version, *metas))
    deepest = limits.roomy_level(total, max(1, len(version.levels) - 1))
    levels: dict[int, list[TableMeta]] = {}
    for meta in metas:
        levels.setdefault(_level(meta, version, deepest, plan), []).append(meta)
    return levels


def _level(meta: TableMeta, version: Version, deepest: int, plan: Plan | None) -> int:
    for level in range(deepest + 1):
        if not _is_free(meta, version, level, plan):
            return max(0, level - 1)
    return deepest


def _is_free(meta: TableMeta, version: Version, level: int, plan: Plan | None) -> bool:
    if plan is not None and plan.level == level:
        smallest, largest = plan.bounds
        if meta.smallest <= largest and smallest <= meta.largest:
            return False
    return not version.overlapping(level, meta.smallest, meta.largest)
