"""zict spills what does not fit into memory to lsmdbm: Buffer over Func over a database."""

import errno
import pickle
import random
import sys
import threading

import pytest

import lsmdbm
from lsmdbm.database import open_on
from support.clients import client, shown
from support.crash_storage import CrashStorage, failure
from support.threads import in_threads

zict = client("zict")

FAST = 10  # entries in memory


@pytest.fixture(params=[16 << 10, 8 << 20], ids=["tables too", "all in the log"])
def db(path, request):
    with lsmdbm.open(path, "c", memtable_bytes=request.param) as database:
        yield database


@pytest.fixture
def buffer(db):
    with zict.Buffer({}, zict.Func(pickle.dumps, pickle.loads, db), FAST) as buffer:
        yield buffer


def value_of(key, number):
    return {"key": key, "number": number, "padding": b"x" * 500}


def test_what_does_not_fit_into_memory_is_in_the_database(db, buffer):
    expected = {b"%03d" % number: value_of(number, number) for number in range(100)}
    buffer.update(expected)

    assert (FAST, 100 - FAST) == (len(buffer.fast), len(db))
    assert [b"%03d" % number for number in range(100 - FAST)] == db.keys()
    assert 100 == len(buffer)
    assert sorted(expected) == sorted(buffer)
    assert expected == dict(buffer.items())
    assert value_of(3, 3) == buffer[b"003"]  # and back in memory, while another one leaves it
    assert b"003" not in db
    assert (FAST, 100 - FAST) == (len(buffer.fast), len(db))
    assert expected == {key: buffer[key] for key in expected}


def test_a_replaced_or_deleted_value_is_gone_from_the_database(db, buffer):
    buffer.update((b"%03d" % number, value_of(number, 0)) for number in range(50))

    buffer[b"007"] = "replaced"
    assert b"007" not in db
    del buffer[b"008"]
    assert b"008" not in buffer
    with pytest.raises(KeyError):
        buffer[b"008"]
    with pytest.raises(KeyError):
        del buffer[b"008"]
    buffer.discard(b"008")
    assert "replaced" == buffer.pop(b"007")
    assert 48 == len(buffer)


def test_closing_the_buffer_closes_the_database(path, db, buffer):
    expected = {b"%03d" % number: value_of(number, 0) for number in range(50)}
    buffer.update(expected)
    buffer.evict_until_below_target(0)  # all of it

    buffer.close()
    with pytest.raises(lsmdbm.ClosedError):
        db[b"000"]
    with lsmdbm.open(path) as again:
        assert expected == dict(zict.Func(pickle.dumps, pickle.loads, again))


def test_the_documented_buffer_spills_to_a_database_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(shown("zict"), example := {})

    with example["buffer"] as buffer:
        buffer.update((b"%04d" % number, number) for number in range(1001))
        assert [b"0000"] == example["spilled"].keys()


def test_str_keys_come_back_from_the_database_as_bytes(db):
    with zict.Buffer({}, zict.Func(pickle.dumps, pickle.loads, db), 1) as buffer:
        buffer["spilled"] = buffer["in memory"] = 1

        assert {b"spilled", "in memory"} == set(buffer)


def test_a_full_disk_fails_the_write_and_loses_no_value():
    def full(_, call, path):
        if call == "pwrite":
            raise failure(errno.ENOSPC, path)

    storage = CrashStorage()
    with open_on(storage, "/db", "n", 0o666, {}) as db:
        buffer = zict.Buffer({}, zict.Func(pickle.dumps, pickle.loads, db), 1)
        buffer[b"a"] = "a"
        storage.on_call = full
        with pytest.raises(OSError, match="No space left"):
            buffer[b"b"] = "b"
        storage.on_call = None

        assert {} == dict(db)
        assert {b"a": "a", b"b": "b"} == dict(buffer.items())


def test_str_keys_work_in_a_buffer_over_the_text_view(db):
    with zict.Buffer({}, zict.Func(pickle.dumps, pickle.loads, db.text()), FAST) as buffer:
        expected = {f"caf\u00e9 {number}": number for number in range(30)}
        buffer.update(expected)

        assert sorted(expected) == sorted(buffer)
        assert expected == dict(buffer.items())


@pytest.fixture
def _switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_switch_often")
def test_threads_share_a_spill_and_lose_nothing(path, db, seed, budget):
    """Each thread keeps its own dict as oracle; all of them read and replace the same few keys besides.

    Through the Func that a Buffer calls from several threads without a lock, not through the Buffer: that of
    zict 3.0 may answer with a KeyError or an old value for a key that another thread evicts, over a dict too.
    """
    steps = 300 if budget == "small" else 2000
    spill = zict.Func(pickle.dumps, pickle.loads, db)
    shared = [b"shared %d" % number for number in range(2 * FAST)]
    spill.update((key, value_of(key, 0)) for key in shared)
    print(f"seed {seed}, {steps} steps in each of 4 threads")
    oracles = {}
    failures = []
    begin = threading.Barrier(4)

    def work(name):
        draw = random.Random(f"{seed} zict {name}")
        own = oracles[name] = {}
        try:
            begin.wait()
            for number in range(steps):
                key = b"%d %02d" % (name, draw.randrange(3 * FAST))
                step = draw.random()
                if step < 0.4:
                    spill[key] = own[key] = value_of(key, number)
                elif step < 0.6:
                    assert own.get(key) == spill.get(key)
                elif step < 0.7:
                    assert (key in own) == (key in spill)
                elif step < 0.8:
                    assert own.pop(key, None) == spill.pop(key, None)
                elif step < 0.9:
                    other = draw.choice(shared)
                    assert spill[other]["key"] == other
                else:
                    other = draw.choice(shared)
                    spill[other] = value_of(other, number)
        except BaseException as exc:
            failures.append(exc)

    in_threads(work, range(4))
    assert [] == failures
    expected = {key: value for own in oracles.values() for key, value in own.items()}
    assert {*expected, *shared} == set(spill)
    assert expected == {key: spill[key] for key in expected}
    assert shared == [spill[key]["key"] for key in shared]

    db.close()
    with lsmdbm.open(path) as again:
        kept = dict(zict.Func(pickle.dumps, pickle.loads, again))
    assert expected == {key: value for key, value in kept.items() if key not in shared}


@pytest.mark.usefixtures("_switch_often")
def test_threads_share_a_buffer_and_every_value_is_of_its_key(buffer, seed):
    keys = [b"%02d" % number for number in range(3 * FAST)]
    buffer.update((key, value_of(key, 0)) for key in keys)
    failures = []

    def work(name):
        draw = random.Random(f"{seed} zict buffer {name}")
        try:
            for number in range(300):
                key = draw.choice(keys)
                if draw.random() < 0.5:
                    buffer[key] = value_of(key, number)
                else:
                    assert key == buffer.get(key, {"key": key})["key"]
        except BaseException as exc:
            failures.append(exc)

    in_threads(work, range(4))

    assert [] == failures
    assert keys == sorted(buffer)
