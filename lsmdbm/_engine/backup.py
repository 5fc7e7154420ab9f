"""Backup: one view of a database as a database of its own, while writers go on.

    (1) the tables of the view, under their own numbers: linked, or copied and then checked block by block
    (2) its memtables as new tables, so that no log is needed
    (3) the manifest: see destination.py

Rules
  1. The view is pinned by the caller: nothing that it needs is changed or unlinked meanwhile, and no lock of
     the engine is held.
  2. A table that another process has unlinked is copied from the file that is held open.
  3. A linked table is not read: it is the very same file.  What rots in one rots in both.

Thread safety: any number of backups at once, into different directories.
Spec: docs/operations.md, Backup.
"""

from __future__ import annotations

from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._base.options import Options
from lsmdbm._base.storage import File, Storage, write_all
from lsmdbm._engine.count import after_flush
from lsmdbm._engine.destination import Destination
from lsmdbm._engine.jobs import finished, flush
from lsmdbm._engine.memtable import sources
from lsmdbm._engine.names import TABLE, file_name
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version
from lsmdbm._engine.view import View
from lsmdbm._format.manifest import NO_LOG, Manifest, TableMeta
from lsmdbm._format.table_check import problems_of

COPY_BYTES = 1 << 20


def backup(storage: Storage, view: View, manifest: Manifest, path: str) -> None:
    """Make the database at `path` that holds what `view` shows.

    Args:
        view: pinned: its active memtable is empty.
        manifest: of the database, for its uuid and the options it remembers.
        path: absent, or an empty directory.

    Raises:
        error: `path` holds something; the system refuses something.
        CorruptionError: a table that had to be copied is damaged.
    """
    options = Options.choose({}, manifest.shape)
    numbers = [meta.number for meta in view.version]
    source = view.tables.directory
    with Destination(storage, path, source, options, max(numbers, default=0) + 1) as destination:
        version = view.version.void(sources(view.sealed)[1])
        for meta in version:
            _bring(meta, view, destination)
        levels = version.levels
        if view.sealed:
            levels = _with_memtables(view, version, destination)
        state = manifest._replace(
            levels=levels,
            last_seq=view.active.first_seq - 1,
            live_count=after_flush(view, view.sealed),
            prev_log=NO_LOG,  # which is not copied
        )
        destination.commit(state)


def _bring(meta: TableMeta, view: View, destination: Destination) -> None:
    name = file_name(meta.number, TABLE)
    try:
        view.tables.directory.link(name, destination.directory)
    except error:  # another file system, one without links, a table that is unlinked: rule 2
        if destination.directory.length(name) is not None:
            destination.directory.unlink(name)  # the link was made, and then something failed
        _copy(view.tables.file(meta), destination.directory.create(name))
        problem = _first_problem(meta, destination.workshop.tables)
        if problem is not None:
            raise _first_problem(meta, view.tables) or problem from None


def _copy(source: File, target: File) -> None:
    offset = 0
    while data := source.pread(COPY_BYTES, offset):
        write_all(target, data, offset)
        offset += len(data)
    target.fsync()
    target.close()


def _first_problem(meta: TableMeta, tables: Tables) -> CorruptionError | None:
    try:
        return next(problems_of(tables.anew(meta)), None)
    except CorruptionError as exc:
        return exc


def _with_memtables(
    view: View, version: Version, destination: Destination
) -> tuple[tuple[TableMeta, ...], ...]:
    """Return the levels with the memtables on top of them, as tables."""
    metas = finished(flush(view.sealed, destination.workshop))
    return version.replace((), {0: metas}).levels
