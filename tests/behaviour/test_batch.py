"""A batch is written whole when its block is left, or not at all."""

import errno
import random

import pytest

import lsmdbm
from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._format import records
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.engine import PATH, log, names
from support.layers import KEYS, TINY
from support.model import Model

pytestmark = pytest.mark.usefixtures("no_syncs")


def change_everything(batch):
    batch["put"] = "1"
    batch.put(b"twice", "1")
    batch.put("twice", bytearray(b"2"))
    del batch["old"]
    batch.delete("missing")
    batch["back"] = "1"
    del batch["back"]
    del batch["again"]
    batch["again"] = memoryview(b"3")
    batch.update({"a": "1", "b": "2"}, c="3")
    batch.update([("d", "4"), ("a", "5")])


AFTER = {b"put": b"1", b"twice": b"2", b"again": b"3", b"a": b"5", b"b": b"2", b"c": b"3", b"d": b"4"}


@pytest.fixture
def filled(db):
    db.update({"old": "0", "again": "0"})
    return db


@pytest.mark.parametrize("place", ["in memory", "on disk"])
def test_a_batch_does_to_a_database_what_was_done_to_it(filled, path, place):
    if place == "on disk":
        filled.flush()
    with filled.batch() as batch:
        change_everything(batch)
        assert 10 == len(batch)
        assert {b"old": b"0", b"again": b"0"} == filled  # nothing shows yet
    assert AFTER == filled
    filled.close()
    with lsmdbm.open(path) as db:
        assert AFTER == db


def test_an_exception_discards_a_batch(filled):
    before, written = dict(filled), filled.stats().written_bytes
    with pytest.raises(KeyError, match="of the caller"), filled.batch() as batch:
        change_everything(batch)
        raise KeyError("of the caller")
    assert (before, written, 0) == (filled, filled.stats().written_bytes, len(batch))


def test_a_batch_is_one_record_however_large_it_is():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {"memtable_bytes": 4096}) as db:
        with db.batch() as batch:
            batch.update((b"%06d" % number, b"v" * 50) for number in range(5000))
        assert 1 == len([record for record in log(storage, first_log(storage))[1] if record.count])
        assert 5000 == len(db) == len(db.keys())
        db["and"] = "on"
        assert 5001 == len(db)


def first_log(storage):
    return int(names(storage, "wal")[0].partition(".")[0])


def test_an_empty_batch_writes_nothing(filled):
    written = filled.stats().written_bytes
    with filled.batch():
        pass
    with filled.batch() as batch:
        change_everything(batch)
        batch.discard()
        assert 0 == len(batch)
    assert written == filled.stats().written_bytes


def test_what_follows_a_discard_is_a_batch_of_its_own(filled):
    with filled.batch() as batch:
        change_everything(batch)
        batch.discard()
        batch["new"] = "1"
    assert {b"old": b"0", b"again": b"0", b"new": b"1"} == filled


def test_a_crash_takes_a_batch_whole_or_not_at_all():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {}) as db:
        db["old"] = "0"
        with db.batch() as batch:
            change_everything(batch)
    data, name = storage.contents(PATH), names(storage, "wal")[0]
    end = log(storage, first_log(storage))[1][1].end
    for cut in range(end - 60, end + 1):
        survivor = CrashStorage()
        survivor.mkdir(PATH, 0o777)
        for each, content in data.items():
            survivor.plant(f"{PATH}/{each}", content[:cut] if each == name else content)
        with open_on(survivor, PATH, "r", 0o666, {}) as db:
            assert (AFTER if cut == end else {b"old": b"0"}) == db, cut


