"""Seniority: which tables a damaged database has, and which of two is the newer one.

Rules
  1. A manifest tells, if it verifies and is not out of date.  Without one, an input of a compaction is
     dropped if not all inputs of it are there any more: then it had been installed.  If all are there, they
     and the outputs say the same.
  2. Of two tables with a key in common the one whose sequences are all higher is newer; if those overlap, the
     one that was written for the upper level, which may have been moved down since: a doubt.

Thread safety: pure functions over files.  Spec: docs/operations.md, Repair.
"""

from __future__ import annotations

from typing import NamedTuple

from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._engine.check import is_damage, problem_of
from lsmdbm._engine.findings import Findings
from lsmdbm._engine.names import MANIFEST, TABLE, file_name, numbers
from lsmdbm._engine.recovery import newest_manifest
from lsmdbm._format import salvage
from lsmdbm._format.coding import Malformed
from lsmdbm._format.manifest import MAX_LEVELS, Manifest, TableMeta
from lsmdbm._format.table_parts import describe
from lsmdbm._format.table_writer import Origin


class Relic(NamedTuple):
    """One table of the source."""

    number: int
    meta: TableMeta | None  # None if nothing tells
    origin: Origin  # as the table says, or for want of that, of the oldest of all

    @property
    def file_bytes(self) -> int:
        return self.meta.file_bytes if self.meta is not None else 0


def trusted_manifest(work: Findings) -> Manifest | None:
    """Return the manifest that tells the order; None if there is none, or only one that is out of date."""
    bad: error | None
    try:
        manifest, bad = newest_manifest(work.directory, work.names)
    except error as exc:
        if not is_damage(exc):
            raise
        manifest, bad = None, exc
    if manifest is not None:
        if bad is None:
            return manifest
        missing = [meta for meta in manifest.tables() if not _is_there(meta, work)]
        if not missing:
            return manifest  # the higher one was cut off: nothing had been unlinked for it yet
        work.doubt(work.path(manifest.number, MANIFEST), -1, "out of date: a newer manifest is damaged")
    if bad is not None:
        path = problem_of(bad, str(bad.filename or work.directory.path)).path
        if path != work.directory.path:  # else it is the directory that has none
            work.lose(bad, path)
    work.doubt(
        work.directory.path,
        -1,
        "no manifest: the order of the tables comes from themselves, and what a"
        " range deletion took out of them may be back",
    )
    return None


def _is_there(meta: TableMeta, work: Findings) -> bool:
    return file_name(meta.number, TABLE) in work.names


def tables_of(manifest: Manifest) -> list[Relic]:
    """Return the tables of a manifest, newest first."""
    return [
        Relic(meta.number, meta, Origin(number, meta.first_seq, meta.last_seq))
        for number, level in enumerate(manifest.levels)
        for meta in level
    ]


def tables_found(work: Findings) -> list[Relic]:
    """Return the tables of the directory, newest first."""  # rule 1
    present = numbers(work.names, TABLE)
    tables = [_describe(number, work) for number in present]
    replaced = {
        number
        for table in tables
        if not set(table.origin.inputs) <= set(present)
        for number in table.origin.inputs
    }
    return _newest_first([table for table in tables if table.number not in replaced], work)


def _describe(number: int, work: Findings) -> Relic:
    path = work.path(number, TABLE)
    try:
        file = work.directory.open(file_name(number, TABLE))
        try:
            return Relic(number, *describe(file, number))
        except CorruptionError:
            said = salvage.outline(file.pread(file.size(), 0), number).metadata
            if said is not None:
                return Relic(number, said.meta(number, file.size(), 0), said.origin)
    except (Malformed, error):
        pass  # listed as a loss when the table is to be read
    work.doubt(path, -1, "nothing tells how old the table is: it is taken for the oldest")
    return Relic(number, None, Origin(MAX_LEVELS, 0, 0))


def _newest_first(tables: list[Relic], work: Findings) -> list[Relic]:
    """Order tables by rule 2: again and again take the first one that none of the others is newer than."""
    tables = sorted(tables, key=lambda table: (table.origin.level, -table.origin.last_seq, -table.number))
    newer: dict[int, set[int]] = {table.number: set() for table in tables}
    guesses = 0
    for place, upper in enumerate(tables):
        for lower in tables[place + 1 :]:
            if _may_share_keys(upper, lower):
                is_upper, is_guess = _is_newer(upper, lower)
                first, second = (upper, lower) if is_upper else (lower, upper)
                newer[second.number].add(first.number)
                guesses += is_guess
    if guesses:
        what = f"{guesses} pairs of tables overlap in keys and in sequences: the level each was written for"
        work.doubt(work.directory.path, -1, f"{what} decided which is newer")
    ordered: list[Relic] = []
    while tables:
        free = next((table for table in tables if not newer[table.number]), tables[0])
        tables.remove(free)
        ordered.append(free)
        for others in newer.values():
            others.discard(free.number)
    return ordered


def _is_newer(upper: Relic, lower: Relic) -> tuple[bool, bool]:
    """Return whether a table is newer than one written for the same level or a lower one; is that a guess?"""
    if lower.number in upper.origin.inputs or upper.number in lower.origin.inputs:
        return lower.number in upper.origin.inputs, False
    if lower.origin.first_seq > upper.origin.last_seq:
        return False, False
    return True, upper.origin.first_seq <= lower.origin.last_seq


def _may_share_keys(one: Relic, other: Relic) -> bool:
    if one.meta is None or other.meta is None:
        return True
    return one.meta.smallest <= other.meta.largest and other.meta.smallest <= one.meta.largest


def runs_of(tables: list[Relic]) -> list[list[Relic]]:
    """Return tables, given newest first, in runs of neighbours that share no key, each in key order."""
    runs: list[list[Relic]] = []
    for table in tables:
        if runs and not any(_may_share_keys(table, other) for other in runs[-1]):
            runs[-1].append(table)
        else:
            runs.append([table])
    for run in runs:
        run.sort(key=lambda table: table.meta.smallest if table.meta is not None else b"")
    return runs
