"""Maintenance: functions on a path - verify, repair, destroy.

Rules
  1. `verify` and `repair` take no lock and change nothing in the database they look at.
  2. `progress(done_bytes, total_bytes)` is called now and then, between two reads; what it raises ends it.

Thread safety: every function may be called from any thread.
"""

from __future__ import annotations

from lsmdbm._base.errors import NotFoundError, error
from lsmdbm._base.options import Options
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.paths import path_text
from lsmdbm._base.storage import Directory, Storage
from lsmdbm._engine import check, removal
from lsmdbm._engine import repair as repairing
from lsmdbm._engine.check import Progress, Report, run
from lsmdbm._engine.findings import RepairReport
from lsmdbm._engine.names import parse
from lsmdbm._engine.recognition import is_foreign
from lsmdbm._engine.tables import Tables

_STORAGE = OsStorage()
_MODE = 0o600  # of new files: none is created through the directories that are opened here


def verify(path: object, *, progress: Progress | None = None) -> Report:
    """Check every byte of a database that something rests on, without a lock and without a write.

    Manifest, logs, and of each table header, footer, index, filter, metadata and every block: checksums,
    order, bounds, counts, and what refers to what.  A writer may be at work meanwhile; tables that it
    replaces before they were looked at are left out.

    Args:
        path: of the directory.
        progress: called with the bytes read so far and the bytes there are.

    Returns:
        What was found; true if nothing is wrong.  Damage is never raised.

    Raises:
        NotFoundError: there is no database.
        error: something else is at the path; the database is of a newer format.

    Cost: reads everything once; as much memory as opening, and one table's index and filter.

    >>> import lsmdbm
    >>> with lsmdbm.open("words", "n") as db:
    ...     db["apple"] = "red"
    >>> report = verify("words")
    >>> report.ok, report.files, report.entries, report.problems
    (True, 2, 1, ())
    """
    return verify_on(_STORAGE, path, progress)


def verify_on(storage: Storage, path: object, progress: Progress | None = None) -> Report:
    """Do what `verify` does, on any storage: the seam for tests."""
    directory = _open_directory(storage, path_text(path))
    tables = Tables(directory, Options(cache_bytes=0, max_open_files=1))
    try:
        names = directory.listdir()
        if is_foreign(directory, names):
            raise error(f"{directory.path}: not a database: the directory holds other files")
        if not any(map(parse, names)):
            raise NotFoundError.at(directory.path)
        return run(check.check(directory, tables), progress)
    finally:
        tables.close()
        directory.close()


def repair(path: object, destination: object, *, progress: Progress | None = None) -> RepairReport:
    """Save what can be read of a damaged database into a new one.  The damaged one is only read.

    All blocks of tables and all records of logs that verify are merged as a read would merge them.  What
    could not be read is listed in the report, and so is what may be wrong because of that.

    Args:
        path: of the damaged database, which nobody may be writing to.
        destination: of the new one: absent, or an empty directory.
        progress: called with the bytes of tables read so far and the bytes there are.

    Raises:
        NotFoundError: there is nothing of a database; the parent of `destination` does not exist.
        error: `destination` holds something, or lies in `path`; the database is of a newer format.

    Durability: on return the new database survives power loss; cut off before, there is none.

    >>> import lsmdbm, pathlib
    >>> with lsmdbm.open("words", "n") as db:
    ...     db["apple"] = "red"
    >>> for manifest in pathlib.Path("words").glob("*.man"):
    ...     manifest.unlink()
    >>> report = repair("words", "saved words")
    >>> report.ok, report.losses, report.entries
    (False, (), 1)
    >>> [doubt.what.partition(":")[0] for doubt in report.doubts]
    ['no manifest']
    >>> with lsmdbm.open("saved words") as db:
    ...     db["apple"]
    b'red'
    """
    return repair_on(_STORAGE, path, destination, progress)


def repair_on(
    storage: Storage, path: object, destination: object, progress: Progress | None = None
) -> RepairReport:
    """Do what `repair` does, on any storage: the seam for tests."""
    target = path_text(destination)
    directory = _open_directory(storage, path_text(path))
    try:
        return run(repairing.repair(storage, directory, target), progress)
    finally:
        directory.close()


def destroy(path: object) -> list[str]:
    """Remove a database: the files that are ours, and the directory if nothing else is in it.

    Whoever reads it at this moment keeps what they see.  A crash leaves the whole database, or nothing that
    opens; then call it again.

    Returns:
        The names that were left, with the directory, because they are not ours; most often none.

    Raises:
        NotFoundError: there is no database.
        LockedError: another process has it open for writing.
        error: it is open for writing in this process; the directory is not ours; the path is a symbolic link
            or no directory; a file could not be removed.

    Durability: on return the files are gone for good.

    >>> import lsmdbm, pathlib
    >>> lsmdbm.open("words", "n").close()
    >>> destroy("words"), pathlib.Path("words").exists()
    ([], False)
    """
    return removal.destroy(_STORAGE, path_text(path))


def _open_directory(storage: Storage, path: str) -> Directory:
    kind = storage.kind(path) if path else "missing"
    if kind == "missing":
        raise NotFoundError.at(path)
    if kind != "directory":
        raise error(f"{path}: not a database: it is no directory")
    return storage.directory(path, _MODE)
