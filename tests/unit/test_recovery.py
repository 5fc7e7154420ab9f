"""Recovery: what it takes for the state of a database, what for traces of a crash, and what for damage."""

import errno
import random

import pytest

from lsmdbm._base.errors import CorruptionError, NotFoundError, error
from lsmdbm._base.options import Options
from lsmdbm._engine import recovery
from lsmdbm._engine.install import Installer
from lsmdbm._engine.names import Counter
from lsmdbm._engine.recovery import CHAIN_BYTES, CHAIN_LOGS, recover
from lsmdbm._engine.wal import Wal
from lsmdbm._format import manifest as manifests
from lsmdbm._format import records
from lsmdbm._format.manifest import MAX_MANIFEST_BYTES, Manifest, TableMeta
from lsmdbm._format.records import HEADER_BYTES, MAX_LOG_FILE_BYTES, RECORD_BYTES, LogHeader
from support.crash_storage import READS, CrashStorage
from support.engine import PATH, calls_since, close, entries, log, new_directory, open_store
from support.format import flipped, patched, u32, with_crc

BLANK = Manifest(bytes(16), 0, 0, last_seq=0, min_wal=1, live_count=0, shape=Options().shape())


class Files:
    """The files of a database, made by hand: a manifest, and the logs of one opening after the other."""

    def __init__(self, **state):
        self.storage = CrashStorage()
        self.directory = new_directory(self.storage)
        self.manifest = BLANK._replace(**state)
        Installer(self.directory, Counter(1), self.manifest).install(self.manifest, lambda: None)
        self.wal = None
        self.begin()

    def begin(self):
        """Begin an opening.  The one before it was killed, unless `end` was called."""
        found = self.recover()
        counter = Counter(found.next_number)
        self.wal = Wal(self.directory, self.storage, counter, found.next_seq, found.logs, found.prev)

    def end(self):
        self.sync()
        self.wal.close()
        self.begin()

    def put(self, *keys, size=1):
        for key in keys:
            self.wal.advance(self.wal.put(b"%d" % key, b"v" * size), 1)

    def rotate(self):
        self.wal.rotate()

    def sync(self):
        target = self.wal.target()
        target.sync()
        self.wal.note_durable(target, mark=True)

    def recover(self):
        return recover(self.directory)

    def keys(self):
        return sorted(int(key) for key in self.recover().memtable.entries)

    def read(self, number, kind="wal"):
        return self.storage.contents(PATH)[f"{number:06d}.{kind}"]

    def write(self, number, data, kind="wal"):
        self.storage.plant(f"{PATH}/{number:06d}.{kind}", data)

    def erase(self, number, kind="wal"):
        self.storage.erase(f"{PATH}/{number:06d}.{kind}")

    def ends(self, number):
        """Return the end of each record of a log."""
        return [record.end for record in log(self.storage, number)[1]]

    def append(self, number, *encoded):
        self.write(number, self.read(number) + b"".join(encoded))


@pytest.fixture
def files():
    return Files()


def logs_of(found):
    return [(log.number, log.end, log.last_seq, log.is_durable) for log in found.logs]


# No database


def test_a_directory_without_our_files_holds_no_database():
    storage = CrashStorage()
    directory = new_directory(storage)
    assert recover(directory) is None
    for name in ("LOCK", "000001.txt", "1.man", "notes"):
        storage.plant(f"{PATH}/{name}", b"x")

    assert recover(directory) is None


def test_manifests_that_were_cut_off_alone_are_a_database_that_is_not_born():
    storage = CrashStorage()
    directory = new_directory(storage)
    storage.plant(f"{PATH}/000001.man", b"")
    storage.plant(f"{PATH}/000003.man", manifests.encode(BLANK)[:-1])

    assert recover(directory) is None


@pytest.mark.parametrize("name", ["000002.wal", "000002.sst"])
def test_a_table_or_log_without_a_manifest_is_damage(name):
    storage = CrashStorage()
    directory = new_directory(storage)
    storage.plant(f"{PATH}/{name}", b"")
    with pytest.raises(CorruptionError, match="tables or logs without a manifest") as caught:
        recover(directory)
    assert PATH == caught.value.path

    storage.plant(f"{PATH}/000001.man", b"LSMM")
    storage.plant(f"{PATH}/000003.man", b"LSMM")
    with pytest.raises(CorruptionError, match="no manifest") as caught:
        recover(directory)
    assert f"{PATH}/000003.man" == caught.value.path


