import errno
import gc
import threading
import weakref

import pytest

from lsmdbm._base.errors import ClosedError, CorruptionError, error
from lsmdbm._base.options import Options
from lsmdbm._engine.names import TABLE, file_name
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version
from support.crash_storage import UNLINKS, CrashStorage, failure
from support.stage import Calls, Stage

MIB = 1 << 20


def filled(count, **options):
    """Return a stage of `count` tables of one entry in level 1, and their metas; see `answers`."""
    stage = Stage(**options)
    metas = stage.add(1, *({b"%03d" % number: b"%d" % number} for number in range(count)))
    return stage, metas


def name(meta):
    return file_name(meta.number, TABLE)


def ask(stage, metas):
    return [stage.tables.reader(meta).get(b"%03d" % number) for number, meta in enumerate(metas)]


def answers(count):
    return [b"%d" % number for number in range(count)]


class Descriptors:
    """A directory that has only so many files open at a time, as the limit of a process has it."""

    def __init__(self, directory, limit):
        self._directory = directory
        self._open = weakref.WeakSet()
        self.limit = limit

    def __getattr__(self, attribute):
        return getattr(self._directory, attribute)

    def open(self, name):
        if len(self._open) >= self.limit:
            raise failure(errno.EMFILE, name)
        file = self._directory.open(name)
        self._open.add(file)
        return file


# Readers


def test_table_is_opened_once_and_answers_again():
    stage, metas = filled(3)
    calls = Calls(stage.storage)

    assert answers(3) * 2 == ask(stage, metas) + ask(stage, metas)
    assert 3 == calls.count("open")
    assert stage.tables.reader(metas[0]) is stage.tables.reader(metas[0])


def test_no_more_readers_than_max_open_files_are_kept():
    stage, metas = filled(10, max_open_files=4)
    held = weakref.WeakSet()
    for meta in metas:
        held.add(stage.tables.reader(meta))
        assert len(held) <= 4

    assert answers(10) == ask(stage, metas)
    assert 4 == len(stage.tables.readers)


def test_the_reader_longest_unused_goes_first():
    stage, metas = filled(3, max_open_files=2)
    calls = Calls(stage.storage)
    for index in (0, 1, 0, 2, 0):
        stage.tables.reader(metas[index])

    assert ["/" + name(metas[index]) for index in (0, 1, 2)] == calls.paths("open")


def test_readers_are_bounded_by_the_bytes_of_their_indexes_too(monkeypatch):
    monkeypatch.setattr("lsmdbm._engine.tables.LEAST_INDEX_BYTES", MIB)
    entries = {b"x" * 700 + b"%03d" % number: b"" for number in range(600)}
    stage = Stage(cache_bytes=0, block_bytes=1, bloom_bits_per_key=0, compression=None)
    metas = [stage.table(entries) for _ in range(3)]
    cost = stage.tables.reader(metas[0]).cost
    assert MIB // 3 < cost < MIB // 2
    for meta in metas:
        stage.tables.reader(meta)

    assert 2 == len(stage.tables.readers)
    assert MIB == stage.tables.readers.max_cost


@pytest.mark.parametrize(
    ("cache_bytes", "index_bytes"), [(0, 16 * MIB), (17 * MIB, 17 * MIB), (64 * MIB, 64 * MIB)]
)
def test_indexes_get_as_much_as_blocks_and_never_less_than_16_mebibytes(cache_bytes, index_bytes):
    tables = Tables(CrashStorage().directory("/", 0o666), Options(cache_bytes=cache_bytes))

    assert index_bytes == tables.readers.max_cost
    assert cache_bytes == tables.blocks.max_cost


def test_evicted_reader_stays_usable_as_long_as_it_is_used():
    stage, metas = filled(5, max_open_files=1)
    reader = stage.tables.reader(metas[0])
    chunks = reader.chunks()
    for meta in metas[1:]:
        stage.tables.reader(meta)
    assert stage.tables.readers.peek(metas[0].number) is None
    calls = Calls(stage.storage)

    assert b"0" == reader.get(b"000")
    assert [([b"000"], [b"0"])] == list(chunks)
    assert 0 == calls.count("open")


def test_evicted_reader_gives_its_file_back_when_the_last_user_lets_go():
    stage, metas = filled(2, max_open_files=1)
    reader = stage.tables.reader(metas[0])
    watched = weakref.ref(reader.file)
    stage.tables.reader(metas[1])
    assert watched() is not None
    del reader

    assert watched() is None


