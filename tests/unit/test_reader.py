"""The reader: one moment of a database that somebody else may be writing, and nothing changed by looking."""

import errno
import random
import threading
from contextlib import contextmanager

import pytest

from lsmdbm._base.errors import ClosedError, CorruptionError, NotFoundError, error
from lsmdbm._base.intervals import interval
from lsmdbm._base.options import Options
from lsmdbm._engine.feed import FIRST_BYTES
from lsmdbm._engine.reader import PASSES, SECONDS, Reader
from lsmdbm._engine.wal import Wal
from support.crash_storage import READS, CrashFile, CrashStorage
from support.engine import MODE, PATH, TINY, calls_since, close, entries, names, open_store


@pytest.fixture
def storage():
    return CrashStorage()


@pytest.fixture
def store(storage):
    """A writer; the readers of these tests take it for one in another process."""
    store = open_store(storage)
    yield store
    storage.on_call = None
    storage.heal()
    close(storage, store)


def reader_of(storage, **options):
    return Reader(storage, storage.directory(PATH, MODE), Options(**{**TINY, **options}))


def fill(store, count=60, mark=b""):
    for key in range(count):
        store.put(b"%03d" % key, mark + bytes(40))
    return entries(store)


# Closing


def test_reader_closed_in_the_middle_of_a_refresh_stays_closed(storage, store, monkeypatch):
    """The refresh set a view again behind the close, over tables and a directory that were closed."""
    fill(store)
    reader = reader_of(storage)
    store.put(b"new", b"value")
    is_refreshing, go_on = threading.Event(), threading.Event()
    whole = Reader._show

    def slow(self, view):
        is_refreshing.set()
        go_on.wait()
        whole(self, view)

    monkeypatch.setattr(Reader, "_show", slow)
    closed, is_coming = [], threading.Event()

    def close_it():
        is_coming.set()
        reader.close()
        closed.append(reader.view)

    threads = [threading.Thread(target=reader.refresh), threading.Thread(target=close_it)]
    threads[0].start()
    is_refreshing.wait()
    threads[1].start()
    is_coming.wait()
    early = [*closed] or reader.close_unless_busy()
    go_on.set()
    for thread in threads:
        thread.join()

    assert False is early
    for call in (lambda: reader.get(b"new"), reader.pin, reader.snapshot, reader.refresh, reader.stats):
        with pytest.raises(ClosedError):
            call()


