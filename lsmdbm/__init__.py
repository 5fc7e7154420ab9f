"""lsmdbm: a persistent, sorted, dict-like store.

    import lsmdbm

    with lsmdbm.open("words", "c") as db:
        db["apple"] = "red"
        for key, value in db.range("a", "b").items(): ...

General layout: `database` (open, Database) and `ranges` (Range) are the faces of bytes, `text` (Text) that
of str; below them `_engine` decides what happens in what order, `_format` knows the bytes, `_base` the words
all of them share.
"""

from lsmdbm._base.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    FailedError,
    FlagError,
    LockedError,
    NotFoundError,
    ReadOnlyError,
    error,
)
from lsmdbm._base.options import Options
from lsmdbm._engine.stats import LevelStats, Stats
from lsmdbm.coercion import open_flags
from lsmdbm.database import Database, open  # noqa: A004 - the name the dbm modules share
from lsmdbm.decoded import DecodedRange
from lsmdbm.ranges import Range
from lsmdbm.text import Text

__version__ = "0.1.0"

__all__ = [
    "ClosedError",
    "ConflictError",
    "CorruptionError",
    "Database",
    "DecodedRange",
    "FailedError",
    "FlagError",
    "LevelStats",
    "LockedError",
    "NotFoundError",
    "Options",
    "Range",
    "ReadOnlyError",
    "Stats",
    "Text",
    "error",
    "open",
    "open_flags",
]