def test_out_of_descriptors_half_of_the_readers_go_and_the_table_is_opened_after_all():
    stage, metas = filled(8)
    stage.tables.directory = Descriptors(stage.directory, 6)
    found = ask(stage, metas[:6])
    assert 6 == len(stage.tables.readers)

    assert answers(8) == found + [stage.tables.reader(metas[index]).get(b"%03d" % index) for index in (6, 7)]
    assert 5 == len(stage.tables.readers)


def test_one_descriptor_is_enough():
    stage, metas = filled(8)
    stage.tables.directory = Descriptors(stage.directory, 1)

    assert answers(8) == ask(stage, metas)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_opening_is_tried_twice_and_the_second_error_comes_out(code):
    stage, metas = filled(2)
    attempts = []

    def refuse(index, operation, path):
        if operation == "open":
            attempts.append(path)
            raise failure(code, path)

    stage.storage.on_call = refuse
    with pytest.raises(error) as caught:
        stage.tables.reader(metas[0])

    assert code == caught.value.errno
    assert ["/" + name(metas[0])] * 2 == attempts
    stage.storage.on_call = None
    assert answers(2) == ask(stage, metas)


def test_other_errors_evict_nothing_and_are_not_tried_again():
    stage, metas = filled(3)
    ask(stage, metas[:2])
    stage.storage.fault(stage.storage.count, errno.EIO)
    calls = Calls(stage.storage)
    with pytest.raises(error) as caught:
        stage.tables.reader(metas[2])

    assert (errno.EIO, 1, 2) == (caught.value.errno, calls.count("open"), len(stage.tables.readers))


def test_missing_table_is_corruption_that_names_it():
    stage, metas = filled(2)
    stage.storage.erase("/" + name(metas[1]))

    with pytest.raises(CorruptionError, match="table named by the manifest is missing") as caught:
        stage.tables.reader(metas[1])
    assert ("/" + name(metas[1]), -1) == (caught.value.path, caught.value.offset)
    assert [b"0"] == ask(stage, metas[:1])


def test_missing_table_is_corruption_also_when_it_is_found_missing_at_the_second_attempt():
    stage, metas = filled(2)
    stage.tables.directory = Descriptors(stage.directory, 1)
    stage.tables.reader(metas[0])
    stage.storage.erase("/" + name(metas[1]))

    with pytest.raises(CorruptionError, match="missing"):
        stage.tables.reader(metas[1])


def test_damaged_table_is_not_kept():
    stage, metas = filled(2)
    data = stage.storage.contents()[name(metas[0])]
    stage.storage.plant("/" + name(metas[0]), data[:-1])
    with pytest.raises(CorruptionError):
        stage.tables.reader(metas[0])
    stage.storage.plant("/" + name(metas[0]), data)

    assert answers(2) == ask(stage, metas)


def test_threads_that_open_the_same_tables_all_get_their_answers():
    stage, metas = filled(20, max_open_files=3)
    found = []

    def work():
        try:
            found.append(ask(stage, metas) + ask(stage, metas))
        except BaseException as exc:
            found.append(exc)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [answers(20) * 2] * 4 == found


# Tables that are held


def test_held_tables_are_read_after_their_names_are_gone():
    stage, metas = filled(3, max_open_files=1)
    stage.tables.hold(metas)
    for meta in metas:
        stage.storage.erase("/" + name(meta))

    assert answers(3) == ask(stage, metas)


def test_holding_again_opens_nothing():
    stage, metas = filled(3)
    stage.tables.hold(metas[:2])
    calls = Calls(stage.storage)
    stage.tables.hold(metas)

    assert ["/" + name(metas[2])] == calls.paths("open")


def test_closing_lets_go_of_every_file():
    stage, metas = filled(3)
    stage.tables.hold(metas[:2])
    ask(stage, metas)
    files = [weakref.ref(stage.tables.reader(meta).file) for meta in metas]
    assert len(stage.tables.blocks) > 0
    stage.tables.close()

    assert [None] * 3 == [file() for file in files]
    assert (0, 0) == (len(stage.tables.readers), len(stage.tables.blocks))


def test_closed_tables_say_so_to_a_read_that_goes_on():
    """Another thread closed the database: that is not a damaged table, and no error of the system."""
    stage, metas = filled(3)
    open_reader = stage.tables.reader(metas[0])
    stage.tables.close()
    stage.directory.close()

    with pytest.raises(ClosedError):
        stage.tables.reader(metas[1])
    assert b"0" == open_reader.get(b"000")


