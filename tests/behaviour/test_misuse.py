"""What is no way to use a database, and what it says then."""

import copy
import errno
import gc
import itertools
import os
import pickle
import zlib

import pytest

import lsmdbm
import lsmdbm.bulk
from lsmdbm._base.chunk import MAX_KEY_BYTES, MAX_VALUE_BYTES
from lsmdbm._base.options import DEFAULTS
from lsmdbm._engine.names import file_name
from lsmdbm._format.coding import FORMAT_VERSION
from lsmdbm._format.footer import FOOTER_BYTES
from lsmdbm._format.manifest import decode
from lsmdbm._format.records import HEADER_BYTES
from lsmdbm.cache import Cache
from support.format import patched, seed_of, u32, u64, with_crc

pytestmark = pytest.mark.usefixtures("no_syncs")

CLOSED = "DBM object has already been closed"
READ_ONLY = "The database is opened for reading only"


def drain(iterable):
    for _ in iterable:
        pass


def held(opened, operation):
    """Do something within a `with`."""
    with opened as manager:
        return operation(manager)


def outcomes(operations, *arguments):
    """Return what each of some operations raises: class and text; None if it does not."""
    found = {}
    for name, operation in operations.items():
        try:
            operation(*arguments)
            found[name] = None
        except Exception as exc:
            found[name] = type(exc), str(exc)
    return found


READS = {
    "getitem": lambda db: db["a"],
    "getitem of a missing key": lambda db: db.get("missing"),
    "contains": lambda db: "a" in db,
    "get": lambda db: db.get("a"),
    "len": len,
    "bool": bool,
    "iter": iter,
    "reversed": reversed,
    "iterkeys": lambda db: db.iterkeys(),
    "keys": lambda db: db.keys(),
    "values": lambda db: db.values(),
    "items": lambda db: db.items(),
    "range": lambda db: db.range("a"),
    "firstkey": lambda db: db.firstkey(),
    "lastkey": lambda db: db.lastkey(),
    "nextkey": lambda db: db.nextkey("a"),
    "prevkey": lambda db: db.prevkey("b"),
    "eq": lambda db: db == {},
    "get_many": lambda db: db.get_many(["a"]),
    "first": lambda db: db.first(),
    "approximate_size": lambda db: db.approximate_size("a"),
    "last": lambda db: db.last(),
    "snapshot": lambda db: db.snapshot().close(),
    "stats": lambda db: db.stats(),
    "sync": lambda db: db.sync(),
    "setdefault of a present key": lambda db: db.setdefault("a", "2"),
    "pop of a missing key with a default": lambda db: db.pop("missing", None),
}
WRITES = {
    "setitem": lambda db: db.__setitem__("a", "2"),
    "delitem": lambda db: db.__delitem__("a"),
    "delitem of a missing key": lambda db: db.__delitem__("missing"),
    "setdefault of a new key": lambda db: db.setdefault("missing", "2"),
    "pop": lambda db: db.pop("a"),
    "pop with a default": lambda db: db.pop("a", None),
    "pop of a missing key": lambda db: db.pop("missing"),
    "popitem": lambda db: db.popitem(),
    "update": lambda db: db.update(a="2"),
    "update with nothing": lambda db: db.update(),
    "batch": lambda db: db.batch(),
    "increment": lambda db: db.increment("a"),
    "delete_range": lambda db: db.delete_range("a", "b"),
    "delete of a range": lambda db: db.range("a").delete(),
    "clear": lambda db: db.clear(),
    "flush": lambda db: db.flush(),
    "compact": lambda db: db.compact(),
    "reorganize": lambda db: db.reorganize(),
}
EVERYTHING = {**READS, **WRITES}
WITH_KEY = {
    "getitem": lambda db, key: db[key],
    "contains": lambda db, key: key in db,
    "get": lambda db, key: db.get(key),
    "get with a default": lambda db, key: db.get(key, 1),
    "nextkey": lambda db, key: db.nextkey(key),
    "prevkey": lambda db, key: db.prevkey(key),
    "contains of a range": lambda db, key: key in db.range(),
    "getitem of a range": lambda db, key: db.range()[key],
    "get of a range": lambda db, key: db.range().get(key),
    "setitem": lambda db, key: db.__setitem__(key, "1"),
    "delitem": lambda db, key: db.__delitem__(key),
    "pop": lambda db, key: db.pop(key),
    "pop with a default": lambda db, key: db.pop(key, 1),
    "setdefault": lambda db, key: db.setdefault(key, "1"),
    "update": lambda db, key: db.update([("b", "2"), (key, "1")]),
    "getitem of a snapshot": lambda db, key: held(db.snapshot(), lambda moment: moment[key]),
    "get of a snapshot": lambda db, key: held(db.snapshot(), lambda moment: moment.get(key)),
    "contains of a snapshot": lambda db, key: held(db.snapshot(), lambda moment: key in moment),
    "increment": lambda db, key: db.increment(key),
    "put into a batch": lambda db, key: held(db.batch(), lambda batch: batch.put(key, "1")),
    "delete in a batch": lambda db, key: held(db.batch(), lambda batch: batch.delete(key)),
}
WITH_VALUE = {
    "setitem": lambda db, value: db.__setitem__("new", value),
    "setdefault": lambda db, value: db.setdefault("new", value),
    "update": lambda db, value: db.update({"new": value}),
    "update by name": lambda db, value: db.update(new=value),
    "put into a batch": lambda db, value: held(db.batch(), lambda batch: batch.put("new", value)),
    "update of a batch": lambda db, value: held(db.batch(), lambda batch: batch.update(new=value)),
}
NO_DATA = [None, 1, 1.5, True, ["a"], ("a",), {"a": "b"}, object()]


