"""Migration: the entries of any dbm into a database of ours, and back.

Rules
  1. A source is only read; a destination is new.  Both are looked at before anything is written.
  2. Entries are streamed: beyond a bound, as much is held in memory as the module of the other side holds.
  3. Nothing is left out: an entry that one side cannot hold ends the copy with an error that names it, and
     the entries are counted at the end.
  4. A part is no database: ours comes to be with all entries, or not at all.  See loading.py.

Thread safety: every function may be called from any thread.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from types import ModuleType
from typing import Any

from lsmdbm._base.errors import NotFoundError, error
from lsmdbm._base.options import Options
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.paths import path_text
from lsmdbm._engine.loading import load
from lsmdbm._engine.removal import destroy
from lsmdbm.coercion import check_mode
from lsmdbm.database import Database, open
from lsmdbm.ranges import Range
from lsmdbm.registration import NAME, whichdb
from lsmdbm.tally import Progress, Tally, checked

SUFFIXES = ("", ".db", ".pag", ".dir", ".dat", ".bak")  # of what dbm modules make, and dbm.whichdb() looks at

RUN_MEMTABLES = 4  # so many times `memtable_bytes` of entries are sorted together

_STORAGE = OsStorage()


def import_dbm(
    source: Any,
    destination: object,
    *,
    progress: Progress | None = None,
    mode: int = 0o666,
    **options: Any,
) -> int:
    """Copy all entries of another dbm into a new database, and return how many there were.

    A file of `shelve` is a dbm whose values are pickles; they are copied as the bytes they are.

    Args:
        source: path of any database that `dbm.open()` of this Python can read, without the suffix that some
            modules add; or such a database, already open; or a mapping of str or bytes.  Nobody should write
            to it meanwhile.
        destination: path of the new database: absent, or an empty directory.
        progress: called with how many entries were taken from the source, and how many there are in all, None
            if it does not say: every 1000 entries, and once more at the end.  What it raises ends the copy.
        mode: permission bits of new files, less the umask.
        **options: of `open()`, of which those count that the database remembers, and `memtable_bytes`: four
            times as much is sorted together, in memory.

    Raises:
        NotFoundError: there is nothing at `source`, or no parent directory for `destination`.
        ImportError: this Python lacks the module for the source.
        error: `source` is nothing that dbm knows; something is at `destination`; keys of the source are the
            same once they are bytes; the system says no.
        TypeError, ValueError: an entry is not of str or bytes, or too long; its position and key are named.
            Or an option or `mode` is none, or out of its bounds.

    Cost: one pass over the source, and writes as of `bulk_load()`; in memory what the module of the source
    holds by itself, and four times `memtable_bytes`.

    Durability: on return everything survives power loss.  Before that there is no database: if anything goes
    wrong, what was made is removed.  After a kill, files are left that do not open: `destroy()` them.

    >>> import dbm.dumb
    >>> with dbm.dumb.open("old", "c") as old:
    ...     old["apple"] = "red"
    >>> import_dbm("old", "new")
    1
    >>> with open("new") as db:
    ...     dict(db)
    {b'apple': b'red'}
    """
    check_mode(mode)
    path, chosen = path_text(destination), Options.choose(options, {})
    with _opened(source) as old:
        tally = Tally(progress, old)
        with closing(_entries(old)) as entries:  # before `old` is: a cursor of dbm.sqlite3 minds
            count = load(
                *(_STORAGE, path, mode, chosen, checked(tally.over(entries), tally), None),
                run_bytes=RUN_MEMTABLES * chosen.memtable_bytes,
                in_flight=1,
                turned=lambda: None,
            )
        try:
            tally.compare(count, path)
        except error:
            destroy(_STORAGE, path)  # rule 4
            raise
        tally.report()
    return tally.done


def export_dbm(
    source: Any, destination: object, *, backend: str | None = None, progress: Progress | None = None
) -> int:
    """Copy all entries of a database into a new one of a stock dbm module, and return how many there were.

    Args:
        source: path of a database; or one that is open, or a range of one, as of this moment.
        destination: path of the new database, as for `dbm.open()`; there must be nothing, also with the
            suffixes that dbm modules add.
        backend: name of the module: `"dbm.dumb"`, `"dbm.gnu"`, `"dbm.ndbm"`, `"dbm.sqlite3"`, or any other
            with such an `open()`; by default the one that `dbm.open()` takes for new databases where nobody
            has changed that.
        progress: see `import_dbm`.

    Raises:
        NotFoundError: there is no database at `source`.
        ImportError: this Python lacks the module.
        error: something is at `destination`; or the module refuses an entry, too large for dbm.ndbm say, or
            does not give it back: its position and key are named.

    Cost: one pass over the database, and one write to the module for each entry.

    Durability: what the module gives with `sync()`, if it has that, and `close()`.  If the copy ends early,
    the destination holds some of the entries; remove its files before the next try.

    >>> with open("fruit", "c") as db:
    ...     db["apple"] = "red"
    >>> export_dbm("fruit", "copy", backend="dbm.dumb")
    1
    >>> import dbm
    >>> with dbm.open("copy") as copy:
    ...     copy["apple"]
    b'red'
    """
    module = _stock_default() if backend is None else importlib.import_module(backend)
    path = path_text(destination)
    for suffix in SUFFIXES:
        if _STORAGE.kind(path + suffix) != "missing":
            raise error(f"{path + suffix}: is there already; export_dbm() makes a new database")
    with _opened_ours(source) as db:
        tally = Tally(progress, db)
        with closing(module.open(path, "c")) as new:
            if hasattr(new, "_cx"):  # dbm.sqlite3: let it sync when it closes, not once per entry
                new._cx.execute("PRAGMA synchronous = NORMAL")
            for key, value in tally.over(db.items()):
                _put(new, key, value, f"{tally.place(key)}: {module.__name__}")
            if hasattr(new, "sync"):
                new.sync()
            tally.compare(len(new), path)
        tally.report()
    return tally.done


@contextmanager
def _opened(source: Any) -> Iterator[Any]:
    """Open any database for reading, if it is not open yet."""
    if hasattr(source, "__getitem__") and not isinstance(source, (str, bytes)):
        yield source
        return
    path = path_text(source)
    kind = whichdb(path)
    if not kind:
        if kind is None and _STORAGE.kind(path) == "missing":
            raise NotFoundError.at(path)
        raise error(f"{path}: not a database that dbm knows, by the name that dbm.open() takes")
    with open(path) if kind == NAME else closing(importlib.import_module(kind).open(path, "r")) as old:
        yield old


@contextmanager
def _opened_ours(source: Any) -> Iterator[Database | Range]:
    """Open a database of ours for reading, if it is not open yet."""
    if isinstance(source, (Database, Range)):
        yield source
        return
    with open(source) as db:
        yield db


def _entries(source: Any) -> Generator[tuple[Any, Any], None, None]:
    """Yield the entries of any dbm or mapping, without a list of its values."""
    if isinstance(source, (Database, Range)):
        yield from source.items()
    elif hasattr(source, "__iter__"):  # and not items(): that of dbm.dumb builds a list
        for key in source:
            yield key, source[key]
    elif hasattr(source, "firstkey"):
        key = source.firstkey()
        while key is not None:
            yield key, source[key]
            key = source.nextkey(key)
    else:
        for key in source.keys():  # noqa: SIM118 - dbm.ndbm is not iterable
            try:
                value = source[key]
            except KeyError:  # what dbm.ndbm over Berkeley DB has for an empty value
                value = b""
            yield key, value


def _stock_default() -> ModuleType:
    """Return the module that dbm takes for new databases, unless it was told otherwise: not us."""
    import dbm

    names: list[str] = dbm._names  # type: ignore[attr-defined]
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(f"no dbm module found; tried {names}")


def _put(new: Any, key: bytes, value: bytes, place: str) -> None:
    try:
        new[key] = value
        is_there = bool(key and value) or new[key] == value  # Berkeley DB loses track of empty ones
    except KeyError:
        is_there = False
    except Exception as exc:
        raise error(f"{place}: {exc}") from exc
    if not is_there:
        raise error(f"{place} does not give it back")
