"""The exceptions of PEP 249, each saying when it is raised, and how others become these.

    Error                       also an lsmdbm.error
        InterfaceError
        DatabaseError
            DataError, OperationalError, IntegrityError, InternalError, ProgrammingError, NotSupportedError

Rules
  1. What comes out of a call of this package is one of these; its `__cause__` is what apsw or the store said.
  2. What is none of the below, KeyboardInterrupt say, goes through as it is.

Thread safety: classes and pure functions.
"""

from __future__ import annotations

from typing import NoReturn

import apsw

from lsmdbm._base.errors import ClosedError, FlagError, error
from lsmdbm._base.public import member_of


@member_of("lsmdbm.dbapi")
class Warning(Exception):  # noqa: A001 - the name of PEP 249
    """Never raised: there is nothing to warn of."""


@member_of("lsmdbm.dbapi")
class Error(error):
    """Base of all errors of `lsmdbm.dbapi`."""


@member_of("lsmdbm.dbapi")
class InterfaceError(Error):
    """SQLite was called in a way that it does not allow."""


@member_of("lsmdbm.dbapi")
class DatabaseError(Error):
    """Whatever SQLite says that is none of the below."""


@member_of("lsmdbm.dbapi")
class DataError(DatabaseError):
    """A value that cannot be stored: a number as a key, a key that is too long, an integer over 64 bits."""


@member_of("lsmdbm.dbapi")
class OperationalError(DatabaseError):
    """The store says no: a conflict, read only, locked, damaged, disk full.  The cause tells which."""


@member_of("lsmdbm.dbapi")
class IntegrityError(DatabaseError):
    """A key that is there already; NULL where there must be a value."""


@member_of("lsmdbm.dbapi")
class InternalError(DatabaseError):
    """A fault in SQLite."""


@member_of("lsmdbm.dbapi")
class ProgrammingError(DatabaseError):
    """SQL that is wrong, parameters that do not fit, a cursor or connection that is closed."""


@member_of("lsmdbm.dbapi")
class NotSupportedError(DatabaseError):
    """SQL that is right, and means something that cannot be kept here."""


_KINDS: list[tuple[type[Error], tuple[type[BaseException], ...]]] = [
    (ProgrammingError, (ClosedError, FlagError)),
    (OperationalError, (error,)),
    (IntegrityError, (apsw.ConstraintError,)),
    (
        ProgrammingError,
        (
            apsw.SQLError,
            apsw.BindingsError,
            apsw.RangeError,
            apsw.ThreadingViolationError,
            apsw.ConnectionClosedError,
            apsw.CursorClosedError,
            apsw.IncompleteExecutionError,
        ),
    ),
    (DataError, (apsw.MismatchError, apsw.TooBigError)),
    (
        OperationalError,
        (
            apsw.BusyError,
            apsw.LockedError,
            apsw.CantOpenError,
            apsw.IOError,
            apsw.FullError,
            apsw.ReadOnlyError,
            apsw.InterruptError,
        ),
    ),
    (InternalError, (apsw.InternalError,)),
    (InterfaceError, (apsw.MisuseError,)),
    (DatabaseError, (apsw.Error,)),
    (ProgrammingError, (TypeError,)),  # a parameter of a type that SQLite does not know
    (DataError, (OverflowError, ValueError, BufferError)),
]


def translated(exc: Exception) -> Exception:
    """Return the exception of PEP 249 for another one; itself if it is one, or none of ours to judge.

    >>> translated(apsw.ConstraintError("UNIQUE constraint failed: kv.key"))
    IntegrityError('UNIQUE constraint failed: kv.key')
    """
    if isinstance(exc, Error):
        return exc
    for kind, sources in _KINDS:
        if isinstance(exc, sources):
            return kind(str(exc))
    return exc


def fail(exc: Exception) -> NoReturn:
    """Raise the exception of PEP 249 for another one, which is its cause."""
    found = translated(exc)
    if found is exc:
        raise exc
    raise found from exc
