"""The log: what is in its files after which call, and what a sync makes of it."""

import errno
import random

import pytest

from lsmdbm._base.errors import FailedError, error
from lsmdbm._engine import appender as appender_module
from lsmdbm._engine.appender import BUFFER_BYTES, BUFFER_SECONDS
from lsmdbm._engine.log import Log
from lsmdbm._engine.mapped import FIRST_LOG_BYTES, Mapper
from lsmdbm._engine.names import WAL, Counter
from lsmdbm._engine.wal import Wal
from lsmdbm._format import records
from lsmdbm._format.coding import MAX_NUMBER
from lsmdbm._format.records import HEADER_BYTES, MARK_BYTES, RECORD_BYTES, LogHeader
from support.crash_storage import CrashStorage
from support.engine import PATH, calls_since, log, names, new_directory, writes

NAME = "000001.wal"


@pytest.fixture
def storage():
    return CrashStorage()


@pytest.fixture
def directory(storage):
    return new_directory(storage)


@pytest.fixture
def wal(storage, directory):
    return Wal(directory, storage, Counter(1), next_seq=1)


@pytest.fixture
def mapped(storage, directory):
    """A log that is mapped: option log_io="mmap"."""
    return Wal(directory, storage, Counter(1), next_seq=1, mapper=Mapper())


@pytest.fixture
def held(storage, directory):
    """A log that holds its records back: durability "none"."""
    return Wal(directory, storage, Counter(1), next_seq=1, buffered=True)


def put(wal, key, value=b"value"):
    length = wal.put(key, value)
    wal.advance(length, 1)
    return length


def put_out(wal, key):
    put(wal, key)
    wal.drain()


def sync(wal, *, mark=False):
    target = wal.target()
    target.sync()
    wal.note_durable(target, mark=mark)


def content(storage, name=NAME):
    return storage.contents(PATH).get(name)


def durables(storage, number=1):
    """Return ("mark" or the sequence, `durable`) of each record of a log."""
    return [
        ("mark" if records.is_mark(record) else record.seq, record.durable)
        for record in log(storage, number)[1]
    ]


# Creating


def test_nothing_is_created_before_the_first_write(storage, wal):
    before = storage.count
    wal.rotate()
    wal.drain()
    sync(wal, mark=True)
    wal.close()

    assert [] == calls_since(storage, before)
    assert {} == storage.contents(PATH)
    assert (0, 0, 1) == (wal.number, wal.log_count(), wal.seq)


def test_header_goes_out_with_the_first_record_in_one_write(storage, wal):
    before = storage.count
    length = put(wal, b"key")

    assert [f"create {NAME}", f"pwrite {NAME}"] == calls_since(storage, before)
    header, found = log(storage, 1)
    assert (1, 1, (0, 0, 0)) == (
        header.number,
        header.first_seq,
        (header.prev, header.prev_end, header.prev_last_seq),
    )
    assert [(HEADER_BYTES, HEADER_BYTES + length, 1)] == [
        (record.offset, record.end, record.seq) for record in found
    ]
    assert (HEADER_BYTES + length, 2) == wal.position


def test_salts_differ(storage, wal):
    salts = set()
    for number in range(1, 6):
        put(wal, b"key")
        wal.rotate()
        salts.add(log(storage, number)[0].salt)

    assert 5 == len(salts)


def test_a_number_that_is_taken_is_left_out(storage, directory, wal):
    directory.create(NAME)
    put(wal, b"key")

    assert b"" == content(storage)
    assert [(1, {b"key": b"value"})] == writes(storage, 2)
    assert 2 == wal.number


# Writing


def test_each_kind_of_write_is_one_record_over_its_sequences(storage, wal):
    wal.advance(wal.put(b"a", b"1"), 1)
    wal.advance(wal.delete(b"a"), 1)
    wal.advance(wal.batch([b"c", b"b"], [b"3", None]), 2)
    wal.advance(wal.clear(), 1)
    wal.advance(wal.put(b"", b""), 1)

    expected = [{b"a": b"1"}, {b"a": None}, {b"c": b"3", b"b": None}, {b"clear": None}, {b"": b""}]
    assert list(zip((1, 2, 3, 5, 6), expected, strict=True)) == writes(storage, 1)
    assert 7 == wal.seq


@pytest.mark.parametrize("write", ["put", "delete", "batch", "clear"])
def test_any_kind_of_write_may_be_the_first(storage, directory, write):
    arguments = {"put": (b"a", b"1"), "delete": (b"a",), "batch": ([b"a"], [b"1"]), "clear": ()}[write]
    for number, buffered in enumerate((False, True), 1):
        wal = Wal(directory, storage, Counter(number), next_seq=9, buffered=buffered)
        wal.advance(getattr(wal, write)(*arguments), 1)
        wal.drain()

        assert [9] == [seq for seq, _ in writes(storage, number)]


