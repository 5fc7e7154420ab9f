"""Codecs: columns that hold what SQL has no type for.

    connect(path, codecs={"kv": "json", "people": "json", "people.photo": "pickle"})

    codec     in SQL                 goes in as              comes out as
    raw       as it is stored        what SQL has types for  the same
    text      TEXT, from UTF-8       the same                the same, so str
    json      TEXT that is JSON      also dict, list, tuple  what json.loads makes of it
    pickle    BLOB                   also any other object   what pickle.loads makes of it

Rules
  1. A parameter that SQL has a type for is a value of SQL, and goes in as it is: what comes out of a column
     in SQL goes into another one unchanged.  So a str is JSON already, and bytes are a pickle already.
  2. Only who opens a database names its codecs, never the database: nothing in a file makes pickle load it.
  3. A codec of a table is one for its columns outside of the primary key; one of a column goes first.

Thread safety: pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import apsw

from lsmdbm.dbapi.errors import DataError, ProgrammingError
from lsmdbm.dbapi.tokens import folded

SQL_TYPES = (int, float, str, bytes, bytearray, memoryview, type(None))


@dataclass(frozen=True, slots=True)
class Codec:
    """How a column is written and read.

    Attributes:
        is_text: whether bytes of the store are TEXT in SQL.
        dumps: from an object to a value of SQL.
        check: raises ValueError for a value of SQL that cannot be in the column.
        loads: from a value of SQL to what is fetched; None if that is the same.
    """

    name: str
    is_text: bool
    dumps: Callable[[Any], str | bytes]
    check: Callable[[Any], object] | None
    loads: Callable[[Any], Any] | None

    def stored(self, value: Any) -> Any:
        """Return the value of SQL that is stored of a parameter (rule 1).

        Raises:
            DataError: it cannot be in the column.
        """
        try:
            if not isinstance(value, SQL_TYPES):
                value = self.dumps(value)
            if self.is_text and isinstance(value, bytes):
                value = value.decode("utf-8")
            if self.check is not None:
                self.check(value)
        except Exception as exc:
            raise DataError(f"codec {self.name}: {exc}") from exc
        return value

    def shown(self, data: bytes) -> Any:
        """Return the value of SQL that bytes of the store are.

        Raises:
            DataError: they are no UTF-8.
        """
        if not self.is_text:
            return data
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise DataError(f"codec {self.name}: {exc}") from exc

    def fetched(self, value: Any) -> Any:
        """Return what is fetched of a value of SQL.

        Raises:
            DataError: it is none of this codec.
        """
        if self.loads is None or value is None:
            return value
        try:
            return self.loads(value)
        except Exception as exc:
            raise DataError(f"codec {self.name}: {exc}") from exc


def _no_dumps(value: Any) -> bytes:
    raise TypeError(f"it has no values of type {type(value).__name__}")


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _check_json(value: Any) -> object:
    return json.loads(value) if isinstance(value, str) else None


def _load_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _pickle() -> Codec:
    import pickle  # not before somebody asks for it

    def load(value: Any) -> Any:
        return pickle.loads(value) if isinstance(value, bytes) else value

    return Codec("pickle", False, pickle.dumps, None, load)


_RAW = Codec("raw", False, _no_dumps, None, None)
_CODECS: dict[str, Callable[[], Codec]] = {
    "raw": lambda: _RAW,
    "text": lambda: Codec("text", True, _no_dumps, None, None),
    "json": lambda: Codec("json", True, _dump_json, _check_json, _load_json),
    "pickle": _pickle,
}


class Codecs:
    """The codecs of a connection, and the columns that have one.

    Args:
        named: name of a codec by `table` or `table.column`; neither need exist yet.

    Raises:
        ProgrammingError: there is no such codec.
    """

    __slots__ = ("_columns", "_named")

    def __init__(self, named: Mapping[str, str]) -> None:
        for name in named.values():
            if name not in _CODECS:
                raise ProgrammingError(f"there is no codec {name!r}: only {', '.join(_CODECS)}")
        self._named = {folded(place): _CODECS[name]() for place, name in named.items()}
        self._columns: dict[tuple[str, str], Codec] = {}

    def __bool__(self) -> bool:
        return bool(self._named)

    def of(self, table: str, column: str, *, is_key: bool) -> Codec | None:
        """Return the codec of a column, None if it has none, and remember it (rule 3)."""
        codec = self._named.get(folded(f"{table}.{column}"))
        if codec is None and not is_key:
            codec = self._named.get(folded(table))
        self._columns.pop((folded(table), folded(column)), None)
        if codec is not None and codec is not _RAW:
            self._columns[folded(table), folded(column)] = codec
            return codec
        return None

    def trace(self, cursor: apsw.Cursor) -> Callable[[Any, Any], Any] | None:
        """Return what makes rows of a statement into those that are fetched; None if nothing has to."""
        if not self._columns:
            return None
        loads = []
        for place, (_, _, _, table, column) in enumerate(cursor.description_full):
            codec = self._columns.get((folded(table or ""), folded(column or "")))
            if codec is not None and codec.loads is not None:
                loads.append((place, codec))
        if not loads:
            return None

        def fetched(_: Any, row: Any) -> Any:
            values = list(row)
            for place, codec in loads:
                values[place] = codec.fetched(values[place])
            return tuple(values)

        return fetched