# Which manifest


def test_an_empty_manifest_alone_is_an_empty_database(files):
    found = files.recover()

    assert ({}, [], 1, 2) == (found.memtable.entries, found.logs, found.next_seq, found.next_number)
    assert ((0, 0, 0), False, False) == (found.prev, found.has_gap, found.is_cleared)


def test_the_highest_manifest_counts():
    files = Files(last_seq=5)
    files.write(7, manifests.encode(files.manifest._replace(number=7, next_number=9, last_seq=8)), "man")
    found = files.recover()

    assert (7, 8, 9, 9) == (found.manifest.number, found.manifest.last_seq, found.next_seq, found.next_number)


def test_a_newer_manifest_cut_off_anywhere_is_ignored():
    files = Files(last_seq=5)
    newer = manifests.encode(files.manifest._replace(number=7, next_number=9, last_seq=8))
    for length in range(len(newer)):
        for tail in (b"", bytes(len(newer) - length)):
            files.write(7, newer[:length] + tail, "man")
            found = files.recover()
            assert (1, 5, 8) == (found.manifest.number, found.manifest.last_seq, found.next_number)


def test_a_manifest_under_another_name_is_ignored(files):
    files.write(5, files.read(1, "man"), "man")

    assert 1 == files.recover().manifest.number


def test_a_file_far_too_large_for_a_manifest_is_ignored_unread(files, monkeypatch):
    monkeypatch.setattr(recovery, "MAX_MANIFEST_BYTES", 200)
    files.write(5, bytes(201), "man")
    before = files.storage.count

    assert 1 == files.recover().manifest.number
    assert "pread 000005.man" not in calls_since(files.storage, before)
    assert MAX_MANIFEST_BYTES == 64 << 20


def test_a_file_far_too_large_for_a_log_is_damage_and_left_unread(files, monkeypatch):
    """A sparse file of a TiB costs nobody anything but who reads it."""
    files.put(1)
    monkeypatch.setattr(recovery, "MAX_LOG_FILE_BYTES", 50)
    before = files.storage.count

    with pytest.raises(CorruptionError, match="the limit is 50"):
        files.recover()
    assert "pread 000002.wal" not in calls_since(files.storage, before)
    assert MAX_LOG_FILE_BYTES == (1 << 32) - 1


@pytest.mark.parametrize("kind", ["man", "wal"])
def test_a_newer_format_is_refused_by_name(files, kind):
    files.put(1)
    newer = files.manifest._replace(number=7, next_number=9)
    body = {"man": manifests.encode(newer), "wal": files.read(2)}[kind]
    if kind == "man":
        body = patched(body[:-12], 4, u32(2) + u32(2))
        files.write(7, with_crc(body, manifests.crc32(manifests.U64.pack(7))) + b"LSMMEND.", "man")
    else:
        files.write(2, with_crc(patched(body[: HEADER_BYTES - 4], 4, u32(2))) + body[HEADER_BYTES:])
    with pytest.raises(error, match=rf"{PATH}/00000[27]\.{kind}: .* format 2.* reads format 1") as caught:
        files.recover()

    assert not isinstance(caught.value, CorruptionError)


def test_numbers_in_the_directory_are_never_given_again(files):
    for name in ("000010.sst", "000020.wal", "000030.man"):
        files.storage.plant(f"{PATH}/{name}", b"")

    assert 31 == files.recover().next_number


def table(number, file_bytes=10):
    return TableMeta(number, file_bytes, 0, 1, 0, 10, 1, 1, b"a", b"b")


def test_every_table_must_be_there_with_its_exact_size():
    files = Files()
    state = BLANK._replace(number=5, next_number=9, levels=((table(2, 10),), (table(3, 20),)))
    for number, length in ((2, 10), (3, 20)):
        files.write(number, bytes(length), "sst")
    files.write(5, manifests.encode(state), "man")
    assert 2 == len(files.recover().version)

    for damage in (b"", bytes(19), bytes(21)):
        files.write(3, damage, "sst")
        with pytest.raises(
            CorruptionError, match=f"{len(damage)} bytes long, the manifest says 20"
        ) as caught:
            files.recover()
        assert f"{PATH}/000003.sst" == caught.value.path
    files.erase(3, "sst")
    with pytest.raises(CorruptionError, match="missing") as caught:
        files.recover()
    assert f"{PATH}/000003.sst" == caught.value.path


