"""`lsmdbm.aio`: what is awaited keeps no other task waiting, and is done wholly or not at all."""

import asyncio
import errno
import gc
import itertools
import os
import pickle
import random
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

import lsmdbm
from lsmdbm import aio
from lsmdbm.aio import lane, stream
from lsmdbm.aio.database import open_on
from support.crash_storage import CrashStorage
from support.layers import TINY

pytestmark = pytest.mark.usefixtures("no_syncs")
PATIENCE = 60  # seconds after which a test gives up: nothing is measured by it
ENTRIES = [(b"%05d" % number, b"value %d" % number) for number in range(3000)]


@pytest.fixture(autouse=True)
def _leave_no_thread():
    before = threading.active_count()
    yield
    assert before == threading.active_count()


def run(main):
    """Run a coroutine function to its end, in a loop that has no executor of its own to give."""

    async def guarded():
        asyncio.get_running_loop().run_in_executor = None
        return await asyncio.wait_for(main(), PATIENCE)

    return asyncio.run(guarded())


class Disk(CrashStorage):
    """A disk whose next call of one kind, made in another thread than the loop's, waits for a word."""

    def __init__(self):
        super().__init__()
        self.loop_thread = threading.get_ident()
        self.in_loop = []  # calls made in the thread of the loop: there must be none

        def look(index, operation, path):
            if threading.get_ident() == self.loop_thread:
                self.in_loop.append((operation, path))

        self.on_call = look

    @contextmanager
    def held(self, operation):
        """Hold the next such call; give what is set when it has come."""
        loop, come, go, look = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), self.on_call

        def hold(index, called, path):
            look(index, called, path)
            if called == operation and threading.get_ident() != self.loop_thread:
                self.on_call = look
                loop.call_soon_threadsafe(come.set)
                go.wait(PATIENCE)

        self.on_call = hold
        try:
            yield come, go
        finally:
            self.on_call = look
            go.set()


@pytest.fixture
def disk():
    return Disk()


def opened(disk, flag="c", **options):
    return open_on(disk, "/db", flag, 0o666, {**TINY, **options})


async def fill(db, entries=ENTRIES):
    await db.update(entries)
    await db.flush()


async def progress():
    """Let other tasks make many steps."""
    for _ in range(100):
        await asyncio.sleep(0)


# -- what it does ------------------------------------------------------------------------------------


def test_every_operation_does_what_its_namesake_does(path, tmp_path):
    async def main():
        async with aio.open(path, "n", durability="none") as db:
            await db.put("a", "1")
            await db.put(b"b", bytearray(b"2"))
            await db.update({"c": "3"}, d="4")
            await db.update([("e", memoryview(b"5"))])
            assert (b"1", None, 0) == (await db.get("a"), await db.get("z"), await db.get(b"z", 0))
            assert (True, False) == (await db.contains("a"), await db.contains("z"))
            assert {"e": b"5", "a": b"1"} == await db.get_many(iter(["e", "z", "a"]))
            assert (5, 2) == (await db.length(), await db.length("b", "d"))
            assert (b"a", b"1") == await db.first()
            assert (b"d", b"4") == await db.last("b", "e")
            assert await db.first(prefix="x") is None
            assert (b"1", b"6") == (await db.setdefault("a", "9"), await db.setdefault("f", "6"))
            assert (b"6", None) == (await db.pop("f"), await db.pop("f", None))
            assert (b"a", b"1") == await db.popitem()
            assert (7, 5) == (await db.increment("n", 7), await db.increment("n", -2))
            await db.delete("n")
            async with db.batch() as batch:
                batch["x"] = "10"
                del batch["b"]
            assert [b"c", b"d", b"e", b"x"] == [key async for key in db]
            assert [b"x", b"e"] == [key async for key in db.keys("e", reverse=True)]
            assert [b"3", b"4"] == [value async for value in db.values("b", "e")]
            assert [(b"x", b"10")] == [pair async for pair in db.items(prefix="x")]
            await db.sync()
            await db.flush()
            await db.compact()
            await db.refresh()
            assert await db.verify()
            assert await db.approximate_size() == (await db.stats()).file_bytes > 0
            await db.backup(tmp_path / "copy")
            await db.delete_range("c", "e")
            await db.delete_range("x", "d")
            assert [b"e", b"x"] == [key async for key in db]
            await db.delete_range(prefix="x")
            async with db.transaction() as tx:
                await tx.put("f", "6")
            assert b"6" == await db.run(lambda tx: tx.get("f"))
            await db.clear()
            assert 0 == await db.length()
        async with aio.open(tmp_path / "copy") as db:
            assert 4 == await db.length()

    run(main)


def test_opening_is_awaited_or_entered(path):
    async def main():
        db = await aio.open(path, "c")
        async with db:
            await db.put("a", "1")
        async with await aio.open(path) as db:
            assert b"1" == await db.get("a")
        aio.open(path)  # nothing happens

    run(main)


