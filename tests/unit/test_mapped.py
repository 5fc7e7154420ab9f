"""Which logs are mapped, and how large they are made."""

import errno

import pytest

from lsmdbm._base.errors import error
from lsmdbm._engine import mapped
from lsmdbm._engine.mapped import FIRST_LOG_BYTES, NO_LIMIT, Mapper, mapper_for
from lsmdbm._format.records import MARK_BYTES
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.engine import new_directory

KIB, MOST = 1 << 10, 16 << 20


@pytest.fixture
def storage():
    return CrashStorage()


@pytest.fixture
def directory(storage):
    return new_directory(storage)


def test_auto_maps_where_it_is_safe_and_of_use(storage, directory, monkeypatch):
    assert mapper_for("auto", directory) is not None
    monkeypatch.setattr(mapped, "has_gil", lambda: False)
    assert mapper_for("auto", directory) is None
    assert mapper_for("mmap", directory) is not None
    monkeypatch.undo()
    storage.unmappable = "the file system is 9p"
    assert mapper_for("auto", directory) is None


def test_pwrite_asks_nobody(storage, directory):
    before = storage.count

    assert (None, before) == (mapper_for("pwrite", directory), storage.count)


@pytest.mark.parametrize(("flags", "expected"), [("", True), ("t", False), ("dt", False), (None, True)])
def test_a_python_without_a_gil_says_so(monkeypatch, flags, expected):
    monkeypatch.delattr(mapped.sys, "abiflags", raising=False)
    if flags is not None:
        monkeypatch.setattr(mapped.sys, "abiflags", flags, raising=False)

    assert expected == mapped.has_gil()


def lengths(directory, *ends, most=MOST, enough=NO_LIMIT):
    """Return the lengths of logs made one after the other, by where their first record ends."""
    mapper, found = Mapper(enough), []
    for end in ends:
        file = directory.create("log")
        directory.unlink("log")
        limit = mapper.map(file, end, most)
        assert end <= limit
        assert limit in (end, file.size() - MARK_BYTES)
        found.append(file.size() // KIB)
    return found


def test_each_log_is_twice_as_large_as_the_one_before_up_to_the_limit(directory):
    assert [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 16384] == lengths(directory, *[100] * 10)


def test_no_log_is_larger_than_what_a_memtable_takes_but_for_a_record_that_is(directory):
    ends = [100] * 4 + [600 * KIB] + [100] * 2

    assert [64, 128, 192, 192, 1024, 192, 192] == lengths(directory, *ends, enough=150 * KIB)
    assert [64, 64] == lengths(directory, 100, 100, enough=1)


@pytest.mark.parametrize("background", ["inline", "process"])
def test_a_small_memtable_makes_small_logs(storage, background):
    """A cache of 1 MiB took 17 of them."""
    options = {"log_io": "mmap", "background": background, "memtable_bytes": 100_000}
    found = set()
    with open_on(storage, "/db", "n", 0o600, options) as db:
        for number in range(100):
            db[f"{number:02}"] = bytes(20_000)
            found |= {len(data) // KIB for name, data in storage.contents("/db").items() if "wal" in name}

    assert 128 == max(found)


def test_a_log_has_room_for_its_first_record_and_a_mark(directory):
    fits = 64 * KIB - MARK_BYTES

    assert [64] == lengths(directory, fits)
    assert [128, 256] == lengths(directory, fits + 1, 100)
    assert [1024, 2048] == lengths(directory, 600 * KIB, 100)
    assert [16384] == lengths(directory, MOST - MARK_BYTES)


def test_what_no_log_can_hold_is_not_mapped_and_the_next_one_is_of_the_size_that_was_due(directory):
    assert [64, 0, 128] == lengths(directory, 100, MOST - MARK_BYTES + 1, 100)
    assert [0, 0] == lengths(directory, 300, 250, most=300)


def test_where_there_is_no_room_for_the_log_that_is_due_the_smallest_will_do(storage, directory):
    mapper = Mapper()
    for number in range(4):
        mapper.map(directory.create(f"{number}"), 100, MOST)
    file = directory.create("4")
    storage.fault(storage.count, errno.ENOSPC, "partial")
    limit = mapper.map(file, 70 * KIB, MOST)

    assert 128 * KIB - MARK_BYTES == limit
    assert [64, 128, 256, 512, 512] == [
        len(data) // KIB for _, data in sorted(storage.contents("/db").items())
    ]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_and_gets_back_what_there_was(storage, directory, code):
    file = directory.create("1")
    storage.fault(storage.count, code, "partial")
    with pytest.raises(error) as caught:
        Mapper().map(file, 100, MOST)

    assert (code, 0) == (caught.value.errno, file.size())


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EMFILE, errno.ENOMEM, errno.EIO])
def test_what_cannot_be_mapped_for_another_reason_is_written_by_system_calls(storage, directory, code):
    file = directory.create("1")
    storage.fault(storage.count, code, "partial")
    assert NO_LIMIT == Mapper().map(file, 100, MOST)
    file.pwrite(b"x", 0)

    assert ("pwrite", 1) == (storage.calls[-1][0], file.size())


def test_room_that_is_not_given_back_does_no_harm(storage, directory):
    file = directory.create("1")
    storage.fault(storage.count, errno.EMFILE, "partial", later={"truncate"})
    assert NO_LIMIT == Mapper().map(file, 100, MOST)

    assert FIRST_LOG_BYTES // 2 == file.size()


def test_a_log_whose_mapping_was_interrupted_is_mapped_anew(directory):
    """It may have been mapped for a smaller record than the one that comes now."""
    file = directory.create("1")
    Mapper().map(file, 100, 300)
    limit = Mapper().map(file, 70 * KIB, MOST)
    file.pwrite(b"x", limit - 1)
    assert 128 * KIB == file.size()

    Mapper().map(file, 500, 300)
    file.pwrite(b"x", 200 * KIB)