def test_a_newer_manifest_is_blamed_if_the_older_one_is_no_longer_whole():
    """It had committed, and what the older one needs went; then it rotted."""
    files = Files()
    state = BLANK._replace(number=5, next_number=9, levels=((table(2),),))
    files.write(5, manifests.encode(state), "man")
    files.write(7, b"rot", "man")
    with pytest.raises(CorruptionError, match="no manifest") as caught:
        files.recover()

    assert f"{PATH}/000007.man" == caught.value.path


def test_tables_that_no_manifest_names_prove_nothing(files):
    files.put(1)
    files.write(9, b"half a table", "sst")

    assert [1] == files.keys()


# The chain of logs


def test_logs_are_replayed_in_their_order(files):
    files.put(1, 2)
    files.rotate()
    files.put(3)
    files.rotate()
    files.put(4)
    files.wal.advance(files.wal.batch([b"1", b"5"], [None, b"new"]), 2)
    files.wal.advance(files.wal.delete(b"2"), 1)
    found = files.recover()

    assert {b"1": None, b"2": None, b"3": b"v", b"4": b"v", b"5": b"new"} == found.memtable.entries
    assert (8, 5, True) == (found.next_seq, found.next_number, found.memtable.deletes)
    assert (1, 7) == (found.memtable.first_seq, found.memtable.last_seq)
    assert [2, 3, 4] == [log.number for log in found.logs]
    assert (4, files.ends(4)[-1], 7) == found.prev


def test_each_opening_goes_on_from_the_one_before(files):
    for key in range(5):
        files.put(key)
        files.begin()

    assert [0, 1, 2, 3, 4] == files.keys()
    assert [0, 2, 3, 4, 5] == [log(files.storage, number)[0].prev for number in range(2, 7)]


def test_logs_below_the_lowest_that_is_needed_are_left_out():
    files = Files()
    files.put(1, 2)
    files.rotate()
    files.put(3, 4)
    state = files.manifest._replace(number=9, next_number=10, last_seq=2, min_wal=3)
    files.write(9, manifests.encode(state), "man")
    files.write(2, b"damaged")

    assert [3, 4] == files.keys()
    assert [3] == [log.number for log in files.recover().logs]


def test_records_that_tables_hold_are_skipped(files):
    files.put(1, 2)
    files.rotate()
    files.put(3, 4, 5)
    for last_seq, expected in ((0, [1, 2, 3, 4, 5]), (1, [2, 3, 4, 5]), (2, [3, 4, 5]), (4, [5]), (5, [])):
        state = files.manifest._replace(number=9, next_number=10, last_seq=last_seq)
        files.write(9, manifests.encode(state), "man")
        assert (expected, 6) == (files.keys(), files.recover().next_seq)
        assert last_seq + 1 == files.recover().memtable.first_seq


def test_a_log_torn_before_the_last_sequence_of_the_tables_puts_nothing_above(files):
    """Older values, which tables have newer ones for, would win otherwise."""
    files.put(1, 2, 3, 4)
    state = files.manifest._replace(number=9, next_number=10, last_seq=3)
    files.write(9, manifests.encode(state), "man")
    files.erase(1, "man")  # which would be a reason too
    files.write(2, files.read(2)[: files.ends(2)[1]])
    found = files.recover()

    assert ({}, 4) == (found.memtable.entries, found.next_seq)
    assert (True, False) == (found.must_flush, found.is_suspect)


def test_a_clear_voids_tables_and_older_writes(files):
    state = BLANK._replace(number=5, next_number=9, last_seq=2, levels=((table(3),),))
    files.write(3, bytes(10), "sst")
    files.write(5, manifests.encode(state), "man")
    files.begin()
    files.put(1, 2)
    files.wal.advance(files.wal.clear(), 1)
    before = files.recover()
    files.put(3)
    found = files.recover()

    assert ({}, 0, True) == (before.memtable.entries, len(before.version), before.is_cleared)
    assert ({b"3": b"v"}, 0, True) == (found.memtable.entries, len(found.version), found.is_cleared)
    assert found.memtable.charge == RECORD_BYTES + 1 + 4 + 1 + 1 + RECORD_BYTES + 1