def test_errors_are_those_of_the_database(path):
    async def main():
        with pytest.raises(lsmdbm.NotFoundError):
            await aio.open(path)
        with pytest.raises(lsmdbm.FlagError):
            await aio.open(path, "x")
        with pytest.raises(TypeError, match="unexpected keyword"):
            await aio.open(path, "c", sice=1)
        async with aio.open(path, "c") as db:
            for missing in (db.delete("tea"), db.pop("tea"), db.popitem()):
                with pytest.raises(KeyError):
                    await missing
            for wrong in (db.get(1), db.put("a", 1), db.put(1, "a"), db.get_many([1]), db.update({"a": 1})):
                with pytest.raises(TypeError, match="str or bytes-like"):
                    await wrong
            with pytest.raises(TypeError):
                db.keys(1)
            with pytest.raises(ValueError, match="limit"):
                await db.put(b"x" * 70_000, "a")
        async with aio.open(path) as db:
            for write in (db.put("a", "1"), db.delete("a"), db.clear(), db.update({}), db.compact()):
                with pytest.raises(lsmdbm.ReadOnlyError):
                    await write
            with pytest.raises(lsmdbm.ReadOnlyError):
                db.batch()
            assert await db.pop("a", None) is None

    run(main)


def test_after_close_everything_is_a_closed_error(path):
    async def main():
        db = await aio.open(path, "c")
        await db.put("a", "1")
        snapshot = await db.snapshot()
        items, begun = db.items(), db.items()
        assert (b"a", b"1") == await begun.__anext__()
        await db.close()
        await db.close()
        await snapshot.close()
        awaited = [
            db.get("a"),
            db.put("a", "1"),
            db.length(),
            db.sync(),
            db.stats(),
            db.update({}),
            db.pop(1),
            db.delete_range("a"),
            db.run(None),
        ]
        awaited += [items.__anext__(), begun.__anext__(), snapshot.get("a"), snapshot.length()]
        for each in awaited:
            with pytest.raises(lsmdbm.ClosedError):
                await each
        for call in (db.keys, db.batch, db.transaction, snapshot.items):
            with pytest.raises(lsmdbm.ClosedError):
                call()

    run(main)


def test_loops_may_follow_each_other(path):
    async def first():
        nonlocal db
        db = await aio.open(path, "c")
        await db.put("a", "1")

    async def second():
        assert b"1" == await db.get("a")
        await db.put("b", "2")
        await db.close()

    db = None
    run(first)
    run(second)


# -- nobody waits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda db: db.get("00007"),
        lambda db: db.contains("00007"),
        lambda db: db.get_many(["00007", "02000"]),
        lambda db: db.first("00007"),
        lambda db: db.items("00007").__anext__(),
        lambda db: db.verify(),
    ],
    ids=["get", "contains", "get_many", "first", "items", "verify"],
)
def test_a_slow_read_keeps_no_task_waiting(disk, read):
    async def main():
        async with opened(disk) as db:
            await fill(db)
            await db.close()
        async with opened(disk) as db:
            await db.put("new", "1")
            with disk.held("pread") as (come, go):
                slow = asyncio.ensure_future(read(db))
                await come.wait()  # which the loop has to go on for
                await progress()
                assert b"1" == await db.get("new")
                assert not slow.done()
                go.set()
                assert await slow
        assert [] == disk.in_loop

    run(main)


@pytest.mark.parametrize(
    ("write", "operation"),
    [
        (lambda db: db.put("new", "1"), "pwrite"),
        (lambda db: db.sync(), "fdatasync"),
        (lambda db: db.flush(), "create"),
        (lambda db: db.compact(), "pread"),
    ],
    ids=["put", "sync", "flush", "compact"],
)
def test_a_slow_write_keeps_no_task_and_no_read_from_memory_waiting(disk, write, operation):
    async def main():
        async with opened(disk) as db:
            await fill(db)
            await db.put("recent", "1")
            with disk.held(operation) as (come, go):
                slow = asyncio.ensure_future(write(db))
                await come.wait()
                assert b"1" == await db.get("recent")
                assert not slow.done()
                go.set()
                await slow
        assert [] == disk.in_loop

    run(main)


def test_opening_keeps_no_task_waiting_and_if_cancelled_leaves_no_handle(disk):
    async def main():
        async with opened(disk):
            pass
        with disk.held("lock") as (come, go):
            opening = asyncio.ensure_future(opened(disk).__aenter__())
            await come.wait()
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            go.set()
        async with opened(disk, timeout=PATIENCE) as db:
            await db.put("a", "1")
        for thread in threading.enumerate():
            if thread.name.startswith("lsmdbm-open"):
                thread.join()

    run(main)


