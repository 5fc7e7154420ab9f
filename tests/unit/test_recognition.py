"""Recognition: what is one of our databases, on the storage that counts its calls."""

import errno

import pytest

from lsmdbm._engine.recognition import MAGICS, is_ours
from lsmdbm.database import open_on
from support.crash_storage import READS, CrashStorage

PATH = "/db"


@pytest.fixture
def storage():
    return CrashStorage()


def plant(storage, **files):
    storage.mkdir(PATH, 0o777)
    for name, data in files.items():
        storage.plant(f"{PATH}/{name.lstrip('_').replace('__', '-').replace('_', '.')}", data)


def database(storage):
    with open_on(storage, PATH, "c", 0o666, {}) as db:
        db["a"] = "1"
        db.flush()
        db["b"] = "2"


OTHERS = {
    "nothing": lambda storage: None,
    "a file": lambda storage: storage.plant(PATH, b"LSMM"),
    "an empty directory": plant,
    "a directory not born": lambda storage: plant(storage, LOCK=b"pid 1\n"),
    "a directory of notes": lambda storage: plant(storage, notes_txt=b"LSMM"),
    "a RocksDB": lambda storage: plant(
        storage, LOCK=b"", CURRENT=b"MANIFEST-000004\n", MANIFEST__000004=b"LSMM", _000012_sst=b"\0table"
    ),
    "empty files under our names": lambda storage: plant(
        storage, _000001_man=b"", _000002_wal=b"", _000003_sst=b""
    ),
    "magics in files of another kind": lambda storage: plant(
        storage, _000001_man=b"LSMW", _000002_wal=b"LSMT", _000003_sst=b"LSMM"
    ),
    "magics cut short": lambda storage: plant(
        storage, _000001_man=b"LSM", _000002_wal=b"LSM", _000003_sst=b"LSM"
    ),
    "magics in names with too few digits": lambda storage: plant(storage, _00001_man=b"LSMM"),
}
OURS = {
    "a database": database,
    "a newer format": lambda storage: plant(storage, _000001_man=b"LSMM\xff\xff\xff\xff"),
    "a manifest cut off": lambda storage: plant(storage, LOCK=b"", _000001_man=b"LSMM"),
    "a log alone": lambda storage: plant(storage, _000007_wal=b"LSMW"),
    "a table alone": lambda storage: plant(storage, _1234567_sst=b"LSMT and damage"),
    "the only sound file behind many": lambda storage: plant(
        storage,
        notes_txt=b"",
        _000009_man=b"",
        _000008_man=b"?",
        _000003_wal=b"",
        _000001_sst=b"",
        _000002_sst=b"LSMT",
        _000004_sst=b"?",
    ),
}


@pytest.mark.parametrize("place", OTHERS)
def test_what_is_not_ours_is_not_recognised(storage, place):
    OTHERS[place](storage)

    assert not is_ours(storage, PATH)


@pytest.mark.parametrize("place", OURS)
def test_what_is_ours_is_recognised_however_damaged(storage, place):
    OURS[place](storage)

    assert is_ours(storage, PATH)


@pytest.mark.parametrize("place", [*OTHERS, *OURS])
def test_recognition_only_reads_and_gives_the_directory_back(storage, place, monkeypatch):
    {**OTHERS, **OURS}[place](storage)
    open_directory, opened = storage.directory, []
    monkeypatch.setattr(
        storage, "directory", lambda *given: opened.append(open_directory(*given)) or opened[-1]
    )
    before = storage.count

    is_ours(storage, PATH)
    assert {operation for operation, _ in storage.calls[before:]} <= READS
    assert all(directory._closed for directory in opened)


@pytest.mark.parametrize("times", [1, 3])
def test_a_writer_that_replaces_everything_between_listing_and_look_is_recognised(storage, times):
    """It was taken for no database, and with register() a stock module made another one beside it."""
    with open_on(storage, PATH, "c", 0o666, {"background": "manual"}) as db:
        db["a"] = "1"
        db.flush()
        replaced = []

        def replace(index, operation, path):
            if operation == "peek" and path.endswith(".man") and len(replaced) < times:
                replaced.append(path)
                db["a"] = "1"
                db.compact()
                assert path.rpartition("/")[2] not in storage.contents(PATH)

        storage.on_call = replace
        assert is_ours(storage, PATH)
        storage.on_call = None
        assert times == len(replaced)


def test_a_sound_database_costs_one_small_read(storage):
    database(storage)
    before = storage.count

    assert is_ours(storage, PATH)
    assert ["kind", "directory", "listdir", "peek"] == [operation for operation, _ in storage.calls[before:]]


@pytest.mark.parametrize("call", range(4))
def test_what_cannot_be_read_is_not_recognised_and_no_error(storage, call):
    database(storage)
    storage.fault(storage.count + call, errno.EACCES, later=["peek"] if call == 3 else [])

    assert not is_ours(storage, PATH)


def test_every_kind_of_numbered_file_has_a_magic_of_its_own():
    assert {"man", "wal", "sst"} == set(MAGICS)
    assert len(MAGICS) == len(set(MAGICS.values()))
