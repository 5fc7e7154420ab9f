"""The store: what each call does, and what is left when it is interrupted, fails, or the machine crashes."""

import dis
import errno
import functools
import gc
import random
import sys
import threading

import pytest

from lsmdbm._base.errors import ClosedError, CorruptionError, FailedError, error
from lsmdbm._base.leftovers import clear_up
from lsmdbm._engine import appender as appender_module
from lsmdbm._engine import store as store_module
from lsmdbm._engine import tree as tree_module
from lsmdbm._engine import wal as wal_module
from lsmdbm._engine import writer as writer_module
from lsmdbm._engine.appender import BUFFER_BYTES, BUFFER_SECONDS
from lsmdbm._engine.recovery import CHAIN_LOGS
from lsmdbm._engine.tree import STALL_MEMTABLES
from lsmdbm._format import envelope, records
from lsmdbm._format.records import LogHeader
from support.crash_storage import MODES, WRITES, CrashFile, CrashStorage, Killed, failure
from support.disk import POWER_LOSSES
from support.engine import PATH, calls_since, close, current, entries, log, names, open_store, writes

MANUAL = {"background": "manual"}


@pytest.fixture
def storage():
    return CrashStorage()


@pytest.fixture
def opened(storage):
    """Open stores as often as a test likes; what is still open at its end is closed."""
    found = []

    def open_one(flag="c", **options):
        found.append(open_store(storage, flag, **options))
        return found[-1]

    yield open_one
    storage.on_call = None
    storage.heal()
    for store in found:
        try:
            close(storage, store)
        except FailedError:
            pass


@pytest.fixture
def store(opened):
    return opened()


def fill(store, count=60, size=40, mark=b"v"):
    """Put so many keys; return what they are now."""
    done = {b"%04d" % key: (mark * size)[:size] for key in range(count)}
    for key, value in done.items():
        store.put(key, value)
    return done


def fill_up(store, done):
    """Put until that is refused; enter into `done` what was taken."""
    for number in range(10_000):
        store.put(b"%04d" % number, bytes(40))
        done[b"%04d" % number] = bytes(40)


def recovered(storage, mode="kill", seed=0):
    """Return what a crash now would leave."""
    crashed = storage.crash(mode, random.Random(seed))
    store = open_store(crashed)
    found = entries(store)
    close(crashed, store)
    return found


@pytest.mark.parametrize(("log_io", "batches", "reads"), [("pwrite", 5, 14), ("mmap", 2, 4)])
def test_beside_a_mapped_log_background_work_gives_up_the_gil_seldom(
    storage, opened, monkeypatch, log_io, batches, reads
):
    """Each of these calls may cost 5 ms beside a thread that computes."""
    store = opened(log_io=log_io, memtable_bytes=32 << 20, block_bytes=4096, **MANUAL)
    made, compress_all = [], envelope.compress_all
    monkeypatch.setattr(envelope, "compress_all", lambda *given: made.append(1) or compress_all(*given))

    def calls(operation, start):
        return len(
            [call for call in calls_since(storage, start) if call.startswith(operation) and ".sst" in call]
        )

    fill(store, 1100, 1000)
    store.flush()
    flushed = storage.count
    assert (batches, batches) == (len(made), calls("pwrite", 0))

    store.put(b"0000", b"new")
    store.put(b"1099", b"new")
    store.compact()
    assert reads == calls("pread", flushed) - 5  # which open the tables


# Single writes and reads


def test_a_put_is_read_and_replaced(store):
    assert store.get(b"key") is None
    store.put(b"key", b"old")
    store.put(b"key", b"new")
    store.put(b"", b"")

    assert (b"new", b"", None) == (store.get(b"key"), store.get(b""), store.get(b"other"))
    assert {b"": b"", b"key": b"new"} == entries(store)


def test_put_if_absent_sets_what_is_missing_and_returns_what_is_there(storage, store):
    assert store.put_if_absent(b"key", b"first") is None
    before = storage.count
    assert b"first" == store.put_if_absent(b"key", b"second")

    assert b"first" == store.get(b"key")
    assert [] == calls_since(storage, before)


def test_take_deletes_and_returns_the_value(storage, store):
    store.put(b"key", b"value")
    assert b"value" == store.take(b"key")
    before = storage.count
    assert store.take(b"key") is None

    assert store.get(b"key") is None
    assert [] == calls_since(storage, before)  # a delete of a missing key writes nothing


def test_take_first_takes_the_smallest(store):
    fill(store, 3)
    store.put(b"\0", b"smallest")

    assert [b"\0", b"0000", b"0001", b"0002"] == [store.take_first()[0] for _ in range(4)]
    assert store.take_first() is None
    store.put(b"0001", b"again")
    assert (b"0001", b"again") == store.take_first()


def test_a_batch_sets_and_deletes_in_one_record(storage, store):
    store.put(b"b", b"old")
    store.batch([b"c", b"b", b"a"], [b"3", None, b"1"])

    assert {b"a": b"1", b"c": b"3"} == entries(store)
    assert [(1, {b"b": b"old"}), (2, {b"c": b"3", b"b": None, b"a": b"1"})] == writes(storage, 2)


def test_an_empty_batch_writes_nothing(storage, store):
    before = storage.count
    store.batch([], [])

    assert [] == calls_since(storage, before)


def test_a_batch_too_large_for_a_record_changes_nothing(store, monkeypatch):
    store.put(b"key", b"value")
    monkeypatch.setattr(records, "MAX_PAYLOAD_BYTES", 100)
    with pytest.raises(ValueError, match="the limit is 100"):
        store.batch([b"a", b"b"], [bytes(60), bytes(60)])
    store.put(b"b", b"2")

    assert {b"key": b"value", b"b": b"2"} == entries(store)


def test_clear_leaves_nothing(store):
    fill(store)
    store.flush()
    store.put(b"key", b"value")
    store.clear()
    assert ({}, 0, None) == (entries(store), store.length(), store.get(b"key"))

    store.put(b"key", b"new")
    assert ({b"key": b"new"}, 1) == (entries(store), store.length())


def test_first_finds_either_end_of_a_range(store):
    done = fill(store, 5)
    store.take(b"0000")
    store.take(b"0003")

    value = done[b"0001"]
    assert (b"0001", value) == store.first(None, None)
    assert (b"0004", value) == store.first(None, None, reverse=True)
    assert (b"0002", value) == store.first(b"0002", b"0004")
    assert (b"0002", b"") == store.first(b"0002", b"0004", reverse=True, keys_only=True)
    assert store.first(b"0003", b"0004") is None
    assert store.first(b"5", None) is None


def test_the_first_key_is_found_whatever_was_written_since_it_was_looked_for(seed):
    rng = random.Random(f"{seed} first")
    storage = CrashStorage()
    store, model = open_store(storage), {}
    for _ in range(1500):
        key, step = (
            b"%02d" % rng.randrange(40),
            rng.choice(("put", "take", "batch", "first", "clear", "look", "look")),
        )
        if step == "put":
            store.put(key, b"v")
            model[key] = b"v"
        elif step == "take":
            assert model.pop(key, None) == store.take(key)
        elif step == "batch":
            store.batch([key, key + b"x"], [None, b"v"])
            model.pop(key, None)
            model[key + b"x"] = b"v"
        elif step == "first":
            expected = min(model, default=None)
            assert (None if expected is None else (expected, model.pop(expected))) == store.take_first()
        elif step == "clear" and rng.random() < 0.1:
            store.clear()
            model.clear()
        start, stop = sorted((b"%02d" % rng.randrange(40), b"%02d" % rng.randrange(40)))
        start, stop, reverse = rng.choice((start, None)), rng.choice((stop, None)), rng.random() < 0.5
        inside = [
            k for k in sorted(model, reverse=reverse) if (start or b"") <= k and (stop is None or k < stop)
        ]
        found = store.first(start, stop, reverse=reverse)
        assert (inside[0] if inside else None) == (found and found[0]), f"seed {seed}"
        if rng.random() < 0.1:
            assert model == entries(store), f"seed {seed}"
    close(storage, store)


def test_length_is_exact(store):
    assert 0 == store.length()
    fill(store)
    assert 60 == store.length()
    store.put(b"0000", b"replaced")
    store.put(b"new", b"value")
    store.take(b"0001")
    assert 60 == store.length()
    store.flush()
    store.batch([b"0002", b"other"], [None, b"value"])
    assert 60 == store.length()