def test_what_a_memtable_is_charged_is_the_length_of_its_records(files):
    files.put(1, 2)
    files.sync()
    files.put(3)
    data = [record for record in log(files.storage, 2)[1] if record.count]

    assert sum(record.end - record.offset for record in data) == files.recover().memtable.charge


# A torn tail


@pytest.mark.parametrize("last", ["put", "batch", "mark"])
def test_a_last_record_cut_at_any_byte_is_as_if_it_had_never_been(files, last):
    files.put(1, 2)
    start = files.wal.position[0]
    if last == "put":
        files.put(3)
    elif last == "batch":
        files.wal.advance(files.wal.batch([b"3", b"4"], [b"v", b"v"]), 2)
    else:
        files.sync()
    whole = files.read(2)
    for length in range(start, len(whole)):
        for tail in (b"", bytes(len(whole) - length), b"\xff" * 9):
            files.write(2, whole[:length] + tail)
            found = files.recover()
            assert [b"1", b"2"] == list(found.memtable.entries)
            assert ([(2, start, 2, False)], 3) == (logs_of(found), found.next_seq)
            assert not found.has_gap
    files.write(2, whole)
    assert {"put": [1, 2, 3], "batch": [1, 2, 3, 4], "mark": [1, 2]}[last] == files.keys()


def test_zeros_behind_the_last_record_end_a_log_as_its_last_byte_does(files):
    """In the newest log and in one that others go on from: both may have been mapped when they were left."""
    files.put(1, 2)
    files.sync()
    files.wal.rotate()
    files.put(3)
    for number in (2, 3):
        files.write(number, files.read(number) + bytes(1000))
    found = files.recover()

    assert [b"1", b"2", b"3"] == list(found.memtable.entries)
    assert (4, [True, False]) == (found.next_seq, [is_durable for *_, is_durable in logs_of(found)])
    assert not found.has_gap
    assert not found.must_flush


def test_a_log_goes_on_behind_a_torn_tail_in_the_next_one(files):
    files.put(1, 2)
    files.write(2, files.read(2)[:-1])
    files.begin()
    files.put(3)

    assert [1, 3] == files.keys()
    header, found = log(files.storage, 3)
    assert (2, files.ends(2)[0], 1, 2) == (
        header.prev,
        header.prev_end,
        header.prev_last_seq,
        header.first_seq,
    )
    assert 2 == found[0].seq


def test_what_stands_behind_the_end_that_the_next_log_names_counts_for_nothing(files):
    """A killed opening wrote a record that the next one did not see: its page came to the disk later."""
    files.put(1, 2)
    whole = files.read(2)
    files.write(2, whole[:-1])
    files.begin()
    files.put(3)
    files.write(2, whole)

    assert [1, 3] == files.keys()
    assert 3 == files.recover().next_seq


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1])
def test_a_log_whose_creation_was_cut_off_is_ignored(files, length):
    files.put(1)
    files.rotate()
    files.put(2)
    files.write(3, files.read(3)[:length])
    found = files.recover()

    assert [b"1"] == list(found.memtable.entries)
    assert ([2], 4, False) == ([log.number for log in found.logs], found.next_number, found.has_gap)


def test_a_log_with_a_header_and_no_record_is_part_of_the_chain(files):
    files.put(1)
    files.rotate()
    files.put(2)
    files.write(3, files.read(3)[:HEADER_BYTES])
    assert [(2, files.ends(2)[0], 1, False), (3, HEADER_BYTES, 1, False)] == logs_of(files.recover())
    files.begin()
    files.put(9)

    assert [1, 9] == files.keys()
    assert (3, HEADER_BYTES) == (log(files.storage, 4)[0].prev, log(files.storage, 4)[0].prev_end)


# Damage, told from a torn tail by promises


def test_any_wrong_bit_in_front_of_a_promise_is_damage(files):
    files.put(1, 2)
    files.sync()
    files.put(3)
    whole = files.read(2)
    places = [0, HEADER_BYTES, *files.ends(2)[:2]]
    for offset, damaged in flipped(whole[: places[-1]]):
        files.write(2, damaged + whole[places[-1] :])
        with pytest.raises(CorruptionError) as caught:
            files.recover()
        bad = max(place for place in places if place <= offset)
        assert (f"{PATH}/000002.wal", bad) == (caught.value.path, caught.value.offset)