@pytest.fixture(params=["in memory", "on disk"])
def filled(request, db):
    """A database with the entry a: 1."""
    db["a"] = "1"
    if request.param == "on disk":
        db.flush()
    return db


# -- types and limits -------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", NO_DATA, ids=repr)
def test_a_key_of_a_wrong_type_is_a_type_error_everywhere(filled, wrong):
    refused = TypeError, f"key must be str or bytes-like, not {type(wrong).__name__}"

    assert dict.fromkeys(WITH_KEY, refused) == outcomes(WITH_KEY, filled, wrong)
    assert b"1" == filled["a"]


@pytest.mark.parametrize("wrong", NO_DATA, ids=repr)
def test_a_value_of_a_wrong_type_is_a_type_error_and_nothing_is_written(filled, wrong):
    refused = TypeError, f"value must be str or bytes-like, not {type(wrong).__name__}"

    assert dict.fromkeys(WITH_VALUE, refused) == outcomes(WITH_VALUE, filled, wrong)
    assert {b"a": b"1"} == dict(filled)


def test_a_lone_surrogate_is_an_encoding_error_and_nothing_is_written(filled):
    for operation in (*WITH_KEY.values(), *WITH_VALUE.values()):
        with pytest.raises(UnicodeEncodeError):
            operation(filled, "\ud800")
        filled.pop("b", None)  # which the update had before
        assert {b"a": b"1"} == dict(filled)


@pytest.mark.parametrize("wrong", [1, 1.5, ["a"], object()], ids=repr)
def test_a_bound_of_a_wrong_type_is_a_type_error(filled, wrong):
    for mapping, name in itertools.product((filled, filled.range()), ("start", "stop", "prefix")):
        with pytest.raises(TypeError, match=f"^{name} must be str or bytes-like"):
            mapping.range(**{name: wrong})


def test_the_longest_key_is_stored_and_a_longer_one_is_refused_before_anything_is_written(path):
    longest, longer = b"k" * MAX_KEY_BYTES, b"k" * (MAX_KEY_BYTES + 1)
    with lsmdbm.open(path, "c") as db:
        for write in (
            lambda: db.__setitem__(longer, "1"),
            lambda: db.setdefault(longer, "1"),
            lambda: db.update({longer: "1"}),
        ):
            with pytest.raises(ValueError, match=f"key of {len(longer)} bytes: the limit is {len(longest)}"):
                write()
        assert ([], None, False, None) == (db.keys(), db.get(longer), longer in db, db.pop(longer, None))
        with pytest.raises(KeyError):
            del db[longer]
        db[longest] = "1"
        assert (longest, b"1") == (db.firstkey(), db[longest])
        db.flush()
        assert (None, longest) == (db.nextkey(longest), db.prevkey(longer))
    with lsmdbm.open(path) as db:
        assert {longest: b"1"} == dict(db)