def test_what_is_in_memory_is_read_without_a_thread(disk, monkeypatch):
    async def main():
        async with opened(disk, memtable_bytes=1 << 20) as db:
            await db.put("a", "1")
            await db.delete("a")
            await db.put("b", "2")
            snapshot = await db.snapshot()
            await db.put("c", "3")
            monkeypatch.setattr(lane.Lane, "call", None)
            for reads in (db, snapshot):
                assert (None, b"2", True) == (
                    await reads.get("a"),
                    await reads.get("b"),
                    await reads.contains("b"),
                )
            assert b"3" == await db.get("c")
            monkeypatch.undo()
            assert await snapshot.get("c") is None
            await snapshot.close()

    run(main)


def test_a_task_that_reads_from_memory_alone_gives_way(path):
    async def main():
        async with aio.open(path, "c") as db:
            await db.put("a", "1")
            stop = asyncio.Event()
            asyncio.get_running_loop().call_soon(stop.set)
            for _ in itertools.takewhile(lambda _: not stop.is_set(), range(100_000)):
                await db.get("a")
            assert stop.is_set()

    run(main)


# -- order -------------------------------------------------------------------------------------------


def test_concurrent_writes_take_effect_in_the_order_of_their_calls(path, seed):
    rng = random.Random(f"{seed} order of writes")

    async def main():
        async with aio.open(path, "c") as db:
            for _ in range(20):
                model, calls = {}, []
                for number in range(100):
                    key, value = b"%d" % rng.randrange(5), b"%d" % number
                    kind = rng.choice(["put", "put", "put", "pop", "setdefault", "clear", "update"])
                    if kind == "put":
                        model[key] = value
                        calls.append(db.put(key, value))
                    elif kind == "pop":
                        model.pop(key, None)
                        calls.append(db.pop(key, None))
                    elif kind == "setdefault":
                        model.setdefault(key, value)
                        calls.append(db.setdefault(key, value))
                    elif kind == "update":
                        model[key] = value
                        calls.append(db.update({key: value}))
                    else:
                        model.clear()
                        calls.append(db.clear())
                await asyncio.gather(*calls)
                assert model == {key: value async for key, value in db.items()}
                await db.clear()

    run(main)


def test_puts_that_wait_in_line_share_a_record_and_a_sync(disk):
    async def main():
        async with opened(disk, durability="full", memtable_bytes=1 << 20) as db:
            await db.put("first", "1")
            calls = len(disk.calls)
            with disk.held("pwrite") as (come, go):
                slow = asyncio.ensure_future(db.put("slow", "1"))
                await come.wait()
                others = [asyncio.ensure_future(db.put(b"%d" % number, "1")) for number in range(500)]
                await progress()
                go.set()
                await asyncio.gather(slow, *others)
            made = [operation for operation, _ in disk.calls[calls:]]
            assert (2, 2) == (made.count("pwrite"), made.count("fdatasync"))
            assert 502 == await db.length()

    run(main)


def test_a_failed_write_fails_all_that_shared_it_and_no_other(disk):
    async def main():
        db = await opened(disk, memtable_bytes=1 << 20)
        with pytest.raises(lsmdbm.FailedError, match="closed after a failure"):
            await work(db)

    async def work(db):
        async with db:
            await db.put("first", "1")
            with disk.held("pwrite") as (come, go):
                slow = asyncio.ensure_future(db.put("slow", "1"))
                await come.wait()
                others = [asyncio.ensure_future(db.put(b"%d" % number, "1")) for number in range(5)]
                await progress()
                disk.fault(len(disk.calls), errno.EIO, "before")
                go.set()
                done = await asyncio.gather(slow, *others, return_exceptions=True)
            assert [type(None)] + 5 * [lsmdbm.FailedError] == [type(each) for each in done]
            assert [b"first", b"slow"] == [key async for key in db]
            with pytest.raises(lsmdbm.FailedError):
                await db.put("later", "1")

    run(main)


def test_a_thousand_tasks_at_once(path, seed):
    async def work(db, number):
        rng = random.Random(f"{seed} task {number}")
        key = b"%04d" % number
        await db.put(key, b"0")
        assert b"0" == await db.get(key)
        if rng.random() < 0.2:
            assert 1 == await db.increment(key)
            assert [(key, b"1")] == [pair async for pair in db.items(prefix=key)]
        if rng.random() < 0.2:
            async with db.batch() as batch:
                batch[key + b"a"], batch[key + b"b"] = "1", "2"
            assert 2 == len(await db.get_many([key + b"a", key + b"b"]))
        if rng.random() < 0.5:
            assert await db.pop(key) in (b"0", b"1")
            assert not await db.contains(key)
            return 0
        return 1

    async def main():
        async with aio.open(path, "c", memtable_bytes=1 << 14) as db:
            left = await asyncio.gather(*(work(db, number) for number in range(1000)))
            assert sum(left) == sum([len(key) == 4 async for key in db])

    run(main)


