r"""Keys: what a cache is asked for, as keys of its database.

    key    := 00 "cache" 00 value
    value  := "n"                      None
            | "t" | "f"                True, False
            | "i" decimal 00           int
            | "d" repr 00              float
            | "s" byte* 00             str, as UTF-8; in it 00 is written 01 01, and 01 is written 01 02
            | "b" byte* 00             bytes likewise
            | "(" value* ")"           tuple

Rules
  1. Two keys that differ have encodings that differ, and none is the beginning of another: 1, 1.0, True, "1"
     and b"1" are five keys.  An instance of a subclass is the key that it is as an instance of the base.
  2. The encoding says nothing but the value: no hash, no id, no pickle.  Another process, another Python and
     another day make the same of it.
  3. What begins with the encoding of a tuple, less its ")", are the tuples that begin so.
  4. Every key begins with PREFIX, so a database is a cache if it holds nothing before and behind these keys;
     and no mark can be thrown away with what is old.

Thread safety: pure functions.  Spec: docs/cache.md, On disk.
"""

from __future__ import annotations

from typing import Any

from lsmdbm._base.chunk import check_key
from lsmdbm._base.errors import CorruptionError

# On disk: never changes.
PREFIX = b"\0cache\0"
BEHIND = b"\0cache\1"  # what is larger than all keys that begin so
_NONE, _TRUE, _FALSE, _INT, _FLOAT, _STR, _BYTES, _OPEN, _CLOSE = b"ntfidsb()"
_END = b"\0"

MAX_DEPTH = 32  # of tuples in tuples
_CLOSING = bytes([_CLOSE])


def encode_key(key: object) -> bytes:
    r"""Return a key as it is stored.  O(bytes).

    >>> encode_key("apple"), encode_key(("user", 7))
    (b'\x00cache\x00sapple\x00', b'\x00cache\x00(suser\x00i7\x00)')

    Raises:
        TypeError: it is none of the types above, or holds another one.
        ValueError: it is longer than a key may be, or tuples are nested too deep.
    """
    if type(key) is str:  # what most are
        return check_key(PREFIX + b"s" + _escaped(key.encode("utf-8")))
    return check_key(PREFIX + encode_value(key))


def encode_prefix(prefix: object) -> bytes:
    """Return what the keys begin with, as they are stored, that are tuples with this beginning (rule 3).

    Raises:
        TypeError: it is no tuple, or holds what keys do not hold.
    """
    if not isinstance(prefix, tuple):
        raise TypeError(f"prefix must be a tuple, not {type(prefix).__name__}")
    return encode_key(prefix)[: -len(_CLOSING)]


def encode_value(value: Any, depth: int = 0) -> bytes:
    """Return one value of a key, which may be of any length."""
    if isinstance(value, str):
        return b"s" + _escaped(value.encode("utf-8"))
    if isinstance(value, bytes):
        return b"b" + _escaped(value)
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int):
        return b"i%d\0" % value
    if isinstance(value, float):
        return b"d" + float.__repr__(value).encode("ascii") + _END
    if isinstance(value, tuple):
        if depth == MAX_DEPTH:
            raise ValueError(f"key with more than {MAX_DEPTH} tuples in each other")
        return b"".join((b"(", *[encode_value(part, depth + 1) for part in value], _CLOSING))
    raise TypeError(
        f"key must be str, bytes, int, float, bool, None or a tuple of these, not {type(value).__name__}"
    )


def _escaped(data: bytes) -> bytes:
    return data.replace(b"\1", b"\1\2").replace(b"\0", b"\1\1") + _END


def decode_key(key: bytes) -> Any:
    """Return the key that is stored so.

    Raises:
        CorruptionError: none is.
    """
    try:
        value, end = _decode(key, len(PREFIX), 0)
    except (IndexError, ValueError) as exc:
        raise CorruptionError("cache key", -1, f"{key!r}: {exc}") from None
    if end != len(key) or not key.startswith(PREFIX):
        raise CorruptionError("cache key", -1, f"{key!r}: it is none")
    return value


def _decode(key: bytes, offset: int, depth: int) -> tuple[Any, int]:
    """Return the value that begins there, and where it ends.

    Raises:
        IndexError, ValueError: there is none.
    """
    tag = key[offset]
    offset += 1
    if tag == _NONE:
        return None, offset
    if tag in (_TRUE, _FALSE):
        return tag == _TRUE, offset
    if tag == _OPEN:
        parts = []
        while key[offset] != _CLOSE:
            if depth == MAX_DEPTH:
                raise ValueError("too many tuples in each other")
            part, offset = _decode(key, offset, depth + 1)
            parts.append(part)
        return tuple(parts), offset + 1
    end = key.index(_END, offset)
    return _decode_text(tag, key[offset:end]), end + 1


def _decode_text(tag: int, data: bytes) -> Any:
    if tag == _INT:
        return int(data)
    if tag == _FLOAT:
        return float(data)
    data = data.replace(b"\1\1", b"\0").replace(b"\1\2", b"\1")
    if tag == _STR:
        return data.decode("utf-8")
    if tag == _BYTES:
        return data
    raise ValueError(f"no value begins with {bytes([tag])!r}")