class Pretending(bytes):
    """A value that says it is too long: nobody has a gigabyte to spare for a test."""

    def __len__(self):
        return MAX_VALUE_BYTES + 1


def test_a_value_over_the_limit_is_refused_before_anything_is_written(db, monkeypatch):
    for place in ("lsmdbm._base.chunk", "lsmdbm.database"):
        monkeypatch.setattr(f"{place}.MAX_VALUE_BYTES", 1000)
    for operation in WITH_VALUE.values():
        with pytest.raises(ValueError, match="value of 1001 bytes: the limit is 1000"):
            operation(db, "v" * 1001)
        operation(db, "v" * 1000)
        assert [b"v" * 1000] == [*db.values()]
        db.clear()
    assert 1 << 30 == MAX_VALUE_BYTES


# -- options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "memtable", "MEMTABLE_BYTES", "writeback", "Durability"])
def test_an_unknown_option_is_a_type_error_and_nothing_happens(path, name):
    for flag in "rwcn":
        with pytest.raises(TypeError, match=rf"open\(\) got an unexpected keyword argument '{name}'"):
            lsmdbm.open(path, flag, **{name: 1})
        assert not os.path.exists(path)


BAD = {
    "durability": ["", "FULL", None, True, 0],
    "sync_interval": [-1, "1", None, float("inf"), float("nan")],
    "timeout": [-0.1, "1", None],
    "memtable_bytes": [0, -1, 1.5, "8M", None, 1 << 40],
    "block_bytes": [0, True, 1 << 30],
    "compression": ["", "gzip", 1, True],
    "compression_level": [20, 1.0, None],
    "dictionaries": [1, "zstd", None],
    "bloom_bits_per_key": [-1, 17, None],
    "cache_bytes": [-1, 1.0],
    "compaction": ["", None, "none"],
    "max_bytes": [0, -1, 1.5, "1G", True],
    "background": ["", None, True],
    "log_io": ["", None],
    "log_keep_bytes": [-1, 1.5, "64M", None, True, 1 << 63],
    "max_open_files": [0, None],
    "verify_on_open": [0, 1, None, "yes"],
}


def test_every_option_is_among_the_bad_ones():
    assert set(DEFAULTS) == set(BAD)


def test_a_slice_is_no_key_and_the_error_says_what_is(path):
    with lsmdbm.open(path, "n") as db, pytest.raises(TypeError, match=r"not slice; .* range\(start, stop\)$"):
        db["a":"c"]


