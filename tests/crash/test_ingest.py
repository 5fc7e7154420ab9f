"""An ingest is all or nothing, wherever it is cut off, and whatever fails in it."""

import errno
import random

import pytest

from lsmdbm._base.errors import FailedError, error
from lsmdbm.bulk import TableWriter
from lsmdbm.database import open_on
from support.crash_storage import MODES, CrashStorage
from support.faults import faults
from support.workload import PATH, TINY

BEFORE = {b"key%02d" % number: b"old" for number in range(12)}
FILES = {
    "/first": {b"key%02d" % number: b"first" for number in range(5, 20)},
    "/second": {b"key%02d" % number: b"second" for number in range(15, 30)},
}
SAMPLE = {"small": 40, "default": 400}  # faults; the larger budgets take all
AFTER = {**BEFORE, **FILES["/first"], **FILES["/second"]}


def prepared():
    """Return a storage with two files, and a database with entries in tables and in memory."""
    storage = CrashStorage("ingest")
    for path, entries in FILES.items():
        with TableWriter.on(storage, path, block_bytes=64) as writer:
            writer.extend(entries)
    db = open_on(storage, PATH, "c", 0o666, dict(TINY))
    for key in sorted(BEFORE)[:6]:
        db[key] = b"old"
    db.flush()
    for key in sorted(BEFORE)[6:]:
        db[key] = b"old"
    db.sync()
    return storage, db


def contents(storage):
    with open_on(storage, PATH, "r", 0o666, {"verify_on_open": True}) as db:
        return dict(db.items())


def crashed(storage):
    """Yield what each kind of crash leaves."""
    image = storage.freeze()
    for mode in MODES:
        yield mode, image.crash(mode, random.Random(mode))
    pending = image.pending()
    for call in pending:
        yield f"without {call}", image.crash_without({call})
        yield f"with {call} alone", image.crash_without(set(pending) - {call})


def test_ingest_is_all_or_nothing_at_each_call():
    storage, db = prepared()
    images = []
    storage.on_call = lambda index, operation, path: images.append((operation, path, storage.freeze()))
    db.ingest(FILES)
    storage.on_call = None
    found = []
    for operation, path, image in images:
        for mode in MODES:
            state = contents(image.crash(mode, random.Random(mode)))
            assert state in (BEFORE, AFTER), f"before {operation} {path}, {mode}"
            found.append(state == AFTER)

    assert {False, True} == set(found)
    assert [AFTER] * len(MODES) == [contents(left) for mode, left in crashed(storage) if mode in MODES]
    db.close()


@pytest.mark.parametrize("durability", ["none", "process", "interval", "full"])
def test_what_was_ingested_survives_power_loss_at_any_durability(durability):
    storage, db = prepared()
    db.close()
    db = open_on(storage, PATH, "w", 0o666, {**TINY, "durability": durability})
    db[b"last"] = b"write"

    db.ingest(FILES)

    for mode, left in crashed(storage):
        assert {**AFTER, b"last": b"write"} == contents(left), mode
    db.close()


def calls_of_an_ingest():
    storage, db = prepared()
    first = storage.count
    db.ingest(FILES)
    calls = storage.calls[first : storage.count]
    db.close()
    return calls


def test_ingest_whose_manifest_was_not_written_well_does_not_come_back():
    """Its tables are gone: were the manifest there again after a crash, the database would not open."""
    manifests = [
        index
        for index, (operation, path, *_) in enumerate(calls_of_an_ingest())
        if operation == "pwrite" and path.endswith(".man")
    ]
    storage, db = prepared()
    storage.fault(storage.count + manifests[-1], errno.EIO, "after", sticky=False)

    with pytest.raises(error):
        db.ingest(FILES)

    storage.heal()
    for mode, left in crashed(storage):
        assert BEFORE == contents(left), mode
    db.close()


def test_ingest_that_fails_leaves_what_no_crash_and_no_later_write_mixes_up(seed, budget):
    """What failed may have reached the disk: it is taken back before anything rests on its being away."""
    calls = calls_of_an_ingest()
    cases = [
        (index, fault)
        for index, call in enumerate(calls)
        for fault in faults(index, call[0])
        if fault.kind != "late"  # success was said, and nobody can know better
    ]
    chosen = random.Random(seed).sample(cases, min(SAMPLE.get(budget, len(cases)), len(cases)))
    print(f"seed {seed}, {len(chosen)} of {len(cases)} faults")
    for index, fault in chosen:
        storage, db = prepared()
        name = f"{fault} at {calls[index]}"
        storage.fault(storage.count + index, fault.errno, fault.kind, sticky=fault.is_sticky)
        try:
            db.ingest(FILES)
            has_failed = False
        except (error, KeyboardInterrupt) as exc:
            has_failed = isinstance(exc, FailedError)
        storage.heal()
        state = dict(db.items())
        assert state in (BEFORE, AFTER), name
        for mode, left in crashed(storage):
            assert contents(left) in ((BEFORE, AFTER) if has_failed else (state,)), f"{name}, {mode}"
        if has_failed:
            with pytest.raises(FailedError):
                db[b"key10"] = b"new"
            with pytest.raises(FailedError):
                db.ingest(FILES)
        else:
            db[b"key10"] = b"new"
            assert {**state, b"key10": b"new"} == dict(db.items()), name
            assert len(state) == len(db), name
            db.sync()
            for mode, left in crashed(storage):
                assert {**state, b"key10": b"new"} == contents(left), f"{name}, {mode}"
        try:
            db.close()
        except FailedError:
            assert has_failed, name


def test_a_finished_file_survives_power_loss():
    storage = CrashStorage("building")
    with TableWriter.on(storage, "/file") as writer:
        writer.extend({b"key": b"value"})

    for mode, left in crashed(storage):
        with open_on(left, PATH, "c", 0o666, {}) as db:
            assert 1 == db.ingest(["/file"]), mode
            assert {b"key": b"value"} == dict(db), mode
