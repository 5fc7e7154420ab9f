"""Policies of compaction: which tables are merged when is nobody's business but that of speed and space."""

import random

import pytest

import lsmdbm
from lsmdbm._base.options import CHOICES
from lsmdbm._engine import fifo
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage

TINY = {"memtable_bytes": 2000, "block_bytes": 200}
BOUND = 12_000
FIFO = {"compaction": "fifo", "max_bytes": BOUND}
POLICIES = [{"compaction": "leveled"}, {"compaction": "tiered"}, FIFO]


def opened(storage, **options):
    return open_on(storage, "/db", "c", 0o666, {**TINY, **options})


def written(db, rng, count):
    """Put and delete at random; return what was said last of each key."""
    last = {}
    for _ in range(count):
        key = b"%04d" % rng.randrange(600)
        if rng.random() < 0.8:
            last[key] = db[key] = rng.randbytes(rng.randrange(40))
        elif db.pop(key, None) is not None:
            last[key] = None
    return last


def wrongs(db, last):
    """Say what is wrong with a database that may have given up keys: what it has must be the last word."""
    seen = dict(db.items())
    found = [key for key, value in seen.items() if last.get(key) != value]
    found += [key for key in last if db.get(key) != seen.get(key)]
    return found if len(seen) == len(db) else [*found, "len()"]


def test_every_policy_is_among_those_tested_here():
    assert sorted(CHOICES["compaction"]) == sorted(policy["compaction"] for policy in POLICIES)


@pytest.mark.parametrize("number", range(2))
def test_policy_may_be_changed_at_every_opening(seed, number):
    rng, storage, model = random.Random(f"{seed} policies {number}"), CrashStorage(number), {}
    for _ in range(15):
        policy = rng.choice([*POLICIES[:2], {**FIFO, "max_bytes": 1 << 30}, {}])
        with opened(storage, **policy) as db:
            model |= written(db, rng, rng.choice((5, 300)))
            if rng.random() < 0.2:
                db.compact()
            live = {key: value for key, value in model.items() if value is not None}

            assert live == dict(db.items()), f"seed {seed}"
            assert len(live) == len(db)
            assert db.verify()
            assert db.stats().trouble is None
            assert db.stats().runs <= db.stats().tables


@pytest.mark.parametrize("number", range(2))
def test_fifo_never_shows_anything_but_the_last_word(seed, number):
    """Not an older value, not a deleted key; and len() is exact, whoever asked before and reads on."""
    rng, storage, last = random.Random(f"{seed} fifo {number}"), CrashStorage(number), {}
    drops = 0
    for _ in range(3):
        with opened(storage, **FIFO) as db:
            for _ in range(40):
                asked = rng.random() < 0.5 and len(db)
                pinned, before = (iter(db.items()), list(db.items())) if rng.random() < 0.2 else (None, None)
                last |= written(db, rng, rng.choice((1, 10, 60)))
                if rng.random() < 0.1:
                    db.flush()

                assert [] == wrongs(db, last), f"seed {seed}, asked {asked}"
                assert pinned is None or before == list(pinned)
            drops += db.stats().drops
            assert db.verify()
            assert db.stats().trouble is None
    assert drops > 3


def test_fifo_below_its_bound_loses_nothing_and_folds_small_tables(seed, monkeypatch):
    """Deleted keys stay deleted, though what they had said stands in tables that are not folded."""
    rng, model = random.Random(f"{seed} folds"), {}
    monkeypatch.setattr(fifo, "MOST_RUNS", 10)
    with opened(CrashStorage(1), **{**FIFO, "max_bytes": 1 << 30}) as db:
        for _ in range(60):
            model |= written(db, rng, 30)
            db.flush()
            live = {key: value for key, value in model.items() if value is not None}
            assert live == dict(db.items()), f"seed {seed}"
        stats = db.stats()

        assert stats.compactions > 2
        assert stats.drops == 0 < stats.flushes
        assert stats.tables < stats.flushes / 2
        assert db.verify()


def test_tables_dropped_out_of_a_fold_take_nothing_else_with_them(seed, monkeypatch):
    """The fold under way would take what is gone for void, and make holes where the others have entries."""
    rng = random.Random(f"{seed} out of a fold")
    monkeypatch.setattr(fifo, "MOST_RUNS", 10)
    with opened(CrashStorage(1), **{**FIFO, "max_bytes": 1 << 30}) as db:
        background = db._store._tree.background
        while background.compacting is None:
            db[b"%04d" % rng.randrange(600)] = rng.randbytes(100)
        inputs, metas = background.compacting.plan.inputs, [*fifo.oldest_first(db._store.view.version)]
        metas = metas[: 1 + min(map(metas.index, inputs))]  # the oldest of them, and all that are older
        before, looks = dict(db.items()), []
        gone = {key for meta in metas for keys, _ in db._store.view.entries_of(meta) for key in keys}
        freed = db._store.drop_oldest(lambda chunks: looks.append(chunks) or len(looks) <= len(metas))
        assert freed == sum(meta.file_bytes for meta in metas)
        left = dict(db.items())

        assert before.items() >= left.items()
        assert before.keys() - left.keys() <= gone
        drops = db.stats().drops
        for _ in range(500):
            key = b"%04d" % rng.randrange(600)
            left[key] = db[key] = rng.randbytes(100)
        assert left == dict(db.items()), f"seed {seed}"
        assert db.stats().compactions > 0
        assert 1 == drops == db.stats().drops
        assert db.verify()