def test_length_found_by_a_scan_is_known_to_the_next_opening(storage, opened, monkeypatch):
    monkeypatch.setattr(tree_module, "WORTH_REMEMBERING", 50)
    store = opened()
    fill(store)
    store.flush()
    assert None is current(storage).live_count
    assert 60 == store.length()
    close(storage, store)
    assert 60 == current(storage).live_count
    before = storage.count

    store = opened("w")
    assert 60 == store.length()
    assert [] == [call for call in calls_since(storage, before) if call.startswith("open") and ".sst" in call]


def test_closing_writes_no_count_that_costs_less_than_writing_it(storage, opened):
    store = opened()
    fill(store)
    store.flush()
    close(storage, store)
    before = storage.contents(PATH)
    store = opened("w")
    assert 60 == store.length() < tree_module.WORTH_REMEMBERING
    close(storage, store)

    assert {**before, "LOCK": None} == {**storage.contents(PATH), "LOCK": None}


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO"])
def test_count_that_cannot_be_written_is_given_up(storage, opened, monkeypatch, kind):
    monkeypatch.setattr(tree_module, "WORTH_REMEMBERING", 50)
    store = opened()
    expected = fill(store)
    store.flush()
    store.length()
    storage.fault(storage.count, getattr(errno, kind), sticky=True)
    close(storage, store)
    storage.heal()

    assert (expected, 60) == (entries(opened()), opened().length())


@pytest.mark.parametrize("is_stack", [False, True])
def test_taken_entries_at_an_end_are_walked_over_once(storage, opened, is_stack):
    """Their tombstones are in tables, without a cache: every block of them costs a read."""
    store = opened(cache_bytes=0, block_bytes=64, memtable_bytes=1 << 20)
    fill(store, 400)
    store.flush()
    for number in range(300):
        store.take(b"%04d" % (399 - number if is_stack else number))
    store.flush()
    edge = b"0099" if is_stack else b"0300"

    def cost(read):
        before = storage.count
        read()
        return storage.count - before

    def scan():
        return [key for keys, _ in store.chunks(None, None, reverse=is_stack, keys_only=True) for key in keys]

    def first():
        assert edge == store.first(None, None, reverse=is_stack)[0]

    whole = cost(scan)
    assert 100 == len(scan())
    assert 2 * cost(scan) < whole
    assert cost(first) < 3
    store.put(b"9999" if is_stack else b"", b"new")
    store.take(b"9999" if is_stack else b"")
    assert cost(first) < 6


def test_scan_that_a_write_overtook_is_not_believed(store):
    fill(store, 100)
    for number in range(90):
        store.take(b"%04d" % number)
    scan = store.chunks(None, None, keys_only=True)
    store.put(b"0005", b"back")

    assert b"0090" == next(scan)[0][0]
    assert b"0005" == store.first(None, None)[0]


def test_figures_tell_what_was_done(store):
    fill(store)
    store.compact()
    store.put(b"key", b"value")
    found = store.stats()

    assert 60 == sum(level.entries for level in found.levels)
    assert (1, 1, 1, None) == (found.memtables, found.memtable_entries, found.log_files, found.trouble)
    assert found.flushes >= 1
    assert found.written_bytes > 60 * 44
    assert found.flushed_bytes > 0


# Moments


@pytest.mark.parametrize("later", ["put", "take", "batch", "clear", "flush", "compact"])
def test_a_pinned_view_does_not_change(store, later):
    old = fill(store, 30)
    store.flush()
    old |= fill(store, 10, mark=b"w")
    view = store.pin()
    stream = store.chunks(None, None)
    begun = store.chunks(None, None)
    first = next(begun)
    fill(store, 40, mark=b"x")
    arguments = {"put": (b"new", b""), "take": (b"0001",), "batch": ([b"0002"], [None])}
    getattr(store, later)(*arguments.get(later, ()))

    for found in (view.chunks(), stream, [first, *begun]):
        assert old == {key: value for keys, values in found for key, value in zip(keys, values, strict=True)}
    assert old == {key: view.get(key) for key in old}


def test_tables_of_a_pinned_view_stay_until_it_is_let_go(storage, store):
    old = fill(store)
    store.compact()
    view = store.pin()
    tables = names(storage, "sst")
    fill(store, mark=b"w")
    store.compact()
    assert set(tables) <= set(names(storage, "sst"))
    assert old == {key: view.get(key) for key in old}

    del view
    gc.collect()
    store.put(b"new", b"")
    store.flush()
    assert not set(tables) & set(names(storage, "sst"))


def indebted(storage):
    """Leave a database whose next first write has to flush and to compact; return what it holds."""
    store = open_store(storage, **MANUAL)
    for part in range(12):
        fill(store, 20, mark=b"%d" % part)
        store.flush()
    old = fill(store, 20, mark=b"z")
    close(storage, store)
    storage.erase(f"{PATH}/LOCK")
    storage.plant(f"{PATH}/000001.man", b"an install was cut off here")  # so that there is something to flush
    return old


def test_the_first_write_of_an_opening_unlinks_no_table_of_a_view(storage, opened):
    """What it had to flush was compacted at once, and the inputs collected as garbage under an iterator."""
    old = indebted(storage)
    store = opened()
    view = store.pin()
    store.put(b"new", b"value")

    assert 1 <= store.stats().compactions
    assert {f"{meta.number:06d}.sst" for meta in view.version} <= set(names(storage, "sst"))
    assert old == {key: view.get(key) for key in old}
    assert old == {
        key: value for keys, values in view.chunks() for key, value in zip(keys, values, strict=True)
    }


def test_many_moments_cost_no_more_than_a_few_memtables(store):
    views = []
    for number in range(64):
        store.put(b"%04d" % number, b"")
        views.append(store.pin())

    assert [number + 1 for number in range(64)] == [
        sum(len(keys) for keys, _ in view.chunks()) for view in views
    ]
    assert store.stats().memtables <= 7


# Background


def test_writes_are_flushed_and_compacted_as_they_come(storage, store):
    expected = {}
    for part in range(30):
        expected |= fill(store, 40, mark=b"%d" % part)
    found = store.stats()

    assert expected == entries(store)
    assert found.flushes >= 5
    assert found.compactions >= 1
    assert len(names(storage, "wal")) <= 3
    assert {name[:6] for name in names(storage, "sst")} >= {
        f"{meta.number:06d}" for meta in store.view.version
    }
    assert expected == recovered(storage)


def test_by_hand_nothing_is_flushed_until_it_is_asked_for(storage, opened):
    store = opened(**MANUAL)
    fill(store, 200)
    assert [] == names(storage, "sst")
    store.flush()
    fill(store, 200)
    store.flush()
    assert (2, 0) == (store.stats().flushes, store.stats().compactions)
    assert 400 == store.stats().levels[0].entries
    store.compact()

    assert [200] == [level.entries for level in store.stats().levels if level.entries]


@pytest.mark.parametrize("background", ["manual", "inline"])
def test_a_full_log_is_rotated_without_a_flush(storage, opened, monkeypatch, background):
    monkeypatch.setattr(appender_module, "MAX_LOG_BYTES", 1000)
    monkeypatch.setattr(writer_module, "QUANTUM", 64)
    store = opened(background=background, memtable_bytes=1 << 20)
    expected = fill(store, 100)

    assert len(names(storage, "wal")) > 4
    assert [] == names(storage, "sst")
    assert expected == recovered(storage)


def test_flush_and_compact_with_nothing_to_do_write_nothing(storage, store):
    fill(store)
    store.compact()
    before = storage.count
    store.flush()
    store.compact()

    assert [] == [call for call in calls_since(storage, before) if call.partition(" ")[0] in WRITES]


def test_a_flush_that_another_thread_finished_but_could_not_install_is_installed(store, storage, monkeypatch):
    """flush() saw complete outputs, took them for installed, and returned."""
    monkeypatch.setattr(store_module, "SLICE_BYTES", 1)
    fill(store, 10)
    background = store._tree.background
    work = background.work

    def and_a_turn_of_another_thread(job, budget_bytes=None):
        work(job, budget_bytes)
        if background.flushing is job and job.outputs is None:
            monkeypatch.setattr(background, "work", work)
            no_space_for(storage, ".man")
            background.advance(1 << 20, 0)
            background.advance(1 << 20, 0)
            storage.on_call = None

    monkeypatch.setattr(background, "work", and_a_turn_of_another_thread)
    store.flush()

    assert (1, 0) == (store.stats().tables, store.stats().memtables)


def no_space_for(storage, *kinds, operations=WRITES, code=errno.ENOSPC):
    """Let every write to files of these kinds fail from now on."""

    def look(index, operation, path):
        if operation in operations and path.endswith(kinds):
            raise failure(code, path)

    storage.on_call = look


