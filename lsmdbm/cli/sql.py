"""The verb sql: statements over a database, through lsmdbm.dbapi.

Thread safety: one thread at a time.  Spec: docs/cli.md, SQL.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from typing import Any

from lsmdbm._base.errors import error
from lsmdbm.cli import prompt
from lsmdbm.cli.escapes import escaped
from lsmdbm.cli.formats import field, json_text
from lsmdbm.cli.opening import reading
from lsmdbm.cli.outcome import FINE, USAGE, Refused, guarded
from lsmdbm.cli.output import Column, Output, Row

WORDS = (
    *("SELECT", "FROM", "WHERE", "ORDER BY", "LIMIT", "GROUP BY", "BETWEEN", "LIKE", "COUNT(*)"),
    *("INSERT INTO", "VALUES", "UPDATE", "SET", "DELETE FROM"),
)


def sql(output: Output, *, db: str, statement: str | None, writes: bool, form: str, timeout: float) -> int:
    """Run one statement, or those that are typed or piped in, each ended by a semicolon."""
    try:
        dbapi: Any = import_module("lsmdbm.dbapi")
    except ImportError:
        raise Refused("sql needs apsw: pip install 'lsmdbm[sql]'", USAGE) from None
    with reading(db):  # that there is one is told now
        pass
    try:
        with _telling():
            connection = dbapi.connect(db, flag="w" if writes else "r", timeout=timeout)
    except ValueError as exc:  # the timeout
        raise Refused(str(exc), USAGE) from None
    try:
        if statement is not None:
            _run(output, connection, statement, form)
            return FINE
        code = FINE
        for each in _statements(output):
            code = guarded(lambda each=each: _run(output, connection, each, form))  # type: ignore[misc]  # a default
        return code
    finally:
        connection.close()


@contextmanager
def _telling() -> Iterator[None]:
    """Raise what the store said in the place of the error of PEP 249 that was made of it."""
    try:
        yield
    except error as exc:
        if isinstance(exc.__cause__, error):
            raise exc.__cause__ from None
        raise


def _statements(output: Output) -> Iterator[str]:
    """Yield statements from lines: one ends with a line that ends with a semicolon."""
    gathered: list[str] = []
    for line in prompt.lines(output, "sql> ", "sql", _offered):
        gathered.append(line)
        if line.rstrip().endswith(";"):
            yield "\n".join(gathered)
            gathered.clear()
    if any(map(str.strip, gathered)):
        yield "\n".join(gathered)


def _offered(text: str) -> Iterator[str]:
    last = text.rsplit(None, 1)[-1] if text and not text[-1].isspace() else ""
    yield from (word for word in WORDS if word.startswith(last.upper()))


def _run(output: Output, connection: Any, statement: str, form: str) -> int:
    cursor = connection.cursor()
    try:
        with _telling():
            cursor.execute(statement)
            if cursor.description is not None:
                _write(output, [each[0] for each in cursor.description], cursor, form)
            connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        cursor.close()
    return FINE


def _write(output: Output, names: list[str], rows: Iterable[Any], form: str) -> None:
    if form == "table":
        found: list[Row] = [[_text(output, value) for value in row] for row in rows]
        output.table([Column(_text(output, name), folds=True) for name in names], found)
    elif form == "jsonl":
        for row in rows:
            document: dict[str, Any] = {}
            for name, value in zip(names, row, strict=True):
                document.update(field(name, value) if isinstance(value, bytes) else {name: value})
            output.say(json_text(document))
    else:
        _write_csv(output, names, rows)


def _write_csv(output: Output, names: list[str], rows: Iterable[Any]) -> None:
    for row in chain([names], rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(
            ["" if value is None else _text(output, value) for value in row]
        )
        output.say(line.getvalue())


def _text(output: Output, value: Any) -> str:
    if value is None:
        return "NULL"
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    return escaped(data, is_ascii=output.is_ascii)
