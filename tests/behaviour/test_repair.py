"""repair() saves what can be read, says what it could not, and leaves the old database alone."""

import random

import pytest

import lsmdbm
from lsmdbm._base.errors import NotFoundError, error
from lsmdbm._engine import seniority
from lsmdbm._engine.findings import Findings
from lsmdbm._engine.recovery import recover
from lsmdbm._format import log_reader, records, salvage
from lsmdbm._format.table_reader import TableReader
from lsmdbm.database import open_on
from lsmdbm.maintenance import repair_on, verify_on
from support.crash_storage import MODES, CrashStorage, Killed
from support.ruins import COPY, FILLS, PATH, TINY, build, contents, damages, flip, leaves_no_trace

FLIPS = {"small": 60, "default": 300, "crash": 20_000, "long": 1_000_000}
ROUNDS = {"small": 1, "default": 2, "crash": 50, "long": 5000}
NO_ORDER = (
    "no manifest: the order of the tables comes from themselves, and what a range deletion took out of"
    " them may be back"
)


class Saved:
    """A damaged database, repaired, with all that holds of every repair checked."""

    def __init__(self, ruin, changes):
        self.storage = ruin.storage(changes)
        before = self.storage.contents(PATH)
        self.report = repair_on(self.storage, PATH, COPY)
        assert before == self.storage.contents(PATH)  # the source is only read
        verified = verify_on(self.storage, COPY)
        assert (verified.problems, verified.notes, verified.unreferenced) == ((), (), ())
        self.entries = contents(self.storage, COPY)
        assert self.report.entries == len(self.entries)
        for key, value in self.entries.items():  # nothing that was never written
            assert value in ruin.ever.get(key, ()), key
        assert self.report.ok == (not self.report.losses and not self.report.doubts) == bool(self.report)

    def is_lost(self, key):
        """Whether a key lies within the bounds of some loss."""
        return any(
            (loss.low is None or loss.low <= key) and (loss.high is None or key <= loss.high)
            for loss in self.report.losses
        )

    def check_outside_of_losses(self, ruin, where):
        keys = [key for key in {*ruin.state, *self.entries} if not self.is_lost(key)]
        assert {key: ruin.state.get(key) for key in keys} == {key: self.entries.get(key) for key in keys}, (
            where
        )


def open_or_none(storage):
    """Return what opening shows; None if it refuses."""
    try:
        return contents(storage, PATH)
    except error:
        return None


def readable(ruin, name, bit):
    """What the tables and every record say, but for the record that one flipped bit is in."""
    state = contents(ruin.storage({log: None for log in ruin.names("wal")}), PATH)
    for log in ruin.names("wal"):
        data = ruin.files[log]
        for record in log_reader.in_order(data, records.LogHeader.decode(data)):
            if records.is_mark(record) or (log == name and record.offset <= bit >> 3 < record.end):
                continue
            change = records.decode_change(record)
            for key, value in zip(change.keys, change.values, strict=True):
                state[key] = value
                if value is None:
                    del state[key]
    return state


@pytest.fixture
def ruin(seed):
    return build("everywhere", random.Random(f"{seed} ruin"))


# What is whole


@pytest.mark.parametrize("shape", FILLS)
def test_a_whole_database_is_copied_without_loss_or_doubt(seed, shape):
    ruin = build(shape, random.Random(f"{seed} {shape}"))
    saved = Saved(ruin, {})

    assert saved.report
    assert ruin.state == saved.entries
    assert (saved.report.path, saved.report.destination) == (PATH, COPY)
    assert saved.report.tables == len(ruin.names("sst"))
    assert (saved.report.records > 0) == (shape != "in_tables")


def test_the_copy_is_written_on_like_any_other_and_remembers_the_options(ruin):
    storage = ruin.storage()
    repair_on(storage, PATH, COPY)
    with open_on(storage, COPY, "w", 0o666, {}) as db:
        assert TINY["block_bytes"] == db._store.options.block_bytes
        assert len(ruin.state) == len(db)
        db["new"] = "entry"
        del db[min(ruin.state)]
        db.compact()
        assert db.verify().ok
    expected = {**ruin.state, b"new": b"entry"}
    del expected[min(ruin.state)]

    assert expected == contents(storage, COPY)
    assert verify_on(storage, COPY).ok


def test_progress_ends_at_the_total(ruin):
    seen = []
    repair_on(ruin.storage(), PATH, COPY, lambda done, total: seen.append((done, total)))

    assert seen == sorted(seen)
    assert {sum(len(ruin.files[name]) for name in ruin.names("sst"))} == {total for _, total in seen}
    assert seen[-1][0] == seen[-1][1]


# Damage


