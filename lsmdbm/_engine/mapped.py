"""Mapped: logs that are written by stores into memory.  Whether that may be, and how large each is.

A store keeps the GIL, which a system call gives up: beside a thread that computes in Python, a write is some
hundred times as fast.  The page cache has the bytes either way, so that a killed process loses none.

Rules
  1. Only where the storage says that a store cannot fail, and only logs that were just created.  They are
     allocated as a whole, and never extended.  What cannot be mapped is written by system calls.
  2. The first log of an opening is small and each next one twice as large, so that a small database stays
     small, and none larger than what a memtable takes: a flush ends the log.  Where a disk has no room for
     the one that is due, the smallest that will do is tried.
  3. A record is followed by room for a mark.  One that no log can hold stands in a log of its own, which is
     written by a system call.
  4. Flush and compaction ask the system and the compressor in few and long calls then.  A thread that waits
     for the GIL is awake some 50 us after a call has given it up: a long call loses it once, and so do many
     short ones in a row, every time.

Thread safety: under the lock of the store.  Spec: docs/durability.md, Mapped log.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

from lsmdbm._base.errors import error
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, File
from lsmdbm._format.records import MARK_BYTES

FIRST_LOG_BYTES = 64 << 10
NO_LIMIT = 1 << 62
MAPPED_BATCH_BYTES = 1 << 20  # rule 4: what is compressed together, in a step of some 4 ms,
MAPPED_SPAN_BLOCKS = 64  # and blocks of a table that are read together
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def mapper_for(log_io: str, directory: Directory, enough_bytes: int = NO_LIMIT) -> Mapper | None:
    """Return what maps the logs in a directory; None if system calls write them.

    Args:
        log_io: the option; of "mmap", `refuse_unmapped` has seen to it that it may be.
        enough_bytes: see Mapper.
    """
    if log_io == "auto" and (directory.why_not_mapped() or not has_gil()):
        return None
    return Mapper(enough_bytes) if log_io != "pwrite" else None


def enough_bytes(options: Options) -> int:
    """Return how many bytes of log there are before a flush ends it, about."""  # rule 2
    if options.background == "manual":
        return NO_LIMIT
    return options.memtable_bytes + options.memtable_bytes // 16


def has_gil() -> bool:
    """Return whether this Python has a GIL that a system call gives up."""
    return "t" not in getattr(sys, "abiflags", "")


def refuse_unmapped(directory: Directory) -> None:
    """Raise `error` if logs in a directory must not be mapped."""
    reason = directory.why_not_mapped()
    if reason:
        raise error(f"{directory.path}: log_io='mmap' is not safe here: {reason}")


class Mapper:
    """Maps the logs of one opening.

    Args:
        enough_bytes: what a log needs to hold; one is longer only for a record that is.
    """

    __slots__ = ("_enough_bytes", "_next_bytes")

    def __init__(self, enough_bytes: int = NO_LIMIT) -> None:
        self._enough_bytes = -(-enough_bytes // FIRST_LOG_BYTES) * FIRST_LOG_BYTES
        self._next_bytes = FIRST_LOG_BYTES

    def map(self, file: File, end: int, most_bytes: int) -> int:
        """Map a log that was just created, and return where its last record may end.

        Args:
            end: where its first record will end.
            most_bytes: the length of a log at most.

        Raises:
            error: the disk is full; the log is empty still.
        """
        file.unmap(0)  # an earlier try may have been interrupted
        if end + MARK_BYTES > most_bytes:
            return end  # rule 3
        trouble: error | None = None
        try:
            for length in self._lengths(end + MARK_BYTES, most_bytes):
                try:
                    file.map(length)
                except error as exc:
                    trouble = exc
                    continue
                self._next_bytes = min(2 * length, self._enough_bytes)
                return length - MARK_BYTES
            try:
                file.truncate(0)  # give the blocks back that there were
            except error:
                pass  # harmless: zeros are no record
            if trouble is not None and trouble.errno in DISK_FULL:
                raise trouble
            return NO_LIMIT  # rule 1
        finally:
            trouble = None  # else error and frame keep each other, and the file, until the next collection

    def _lengths(self, least_bytes: int, most_bytes: int) -> Iterator[int]:
        """Yield the length that is due, then the smallest that will do if that is another one."""  # rule 2
        smallest = FIRST_LOG_BYTES
        while smallest < least_bytes:
            smallest *= 2
        due = max(smallest, self._next_bytes)
        yield from sorted({min(due, most_bytes), min(smallest, most_bytes)}, reverse=True)
