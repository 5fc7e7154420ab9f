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

Every name is imported when it is first asked for, and stays.  A program that opens nothing yet starts sooner,
and the command can be interrupted cleanly while the rest is on its way (cli/entry.py).
"""

import sys
from importlib import import_module

from lsmdbm._base.forking import importing

TYPE_CHECKING = False  # in the place of typing's, which takes a fifth of what importing all of us does
if TYPE_CHECKING:
    from lsmdbm import aio, bulk, cache, shelve
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
    from lsmdbm._base.options import Options
    from lsmdbm._engine.check import Problem, Report
    from lsmdbm._engine.figures import LevelStats, Stats
    from lsmdbm._engine.findings import Loss, RepairReport
    from lsmdbm.batch import WriteBatch
    from lsmdbm.changes import Change
    from lsmdbm.coercion import open_flags
    from lsmdbm.database import Database, open  # noqa: A004 - the name the dbm modules share
    from lsmdbm.decoded_handle import DecodedBatch, DecodedSnapshot, DecodedTransaction
    from lsmdbm.decoded_range import DecodedRange
    from lsmdbm.maintenance import destroy, repair, verify
    from lsmdbm.migration import export_dbm, import_dbm
    from lsmdbm.ranges import Range
    from lsmdbm.registration import is_database, register, unregister, whichdb
    from lsmdbm.shelve import open_shelf
    from lsmdbm.snapshot import Snapshot
    from lsmdbm.text import Text
    from lsmdbm.transaction import Savepoint, Transaction

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
    "ClosedError": "lsmdbm._base.errors",
    "ConflictError": "lsmdbm._base.errors",
    "CorruptionError": "lsmdbm._base.errors",
    "Database": "lsmdbm.database",
    "DecodedBatch": "lsmdbm.decoded_handle",
    "DecodedRange": "lsmdbm.decoded_range",
    "DecodedSnapshot": "lsmdbm.decoded_handle",
    "DecodedTransaction": "lsmdbm.decoded_handle",
    "FailedError": "lsmdbm._base.errors",
    "FlagError": "lsmdbm._base.errors",
    "HistoryLostError": "lsmdbm._base.errors",
    "LevelStats": "lsmdbm._engine.figures",
    "LockedError": "lsmdbm._base.errors",
    "Loss": "lsmdbm._engine.findings",
    "NotFoundError": "lsmdbm._base.errors",
    "Options": "lsmdbm._base.options",
    "Problem": "lsmdbm._engine.check",
    "Range": "lsmdbm.ranges",
    "ReadOnlyError": "lsmdbm._base.errors",
    "RepairReport": "lsmdbm._engine.findings",
    "Report": "lsmdbm._engine.check",
    "Savepoint": "lsmdbm.transaction",
    "Snapshot": "lsmdbm.snapshot",
    "Stats": "lsmdbm._engine.figures",
    "Text": "lsmdbm.text",
    "Transaction": "lsmdbm.transaction",
    "WriteBatch": "lsmdbm.batch",
    "aio": "lsmdbm.aio",
    "bulk": "lsmdbm.bulk",
    "cache": "lsmdbm.cache",
    "destroy": "lsmdbm.maintenance",
    "error": "lsmdbm._base.errors",
    "export_dbm": "lsmdbm.migration",
    "import_dbm": "lsmdbm.migration",
    "is_database": "lsmdbm.registration",
    "open": "lsmdbm.database",
    "open_flags": "lsmdbm.coercion",
    "open_shelf": "lsmdbm.shelve",
    "register": "lsmdbm.registration",
    "repair": "lsmdbm.maintenance",
    "shelve": "lsmdbm.shelve",
    "unregister": "lsmdbm.registration",
    "verify": "lsmdbm.maintenance",
    "whichdb": "lsmdbm.registration",
}

if not TYPE_CHECKING:  # for checkers, what is not named above is a mistake

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with importing:
            found = import_module(_LATER[name])
        # not getattr(module, name, module): lsmdbm.shelve has an attribute shelve, the stdlib's
        globals()[name] = found if found.__name__ == f"{__name__}.{name}" else getattr(found, name)
        for other, place in _LATER.items():  # for the end of the interpreter, where nothing can be imported
            module = sys.modules.get(place)  # another thread may be importing it: then it may lack the name
            if module is not None and place != f"{__name__}.{other}" and other in vars(module):
                globals().setdefault(other, vars(module)[other])
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