def test_every_damage_to_every_file_is_survived_and_listed(seed, budget):
    rng = random.Random(f"{seed} damages")
    count = exact = 0
    for shape in list(FILLS) * ROUNDS[budget]:
        ruin = build(shape, rng)
        for name in ruin.files:
            for kind, data in damages(ruin.files[name], rng):
                where = f"{shape} {name} {kind}"
                saved = Saved(ruin, {name: data})
                count += 1
                exact += saved.entries == ruin.state
                if name == "LOCK" or name in ruin.names("man"):  # what depends on the order is right here
                    assert ruin.state == saved.entries, where
                elif name in ruin.names("sst"):
                    saved.check_outside_of_losses(ruin, where)
                if ruin.state != saved.entries and not leaves_no_trace(ruin, name, data):
                    assert not saved.report, where
                opened = open_or_none(ruin.storage({name: data}))
                if opened is not None and name not in ruin.names("sst"):
                    assert opened == saved.entries, where
    print(f"seed {seed}: {count} repairs, {exact} of them exact")
    assert count / 4 < exact < count


def test_a_flipped_bit_costs_at_most_its_block_or_its_record(seed, budget):
    rng = random.Random(f"{seed} repaired flips")
    count = costly = 0
    for shape in FILLS:
        ruin = build(shape, rng)
        bits = [(name, bit) for name in sorted(ruin.files) for bit in range(8 * len(ruin.files[name]))]
        for name, bit in rng.sample(bits, min(len(bits), FLIPS[budget] // len(FILLS))):
            count += 1
            where = f"{shape} {name} bit {bit}"
            data = flip(ruin.files[name], bit)
            saved = Saved(ruin, {name: data})
            opened = open_or_none(ruin.storage({name: data}))
            costly += saved.entries != ruin.state
            if name in ruin.names("wal"):
                assert (readable(ruin, name, bit) if opened is None else opened) == saved.entries, where
            elif name in ruin.names("sst"):
                saved.check_outside_of_losses(ruin, where)
                lost = [loss for loss in saved.report.losses if loss.path.endswith(name)]
                assert len(lost) <= 1, where
                assert all(loss.low is not None and loss.high is not None for loss in lost), where
            else:
                assert ruin.state == saved.entries, where
    print(f"seed {seed}: {count} flips, {costly} of them lost something")
    assert 0 < costly < count


@pytest.mark.parametrize("fault", ["losses are not listed", "order is by number", "deletions are dropped"])
def test_a_planted_fault_in_repair_is_found(seed, monkeypatch, fault):
    if fault == "losses are not listed":
        monkeypatch.setattr(Findings, "lose", lambda *args: None)
    elif fault == "order is by number":
        by_number = lambda tables, work: sorted(tables, key=lambda table: table.number)  # noqa: E731
        monkeypatch.setattr(seniority, "_newest_first", by_number)
    else:
        chunk = TableReader.block_chunk

        def without_deletions(self, first, stop):
            keys, values = chunk(self, first, stop)
            kept = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
            return [key for key, _ in kept], [value for _, value in kept]

        monkeypatch.setattr(TableReader, "block_chunk", without_deletions)
    with pytest.raises((AssertionError, IndexError)):
        test_every_damage_to_every_file_is_survived_and_listed(seed, "default")


def test_without_a_manifest_all_is_there_and_a_doubt_says_so(ruin):
    saved = Saved(ruin, {name: None for name in ruin.names("man")})

    assert ruin.state == saved.entries
    assert () == saved.report.losses
    assert NO_ORDER == saved.report.doubts[0].what


def test_without_a_manifest_a_table_may_be_damaged_as_well(ruin):
    for name in ruin.names("sst"):
        changes = {name: flip(ruin.files[name], 8 * (len(ruin.files[name]) - 50)), ruin.names("man")[0]: None}
        saved = Saved(ruin, changes)  # its footer: the metadata is found behind the index

        assert ruin.state == saved.entries


@pytest.mark.parametrize("part", ["header", "block", "filter", "index", "metadata", "footer"])
def test_each_part_of_a_table_can_be_damaged(ruin, part):
    name = ruin.names("sst")[0]
    data = ruin.files[name]
    footer = salvage.Footer.decode(data[-salvage.FOOTER_BYTES :])
    offset = {
        "header": 10,
        "block": salvage.HEADER_BYTES + 2,
        "filter": footer.filter.offset + 1,
        "index": footer.index.offset + 1,
        "metadata": footer.metadata.offset + 1,
        "footer": len(data) - 30,
    }[part]
    saved = Saved(ruin, {name: flip(data, 8 * offset)})

    if part == "block":
        loss = saved.report.losses[0]
        assert (f"{PATH}/{name}", salvage.HEADER_BYTES) == (loss.path, loss.offset)
        assert loss.low <= min(ruin.ever) <= loss.high
        assert any("deletions" in doubt.what for doubt in saved.report.doubts)
        assert str(loss).startswith(f"{PATH}/{name}, offset {salvage.HEADER_BYTES}: ")
    else:
        assert ruin.state == saved.entries
        assert () == saved.report.losses
        assert (part == "header") == saved.report.ok  # reading needs no header


def test_where_values_are_damaged_and_keys_are_not_deletions_still_hold(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n", compression=None) as db:
        db["a"] = db["b"] = "old"
        db.compact()
        del db["a"]
        db["b"] = "new value"
        db.flush()
    newest = max((tmp_path / "db").glob("*.sst"))
    data = newest.read_bytes()
    newest.write_bytes(data.replace(b"new value", b"new valuE"))
    report = lsmdbm.repair(tmp_path / "db", tmp_path / "saved")

    with lsmdbm.open(tmp_path / "saved") as db:
        assert {b"b": b"old"} == dict(db.items())  # "a" does not come back
    assert [(b"a", b"b")] == [(loss.low, loss.high) for loss in report.losses]
    assert "1 values lost; older ones of these keys may have come back" in [d.what for d in report.doubts]


def test_records_behind_a_damaged_place_of_a_log_are_taken_and_are_a_doubt(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n") as db:
        for number in range(5):
            db[b"%d" % number] = b"value %d" % number
    log = next((tmp_path / "db").glob("*.wal"))
    log.write_bytes(log.read_bytes().replace(b"value 2", b"value X"))
    with pytest.raises(lsmdbm.CorruptionError):
        lsmdbm.open(tmp_path / "db").close()
    report = lsmdbm.repair(tmp_path / "db", tmp_path / "saved")

    with lsmdbm.open(tmp_path / "saved") as db:
        assert [b"0", b"1", b"3", b"4"] == list(db)
    assert {str(log)} == {loss.path for loss in report.losses}
    assert ["records before this one are lost; what follows is applied without them"] == [
        doubt.what for doubt in report.doubts
    ]


def test_a_clear_in_a_damaged_log_voids_the_tables(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n", background="manual") as db:
        db["a"] = "in a table"
        db.flush()
        db["b"] = "before"
    with lsmdbm.open(tmp_path / "db", "w", background="manual") as db:
        db["c"] = "lost"
        db._store._tree.has_much_on_disk = lambda: False  # which would install it at once
        db.clear()
        db["d"] = "after"
    log = max((tmp_path / "db").glob("*.wal"))
    log.write_bytes(log.read_bytes().replace(b"lost", b"LOST"))
    lsmdbm.repair(tmp_path / "db", tmp_path / "saved")

    with lsmdbm.open(tmp_path / "saved") as db:
        assert [b"d"] == list(db)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_table_that_is_another_one_is_lost_not_mixed_in(tmp_path, is_damaged):
    """Damaged, its blocks have to be looked for, and they verify: they are of a table of this number."""
    for name, value in (("db", "ours"), ("other", "theirs")):
        with lsmdbm.open(tmp_path / name, "n") as db:
            db["a"] = value
            db.flush()
    ours, theirs = (next((tmp_path / name).glob("*.sst")) for name in ("db", "other"))
    assert ours.name == theirs.name
    data = theirs.read_bytes()
    if is_damaged:
        index = salvage.Footer.decode(data[-salvage.FOOTER_BYTES :]).index.offset
        data = flip(data, 8 * (index + 1))
    ours.write_bytes(data)
    report = lsmdbm.repair(tmp_path / "db", tmp_path / "saved")

    assert [(str(ours), b"a", b"a")] == [(loss.path, loss.low, loss.high) for loss in report.losses]
    assert 0 == report.entries


def test_an_old_manifest_is_not_believed_where_a_newer_one_is_damaged(ruin):
    """The newer one had committed: tables of the older state are gone."""
    storage = ruin.storage()
    old = ruin.names("man")[0]
    with open_on(storage, PATH, "w", 0o666, TINY) as db:
        db["key00"] = "newest"
        db.compact()
    files = storage.contents(PATH)
    newer = next(name for name in files if name.endswith(".man"))
    assert newer > old
    storage.plant(f"{PATH}/{old}", ruin.files[old])
    storage.plant(f"{PATH}/{newer}", flip(files[newer], 300))
    report = repair_on(storage, PATH, COPY)

    assert {**ruin.state, b"key00": b"newest"} == contents(storage, COPY)
    assert [f"{PATH}/{newer}"] == [loss.path for loss in report.losses]
    assert "out of date: a newer manifest is damaged" in [doubt.what for doubt in report.doubts]


def test_leftovers_of_a_compaction_that_was_installed_bring_nothing_back(ruin):
    """One of the inputs could not be unlinked; the one that deleted a key in it is gone."""
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {**TINY, "background": "manual"}) as db:
        db["a"] = "deleted later"
        db["b"] = "stays"
        db.flush()
        first = {name: data for name, data in storage.contents(PATH).items() if name.endswith("sst")}
        del db["a"]
        db.flush()
        db.compact()
    for name, data in first.items():
        storage.plant(f"{PATH}/{name}", data)
    for name in list(storage.contents(PATH)):
        if name.endswith("man"):
            storage.erase(f"{PATH}/{name}")
    repair_on(storage, PATH, COPY)

    assert {b"b": b"stays"} == contents(storage, COPY)


def two_tables(seed):
    """Return a disk with two tables that overlap, of which a compaction makes several; and what they hold."""
    rng = random.Random(f"{seed} two tables")
    storage = CrashStorage("two tables")
    with open_on(storage, PATH, "c", 0o666, {**TINY, "background": "manual"}) as db:
        for _ in range(2):
            db.update({b"%02d" % rng.randrange(90): rng.randbytes(60) for _ in range(60)})
            db.flush()
        return storage, dict(db.items())


@pytest.mark.parametrize("is_partial", [False, True])
def test_outputs_of_a_compaction_that_was_cut_off_change_nothing(seed, is_partial):
    """No manifest tells that they do not count: all inputs are there.  The last one may be missing."""
    storage, _ = two_tables(seed)
    with open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"}) as db:
        start = storage.count
        db.compact()
    names = [(name, path[-3:]) for name, path in storage.calls[start:]]
    storage, state = two_tables(seed)
    inputs = {name for name in storage.contents(PATH) if name.endswith("sst")}
    db = open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"})
    storage.fault(storage.count + names.index(("create", "man")), None)
    with pytest.raises(Killed):
        db.compact()
    crashed = storage.crash("kill")
    storage.dead = False
    storage.heal()
    db.close()
    outputs = sorted({name for name in crashed.contents(PATH) if name.endswith("sst")} - inputs)
    assert len(outputs) > 1
    for name in crashed.contents(PATH):
        if name.endswith("man") or (is_partial and name == outputs[-1]):
            crashed.erase(f"{PATH}/{name}")
    repair_on(crashed, PATH, COPY)

    assert state == contents(crashed, COPY)


def test_after_a_crash_repair_holds_what_opening_holds(seed):
    """Torn ends, gaps and installs that were cut off are no damage: the same prefix comes out."""
    rng = random.Random(f"{seed} crashes")
    for _ in range(10):
        storage = CrashStorage(rng.random())
        db = open_on(storage, PATH, "c", 0o666, TINY)
        images = []
        for number in range(60):
            db[b"%d" % rng.randrange(20)] = b"%d" % number * 8
            if rng.random() < 0.1:
                db.sync()
            if rng.random() < 0.1:
                images.append(storage.freeze())
        db.close()
        for image in images:
            crashed = image.crash(rng.choice(MODES), rng)
            expected = contents(crashed, PATH)
            assert recover(crashed.directory(PATH, 0o666)) is not None
            report = repair_on(crashed, PATH, COPY)
            assert expected == contents(crashed, COPY)
            assert () == report.losses


# What is refused


@pytest.mark.parametrize("there", ["file", "full", "itself", "inside"])
def test_a_destination_that_holds_something_is_refused_before_anything_is_written(tmp_path, there):
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db["a"] = "b"
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    target = {"itself": tmp_path / "db", "inside": tmp_path / "db" / "new"}.get(there, tmp_path / there)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match="exists, and is no empty directory|lies in the directory"):
        lsmdbm.repair(tmp_path / "db", target)

    assert before == sorted(tmp_path.rglob("*"))


def test_nothing_of_a_database_is_not_found_and_nothing_is_made(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(NotFoundError):
            lsmdbm.repair(tmp_path / name, tmp_path / "saved")
    with pytest.raises(NotFoundError):
        lsmdbm.open(tmp_path / "db", "n").close()
        lsmdbm.repair(tmp_path / "db", tmp_path / "no" / "parent")

    assert not (tmp_path / "saved").exists()


def test_a_repair_that_is_interrupted_leaves_no_destination(ruin):
    storage = ruin.storage()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair_on(storage, PATH, COPY, stop)
    assert "missing" == storage.kind(COPY)


def test_the_manifest_of_a_newer_format_is_refused(ruin, monkeypatch):
    monkeypatch.setattr("lsmdbm._format.manifest.FORMAT_VERSION", 0)
    storage = ruin.storage()
    with pytest.raises(error, match="database of format 1"):
        repair_on(storage, PATH, COPY)
    assert "missing" == storage.kind(COPY)
