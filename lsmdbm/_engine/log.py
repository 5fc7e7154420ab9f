"""Log: what is remembered of a log that has ended, while a write in it is in no table.

Thread safety: under the lock of the store.
"""

from __future__ import annotations

from lsmdbm._base.storage import File
from lsmdbm._format.records import LogHeader


class Log:
    """A log that still holds writes which no table has."""

    __slots__ = ("end", "file", "header", "is_durable", "last_seq", "number", "offset")

    def __init__(
        self,
        number: int,
        end: int,
        last_seq: int,
        is_durable: bool = False,
        file: File | None = None,
        header: LogHeader | None = None,
        offset: int = 0,
    ) -> None:
        self.number = number
        self.end = end  # of its last data record
        self.last_seq = last_seq
        self.is_durable = is_durable
        self.file = file  # None for a log of an earlier opening
        self.header = header  # like the next one, of a log of this opening
        self.offset = offset  # where it ends, marks included
