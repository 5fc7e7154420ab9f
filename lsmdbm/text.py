"""Text: a database with str keys and, if there is a codec, decoded values.

Rules
  1. Keys are UTF-8, strictly: a lone surrogate is refused, a stored key that is no UTF-8 is an error where
     it is met.  No key is left out of an iteration, and none is shown as something else.
  2. A text view owns nothing: it is closed when its database is.

Thread safety: that of the database.
"""

from __future__ import annotations

import codecs
from typing import Any, Protocol, TypeVar

from lsmdbm._base.public import member_of
from lsmdbm.coding import Coding
from lsmdbm.coercion import Data
from lsmdbm.decoded_handle import DecodedHandle

V = TypeVar("V")


class Codec(Protocol):
    """Turns values into bytes or str, and bytes back into values: the modules json and pickle do."""

    def dumps(self, value: Any, /) -> Data:
        """Return a value as bytes, or as a str to be stored as UTF-8."""
        ...

    def loads(self, data: bytes, /) -> Any:
        """Return the value to what `dumps` returned, as bytes."""
        ...


@member_of("lsmdbm")
class Text(DecodedHandle[V]):
    """A database as a sorted mapping from str to decoded values.  Made by `Database.text()`.

    A `MutableMapping` with the costs and manners of the database it stands on: the same errors when that is
    closed or read only, iterations that see one moment, an exact `len()`, batches in `update()`.

    Keys are str and nothing else: bytes, which a database takes too, are a TypeError here, since they would
    come out as another key than went in.  They are stored as UTF-8, whose order is that of code points; a
    stored key that is not UTF-8 is a UnicodeDecodeError for whoever meets it.
    """

    __slots__ = ("_coding", "_db")

    def __repr__(self) -> str:
        return f"<lsmdbm.Text over {self._db!r}>"


def text_coding(codec: str | Codec | None) -> Coding[Any]:
    """Return how keys and values are stored with a codec, as `Database.text()` takes it.

    Raises:
        LookupError: there is no text encoding of that name.
        TypeError: it is no codec.
    """
    if codec is None:
        return Coding("utf-8", _same, _same)
    if isinstance(codec, str):
        return _text_values(codec)
    dumps, loads = getattr(codec, "dumps", None), getattr(codec, "loads", None)
    if not callable(dumps) or not callable(loads):
        raise TypeError(
            f"codec must be a text encoding or have dumps and loads, which {type(codec).__name__} has not"
        )
    return Coding("utf-8", dumps, loads)


def _same(value: Any) -> Any:
    return value


def _text_values(encoding: str) -> Coding[str]:
    codecs.lookup(encoding)
    "a".encode(encoding)  # LookupError for what turns bytes into bytes

    def encode(value: str) -> bytes:
        if isinstance(value, str):
            return value.encode(encoding)
        raise TypeError(f"value must be str, not {type(value).__name__}")

    def decode(data: bytes) -> str:
        return data.decode(encoding)

    return Coding("utf-8", encode, decode)