def test_position_moves_only_with_advance(storage, wal):
    put(wal, b"first")
    before = wal.position
    wal.put(b"never in the memtable", b"")
    assert before == wal.position
    put(wal, b"second")

    assert [(1, {b"first": b"value"}), (2, {b"second": b"value"})] == writes(storage, 1)


def test_the_first_record_can_be_overwritten_until_advance_too(storage, wal):
    wal.put(b"never in the memtable", b"")
    put(wal, b"first")

    assert [(1, {b"first": b"value"})] == writes(storage, 1)
    assert [NAME] == names(storage)


def test_written_bytes_are_those_of_the_records(wal):
    lengths = [put(wal, b"key"), put(wal, b"other key")]
    wal.put(b"never in the memtable", b"")

    assert sum(lengths) == wal.written_bytes


def test_short_writes_are_continued(storage, wal):
    storage.fault(storage.count + 1, None, "short")  # behind create
    storage.fault(storage.count + 2, None, "short")
    put(wal, b"key", b"value" * 10)
    storage.fault(storage.count, None, "short")
    put(wal, b"other", b"value" * 10)

    assert [(1, {b"key": b"value" * 10}), (2, {b"other": b"value" * 10})] == writes(storage, 1)


# A disk that is full, or broken


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("kind", ["before", "partial", "after"])
def test_full_disk_takes_the_record_back_and_leaves_the_log_usable(storage, wal, code, kind):
    put(wal, b"first")
    before = content(storage)
    storage.fault(storage.count, code, kind)
    with pytest.raises(error) as caught:
        wal.put(b"second", b"value" * 10)

    assert (code, False) == (caught.value.errno, isinstance(caught.value, FailedError))
    assert before == content(storage)
    assert wal.failure is None
    put(wal, b"third")
    assert [(1, {b"first": b"value"}), (2, {b"third": b"value"})] == writes(storage, 1)


def test_full_disk_after_a_short_write_takes_the_record_back(storage, wal):
    put(wal, b"first")
    before = content(storage)
    storage.fault(storage.count, None, "short")
    storage.fault(storage.count + 1, errno.ENOSPC)
    with pytest.raises(error, match="No space"):
        wal.put(b"second", b"value" * 10)

    assert before == content(storage)


def test_full_disk_that_cannot_even_cut_leaves_half_a_record_that_the_next_one_covers(storage, wal):
    put(wal, b"first")
    storage.fault(storage.count, errno.ENOSPC, "partial")
    storage.fault(storage.count + 1, errno.EIO)  # truncate
    with pytest.raises(error, match="No space"):
        wal.put(b"second", b"value" * 10)
    put(wal, b"third", b"")

    assert [(1, {b"first": b"value"}), (2, {b"third": b""})] == writes(storage, 1)
    assert len(content(storage)) > wal.position[0]  # what is left of it counts for nothing


@pytest.mark.parametrize("kind", ["before", "partial", "after"])
def test_full_disk_at_the_first_record_leaves_an_empty_log_that_is_begun_again(storage, wal, kind):
    storage.fault(storage.count + 1, errno.ENOSPC, kind)
    with pytest.raises(error, match="No space"):
        wal.put(b"first", b"value")
    assert b"" == content(storage)

    put(wal, b"second")
    assert [(1, {b"second": b"value"})] == writes(storage, 1)
    assert [NAME] == names(storage)


def test_a_log_without_any_record_needs_no_sync_and_gets_no_mark(storage, wal):
    """A sync put a mark behind the header that the full disk had not taken: corruption, when reopened."""
    storage.fault(storage.count + 1, errno.ENOSPC)
    with pytest.raises(error, match="No space"):
        wal.put(b"first", b"value")
    before = storage.count
    assert wal.is_durable()
    sync(wal, mark=True)
    wal.rotate()

    assert [] == calls_since(storage, before)
    assert b"" == content(storage)
    assert 1 == wal.min_wal(0)


def test_full_disk_at_create_leaves_nothing(storage, wal):
    storage.fault(storage.count, errno.ENOSPC)
    with pytest.raises(error, match="No space"):
        wal.put(b"first", b"value")
    assert (0, None) == (wal.number, wal.unapplied())

    put(wal, b"second")
    assert [(1, {b"second": b"value"})] == writes(storage, wal.number)


@pytest.mark.parametrize("kind", ["before", "partial", "after"])
@pytest.mark.parametrize("buffered", [False, True])
def test_broken_disk_is_final(storage, directory, kind, buffered):
    wal = Wal(directory, storage, Counter(1), next_seq=1, buffered=buffered)
    put(wal, b"first")
    wal.drain()
    storage.fault(storage.count, errno.EIO, kind)
    with pytest.raises(FailedError, match=f"log write failed: Input/output error.*{NAME}") as caught:
        put_out(wal, b"second")

    assert (errno.EIO, wal.failure) == (caught.value.errno, caught.value)
    assert [(1, {b"first": b"value"})] == writes(storage, 1)[:1]


# Healing: a record that was written and not advanced over


