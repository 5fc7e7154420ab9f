"""An ingest is all or nothing, wherever it is cut off, and whatever fails in it."""

import errno
import operator
import random

import pytest

from lsmdbm._base.errors import CorruptionError, FailedError, error
from lsmdbm._engine.install import synced
from lsmdbm._engine.names import MANIFEST, TABLE, file_name, numbers
from lsmdbm._engine.tree import Tree
from lsmdbm._engine.wal import Wal
from lsmdbm.bulk import TableWriter
from lsmdbm.database import open_on
from support.crash_storage import MODES, SYNCS, CrashStorage, failure
from support.faults import faults
from support.workload import PATH, TINY

BEFORE = {b"key%02d" % number: b"old" for number in range(12)}
FILES = {
    "/first": {b"key%02d" % number: b"first" for number in range(5, 20)},
    "/second": {b"key%02d" % number: b"second" for number in range(15, 30)},
}
SAMPLE = {"small": 40, "default": 150}  # faults; the larger budgets take all
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


def refused(storage, code, *operations):
    """Let every call of these operations fail from now on."""

    def on_call(index, operation, path):
        if operation in operations:
            raise failure(code, path)

    storage.on_call = on_call


@pytest.mark.parametrize("commits", [False, True])
def test_reads_go_on_while_an_ingest_that_was_cut_off_cannot_be_settled(commits):
    index = next(i for i, call in calls_of_an_install().items() if call == "pwrite")
    storage, db = cut_off(index + 3 * commits, "after")
    expected = AFTER if commits else BEFORE
    refused(storage, errno.ENOSPC, "create", "pwrite")

    for act in (lambda: db.update(key10=b"new"), db.sync, db.flush, lambda: db.ingest(FILES), db.clear):
        raised = attempt(act)
        assert errno.ENOSPC == raised.errno
        assert not isinstance(raised, FailedError)
        assert expected == dict(db.items()) == db.get_many(AFTER)
        assert (len(expected), expected[b"key10"]) == (len(db), db[b"key10"])
        assert (min(expected), max(expected)) == (db.firstkey(), db.lastkey())
    storage.on_call = None
    check_use(storage, db, expected, "with room on the disk")


def test_a_close_that_cannot_settle_an_ingest_says_so_and_the_next_opening_finds_one_state_or_the_other():
    index = next(i for i, call in calls_of_an_install().items() if call == "fsync")
    storage, db = cut_off(index, "after")
    refused(storage, errno.ENOSPC, "create")

    with pytest.raises(error, match="No space"):
        db.close()

    storage.on_call = None
    for mode, left in crashed(storage):
        assert contents(left) in (BEFORE, AFTER), mode
        with open_on(left, PATH, "w", 0o666, dict(TINY)) as again:
            check_use(left, again, dict(again.items()), mode)


def test_reads_go_on_when_a_sync_fails_while_an_ingest_is_settled():
    index = next(i for i, call in calls_of_an_install().items() if call == "fsync")
    storage, db = cut_off(index, "after")
    refused(storage, errno.EIO, "fsync")

    for _ in range(2):
        assert isinstance(attempt(lambda: db.update(key10=b"new")), FailedError)
        assert BEFORE == dict(db.items())
    storage.on_call = None
    assert isinstance(attempt(lambda: db.update(key10=b"new")), FailedError)
    attempt(db.close)
    assert contents(storage) in (BEFORE, AFTER)


def test_ingest_interrupted_when_its_sequence_is_taken_and_reads_are_not_there_yet(monkeypatch):
    """A log that begins behind a sequence which no table has would be taken for one whose start was lost."""
    skip = Wal.skip

    def interrupt(wal):
        skip(wal)
        raise KeyboardInterrupt

    storage, db = prepared()
    monkeypatch.setattr(Wal, "skip", interrupt)
    with pytest.raises(KeyboardInterrupt):
        db.ingest(FILES)
    monkeypatch.undo()

    db[b"key10"] = b"new"
    db.sync()
    tree = db._store._tree
    tree.start_compaction()
    tree.background.work(tree.background.compacting)  # installed with what the view says is in tables
    for mode, left in crashed(storage):
        assert {**BEFORE, b"key10": b"new"} == contents(left), mode
    check_use(storage, db, {**BEFORE, b"key10": b"new"}, "between sequence and view")


def test_tables_of_an_ingest_that_is_not_settled_are_no_garbage():
    index = next(i for i, call in calls_of_an_install().items() if call == "fsync")
    storage, db = cut_off(index, "after")

    db._store.collect_garbage()

    for mode, left in crashed(storage):
        assert contents(left) in (BEFORE, AFTER), mode
    check_use(storage, db, BEFORE, "after a collection")


def test_ingest_that_fails_leaves_what_no_crash_and_no_later_write_mixes_up(seed, budget):
    """What failed may have reached the disk: nothing rests on its being away before a higher manifest has."""
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
        raised = attempt(lambda db=db: db.ingest(FILES))
        storage.heal()
        state = dict(db.items())
        assert state in (BEFORE, AFTER), name
        is_known = not db._store._tree.is_unsettled  # else a manifest without end may be whole on disk
        for mode, left in crashed(storage):
            assert contents(left) in ((state,) if is_known else (BEFORE, AFTER)), f"{name}, {mode}"
        if isinstance(raised, FailedError):
            for act in (lambda db=db: db.update(key10=b"new"), lambda db=db: db.ingest(FILES)):
                assert isinstance(attempt(act), FailedError), name
            attempt(db.close)
        else:
            check_use(storage, db, state, name)


def attempt(act):
    """Return what a call raises of what a fault may lead to; None if it comes back."""
    try:
        act()
    except (error, KeyboardInterrupt) as exc:
        return exc
    return None


