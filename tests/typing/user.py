"""A program of a typed user: mypy --strict takes it, and refuses each line that says `type: ignore`.

An ignore that is not needed is an error of mypy too, so both are checked.  The tests run it as well.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import lsmdbm
from lsmdbm import bulk
from lsmdbm.cache import Cache

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: object, kind: object) -> object:
        return value


def total(numbers: Mapping[bytes, bytes]) -> int:
    return sum(int(value) for value in numbers.values())


def fill(mapping: MutableMapping[bytes, bytes]) -> None:
    mapping[b"one"] = b"1"


def use(path: str) -> None:
    with lsmdbm.open(path, "c", durability="none") as db:
        assert_type(db, lsmdbm.Database)
        fill(db)
        db["two"] = "2"
        assert_type(db["two"], bytes)
        assert_type(db.get("three"), "bytes | None")
        assert_type(db.get("three", 3), "bytes | int")
        assert_type(db.keys(), list[bytes])
        assert_type(db.increment("visits"), int)
        part = db.range("o", "p", reverse=True)
        assert_type(part, lsmdbm.Range)
        assert_type(part.first(), "tuple[bytes, bytes] | None")
        for key, value in part.items():
            assert_type((key, value), tuple[bytes, bytes])
        with db.snapshot() as snapshot, db.batch() as batch:
            batch["three"] = "3"
            assert_type(total(snapshot), int)
        assert_type(db.run(lambda tx: len(tx.pop("three"))), int)
        assert_type(db.text()["two"], bytes)
        assert_type(db.text("utf-8")["two"], str)
        assert_type(db.text(json)["two"], Any)
        assert_type(db.stats().tables, int)
        assert_type(db.verify().blocks, int)
        try:
            db["four"] = 4  # type: ignore[assignment]
        except TypeError:
            pass
        db.range(prefix=5) if len(sys.argv) > 9 else None  # type: ignore[arg-type]
        db.text("utf-8")["two"] + b"" if len(sys.argv) > 9 else None  # type: ignore[operator]


def use_shelf(path: str) -> None:
    with lsmdbm.open_shelf(path) as shelf:
        shelf["point"] = {"x": 1}
        for name, _ in shelf.range(prefix="p").items():
            assert_type(name, str)


async def use_tasks(path: str) -> None:
    async with lsmdbm.aio.open(path, "c") as db:
        await db.put("apple", "red")
        assert_type(await db.get("apple"), "bytes | None")
        async for key in db.keys():
            assert_type(key, bytes)


def use_cache(path: str) -> None:
    with Cache(path, max_bytes=2_000_000, ttl=60) as cache:
        cache[("user", 7)] = [1, 2]

        @cache.memoize("square")
        def square(number: int, times: int = 1) -> int:
            return number * number * times

        assert_type(square(4, times=2), int)
        assert_type(cache.get_or_set("n", lambda: 5), int)
        assert_type(cache.increment("hits"), int)
        assert_type(cache.stats().hit_rate, "float | None")
        square("4") if len(sys.argv) > 9 else None  # type: ignore[arg-type]


def build(path: str) -> None:
    with bulk.TableWriter(path) as writer:
        writer.extend([("a", "1"), ("b", "2")])


def main(directory: str) -> None:
    use(f"{directory}/typed.lsm")
    use_shelf(f"{directory}/shelf.lsm")
    asyncio.run(use_tasks(f"{directory}/tasks.lsm"))
    use_cache(f"{directory}/pages")
    build(f"{directory}/one.table")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