MAKERS = {
    "open": lambda path, mode: lsmdbm.open(path, "c", mode),
    "bulk_load": lambda path, mode: lsmdbm.bulk.bulk_load(path, [(b"k", b"v")], mode=mode),
    "TableWriter": lambda path, mode: lsmdbm.bulk.TableWriter(path, mode=mode),
    "import_dbm": lambda path, mode: lsmdbm.import_dbm({b"k": b"v"}, path, mode=mode),
    "Cache": lambda path, mode: Cache(path, max_bytes=1 << 30, mode=mode),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_mode_in_letters_makes_nothing(path, maker):
    with pytest.raises(TypeError, match="^mode must be an int, not str$"):
        MAKERS[maker](path, "0600")
    assert not os.path.lexists(path)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("mode", [-1, 0o200000, 1 << 40])
def test_a_mode_that_no_file_can_have_makes_nothing(path, mode, maker):
    with pytest.raises(ValueError, match=f"^mode={mode:#o}: must be from 0 to 0o177777$"):
        MAKERS[maker](path, mode)
    assert not os.path.lexists(path)


def test_the_mode_of_another_file_is_a_mode(path):
    with lsmdbm.open(path, "c", os.stat(__file__).st_mode) as db:
        db[b"k"] = b"v"
        assert b"v" == db[b"k"]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_by_name_and_nothing_happens(path, name):
    for value, flag in itertools.product(BAD[name], "rwcn"):
        with pytest.raises(ValueError, match=f"^option {name}={value!r}: must be "):
            lsmdbm.open(path, flag, **{name: value})
        assert not os.path.exists(path)


def test_options_have_no_positions(path):
    with pytest.raises(TypeError):
        lsmdbm.open(path, "c", 0o666, "full")


# -- closed -----------------------------------------------------------------------------------------


def test_a_closed_handle_refuses_everything(filled):
    filled.close()
    filled.close()

    assert dict.fromkeys(EVERYTHING, (lsmdbm.ClosedError, CLOSED)) == outcomes(EVERYTHING, filled)


@pytest.mark.parametrize("flag", "rw")
def test_closed_comes_before_read_only_and_wrong_types(path, flag):
    with lsmdbm.open(path, "c"):
        pass
    db = lsmdbm.open(path, flag)
    db.close()

    assert dict.fromkeys(EVERYTHING, (lsmdbm.ClosedError, CLOSED)) == outcomes(EVERYTHING, db)
    of_database = {name: operation for name, operation in WITH_KEY.items() if "range" not in name}
    assert dict.fromkeys(of_database, (lsmdbm.ClosedError, CLOSED)) == outcomes(of_database, db, None)


READS_OF_A_RANGE = {
    "len": len,
    "bool": bool,
    "iter": drain,
    "getitem": lambda part: part["a"],
    "getitem out of bounds": lambda part: part["z"],
    "contains": lambda part: "a" in part,
    "contains out of bounds": lambda part: "z" in part,
    "first": lambda part: part.first(),
    "last": lambda part: part.last(),
    "reversed": lambda part: drain(reversed(part)),
    "keys": lambda part: drain(part.keys()),
    "values": lambda part: drain(part.values()),
    "items": lambda part: drain(part.items()),
    "len of items": lambda part: len(part.items()),
    "eq": lambda part: part == {},
    "range": lambda part: drain(part.range("a")),
}


@pytest.mark.parametrize("stop", ["b", "a"])
def test_a_range_ends_with_its_handle(filled, stop):
    part = filled.range("a", stop)
    filled.close()

    assert dict.fromkeys(READS_OF_A_RANGE, (lsmdbm.ClosedError, CLOSED)) == outcomes(READS_OF_A_RANGE, part)


ITERATORS = {
    "iter": iter,
    "reversed": reversed,
    "iterkeys": lambda db: db.iterkeys(),
    "values": lambda db: iter(db.values()),
    "items": lambda db: iter(db.items()),
    "reversed items": lambda db: reversed(db.items()),
    "range": lambda db: iter(db.range("1")),
    "reversed values of a range": lambda db: reversed(db.range(stop="9").values()),
}


@pytest.mark.parametrize("iterate", ITERATORS)
@pytest.mark.parametrize("place", ["in memory", "on disk", "shared", "read only"])
def test_an_iterator_that_outlives_its_handle_says_so_at_its_very_next_step(path, iterate, place):
    with lsmdbm.open(path, "c", block_bytes=64) as db:
        db.update((f"{number:04d}", "v" * 10) for number in range(1000, 1100))
        if place == "on disk":
            db.flush()
    other = lsmdbm.open(path, "w") if place == "shared" else None

    for steps in (0, 1, 2, 15, 16, 17, 40, 99):
        with lsmdbm.open(path, "r" if place == "read only" else "w") as db:
            iterator = ITERATORS[iterate](db)
            drain(itertools.islice(iterator, steps))
        with pytest.raises(lsmdbm.ClosedError, match=CLOSED):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)
    if other is not None:
        assert 100 == len(other.keys())
        other.close()


def test_closing_one_handle_leaves_the_iterators_of_another_alone(path):
    with lsmdbm.open(path, "c") as first:
        first.update((str(number), "v") for number in range(100, 200))
        with lsmdbm.open(path, "r") as second:
            mine, other = iter(first), iter(second)
            assert next(mine) == next(other)
        assert 99 == len([*mine])
        with pytest.raises(lsmdbm.ClosedError):
            next(other)


# -- read only --------------------------------------------------------------------------------------


@pytest.fixture(params=["alone", "beside a writer"])
def read_only(request, path):
    """A read-only handle on a database with the entry a: 1."""
    writer = lsmdbm.open(path, "c")
    writer["a"] = "1"
    if request.param == "alone":
        writer.close()
    with lsmdbm.open(path, "r") as db:
        yield db
    writer.close()


