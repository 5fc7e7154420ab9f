"""Recognition: whether a path is one of our databases, by a look at content.

Rules
  1. A directory is ours if at least one of its numbered files begins with the magic of its kind: sound,
     damaged, of a newer format, or cut off in its birth.  Names alone are not enough, RocksDB has them too.
  2. A database that is not born, with no file but LOCK, is none: an empty directory is none either, and both
     are as good as nothing for every flag.
  3. A directory is somebody else's if nothing in it begins like ours, though its names do: RocksDB has LOCK
     and 000008.sst.  So it is without a manifest, if other files are in it.  Then no flag writes into it, and
     no file of it is unlinked.  Zeros may stand for anything: a loss of power leaves them.
  4. In the birth of a database a loss of power may leave noise as its manifest, beside no other files and no
     longer than one without tables.  Such a file is not told from one of somebody else.
  5. Nothing is written, created or locked.  What cannot be read is not recognised, and no error.

Thread safety: pure functions of what is on disk.
"""

from __future__ import annotations

from collections.abc import Iterator

from lsmdbm._base.errors import error
from lsmdbm._base.storage import Directory, Storage
from lsmdbm._engine.names import LOCK, MANIFEST, TABLE, WAL, file_name, numbers, parse
from lsmdbm._format import footer, manifest, records

PASSES = 100  # over a directory that keeps changing
MAGICS = {MANIFEST: manifest.MAGIC, WAL: records.MAGIC, TABLE: footer.HEADER_MAGIC}  # likeliest first


def is_ours(storage: Storage, path: str) -> bool:
    """Return whether one of our databases is at the path, whatever state it is in.

    Cost: one call for what is no directory; else a listing, and one small read for a database without damage.
    """
    try:
        if storage.kind(path) != "directory":  # a FIFO must not be opened: that would wait for a writer
            return False
        directory = storage.directory(path, 0)
    except error:
        return False
    try:
        return _holds_magic(directory)
    except error:
        return False
    finally:
        directory.close()


def is_foreign(directory: Directory, names: list[str]) -> bool:
    """Return whether a directory with these names is somebody else's (rule 3).

    Cost: one small read, of the newest manifest, for a database without damage.
    """
    ours = [name for name in names if parse(name)]
    has_others = any(name != LOCK for name in set(names).difference(ours))
    if has_others and not numbers(ours, MANIFEST):
        return True
    is_written = False
    for magic, head in _heads(directory, ours):
        if head.strip(b"\0"):
            if _may_be_torn(head, magic):
                return False
            is_written |= has_others or magic != manifest.MAGIC or len(head) > manifest.BLANK_BYTES  # rule 4
    return is_written


def _may_be_torn(head: bytes, magic: bytes) -> bool:
    """Return whether a file may be ours, some of which a loss of power has left as zeros."""
    return all(found in (0, due) for found, due in zip(head, magic, strict=False))


def _holds_magic(directory: Directory) -> bool:
    before: set[str] | None = None
    for _ in range(PASSES):
        names = directory.listdir()
        if _begin_like_ours(directory, names):
            return True
        if before == set(names):
            break  # else a writer has replaced what was listed before it could be looked at
        before = set(names)
    return False


def _begin_like_ours(directory: Directory, names: list[str]) -> bool:
    return any(head.startswith(magic) for magic, head in _heads(directory, names))


def _heads(directory: Directory, names: list[str]) -> Iterator[tuple[bytes, bytes]]:
    """Yield, for each numbered file, the magic of its kind, and what it begins with."""
    for kind, magic in MAGICS.items():
        for number in reversed(numbers(names, kind)):
            yield magic, directory.peek(file_name(number, kind))