# -- cancelling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["put", "update", "batch", "pop", "clear"])
def test_a_cancelled_write_is_done_if_it_had_begun_and_not_at_all_if_not(disk, kind):
    async def batch(db):
        async with db.batch() as changes:
            changes["a"] = changes["b"] = "new"

    work = {
        "put": lambda db: db.put("a", "new"),
        "update": lambda db: db.update({"a": "new", "b": "new"}),
        "batch": batch,
        "pop": lambda db: db.pop("a"),
        "clear": lambda db: db.clear(),
    }[kind]
    done = {"put": [b"a", b"z"], "pop": [b"z"], "clear": []}.get(kind, [b"a", b"b", b"z"])

    async def cancelled(task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def main():
        async with opened(disk) as db:
            await db.update({"a": "old", "z": "old"})
            with disk.held("pwrite") as (come, go):  # before it has begun
                slow = asyncio.ensure_future(db.put("z", "slow"))
                await come.wait()
                task = asyncio.ensure_future(work(db))
                await progress()
                await cancelled(task)
                go.set()
                await slow
            await db.put("z", "behind it")
            assert {b"a": b"old", b"z": b"behind it"} == await everything(db)
            with disk.held("pwrite") as (come, go):  # when it has
                task = asyncio.ensure_future(work(db))
                await come.wait()
                await cancelled(task)
                go.set()
            await db.setdefault("z", "old")  # behind it
            assert sorted({*done, b"z"}) == sorted(await everything(db))
            assert {b"new"} >= {await db.get(key, b"new") for key in "ab"} or kind == "pop"

    run(main)


async def everything(db):
    return {key: value async for key, value in db.items()}


def test_a_cancelled_read_leaves_the_handle_whole(disk):
    async def main():
        async with opened(disk) as db:
            await fill(db)
            await db.close()
        async with opened(disk) as db:
            with disk.held("pread") as (come, go):
                reads = [asyncio.ensure_future(db.get(key)) for key, _ in ENTRIES[::100]]
                await come.wait()
                for read in reads:
                    read.cancel()
                done = await asyncio.gather(*reads, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) for each in done)
                go.set()
            assert dict(ENTRIES) == await everything(db)

    run(main)


def test_a_cancelled_step_of_an_iteration_takes_nothing(disk):
    async def main():
        async with opened(disk) as db:
            await fill(db)
            seen, items = [], db.items()
            for _ in range(3):
                while len(seen) % 1000 != 999:
                    seen.append(await items.__anext__())
                seen.append(await items.__anext__())
                if len(seen) == len(ENTRIES):
                    break
                with disk.held("pread") as (come, go):
                    step = asyncio.ensure_future(items.__anext__())
                    await asyncio.wait(
                        [step, asyncio.ensure_future(come.wait())], return_when="FIRST_COMPLETED"
                    )
                    step.cancel()
                    done = await asyncio.gather(step, return_exceptions=True)
                    seen += [each for each in done if not isinstance(each, BaseException)]
                    go.set()
            seen += [each async for each in items]
            assert ENTRIES == seen

    run(main)


def test_a_cancelled_update_stops_between_two_batches(path):
    async def main():
        async def endless():
            for number in itertools.count():
                if number == 2500:
                    come.set()
                    await asyncio.Event().wait()
                yield b"%05d" % number, b"v"

        come = asyncio.Event()
        async with aio.open(path, "c") as db:
            task = asyncio.ensure_future(db.update(endless()))
            await come.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert 2000 == await db.length()

    run(main)


# -- many at once ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False])
def test_update_writes_what_came_before_a_failure(path, is_async):
    def pairs():
        yield from ENTRIES[:1500]
        yield "wrong", 1

    async def async_pairs():
        for pair in pairs():
            await asyncio.sleep(0)
            yield pair

    async def main():
        async with aio.open(path, "c") as db:
            with pytest.raises(TypeError, match="value must be"):
                await db.update(async_pairs() if is_async else pairs())
            assert dict(ENTRIES[:1500]) == await everything(db)

    run(main)


def test_a_batch_shows_when_its_block_is_left_or_never(path):
    async def main():
        async with aio.open(path, "c") as db:
            async with db.batch() as batch:
                batch["a"] = "1"
                assert not await db.contains("a")
            assert await db.contains("a")
            with pytest.raises(KeyError, match="of the caller"):
                async with db.batch() as batch:
                    batch["b"] = "1"
                    raise KeyError("of the caller")
            assert not await db.contains("b")

    run(main)


# -- one moment --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("place", ["in memory", "on disk"])
def test_an_iteration_sees_one_moment_while_others_write(path, place, reverse):
    async def write(db):
        for number in itertools.count():
            await db.update((key, b"%d" % number) for key, _ in ENTRIES[::-7])
            await db.pop(ENTRIES[number][0])

    async def main():
        async with aio.open(path, "c", memtable_bytes=1 << 16) as db:
            await fill(db)
            if place == "in memory":
                await db.clear()
                await db.update(ENTRIES)
            items, keys = db.items(reverse=reverse), db.keys("00100", "02100", reverse=reverse)
            seen, seen_keys = [await items.__anext__()], [await keys.__anext__()]
            writer = asyncio.ensure_future(write(db))
            async for item in items:
                seen.append(item)
                await asyncio.sleep(0)
            seen_keys += [key async for key in keys]
            writer.cancel()
            assert ENTRIES[:: -1 if reverse else 1] == seen
            assert [key for key, _ in ENTRIES[100:2100]][:: -1 if reverse else 1] == seen_keys

    run(main)