def test_any_wrong_bit_behind_the_last_promise_is_a_torn_tail(files):
    """Only a mark that says nothing of what is behind it: the sync is over, the next write not yet."""
    files.put(1, 2)
    files.sync()
    synced = len(files.read(2))
    files.put(3, 4)
    whole = files.read(2)
    third = files.ends(2)[3]
    for offset, tail in flipped(whole[synced:]):
        files.write(2, whole[:synced] + tail)
        expected = [1, 2] if synced + offset < third else [1, 2, 3]
        assert expected == files.keys()


def test_a_promise_in_a_later_log_covers_this_one(files):
    files.put(1, 2)
    files.rotate()
    files.put(3)
    files.sync()
    whole, first = files.read(2), files.ends(2)[0]
    for length in range(HEADER_BYTES, len(whole)):
        files.write(2, whole[:length])
        with pytest.raises(
            CorruptionError, match="ends early, though log 3 says that it had been synced"
        ) as caught:
            files.recover()
        bad = HEADER_BYTES if length < first else first
        assert (f"{PATH}/000002.wal", bad) == (caught.value.path, caught.value.offset)


def test_a_log_cut_behind_what_the_next_one_names_is_whole(files):
    files.put(1, 2)
    files.sync()
    end = files.ends(2)[1]
    files.rotate()
    files.put(3)
    files.write(2, files.read(2)[:end])

    assert [1, 2, 3] == files.keys()


def test_a_log_that_had_been_synced_and_is_gone_is_damage(files):
    files.put(1)
    files.rotate()
    files.put(2)
    files.rotate()
    files.put(3)
    files.sync()
    for missing in (2, 3):
        data = files.read(missing)
        files.erase(missing)
        with pytest.raises(
            CorruptionError, match=f"log {missing}, which this one follows, is missing"
        ) as caught:
            files.recover()
        assert f"{PATH}/{missing + 1:06d}.wal" == caught.value.path
        files.write(missing, data)
    assert [1, 2, 3] == files.keys()


def test_header_damage_hides_no_log_that_had_been_synced(files):
    files.put(1)
    files.sync()
    whole = files.read(2)
    for _, header in flipped(whole[:HEADER_BYTES]):
        files.write(2, header + whole[HEADER_BYTES:])
        with pytest.raises(CorruptionError, match="in a log that had been synced") as caught:
            files.recover()
        assert (f"{PATH}/000002.wal", 0) == (caught.value.path, caught.value.offset)


def test_header_damage_of_a_log_that_was_never_synced_is_a_creation_cut_off(files):
    files.put(1)
    whole = files.read(2)
    for _, header in flipped(whole[:HEADER_BYTES]):
        files.write(2, header + whole[HEADER_BYTES:])
        assert [] == files.keys()


def test_a_copy_of_another_log_is_ignored(files):
    files.put(1)
    files.sync()
    files.write(3, files.read(2))

    assert [1] == files.keys()
    assert [2] == [log.number for log in files.recover().logs]


def test_two_logs_with_one_predecessor_are_damage(files):
    files.put(1)
    files.rotate()
    files.put(2)
    header, found = log(files.storage, 3)
    twin = header._replace(number=4)
    files.write(4, twin.encode())
    with pytest.raises(CorruptionError, match="log 3 follows log 2 too") as caught:
        files.recover()

    assert f"{PATH}/000004.wal" == caught.value.path


def test_two_logs_that_begin_the_chain_are_damage(files):
    files.put(1)
    header, _ = log(files.storage, 2)
    files.write(3, header._replace(number=3).encode())
    with pytest.raises(CorruptionError, match="log 2 begins the chain too"):
        files.recover()


def test_a_record_of_a_newer_format_is_refused_by_name(files):
    files.put(1)
    header, found = log(files.storage, 2)
    files.append(2, records._encode(header.seed, 2, 1, 0, b"\x06range"))
    with pytest.raises(
        error, match=rf"000002\.wal, offset {found[0].end}: .*kind 6 .* newer format"
    ) as caught:
        files.recover()

    assert not isinstance(caught.value, CorruptionError)