def check_use(storage, db, state, name):
    """Check that reads find a state, and keep finding it, and what is written from then on is kept on top."""
    assert state == dict(db.items()), name
    db[b"key10"] = b"new"
    state = {**state, b"key10": b"new"}
    assert state == dict(db.items()), name
    assert len(state) == len(db), name
    db.sync()
    for mode, left in crashed(storage):
        assert state == contents(left), f"{name}, {mode}"
    db.close()
    assert state == contents(storage), name


SETTLING = {  # what may come after an ingest that was cut off, and what it makes of the state
    "put": (lambda db: db.update(key10=b"put"), lambda state: {**state, b"key10": b"put"}),
    "delete": (lambda db: db.pop(b"key03"), lambda state: {k: v for k, v in state.items() if k != b"key03"}),
    "ingest": (lambda db: db.ingest(FILES), lambda state: AFTER),
    **{name: (operator.methodcaller(name), lambda state: state) for name in ("sync", "flush", "close")},
}


def cut_off(index, kind):
    """Return a storage and a database whose ingest was interrupted at one of its calls."""
    storage, db = prepared()
    storage.fault(storage.count + index, errno.EINTR, kind)
    assert isinstance(attempt(lambda: db.ingest(FILES)), KeyboardInterrupt), (index, kind)
    return storage, db


def calls_of_an_install():
    """Return the calls of the install of an ingest, by index, from the sync before its manifest on."""
    calls = [call[0] for call in calls_of_an_ingest()]
    first = len(calls) - calls[::-1].index("create") - 2
    return dict(enumerate(calls[first:], first))


def kinds(operation):
    """Say what an interrupted call may have done."""
    return ("after", "clean") if operation in SYNCS else ("after",)


def check_interrupted_twice(name, first, second):
    """Interrupt an ingest, then what comes next; see that no crash, and nothing that is done then, minds.

    Args:
        name: of what comes next.
        first: index and kind of the interruption of the ingest.
        second: the same for what comes next.

    Returns:
        Whether there was a second call to be interrupted.
    """
    where = f"ingest interrupted at {first}, then {name} at {second}"
    act, change = SETTLING[name]
    storage, db = cut_off(*first)
    try:
        state = dict(db.items())
        storage.fault(storage.count + second[0], errno.EINTR, second[1])
        raised = attempt(lambda: act(db))
        for mode, left in crashed(storage):
            assert contents(left) in [BEFORE, AFTER, change(BEFORE), change(AFTER)], f"{where}, {mode}"
        storage.heal()
        if name == "close":
            db.close()
            db = open_on(storage, PATH, "w", 0o666, dict(TINY))
        found = dict(db.items())
        assert found in ([change(state)] if raised is None else [state, change(state)]), where
        check_use(storage, db, found, where)
    finally:
        attempt(db.close)
    with open_on(storage, PATH, "r", 0o666, {}) as db:
        left = [file for file in db.verify().unreferenced if file.endswith(TABLE)]
    assert [] == left or name == "ingest", where  # which may be cut off between a file and its being known
    return raised is not None


def check_interrupted_at_its_commit():
    """Interrupt the sync that commits, then each call of the next write, and count these."""
    syncs = [index for index, operation in calls_of_an_install().items() if operation == "sync"]
    at = 0
    while check_interrupted_twice("put", (syncs[1], "after"), (at, "clean")):
        at += 1
    return at


def test_ingest_interrupted_at_its_commit_and_while_it_is_settled_names_no_table_that_is_gone():
    assert check_interrupted_at_its_commit() > 10


def test_ingest_that_unlinks_its_manifest_to_settle_it_is_noticed(monkeypatch):
    """The planted fault, which was there once.  Cut off before the unlinking was durable, and asked again, it
    found no manifest to unlink, and unlinked its tables; the power went, and the manifest was back."""

    def take_back(tree):
        if not tree._ingested:
            return
        directory = tree._workshop.directory
        newer = [n for n in numbers(directory.listdir(), MANIFEST) if n > tree.manifest.number]
        for number in newer:
            directory.unlink(file_name(number, MANIFEST))
        if newer:
            synced(directory.sync)
        for meta in tree._ingested:
            directory.unlink(file_name(meta.number, TABLE))
        tree._ingested = []

    monkeypatch.setattr(Tree, "settle_ingest", take_back)
    with pytest.raises(CorruptionError, match="table named by the manifest is missing"):
        check_interrupted_at_its_commit()


@pytest.mark.parametrize("name", SETTLING)
def test_ingest_interrupted_anywhere_and_then_again_is_there_wholly_or_not_at_all(name, seed, budget):
    firsts = [(index, kind) for index, call in calls_of_an_install().items() for kind in kinds(call)]
    storage, db = cut_off(*firsts[4])
    begun = storage.count
    SETTLING[name][0](db)
    seconds = [(at, kind) for at in range(storage.count - begun) for kind in ("after", "clean")]
    db.close()
    cases = [(first, second) for first in firsts for second in seconds]
    chosen = random.Random(seed).sample(cases, min(SAMPLE.get(budget, len(cases)) // 5, len(cases)))
    twice = sum(check_interrupted_twice(name, *case) for case in chosen)

    print(f"seed {seed}, {len(chosen)} of {len(cases)} cases, {twice} of them interrupted twice")
    assert twice


def test_a_finished_file_survives_power_loss():
    storage = CrashStorage("building")
    with TableWriter.on(storage, "/file") as writer:
        writer.extend({b"key": b"value"})

    for mode, left in crashed(storage):
        with open_on(left, PATH, "c", 0o666, {}) as db:
            assert 1 == db.ingest(["/file"]), mode
            assert {b"key": b"value"} == dict(db), mode