def test_a_snapshot_reads_its_moment(path):
    async def main():
        async with aio.open(path, "c") as db:
            await db.update(ENTRIES[:10])
            async with db.snapshot() as snapshot:
                await db.clear()
                await db.put("new", "1")
                await db.compact()
                assert dict(ENTRIES[:10]) == await everything(snapshot)
                assert (10, False) == (await snapshot.length(), await snapshot.contains("new"))
                assert (ENTRIES[0], ENTRIES[9]) == (await snapshot.first(), await snapshot.last())
                assert {b"00003": b"value 3"} == await snapshot.get_many([b"00003", b"new"])
                assert 1 == (await db.stats()).snapshots
            assert 0 == (await db.stats()).snapshots
            await snapshot.close()
            with pytest.raises(lsmdbm.ClosedError, match="snapshot"):
                await snapshot.get("00003")

    run(main)


# -- transactions ------------------------------------------------------------------------------------


def test_a_transaction_does_what_its_namesake_does(path):
    async def pairs():
        yield "d", bytearray(b"4")

    async def main():
        async with aio.open(path, "c") as db:
            await db.update(ENTRIES[:9])
            async with db.transaction() as tx:
                await tx.put("a", "1")
                await tx.put(b"b", memoryview(b"2"))
                await tx.update({"c": "3"}, e="5")
                await tx.update(pairs())
                assert (b"1", None, 0) == (await tx.get("a"), await tx.get("z"), await tx.get("z", 0))
                assert (True, False) == (await tx.contains("a"), await tx.contains("z"))
                assert {"e": b"5", "00003": b"value 3"} == await tx.get_many(iter(["e", "z", "00003"]))
                assert (14, 2) == (await tx.length(), await tx.length("b", "d"))
                assert (ENTRIES[0], (b"d", b"4")) == (await tx.first(), await tx.last("b", "e"))
                assert (b"1", b"6") == (await tx.setdefault("a", "9"), await tx.setdefault("f", "6"))
                assert (b"6", None) == (await tx.pop("f"), await tx.pop("f", None))
                assert ENTRIES[0] == await tx.popitem()
                assert (7, 5) == (await tx.increment("n", 7), await tx.increment("n", -2))
                await tx.delete("n")
                await tx.delete_range("00001", "00008")
                await tx.delete_range(prefix="c")
                assert [b"00008", b"a", b"b", b"d", b"e"] == [key async for key in tx]
                assert [b"e", b"d"] == [key async for key in tx.keys("c", reverse=True)]
                assert [(b"a", b"1")] == [pair async for pair in tx.items(prefix="a")]
                assert dict(ENTRIES[:9]) == await everything(db)
                for failing, call in (
                    (KeyError, tx.delete("n")),
                    (KeyError, tx.pop("n")),
                    (TypeError, tx.put("a", 1)),
                    (TypeError, tx.update([("x", "1"), ("y", 2)])),
                    (ValueError, tx.increment("a" * 70_000)),
                ):
                    with pytest.raises(failing):
                        await call
            assert {b"00008": b"value 8", b"a": b"1", b"b": b"2", b"d": b"4", b"e": b"5"} == await everything(
                db
            )
            tx = await db.transaction()
            await tx.clear()
            await tx.rollback()
            await tx.rollback()
            for thread in threading.enumerate():
                if thread.name.startswith("lsmdbm-transaction"):
                    thread.join(PATIENCE / 2)  # over with the transaction, not with the reference to it
                    assert not thread.is_alive()
            assert 5 == await db.length()
            for call in (tx.get("a"), tx.put("a", "1"), tx.commit(), tx.clear(), tx.__aenter__()):
                with pytest.raises(lsmdbm.ClosedError, match="rolled back"):
                    await call
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(tx)
            assert "lsmdbm.aio.Transaction of" in repr(tx)
        async with aio.open(path) as db:
            with pytest.raises(lsmdbm.ReadOnlyError):
                db.transaction()
            for call in (db.run(None), db.delete_range("a")):
                with pytest.raises(lsmdbm.ReadOnlyError):
                    await call

    run(main)


def test_a_block_that_fails_or_is_cancelled_rolls_back(path):
    async def begin(db, entered):
        async with db.transaction() as tx:
            await tx.put("a", "1")
            entered.set()
            await asyncio.Event().wait()

    async def main():
        async with aio.open(path, "c") as db:
            with pytest.raises(KeyError, match="of the caller"):
                async with db.transaction() as tx:
                    await tx.put("a", "1")
                    raise KeyError("of the caller")
            entered = asyncio.Event()
            task = asyncio.ensure_future(begin(db, entered))
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (0, 0) == (await db.length(), (await db.stats()).snapshots)

    run(main)


