"""Repair: all that can still be read of a damaged database, in a new one.

    (1) which tables there are, and in which order, from a manifest or from themselves: seniority
    (2) what logs and tables hold that verifies: remains
    (3) both merged, newest first, into the tables of one level of a new database

Rules
  1. The source is read, nothing else.
  2. What cannot be read is a loss; what may be wrong because of that, or because the order had to be guessed,
     a doubt: findings.

Thread safety: pure functions over files.  Spec: docs/operations.md, Repair.
"""

from __future__ import annotations

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.errors import NotFoundError, error
from lsmdbm._base.intervals import spared_chunks
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, Storage
from lsmdbm._engine.check import Work
from lsmdbm._engine.destination import Destination
from lsmdbm._engine.findings import Findings, RepairReport
from lsmdbm._engine.install import new_state
from lsmdbm._engine.jobs import rewrite, told
from lsmdbm._engine.memtable import Memtable, sources
from lsmdbm._engine.merge import merge, visible
from lsmdbm._engine.names import parse
from lsmdbm._engine.plan import Limits
from lsmdbm._engine.remains import chunks_of, read_logs
from lsmdbm._engine.seniority import Relic, runs_of, tables_found, tables_of, trusted_manifest
from lsmdbm._format.table_writer import Origin


def repair(storage: Storage, directory: Directory, destination: str) -> Work[RepairReport]:
    """Salvage the database in a directory into a new one, and return the report.

    Raises:
        NotFoundError: there is nothing.
        error: nothing there is ours; it is of a newer format; the destination holds something; the system
            refuses something there.
    """
    names = sorted(directory.listdir())
    if not any(map(parse, names)):
        if names:
            raise error(f"{directory.path}: not a database: the directory holds other files")
        raise NotFoundError.at(directory.path)
    work = Findings(directory, names)
    manifest = trusted_manifest(work)
    options = Options.choose({}, manifest.shape if manifest is not None else None)
    with Destination(storage, destination, directory, options, 1) as target:
        tables = tables_of(manifest) if manifest is not None else tables_found(work)
        memtable, last_seq, cleared = read_logs(manifest, tables, work)
        tables = [table for table in tables if table.origin.last_seq >= cleared]
        total = sum(table.file_bytes for table in tables)
        level = Limits.of(options).roomy_level(total)
        origin = Origin(level, min(1, last_seq), last_seq)
        steps = rewrite(_merged(memtable, tables, work), origin, target.workshop)
        metas = yield from told(steps, lambda _: (work.read_bytes, total))
        target.commit(new_state(storage, options, last_seq, level, metas))
    yield total, total
    return work.report(destination, sum(meta.entries for meta in metas))


def _merged(memtable: Memtable, tables: list[Relic], work: Findings) -> Chunks:
    """Yield what a read of the source would show."""
    newest, void = sources([memtable])
    older = [spared_chunks(chunks_of(run, work), void) for run in runs_of(tables)]
    return visible(merge([*newest, *older]))