# Interrupted between the log and the memtable


class TornEntries(dict):
    """The entries of a memtable; the first write to them is interrupted, before it or behind it."""

    def __init__(self, entries, behind):
        super().__init__(entries)
        self.behind = behind
        self.is_torn = True

    def __setitem__(self, key, value):
        self._write(super().__setitem__, key, value)

    def update(self, pairs):
        self._write(super().update, list(pairs))

    def _write(self, write, *arguments):
        if self.is_torn and not self.behind:
            self.is_torn = False
            raise KeyboardInterrupt
        write(*arguments)
        if self.is_torn:
            self.is_torn = False
            raise KeyboardInterrupt


WRITE_CALLS = {
    "put": (lambda store: store.put(b"0001", b"new"), {b"0001": b"new"}),
    "put_if_absent": (lambda store: store.put_if_absent(b"new", b"new"), {b"new": b"new"}),
    "take": (lambda store: store.take(b"0001"), {b"0001": None}),
    "take_first": (lambda store: store.take_first(), {b"0000": None}),
    "batch": (lambda store: store.batch([b"x", b"0002"], [b"new", None]), {b"x": b"new", b"0002": None}),
}


def changed(old, change):
    return {key: value for key, value in {**old, **change}.items() if value is not None}


@pytest.mark.parametrize("durability", ["none", "process"])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", WRITE_CALLS)
@pytest.mark.parametrize("then", ["read", "write", "close", "sync", "flush"])
def test_a_write_interrupted_at_the_memtable_took_effect(storage, opened, durability, behind, name, then):
    call, change = WRITE_CALLS[name]
    store = opened(durability=durability)
    old = fill(store, 5)
    active = store.view.active
    active.entries = TornEntries(active.entries, behind)
    with pytest.raises(KeyboardInterrupt):
        call(store)

    expected = changed(old, change)
    if then == "write":
        store.put(b"later", b"value")
        expected[b"later"] = b"value"
    elif then in ("sync", "flush"):
        getattr(store, then)()
    if then != "close":
        assert expected == entries(store)
        assert len(expected) == store.length()
    close(storage, store)
    assert expected == entries(opened())