def test_a_record_that_memory_does_not_have_is_found(storage, wal):
    put(wal, b"first")
    length = wal.put(b"second", b"2")
    record = wal.unapplied()

    assert (2, 1, length) == (record.seq, record.count, record.end - record.offset)
    assert (b"second",) == records.decode_change(record).keys
    wal.advance(length, 1)
    assert wal.unapplied() is None


def test_the_first_record_is_found_too(storage, wal):
    wal.put(b"first", b"1")

    assert 1 == wal.unapplied().seq


def test_a_batch_that_memory_does_not_have_is_found_whole(wal):
    put(wal, b"first")
    wal.batch([b"a", b"b", b"c"], [b"1", None, b"3"])

    assert (2, 3) == (wal.unapplied().seq, wal.unapplied().count)


def test_nothing_is_found_where_nothing_was_written(storage, wal):
    assert wal.unapplied() is None
    put(wal, b"first")
    assert wal.unapplied() is None
    wal.rotate()
    assert wal.unapplied() is None


@pytest.mark.parametrize("first", [False, True])
def test_half_a_record_is_not_found(storage, wal, first):
    """Nor is a whole one behind a header that is not the one of this log."""
    if first:
        put(wal, b"first")
    end = wal.position[0]
    wal.put(b"second", b"value" * 10)
    whole = content(storage)
    for length in range(end, len(whole)):
        storage.plant(f"{PATH}/{NAME}", whole[:length])
        assert wal.unapplied() is None
    storage.plant(f"{PATH}/{NAME}", bytes(HEADER_BYTES) + whole[HEADER_BYTES:])
    assert (first, False) == (wal.unapplied() is not None, not first and wal.unapplied() is not None)


def test_a_longer_record_that_was_overwritten_in_part_is_not_found(storage, wal):
    put(wal, b"first")
    wal.put(b"second", b"value" * 10)
    put(wal, b"third", b"")

    assert wal.unapplied() is None


def test_a_record_in_the_buffer_is_found(held):
    put(held, b"first")
    held.put(b"second", b"2")
    assert 2 == held.unapplied().seq

    held.advance(held.unapplied().end - held.unapplied().offset, 1)
    assert held.unapplied() is None
    held.drain()
    assert held.unapplied() is None


# Durability "none": records wait in a buffer


def test_buffer_holds_records_back_until_it_is_drained(storage, held):
    put(held, b"first")
    put(held, b"second")
    assert b"" == content(storage)

    before = storage.count
    held.drain()
    assert [f"pwrite {NAME}"] == calls_since(storage, before)
    assert [1, 2] == [seq for seq, _ in writes(storage, 1)]
    put(held, b"third")
    assert [1, 2] == [seq for seq, _ in writes(storage, 1)]
    held.drain()
    held.drain()
    assert [1, 2, 3] == [seq for seq, _ in writes(storage, 1)]
    assert [f"pwrite {NAME}"] * 2 == calls_since(storage, before)


def test_buffer_is_due_when_it_is_full(held):
    length = put(held, b"key", bytes(1000))
    while BUFFER_BYTES - length > length * (held.seq - 1):
        assert not held.is_buffer_due()
        put(held, b"key", bytes(1000))
    put(held, b"key", bytes(1000))

    assert held.is_buffer_due()
    held.drain()
    assert not held.is_buffer_due()


def test_buffer_is_due_when_its_first_record_is_old(storage, held):
    storage.advance(10)
    put(held, b"first")
    storage.advance(0.75 * BUFFER_SECONDS)
    put(held, b"second")
    assert not held.is_buffer_due()
    storage.advance(0.5 * BUFFER_SECONDS)
    assert held.is_buffer_due()

    held.drain()
    put(held, b"third")
    assert not held.is_buffer_due()


@pytest.mark.parametrize("kind", ["before", "partial", "after"])
@pytest.mark.parametrize("first", [False, True])
def test_drain_that_met_a_full_disk_is_repeated_at_its_offset(storage, held, kind, first):
    if not first:
        put(held, b"zeroth")
        held.drain()
    put(held, b"first")
    put(held, b"second")
    storage.fault(storage.count, errno.ENOSPC, kind)
    with pytest.raises(error, match="No space"):
        held.drain()
    put(held, b"third")
    held.drain()

    expected = [b"zeroth", b"first", b"second", b"third"][first:]
    assert expected == [next(iter(entries)) for _, entries in writes(storage, 1)]


def test_everything_that_ends_a_log_or_syncs_it_drains_the_buffer(storage, held):
    put(held, b"first")
    held.target()
    assert [1] == [seq for seq, _ in writes(storage, 1)]
    put(held, b"second")
    held.rotate()
    assert [1, 2] == [seq for seq, _ in writes(storage, 1)]
    put(held, b"third")
    sync(held, mark=True)
    put(held, b"fourth")
    held.drain()
    assert [(3, 0), ("mark", log(storage, 2)[1][1].offset), (4, log(storage, 2)[1][1].offset)] == durables(
        storage, 2
    )