def test_a_read_only_handle_refuses_every_write(read_only):
    assert dict.fromkeys(WRITES, (lsmdbm.ReadOnlyError, READ_ONLY)) == outcomes(WRITES, read_only)
    assert {b"a": b"1"} == dict(read_only)


def test_a_read_only_handle_allows_every_read(read_only):
    assert dict.fromkeys(READS, None) == outcomes(READS, read_only)
    assert {b"a": b"1"} == dict(read_only)


@pytest.mark.parametrize("operation", ["setitem", "delitem", "update"])
def test_read_only_comes_before_wrong_types(read_only, operation):
    with pytest.raises(lsmdbm.ReadOnlyError):
        WITH_KEY[operation](read_only, None)


# -- what is there is not what it must be -----------------------------------------------------------


def test_a_file_and_a_foreign_directory_are_no_database_and_say_which(tmp_path):
    file, directory = tmp_path / "file", tmp_path / "directory"
    file.write_bytes(b"text")
    directory.mkdir()
    (directory / "notes.txt").write_text("text")

    for flag in "rwc":
        for path in (file, directory):
            with pytest.raises(lsmdbm.error, match="not a database") as caught:
                lsmdbm.open(path, flag)
            assert lsmdbm.error is type(caught.value)
            assert str(path) in str(caught.value)
    with pytest.raises(lsmdbm.error, match="not a database"):
        lsmdbm.open(directory, "n")
    assert (b"text", "text") == (file.read_bytes(), (directory / "notes.txt").read_text())


def edit(path, change):
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(change(data))


def newest_manifest(path):
    number = max(int(name[:6]) for name in os.listdir(path) if name.endswith(".man"))
    name = os.path.join(path, file_name(number, "man"))
    with open(name, "rb") as file:
        return name, number, decode(file.read(), number)


NEWER = FORMAT_VERSION + 1


def newer_manifest(path):
    name, number, _ = newest_manifest(path)
    tail = 4 + len(b"LSMMEND.")

    def change(data):
        body = patched(data[:-tail], 4, u32(NEWER) + u32(NEWER))
        return with_crc(body, with_seed(number)) + b"LSMMEND."

    edit(name, change)
    return name


def manifest_with_a_feature(path):
    name, number, _ = newest_manifest(path)
    tail = 4 + len(b"LSMMEND.")
    edit(
        name, lambda data: with_crc(patched(data[:-tail], 12, u32(1 << 31)), with_seed(number)) + b"LSMMEND."
    )
    return name


def with_seed(number):
    """The checksum seed of a manifest."""
    return zlib.crc32(u64(number))


def newer_table(path):
    name, number, manifest = newest_manifest(path)
    table = os.path.join(path, file_name(manifest.levels[0][0].number, "sst"))
    before = []

    def change(data):
        fields = data[-FOOTER_BYTES : -len(b"LSMTABLE") - 4]
        before.append(data[-len(b"LSMTABLE") - 4 : -len(b"LSMTABLE")])
        return data[:-FOOTER_BYTES] + with_crc(patched(fields, len(fields) - 20, u32(NEWER))) + b"LSMTABLE"

    edit(table, change)
    with open(table, "rb") as file:
        after = file.read()[-len(b"LSMTABLE") - 4 : -len(b"LSMTABLE")]
    tail = 4 + len(b"LSMMEND.")
    edit(name, lambda data: with_crc(data[:-tail].replace(before[0], after), with_seed(number)) + b"LSMMEND.")
    return table


def log_of(path):
    (name,) = (name for name in os.listdir(path) if name.endswith(".wal"))
    return os.path.join(path, name)


def newer_log(path):
    edit(
        log_of(path),
        lambda data: with_crc(patched(data[: HEADER_BYTES - 4], 4, u32(NEWER))) + data[HEADER_BYTES:],
    )
    return log_of(path)


