"""Registration: being found by `dbm.open()`, `dbm.whichdb()` and `shelve.open()`, on request and no sooner.

Rules
  1. `import lsmdbm` changes nothing in `dbm` and does not import it.
  2. All of it concerns the one copy of `dbm` that is in `sys.modules` at the time of the call, and everything
     to be remembered is kept there: it goes when that copy goes.
  3. Our entry in `dbm._modules` decides.  A link, our function in the place of `dbm.whichdb`, only finds
     databases while it is there: one that cannot be taken out because somebody wrapped it does no harm.
  4. Databases of other kinds get what they got: the replaced function sees the argument untouched, and stock
     modules stay available.

Thread safety: every function may be called from any thread.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from typing import Any

from lsmdbm._base.errors import error
from lsmdbm._base.forking import on_fork
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.paths import path_text
from lsmdbm._engine.recognition import is_ours

NAME = "lsmdbm"  # what whichdb() answers, and our key in dbm._modules
_LINKED = "_lsmdbm_linked"  # attribute of a link: the function it replaced
_DISPLACED = "_lsmdbm_displaced"  # attribute of the dbm package: the default it had before us

_STORAGE = OsStorage()
_lock = threading.RLock()


def is_database(file: object) -> bool:
    """Return whether a database of ours is at the path; damaged, newer and locked ones are too.

    False for everything else: nothing there, files and directories of somebody else, what may not be read,
    an empty directory, and one with nothing but `LOCK`, which a crash in the first moment of `open()` leaves:
    `open()` says of both that there is no database.  Nothing is written.  O(names in the directory).

    Raises:
        TypeError: `file` is no path.

    >>> from lsmdbm import open
    >>> is_database("words")
    False
    >>> open("words", "c").close()
    >>> is_database("words"), is_database("words/LOCK")
    (True, False)
    """
    try:
        return is_ours(_STORAGE, path_text(file))
    except ValueError:  # NUL, or characters that no path can be made of
        return False


def whichdb(file: object) -> str | None:
    """Return `"lsmdbm"` for a database of ours, and for all else what `dbm.whichdb` answers.

    That is the name of a module; `""` for a file of unknown kind; None if there is nothing to be read.  It
    needs no `register()`.  A FIFO, a socket or a device is `""`, and is not opened.

    Raises:
        TypeError, ValueError: `file` is no path.

    >>> from lsmdbm import open
    >>> open("words", "c").close()
    >>> whichdb("words"), whichdb("absent")
    ('lsmdbm', None)
    """
    if is_database(file):
        return NAME
    import dbm

    path = path_text(file)  # Python 3.10 takes nothing but str
    if _is_special(path):
        return ""
    found: str | None = dbm.whichdb(path)
    return found


def _is_special(path: str) -> bool:
    """Return whether a FIFO, a socket or a device is there: to open it may wait for its other end."""
    try:
        return _STORAGE.kind(path) == "other"
    except error:
        return False


def register(default: bool = False) -> None:
    """Let `dbm.open()`, `dbm.whichdb()` and `shelve.open()` find databases of ours, in this process.

    Flags `"r"`, `"w"` and `"c"` then open a database of ours wherever there is one.  Calling it again changes
    nothing, and does not undo an earlier `default=True`; `unregister()` does.

    Args:
        default: also make lsmdbm the kind of new databases: of what `"c"` creates, and of flag `"n"`, which
            never looks what is there.  Existing databases of other kinds are opened as before.

    >>> import dbm
    >>> register(default=True)
    >>> with dbm.open("words", "c") as db:
    ...     db["apple"] = "red"
    ...     type(db).__module__, dbm.whichdb("words")
    ('lsmdbm', 'lsmdbm')
    >>> unregister()
    >>> dbm.whichdb("words") is None
    True
    """
    import dbm

    package: Any = dbm
    with _lock:
        if default and package._defaultmod is None:
            _load_backends(package)
        ours = sys.modules[NAME]
        package._modules[NAME] = ours  # before the link, whose answer leads dbm.open() here
        if default:
            if not _is_lsmdbm(package._defaultmod):
                setattr(package, _DISPLACED, package._defaultmod)
            package._defaultmod = ours
        if not _has_link(package.whichdb):
            package.whichdb = _link(package, package.whichdb)


def unregister() -> None:
    """Undo `register()`: `dbm` is as it was.  Does nothing if there is nothing to undo.

    If somebody has wrapped our `dbm.whichdb` since, their function stays, and gives the stock answers.

    >>> unregister()
    """
    package: Any = sys.modules.get("dbm")
    if package is None:
        return
    with _lock:
        if _is_link(package.whichdb):
            package.whichdb = getattr(package.whichdb, _LINKED)
        if hasattr(package, _DISPLACED):
            if _is_lsmdbm(package._defaultmod):
                package._defaultmod = getattr(package, _DISPLACED)
            delattr(package, _DISPLACED)
        package._modules.pop(NAME, None)  # rule 3: links that stay are transparent from here on


def _load_backends(package: Any) -> None:
    """Do what the first `dbm.open()` does, and not again once there is a default: import the stock modules.

    Without it their existing databases would be of a kind that is "not available".
    """
    for name in package._names:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        package._modules[name] = module
        package._defaultmod = package._defaultmod or module


def _link(package: Any, original: Any) -> Any:
    """Return a function for the place of `original`, which is `package.whichdb`."""

    @functools.wraps(original)
    def whichdb(filename: Any) -> Any:
        if NAME in package._modules and _finds(filename):  # rule 3
            return NAME
        return original(filename)

    setattr(whichdb, _LINKED, original)
    return whichdb


def _finds(filename: object) -> bool:
    try:
        return is_database(filename)
    except TypeError:  # no path: the stock function has its own words for that
        return False


def _is_link(function: Any) -> bool:
    """Return whether this very function is a link; one that wraps a link has a copy of its attributes."""
    linked = getattr(function, _LINKED, None)
    return linked is not None and linked is function.__wrapped__


def _has_link(function: Any) -> bool:
    """Return whether a function is a link or, by what functools.wraps() leaves, wraps one."""
    return hasattr(function, _LINKED)


def _is_lsmdbm(module: Any) -> bool:
    """Return whether a module is lsmdbm, of this import or of an earlier one."""
    return getattr(module, "__name__", None) == NAME


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it


on_fork(_after_fork)
