"""lsmdbm.dbapi: a database by SQL, as PEP 249 has it.  Needs `lsmdbm[sql]`.

    connection = lsmdbm.dbapi.connect("words")
    cursor = connection.cursor()
    cursor.execute("SELECT key, value FROM kv WHERE key >= ? ORDER BY key DESC LIMIT 10", ["a"])

The SQL is SQLite's; the tables are virtual ones over the store.

General layout: `connection` (connect, Connection) and `cursor` (Cursor) are the faces, `statements` and `ddl`
tell statements apart, `kv` is the table of all keys, `bounds` what is read for a WHERE, `session` the
transaction that all tables share.  Of tables that CREATE TABLE makes, `schema` reads the statement,
`catalogue` keeps it, `tables` shows them, `rows` is the virtual table, `access` and `spans` say what is read,
`layout` and `values` know the bytes.  `types` and `errors` have the names of PEP 249.
"""

try:
    import apsw  # noqa: F401 - asked for here, so that the message is ours
except ImportError as exc:
    raise ImportError("lsmdbm.dbapi needs apsw: pip install 'lsmdbm[sql]'", name="apsw") from exc

from lsmdbm.dbapi.connection import Connection, connect
from lsmdbm.dbapi.cursor import Cursor
from lsmdbm.dbapi.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,  # noqa: A004 - the name of PEP 249
)
from lsmdbm.dbapi.types import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
)

apilevel = "2.0"
threadsafety = 1  # threads may share the module, but not connections
paramstyle = "qmark"

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]