@pytest.mark.parametrize("durability", ["none", "process"])
@pytest.mark.parametrize("name", [*WRITE_CALLS, "clear"])
def test_a_write_interrupted_before_its_position_moved_on_is_not_done_twice(
    storage, opened, monkeypatch, durability, name
):
    call, change = {**WRITE_CALLS, "clear": (lambda store: store.clear(), None)}[name]
    store = opened(durability=durability)
    old = fill(store, 5)

    def interrupted(self, length, count):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(wal_module.Wal, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(store)
    expected = {} if change is None else changed(old, change)
    assert expected == entries(store)
    store.put(b"later", b"value")
    store.sync()
    assert {**expected, b"later": b"value"} == entries(store) == recovered(storage)
    seqs = [seq for seq, _ in writes(storage, 2)]
    assert sorted(set(seqs)) == seqs


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", [*WRITE_CALLS, "clear"])
def test_a_write_interrupted_at_the_log_took_effect_wholly_or_not_at_all(
    storage, opened, monkeypatch, place, name
):
    call, change = {**WRITE_CALLS, "clear": (lambda store: store.clear(), None)}[name]
    store = opened()
    old = fill(store, 5)
    pwrite = CrashFile.pwrite

    def interrupted(self, data, offset):
        if place == "after":
            pwrite(self, data, offset)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CrashFile, "pwrite", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(store)
    expected = old if place == "before" else {} if change is None else changed(old, change)
    assert expected == entries(store)
    store.put(b"later", b"value")
    assert {**expected, b"later": b"value"} == entries(store) == recovered(storage)


def test_a_write_interrupted_before_its_first_log_was_there_leaves_nothing(storage, opened):
    store = opened()

    def interrupt(index, operation, path):
        if operation == "create":
            raise KeyboardInterrupt

    storage.on_call = interrupt
    with pytest.raises(KeyboardInterrupt):
        store.put(b"key", b"value")
    storage.on_call = None
    assert {} == entries(store)
    store.put(b"later", b"value")
    assert {b"later": b"value"} == entries(store) == recovered(storage)


class Interrupt(BaseException):
    pass


ENGINE = (
    *("store.py", "writer.py", "durability.py", "tree.py", "appender.py", "wal.py"),
    *("memtable.py", "background.py", "install.py", "count.py"),
)


@functools.cache
def opcodes(code):
    """Return the offsets at which an exception may stand for a signal.

    CPython looks for signals at the end of a call or a jump, and the exception belongs to that opcode.  A
    trace function comes before the next one: that must not be the first that leaves a `with`, which loads
    three times None for `__exit__`, because there the lock would stay taken.
    """
    found, last = set(), "RESUME"
    instructions = list(dis.get_instructions(code))
    for place, instruction in enumerate(instructions):
        ahead = [
            (each.opname, each.argval) for each in instructions[place : place + 4] if each.opname != "SWAP"
        ]
        is_exit = [("LOAD_CONST", None)] * 3 == ahead[:3]
        if not is_exit and last.startswith(("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "RESUME")):
            found.add(instruction.offset)
        last = instruction.opname
    return found


def at_opcode(number, call):
    """Make a call, interrupt it where a signal could, the n-th time; return whether it went on so long."""
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if not frame.f_code.co_filename.endswith(ENGINE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in opcodes(frame.f_code):
            seen += 1
            if seen == number + 1:
                raise Interrupt
        return trace

    tracer = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # CPython 3.12.1 traces opcodes only if this comes first
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        pass
    finally:
        sys.settrace(tracer)
    return seen > number


INTERRUPTED = {
    **{name: call for name, (call, _) in WRITE_CALLS.items()},
    "clear": lambda store: store.clear(),
    "flush": lambda store: store.flush(),
    "compact": lambda store: store.compact(),
    "sync": lambda store: store.sync(),
    "iterate": lambda store: entries(store),
    "length": lambda store: store.length(),
}
STRIDES = {"small": 9, "default": 6, "crash": 1, "long": 1}


# An interrupt that meets a generator while it is being dropped has nobody to be raised in.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("durability", ["none", "process", "full"])
@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_call_interrupted_anywhere_took_effect_wholly_or_not_at_all(
    monkeypatch, seed, budget, name, durability
):
    """And leaves a store that works on: what it says afterwards is what the next opening finds."""
    monkeypatch.setattr(tree_module, "WORTH_REMEMBERING", 1)  # close() installs too
    stride = STRIDES[budget]
    number = random.Random(f"{seed} {name} {durability}").randrange(stride)
    tried = 0
    while True:
        storage = CrashStorage(number)
        store = open_store(storage, durability=durability)
        old = fill(store, 12)
        store.flush()
        old |= fill(store, 6, mark=b"w")
        change = WRITE_CALLS[name][1] if name in WRITE_CALLS else {}
        allowed = [old, {} if name == "clear" else changed(old, change)]
        is_over = not at_opcode(number, lambda store=store: INTERRUPTED[name](store))
        where = f"seed {seed}, opcode {number} of {name}"

        found = entries(store)
        assert found in allowed, where
        store.put(b"later", b"value")
        expected = {**found, b"later": b"value"}
        assert (expected, len(expected)) == (entries(store), store.length()), where
        close(storage, store)
        store = open_store(storage)
        assert (expected, len(expected)) == (entries(store), store.length()), where
        close(storage, store)
        if is_over:
            break
        number += stride
        tried += 1
    print(f"seed {seed}: {name} at {durability} interrupted at {tried} opcodes")
    assert tried > 0


# Used by its own thread in the middle of a call


def test_a_handler_inside_a_write_may_read_single_keys_and_nothing_else(storage, store):
    store.put(b"key", b"value")
    found, refused = [], []
    calls = [
        store.pin,
        store.length,
        store.stats,
        store.sync,
        store.flush,
        store.compact,
        store.close,
        store.clear,
        store.take_first,
        lambda: store.put(b"inner", b""),
        lambda: store.put_if_absent(b"inner", b""),
        lambda: store.take(b"key"),
        lambda: store.batch([b"inner"], [b""]),
        lambda: store.chunks(None, None),
        lambda: store.first(None, None),
    ]

    def handler(index, operation, path):
        found.append(store.get(b"key"))
        for call in calls:
            try:
                call()
            except RuntimeError as exc:
                refused.append(str(exc))

    storage.on_call = handler
    store.put(b"outer", b"value")
    storage.on_call = None

    assert [b"value"] == found
    assert len(calls) == len(refused)
    assert all("by this very thread" in text for text in refused)
    assert {b"key": b"value", b"outer": b"value"} == entries(store)


def test_a_handler_inside_a_sync_is_refused_only_what_needs_the_sync(storage, store):
    store.put(b"key", b"value")
    refused = []

    def handler(index, operation, path):
        storage.on_call = None
        store.put(b"inner", b"value")
        for call in (store.sync, store.close):
            with pytest.raises(RuntimeError, match="by this very thread"):
                call()
            refused.append(operation)

    storage.on_call = handler
    store.sync()

    assert ["fdatasync", "fdatasync"] == refused
    assert {b"key": b"value", b"inner": b"value"} == entries(store)


# Trouble in the background


def test_a_flush_without_space_fails_no_write_and_is_tried_again(storage, store):
    no_space_for(storage, ".sst")
    expected = fill(store, 60, size=20)
    assert expected == entries(store)
    assert "No space left" in store.stats().trouble
    assert [] == names(storage, "sst")

    storage.on_call = None
    storage.advance(20)
    expected |= fill(store, 60, size=20, mark=b"w")
    assert store.stats().trouble is None
    assert [] != names(storage, "sst")
    assert expected == entries(store) == recovered(storage)


@pytest.mark.parametrize("kind", [".sst", ".man"])
def test_when_memory_is_full_writes_raise_what_stops_the_flush_until_there_is_space(storage, store, kind):
    no_space_for(storage, kind)
    expected = {}
    with pytest.raises(error, match="No space left") as caught:
        fill_up(store, expected)
    assert errno.ENOSPC == caught.value.errno
    assert not isinstance(caught.value, FailedError)
    size = 80 * len(expected)
    assert STALL_MEMTABLES * 1024 <= size <= 2 * STALL_MEMTABLES * 1024 + 2048

    logs = {name: data for name, data in storage.contents(PATH).items() if name.endswith(".wal")}
    for call in (
        lambda: store.put(b"x", b""),
        lambda: store.batch([b"x"], [b""]),
        store.clear,
        store.take_first,
    ):
        with pytest.raises(error, match="No space left"):
            call()
    assert {name: data for name, data in storage.contents(PATH).items() if name.endswith(".wal")} == logs
    assert expected == entries(store)

    storage.on_call = None
    store.put(b"x", b"")
    expected[b"x"] = b""
    assert expected == entries(store) == recovered(storage)
    assert store.stats().trouble is None


def test_flush_and_compact_tell_what_stops_them(storage, store):
    expected = fill(store, 10)
    no_space_for(storage, ".sst")
    for call in (store.flush, store.compact):
        with pytest.raises(error, match="No space left"):
            call()
    storage.on_call = None
    assert expected == entries(store)
    store.compact()

    assert expected == entries(store) == recovered(storage)


def test_damage_found_by_a_compaction_is_told_and_nothing_is_lost(storage, opened):
    store = opened(**MANUAL)
    for part in range(3):
        fill(store, 20, mark=b"%d" % part)
        store.flush()
    before = current(storage)
    name = names(storage, "sst")[0]
    data = storage.contents(PATH)[name]
    storage.plant(f"{PATH}/{name}", data[:60] + bytes([data[60] ^ 1]) + data[61:])
    with pytest.raises(CorruptionError, match=name):
        store.compact()

    assert before == current(storage)
    assert (3, 0) == (store.stats().tables, store.stats().compactions)
    store.put(b"new", b"value")
    assert b"value" == store.get(b"new")


def test_unlinking_that_fails_is_left_to_a_later_time(storage, store):
    expected = fill(store)
    no_space_for(storage, ".wal", ".sst", operations={"unlink"}, code=errno.EACCES)
    store.flush()
    store.compact()
    left = set(names(storage, "wal")) | set(names(storage, "sst"))
    storage.on_call = None
    assert expected == entries(store)
    store.put(b"new", b"")
    store.compact()
    close(storage, store)

    store = open_store(storage)
    store.put(b"new", b"")
    assert {**expected, b"new": b""} == entries(store)
    needed = {f"{meta.number:06d}.sst" for meta in store.view.version}
    assert needed == set(names(storage, "sst"))
    assert len(left) > 2
    assert 2 >= len(names(storage, "wal"))
    close(storage, store)


# An install that is interrupted behind its commit point


@pytest.mark.parametrize("operation", ["listdir", "unlink"])
@pytest.mark.parametrize("name", ["flush", "compact", "clear"])
def test_an_install_that_fails_behind_its_commit_point_is_done_again_without_harm(
    storage, opened, operation, name
):
    """The tables came into the level a second time, and the memtables sealed since were forgotten."""
    store = opened(**MANUAL)
    expected = fill(store, 30)
    store.flush()
    expected |= fill(store, 10, mark=b"w")
    if name == "compact":
        store.flush()
    no_space_for(storage, "db", ".man", operations={operation}, code=errno.EIO)
    try:
        getattr(store, name)()
    except error as exc:
        if exc.errno != errno.EIO:
            raise
    storage.on_call = None
    expected = {} if name == "clear" else expected

    assert expected == entries(store)
    store.put(b"new", b"value")
    store.pin()
    expected[b"new"] = b"value"
    assert expected == entries(store)
    for _ in range(2):
        store.compact()
        assert expected == entries(store) == recovered(storage, "strict")
    assert (len(expected), 1) == (store.length(), len(names(storage, "man")))
    assert {f"{meta.number:06d}.sst" for meta in store.view.version} == set(names(storage, "sst"))


# Failed for good


WRITING = {
    "put": lambda store: store.put(b"x", b""),
    "put_if_absent": lambda store: store.put_if_absent(b"x", b""),
    "take": lambda store: store.take(b"0000"),
    "take_first": lambda store: store.take_first(),
    "batch": lambda store: store.batch([b"x"], [b""]),
    "clear": lambda store: store.clear(),
    "flush": lambda store: store.flush(),
    "compact": lambda store: store.compact(),
    "sync": lambda store: store.sync(),
}


def check_failed(storage, store, expected):
    """Nothing can be written any more, everything can be read, and the reason is told."""
    before, start = storage.contents(PATH), storage.count
    for call in WRITING.values():
        with pytest.raises(FailedError, match="writing has failed before"):
            call(store)
    assert expected == entries(store)
    assert expected == {key: store.get(key) for key in expected}
    assert (b"0000", len(expected)) == (store.first(None, None)[0], store.length())
    assert store.stats().trouble is not None
    assert before == storage.contents(PATH)
    assert [] == [call for call in calls_since(storage, start) if call.partition(" ")[0] in WRITES]


@pytest.mark.parametrize("kind", ["before", "partial", "after"])
@pytest.mark.parametrize("name", ["put", "take", "batch", "clear"])
def test_after_a_broken_write_to_the_log_reads_go_on_and_writes_do_not(storage, store, kind, name):
    expected = fill(store, 60)
    store.flush()
    expected |= fill(store, 5, mark=b"w")
    storage.fault(storage.count, errno.EIO, kind)
    with pytest.raises(FailedError, match="log write failed: Input/output error"):
        WRITING[name](store)

    storage.heal()
    check_failed(storage, store, expected)
    with pytest.raises(FailedError, match="closed after a failure: writes may be lost"):
        close(storage, store)
    store = open_store(storage)  # the log is suspect now: what it shows was never synced
    assert expected == entries(store) or kind == "after"
    store.sync()
    assert entries(store) == recovered(storage, "strict")
    close(storage, store)


@pytest.mark.parametrize("kind", ["before", "clean", "reverted"])
@pytest.mark.parametrize("at", [0, 1])
def test_after_a_failed_sync_reads_go_on_and_writes_do_not(storage, store, kind, at):
    expected = fill(store, 5)
    storage.fault(storage.count + at, errno.EIO, kind)
    with pytest.raises(FailedError, match="sync failed"):
        store.sync()

    storage.heal()
    start = storage.count
    check_failed(storage, store, expected)
    with pytest.raises(FailedError, match="writes may be lost"):
        close(storage, store)
    assert [] == [call for call in calls_since(storage, start) if "sync" in call]  # nothing is tried again


def test_a_failed_sync_in_the_background_fails_the_next_write_not_the_one_that_paid(storage, store):
    expected = {}

    def look(index, operation, path):
        if operation in ("sync", "fsync") and path.endswith((".man", "db")):
            raise failure(errno.EIO, path)

    storage.on_call = look
    with pytest.raises(FailedError, match="writing has failed before"):
        fill_up(store, expected)
    assert len(expected) > 10
    storage.on_call = None

    check_failed(storage, store, expected)


def test_tables_that_are_complete_and_not_installed_are_no_garbage(storage, store):
    expected = fill(store)
    no_space_for(storage, ".man")
    with pytest.raises(error, match="No space"):
        store.flush()
    storage.on_call = None
    store.collect_garbage()
    store.flush()

    assert expected == entries(store)


KINDS_OF_FAILURE = {
    "pwrite": [(errno.ENOSPC, "partial")],
    "create": [(errno.ENOSPC, "before")],
    **dict.fromkeys(("fsync", "sync"), [(errno.EIO, "clean"), (errno.EIO, "late"), (errno.EIO, "reverted")]),
}


def test_whatever_fails_in_the_first_write_of_an_opening_costs_nothing_that_was_there():
    """A compaction that failed there lost its tables as garbage and was installed later; writes went on."""
    storage = CrashStorage()
    indebted(storage)
    start = storage.count
    store = open_store(storage)
    store.put(b"new", b"value")
    calls = [(at, operation) for at, (operation, _) in enumerate(storage.calls) if at >= start]
    assert 2 == sum(
        path.endswith(".man") for operation, path in storage.calls[start:] if operation == "create"
    )
    close(storage, store)
    tried = [(at, *how) for at, operation in calls for how in KINDS_OF_FAILURE.get(operation, ())]
    for at, code, kind in tried:
        check_after_failure(at, code, kind)
    assert len(tried) > 20


def check_after_failure(at, code, kind):
    storage = CrashStorage()
    expected = indebted(storage)
    storage.fault(at, code, kind)
    store = open_store(storage)
    issued = [expected]
    for value in (b"1", b"2", b"3"):
        issued.append({**issued[-1], b"new": value})
        try:
            store.put(b"new", value)
        except FailedError:
            break
        except error:
            issued.pop()
    has_failed = isinstance(store.stats().trouble, FailedError)
    assert entries(store) in issued[-2:], (at, kind)
    try:
        store.compact()
        store.put(b"more", b"")
        issued.append({**issued[-1], b"more": b""})
        assert not has_failed, (at, kind)
    except FailedError:
        pass
    assert entries(store) in issued[-2:], (at, kind)
    try:
        close(storage, store)
    except FailedError:
        pass
    storage.heal()
    again = open_store(storage)
    assert entries(again) in issued[-2:], (at, kind)
    close(storage, again)


def test_a_failed_sync_of_a_table_only_costs_the_table(storage, store):
    expected = fill(store, 10)

    def look(index, operation, path):
        if operation == "fsync" and path.endswith(".sst"):
            raise failure(errno.EIO, path)

    storage.on_call = look
    with pytest.raises(error, match="Input/output") as caught:
        store.flush()
    storage.on_call = None
    assert not isinstance(caught.value, FailedError)
    assert [] == names(storage, "sst")
    store.flush()

    assert expected == entries(store) == recovered(storage, "strict")


def test_a_held_back_write_that_fails_is_final_too(storage, opened):
    """The write that came next was taken into the buffer, and the failed one tried again behind its back."""
    store = opened(durability="none")
    expected = fill(store, 5)
    storage.advance(1)
    storage.fault(storage.count, errno.EIO)
    with pytest.raises(FailedError, match="log write failed"):
        store.put(b"0004", b"wwww")
    storage.heal()

    check_failed(storage, store, {**expected, b"0004": b"wwww"})


def test_after_a_failure_with_nothing_unsynced_closing_is_no_loss(storage, store):
    fill(store, 5)
    store.sync()
    storage.fault(storage.count, errno.EIO)
    with pytest.raises(FailedError):
        store.put(b"x", b"")

    storage.heal()
    close(storage, store)


def test_full_disk_fails_one_write_and_not_the_next(storage, store):
    expected = fill(store, 5)
    storage.fault(storage.count, errno.ENOSPC, "partial")
    with pytest.raises(error, match="No space"):
        store.put(b"x", b"")
    store.put(b"y", b"")

    assert {**expected, b"y": b""} == entries(store) == recovered(storage)
    assert store.stats().trouble is None


def test_full_disk_at_the_first_write_of_all_leaves_a_database_that_opens(storage, opened):
    store = opened()
    no_space_for(storage, ".wal", operations={"pwrite"})
    with pytest.raises(error, match="No space"):
        store.put(b"x", b"")
    storage.on_call = None
    close(storage, store)

    assert {} == recovered(storage) == entries(opened())


# Clearing


def test_clear_is_whole_or_not_at_all_in_every_crash(storage, opened, seed):
    store = opened()
    old = fill(store)
    store.flush()
    old |= fill(store, 10, mark=b"w")
    store.sync()
    images = []
    storage.on_call = lambda *_: images.append(storage.freeze())
    store.clear()
    storage.on_call = None
    images.append(storage.freeze())
    assert len(images) > 8

    for number, image in enumerate(images):
        for mode in MODES:
            crashed = image.crash(mode, random.Random(f"{seed} {number}"))
            again = open_store(crashed)
            assert entries(again) in (old, {}), (number, mode)
            if number == len(images) - 1:
                assert {} == entries(again)  # it was large: an install made it durable
            close(crashed, again)


def test_clear_is_durable_with_a_sync(storage, store):
    fill(store, 5)
    store.sync()
    store.clear()
    store.put(b"new", b"value")
    store.sync()

    for mode in MODES:
        assert {b"new": b"value"} == recovered(storage, mode)


def test_clear_of_little_costs_one_record(storage, store):
    fill(store, 5)
    before = storage.count
    store.clear()

    assert ["pwrite 000002.wal"] == calls_since(storage, before)


def test_a_clear_that_was_cut_off_gives_back_the_files_with_the_next_write(storage, opened):
    store = opened()
    store.put(b"key", b"value")
    store.flush()

    def die(index, operation, path):
        if operation == "create" and path.endswith(".man"):
            raise Killed

    storage.on_call = die
    with pytest.raises(Killed):
        store.clear()
    storage.on_call = None
    left = storage.crash("kill")
    again = open_store(left)
    assert (1, {}) == (len(names(left, "sst")), entries(again))
    again.put(b"new", b"value")
    found = names(left, "sst")
    close(left, again)

    assert [] == found


def test_clear_gives_back_the_files(storage, store):
    fill(store, 200)
    store.clear()

    assert ([], []) == (names(storage, "sst"), names(storage, "wal"))
    assert () == current(storage).levels


def test_clear_drops_a_flush_that_is_under_way(storage, opened):
    store = opened()
    number = 0
    while store._tree.background.flushing is None or not names(storage, "sst"):
        store.put(b"%04d" % number, bytes(40))
        number += 1
    store.clear()
    assert [] == names(storage, "sst")
    fill(store, 3)
    store.flush()

    assert 3 == len(entries(store))
    assert entries(store) == recovered(storage)
    assert {f"{meta.number:06d}.sst" for meta in store.view.version} == set(names(storage, "sst"))


def test_at_none_a_full_disk_refuses_writes_once_the_buffer_is_full(storage, opened):
    """Each write raised, took place all the same, and made the buffer larger, as long as memory lasted."""
    store = opened(durability="none", memtable_bytes=1 << 20)
    expected = fill(store, 5)
    store.sync()
    no_space_for(storage, ".wal")
    refused = 0
    for number in range(200):
        try:
            store.put(b"%04d" % number, bytes(1000))
        except error as exc:
            refused += 1
            assert (errno.ENOSPC, expected.get(b"%04d" % number)) == (exc.errno, store.get(b"%04d" % number))
        else:
            expected[b"%04d" % number] = bytes(1000)
    assert BUFFER_BYTES // 1100 < 200 - refused <= BUFFER_BYTES // 1000 + 1
    assert expected == entries(store)
    for call in (store.sync, store.clear, lambda: store.batch([b"x"], [b""])):
        with pytest.raises(error, match="No space left"):
            call()
    assert expected == entries(store)

    storage.on_call = None
    store.put(b"x", b"")
    store.sync()
    assert {**expected, b"x": b""} == entries(store) == recovered(storage)


# Durability


def test_at_none_a_kill_keeps_a_prefix(storage, opened):
    store = opened(durability="none", memtable_bytes=1 << 20)
    record = 24 + 5 + 4 + 500
    for number in range(400):
        store.put(b"%04d" % number, bytes(500))
        if number % 13 == 0:
            found = recovered(storage)
            assert sorted(found) == [b"%04d" % key for key in range(len(found))]
            assert (number + 1 - len(found)) * record <= BUFFER_BYTES
    close(storage, store)
    assert 400 == len(recovered(storage))


def test_at_none_writes_are_held_back_no_longer_than_the_next_call_after_a_moment(storage, opened):
    store = opened(durability="none")
    store.put(b"first", b"")
    assert {} == recovered(storage)
    storage.advance(1.01 * BUFFER_SECONDS)
    store.put(b"second", b"")

    assert {b"first": b"", b"second": b""} == recovered(storage)


def test_at_none_sync_and_close_drain(storage, opened):
    store = opened(durability="none")
    store.put(b"first", b"")
    store.sync()
    assert {b"first": b""} == recovered(storage, "strict")
    store.put(b"second", b"")
    before = storage.count
    close(storage, store)

    assert {b"first": b"", b"second": b""} == recovered(storage)
    assert [] == [call for call in calls_since(storage, before) if "sync" in call]


def test_at_process_a_kill_keeps_every_write_that_returned(storage, store):
    expected = {}
    for number in range(100):
        store.put(b"%04d" % number, bytes(30))
        expected[b"%04d" % number] = bytes(30)
        assert expected == recovered(storage)
    assert not [call for call in storage.calls if call[0] == "fdatasync"]


def test_at_interval_power_loss_loses_no_more_than_the_interval(storage, opened):
    store = opened(durability="interval", sync_interval=2.0, **MANUAL)
    written = []
    for number in range(60):
        store.put(b"%04d" % number, b"")
        written.append(storage.monotonic())
        kept = len(recovered(storage, "strict"))
        assert [] == [time for time in written[kept:] if time < storage.monotonic() - 2.0]
        assert number + 1 == len(recovered(storage))
        storage.advance(0.3)
    assert 5 <= sum(call[0] == "fdatasync" for call in storage.calls) <= 10


def test_at_full_every_write_that_returned_survives_power_loss(storage, opened, seed):
    store = opened(durability="full")
    expected = {}
    for number in range(40):
        rng = random.Random(f"{seed} {number}")
        key = b"%04d" % rng.randrange(20)
        if number % 7 == 3:
            store.batch([key, b"x"], [b"%d" % number, None])
            expected |= {key: b"%d" % number}
        elif number % 7 == 5:
            expected.pop(key, None)
            store.take(key)
        else:
            store.put(key, b"%d" % number)
            expected[key] = b"%d" % number
        for mode in POWER_LOSSES:
            assert expected == recovered(storage, mode, seed)


def test_at_full_others_can_read_what_is_not_durable_yet(storage, opened):
    store = opened(durability="full")
    seen = []

    def look(_, operation, path):
        if operation == "fdatasync":
            seen.append((store.get(b"key"), recovered(storage, "strict")))

    storage.on_call = look
    store.put(b"key", b"value")
    storage.on_call = None

    assert [(b"value", {})] == seen
    assert {b"key": b"value"} == recovered(storage, "strict")


def test_a_number_whose_file_was_lost_with_the_power_comes_back_with_another_salt(storage, opened):
    store = opened()
    store.put(b"key", b"flushed")
    store.flush()
    store.put(b"key", b"lost")
    (name,) = names(storage, "wal")
    crashed = storage.crash("strict")
    assert name not in names(crashed, "wal")
    store = open_store(crashed)
    store.put(b"key", b"new")
    lost, found = (LogHeader.decode(each.contents(PATH)[name]) for each in (storage, crashed))
    close(crashed, store)

    assert lost.number == found.number
    assert lost.salt != found.salt


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("durability", ["process", "interval", "full"])
def test_close_keeps_everything(storage, opened, durability, mode):
    store = opened(durability=durability)
    expected = fill(store, 5)
    close(storage, store)

    assert expected == recovered(storage, mode)


@pytest.mark.parametrize("mode", POWER_LOSSES)
@pytest.mark.parametrize("durability", ["none", "process", "interval", "full"])
def test_sync_keeps_everything_before_it(storage, opened, durability, mode):
    store = opened(durability=durability)
    expected = fill(store, 60)
    store.sync()

    assert expected == recovered(storage, mode)


def test_open_one_put_and_close_costs_one_sync_of_the_log_and_one_of_the_directory(storage, opened):
    close(storage, opened())
    store = opened()
    store.put(b"first", b"")
    close(storage, store)
    store = opened()
    before = storage.count
    store.put(b"second", b"")
    close(storage, store)

    calls = [call for call in calls_since(storage, before) if not call.startswith("listdir")]
    log = names(storage, "wal")[-1]
    assert [f"create {log}", f"pwrite {log}", f"fdatasync {log}", "sync db", f"pwrite {log}"] == calls


def test_opening_reading_and_closing_writes_nothing(storage, opened):
    expected = fill(opened(), 5)
    close(storage, opened())
    killed = storage.crash("kill")
    store = open_store(killed)
    before = killed.contents(PATH)
    assert expected == entries(store)
    store.length()
    store.stats()
    close(killed, store)

    assert before == killed.contents(PATH)


def test_closing_writes_a_long_log_into_a_table_so_that_no_opening_replays_it(storage, opened):
    store = opened(memtable_bytes=1 << 14)
    expected = fill(store, 60)
    assert [] == names(storage, "sst")
    close(storage, store)

    assert (1, []) == (len(names(storage, "sst")), names(storage, "wal"))
    assert expected == recovered(storage, "strict")
    for options in ({"memtable_bytes": 1 << 18}, {"memtable_bytes": 1 << 14, "background": "manual"}):
        store = opened("n", **options)
        fill(store, 60)
        close(storage, store)
        assert [] == names(storage, "sst")


def test_a_long_log_of_another_opening_is_left_as_it_is(storage, opened):
    fill(opened(memtable_bytes=1 << 14), 60)
    killed = storage.crash("kill")
    before = killed.contents(PATH)
    close(killed, open_store(killed, memtable_bytes=1 << 14))

    assert {**before, "LOCK": b""} == {**killed.contents(PATH), "LOCK": b""}


@pytest.mark.parametrize("kind", ["sst", "man"])
def test_a_full_disk_does_not_fail_a_close_that_would_flush(storage, opened, kind):
    store = opened(memtable_bytes=1 << 14)
    expected = fill(store, 60)

    def fail(_, call, path):
        if call in WRITES and path.endswith(kind):
            raise failure(errno.ENOSPC, path)

    storage.on_call = fail
    close(storage, store)
    storage.on_call = None

    assert expected == recovered(storage, "strict")


def test_a_failed_sync_of_the_flush_at_close_is_told(storage, opened):
    store = opened(memtable_bytes=1 << 14)
    expected = fill(store, 60)

    def fail(_, call, path):
        if call == "fsync" and path.endswith("man"):
            raise failure(errno.EIO, path)

    storage.on_call = fail
    with pytest.raises(FailedError, match="may be lost"):
        close(storage, store)
    storage.on_call = None

    assert expected == recovered(storage, "kill")


def test_a_short_opening_costs_no_flush(storage, opened):
    opened = functools.partial(opened, memtable_bytes=1 << 14)
    for number in range(CHAIN_LOGS):
        store = opened()
        store.put(b"%d" % number, b"")
        close(storage, store)

    assert [] == names(storage, "sst")
    assert CHAIN_LOGS == len(names(storage, "wal"))
    for number in range(2):
        store = opened()
        store.put(b"x%d" % number, b"")
        close(storage, store)
    assert (1, 1) == (len(names(storage, "sst")), len(names(storage, "wal")))
    assert CHAIN_LOGS + 2 == len(recovered(storage, "strict"))


# What an earlier opening left


@pytest.fixture
def killed(storage, opened):
    """A storage on which a process was killed that had synced nothing."""
    fill(opened(), 5)
    return storage.crash("kill")


@pytest.mark.parametrize("durability", ["process", "interval", "full"])
def test_a_log_that_a_killed_process_left_becomes_durable_by_a_flush(killed, durability):
    store = open_store(killed, durability=durability)
    expected = entries(store)
    assert {} == recovered(killed, "strict")
    store.sync()

    assert expected == entries(store) == recovered(killed, "strict")
    assert 1 == len(names(killed, "sst"))
    close(killed, store)


def test_writes_at_full_are_durable_with_all_that_is_before_them(killed):
    store = open_store(killed, durability="full")
    store.put(b"new", b"value")

    assert 6 == len(entries(store))
    assert entries(store) == recovered(killed, "strict")
    close(killed, store)


def test_closing_after_a_write_makes_what_was_found_durable_too(killed):
    store = open_store(killed)
    store.put(b"new", b"value")
    expected = entries(store)
    close(killed, store)

    assert expected == recovered(killed, "strict")


@pytest.mark.parametrize("interrupted", ["fdatasync", "sync"])
@pytest.mark.parametrize("then", ["sync", "close", "put"])
def test_after_a_sync_that_was_interrupted_the_data_is_written_anew(
    storage, opened, monkeypatch, interrupted, then
):
    """The error it may have met is told nobody any more: a second sync would succeed and do nothing."""
    store = opened()
    expected = fill(store, 5)
    storage.fault(storage.count + {"fdatasync": 0, "sync": 1}[interrupted], errno.EIO, "clean")
    synced = wal_module.synced

    def interrupt(sync):
        try:
            synced(sync)
        except FailedError:
            raise KeyboardInterrupt from None

    with monkeypatch.context() as patch:
        patch.setattr(wal_module, "synced", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.sync()
    if then == "sync":
        store.sync()
    elif then == "close":
        close(storage, store)
    else:
        opened(durability="full").put(b"second", b"")
        expected[b"second"] = b""

    assert expected == recovered(storage, "strict")
    assert 1 == len(names(storage, "sst"))


@pytest.mark.parametrize("then", ["put", "sync"])
def test_a_manifest_that_was_read_back_before_it_was_synced_is_installed_again(storage, opened, then):
    """A process was killed between writing and syncing it; the next built on it; the power took it away."""
    store = opened(**MANUAL)
    expected = fill(store, 5)
    images = []

    def look(index, operation, path):
        if operation == "fsync" and path.endswith(".man"):
            images.append(storage.freeze())

    storage.on_call = look
    store.flush()
    storage.on_call = None
    killed = images[0].crash("kill")
    assert 2 == len(names(killed, "man"))
    store = open_store(killed)
    if then == "put":
        store.put(b"new", b"value")
        expected[b"new"] = b"value"
    store.sync()

    assert expected == entries(store) == recovered(killed, "strict")
    assert 1 == len(names(killed, "man"))
    close(killed, store)


def test_a_database_whose_creation_was_cut_off_is_made_to_last_by_its_first_write(seed):
    """Its manifest, and the name of its directory, were there and not durable."""
    storage = CrashStorage()
    images = []
    storage.on_call = lambda *_: images.append(storage.freeze())
    close(storage, open_store(storage))
    assert len(images) > 8

    for number, image in enumerate(images):
        killed = image.crash("kill")
        store = open_store(killed, durability="full")
        store.put(b"key", b"value")
        for mode in POWER_LOSSES:
            assert {b"key": b"value"} == recovered(killed, mode, seed), (number, mode)
        close(killed, store)


def test_a_gap_is_closed_by_an_install_before_anything_is_written(storage, opened):
    store = opened(**MANUAL)
    for part in range(3):
        fill(store, 5, mark=b"%d" % part)
        store._wal.rotate()
    crashed = storage.crash("kill")
    lost = names(crashed, "wal")[1]
    crashed.erase(f"{PATH}/{lost}")
    store = open_store(crashed)
    expected = entries(store)
    assert {b"0"} == {value[:1] for value in expected.values()}
    store.put(b"new", b"value")

    assert {**expected, b"new": b"value"} == entries(store) == recovered(crashed)
    assert 1 == len(names(crashed, "wal"))
    close(crashed, store)


def test_logs_behind_a_gap_that_come_back_after_the_next_crash_are_not_gone_on_from(storage, opened):
    """They were unlinked, and that was not synced; then two logs named one predecessor."""
    store = opened(**MANUAL)
    for part in range(3):
        fill(store, 5, mark=b"%d" % part)
        store._wal.rotate()
    crashed = storage.crash("kill")
    second = f"{PATH}/{names(crashed, 'wal')[1]}"
    crashed.plant(second, crashed.contents(PATH)[second[len(PATH) + 1 :]][:-1])
    crashed = crashed.crash("torn", random.Random(0))  # all that is left is durable
    store = open_store(crashed)
    expected = entries(store)
    states = [expected, {**expected, b"new": b"value"}]
    store.put(b"new", b"value")
    image = crashed.freeze()
    assert len(image.pending()) >= 2

    for call in image.pending():
        for lost in ({call}, set(image.pending()) - {call}):
            again = image.crash_without(lost)
            found = open_store(again)
            assert entries(found) in states
            close(again, found)
    close(crashed, store)


def test_garbage_of_ours_goes_at_the_first_write_and_nothing_else(storage, opened):
    store = opened()
    fill(store, 60)
    store.flush()
    close(storage, store)
    kept = ["notes.txt", "1.sst", "LOCK.bak"]
    garbage = ["000900.sst", "000901.wal", "000902.man"]
    for name in kept + garbage:
        storage.plant(f"{PATH}/{name}", b"x")
    store = opened()
    assert set(garbage) < set(names(storage))
    store.put(b"new", b"")

    assert not set(garbage[:2]) & set(names(storage))
    assert set(kept) < set(names(storage))
    store.flush()
    assert all(name > "000902.man" for name in names(storage, "man"))


def test_log_records_promise_nothing_above_a_suspect_log(killed):
    store = open_store(killed)
    store.put(b"new", b"value")
    last = int(names(killed, "wal")[-1][:6])
    assert [0] == [record.durable for record in log(killed, last)[1]]
    store.put(b"newer", b"value")

    assert [0, 0] == [record.durable for record in log(killed, last)[1]]
    close(killed, store)


# Two handles, one store


def test_a_store_keeps_what_the_more_demanding_handle_was_promised(storage, opened):
    store = opened(durability="none")
    store.put(b"first", b"")
    assert {} == recovered(storage)
    opened(durability="process")
    assert {b"first": b""} == recovered(storage)
    store.put(b"second", b"")
    assert 2 == len(recovered(storage))
    opened(durability="interval", sync_interval=3.0)
    opened(durability="interval", sync_interval=2.0)
    opened(durability="process", sync_interval=1.0)
    assert ("interval", 2.0) == (store.options.durability, store.options.sync_interval)
    store.put(b"third", b"")
    storage.advance(2.1)
    store.put(b"fourth", b"")
    assert 4 == len(recovered(storage, "strict"))
    opened(durability="full")
    store.put(b"fifth", b"")

    assert 5 == len(recovered(storage, "strict"))


def test_a_failed_store_can_be_joined_for_reading(storage, opened):
    store = opened(durability="none")
    expected = fill(store, 3)
    storage.fault(storage.count, errno.EIO)
    with pytest.raises(FailedError):
        store.sync()
    storage.heal()
    joined = opened(durability="full")

    assert store is joined
    assert expected == entries(joined)
    with pytest.raises(FailedError):
        joined.put(b"x", b"")


# The end


def test_a_closed_store_answers_closed_error(storage, opened):
    store = opened()
    fill(store, 60)
    close(storage, store)
    store.close()

    for call in (
        *WRITING.values(),
        lambda store: store.get(b"0001"),
        lambda store: store.pin(),
        lambda store: store.length(),
        lambda store: store.stats(),
        lambda store: store.first(None, None),
        lambda store: store.chunks(None, None),
    ):
        with pytest.raises(ClosedError, match="already been closed"):
            call(store)


def test_a_store_in_the_child_of_a_fork_says_so_and_touches_nothing(storage, opened):
    store = opened(durability="none")
    fill(store, 60)
    before = storage.count
    store.die()

    for call in (*WRITING.values(), lambda store: store.get(b"0001"), lambda store: store.pin()):
        with pytest.raises(ClosedError, match="opened before a fork: open it again in the child"):
            call(store)
    store.close()
    assert [] == calls_since(storage, before)


def test_a_store_dies_although_other_threads_held_its_locks_at_the_fork(storage, opened):
    """The caches have locks too, and their owner does not exist in the child."""
    store = opened()
    fill(store, 60)
    store.flush()
    entries(store)
    locks = [
        store._writer.lock,
        store._durability.lock,
        store._tables.blocks._lock,
        store._tables.readers._lock,
    ]
    held, release = threading.Event(), threading.Event()

    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        release.wait()
        for lock in locks:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    dying = threading.Thread(target=store.die, daemon=True)
    dying.start()
    dying.join(60)  # as good as never: it takes no time at all
    is_dead = not dying.is_alive()
    release.set()
    holder.join()

    assert is_dead


# Threads


@pytest.fixture
def frequent_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(*works):
    """Run these at once; raise what any of them raises."""
    failures = []

    def run(work):
        try:
            work()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("durability", ["none", "process", "full"])
def test_threads_write_and_read_as_if_each_were_alone_with_its_keys(
    storage, opened, seed, budget, durability, frequent_switches
):
    count = {"small": 60, "default": 250, "crash": 1000, "long": 20_000}[budget]
    store = opened(durability=durability)
    models = [{} for _ in range(4)]

    def write(number):
        rng = random.Random(f"{seed} {number}")
        model = models[number]
        for step in range(count):
            key = b"%d %02d" % (number, rng.randrange(30))
            action = rng.choice(("put", "put", "put", "take", "batch", "get", "scan", "absent"))
            value = b"%d.%d" % (number, step) * rng.randrange(1, 5)
            if action == "put":
                store.put(key, value)
                model[key] = value
            elif action == "take":
                assert model.pop(key, None) == store.take(key)
            elif action == "batch":
                store.batch([key, key + b"x"], [value, None])
                model[key] = value
                model.pop(key + b"x", None)
            elif action == "get":
                assert model.get(key) == store.get(key)
            elif action == "absent":
                assert model.get(key) == store.put_if_absent(key, value)
                model.setdefault(key, value)
            else:
                mine = {}
                for keys, values in store.chunks(b"%d " % number, b"%d!" % number):
                    mine.update(zip(keys, values, strict=True))
                assert model == mine

    done = threading.Event()

    def look_after():
        while not done.is_set():
            store.flush()
            store.length()
            store.compact()
            store.sync()

    def all_writers():
        try:
            in_threads(*(lambda number=number: write(number) for number in range(4)))
        finally:
            done.set()

    in_threads(all_writers, look_after, look_after)
    expected = {key: value for model in models for key, value in model.items()}
    assert expected == entries(store), f"seed {seed}"
    assert len(expected) == store.length()
    store.sync()
    for mode in MODES:
        assert expected == recovered(storage, mode)
    print(f"seed {seed}: 4 threads of {count} steps at {durability}, {store.stats().compactions} compactions")


def test_a_moment_seen_beside_writers_is_one_state(storage, opened, frequent_switches):
    """Every batch sets all keys to one value: no reader ever sees two of them."""
    store = opened()
    keys = [b"%02d" % number for number in range(10)]
    store.batch(keys, [b"0"] * 10)
    done = threading.Event()

    def write():
        for number in range(1, 300):
            store.batch(keys, [b"%d" % number] * 10)
        done.set()

    def read():
        last = 0
        while not done.is_set():
            found = entries(store)
            assert (10, 1) == (len(found), len(set(found.values())))
            assert last <= int(found[b"00"])
            last = int(found[b"00"])

    in_threads(write, read, read)


def test_one_sync_serves_all_writes_before_it(storage, opened):
    """A writer that waited for the sync of another one finds its own write durable already."""
    store = opened(durability="full")
    store.put(b"first", b"")
    inside, go_on = threading.Event(), threading.Event()

    def look(index, operation, path):
        if operation == "fdatasync" and not inside.is_set():
            inside.set()
            go_on.wait(60)

    storage.on_call = look
    first = threading.Thread(target=store.put, args=(b"second", b""))
    first.start()
    inside.wait(60)
    others = [threading.Thread(target=store.put, args=(b"other %d" % number, b"")) for number in range(5)]
    for thread in others:
        thread.start()
    while len(writes(storage, 2)) < 7:  # all are in the log, and wait for the sync lock
        pass
    start = storage.count
    go_on.set()
    for thread in (first, *others):
        thread.join()
    storage.on_call = None

    assert 1 == sum(call.startswith("fdatasync") for call in calls_since(storage, start))
    assert 7 == len(recovered(storage, "strict"))


# Anything, in any order


@pytest.mark.parametrize("durability", ["none", "process", "interval", "full"])
def test_any_calls_give_what_a_dict_gives(seed, budget, durability):
    rounds = {"small": 2, "default": 5, "crash": 30, "long": 500}[budget]
    for number in range(rounds):
        rng = random.Random(f"{seed} {durability} {number}")
        storage, model = CrashStorage(number), {}
        store = open_store(storage, durability=durability)
        for step in range(300):
            key = b"%02d" % rng.randrange(40)
            action = rng.choices(
                (
                    "put",
                    "take",
                    "first",
                    "batch",
                    "clear",
                    "flush",
                    "compact",
                    "sync",
                    "reopen",
                    "full",
                    "wait",
                ),
                (40, 10, 3, 10, 1, 2, 1, 2, 1, 2, 1),
            )[0]
            value = rng.randbytes(rng.choice((0, 5, 40, 300)))
            if action == "full":
                no_space_for(storage, ".wal", operations={"pwrite"})
            if action in ("put", "full"):
                try:
                    store.put(key, value)
                    model[key] = value
                except error as exc:
                    if exc.errno != errno.ENOSPC:
                        raise
                    if durability == "none" and store.get(key) == value:
                        model[key] = value  # it was taken, and then what is held back could not be written
                storage.on_call = None
            elif action == "take":
                assert model.pop(key, None) == store.take(key)
            elif action == "first":
                expected = min(model, default=None)
                assert (expected and (expected, model.pop(expected))) == store.take_first()
            elif action == "batch":
                store.batch([key, b"x" + key], [value, None])
                model[key] = value
                model.pop(b"x" + key, None)
            elif action == "clear":
                store.clear()
                model.clear()
            elif action == "reopen":
                close(storage, store)
                store = open_store(storage, durability=durability)
            elif action == "wait":
                storage.advance(rng.random())
            else:
                getattr(store, action)()
            if step % 10 == 0:
                assert (model, len(model)) == (entries(store), store.length()), f"seed {seed} round {number}"
        close(storage, store)
        assert model == recovered(storage)
    print(f"seed {seed}: {rounds} rounds of 300 calls at {durability}")


def test_an_interrupted_close_gives_the_lock_back(storage, opened):
    """Ctrl-C while close() dropped a flush left the lock held for good, until it could be called again."""
    store = opened()
    while store._tree.background.flushing is None:
        store.put(b"key", b"x" * 100)
    tables = len(names(storage, "sst"))
    while len(names(storage, "sst")) == tables:  # until the flush has created its file
        store.put(b"key", b"x" * 100)

    def interrupt(index, operation, path):
        if operation == "unlink" and path.endswith(".sst"):
            raise KeyboardInterrupt

    storage.on_call = interrupt
    with pytest.raises(KeyboardInterrupt):
        store.close()
    storage.on_call = None
    store.close()

    assert storage.directory(PATH, 0o666).lock("LOCK", b"") is not None


@pytest.mark.parametrize("exc", [KeyboardInterrupt, MemoryError, TimeoutError])
@pytest.mark.parametrize(("durability", "crash"), [("none", "kill"), ("process", "strict")])
def test_a_close_that_was_interrupted_can_be_made_again_and_loses_nothing(
    storage, opened, exc, durability, crash
):
    """What was no KeyboardInterrupt was taken for an error of the system, after which all is let go."""
    store = opened(durability=durability, memtable_bytes=1 << 20)
    expected = fill(store, 5)

    def interrupt(index, operation, path):
        if operation == ("pwrite" if durability == "none" else "fdatasync"):
            raise exc

    storage.on_call = interrupt
    with pytest.raises(exc):
        store.close()
    storage.on_call = None
    store.close()

    assert expected == recovered(storage, crash)


def test_a_change_is_made_under_the_lock(storage, store):
    store.put(b"key", b"1")
    calls = []
    made = store.change(b"key", lambda value: calls.append((value, store._writer.owned())) or b"2")

    assert (b"2", b"2", [(b"1", True)]) == (made, store.get(b"key"), calls)


def test_a_change_that_raises_writes_nothing(storage, store):
    store.put(b"key", b"1")
    start = storage.count
    with pytest.raises(ZeroDivisionError):
        store.change(b"key", lambda value: 1 // 0)

    assert (b"1", start) == (store.get(b"key"), storage.count)


def test_who_closes_a_snapshot_waits_for_no_write_and_its_tables_go_later(storage, opened):
    """A finalizer closes those of a forgotten handle; with two handles, each waited for the other's write."""
    store = opened()
    fill(store, 60)
    store.flush()
    moment = store.snapshot()
    store.compact()
    before = names(storage, "sst")
    closing = threading.Thread(target=moment.close, daemon=True)

    def close_it(value):
        closing.start()
        closing.join(60)
        return b"value"

    store.change(b"key", close_it)
    assert (False, before) == (closing.is_alive(), names(storage, "sst"))
    clear_up()

    assert len(before) > len(names(storage, "sst"))