def test_fifo_keeps_within_its_bound_and_keeps_the_newest():
    with opened(CrashStorage(1), compression=None, **FIFO) as db:
        for number in range(3000):
            db[b"%06d" % number] = b"v" * 30
            assert db.stats().file_bytes <= BOUND + 2000  # by what was flushed since the last turn
        kept = list(db)

        assert db.stats().dropped_bytes > 5 * BOUND
        assert [b"%06d" % number for number in range(3000 - len(kept), 3000)] == kept
        assert BOUND / 2 < db.stats().file_bytes


def test_fifo_gives_its_space_back_and_says_what_it_did(tmp_path):
    path, rng = tmp_path / "cache", random.Random(1)
    with lsmdbm.open(path, "c", memtable_bytes=20_000, **{**FIFO, "max_bytes": 200_000}) as db:
        for number in range(10_000):
            db[str(number)] = rng.randbytes(50)
        drops = db.stats().drops
        on_disk = sum(file.stat().st_size for file in path.glob("*.sst"))

    assert drops > 0
    assert on_disk < 250_000
    assert lsmdbm.verify(path)


def test_bound_is_remembered_and_may_be_changed(tmp_path):
    path = tmp_path / "cache"
    with lsmdbm.open(path, "c", memtable_bytes=5000, **{**FIFO, "max_bytes": 1 << 30}) as db:
        db.update((b"%04d" % number, random.Random(number).randbytes(60)) for number in range(2000))
        db.flush()
        before = db.stats().file_bytes
    for options in ({}, {"compaction": "fifo"}):
        with lsmdbm.open(path, "w", memtable_bytes=5000, **options) as db:
            db["more"] = "than before"
            db.flush()
            assert before < db.stats().file_bytes
    with lsmdbm.open(path, "w", memtable_bytes=5000, max_bytes=before // 2) as db:
        db["more"] = "again"
        db.compact()
        assert db.stats().file_bytes < 0.6 * before


def test_compact_under_fifo_keeps_the_bound_too():
    with opened(CrashStorage(1), background="manual", compression=None, **FIFO) as db:
        for number in range(1000):
            db[b"%06d" % number] = b"v" * 30
            if number % 50 == 0:
                db.flush()
        assert db.stats().file_bytes > 2 * BOUND
        db.compact()

        assert 0 < db.stats().file_bytes <= BOUND
        assert [1] == [level.level for level in db.stats().levels if level.tables]
        assert b"000999" in db
        assert b"000000" not in db


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["compaction"])
def test_backup_and_repair_take_what_is_there_and_remember_the_policy(tmp_path, policy, seed):
    path, rng = tmp_path / "db", random.Random(f"{seed} copies")
    with lsmdbm.open(path, "c", **TINY, **policy) as db:
        written(db, rng, 1500)
        db.flush()
        expected = dict(db.items())
        db.backup(tmp_path / "copy")
    assert lsmdbm.repair(path, tmp_path / "repaired")
    for copy in ("copy", "repaired"):
        with lsmdbm.open(tmp_path / copy, "w") as db:
            assert expected == dict(db.items())
            assert policy["compaction"] == db._store.options.compaction
            assert policy.get("max_bytes") == db._store.options.max_bytes


@pytest.mark.parametrize("flag", ["c", "n"])
def test_fifo_without_a_bound_and_a_bound_without_fifo_are_refused(tmp_path, flag):
    for options in (
        {"compaction": "fifo"},
        {"max_bytes": 1000},
        {"compaction": "tiered", "max_bytes": 1000},
    ):
        with pytest.raises(ValueError, match="option max_bytes"):
            lsmdbm.open(tmp_path / "db", flag, **options)
        assert not (tmp_path / "db").exists()


def test_database_without_a_bound_takes_none_and_stays_as_it_is(tmp_path):
    with lsmdbm.open(tmp_path / "db", "c") as db:
        db["a"] = "b"
    for options in ({"compaction": "fifo"}, {"max_bytes": 1}):
        with pytest.raises(ValueError, match="option max_bytes"):
            lsmdbm.open(tmp_path / "db", "w", **options)
    with lsmdbm.open(tmp_path / "db") as db:
        assert {b"a": b"b"} == dict(db)