def test_a_sound_record_with_a_senseless_payload_is_damage(files):
    files.put(1)
    header, found = log(files.storage, 2)
    files.append(2, records._encode(header.seed, 2, 1, 0, b"\x01"))
    with pytest.raises(CorruptionError, match="kind 1 is damaged") as caught:
        files.recover()

    assert found[0].end == caught.value.offset


def test_a_tail_that_looks_like_records_all_over_is_damage_not_an_endless_search(files):
    files.put(1)
    files.append(2, b"\1\0\0\0\1\2\0\0\1\0\0\0\0\0\0\0" * 1250)
    with pytest.raises(CorruptionError, match="too much of the log looks like records") as caught:
        files.recover()

    assert f"{PATH}/000002.wal" == caught.value.path


def test_a_torn_value_full_of_small_numbers_is_a_tail_and_no_damage(files):
    """Each looked like a record with a promise; that no sequence of a log is so large was not looked at."""
    files.put(1)
    files.append(2, b"\1\0\0\0" * 5000)

    assert [1] == files.keys()


# A gap: power was lost, and with it logs in the middle that nobody had been promised


def three_logs(files):
    for key in (1, 2):
        files.put(key)
        files.rotate()
    files.put(3)


@pytest.mark.parametrize("length", [HEADER_BYTES, -1])
def test_later_logs_are_discarded_behind_a_log_that_ends_early(files, length):
    three_logs(files)
    files.write(3, files.read(3)[:length])
    found = files.recover()

    assert ([b"1"], 2, 5) == (list(found.memtable.entries), found.next_seq, found.next_number)
    assert [2, 3] == [log.number for log in found.logs]
    assert (True, True) == (found.has_gap, found.must_flush)


@pytest.mark.parametrize("cut", ["name", "header"])
def test_later_logs_are_discarded_behind_a_log_that_is_lost(files, cut):
    three_logs(files)
    if cut == "name":
        files.erase(3)
    else:
        files.write(3, files.read(3)[:20])
    found = files.recover()

    assert ([b"1"], [2]) == (list(found.memtable.entries), [log.number for log in found.logs])
    assert (True, True) == (found.has_gap, found.must_flush)


def test_without_its_first_log_nothing_of_the_chain_is_left(files):
    three_logs(files)
    files.erase(2)
    found = files.recover()

    assert ({}, [], 1, True) == (found.memtable.entries, found.logs, found.next_seq, found.must_flush)


def test_a_log_that_begins_behind_what_the_tables_hold_begins_no_chain():
    files = Files()
    state = files.manifest._replace(number=5, next_number=6, last_seq=2, min_wal=5)
    files.write(5, manifests.encode(state), "man")
    header = LogHeader(6, 7, first_seq=5, prev=4, prev_end=100, prev_last_seq=4)
    files.write(6, header.encode() + records.encode_put(header.seed, 5, 0, b"5", b"v"))
    found = files.recover()

    assert ({}, True, 3) == (found.memtable.entries, found.has_gap, found.next_seq)


# What is known durable, and what the next opening must not go on from


def test_only_a_log_that_ends_with_its_mark_is_known_durable(files):
    files.put(1)
    assert [False] == [log.is_durable for log in files.recover().logs]
    files.sync()
    assert [True] == [log.is_durable for log in files.recover().logs]
    files.put(2)
    assert [False] == [log.is_durable for log in files.recover().logs]


def test_a_log_that_was_closed_stays_known_durable_with_others_behind_it(files):
    for key in range(3):
        files.put(key)
        files.end()
    files.put(3)

    assert [True, True, True, False] == [log.is_durable for log in files.recover().logs]


def test_a_mark_that_covers_less_than_its_log_makes_it_not_durable(files):
    files.put(1)
    target = files.wal.target()
    target.sync()
    files.put(2)
    files.wal.note_durable(target, mark=True)

    assert [False] == [log.is_durable for log in files.recover().logs]


def test_a_short_chain_is_gone_on_from(files):
    for _ in range(CHAIN_LOGS):
        files.put(1)
        files.end()

    assert (CHAIN_LOGS, False) == (len(files.recover().logs), files.recover().must_flush)
    files.put(1)
    files.end()
    assert (CHAIN_LOGS + 1, True) == (len(files.recover().logs), files.recover().must_flush)


