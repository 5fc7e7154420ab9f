"""Entries: what is stored under a key of a cache - when it ends, when it was written, and a value.

    entry    := expiry u64 | stamp u64 | tag u8 | payload                                    big-endian
    expiry   := microseconds since 1970; FF * 8 is never
    stamp    := a sequence of the database, not above that of the write: how old the entry is among others
    tag      := "b" payload is the value, bytes
              | "s" it is a str, as UTF-8
              | "j" it is JSON
              | "c" a codec made it

Rules
  1. Bytes, str, int, bool and None are stored as they are, whatever the codec is.
  2. Without a codec, all else has to be equal to what its JSON comes back as, or is refused: a tuple does
     not become a list between one run and the next.
  3. Only who opens a cache names its codec, never the cache: nothing in a file makes pickle load it.

Thread safety: pure functions; `Values` is that of its codec.  Spec: docs/cache.md, On disk.
"""

from __future__ import annotations

import json
from typing import Any

from lsmdbm._base.errors import CorruptionError, error
from lsmdbm.coercion import value_bytes
from lsmdbm.text import Codec, text_coding

# On disk: never changes.
NEVER = (1 << 64) - 1
_STAMP, _TAG = 8, 16  # where they stand

_PLAIN = frozenset((int, bool, type(None)))


def encode_entry(expiry: int, stamp: int, stored: bytes) -> bytes:
    """Return an entry, given tag and payload."""
    return expiry.to_bytes(8, "big") + stamp.to_bytes(8, "big") + stored


def expiry_of(entry: bytes) -> int:
    """Return when an entry ends; NEVER if it does not."""
    return int.from_bytes(entry[:_STAMP], "big")


def stamp_of(entry: bytes) -> int:
    """Return the stamp of an entry."""
    return int.from_bytes(entry[_STAMP:_TAG], "big")


def stored_of(entry: bytes) -> bytes:
    """Return tag and payload of an entry."""
    return entry[_TAG:]


def int_of(stored: bytes) -> int:
    """Return the int that a tag and a payload are; TypeError if they are none."""
    try:
        number = json.loads(stored[1:]) if stored[:1] == b"j" else None
    except ValueError:
        number = None
    if type(number) is not int:
        raise TypeError("the value is no int")
    return number


class Values:
    """How values are stored, and what is stored comes out.

    Args:
        codec: None, or an object with `dumps` and `loads` for what is neither bytes nor str.

    Raises:
        TypeError: it is no codec.
    """

    __slots__ = ("_dumps", "_loads")

    def __init__(self, codec: Codec | None) -> None:
        if isinstance(codec, str):
            raise TypeError("codec must have dumps and loads: a str is stored as UTF-8 in any case")
        coding = None if codec is None else text_coding(codec)
        self._dumps = None if coding is None else coding.encode_value
        self._loads = None if coding is None else coding.decode_value

    def encode(self, value: Any) -> bytes:
        """Return tag and payload of a value.

        Raises:
            TypeError: without a codec, it does not come back from JSON as it is.
            Exception: what the codec raised.
        """
        if type(value) is bytes:  # rule 1
            return b"b" + value
        if type(value) is str:
            return b"s" + value.encode("utf-8")
        if type(value) in _PLAIN:
            return b"j" + json.dumps(value).encode("ascii")
        if self._dumps is not None:
            return b"c" + value_bytes(self._dumps(value))
        return b"j" + _json(value)

    def decode(self, stored: bytes) -> Any:
        """Return the value of a tag and its payload.

        Raises:
            error: a codec made it, and there is none.
            CorruptionError: it is no entry.
            Exception: what the codec raised.
        """
        tag, payload = stored[:1], stored[1:]
        if tag == b"b":
            return payload
        try:
            if tag == b"s":
                return payload.decode("utf-8")
            if tag == b"j":
                return json.loads(payload)
        except (ValueError, RecursionError) as exc:
            raise CorruptionError("cache entry", -1, str(exc)) from None
        if tag != b"c":
            raise CorruptionError("cache entry", -1, f"no value has tag {tag!r}")
        if self._loads is None:
            raise error("the value was stored by a codec: open the cache with that codec")
        return self._loads(payload)


def _json(value: Any) -> bytes:
    """Return a value as JSON (rule 2)."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        is_same = bool(json.loads(text) == value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise TypeError(_no_json(value, str(exc))) from exc
    if not is_same:
        raise TypeError(_no_json(value, "it comes back as something else"))
    return text.encode("utf-8")


def _no_json(value: Any, why: str) -> str:
    return f"value of type {type(value).__name__} is no JSON: {why}; give the cache a codec, such as pickle"