def test_close_drops_what_was_held_back(storage, held):
    put(held, b"first")
    held.close()
    held.drain()

    assert b"" == content(storage)


# Rotation, and which logs are needed


def test_rotation_names_the_log_before_and_syncs_nothing(storage, wal):
    put(wal, b"first")
    put(wal, b"second")
    end = wal.position[0]
    before = storage.count
    wal.rotate()
    assert [] == calls_since(storage, before)
    assert (0, 1, 3) == (wal.number, wal.log_count(), wal.seq)
    put(wal, b"third")

    header, _ = log(storage, 2)
    assert LogHeader(2, header.salt, 3, prev=1, prev_end=end, prev_last_seq=2) == header
    assert (2, 2) == (wal.number, wal.log_count())


def test_marks_do_not_count_for_the_end_of_the_log_before(storage, wal):
    put(wal, b"first")
    end = wal.position[0]
    sync(wal, mark=True)
    assert wal.position[0] > end
    wal.rotate()
    put(wal, b"second")

    assert (1, end, 1) == wal.prev
    assert end == log(storage, 2)[0].prev_end


def test_rotating_a_log_without_writes_does_nothing(storage, wal):
    put(wal, b"first")
    wal.rotate()
    wal.rotate()
    wal.put(b"never in the memtable", b"")
    wal.rotate()

    assert (2, 2) == (wal.number, wal.log_count())


def test_the_first_log_goes_on_from_the_chain_that_was_found(storage, directory):
    older = [Log(3, 100, 5), Log(4, 120, 7, is_durable=True)]
    wal = Wal(directory, storage, Counter(9), next_seq=8, older=older, prev=(4, 120, 7))
    put(wal, b"key")

    header, _ = log(storage, 9)
    assert LogHeader(9, header.salt, 8, prev=4, prev_end=120, prev_last_seq=7) == header
    assert 3 == wal.log_count()


def test_flushed_logs_are_synced_for_those_who_follow(storage, wal):
    for key in (b"1", b"2", b"3"):
        put(wal, key)
        wal.rotate()
    start = storage.count
    wal.sync_flushed(2)

    assert ["fdatasync 000001.wal", "fdatasync 000002.wal"] == calls_since(storage, start)
    assert not wal.has_suspects()


def test_a_flushed_log_whose_sync_was_interrupted_is_suspect(storage, wal):
    """The next sync may say success without having written what this one lost."""
    put(wal, b"1")
    wal.rotate()
    storage.fault(storage.count, errno.EINTR, "clean")
    with pytest.raises(KeyboardInterrupt):
        wal.sync_flushed(1)
    storage.heal()

    assert (True, True) == (wal.has_suspects(), wal.has_unsynced())


def test_flushed_logs_are_left_to_a_sync_that_is_under_way(storage, wal):
    put(wal, b"1")
    wal.rotate()
    target = wal.target()
    start = storage.count
    wal.sync_flushed(1)
    assert [] == calls_since(storage, start)

    target.sync()
    wal.note_durable(target, mark=False)
    assert not wal.has_suspects()


def test_a_log_is_needed_until_its_last_write_is_in_a_table(storage, wal):
    for key in (b"1", b"2", b"3"):
        put(wal, key)
        put(wal, key)
        wal.rotate()
    put(wal, b"4")

    assert [1, 1, 2, 2, 3, 3, 4] == [wal.min_wal(seq) for seq in range(7)]
    assert [] == wal.forget(1)
    assert [1] == [log.number for log in wal.forget(2)]
    assert [2, 3] == [log.number for log in wal.forget(6)]
    assert 4 == wal.min_wal(7)  # the current one is needed even if its writes are not
    assert 1 == wal.log_count()


def test_without_logs_the_next_number_is_the_lowest_that_may_be_needed(directory, storage):
    wal = Wal(directory, storage, Counter(17), next_seq=1)

    assert 17 == wal.min_wal(0)


def test_a_log_is_full_at_its_limit(wal, monkeypatch):
    monkeypatch.setattr(appender_module, "MAX_LOG_BYTES", HEADER_BYTES + 2 * (RECORD_BYTES + 5 + 8))
    put(wal, b"key")
    assert not wal.is_full()
    put(wal, b"key")
    assert wal.is_full()
    wal.rotate()
    assert not wal.is_full()


# Syncs, marks and promises


def test_no_record_promises_anything_before_the_first_sync(storage, wal):
    put(wal, b"first")
    put(wal, b"second")

    assert [(1, 0), (2, 0)] == durables(storage)
    assert not wal.is_durable()


def test_the_first_sync_is_followed_by_a_mark_with_the_header(storage, wal):
    put(wal, b"first")
    synced = wal.position[0]
    sync(wal)

    header, found = log(storage, 1)
    assert [(1, 0), ("mark", synced)] == durables(storage)
    assert (synced, 2, header.encode()) == (found[1].offset, found[1].seq, found[1].payload)
    assert wal.is_durable()
    assert wal.seq == 2


