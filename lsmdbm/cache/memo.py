"""Memo: a function whose results are kept in a cache.

    key   := (name, args, kwargs)         args a tuple, kwargs one of pairs, sorted by name
           | (name, digest)               32 bytes of BLAKE2b of args and kwargs, if they have more than
           MOST_BYTES | (name, key)                  what a function of the user made of the arguments

Rules
  1. Arguments are those that the function gets: f(1), f(a=1), and f() where 1 is the default, are one call,
     and a default that changes makes another one.
  2. A name belongs to one function of a cache: another one would be given its results.

Thread safety: any thread.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from hashlib import blake2b
from types import MethodType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from lsmdbm._base.public import member_of
from lsmdbm.cache.keys import encode_value
from lsmdbm.cache.lifetimes import Ttl

P = ParamSpec("P")
R = TypeVar("R")

Key = Any  # what keys.py takes

MOST_BYTES = 1024  # of arguments that are a part of the key themselves.  On disk: never changes.
DIGEST_BYTES = 32


class Keeper(Protocol):
    """What a cache does for its functions."""

    def get_or_set(self, key: Key, function: Callable[[], Any], ttl: Ttl) -> Any:
        """Return a value, computed if it has to be."""
        ...

    def delete_prefix(self, prefix: tuple[Key, ...]) -> None:
        """Delete the keys that begin so."""
        ...


@member_of("lsmdbm.cache")
class Memo(Generic[P, R]):
    """A function whose results are kept.  Made by `Cache.memoize()`; called like the function.

    Args:
        keeper: the cache.
        name: of the results.
        function: any but a coroutine function.
        ttl: of the results.
        key: makes a key of the arguments; None for all of them.
    """

    __wrapped__: Callable[P, R]

    def __init__(
        self, keeper: Keeper, name: str, function: Callable[P, R], ttl: Ttl, key: Callable[..., Key] | None
    ) -> None:
        self._keeper = keeper
        self._name = name
        self._ttl = ttl
        self._key = key
        self._signature = _signature(function)
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of a call, computed if it has to be; see `Cache.get_or_set()`."""
        made: R = self._keeper.get_or_set(
            self.cache_key(*args, **kwargs), lambda: self.__wrapped__(*args, **kwargs), self._ttl
        )
        return made

    def __get__(self, instance: object, owner: object = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Key, ...]:
        """Return the key of a call, to delete it, or to set it, by hand.

        Raises:
            TypeError: the function takes no such arguments, or they are no keys.
        """
        if self._key is not None:
            return self._name, self._key(*args, **kwargs)
        positional, named = args, kwargs
        if self._signature is not None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()  # rule 1
            positional, named = bound.args, bound.kwargs  # type: ignore[assignment]
        parts = (positional, tuple(sorted(named.items())))
        encoded = encode_value(parts)
        if len(encoded) > MOST_BYTES:
            return self._name, blake2b(encoded, digest_size=DIGEST_BYTES).digest()
        return self._name, *parts

    def cache_clear(self) -> None:
        """Forget all results, at constant cost."""
        self._keeper.delete_prefix((self._name,))


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function; None if it tells none, as some in C do."""
    try:
        return inspect.signature(function)
    except ValueError:
        return None


class Names:
    """Which function of a cache has which name."""

    __slots__ = ("_owners",)

    def __init__(self) -> None:
        self._owners: dict[str, tuple[object, object]] = {}

    def take(self, name: object, function: object) -> None:
        """Give a name to a function; defined anew, in a notebook say, it may have it again (rule 2).

        Raises:
            TypeError: the name is no str, or the function none that can be memoized.
            ValueError: another function has the name.
        """
        if not isinstance(name, str):
            raise TypeError(f"memoize() takes a name, as in @cache.memoize('squares'), not {name!r}")
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(
                f"memoize() is for plain functions, not for {function!r}: a coroutine is no result"
            )
        owner = getattr(function, "__module__", None), getattr(function, "__qualname__", function)
        if self._owners.setdefault(name, owner) != owner:
            raise ValueError(
                f"memoize({name!r}): {'.'.join(map(str, self._owners[name]))} has this name already"
            )
