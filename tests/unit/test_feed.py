"""The feed: logs by their headers, records by the window."""

import pytest

from lsmdbm._base.errors import ClosedError, CorruptionError, HistoryLostError, error
from lsmdbm._engine import feed, keeping
from lsmdbm._engine.feed import FIRST_BYTES, WINDOW_BYTES, log_records
from lsmdbm._format import log_reader, records
from lsmdbm._format.records import HEADER_BYTES, LogHeader
from support.crash_storage import CrashStorage
from support.engine import PATH, close, log, names, open_store
from support.format import MemoryFile, u32

HEADER = LogHeader(number=3, salt=5, first_seq=1)


@pytest.fixture
def storage():
    return CrashStorage()


@pytest.fixture
def store(storage, monkeypatch):
    """A database of five puts, each in a kept log of its own."""
    monkeypatch.setattr(keeping, "LEAST_BYTES", 1)
    store = open_store(storage, log_keep_bytes=1 << 20)
    for number in range(1, 6):
        store.put(b"%d" % number, b"value")
        store.flush()
    yield store
    close(storage, store)


def seqs(store, position=None):
    return [seq for seq, _, _ in store.changes(position)]


def plant(storage, name, data):
    storage.plant(f"{PATH}/{name}", data)


# Windows


@pytest.mark.parametrize(
    "lengths", [[0] * 3000, [10, FIRST_BYTES, 10], [WINDOW_BYTES + 7, 1, WINDOW_BYTES * 3]]
)
@pytest.mark.parametrize("room", [0, 1, 100_000])
def test_records_of_every_length_are_read_whatever_the_window(lengths, room):
    data, offsets = HEADER.encode(), []
    for seq, length in enumerate(lengths, 1):
        offsets.append(len(data))
        data += records.encode_put(HEADER.seed, seq, offsets[-1], b"key", bytes(length))
    end = len(data)
    data += bytes(room)
    file = MemoryFile(data)
    expected = list(log_reader.in_order(data, HEADER))

    assert expected == list(log_records(file, HEADER, HEADER_BYTES, len(data)))
    assert expected[1:] == list(log_records(file, HEADER, offsets[1], end))
    assert expected[:2] == list(log_records(file, HEADER, HEADER_BYTES, offsets[2]))
    assert [] == list(log_records(file, HEADER, end, len(data)))
    assert expected[:-1] == list(log_records(file, HEADER, HEADER_BYTES, end - 1))


def test_what_is_no_record_ends_the_reading():
    first = records.encode_put(HEADER.seed, 1, 0, b"key", b"value")
    for behind in (b"?" * 100, b"\0" * 23 + b"?", u32(7) + u32(1 << 31) + bytes(20)):
        data = HEADER.encode() + first + behind
        assert 1 == len(list(log_records(MemoryFile(data), HEADER, HEADER_BYTES, len(data))))


# The chain


def test_the_logs_lead_from_the_newest_to_the_oldest(storage, store):
    assert 5 == len(names(storage, "wal"))
    assert [1, 2, 3, 4, 5] == seqs(store)


def test_a_log_that_is_missing_ends_what_can_be_told(storage, store):
    start = store.position(1)
    storage.unlink(f"{PATH}/{names(storage, 'wal')[2]}")
    for since in (None, start, store.position(3)):
        with pytest.raises(HistoryLostError, match="sequences . to 3 are in no log") as caught:
            store.changes(since)
        assert [4, 5] == seqs(store, caught.value.oldest)


def test_a_log_that_no_other_leads_to_does_not_count(storage, store):
    """What a gap has left may be back after a loss of power, with any number and any sequence."""
    second = names(storage, "wal")[1]
    header, _ = log(storage, int(second[:6]))
    stray = LogHeader(header.number + 1, 7, 2)
    record = records.encode_put(stray.seed, 2, 0, b"2", b"another")
    plant(storage, f"{stray.number:06d}.wal", stray.encode() + record)

    assert [1, 2, 3, 4, 5] == seqs(store)
    assert [b"value"] * 5 == [change.values[0] for _, change, _ in store.changes(None)]


def test_a_log_counts_up_to_where_the_next_one_says(storage):
    store = open_store(storage, memtable_bytes=1 << 20, log_keep_bytes=1 << 20)
    store.put(b"1", b"1")
    storage = storage.freeze().crash("kill")
    first = names(storage, "wal")[0]
    store = open_store(storage, memtable_bytes=1 << 20, log_keep_bytes=1 << 20)
    store.put(b"2", b"2")
    header, found = log(storage, int(first[:6]))
    whole = storage.contents(PATH)[first]
    plant(storage, first, whole[: found[-1].end] + records.encode_put(header.seed, 2, 0, b"2", b"never"))

    assert [(b"1",), (b"2",)] == [tuple(change.keys) for _, change, _ in store.changes(None)]
    assert [(b"1",), (b"2",)] == [tuple(change.values) for _, change, _ in store.changes(None)]
    close(storage, store)