def test_later_records_promise_what_the_last_sync_covered(storage, wal):
    put(wal, b"first")
    sync(wal)
    first = wal.position[0] - HEADER_BYTES - RECORD_BYTES
    put(wal, b"second")
    second = wal.position[0]
    sync(wal)
    put(wal, b"third")

    assert [(1, 0), ("mark", first), (2, first), (3, second)] == durables(storage)


def test_a_sync_that_asks_for_a_mark_gets_one_unless_it_is_there(storage, wal):
    put(wal, b"first")
    sync(wal)
    put(wal, b"second")
    synced = wal.position[0]
    before = storage.count
    for _ in range(3):
        sync(wal, mark=True)

    assert [f"fdatasync {NAME}", f"pwrite {NAME}"] == calls_since(storage, before)
    assert ("mark", synced) == durables(storage)[-1]
    assert 4 == len(durables(storage))


def test_a_mark_is_not_synced_itself(storage, wal):
    put(wal, b"first")
    sync(wal, mark=True)

    assert [1] == [record.seq for record in log(storage.crash("strict"), 1)[1]]


def test_the_first_sync_of_a_log_syncs_the_directory_behind_it_later_ones_do_not(storage, wal):
    put(wal, b"first")
    before = storage.count
    wal.target().sync()
    assert [f"fdatasync {NAME}", "sync db"] == calls_since(storage, before)

    sync(wal)
    put(wal, b"second")
    before = storage.count
    wal.target().sync()
    assert [f"fdatasync {NAME}"] == calls_since(storage, before)


def test_logs_are_synced_oldest_first_and_only_once(storage, wal):
    for key in (b"1", b"2", b"3"):
        put(wal, key)
        wal.rotate()
    put(wal, b"4")
    assert wal.has_unsynced()
    before = storage.count
    sync(wal)

    syncs = [f"fdatasync {number:06d}.{WAL}" for number in (1, 2, 3, 4)]
    assert [*syncs, "sync db", "pwrite 000004.wal"] == calls_since(storage, before)
    assert (True, False, False) == (wal.is_durable(), wal.has_unsynced(), wal.has_suspects())
    before = storage.count
    put(wal, b"5")
    sync(wal)
    assert ["pwrite 000004.wal", "fdatasync 000004.wal"] == calls_since(storage, before)


def test_a_log_before_the_current_one_is_synced_even_if_that_has_no_writes(storage, wal):
    put(wal, b"1")
    wal.rotate()
    before = storage.count
    sync(wal, mark=True)

    assert [f"fdatasync {NAME}", "sync db", f"pwrite {NAME}"] == calls_since(storage, before)
    assert wal.is_durable()


def test_a_log_that_ended_before_its_sync_carries_the_promise_itself(storage, wal):
    """Closed right after a rotation, a database had no promise at all: damage to it read as a torn tail."""
    put(wal, b"1")
    wal.rotate()
    sync(wal, mark=True)
    _, found = log(storage, 1)

    assert [(0, False), (found[0].end, True)] == [(each.durable, records.is_mark(each)) for each in found]


@pytest.mark.parametrize("kind", ["before", "partial"])
def test_a_mark_that_does_not_fit_behind_a_log_is_left_out(storage, wal, kind):
    put(wal, b"1")
    wal.rotate()
    storage.fault(storage.count + 2, errno.ENOSPC, kind)
    sync(wal, mark=True)
    put(wal, b"2")
    sync(wal)

    assert [False] == [records.is_mark(each) for each in log(storage, 1)[1]]
    assert wal.is_durable()


def test_a_mark_behind_a_log_that_fails_is_final(storage, wal):
    put(wal, b"1")
    wal.rotate()
    storage.fault(storage.count + 2, errno.EIO)
    with pytest.raises(FailedError):
        sync(wal, mark=True)

    assert wal.failure is not None


def test_nothing_to_sync_is_no_call(storage, wal):
    put(wal, b"first")
    sync(wal)
    before = storage.count
    wal.target().sync()

    assert [] == calls_since(storage, before)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_failed_sync_is_final_and_ends_it(storage, wal, failing):
    put(wal, b"1")
    wal.rotate()
    put(wal, b"2")
    target = wal.target()
    before = storage.count
    storage.fault(before + failing, errno.EIO)
    with pytest.raises(FailedError, match="sync failed: Input/output error"):
        target.sync()

    assert failing + 1 == storage.count - before
    assert not wal.is_durable()


def test_writes_that_came_during_a_sync_are_not_covered(storage, wal):
    put(wal, b"first")
    target = wal.target()
    target.sync()
    put(wal, b"second")
    end = wal.position[0]
    wal.note_durable(target, mark=True)
    put(wal, b"third")

    assert [(1, 0), (2, 0), ("mark", target.offset), (3, target.offset)] == durables(storage)
    assert target.offset < end
    assert not wal.is_durable()