def test_tables_die_in_the_child_of_a_fork_although_their_locks_are_held():
    """By a thread of the parent, which the child does not have: close() would wait for ever."""
    stage, metas = filled(3)
    ask(stage, metas)
    locks = (stage.tables.readers._lock, stage.tables.blocks._lock)
    holder = threading.Thread(target=lambda: [lock.acquire() for lock in locks])
    holder.start()
    holder.join()
    stage.tables.die()
    stage.directory.close()

    assert (0, 0) == (len(stage.tables.readers), len(stage.tables.blocks))
    with pytest.raises(ClosedError):
        stage.tables.reader(metas[0])


# Unlinking


def without(stage, *metas):
    """Let the current version be one without these tables, and retire them."""
    stage.move_to(metas, {})
    stage.tables.retire(metas)


def test_retired_tables_are_unlinked_and_the_others_kept():
    stage, metas = filled(3)
    ask(stage, metas)
    without(stage, metas[0], metas[2])
    stage.tables.collect()

    assert {name(metas[1])} == stage.files()
    assert 1 == len(stage.tables.readers)


def test_tables_that_were_not_retired_are_kept_whatever_versions_say():
    """A table that no version names may be named by the manifest: only an install retires."""
    stage, metas = filled(2)
    stage.move_to(metas, {})
    stage.tables.collect()

    assert set(map(name, metas)) == stage.files()


def test_retired_table_stays_as_long_as_a_live_version_names_it():
    stage, metas = filled(2)
    pinned = stage.version
    view = stage.view()
    without(stage, metas[0])
    stage.tables.collect()
    assert set(map(name, metas)) == stage.files()
    assert b"0" == view.get(b"000")

    del pinned
    stage.tables.collect()
    assert set(map(name, metas)) == stage.files()  # the view

    del view
    gc.collect()
    stage.tables.collect()
    assert {name(metas[1])} == stage.files()


def test_suspended_read_keeps_its_tables():
    stage, metas = filled(2)
    chunks = stage.view().chunks()
    next(chunks)
    without(stage, *metas)
    stage.tables.collect()
    assert set(map(name, metas)) == stage.files()
    assert [([b"001"], [b"1"])] == list(chunks)

    del chunks
    gc.collect()
    stage.tables.collect()
    assert set() == stage.files()


def test_version_that_was_never_tracked_protects_nothing():
    stage, metas = filled(1)
    other = Version(((), tuple(metas)))
    without(stage, metas[0])
    stage.tables.collect()

    assert set() == stage.files()
    assert metas == list(other)


def test_table_that_cannot_be_unlinked_is_tried_again():
    stage, metas = filled(3)
    without(stage, *metas)
    stage.storage.fault(stage.storage.count, errno.EACCES, sticky=True)
    stage.tables.collect()
    assert set(map(name, metas)) == stage.files()

    stage.storage.heal()
    calls = Calls(stage.storage)
    stage.tables.collect()
    assert set() == stage.files()
    assert 3 == calls.count("unlink")


def test_one_table_that_cannot_be_unlinked_holds_up_no_other():
    stage, metas = filled(3)
    without(stage, *metas)

    def refuse(index, operation, path):
        if operation in UNLINKS and path == "/" + name(metas[1]):
            raise failure(errno.EPERM, path)

    stage.storage.on_call = refuse
    stage.tables.collect()

    assert {name(metas[1])} == stage.files()


def test_retired_tables_are_known_until_they_are_unlinked():
    stage, metas = filled(3)
    pinned = stage.version
    without(stage, *metas[:2])
    stage.tables.retired.clear()  # a copy
    assert {metas[0].number, metas[1].number} == stage.tables.retired

    del pinned
    stage.tables.collect()
    assert set() == stage.tables.retired


def test_unlinked_table_is_forgotten():
    stage, metas = filled(2)
    without(stage, *metas)
    stage.tables.collect()
    calls = Calls(stage.storage)
    stage.tables.collect()

    assert 0 == calls.count("unlink")


def test_collecting_nothing_costs_nothing():
    stage, _ = filled(2)
    stage.tables._versions = None  # not even looked at

    stage.tables.collect()


def test_reader_in_use_outlives_its_unlinked_table():
    stage, metas = filled(1)
    reader = stage.tables.reader(metas[0])
    without(stage, metas[0])
    stage.tables.collect()

    assert b"0" == reader.get(b"000")
    with pytest.raises(CorruptionError, match="missing"):
        stage.tables.reader(metas[0])