MISUSES = {
    "put": lambda batch: batch.put("a", "1"),
    "setitem": lambda batch: batch.__setitem__("a", "1"),
    "delete": lambda batch: batch.delete("a"),
    "delitem": lambda batch: batch.__delitem__("a"),
    "update": lambda batch: batch.update(a="1"),
    "update with nothing": lambda batch: batch.update(),
    "discard": lambda batch: batch.discard(),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_batch_outside_of_its_block_is_refused(filled, misuse):
    before, batch = dict(filled), filled.batch()
    with pytest.raises(RuntimeError, match="inside of its block"):
        MISUSES[misuse](batch)
    with batch:
        pass
    with pytest.raises(RuntimeError, match="this batch is over"):
        MISUSES[misuse](batch)
    assert before == filled


def test_a_batch_has_one_block(filled):
    batch = filled.batch()
    with batch:
        batch["a"] = "1"
        with pytest.raises(RuntimeError, match="being filled already"):
            batch.__enter__()
    with pytest.raises(RuntimeError, match="this batch is over"):
        batch.__enter__()
    assert b"1" == filled["a"]


def test_keys_and_values_are_checked_at_once_and_the_rest_is_kept(filled, monkeypatch):
    monkeypatch.setattr("lsmdbm._base.chunk.MAX_VALUE_BYTES", 1000)
    with filled.batch() as batch:
        batch["a"] = "1"
        for refused, key, value in [
            (TypeError, 1, "1"),
            (TypeError, "b", None),
            (TypeError, None, "1"),
            (ValueError, "k" * (MAX_KEY_BYTES + 1), "1"),
            (ValueError, "b", "v" * 1001),
            (UnicodeEncodeError, "\ud800", "1"),
        ]:
            with pytest.raises(refused):
                batch[key] = value
        for key in (1, None, "k" * (MAX_KEY_BYTES + 1)):
            with pytest.raises((TypeError, ValueError)):
                del batch[key]
        with pytest.raises(TypeError):
            batch.update([("c", "3"), ("d", 4), ("e", "5")])
        assert 2 == len(batch)
    assert {b"old": b"0", b"again": b"0", b"a": b"1", b"c": b"3"} == filled


def test_a_batch_beyond_one_record_is_refused_before_anything_is_written(filled, monkeypatch):
    monkeypatch.setattr(records, "MAX_PAYLOAD_BYTES", 5000)
    before, written = dict(filled), filled.stats().written_bytes
    too_large = pytest.raises(ValueError, match=r"batch of 5\d\d\d bytes: the limit is 5000")
    with too_large, filled.batch() as batch:
        batch.update((key, b"v" * 20) for key in KEYS)
    assert (before, written) == (filled, filled.stats().written_bytes)
    filled["and"] = "on"
    assert {**before, b"and": b"on"} == filled


def test_a_batch_on_a_closed_or_a_read_only_handle_is_refused_by_name(filled, path):
    with lsmdbm.open(path, "r") as reader, pytest.raises(lsmdbm.ReadOnlyError):
        reader.batch()
    with pytest.raises(lsmdbm.ClosedError), filled.batch() as batch:
        batch["a"] = "1"
        filled.close()
    with pytest.raises(lsmdbm.ClosedError):
        filled.batch()
    with lsmdbm.open(path) as db:
        assert {b"old": b"0", b"again": b"0"} == db


def test_a_batch_that_the_disk_has_no_room_for_is_not_written():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {}) as db:
        db["old"] = "0"
        storage.fault(storage.count, errno.ENOSPC)
        with pytest.raises(lsmdbm.error) as caught, db.batch() as batch:
            change_everything(batch)
        assert errno.ENOSPC == caught.value.errno
        storage.heal()
        assert {b"old": b"0"} == db
        with pytest.raises(RuntimeError, match="this batch is over"):
            batch["a"] = "1"


def test_random_batches_do_what_a_dict_does(seed, budget):
    rng, model = random.Random(f"{seed} batches"), Model()
    with open_on(CrashStorage(), PATH, "c", 0o666, TINY) as db:
        for _ in range(30 if budget == "small" else 150):
            changes = model.copy()
            try:
                with db.batch() as batch:
                    for _ in range(rng.choice([0, 1, 5, 300])):
                        key, value = rng.choice(KEYS), rng.choice([None, b"v", rng.randbytes(50)])
                        if value is None:
                            del batch[key]
                        else:
                            batch[key] = value
                        changes.update([(key, value)])
                    if rng.random() < 0.2:
                        raise InterruptedError
                model = changes
            except InterruptedError:
                pass
            assert model.entries == db
            assert len(model) == len(db)


def test_what_a_batch_is_shows_in_its_repr(filled, path):
    batch = filled.batch()
    assert f"<lsmdbm.WriteBatch for <lsmdbm.Database {path!r}, open>, new, 0 changes>" == repr(batch)
    with batch:
        del batch["a"]
        assert "open, 1 changes>" in repr(batch)