def test_a_log_that_ended_during_its_sync_is_synced_again(storage, wal):
    put(wal, b"first")
    target = wal.target()
    target.sync()
    wal.rotate()
    put(wal, b"second")
    wal.note_durable(target, mark=True)

    assert [(2, 0)] == durables(storage, 2)
    assert not wal.is_durable()
    sync(wal)
    assert wal.is_durable()


def test_a_log_that_began_during_a_sync_gets_no_mark(storage, wal):
    put(wal, b"first")
    wal.rotate()
    target = wal.target()
    target.sync()
    put(wal, b"second")
    wal.note_durable(target, mark=True)

    assert [(2, 0)] == durables(storage, 2)
    assert not wal.is_durable()


def test_an_older_sync_that_is_noted_late_takes_nothing_back(storage, wal):
    put(wal, b"first")
    early = wal.target()
    put(wal, b"second")
    sync(wal)
    end = wal.position[0]
    wal.note_durable(early, mark=True)
    put(wal, b"third")

    assert ("mark", end - HEADER_BYTES - RECORD_BYTES) == durables(storage)[-2]
    assert end - HEADER_BYTES - RECORD_BYTES == durables(storage)[-1][1]


def test_logs_of_earlier_openings_are_suspect_unless_known_durable(storage, directory):
    def has_suspects(*older):
        return Wal(directory, storage, Counter(9), next_seq=8, older=list(older)).has_suspects()

    assert not has_suspects()
    assert not has_suspects(Log(3, 100, 5, is_durable=True))
    assert has_suspects(Log(3, 100, 5, is_durable=True), Log(4, 100, 7))
    wal = Wal(directory, storage, Counter(9), next_seq=8, older=[Log(4, 100, 7)], prev=(4, 100, 7))
    put(wal, b"key")
    sync(wal)
    assert (True, False) == (wal.has_suspects(), wal.is_durable())


def test_logs_of_this_opening_are_never_suspect(wal):
    put(wal, b"first")
    wal.rotate()

    assert (False, True) == (wal.has_suspects(), wal.has_unsynced())


def test_full_disk_at_a_mark_is_forgiven_and_the_mark_comes_later(storage, wal):
    """The writes are synced already: sync() must not say otherwise, and no record may promise anything."""
    put(wal, b"first")
    target = wal.target()
    target.sync()
    storage.fault(storage.count, errno.ENOSPC, "partial")
    wal.note_durable(target, mark=True)
    put(wal, b"second")
    assert [(1, 0), (2, 0)] == durables(storage)

    synced = wal.position[0]
    sync(wal)
    assert [(1, 0), (2, 0), ("mark", synced)] == durables(storage)


def test_broken_disk_at_a_mark_is_final(storage, wal):
    put(wal, b"first")
    target = wal.target()
    target.sync()
    storage.fault(storage.count, errno.EIO)
    with pytest.raises(FailedError, match="log write failed"):
        wal.note_durable(target, mark=True)

    assert wal.failure is not None


def test_closing_lets_go_of_every_file(storage, directory, wal):
    put(wal, b"first")
    wal.rotate()
    put(wal, b"second")
    sync(wal)
    put(wal, b"third")
    wal.rotate()
    wal.close()
    before = storage.count
    sync(wal)

    assert [] == calls_since(storage, before)
    assert {None} == {log.file for log in wal.older}


def test_a_sync_that_ends_when_the_log_is_closed_writes_no_mark(storage, wal):
    put(wal, b"first")
    target = wal.target()
    target.sync()
    wal.close()
    before = storage.count
    wal.note_durable(target, mark=True)

    assert [] == calls_since(storage, before)


# Mapped logs


def lengths(storage):
    return [len(content(storage, name)) for name in names(storage, WAL)]


def test_a_mapped_log_is_allocated_before_its_first_record_and_then_written_without_a_call(storage, mapped):
    before = storage.count
    put(mapped, b"first")
    mapped.advance(mapped.batch([b"a", b"b"], [b"1", None]), 2)
    sync(mapped, mark=True)

    stores = [f"store {NAME}"] * 2
    expected = [f"create {NAME}", f"map {NAME}", *stores, f"fdatasync {NAME}", "sync db", f"store {NAME}"]
    assert expected == calls_since(storage, before)
    assert [(1, {b"first": b"value"}), (2, {b"a": b"1", b"b": None})] == writes(storage, 1)
    assert bytes(FIRST_LOG_BYTES - mapped.position[0]) == content(storage)[mapped.position[0] :]


def test_a_record_that_does_not_fit_into_a_mapped_log_begins_the_next_one(storage, mapped):
    for number in range(70):
        put(mapped, b"%d" % number, bytes(1000))
    expected = [(number + 1, {b"%d" % number: bytes(1000)}) for number in range(70)]

    assert expected == [write for name in (1, 2) for write in writes(storage, name)]
    (_, first), (header, _) = log(storage, 1), log(storage, 2)
    assert (1, first[-1].end, first[-1].seq) == (header.prev, header.prev_end, header.prev_last_seq)
    assert [first[-1].end, 2 * FIRST_LOG_BYTES] == lengths(storage)  # the rest of the first was cut off
    assert (2, 2) == (mapped.number, mapped.log_count())


