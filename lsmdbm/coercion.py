"""Python's values to ours: keys and values to bytes, flags to what they ask for.

Rules
  1. `str` is stored as UTF-8.  Bytes-like objects are copied.  Nothing else is a key or a value.
  2. Everything is checked before anything is written.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lsmdbm._base.chunk import check_key, check_value
from lsmdbm._base.errors import FlagError

Data = str | bytes | bytearray | memoryview  # what may be given as a key or a value

NAMED_BYTES = 80  # of a key or a value that is shown in an error
LETTERS = "rwcn"
DURABILITIES = {"f": "process", "s": "full"}  # gdbm's suffixes; with both, "s" holds
SUFFIXES = "fsum"  # "u" and "m", no locking and no memory mapping, ask for nothing here
MODE_MAX = 0o177777  # what `st_mode` of a file can be, its kind included
open_flags = "rwcnfsu"  # as in dbm.gnu; no "m", which gdbm's callers would take for a flag of its own


def lookup_bytes(data: Data, what: str = "key") -> bytes:
    """Return a key, or a bound of a range, as bytes; of any length, for it is only looked for.

    Raises:
        TypeError: neither str nor bytes-like.
        UnicodeEncodeError: a str with lone surrogates.
    """
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        return data.encode("utf-8")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"{what} must be str or bytes-like, not {_kind(data)}")


def _kind(given: object) -> str:
    more = "; a range of keys is range(start, stop)" if isinstance(given, slice) else ""
    return type(given).__name__ + more


def key_bytes(key: Data) -> bytes:
    """Return a key as bytes; ValueError if it is longer than a key may be."""
    return check_key(lookup_bytes(key))


def value_bytes(value: Data) -> bytes:
    """Return a value as bytes; ValueError if it is longer than a value may be."""
    return check_value(lookup_bytes(value, "value"))


def check_mode(mode: object) -> None:
    """Refuse what no file can have as its permission bits.

    Raises:
        TypeError: no int.
        ValueError: below 0, or beyond what `st_mode` of another file can be.
    """
    if not isinstance(mode, int):
        raise TypeError(f"mode must be an int, not {type(mode).__name__}")
    if not 0 <= mode <= MODE_MAX:
        raise ValueError(f"mode={mode:#o}: must be from 0 to {MODE_MAX:#o}")


def named(data: bytes) -> str:
    """Return a key or a value as an error shows it."""
    return f"{data[:NAMED_BYTES]!r}{'...' if len(data) > NAMED_BYTES else ''}"


def number_of(value: bytes | None) -> int:
    """Return the number that a value is in decimal ASCII text, 0 for None; ValueError if it is none."""
    if value is None:
        return 0
    digits = value[1:] if value[:1] == b"-" else value
    if not digits.isdigit():
        raise ValueError(f"the value is no decimal integer: {named(value)}")
    return int(value)


def pairs_of(other: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs that `dict.update` finds in a mapping, in what has `keys()`, or in an iterable."""
    if isinstance(other, Mapping):
        return other.items()
    if hasattr(other, "keys"):
        return ((key, other[key]) for key in other.keys())  # noqa: SIM118 - what dict.update does
    return other  # type: ignore[no-any-return]  # whoever iterates over it will see


def parse_flag(flag: object) -> tuple[str, str | None]:
    """Return the letter of a flag and the durability its suffixes ask for, if any.

    >>> parse_flag("c"), parse_flag("cs"), parse_flag("rw")
    (('c', None), ('c', 'full'), ('c', None))

    Raises:
        FlagError: it is no flag.
    """
    if isinstance(flag, str) and flag == "rw":  # ndbm's old name; of bytes, python -bb refuses the comparison
        return "c", None
    if not isinstance(flag, str) or flag[:1] not in tuple(LETTERS) or not set(flag[1:]) <= set(SUFFIXES):
        raise FlagError(f"Flag must be one of 'r', 'w', 'c', or 'n', not {flag!r}")
    asked = [DURABILITIES[suffix] for suffix in ("s", "f") if suffix in flag[1:]]
    return flag[0], asked[0] if asked else None