def test_savepoints_take_back_what_came_after_them(path):
    async def main():
        async with aio.open(path, "c") as db, db.transaction() as tx:
            await tx.put("a", "1")
            with pytest.raises(ZeroDivisionError):
                async with tx.savepoint():
                    await tx.put("a", "2")
                    raise ZeroDivisionError
            async with tx.savepoint() as point:
                await tx.put("b", "1")
                await point.rollback()
                await tx.put("c", "1")
                await point.release()
                with pytest.raises(lsmdbm.ClosedError, match="savepoint is over"):
                    await point.rollback()
            with pytest.raises(RuntimeError, match="async with"):
                await tx.savepoint().rollback()
            assert {b"a": b"1", b"c": b"1"} == await everything(tx)

    run(main)


def test_what_another_task_changes_is_a_conflict_and_run_tries_again(path):
    async def main():
        async with aio.open(path, "c") as db:
            async with db.transaction() as tx:
                seen = await tx.get("a")
                await db.put("a", "1")
                await tx.put("b", repr(seen))
                with pytest.raises(lsmdbm.ConflictError, match="b'a'"):
                    await tx.commit()
            assert {b"a": b"1"} == await everything(db)
            async with db.transaction() as tx:  # what was fetched by an iteration counts
                assert [b"a"] == [key async for key in tx]
                await tx.put("b", "1")
                await db.put("c", "1")
                with pytest.raises(lsmdbm.ConflictError, match="b'c'"):
                    await tx.commit()
            tries = []

            async def function(tx):
                tries.append(await tx.get("a"))
                if len(tries) < 3:
                    await db.put("a", str(len(tries)) * 2)
                await tx.put("b", tries[-1])
                return len(tries)

            assert 3 == await db.run(function)
            assert (b"22", [b"1", b"11", b"22"]) == (await db.get("b"), tries)
            tries.clear()
            with pytest.raises(lsmdbm.ConflictError):
                await db.run(function, attempts=2)
            with pytest.raises(ValueError, match="at least 1"):
                await db.run(function, attempts=0)

    run(main)


def test_many_tasks_count_without_losing_any(path):
    async def count(tx):
        number = int(await tx.get("sum", b"0"))
        await asyncio.sleep(0)
        await tx.put("sum", str(number + 1))

    async def main():
        async with aio.open(path, "c") as db:
            await asyncio.gather(*(db.run(count, attempts=1000) for _ in range(12)))
            assert b"12" == await db.get("sum")

    run(main)


def test_tasks_may_share_a_transaction(path, seed):
    """Whatever they ask for at once is done in that order, in one thread."""
    rng = random.Random(f"{seed} shared transaction")

    async def main():
        async with aio.open(path, "c") as db, db.transaction() as tx:
            for _ in range(10):
                model, calls = {}, []
                for number in range(60):
                    key, value = b"%d" % rng.randrange(5), b"%d" % number
                    if rng.random() < 0.6:
                        model[key] = value
                        calls.append((None, tx.put(key, value)))
                    elif rng.random() < 0.5:
                        calls.append((model.pop(key, None), tx.pop(key, None)))
                    else:
                        calls.append((model.get(key), tx.get(key)))
                answers = await asyncio.gather(*(call for _, call in calls))
                assert [answer for answer, _ in calls] == answers
                assert model == await everything(tx)
                await tx.clear()

    run(main)


def test_a_slow_transaction_keeps_no_task_waiting(disk):
    async def main():
        async with opened(disk) as db:
            await fill(db)
            await db.close()
        async with opened(disk) as db:
            await db.put("new", "1")
            async with db.transaction() as tx:
                with disk.held("pread") as (come, go):
                    slow = asyncio.ensure_future(tx.get("00007"))
                    await come.wait()
                    behind = asyncio.ensure_future(tx.put("behind", "4"))  # of the same transaction: it waits
                    await progress()
                    assert not behind.done()
                    assert b"1" == await db.get("new")
                    async with db.transaction() as other:
                        assert b"1" == await other.get("new")
                        await other.put("newer", "2")
                    assert not slow.done()
                    go.set()
                    assert b"value 7" == await slow
                    await behind
                await tx.put("newest", "3")
                with disk.held("pwrite") as (come, go):
                    slow = asyncio.ensure_future(tx.commit())
                    await come.wait()
                    assert b"1" == await db.get("new")
                    with pytest.raises(lsmdbm.ClosedError):
                        await tx.get("new")
                    go.set()
                    await slow
            assert b"3" == await db.get("newest")
        assert [] == disk.in_loop

    run(main)