def test_a_record_that_moves_to_the_next_log_promises_nothing(storage, mapped, monkeypatch):
    """It had been made for a log of which something was durable, and with another salt."""
    monkeypatch.setattr(appender_module, "MAX_LOG_BYTES", 300)
    put(mapped, b"first")
    sync(mapped)
    put(mapped, b"second", b"x" * 80)

    assert [(2, 0)] == durables(storage, 2)
    assert [(2, {b"second": b"x" * 80})] == writes(storage, 2)
    sync(mapped)
    assert [(2, 0), ("mark", content(storage, "000002.wal").index(b"LSMW", 4) - RECORD_BYTES)] == durables(
        storage, 2
    )


@pytest.mark.parametrize("size", range(55, 90))
def test_a_mark_fits_behind_any_record_of_a_mapped_log(storage, mapped, monkeypatch, size):
    monkeypatch.setattr(appender_module, "MAX_LOG_BYTES", 300)
    put(mapped, b"1", b"x" * 20)
    put(mapped, b"2", b"x" * size)
    number = mapped.number
    assert number == (1 if size <= 300 - MARK_BYTES - HEADER_BYTES - 80 else 2)
    sync(mapped, mark=True)

    assert records.is_mark(log(storage, number)[1][-1])


def test_a_mark_fits_behind_the_mark_of_a_mapped_log_that_ended(storage, mapped, monkeypatch):
    """Even if it was interrupted before it was unmapped."""
    monkeypatch.setattr(appender_module, "MAX_LOG_BYTES", 300)
    put(mapped, b"1", b"x" * (300 - MARK_BYTES - HEADER_BYTES - RECORD_BYTES - 6))
    sync(mapped, mark=True)
    assert 300 == mapped.position[0]
    with monkeypatch.context() as patch:
        patch.setattr(Wal, "_unmap", lambda self, file, end: None)
        mapped.rotate()
    sync(mapped, mark=True)

    assert [1, "mark", "mark"] == [key for key, _ in durables(storage)]


def test_a_record_larger_than_a_mapped_log_stands_alone_in_one_that_is_not(storage, mapped, monkeypatch):
    monkeypatch.setattr(appender_module, "MAX_LOG_BYTES", 300)
    before = storage.count
    put(mapped, b"1", b"x" * 500)
    put(mapped, b"2")
    put(mapped, b"3", b"x" * 400)
    put(mapped, b"4", b"x" * 10)

    calls = [call.replace("0", "").replace(f".{WAL}", "") for call in calls_since(storage, before)]
    expected = ["create 1", "pwrite 1", "create 2", "map 2", "store 2", "unmap 2", "create 3", "pwrite 3"]
    assert [*expected, "create 4", "map 4", "store 4"] == calls
    assert [1, 2, 3, 4] == [seq for number in (1, 2, 3, 4) for seq, _ in writes(storage, number)]


def test_a_full_disk_leaves_a_mapped_log_as_it_was_and_the_next_write_takes_the_same(storage, mapped):
    for kind in ("before", "partial"):
        storage.fault(storage.count + (mapped.number == 0), errno.ENOSPC, kind)
        with pytest.raises(error) as caught:
            mapped.put(b"lost", b"value")
        assert (errno.ENOSPC, b"") == (caught.value.errno, content(storage))
        assert mapped.unapplied() is None
    put(mapped, b"kept")

    assert [(1, {b"kept": b"value"})] == writes(storage, 1)
    assert [NAME] == names(storage)


def test_a_log_that_cannot_be_mapped_is_written_like_any_other(storage, mapped):
    storage.fault(1 + storage.count, errno.EMFILE)
    put(mapped, b"1")
    put(mapped, b"2", bytes(FIRST_LOG_BYTES))

    assert (1, mapped.position[0]) == (mapped.number, len(content(storage)))
    mapped.rotate()
    put(mapped, b"3")
    assert FIRST_LOG_BYTES == lengths(storage)[1]  # the next one is tried again


def test_the_rest_of_a_mapped_log_is_given_back_at_its_end(storage, mapped):
    put(mapped, b"1")
    mapped.end_mapping()

    assert [mapped.position[0]] == lengths(storage)


def test_a_mapped_log_that_never_began_is_given_back_whole(storage, mapped):
    mapped.put(b"interrupted", b"before it was stored")
    mapped._data_end = 0
    mapped.end_mapping()

    assert [0] == lengths(storage)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_what_is_not_given_back_does_no_harm(storage, mapped, code):
    put(mapped, b"1")
    storage.fault(storage.count, code)
    mapped.rotate()
    put(mapped, b"2")
    sync(mapped)

    assert [FIRST_LOG_BYTES, 2 * FIRST_LOG_BYTES] == lengths(storage)
    assert [(1, {b"1": b"value"}), (2, {b"2": b"value"})] == [*writes(storage, 1), *writes(storage, 2)]
    assert mapped.is_durable()


