"""kv: the whole store as a table of keys and values, kv(key BLOB PRIMARY KEY, value BLOB).

Rules
  1. A cursor reads the moment of its `Filter`: what is written while it is read does not show in it.
  2. Values are not read where no column but the key is asked for.
  3. No I/O in `Eof`: apsw swallows its exceptions.  What can fail is in `Filter` and `Next`.
  4. A row is checked before anything of it is written: SQLite undoes nothing of a virtual table.
  5. OR IGNORE returns as if it had inserted, for apsw makes an error of every exception.
  6. SQLite collects the rows of an UPDATE first.  OR REPLACE may have put another value under a key before
     its turn comes, so values that do not change are not taken from there.
  7. Keys that belong to tables are neither shown nor written: who changes all rows of kv changes no table.

Thread safety: that of the connection.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import apsw

from lsmdbm._base.chunk import MAX_KEY_BYTES, MAX_VALUE_BYTES, Chunk, Chunks
from lsmdbm._engine.validation import Walk
from lsmdbm.dbapi.bounds import EQ, SIGNS, Constraint, Plan, Span, choose, locate, outside, read, startswith
from lsmdbm.dbapi.codecs import Codec
from lsmdbm.dbapi.errors import DataError
from lsmdbm.dbapi.session import Enlisted, Session
from lsmdbm.dbapi.values import RESERVED
from lsmdbm.transaction import Transaction

NAME = "kv"
KEY, VALUE = "key", "value"
SCHEMA = "CREATE TABLE x(key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
LOOK = (SIGNS[EQ],)
RESERVED_STOP = RESERVED[:-1] + b"\1"  # the first key above them
_NO_CHUNKS: Iterator[Chunk] = iter(())


class KvModule:
    """What SQLite makes the table with: eponymous, so it is in every connection and nothing can drop it."""

    def __init__(self, session: Session, codec: Codec | None = None) -> None:
        self._session = session
        self._codec = codec

    def Connect(self, connection: apsw.Connection, *_: object) -> tuple[str, KvTable]:
        """Return the definition of the table, and the table."""
        connection.vtab_config(apsw.SQLITE_VTAB_CONSTRAINT_SUPPORT, 1)
        return SCHEMA, KvTable(self._session, connection, self._codec)

    Create = Connect


class KvTable(Enlisted):
    """The table: what it costs to read of it, and how it is written."""

    __slots__ = ("_codec", "_connection")

    def __init__(self, session: Session, connection: apsw.Connection, codec: Codec | None) -> None:
        super().__init__(session)
        self._codec = codec
        self._connection = weakref.ref(connection)  # which holds this

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:
        """Say how a statement will be answered."""
        constraints = [constraint_at(info, at) for at in range(info.nConstraint)]
        order = [(info.get_aOrderBy_iColumn(at), info.get_aOrderBy_desc(at)) for at in range(info.nOrderBy)]
        _tell(info, choose(constraints, order, info.colUsed), constraints)
        return True

    def Open(self) -> KvCursor:
        """Return a cursor."""
        return KvCursor(self.session, self._codec)

    def Disconnect(self) -> None:
        """End; there is nothing to let go of."""

    Destroy = Disconnect

    def FindFunction(self, name: str, _: int) -> tuple[int, Callable[..., object]] | None:
        """Take `startswith(key, ...)` for a constraint."""
        return (apsw.SQLITE_INDEX_CONSTRAINT_FUNCTION, startswith) if name == "startswith" else None

    # -- writing ------------------------------------------------------------------------------------

    def UpdateInsertRow(self, _: int | None, fields: tuple[Any, ...]) -> int:
        """Insert an entry; 0, for there are no rowids."""
        key, value = _stored_key(fields[0]), self._stored_value(fields[1])
        transaction = self.session.transaction
        if self._may_be_written(key, transaction):
            transaction[key] = value
        return 0

    def UpdateDeleteRow(self, key: Any) -> None:
        """Delete an entry, that a cursor has found."""
        self.session.transaction.pop(key, None)

    def UpdateChangeRow(self, key: Any, _: object, fields: tuple[Any, ...]) -> None:
        """Change an entry, its key perhaps; what the statement does not set stays as it is now (rule 6)."""
        new = key if fields[0] is apsw.no_change else _stored_key(fields[0])
        transaction = self.session.transaction
        value = transaction[key] if fields[1] is apsw.no_change else self._stored_value(fields[1])
        if new != key:
            if not self._may_be_written(new, transaction):
                return
            del transaction[key]
        transaction[new] = value

    def _stored_value(self, value: object) -> bytes:
        encoded = value if self._codec is None else self._codec.stored(value)
        return _stored(encoded, VALUE, MAX_VALUE_BYTES)

    def _may_be_written(self, key: bytes, transaction: Transaction) -> bool:
        """Return whether there is no such key yet, or it may be replaced; False to ignore the row (rule 5).

        Raises:
            ConstraintError: it is there, and that is an error.
        """
        connection = self._connection()
        conflict = apsw.SQLITE_ABORT if connection is None else connection.vtab_on_conflict()
        if conflict == apsw.SQLITE_REPLACE or key not in transaction:
            return True
        if conflict == apsw.SQLITE_IGNORE:
            self.session.uncounted += 1
            return False
        if conflict == apsw.SQLITE_FAIL:
            self.session.keep_failed()
        raise apsw.ConstraintError(f"UNIQUE constraint failed: {NAME}.{KEY}")


def _stored_key(value: object) -> bytes:
    key = _stored(value, KEY, MAX_KEY_BYTES)
    if key.startswith(RESERVED):
        raise DataError(f"{NAME}.{KEY} must not begin with {RESERVED!r}: such keys belong to tables")
    return key


def _stored(value: object, column: str, limit: int) -> bytes:
    """Return what is stored of a value.

    Raises:
        ConstraintError: NULL.
        DataError: a number, or too long.
    """
    if type(value) is not bytes:
        if value is None:
            raise apsw.ConstraintError(f"NOT NULL constraint failed: {NAME}.{column}")
        if not isinstance(value, str):
            raise DataError(f"{NAME}.{column} must be BLOB or TEXT, not {type(value).__name__}: {value!r}")
        value = value.encode("utf-8")
    if len(value) > limit:
        raise DataError(f"{NAME}.{column} of {len(value)} bytes: the limit is {limit}")
    return value


def constraint_at(info: apsw.IndexInfo, at: int) -> Constraint:
    """Return one of the terms of a WHERE."""
    operator = info.get_aConstraint_op(at)
    return Constraint(
        info.get_aConstraint_iColumn(at),
        operator,
        info.get_aConstraint_usable(at),
        info.get_aConstraint_collation(at) if operator in SIGNS else "",
        info.get_aConstraintUsage_in(at),
    )


def _tell(info: apsw.IndexInfo, plan: Plan, constraints: list[Constraint]) -> None:
    for position, at in enumerate(plan.taken):
        info.set_aConstraintUsage_argvIndex(at, position + 1)
        info.set_aConstraintUsage_omit(at, True)
        if constraints[at].is_in:
            info.set_aConstraintUsage_in(at, True)
    info.idxStr = plan.text
    info.orderByConsumed = plan.is_ordered
    info.estimatedRows = plan.rows
    info.estimatedCost = plan.cost
    if plan.is_unique:
        info.idxFlags = apsw.SQLITE_INDEX_SCAN_UNIQUE


class KvCursor:
    """Rows of a range, or of single keys, chunk by chunk."""

    __slots__ = (
        "__weakref__",
        "_at",
        "_chunks",
        "_codec",
        "_is_over",
        "_keys",
        "_session",
        "_size",
        "_step",
        "_values",
    )

    def __init__(self, session: Session, codec: Codec | None = None) -> None:
        self._session = session
        self._codec = codec
        self._chunks: Iterator[Chunk] = _NO_CHUNKS
        self._keys: list[bytes] = []
        self._values: list[Any] = []
        self._at = self._size = 0
        self._step = 1
        self._is_over = True
        session.cursor_opened()

    def Filter(self, _: int, text: str, values: tuple[object, ...]) -> None:
        """Begin to read; SQLite may do that many times on one cursor."""
        self._let_go()
        plan = read(text)
        if plan.is_look and type(values[0]) is bytes:  # of a join there are many: no detour
            self._look_up([] if values[0].startswith(RESERVED) else [values[0]])
            return
        self._step = -1 if plan.is_reverse else 1
        found = locate(plan.signs, values)
        if isinstance(found, Span):
            self._walk(outside(found, RESERVED, RESERVED_STOP), plan.is_keys_only)
        else:
            self._look_up([key for key in found if not key.startswith(RESERVED)])
            return
        self._move_on()

    def _walk(self, spans: Sequence[Span], is_keys_only: bool) -> None:
        """Read spans, which are ascending, all at one moment: none of them is begun later."""
        walks = [self._walked(span, is_keys_only) for span in spans[:: self._step] if not span.is_empty()]
        self._chunks = walks[0] if len(walks) == 1 else chain.from_iterable(walks)

    def _walked(self, span: Span, is_keys_only: bool) -> Chunks:
        chunks = self._session.source._chunks(
            span.start, span.stop, reverse=self._step < 0, keys_only=is_keys_only
        )
        if isinstance(chunks, Walk):
            chunks.watch(self._left)
        return chunks

    def _look_up(self, keys: list[bytes]) -> None:
        """Read so many keys at once, one moment, each block once; and move to the first that is there."""
        source = self._session.source
        if len(keys) == 1:
            value = source._get(keys[0])
            if value is not None:
                self._keys, self._values, self._size, self._is_over = keys, [value], 1, False
            return
        found = source._get_many(keys) if keys else {}
        held = [key for key in keys if key in found]
        self._chunks = iter([(held, [found[key] for key in held])] if held else [])
        self._move_on()

    def _left(self) -> int:
        """Return how many keys of the current chunk have not come out: see `Walk.watch`."""
        return max(0, self._size - self._at - 1)

    def _move_on(self) -> None:
        self._session.database._check_open()  # in the child of a fork a read may wait for a lock of nobody
        for keys, values in self._chunks:
            if keys:
                is_forward = self._step > 0
                self._at, self._size = 0, len(keys)
                self._keys = keys if is_forward else keys[::-1]
                self._values = values if is_forward else values[::-1]
                self._is_over = False
                return
        self._is_over = True

    def _let_go(self) -> None:
        self._chunks = _NO_CHUNKS  # a walk that ends here asks what is left of the chunk
        self._keys, self._values = [], []
        self._at = self._size = 0
        self._is_over = True

    def Next(self) -> None:
        """Move to the next row."""
        self._at += 1
        if self._at == self._size:
            self._move_on()

    def Eof(self) -> bool:
        """Return whether there is no row (rule 3)."""
        return self._is_over

    def Column(self, number: int) -> Any:
        """Return the key or the value."""
        if number == 0:
            return self._keys[self._at]
        value = self._values[self._at]
        return value if self._codec is None else self._codec.shown(value)

    def ColumnNoChange(self, number: int) -> object:
        """Say of a column that an UPDATE does not set that no value is needed (rule 6)."""
        return apsw.no_change

    def Close(self) -> None:
        """End."""
        self._let_go()
        self._session.cursor_closed()
