"""What every sorted mapping must do, whatever its keys and values are: it is compared with a dict.

    everything_about(mapping) == expected_about(items)      all that can be read from a range
    walk(mapping, rng, keys, values, steps=500)             all that can be done to a mapping, at random

Thread safety: none.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

Order = Callable[[Any], Any]


def everything_about(mapping: Any) -> dict[str, Any]:
    """Return what the interface says of a range, each part by its own means."""
    return {
        "keys": [*mapping.keys()],
        "iterator": [key for key in mapping],
        "values": [*mapping.values()],
        "items": [*mapping.items()],
        "reversed": [*reversed(mapping)][::-1],
        "reversed items": [*reversed(mapping.items())][::-1],
        "reversed values": [*reversed(mapping.values())][::-1],
        "length": len(mapping),
        "truth": bool(mapping),
        "first": mapping.first(),
        "last": mapping.last(),
    }


def expected_about(items: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Return what `everything_about` must say of a range with these items, in this order."""
    keys, values = [key for key, _ in items], [value for _, value in items]
    return {
        "keys": keys,
        "iterator": keys,
        "values": values,
        "items": list(items),
        "reversed": keys,
        "reversed items": list(items),
        "reversed values": values,
        "length": len(items),
        "truth": bool(items),
        "first": items[0] if items else None,
        "last": items[-1] if items else None,
    }


def _same(key: Any) -> Any:
    return key


def selection(
    model: Mapping[Any, Any], start: Any, stop: Any, prefix: Any, reverse: bool, order: Order = _same
) -> list[tuple[Any, Any]]:
    """Return the items of a dict that a range with these bounds must hold, in its order."""
    return [
        (key, model[key])
        for key in sorted(model, key=order, reverse=reverse)
        if (start is None or order(start) <= order(key))
        and (stop is None or order(key) < order(stop))
        and (prefix is None or key.startswith(prefix))
    ]


@dataclass
class Arguments:
    """What the operations of one step are called with."""

    key: Any
    value: Any
    default: Any
    pairs: list[tuple[Any, Any]]


OPERATIONS: dict[str, Callable[[Any, Arguments], Any]] = {
    "getitem": lambda mapping, given: mapping[given.key],
    "get": lambda mapping, given: mapping.get(given.key),
    "get with a default": lambda mapping, given: mapping.get(given.key, given.default),
    "contains": lambda mapping, given: given.key in mapping,
    "contains of keys": lambda mapping, given: given.key in mapping.keys(),  # noqa: SIM118 - the view
    "contains of items": lambda mapping, given: (given.key, given.value) in mapping.items(),
    "contains of values": lambda mapping, given: given.value in mapping.values(),
    "setitem": lambda mapping, given: mapping.__setitem__(given.key, given.value),
    "delitem": lambda mapping, given: mapping.__delitem__(given.key),
    "pop": lambda mapping, given: mapping.pop(given.key),
    "pop with a default": lambda mapping, given: mapping.pop(given.key, given.default),
    "setdefault": lambda mapping, given: mapping.setdefault(given.key, given.value),
    "update with a mapping": lambda mapping, given: mapping.update(dict(given.pairs)),
    "update with pairs": lambda mapping, given: mapping.update(iter(given.pairs)),
    "update with both": lambda mapping, given: mapping.update(given.pairs[:2], key=given.value),
    "length": lambda mapping, given: len(mapping),
    "truth": lambda mapping, given: bool(mapping),
}


def outcome(operation: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    """Return what an operation returns or raises, in a form that compares."""
    try:
        return "returns", operation(*arguments)
    except KeyError as exc:
        return "raises", KeyError, exc.args


def walk(
    mapping: MutableMapping[Any, Any],
    rng: random.Random,
    keys: Sequence[Any],
    values: Sequence[Any],
    *,
    steps: int,
    order: Order = _same,
    after: Callable[[], object] | None = None,
) -> dict[Any, Any]:
    """Do the same to an empty mapping and to a dict, at random; raise where they differ, return the dict.

    Args:
        mapping: empty; it has `range()`.
        rng: what is done follows from it.
        keys: those to choose from; so are the values.
        values: they compare by content and can be copied.
        steps: how many operations.
        order: turns a key into what it is ordered by.
        after: called behind each step, between the operation and its check: a sync, say.
    """
    model: dict[Any, Any] = {}
    for _ in range(steps):
        done = _step(mapping, model, rng, keys, values, order)
        if after is not None:
            after()
        _check(mapping, model, rng, keys, order, done)
    return model


def _step(
    mapping: Any, model: dict[Any, Any], rng: random.Random, keys: Sequence[Any], values: Any, order: Order
) -> str:
    given = Arguments(
        rng.choice(keys),
        rng.choice(values),
        rng.choice([None, "default"]),
        [(rng.choice(keys), rng.choice(values)) for _ in range(rng.choice([0, 1, 3, 8]))],
    )
    draw = rng.random()
    if draw < 0.02:
        mapping.clear()
        model.clear()
        return "clear"
    if draw < 0.1:
        first = min(model, key=order) if model else None
        expected = ("returns", (first, model.pop(first))) if model else ("raises", KeyError)
        found = outcome(mapping.popitem)[:2]
        return _same_or_raise("popitem", expected, found)
    name = rng.choice(list(OPERATIONS))
    operation = OPERATIONS[name]
    if isinstance(keys[0], bytes) and name == "update with both":  # the names of a call are str
        return name
    expected = outcome(operation, model, copy.deepcopy(given))
    return _same_or_raise(f"{name} {given}", expected, outcome(operation, mapping, copy.deepcopy(given)))


def _check(
    mapping: Any, model: dict[Any, Any], rng: random.Random, keys: Sequence[Any], order: Order, done: str
) -> None:
    bounds = [rng.choice(keys) if rng.random() < chance else None for chance in (0.5, 0.5, 0.2)]
    reverse = rng.random() < 0.5
    part = mapping.range(bounds[0], bounds[1], prefix=bounds[2], reverse=reverse)
    expected = selection(model, *bounds, reverse, order)
    _same_or_raise(f"{done}, range {bounds}", expected_about(expected), everything_about(part))
    key = rng.choice(keys)
    _same_or_raise(f"{done}, get of range {bounds}", dict(expected).get(key), part.get(key))
    _same_or_raise(f"{done}, items", [*selection(model, None, None, None, False, order)], [*mapping.items()])
    _same_or_raise(f"{done}, reversed", sorted(model, key=order, reverse=True), [*reversed(mapping)])
    _same_or_raise(f"{done}, length", len(model), len(mapping))
    _same_or_raise(f"{done}, equality", (True, True), (mapping == model, model == mapping))


def _same_or_raise(what: str, expected: object, found: object) -> str:
    if expected != found:
        raise AssertionError(f"{what}: {expected!r} expected, {found!r} found")
    return what
