"""lsmdbm.aio: databases for asyncio.  No operation keeps the event loop waiting for a disk or a lock.

    async with lsmdbm.aio.open("words", "c") as db:
        await db.put("apple", "red")
        async for key, value in db.items(prefix="a"): ...

Work is done in threads of the handle, which begin with their first call and end with `close()`; the executor
of the loop is not used.  What is in memory anyway is returned at once.

Names: `open`, `close` and `async with` as in asyncio libraries for databases and files; `get`, `pop`,
`update`, `items` and the like as in a mapping.  What a mapping has as an operator, which cannot be awaited,
is called what a `WriteBatch` calls it, `put` and `delete`, or what it asks for: `contains`, `length`.

What it has not: ranges as mappings, since every method that reads takes bounds; `text()`; `keys()` as a list,
`firstkey()`, `nextkey()` and the like, for which there are `first()` and `last()` with bounds; `ingest()`.

General layout: `lane` has the threads, `stream` the iteration, `reads` what database, snapshot and
transaction share; these three, and `batch`, have a module each, and `handle` is what a database is but for
its entries.
"""

from lsmdbm.aio.batch import AsyncBatch
from lsmdbm.aio.database import Database, open  # noqa: A004 - the name of the dbm modules
from lsmdbm.aio.snapshot import Snapshot
from lsmdbm.aio.stream import Stream
from lsmdbm.aio.transaction import Savepoint, Transaction

__all__ = ["AsyncBatch", "Database", "Savepoint", "Snapshot", "Stream", "Transaction", "open"]
