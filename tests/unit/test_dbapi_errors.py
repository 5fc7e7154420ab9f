"""What apsw and the store raise becomes an exception of PEP 249, by a table."""

import pytest

import lsmdbm
from support import sql

dbapi = sql.module()

import apsw  # noqa: E402 - a module to be skipped comes first

from lsmdbm.dbapi.errors import fail, translated  # noqa: E402

BECOMES = {
    "IntegrityError": [apsw.ConstraintError],
    "ProgrammingError": [
        apsw.SQLError,
        apsw.BindingsError,
        apsw.RangeError,
        apsw.ThreadingViolationError,
        apsw.ConnectionClosedError,
        apsw.CursorClosedError,
        apsw.IncompleteExecutionError,
        lsmdbm.ClosedError,
        lsmdbm.FlagError,
        TypeError,
    ],
    "DataError": [apsw.MismatchError, apsw.TooBigError, OverflowError, ValueError, BufferError],
    "OperationalError": [
        apsw.BusyError,
        apsw.LockedError,
        apsw.CantOpenError,
        apsw.IOError,
        apsw.FullError,
        apsw.ReadOnlyError,
        apsw.InterruptError,
        lsmdbm.error,
        lsmdbm.ConflictError,
        lsmdbm.FailedError,
        lsmdbm.LockedError,
        lsmdbm.NotFoundError,
        lsmdbm.ReadOnlyError,
    ],
    "InternalError": [apsw.InternalError],
    "InterfaceError": [apsw.MisuseError],
    "DatabaseError": [apsw.CorruptError, apsw.SchemaChangeError, apsw.NotADBError, apsw.AuthError],
}


@pytest.mark.parametrize(
    ("kind", "source"), [(kind, source) for kind, sources in BECOMES.items() for source in sources]
)
def test_each_error_becomes_one_of_pep_249_with_its_text_and_as_its_cause(kind, source):
    before = source("what is wrong")
    with pytest.raises(dbapi.Error, match="what is wrong") as caught:
        fail(before)

    assert getattr(dbapi, kind) is type(caught.value)
    assert before is caught.value.__cause__


@pytest.mark.parametrize("exc", [dbapi.NotSupportedError("no"), ZeroDivisionError(), KeyError("x")])
def test_what_is_one_already_or_none_of_ours_goes_through(exc):
    assert exc is translated(exc)
    with pytest.raises(type(exc)) as caught:
        fail(exc)
    assert exc is caught.value