@pytest.mark.parametrize("length", [0, 20, 55])
def test_a_log_whose_header_is_gone_was_lost_with_the_power(storage, store, length):
    name = names(storage, "wal")[1]
    header, _ = log(storage, int(name[:6]))
    plant(storage, name, header.encode()[:length])

    with pytest.raises(HistoryLostError, match="sequences 1 to 2 are in no log"):
        store.changes(None)


def test_a_header_that_had_been_synced_is_damage(storage):
    store = open_store(storage, log_keep_bytes=1 << 20)
    store.put(b"1", b"1")
    store.sync()  # behind which there is a mark
    store.flush()
    name = names(storage, "wal")[0]
    plant(storage, name, b"?" + storage.contents(PATH)[name][1:])
    with pytest.raises(CorruptionError, match="in a log that had been synced"):
        store.changes(None)
    close(storage, store)


def test_a_log_under_the_name_of_another_one_is_not_taken_for_it(storage, store):
    first, second = names(storage, "wal")[:2]
    plant(storage, second, storage.contents(PATH)[first])

    with pytest.raises(HistoryLostError, match="sequences 1 to 2 are in no log"):
        store.changes(None)


def test_a_log_of_a_newer_format_is_refused_by_name(storage, store):
    name = names(storage, "wal")[1]
    header = storage.contents(PATH)[name][:HEADER_BYTES]
    changed = header[:4] + u32(2) + header[8:52]
    plant(storage, name, changed + u32(records.crc32(changed)) + bytes(50))
    with pytest.raises(error, match="log of format 2"):
        store.changes(None)


def test_a_log_that_ends_with_another_sequence_than_the_next_one_says_is_damage(storage, store):
    name = names(storage, "wal")[1]
    header, found = log(storage, int(name[:6]))
    record = records.encode_put(header.seed, 3, 0, b"2", b"value")
    assert len(record) == found[0].end - found[0].offset
    plant(storage, name, header.encode() + record)
    with pytest.raises((CorruptionError, HistoryLostError), match="sequence"):
        list(store.changes(None))


def test_a_damaged_payload_under_a_good_checksum_is_damage(storage, store):
    name = names(storage, "wal")[1]
    header, found = log(storage, int(name[:6]))
    length = found[0].end - found[0].offset - records.RECORD_BYTES
    plant(storage, name, header.encode() + records._encode(header.seed, 2, 1, 0, b"\0" * length))
    with pytest.raises(CorruptionError, match="kind 0"):
        list(store.changes(None))


def test_a_log_that_is_another_one_when_its_turn_comes_is_not_read(storage, store, monkeypatch):
    monkeypatch.setattr(feed, "HELD_FILES", 1)
    following = store.changes(None)
    assert 1 == next(following)[0]
    second = names(storage, "wal")[1]
    header, _ = log(storage, int(second[:6]))
    other = header._replace(salt=7)
    storage.unlink(f"{PATH}/{second}")
    plant(storage, second, other.encode() + records.encode_put(other.seed, 2, 0, b"2", b"another"))
    with pytest.raises(HistoryLostError, match="has been removed meanwhile"):
        next(following)


def test_what_is_read_ends_with_the_store(storage):
    store = open_store(storage, log_keep_bytes=1 << 20)
    store.put(b"1", b"1")
    store.put(b"2", b"2")
    following = store.changes(None)
    assert 1 == next(following)[0]
    close(storage, store)
    with pytest.raises(ClosedError):
        next(following)


# Positions


def test_a_position_of_a_log_that_was_written_anew_is_of_another_history(storage):
    """The number may be the same: its name was lost with the power, too."""
    store = open_store(storage)
    store.put(b"1", b"1")
    store.sync()
    before = storage.freeze()
    store.put(b"2", b"taken back")
    position = store.position()
    storage = before.crash("strict")
    store = open_store(storage)
    with pytest.raises(HistoryLostError, match="the position is at 3, the database at 2"):
        store.changes(position)
    store.put(b"2", b"2")
    store.put(b"3", b"3")
    with pytest.raises(HistoryLostError, match="sequence 2 is another write than the one that was seen"):
        store.changes(position)
    close(storage, store)


def test_a_position_within_a_log_needs_no_pass_over_what_is_before_it(storage, monkeypatch):
    store = open_store(storage, memtable_bytes=1 << 20)
    for number in range(2000):
        store.put(b"%d" % number, bytes(50))
    position = store.position()
    store.put(b"new", b"value")
    decoded = []
    whole = records.record_at

    def record_at(*arguments):
        decoded.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(records, "record_at", record_at)
    assert [2001] == seqs(store, position)
    assert len(decoded) < 5
    close(storage, store)