def test_a_record_that_was_stored_and_not_advanced_over_is_found(storage, mapped):
    """Without reading all that was allocated."""
    put(mapped, b"first")
    mapped.put(b"second", b"2" * 500)
    record = mapped.unapplied()

    assert {b"second": b"2" * 500} == dict(zip(*change_of(record), strict=True))
    mapped.advance(record.end - record.offset, record.count)
    assert mapped.unapplied() is None


def change_of(record):
    change = records.decode_change(record)
    return change.keys, change.values


# Anything, in any order


@pytest.mark.parametrize("way", ["written", "buffered", "mapped"])
def test_logs_hold_what_was_advanced_over_after_any_calls(seed, budget, way, monkeypatch):
    """And each names the one before, promises only what a sync has covered, and has a mark before it does."""
    rounds = {"small": 20, "default": 100, "crash": 300, "long": 5000}[budget]
    monkeypatch.setattr(appender_module, "MAX_LOG_BYTES", 400)
    done = 0
    for number in range(rounds):
        rng = random.Random(f"{seed} wal {way} {number}")
        storage = CrashStorage(number)
        wal = Wal(new_directory(storage), storage, Counter(1), next_seq=1, buffered=way == "buffered")
        wal.mapper = Mapper() if way == "mapped" else None
        synced = {}
        expected = drive(wal, storage, rng, synced)
        wal.drain()

        found = [
            write
            for name in names(storage, WAL)
            if content(storage, name)
            for write in writes(storage, int(name[:6]))
        ]
        assert expected == found, f"seed {seed} round {number}"
        check_chain(storage, synced)
        done += len(expected)
    print(f"seed {seed}: {rounds} rounds, {done} writes")


def drive(wal, storage, rng, synced):
    """Make random calls; return the writes that were advanced over, note in `synced` how far each log was.

    What was written and lost, by an exception behind the write say, is advanced over before anything else.
    """
    expected = []
    for _ in range(60):
        if (record := wal.unapplied()) is not None:
            change = records.decode_change(record)
            expected.append((record.seq, dict(zip(change.keys, change.values, strict=True))))
            wal.advance(record.end - record.offset, record.count)
        call = rng.choice(
            ("put", "put", "put", "delete", "batch", "lost", "full", "rotate", "drain", "sync", "mark")
        )
        key = rng.randbytes(2)
        try:
            if call == "full":
                storage.fault(
                    storage.count + rng.randrange(2), errno.ENOSPC, rng.choice(("before", "partial"))
                )
            if call in ("put", "full"):
                put(wal, key)
                expected.append((wal.seq - 1, {key: b"value"}))
            elif call == "delete":
                wal.advance(wal.delete(key), 1)
                expected.append((wal.seq - 1, {key: None}))
            elif call == "batch":
                wal.advance(wal.batch([key, key + b"x"], [b"1", None]), 2)
                expected.append((wal.seq - 2, {key: b"1", key + b"x": None}))
            elif call == "lost":
                wal.put(b"lost", rng.randbytes(rng.randrange(50)))
            elif call in ("sync", "mark"):
                sync(wal, mark=call == "mark")
                if wal.number:
                    synced[wal.number] = wal.position[0]
                elif wal.prev[0]:  # it had ended, and carries the mark itself
                    synced[wal.prev[0]] = len(content(storage, f"{wal.prev[0]:06d}.wal"))
            elif call in ("rotate", "drain"):
                getattr(wal, call)()
        except error as exc:
            assert exc.errno == errno.ENOSPC
        storage.heal()
    if (record := wal.unapplied()) is not None:
        expected.append((record.seq, {b"lost": records.decode_change(record).values[0]}))
        wal.advance(record.end - record.offset, record.count)
    return expected


def check_chain(storage, synced):
    before = None
    for name in names(storage, WAL):
        if not content(storage, name):
            continue
        header, found = log(storage, int(name[:6]))
        data = [record for record in found if not records.is_mark(record)]
        if before is not None:
            assert before == (header.prev, header.prev_end, header.prev_last_seq)
        before = header.number, data[-1].end, data[-1].last_seq
        promises = [index for index, record in enumerate(found) if record.durable]
        assert [] == [
            found[i] for i in promises if not found[i].durable <= min(found[i].offset, synced[header.number])
        ]
        assert not promises or records.is_mark(found[promises[0]])


def test_no_log_is_begun_whose_sequences_no_reader_accepts(storage, directory):
    """Its header would be taken for one that was cut off, and what is in it would be lost."""
    wal = Wal(directory, storage, Counter(1), next_seq=MAX_NUMBER - (1 << 32) + 1)
    for _ in range(2):
        with pytest.raises(error, match="no sequence is left"):
            wal.put(b"key", b"value")
    assert [] == names(storage)

    wal = Wal(directory, storage, Counter(1), next_seq=MAX_NUMBER - (1 << 32))
    put(wal, b"key")
    assert [NAME] == names(storage)