def log_with_an_unknown_record(path):
    def change(data):
        number, salt = int.from_bytes(data[8:16], "little"), int.from_bytes(data[16:24], "little")
        length = int.from_bytes(data[HEADER_BYTES + 4 : HEADER_BYTES + 8], "little")
        record = patched(data[HEADER_BYTES + 4 : HEADER_BYTES + 24 + length], 20, b"\x09")
        crc = zlib.crc32(record, seed_of(number, salt))
        return data[:HEADER_BYTES] + u32(crc) + record + data[HEADER_BYTES + 24 + length :]

    edit(log_of(path), change)
    return log_of(path)


FILES = [newer_manifest, manifest_with_a_feature, newer_table, newer_log, log_with_an_unknown_record]


@pytest.mark.parametrize("make_newer", FILES)
@pytest.mark.parametrize("flag", "rwc")
def test_what_a_newer_version_wrote_is_refused_by_name_and_not_touched(path, make_newer, flag):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
        db.flush()
        db["b"] = "2"
    name = make_newer(path)
    before = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(path) if entry.name != "LOCK"}

    with pytest.raises(lsmdbm.error) as caught, lsmdbm.open(path, flag) as db:
        db["a"]
    assert lsmdbm.error is type(caught.value)  # no CorruptionError: nothing is damaged
    assert name in str(caught.value)
    assert before == {
        entry.name: entry.stat().st_mtime_ns for entry in os.scandir(path) if entry.name != "LOCK"
    }
    if make_newer in (newer_manifest, newer_table, newer_log):
        assert f"format {NEWER}" in str(caught.value)


def test_every_kind_of_file_can_be_too_new(path):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
        db.flush()
        db["b"] = "2"
    assert {"man", "sst", "wal"} == {name.rpartition(".")[2] for name in os.listdir(path)} - {"LOCK"}


def test_n_begins_anew_where_a_newer_version_wrote(path):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
    newer_manifest(path)

    with lsmdbm.open(path, "n") as db:
        assert {} == dict(db)
        db["b"] = "2"
    with lsmdbm.open(path) as db:
        assert {b"b": b"2"} == dict(db)


# -- handles are no values --------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_handles_and_ranges_cannot_be_pickled_and_say_what_to_do(db, protocol):
    with pytest.raises(TypeError, match="pass its path"):
        pickle.dumps(db, protocol)
    with pytest.raises(TypeError):
        pickle.dumps(db.range("a"), protocol)
    for copied in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pass its path"):
            copied(db)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_open_and_the_errors_can_be_pickled(path, protocol):
    assert lsmdbm.open is pickle.loads(pickle.dumps(lsmdbm.open, protocol))
    for call in (lambda: lsmdbm.open(path), lambda: lsmdbm.open(path, "x"), lambda: closed(path)["a"]):
        with pytest.raises(lsmdbm.error) as caught:
            call()
        again = pickle.loads(pickle.dumps(caught.value, protocol))
        assert (type(caught.value), str(caught.value)) == (type(again), str(again))


def closed(path):
    with lsmdbm.open(path, "c") as db:
        return db


def test_a_handle_that_is_forgotten_warns_and_is_closed(path):
    with pytest.warns(ResourceWarning, match="unclosed database .*db'"):
        forget_one(path)
    with lsmdbm.open(path, "w", timeout=0) as db:  # the lock is free
        assert {b"a": b"1"} == dict(db)


def forget_one(path):
    db = lsmdbm.open(path, "c")
    db["a"] = "1"
    iterator = iter(db)
    next(iterator)
    del db, iterator
    gc.collect()


def test_a_handle_that_was_never_made_says_nothing():
    lsmdbm.Database.__new__(lsmdbm.Database).__del__()


def test_an_iterator_keeps_its_handle_open(path):
    with pytest.warns(ResourceWarning):
        assert [b"a", b"b"] == [*iter(keep_none(path))]


def keep_none(path):
    db = lsmdbm.open(path, "c")
    db.update(a="1", b="2")
    return db


def test_closing_reports_that_writes_may_be_lost_and_closes_all_the_same(path, monkeypatch):
    db = lsmdbm.open(path, "c")
    db["a"] = "1"

    def refuse(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("lsmdbm._base.os_file._data_sync", refuse)
        with pytest.raises(lsmdbm.FailedError):
            db.close()
    with pytest.raises(lsmdbm.ClosedError):
        db["a"]
    with lsmdbm.open(path, "w", timeout=0) as db:
        assert b"1" == db["a"]
