import copy
import dbm
import errno
import inspect
import pickle

import pytest

from lsmdbm._base import errors
from lsmdbm._base.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    FailedError,
    FlagError,
    HistoryLostError,
    LockedError,
    NotFoundError,
    ReadOnlyError,
    error,
)

ALSO = {  # what else an error is caught as
    FlagError: ValueError,
    NotFoundError: FileNotFoundError,
    ReadOnlyError: OSError,
    ClosedError: OSError,
    LockedError: BlockingIOError,
    CorruptionError: OSError,
    FailedError: OSError,
    ConflictError: OSError,
    HistoryLostError: OSError,
}
EXAMPLES = [
    error("no"),
    error(errno.EIO, "Input/output error", "words"),
    FlagError("flag 'x'"),
    NotFoundError.at("words"),
    ReadOnlyError(),
    ClosedError(),
    LockedError.at("words", "process 7"),
    CorruptionError("words/000007.sst", 4096, "checksum"),
    CorruptionError("words/000007.sst", -1, "too short"),
    FailedError("sync failed"),
    ConflictError("read key has changed"),
    HistoryLostError("words", "sequences 3 to 5 are in no log", bytes(32)),
]


def test_every_error_is_caught_by_the_name_the_dbm_modules_share():
    defined = [value for value in vars(errors).values() if inspect.isclass(value)]

    assert {error, *ALSO} == set(defined)
    for kind in defined:
        assert issubclass(kind, dbm.error)
        assert issubclass(kind, error)


@pytest.mark.parametrize(("kind", "also"), ALSO.items())
def test_an_error_is_also_the_builtin_it_refines(kind, also):
    assert issubclass(kind, also)


def test_errors_are_shown_under_their_public_name():
    for kind in (error, *ALSO):
        assert kind.__module__ == "lsmdbm"


def test_not_found_carries_errno_and_path():
    found = NotFoundError.at("words")

    assert (errno.ENOENT, "words") == (found.errno, found.filename)
    assert str(found) == "[Errno 2] No such file or directory: 'words'"


def test_locked_names_the_holder_and_the_path():
    found = LockedError.at("words", "process 7 on host")

    assert (errno.EAGAIN, "words") == (found.errno, found.filename)
    assert "process 7 on host" in str(found)


@pytest.mark.parametrize(
    ("offset", "text"), [(12, "a.wal, offset 12: why"), (0, "a.wal, offset 0: why"), (-1, "a.wal: why")]
)
def test_corruption_names_file_place_and_reason(offset, text):
    found = CorruptionError("a.wal", offset, "why")

    assert ("a.wal", offset, "why") == (found.path, found.offset, found.reason)
    assert text == str(found)


def test_closed_speaks_as_the_dbm_modules_do():
    assert str(ClosedError()) == "DBM object has already been closed"
    assert str(ReadOnlyError()) == "The database is opened for reading only"


@pytest.mark.parametrize("example", EXAMPLES, ids=repr)
@pytest.mark.parametrize("through", [copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_an_error_survives_copying_and_pickling(example, through):
    again = through(example)

    assert type(example) is type(again)
    assert str(example) == str(again)
    assert vars(example) == vars(again)
    assert (example.errno, example.filename) == (again.errno, again.filename)
