"""File names: 000017.wal, 000018.sst, 000019.man, and LOCK; one counter for all kinds.

Rules
  1. A number is used once, but for one whose file a loss of power took without a trace: that file had another
     salt.  A name that is taken already means: take the next number.
  2. A name that `parse` does not know is not ours and is never touched.

Thread safety: the counter belongs to the writer, under its lock.  Spec: docs/format.md, Names.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from lsmdbm._base.errors import error
from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._format.coding import MAX_NUMBER

LOCK = "LOCK"
WAL, TABLE, MANIFEST = "wal", "sst", "man"
TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}

_PATTERN = re.compile(r"([0-9]{6,19})\.(wal|sst|man)", re.ASCII)


def file_name(number: int, kind: str) -> str:
    """Return the name of a file.

    >>> file_name(17, WAL)
    '000017.wal'
    """
    return f"{number:06d}.{kind}"


@lru_cache(maxsize=1024)  # one opening asks for each name several times
def parse(name: str) -> tuple[int, str] | None:
    """Return number and kind of one of our files; None for every other name.

    >>> parse("000017.wal"), parse("17.wal"), parse("LOCK")
    ((17, 'wal'), None, None)
    """
    match = _PATTERN.fullmatch(name)
    if match is None:
        return None
    number, kind = int(match[1]), match[2]
    return (number, kind) if number <= MAX_NUMBER and file_name(number, kind) == name else None


def numbers(names: list[str], kind: str) -> list[int]:
    """Return the numbers of all files of one kind, ascending."""
    parsed = (parse(name) for name in names if name.endswith(kind))
    return sorted(found[0] for found in parsed if found is not None and found[1] == kind)


def unlink_all(directory: Directory, names: Iterable[str]) -> None:
    """Remove files that count for nothing.  What cannot be removed now the next opening collects."""
    for name in names:
        try:
            directory.unlink(name)
        except error:
            pass


def lock_label(storage: Storage) -> bytes:
    """Return what LOCK will say of this process."""
    return f"pid {storage.pid()}\n".encode()


def lock_holder(directory: Directory) -> str:
    """Return what LOCK says of whoever has it; for messages alone."""
    return directory.peek(LOCK).decode("ascii", "replace").strip() or "another process"


class Counter:
    """Hands out file numbers: each once, ascending.

    Args:
        next_number: the first of them.
        make_room: gives descriptors back, as far as that is possible; called when there are too few.
        stop: no number is as high.
    """

    __slots__ = ("_make_room", "_stop", "next_number")

    def __init__(
        self, next_number: int, make_room: Callable[[], None] = lambda: None, stop: int = MAX_NUMBER
    ) -> None:
        self.next_number = next_number
        self._make_room = make_room
        self._stop = stop  # by default, a manifest has to name a still higher one

    def take(self) -> int:
        """Return a number that no file has had.

        Raises:
            error: none is left: the directory holds a file with the highest of all.
        """
        return self.reserve(1)[0]

    def reserve(self, count: int) -> range:
        """Return so many numbers that no file has had, for files that another process creates.

        Raises:
            error: there are not so many.
        """
        first = self.next_number
        if first + count > self._stop:
            raise error(f"no file number is left below {self._stop}")
        self.next_number = first + count
        return range(first, first + count)

    def create(self, directory: Directory, kind: str) -> tuple[int, File]:
        """Create the next file of a kind."""
        may_make_room = True
        while True:
            number = self.take()
            try:
                return number, directory.create(file_name(number, kind))
            except error as exc:
                if exc.errno in TOO_MANY_FILES and may_make_room:
                    may_make_room = False
                    self._make_room()
                elif exc.errno != errno.EEXIST:  # rule 1
                    raise