def test_a_commit_that_is_cancelled_goes_on_to_its_end(disk):
    async def main():
        async with opened(disk) as db:
            tx = await db.transaction()
            await tx.update(a="1", b="2")
            with disk.held("pwrite") as (come, go):
                task = asyncio.ensure_future(tx.commit())
                await come.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                go.set()
            await tx.rollback()
            await db.setdefault("z", "behind it")
            assert [b"a", b"b", b"z"] == [key async for key in db]

    run(main)


def test_closing_lets_a_commit_end_and_rolls_back_what_is_open(disk):
    async def main():
        db = await opened(disk)
        tx, other = await db.transaction(), await db.transaction()
        await tx.put("a", "1")
        await other.put("b", "1")
        with disk.held("pwrite") as (come, go):
            committing = asyncio.ensure_future(tx.commit())
            await come.wait()
            closing = asyncio.ensure_future(db.close())
            await progress()
            assert not closing.done()
            go.set()
            await asyncio.gather(committing, closing)
        for call in (other.get("b"), other.commit(), other.put("b", "1"), tx.get("a")):
            with pytest.raises(lsmdbm.ClosedError):
                await call
        await other.rollback()
        async with opened(disk) as db:
            assert {b"a": b"1"} == await everything(db)

    run(main)


def test_a_forgotten_transaction_is_rolled_back_and_leaves_no_thread(path):
    async def main():
        async with aio.open(path, "c") as db:
            tx = await db.transaction()
            await tx.put("a", "1")
            del tx
            gc.collect()
            for thread in threading.enumerate():
                if thread.name.startswith("lsmdbm-transaction"):
                    thread.join(PATIENCE)
            assert (0, 0) == (await db.length(), (await db.stats()).snapshots)

    run(main)


def test_whoever_follows_is_told_of_every_change_without_a_call_in_the_loop(disk, monkeypatch):
    monkeypatch.setattr(stream, "CHUNK_ENTRIES", 7)

    async def main():
        async with opened(disk, log_keep_bytes=1 << 20, memtable_bytes=2000) as db:
            start = await db.position()
            for number in range(50):
                await db.put(b"%02d" % number, bytes(100))
            async with db.snapshot() as snapshot:
                await db.delete("00")
                behind = [change.items async for change in db.changes(await snapshot.position())]
            changes = [change async for change in db.changes(start)]
            following = db.changes(changes[10].next)
            first = await following.__anext__()
            await db.put("late", "1")
            rest = [change.seq async for change in following]
            assert [] == [change async for change in db.changes(await db.position())]
            with pytest.raises(lsmdbm.HistoryLostError):
                async with opened(Disk()) as other:
                    [_ async for _ in other.changes(changes[-1].next)]
            with pytest.raises(TypeError, match="a position is bytes"):
                db.changes(7.0)
            assert changes[-1].seq == [change.seq async for change in db.changes(changes[-1].seq)][0]
            unfinished = db.changes()
            assert 1 == (await unfinished.__anext__()).seq
        with pytest.raises(lsmdbm.ClosedError):
            await unfinished.__anext__()
        with pytest.raises(lsmdbm.ClosedError):
            db.changes()
        assert [((b"00", None),)] == behind
        assert list(range(1, 52)) == [change.seq for change in changes]
        assert (12, list(range(13, 52))) == (first.seq, rest)

    run(main)
    assert [] == disk.in_loop


@pytest.mark.parametrize("end", ["aclose", "break", "exhaust"])
def test_what_an_iteration_kept_is_let_go_of_at_its_end(path, end):
    def tables():
        return {name for name in os.listdir(path) if name.endswith(".sst")}

    async def main():
        async with aio.open(path, "c") as db:
            await fill(db)
            before = tables()
            items = db.items()
            await items.__anext__()
            await db.clear()
            await fill(db, [("new", "1")])
            assert before <= tables()
            if end == "aclose":
                await items.aclose()
                await items.aclose()
                assert [] == [item async for item in items]
            elif end == "exhaust":
                assert len(ENTRIES) - 1 == len([item async for item in items])
            else:
                async for _ in items:
                    break
                del items, _
                gc.collect()
            for number in range(100):  # the thread that read last may hold on to it for a moment more
                await fill(db, [("newer", str(number))])
                if not before & tables():
                    break
            assert not before & tables()

    run(main)


def test_an_iteration_holds_one_piece_in_memory(path):
    async def main():
        async with aio.open(path, "c", memtable_bytes=1 << 16) as db:
            await db.update((b"%05d" % number, b"v" * 10_000) for number in range(300))
            await db.flush()
            items = db.items()
            await items.__anext__()
            assert 25 <= len([*items._ready]) <= 60

    run(main)


def test_two_tasks_may_share_an_iteration(path):
    async def take(items):
        return [item async for item in items]

    async def main():
        async with aio.open(path, "c") as db:
            await fill(db)
            items = db.items()
            parts = await asyncio.gather(take(items), take(items), take(items))
            assert ENTRIES == sorted(itertools.chain(*parts))

    run(main)


