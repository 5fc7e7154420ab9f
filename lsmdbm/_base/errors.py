"""Every exception lsmdbm raises on its own account, each saying when.

A missing key is `KeyError`, an argument of the wrong type `TypeError`, a bad option or an oversized
key `ValueError`.  Everything else is `error` or one of the classes below.

Thread safety: classes, and a pure function.
"""

from __future__ import annotations

import errno

from lsmdbm._base.public import member_of

_NOT_FOUND = "No such file or directory"
_LOCKED = "Resource temporarily unavailable"


@member_of("lsmdbm")
class error(OSError):  # noqa: N801 - the name the dbm modules share
    """Base of all lsmdbm errors; an `OSError`, so that `except dbm.error` catches it.

    Raised itself when the operating system refuses something (`errno` is kept) and when a path
    holds something that is not ours.
    """


@member_of("lsmdbm")
class FlagError(error, ValueError):
    """The flag given to `open()` is not one of `'r'`, `'w'`, `'c'`, `'n'` with known suffixes."""


@member_of("lsmdbm")
class NotFoundError(error, FileNotFoundError):
    """There is no database at the path, or its parent directory does not exist."""

    @classmethod
    def at(cls, path: str) -> NotFoundError:
        """Return the error for `path`, with the text of the operating system."""
        return cls(errno.ENOENT, _NOT_FOUND, path)


@member_of("lsmdbm")
class ReadOnlyError(error):
    """A write through a handle that was opened with flag `'r'`."""

    def __init__(self, text: str = "The database is opened for reading only") -> None:
        super().__init__(text)


@member_of("lsmdbm")
class ClosedError(error):
    """An operation on a handle after `close()`, or an iterator that outlived its handle."""

    def __init__(self, text: str = "DBM object has already been closed") -> None:
        super().__init__(text)


@member_of("lsmdbm")
class LockedError(error, BlockingIOError):
    """Another process kept the writer lock for longer than `timeout`."""

    @classmethod
    def at(cls, path: str, holder: str) -> LockedError:
        """Return the error for `path`; `holder` says who has the lock, for the message alone."""
        return cls(errno.EAGAIN, f"{_LOCKED}: writer lock held by {holder}", path)


@member_of("lsmdbm")
class CorruptionError(error):
    """Bytes on disk are not what they must be.  Nothing was skipped and nothing was repaired.

    Attributes:
        path: the file.
        offset: where in it, in bytes from its start; -1 when the file as a whole is meant.
        reason: what was expected and what was found.
    """

    def __init__(self, path: str, offset: int, reason: str) -> None:
        place = path if offset < 0 else f"{path}, offset {offset}"
        super().__init__(f"{place}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason

    def __reduce__(self) -> tuple[type[CorruptionError], tuple[str, int, str]]:
        return type(self), (self.path, self.offset, self.reason)


@member_of("lsmdbm")
class FailedError(error):
    """An I/O error without remedy left it unknown what is on disk.

    Writes are refused from then on and reads go on.  Close and reopen: recovery decides what holds.
    """


@member_of("lsmdbm")
class ConflictError(error):
    """A transaction lost a race: what it read was changed before it could commit."""


@member_of("lsmdbm")
class HistoryLostError(error):
    """Changes that a follower has not seen yet are in no log any more, or it has followed another history.

    Nothing is wrong with the database; copy it anew, from a snapshot.

    Attributes:
        path: of the database.
        reason: which sequences are missing, or how its history differs.
        oldest: the oldest position from which nothing is missing, for those who can do without the rest.
    """

    def __init__(self, path: str, reason: str, oldest: bytes) -> None:
        super().__init__(f"{path}: changes are lost: {reason}")
        self.path = path
        self.reason = reason
        self.oldest = oldest

    def __reduce__(self) -> tuple[type[HistoryLostError], tuple[str, str, bytes]]:
        return type(self), (self.path, self.reason, self.oldest)


def is_of_system(exc: OSError) -> bool:
    """Return whether what came out of a call of the system is the system's: then it has a number.

    An OSError without one was raised by a signal handler, a TimeoutError mostly.
    """
    return exc.errno is not None
