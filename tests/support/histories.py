"""Is a history of calls of many threads linearizable?  Per key, by linearizing a call when it has to be.

    history = History()
    history.call("put", key, b"v", db.__setitem__, key, b"v")
    history.check()         raises NotLinearizable with the calls of the key that has no order

A key is a register that is empty or holds a value; each call tells in one step what it found and what it
left.  The order looked for puts a call after every one that had returned before it was made, and makes every
answer right.  Going through the moments of calls and returns, it keeps all configurations (value, pending
calls that have taken effect) that explain what was seen; a call is made to take effect only when some return
demands it.  Source: Lowe, "Testing for linearizability" (2017), just-in-time linearization.

Thread safety: `call` may be used from any thread; `check` when all have returned.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Part = tuple[str, bytes, "bytes | None", "bytes | None"]  # name, key, given, answer: see Call


class NotLinearizable(AssertionError):
    """No order of the calls explains their answers."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of one thread, from `made` to `returned` on a common clock.

    Attributes:
        name: put (None to delete), get, delete (which gives something if it was there), pop (which gives what
            it takes), setdefault (which gives what is there then), or increment (which gives the sum).
        given: the value it was given, None for none.
        answer: the value it gave, None for none.
    """

    made: int
    returned: int
    name: str
    given: bytes | None
    answer: bytes | None

    def apply(self, value: bytes | None) -> tuple[bool, bytes | None]:
        """Return whether the answer is right if the register holds `value`, and what it holds then."""
        if self.name == "put":
            return True, self.given
        if self.name == "get":
            return self.answer == value, value
        if self.name == "pop":
            return self.answer == value, None
        if self.name == "delete":
            return (self.answer is None) == (value is None), None
        if self.name == "increment":
            total = b"%d" % (int(value or b"0") + int(self.given or b"0"))
            return self.answer == total, total
        if self.name == "setdefault":
            held = self.given if value is None else value
            return self.answer == held, held
        raise ValueError(self.name)


class History:
    """The calls of all threads, by key."""

    def __init__(self) -> None:
        self.calls: defaultdict[bytes, list[Call]] = defaultdict(list)
        self._clock = itertools.count()  # next() of it is one step

    def call(self, name: str, key: bytes, given: bytes | None, method: Callable[..., Any], *args: Any) -> Any:
        """Make a call and note it; return the answer."""
        made = next(self._clock)
        answer = method(*args)
        returned = next(self._clock)
        self.calls[key].append(Call(made, returned, name, given, None if name == "put" else answer))
        return answer

    def together(self, make: Callable[[], Iterable[Part]]) -> None:
        """Make one call that does several things at once; it returns which, with keys, gifts and answers."""
        made = next(self._clock)
        parts = make()
        returned = next(self._clock)
        for name, key, given, answer in parts:
            self.calls[key].append(Call(made, returned, name, given, answer))

    def look(self, keys: list[bytes], make: Callable[[], dict[bytes, bytes]]) -> None:
        """Make a scan and note it as a get of each of these keys."""

        def parts() -> list[Part]:
            found = make()
            return [("get", key, None, found.get(key)) for key in keys]

        self.together(parts)

    def count(self) -> int:
        """Return how many calls there were."""
        return sum(map(len, self.calls.values()))

    def check(self) -> None:
        """Raise NotLinearizable if the calls of some key have no order."""
        for key, calls in self.calls.items():
            check_register(calls, key)


def check_register(calls: list[Call], key: bytes = b"") -> None:
    """Raise NotLinearizable if calls of one key, which is not there at first, have no order."""
    moments = sorted(
        [(call.made, True, call) for call in calls] + [(call.returned, False, call) for call in calls],
        key=lambda moment: moment[0],
    )
    pending: set[Call] = set()
    configurations: set[tuple[bytes | None, frozenset[Call]]] = {(None, frozenset())}
    for _, is_made, call in moments:
        if is_made:
            pending.add(call)
            continue
        configurations = {
            (value, taken - {call}) for value, taken in _with_effect(configurations, call, pending)
        }
        pending.discard(call)
        if not configurations:
            raise NotLinearizable(f"{key!r}: {call} has no place among {sorted(pending, key=str)}")


def _with_effect(
    configurations: set[tuple[bytes | None, frozenset[Call]]], call: Call, pending: set[Call]
) -> set[tuple[bytes | None, frozenset[Call]]]:
    """Return every configuration in which `call` has taken effect, after any others that are pending."""
    found = set()
    seen = set(configurations)
    left = list(configurations)
    while left:
        value, taken = left.pop()
        if call in taken:
            found.add((value, taken))
            continue
        for other in pending - taken:
            is_right, then = other.apply(value)
            following = (then, taken | {other})
            if is_right and following not in seen:
                seen.add(following)
                left.append(following)
    return found
