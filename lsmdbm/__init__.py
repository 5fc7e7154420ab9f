"""lsmdbm: a persistent, sorted, dict-like store.

    import lsmdbm

    with lsmdbm.open("words", "c") as db:
        db["apple"] = "red"
        for key, value in db.range("a", "b").items(): ...

General layout: `database` (open, Database), `ranges` (Range), `snapshot` (Snapshot), `batch` (WriteBatch),
`transaction` (Transaction) and `changes` (Change) are the faces of bytes, `text` (Text) and `shelve`
(open_shelf) those of str and objects, `aio` that of event loops, `cache` that of what may be forgotten,
`dbapi`, for which there is an extra, that of SQL; `registration` lets `dbm` find us, `migration` moves
entries from and to other dbms, `bulk` builds files and databases, `maintenance` looks after the files.  Below
them `_engine` decides what happens in what order, `_format` knows the bytes, `_base` the words all of them
share.

The names in _LATER are imported when they are first asked for: most programs need none, and start sooner.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from lsmdbm._base.forking import importing
from lsmdbm._base.options import Options
from lsmdbm._engine.stats import LevelStats, Stats
from lsmdbm.batch import WriteBatch
from lsmdbm.coercion import open_flags
from lsmdbm.database import Database, open  # noqa: A004 - the name the dbm modules share
from lsmdbm.ranges import Range
from lsmdbm.registration import is_database, register, unregister, whichdb
from lsmdbm.snapshot import Snapshot
from lsmdbm.transaction import Savepoint, Transaction

if TYPE_CHECKING:
    from lsmdbm import aio, bulk, cache, shelve
    from lsmdbm._engine.check import Problem, Report
    from lsmdbm._engine.findings import Loss, RepairReport
    from lsmdbm.changes import Change
    from lsmdbm.decoded_handle import DecodedBatch, DecodedSnapshot, DecodedTransaction
    from lsmdbm.decoded_range import DecodedRange
    from lsmdbm.maintenance import destroy, repair, verify
    from lsmdbm.migration import export_dbm, import_dbm
    from lsmdbm.shelve import open_shelf
    from lsmdbm.text import Text

__version__ = "0.1.0"

__all__ = [
    "Change",
    "ClosedError",
    "ConflictError",
    "CorruptionError",
    "Database",
    "DecodedBatch",
    "DecodedRange",
    "DecodedSnapshot",
    "DecodedTransaction",
    "FailedError",
    "FlagError",
    "HistoryLostError",
    "LevelStats",
    "LockedError",
    "Loss",
    "NotFoundError",
    "Options",
    "Problem",
    "Range",
    "ReadOnlyError",
    "RepairReport",
    "Report",
    "Savepoint",
    "Snapshot",
    "Stats",
    "Text",
    "Transaction",
    "WriteBatch",
    "aio",
    "bulk",
    "cache",
    "destroy",
    "error",
    "export_dbm",
    "import_dbm",
    "is_database",
    "open",
    "open_flags",
    "open_shelf",
    "register",
    "repair",
    "shelve",
    "unregister",
    "verify",
    "whichdb",
]

_LATER = {  # public name: its module, or itself
    "Change": "lsmdbm.changes",
    "DecodedBatch": "lsmdbm.decoded_handle",
    "DecodedRange": "lsmdbm.decoded_range",
    "DecodedSnapshot": "lsmdbm.decoded_handle",
    "DecodedTransaction": "lsmdbm.decoded_handle",
    "Loss": "lsmdbm._engine.findings",
    "Problem": "lsmdbm._engine.check",
    "RepairReport": "lsmdbm._engine.findings",
    "Report": "lsmdbm._engine.check",
    "Text": "lsmdbm.text",
    "aio": "lsmdbm.aio",
    "bulk": "lsmdbm.bulk",
    "cache": "lsmdbm.cache",
    "destroy": "lsmdbm.maintenance",
    "export_dbm": "lsmdbm.migration",
    "import_dbm": "lsmdbm.migration",
    "open_shelf": "lsmdbm.shelve",
    "repair": "lsmdbm.maintenance",
    "shelve": "lsmdbm.shelve",
    "verify": "lsmdbm.maintenance",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with importing:
        module = import_module(_LATER[name])
    # not getattr(module, name, module): lsmdbm.shelve has an attribute shelve, the stdlib's
    return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
