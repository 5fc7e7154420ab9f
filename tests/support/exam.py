"""What a database says of itself by every way to read it, and whether it can be written on.

Thread safety: none.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from lsmdbm.database import Database, open_on
from support.crash_storage import CrashStorage
from support.specimens import PATH, State

ABSENT = (b"", b"\0", b"key", b"zz", b"\xff" * 3)
WRITTEN = {b"written": b"later", b"key00": b"replaced"}


def opened(storage: CrashStorage, flag: str, **options: Any) -> Database:
    """Open the database of a specimen."""
    return open_on(storage, PATH, flag, 0o666, options)


def read(db: Database, keys: Iterable[bytes] = ()) -> State:
    """Return what iteration gives.

    Raises:
        AssertionError: another way to read gives something else.
    """
    pairs = list(db.items())
    content = dict(pairs)
    assert pairs == sorted(content.items())
    assert pairs[::-1] == list(reversed(db.items()))
    assert sorted(content) == db.keys()
    assert list(content.values()) == list(db.values())
    assert len(content) == len(db)
    for key in {*content, *keys, *ABSENT}:
        assert content.get(key) == db.get(key)
        assert [pair for pair in pairs if pair[0] >= key][:1] == list(db.range(key).items())[:1]
    return content


def read_all(storage: CrashStorage, keys: Iterable[bytes] = (), **options: Any) -> State:
    """Open a database for reading, and return what is in it by every way to read."""
    with opened(storage, "r", **options) as db:
        return read(db, keys)


def write_on(db: Database, rng: random.Random) -> None:
    """Write into a database, now and then so that everything in it is moved."""
    db.update(WRITTEN)
    for care in rng.sample(("flush", "compact", "sync"), rng.randrange(3)):
        getattr(db, care)()
