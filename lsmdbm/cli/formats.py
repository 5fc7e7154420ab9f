r"""Formats: entries as lines, and back.

    text    key TAB value, escaped                     apple<TAB>red
    hex     key TAB value, in hex digits               6170706c65<TAB>726564
    repr    key TAB value, as Python shows bytes       b'apple'<TAB>b'red'
    raw     key TAB value, as they are                 not to be read back: a value may hold a newline
    jsonl   an object: "key" and "value" where they are UTF-8, else "key_base64", "value_base64"
    csv     a row, escaped, below a row of names       key,value

Rules
  1. Every format but raw gives back every byte string.  One entry is one line.
  2. Of one entry too long for memory nothing can be said: a line is held whole.

Thread safety: none.  Spec: docs/cli.md, Formats.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from lsmdbm.cli.escapes import argument_bytes, escaped, unescaped

FORMATS = ("text", "raw", "hex", "repr", "jsonl", "csv")
DUMPS = ("jsonl", "csv", "text", "hex", "repr")  # those that `load` reads: rule 1

Line = Callable[[bytes, "bytes | None"], bytes]  # an entry as a line; of a value None, the key alone


def encoder(form: str, *, is_ascii: bool = False) -> Line:
    """Return what makes a line of an entry.

    Args:
        is_ascii: text goes to somebody who cannot show more.
    """
    if form == "raw":
        return _joined(bytes)
    if form == "jsonl":
        return _json_line
    if form == "csv":
        return _csv_line
    if form == "hex":
        return _joined(lambda data: data.hex().encode())
    if form == "repr":
        return _joined(lambda data: repr(data).encode())
    return _joined(lambda data: escaped(data, is_ascii=is_ascii).encode())


def header(form: str, *, keys_only: bool = False) -> bytes:
    """Return what stands before the first line."""
    if form != "csv":
        return b""
    return b"key\n" if keys_only else b"key,value\n"


def one(data: bytes, form: str, *, is_ascii: bool = False) -> bytes:
    """Return a single value, with a newline behind it unless it is raw."""
    if form == "raw":
        return data
    if form == "jsonl":
        return json_text(field("value", data)).encode() + b"\n"
    return encoder(form, is_ascii=is_ascii)(data, None)


def json_text(document: object, *, indent: int | None = None) -> str:
    """Return a document as JSON in ASCII without any control character but the newlines of `indent`."""
    return json.dumps(document, indent=indent)


def field(name: str, data: bytes) -> dict[str, str]:
    r"""Return bytes as a member of a JSON object: as text if they are UTF-8, else in base64.

    >>> field("key", b"apple"), field("key", b"\xff")
    ({'key': 'apple'}, {'key_base64': '/w=='})
    """
    try:
        return {name: data.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode("ascii")}


def _joined(encode: Callable[[bytes], bytes]) -> Line:
    def line(key: bytes, value: bytes | None) -> bytes:
        return encode(key) + b"\n" if value is None else encode(key) + b"\t" + encode(value) + b"\n"

    return line


def _json_line(key: bytes, value: bytes | None) -> bytes:
    fields = field("key", key) if value is None else {**field("key", key), **field("value", value)}
    return json_text(fields).encode("ascii") + b"\n"


def _csv_line(key: bytes, value: bytes | None) -> bytes:
    row = io.StringIO()
    cells = [key] if value is None else [key, value]
    csv.writer(row, lineterminator="\n").writerow([escaped(cell) for cell in cells])
    return row.getvalue().encode()


def entries(stream: BinaryIO, form: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries that stand in a stream, one line at a time.

    Raises:
        ValueError: a line is none of that format; the message says which one.
    """
    decode = {"jsonl": _json_entries, "csv": _csv_entries}.get(form) or _split_entries(form)
    return decode(stream)


def _json_entries(stream: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for number, line in enumerate(stream, 1):
        if line.isspace():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ValueError(f"a JSON {type(fields).__name__}, not an object with key and value")
            entry = _member(fields, "key"), _member(fields, "value")
        except json.JSONDecodeError as exc:  # its own words have a line 1, too
            raise ValueError(f"line {number}: no JSON: {exc.msg} at column {exc.colno}") from None
        except (ValueError, RecursionError) as exc:
            raise ValueError(f"line {number}: {exc}") from None
        yield entry


def _member(fields: dict[str, Any], name: str) -> bytes:
    found = [fields[each] for each in (name, f"{name}_base64") if each in fields]
    if len(found) != 1 or not isinstance(found[0], str):
        raise ValueError(f'a string is wanted as "{name}", or in base64 as "{name}_base64"')
    if name in fields:
        return found[0].encode("utf-8")  # a lone surrogate is an error here, as anywhere
    return base64.b64decode(found[0], validate=True)


def _csv_entries(stream: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    csv.field_size_limit(sys.maxsize)  # of this process; by default 128 KiB
    rows = csv.reader((line.decode("utf-8") for line in stream), strict=True)
    try:
        for row in rows:
            if row == ["key", "value"] and rows.line_num == 1:
                continue
            if row:
                if len(row) != 2:
                    raise ValueError(f"{len(row)} cells, not a key and a value")
                yield unescaped(row[0]), unescaped(row[1])
    except UnicodeDecodeError as exc:  # of the line that comes next
        raise ValueError(f"line {rows.line_num + 1}: {exc}") from None
    except (ValueError, csv.Error) as exc:
        raise ValueError(f"line {rows.line_num}: {exc}") from None


def _split_entries(form: str) -> Callable[[Iterable[bytes]], Iterator[tuple[bytes, bytes]]]:
    decode = unescaped if form == "text" else lambda text: argument_bytes(text, form)

    def read(stream: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        for number, line in enumerate(stream, 1):
            try:
                key, tab, value = line.rstrip(b"\r\n").decode("utf-8").partition("\t")
                if not tab:
                    raise ValueError("no TAB between key and value")
                entry = decode(key), decode(value)
            except ValueError as exc:
                raise ValueError(f"line {number}: {exc}") from None
            yield entry

    return read
