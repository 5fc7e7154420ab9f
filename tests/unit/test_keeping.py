"""Which logs are kept for those who follow."""

import pytest

from lsmdbm._engine import keeping
from lsmdbm._engine.keeping import KeptLogs
from lsmdbm._engine.log import Log
from lsmdbm._format.manifest import NO_LOG
from support.crash_storage import CrashStorage
from support.engine import PATH, current, names, new_directory, open_store


@pytest.fixture(autouse=True)
def small_logs(monkeypatch):
    monkeypatch.setattr(keeping, "LEAST_BYTES", 100)


def logs(*sizes):
    return [Log(number, size, number) for number, size in enumerate(sizes, 1)]


@pytest.mark.parametrize(
    ("keep_bytes", "sizes", "gone"),
    [
        (0, (500, 500), [1, 2]),
        (1, (500, 500), [1]),
        (500, (500, 500), [1]),
        (501, (500, 500), []),
        (1000, (500, 500, 500), [1]),
        (200, (1, 1, 1, 1), [1, 2]),  # each counts as 100
        (10_000, (1, 1, 1, 1), []),
        (1, (), []),
    ],
)
def test_the_oldest_go_as_long_as_those_behind_them_hold_enough(keep_bytes, sizes, gone):
    kept = KeptLogs(new_directory(CrashStorage()), keep_bytes)
    kept.add(logs(*sizes))

    assert gone == kept.surplus()
    assert [number for number in range(1, len(sizes) + 1) if number not in gone] == list(kept)
    assert [] == kept.surplus()


def test_a_manifest_names_the_newest_of_them():
    directory = new_directory(CrashStorage())
    kept, none = KeptLogs(directory, 1), KeptLogs(directory, 0)

    assert (2, 70, 2) == kept.newest(logs(60, 70), (1, 60, 1))
    assert (1, 60, 1) == kept.newest([], (1, 60, 1))
    assert NO_LOG == none.newest(logs(60, 70), (1, 60, 1))
    assert (True, False) == (kept.are_wanted, none.are_wanted)


def test_an_opening_finds_those_of_earlier_ones_and_nothing_else():
    storage = CrashStorage()
    store = open_store(storage, log_keep_bytes=250)
    for number in range(6):
        store.put(b"%d" % number, b"value")
        store.flush()
    store.close()
    before = names(storage, "wal")
    assert 3 == len(before)
    newest = current(storage).prev_log[0]
    assert f"{newest:06d}.wal" == before[-1]
    storage.plant(f"{PATH}/000001.wal", b"of before")  # its unlinking was lost with the power
    storage.plant(f"{PATH}/{newest + 1:06d}.wal", b"cut off when it was made")

    store = open_store(storage)
    store.put(b"more", b"value")
    assert before == names(storage, "wal")[:-1]
    store.flush()
    assert before[1:] == names(storage, "wal")[:-1]
    store.close()