def test_a_long_chain_is_not_gone_on_from(files):
    files.put(1, size=CHAIN_BYTES - 500)
    files.end()
    assert not files.recover().must_flush
    files.put(2, size=500)
    files.end()

    assert (True, False) == (files.recover().must_flush, files.recover().has_gap)
    assert files.recover().log_bytes > CHAIN_BYTES


def test_a_manifest_with_older_ones_beside_it_is_suspect():
    """A process was killed in its install: what it read back was perhaps never synced."""
    files = Files(last_seq=5)
    assert (False, False) == (files.recover().is_suspect, files.recover().must_flush)
    state = files.manifest._replace(number=7, next_number=9)
    files.write(7, manifests.encode(state), "man")
    assert (True, True) == (files.recover().is_suspect, files.recover().must_flush)
    files.erase(1, "man")
    assert not files.recover().is_suspect
    files.write(8, b"cut off", "man")
    assert not files.recover().is_suspect


def test_the_first_manifest_is_suspect_until_a_log_had_been_synced(files):
    assert files.recover().is_suspect
    files.put(1)
    assert files.recover().is_suspect
    files.sync()
    assert not files.recover().is_suspect
    files.begin()
    files.put(2)
    assert not files.recover().is_suspect


# Recovery itself


def test_recovery_reads_and_nothing_else(seed):
    for number in range(30):
        storage = worn(random.Random(f"{seed} recovery {number}"))
        directory = storage.directory(PATH, 0o666)
        before, start = storage.contents(PATH), storage.count
        first = recover(directory)
        second = recover(directory)

        assert {operation for operation, _ in storage.calls[start:]} <= READS
        assert before == storage.contents(PATH)
        assert facts(first) == facts(second)


def worn(rng):
    """Return a storage that some openings wrote to; the last one may have been killed or lost its power."""
    storage = CrashStorage(rng.random())
    for _ in range(3):
        store = open_store(storage, durability=rng.choice(("none", "process", "full")))
        for _ in range(rng.randrange(60)):
            store.put(b"%d" % rng.randrange(30), rng.randbytes(rng.randrange(60)))
        if rng.random() < 0.2:
            store.clear()
        crashed = storage.crash(rng.choice(("kill", "strict", "torn")), rng)
        close(storage, store)
        storage = rng.choice((storage, crashed))
    return storage


def facts(found):
    return (
        *(found.manifest, found.version.levels, found.memtable.entries, found.memtable.charge),
        *(found.next_seq, found.next_number, logs_of(found), found.log_bytes),
        *(found.has_gap, found.is_cleared, found.must_flush, found.prev),
    )


def test_what_a_store_wrote_is_recovered(seed):
    storage = worn(random.Random(f"{seed} again"))
    store = open_store(storage)
    store.put(b"key", b"value")
    expected = entries(store)
    killed = storage.crash("kill")
    close(storage, store)

    store = open_store(killed)
    assert expected == entries(store)
    close(killed, store)


@pytest.mark.parametrize("operation", ["listdir", "open", "size", "pread", "length"])
def test_an_error_of_the_system_comes_out_as_it_is(operation):
    storage = CrashStorage()
    store = open_store(storage)
    for key in range(40):
        store.put(b"%d" % key, bytes(50))
    store.flush()
    store.put(b"last", b"")
    close(storage, store)
    directory = storage.directory(PATH, 0o666)
    start = storage.count
    recover(directory)
    found = [place for place, (name, _) in enumerate(storage.calls[start:]) if name == operation]
    assert found
    for place in found:
        storage.fault(storage.count + place, errno.EIO)
        with pytest.raises(error, match="Input/output error") as caught:
            recover(directory)
        assert not isinstance(caught.value, CorruptionError)
        storage.heal()


@pytest.mark.parametrize("kind", ["man", "wal"])
def test_a_file_that_is_gone_when_it_is_opened_is_not_found(files, kind):
    """A writer elsewhere was faster; a reader begins again."""
    files.put(1)

    def erase(index, operation, path):
        if operation == "open" and path.endswith(kind):
            files.storage.erase(path)

    files.storage.on_call = erase
    with pytest.raises(NotFoundError):
        files.recover()