def test_reader_whose_closing_was_interrupted_is_closed_by_the_next(storage, store, monkeypatch):
    fill(store)
    store.flush()
    reader = reader_of(storage)
    whole = reader._tables.close

    def interrupted():
        monkeypatch.setattr(reader._tables, "close", whole)
        raise KeyboardInterrupt

    monkeypatch.setattr(reader._tables, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reader.close()
    assert reader._tables._held
    reader.close()

    assert {} == reader._tables._held


@pytest.mark.parametrize("durability", ["process", "none"])
def test_reader_that_has_read_a_mark_whose_writer_was_interrupted_sees_what_comes(
    storage, store, monkeypatch, durability
):
    """The next record went over the mark, and ended in front of where the reader went on."""
    close(storage, store)
    store = open_store(storage, durability=durability)
    store.put(b"key", b"value")
    whole, mark = Wal._store, Wal._mark

    def interrupted(wal, data, offset):
        whole(wal, data, offset)
        if data:
            monkeypatch.undo()
            raise KeyboardInterrupt

    def interrupted_mark(wal, header, durable):
        wal.drain()
        monkeypatch.setattr(Wal, "_store", interrupted)
        mark(wal, header, durable)

    monkeypatch.setattr(Wal, "_mark", interrupted_mark)
    with pytest.raises(KeyboardInterrupt):
        store.sync()
    reader = reader_of(storage)
    assert {b"key": b"value"} == entries(reader)
    store.put(b"k", b"v")
    store.sync()
    reader.refresh()

    assert {b"key": b"value", b"k": b"v"} == entries(reader) == entries(store)
    close(storage, store)
    assert {b"key": b"value", b"k": b"v"} == entries(reader_of(storage))


# What is seen


def test_tables_and_logs_are_seen(storage, store):
    expected = fill(store)
    store.flush()
    store.put(b"new", b"value")
    store.batch([b"000", b"001"], [None, b"changed"])
    expected |= {b"new": b"value", b"001": b"changed"}
    del expected[b"000"]
    reader = reader_of(storage)

    assert expected == entries(reader)
    assert [expected.get(key) for key in (b"000", b"001", b"new")] == [
        reader.get(key) for key in (b"000", b"001", b"new")
    ]
    assert len(expected) == reader.length()
    assert (b"001", b"changed") == reader.first(None, None)
    assert (b"new", b"value") == reader.first(None, None, reverse=True)
    assert (b"001", b"") == reader.first(None, None, keys_only=True)
    assert [b"new", b"059"] == [
        key for keys, _ in reader.chunks(b"059", None, reverse=True) for key in keys[::-1]
    ]


def test_a_clear_in_the_log_hides_the_tables(storage, store):
    fill(store)
    store.flush()
    store.clear()
    killed = storage.crash("kill")
    reader = reader_of(killed)

    assert ({}, 0) == (entries(reader), reader.length())


def test_tombstones_in_front_are_walked_over_once(storage, store):
    fill(store, 400)
    store.flush()
    for key in range(300):
        store.take(b"%03d" % key)
    store.flush()
    reader = reader_of(storage, cache_bytes=0)
    reads = []
    for _ in range(3):
        before = storage.count
        assert b"300" == reader.first(None, None, keys_only=True)[0]
        reads.append(storage.count - before)

    assert reads[0] > reads[1] + 20
    assert reads[1] == reads[2]


def test_figures_are_those_of_the_files(storage, store):
    fill(store)
    store.flush()
    store.put(b"new", b"value")
    expected, found = store.stats(), reader_of(storage).stats()

    assert expected.levels == found.levels
    assert (1, 1, 1, None) == (found.log_files, found.memtables, found.memtable_entries, found.trouble)


def test_what_a_writer_holds_back_is_not_seen(storage):
    store = open_store(storage, durability="none")
    store.put(b"key", b"value")
    assert {} == entries(reader_of(storage))
    store.sync()
    assert {b"key": b"value"} == entries(reader_of(storage))
    close(storage, store)


def test_without_a_database_nothing_is_found(storage):
    storage.mkdir(PATH, 0o777)
    with pytest.raises(NotFoundError, match=PATH):
        reader_of(storage)
    storage.plant(f"{PATH}/000001.man", b"cut off")
    with pytest.raises(NotFoundError, match=PATH):
        reader_of(storage)


# What is not done


def test_nothing_is_changed_by_reading(storage, store):
    fill(store)
    store.flush()
    fill(store, 5)
    before, start = storage.contents(PATH), storage.count
    reader = reader_of(storage)
    entries(reader)
    reader.refresh()
    reader.sync()
    reader.length()
    reader.stats()
    reader.close()

    assert before == storage.contents(PATH)
    assert {name.partition(" ")[0] for name in calls_since(storage, start)} <= READS


# One moment


def test_a_reader_stays_at_its_moment_until_it_is_refreshed(storage, store):
    old = fill(store)
    reader = reader_of(storage)
    store.put(b"new", b"value")
    assert old == entries(reader)

    reader.refresh()
    assert {**old, b"new": b"value"} == entries(reader)


def test_tables_that_the_writer_unlinked_can_be_read_on(storage, store):
    old = fill(store)
    store.flush()
    reader = reader_of(storage, max_open_files=1)
    tables = names(storage, "sst")
    fill(store, mark=b"changed")
    store.compact()

    assert not set(tables) & set(names(storage))
    assert old == entries(reader)
    assert old == {key: reader.get(key) for key in old}


def test_logs_that_the_writer_unlinked_can_be_read_on(storage, store):
    old = fill(store, 5)
    reader = reader_of(storage)
    store.flush()

    assert [] == names(storage, "wal")
    assert old == entries(reader)


def test_a_refresh_that_fails_leaves_the_old_moment(storage, store):
    old = fill(store)
    store.flush()
    reader = reader_of(storage)
    store.put(b"new", b"value")
    storage.fault(storage.count + 2, errno.EIO)
    with pytest.raises(error, match="Input/output error"):
        reader.refresh()
    assert old == entries(reader)
    assert len(old) == reader.length()

    storage.heal()
    reader.refresh()
    assert len(old) + 1 == reader.length()


# refresh


def test_refresh_of_what_has_not_changed_reads_nothing(storage, store):
    fill(store)
    store.flush()
    store.put(b"new", b"value")
    reader = reader_of(storage)
    view, start = reader.view, storage.count
    reader.refresh()

    assert {"listdir", "length"} == {call.partition(" ")[0] for call in calls_since(storage, start)}
    assert view is reader.view


def test_refresh_opens_only_tables_that_are_new(storage, store):
    expected = fill(store, 200)
    store.flush()
    reader = reader_of(storage)
    assert expected == entries(reader)
    old, start = set(names(storage, "sst")), storage.count
    store.put(b"zzz", b"value")
    store.flush()
    reader.refresh()
    assert {**expected, b"zzz": b"value"} == entries(reader)

    opened = [call.partition(" ")[2] for call in calls_since(storage, start) if call.startswith("open ")]
    assert set(names(storage, "sst")) - old == {name for name in opened if name.endswith(".sst")}


def test_refresh_lets_go_of_tables_nobody_needs(storage, store):
    old = fill(store, 200)
    store.flush()
    reader = reader_of(storage)
    under_way = reader.chunks(None, None)
    first = next(under_way)
    for number in range(5):
        fill(store, 200, b"%d" % number)
        store.compact()
        reader.refresh()
    held = set(reader._tables._held)
    live = {int(name.partition(".")[0]) for name in names(storage, "sst")}
    assert held > live  # an iteration is under way over the first ones

    found = dict(zip(*first, strict=True))
    for keys, values in under_way:
        found.update(zip(keys, values, strict=True))
    assert old == found
    del under_way
    store.put(b"zzz", b"value")
    reader.refresh()
    assert live == set(reader._tables._held)


@pytest.mark.parametrize("log_io", ["pwrite", "mmap"])
def test_refresh_reads_only_what_was_added_to_the_log(storage, log_io):
    store = open_store(storage, memtable_bytes=1 << 20, log_io=log_io)
    expected = fill(store, 1000)
    reader = reader_of(storage)
    for number in range(3):
        store.put(b"new", b"%d" % number)
        expected[b"new"] = b"%d" % number
        start = storage.count
        with read_bytes(storage) as counted:
            reader.refresh()
        assert expected == entries(reader)
        assert 1 == [call.partition(" ")[0] for call in calls_since(storage, start)].count("open")
        assert counted[0] < 2 * FIRST_BYTES
    assert len(expected) == reader.length()
    close(storage, store)


@contextmanager
def read_bytes(storage):
    """Count what is read of files."""
    counted = [0]
    whole = CrashFile.pread

    def pread(file, length, offset):
        data = whole(file, length, offset)
        counted[0] += len(data)
        return data

    CrashFile.pread = pread
    try:
        yield counted
    finally:
        CrashFile.pread = whole


@pytest.mark.parametrize("log_io", ["pwrite", "mmap"])
@pytest.mark.parametrize("keep_bytes", [0, 1 << 20])
def test_a_reader_that_refreshes_shows_what_a_new_one_shows(storage, seed, budget, log_io, keep_bytes):
    rng = random.Random(f"{seed} {log_io} {keep_bytes}")
    store = open_store(storage, memtable_bytes=4096, log_io=log_io, log_keep_bytes=keep_bytes)
    reader = reader_of(storage)
    keys = [b"%02d" % number for number in range(30)]
    followed = 0
    steps = 60 if budget == "small" else 150
    for _ in range(steps):
        low, high = sorted(rng.sample(keys, 2))
        what = rng.choice(["put"] * 10 + ["batch", "range", "take", "sync", "flush", "clear", "reopen"])
        if what == "put":
            store.put(low, bytes(rng.randrange(100)))
        elif what == "batch":
            store.batch([low, high], [None, b"batch"], interval(keys[3], low) if rng.random() < 0.5 else ())
        elif what == "range":
            store.batch((), (), interval(low, high))
        elif what == "take":
            store.take(low)
        elif what == "reopen":
            close(storage, store)
            store = open_store(storage, memtable_bytes=4096, log_io=log_io, log_keep_bytes=keep_bytes)
        elif what != "clear" or rng.random() < 0.3:
            getattr(store, what)()
        before = reader.view.version
        reader.refresh()
        followed += reader.view.version is before
        fresh = reader_of(storage)
        assert entries(fresh) == entries(reader)
        assert fresh.length() == reader.length()
        assert [fresh.get(key) for key in keys] == [reader.get(key) for key in keys]
        assert fresh.position() == reader.position()
        assert fresh.stats().levels == reader.stats().levels
    assert followed > steps / 4
    close(storage, store)


def test_refresh_tells_of_damage_behind_what_was_read(storage):
    store = open_store(storage, memtable_bytes=1 << 20)
    store.put(b"1", b"1")
    reader = reader_of(storage)
    store.put(b"2", b"2")
    store.put(b"3", b"3")
    store.sync()
    name = names(storage, "wal")[0]
    whole = storage.contents(PATH)[name]
    place = whole.index(b"22")  # of the second record: key and value
    storage.plant(f"{PATH}/{name}", whole[:place] + b"?" + whole[place + 1 :])
    with pytest.raises(CorruptionError, match="had been synced"):
        reader.refresh()
    assert {b"1": b"1"} == entries(reader)
    close(storage, store)


def test_refresh_finds_what_goes_into_a_log_that_was_cut_off_when_it_was_made(storage):
    """A mapped log is as long as it will ever be before its first record, and has no header then."""
    store = open_store(storage, log_io="mmap")
    store.put(b"1", b"1")
    store._wal.rotate()
    store._wal._start()
    store._wal._file.map(64 << 10)
    store._wal._limit = 1 << 15
    reader = reader_of(storage)
    reader.refresh()
    store.put(b"2", b"2")
    reader.refresh()

    assert {b"1": b"1", b"2": b"2"} == entries(reader)
    close(storage, store)


def test_refresh_looks_again_at_a_record_that_was_under_way(storage, store):
    """It becomes whole without the file becoming longer."""
    store.put(b"key", b"value")
    name = names(storage, "wal")[0]
    whole = storage.contents(PATH)[name]
    log = storage.directory(PATH, MODE)
    file = log.lock(name, whole[:-1] + b"?")  # the one call that opens an existing file for writing
    reader = reader_of(storage)
    assert {} == entries(reader)
    file.pwrite(whole, 0)

    reader.refresh()
    assert {b"key": b"value"} == entries(reader)
    file.close()


# A writer that is faster


def at_call(storage, operation, action):
    """Do something before the first call of this name, once."""

    def look(index, name, path):
        if name == operation:
            storage.on_call = None
            action()

    storage.on_call = look


@pytest.mark.parametrize("operation", ["listdir", "open", "size", "pread", "length"])
def test_an_install_in_the_middle_makes_the_reader_begin_again(storage, store, operation):
    expected = fill(store, 40)
    store.flush()
    expected |= fill(store, 40, b"changed")
    at_call(storage, operation, store.compact)

    assert expected == entries(reader_of(storage))


def test_any_call_of_a_recovery_may_be_overtaken(storage, store):
    """Whatever the writer does between two calls of the reader, that sees one state of the database."""
    expected = fill(store, 40)
    store.flush()
    number = 0
    while True:
        store.put(b"key", b"%d" % number)
        states = [entries(store), {**expected, b"key": b"x"}]
        start = storage.count + number

        def overtake(index, operation, path, start=start):
            if index == start:
                storage.on_call = None
                store.put(b"key", b"x")
                store.compact()

        storage.on_call = overtake
        reader = reader_of(storage)
        if storage.on_call is not None:
            break
        assert entries(reader) in states
        number += 1
    assert number > 10


def test_damage_is_believed_when_two_passes_agree(storage, store):
    fill(store)
    store.flush()
    name = names(storage, "sst")[-1]
    storage.plant(f"{PATH}/{name}", b"short")
    start = storage.count
    with pytest.raises(CorruptionError, match=name):
        reader_of(storage)

    assert 2 == sum(call == f"length {name}" for call in calls_since(storage, start))


def test_damage_that_is_gone_at_the_second_look_was_none(storage, store):
    fill(store)
    store.flush()
    name = names(storage, "sst")[-1]
    whole = storage.contents(PATH)[name]
    storage.plant(f"{PATH}/{name}", b"short")

    def repair():
        at_call(storage, "listdir", lambda: storage.plant(f"{PATH}/{name}", whole))

    at_call(storage, "length", repair)
    assert 60 == reader_of(storage).length()


def test_damage_in_a_directory_that_keeps_changing_is_not_believed(storage, store):
    """Each listing has another name in it, so that no two passes agree."""
    fill(store)
    store.flush()
    storage.plant(f"{PATH}/{names(storage, 'sst')[-1]}", b"short")
    passes = []

    def change(index, operation, path):
        if operation == "listdir":
            passes.append(path)
            storage.plant(f"{PATH}/note {len(passes)}", b"")

    storage.on_call = change
    with pytest.raises(error, match=f"{PATH}: changes too fast to be read") as caught:
        reader_of(storage)
    assert not isinstance(caught.value, CorruptionError)
    assert PASSES == len(passes) // 2


def test_after_a_time_the_last_word_is_told_as_it_is(storage, store):
    fill(store)
    store.flush()
    storage.plant(f"{PATH}/{names(storage, 'sst')[-1]}", b"short")
    passes = []

    def change(index, operation, path):
        if operation == "listdir":
            passes.append(path)
            storage.plant(f"{PATH}/note {len(passes)}", b"")
            storage.advance(SECONDS / 8)

    storage.on_call = change
    with pytest.raises(CorruptionError, match="bytes long, the manifest says"):
        reader_of(storage)
    assert 2 < len(passes) < 20


def test_an_error_of_the_system_is_told_at_once(storage, store):
    fill(store)
    storage.fault(storage.count + 3, errno.EACCES)
    with pytest.raises(error, match="Permission denied"):
        reader_of(storage)

    assert 1 == len(storage.hits)


# The end


def test_a_closed_reader_answers_closed_error(storage, store):
    fill(store)
    store.flush()
    reader = reader_of(storage)
    view = reader.pin()
    assert view is reader.pin()
    reader.close()
    reader.close()

    for use in (
        lambda: reader.get(b"001"),
        reader.pin,
        reader.length,
        reader.stats,
        reader.refresh,
        lambda: reader.chunks(None, None),
        lambda: reader.first(None, None),
    ):
        with pytest.raises(ClosedError, match="closed"):
            use()


def test_in_the_child_of_a_fork_a_reader_says_so(storage, store):
    reader = reader_of(storage)
    reader.die()
    reader.die()

    for use in (reader.pin, reader.refresh, lambda: reader.get(b"key")):
        with pytest.raises(ClosedError, match="opened before a fork"):
            use()