# -- closing -----------------------------------------------------------------------------------------


def test_closing_waits_for_what_is_under_way(disk):
    async def main():
        db = await opened(disk)
        await fill(db)
        await db.close()
        db = await opened(disk)
        with disk.held("pread") as (come, go):
            read = asyncio.ensure_future(db.get("00007"))
            await come.wait()
            writes = [asyncio.ensure_future(db.put(b"%d" % number, "new")) for number in range(10)]
            await progress()
            closing = asyncio.ensure_future(db.close())
            await progress()
            assert not closing.done()
            with pytest.raises(lsmdbm.ClosedError):
                await db.get("00007")
            go.set()
            await closing
        assert b"value 7" == await read
        await asyncio.gather(*writes)
        async with opened(disk) as db:
            assert len(ENTRIES) + 10 == await db.length()

    run(main)


def test_closing_goes_on_when_it_is_cancelled(disk):
    async def main():
        db = await opened(disk)
        await db.put("a", "1")
        with disk.held("fdatasync") as (come, go):
            closing = asyncio.ensure_future(db.close())
            await come.wait()
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            go.set()
            await db.close()
        async with opened(disk) as db:
            assert b"1" == await db.get("a")

    run(main)


def test_closing_ends_a_compaction(disk):
    async def main():
        db = await opened(disk)
        await fill(db)
        await db.update((key, "new") for key, _ in ENTRIES)
        with disk.held("pread") as (come, go):
            compacting = asyncio.ensure_future(db.compact())
            await come.wait()
            closing = asyncio.ensure_future(db.close())
            await progress()
            go.set()
            await closing
        done = await asyncio.gather(compacting, return_exceptions=True)
        assert isinstance(done[0], (lsmdbm.ClosedError, type(None)))
        async with opened(disk) as db:
            assert len(ENTRIES) == await db.length()

    run(main)


def test_a_loop_that_ends_in_the_middle_of_a_write_takes_nothing_with_it(disk, caplog):
    async def main():
        nonlocal db, go
        db = await opened(disk)
        await db.put("a", "1")
        with disk.held("pwrite") as (come, word):
            go, word.set = word.set, lambda: None
            asyncio.ensure_future(db.put("b", "2"))
            await come.wait()
            asyncio.ensure_future(db.length())  # which has to wait for the lock of the store
            await progress()

    async def later():
        await db.put("c", "3")
        assert [b"a", b"b", b"c"] == [key async for key in db]
        await db.close()

    db, go = None, None
    run(main)
    go()
    run(later)
    assert [] == caplog.records


def test_an_unclosed_handle_warns_and_leaves_no_thread(path):
    async def main():
        db = await aio.open(path, "c")
        await db.put("a", "1")
        await db.length()

    def forget():
        run(main)
        gc.collect()
        for thread in threading.enumerate():  # one of them may be the last to let go
            if thread.name.startswith("lsmdbm-"):
                thread.join()

    with pytest.warns(ResourceWarning, match="unclosed database"):
        forget()
    with lsmdbm.open(path) as db:
        assert b"1" == db["a"]


def test_a_program_ends_that_left_a_handle_open(path):
    program = (
        "import asyncio, lsmdbm, sys\n"
        "async def main():\n"
        "    global db\n"
        "    db = await lsmdbm.aio.open(sys.argv[1], 'c')\n"
        "    await db.put('a', '1')\n"
        "    task = asyncio.ensure_future(db.put('b', '2'))\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, timeout=PATIENCE)
    assert (0, b"") == (done.returncode, done.stderr)
    with lsmdbm.open(path) as db:
        assert b"1" == db["a"]


def test_in_a_forked_child_a_handle_is_closed_and_nothing_waits(path):
    program = (
        "import asyncio, lsmdbm, os, sys\n"
        "async def opening():\n"
        "    db = await lsmdbm.aio.open(sys.argv[1], 'c')\n"
        "    await db.put('a', '1')\n"
        "    await db.length()\n"
        "    return db\n"
        "db = asyncio.run(opening())\n"
        "async def in_child():\n"
        "    for call in (db.get('a'), db.put('a', '2'), db.length(), db.clear()):\n"
        "        try:\n"
        "            await call\n"
        "        except lsmdbm.ClosedError as exc:\n"
        "            assert 'fork' in str(exc), exc\n"
        "    await db.close()\n"
        "    await db.close()\n"
        "if not os.fork():\n"
        "    asyncio.run(in_child())\n"
        "    os._exit(7)\n"
        "assert 7 == os.waitstatus_to_exitcode(os.wait()[1])\n"
        "asyncio.run(db.close())\n"
    )
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, path]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    assert (0, b"") == (done.returncode, done.stderr)


def test_handles_have_no_wish_to_be_pickled(path):
    async def main():
        async with aio.open(path, "c") as db:
            with pytest.raises(TypeError, match="pickled"):
                pickle.dumps(db)
            assert path in repr(db)

    run(main)
