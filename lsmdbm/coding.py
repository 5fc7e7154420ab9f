"""Coding: how the keys and values of a decoded mapping are stored.

Rules
  1. A key is a str.  Bytes are no other spelling of it, as they are for a Database: keys come out as str,
     and a mapping that took what it never gives would hold keys that differ from those that went in.

Thread safety: that of the functions that code the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from lsmdbm.coercion import Data, named

V = TypeVar("V")


class _Looked(Protocol):
    """What many keys are looked up in."""

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]: ...

    def _check_open(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Coding(Generic[V]):
    """How keys and values are stored.

    `key_encoding` is the name of a text encoding.
    """

    key_encoding: str
    encode_value: Callable[[V], Data]
    decode_value: Callable[[bytes], V]

    def encode_key(self, key: object, what: str = "key") -> bytes:
        """Return a key, or a bound of a range, as it is stored; TypeError if it is no str."""
        if isinstance(key, str):
            return key.encode(self.key_encoding)
        raise TypeError(f"{what} must be str, not {type(key).__name__}")

    def decode_key(self, key: bytes) -> str:
        """Return a stored key as str; UnicodeDecodeError, which names it, if it is none in this encoding."""
        try:
            return key.decode(self.key_encoding)
        except UnicodeDecodeError as exc:
            exc.reason += f"; the key is {named(key)}"
            raise

    def decode_item(self, key: bytes, value: bytes) -> tuple[str, V]:
        """Return a stored entry as it was given."""
        return self.decode_key(key), self.decode_value(value)

    def encode_items(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[bytes, Data]]:
        """Yield entries as they are stored."""
        for key, value in pairs:
            yield self.encode_key(key), self.encode_value(value)

    def get_many(self, stored: _Looked, keys: Iterable[str]) -> dict[str, V]:
        """Return the decoded values of those keys that are stored."""
        stored._check_open()
        named = {key: self.encode_key(key) for key in keys}
        found = stored.get_many(list(named.values()))
        return {key: self.decode_value(found[raw]) for key, raw in named.items() if raw in found}

    def bounds(self, start: str | None, stop: str | None, prefix: str | None) -> dict[str, bytes | None]:
        """Return the bounds of a range as they are stored, by name."""
        given = {"start": start, "stop": stop, "prefix": prefix}
        return {
            name: None if bound is None else self.encode_key(bound, name) for name, bound in given.items()
        }
