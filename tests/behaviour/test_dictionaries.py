"""A database whose tables have dictionaries is smaller, and in every other respect like any other."""

import random

import pytest

import lsmdbm
from lsmdbm._base.errors import CorruptionError
from lsmdbm._engine.names import TABLE, parse
from lsmdbm._format import dictionaries
from lsmdbm._format.footer import FOOTER_BYTES, Footer
from lsmdbm.bulk import TableWriter, bulk_load
from lsmdbm.database import open_on
from lsmdbm.maintenance import repair_on, verify_on
from support.documents import document, documents, noise
from support.ruins import COPY, PATH, contents, flip
from support.specimens import all_specimens

DOCUMENTS = dict(documents(random.Random("behaviour"), 2000))
FLIPS = {"small": 30, "default": 200, "crash": 3000, "long": 100_000}


@pytest.fixture
def specimen():
    return next(found for found in all_specimens() if found.name == "dictionary")


@pytest.fixture
def without_a_least_size(monkeypatch):
    """Dictionaries in tables of any size."""
    monkeypatch.setattr(dictionaries, "LEAST_TABLE_BYTES", 1)
    monkeypatch.setattr(dictionaries, "LEAST_SAMPLE", 3)
    monkeypatch.setattr(dictionaries, "COPIES", 0)


def tables(files):
    return sorted(name for name in files if (found := parse(name)) and found[1] == TABLE)


def with_dictionary(path):
    """Return for each table of a database on disk whether it has a dictionary."""
    names = tables([file.name for file in path.iterdir()])
    return [bool(Footer.decode((path / name).read_bytes()[-FOOTER_BYTES:]).features) for name in names]


def size(path):
    return sum(file.stat().st_size for file in path.glob("*.sst"))


def filled(path, entries, **options):
    with lsmdbm.open(path, "c", **options) as db:
        db.update(entries)
        db.compact()
    return path


def test_documents_take_less_space_and_are_the_same(tmp_path):
    plain = filled(tmp_path / "plain", DOCUMENTS, dictionaries=False)
    small = filled(tmp_path / "small", DOCUMENTS)

    assert ([False], [True]) == (with_dictionary(plain), with_dictionary(small))
    assert size(small) <= 0.8 * size(plain)
    with lsmdbm.open(small, "r") as db:
        assert DOCUMENTS == dict(db.items())
        assert all(value == db[key] for key, value in DOCUMENTS.items())


def test_what_has_nothing_in_common_takes_the_very_same_space(tmp_path):
    entries = dict(noise(random.Random("noise"), 2000))
    plain = filled(tmp_path / "plain", entries, dictionaries=False)
    other = filled(tmp_path / "other", entries)

    assert [False] == with_dictionary(other)
    assert size(plain) == size(other)


def test_the_option_is_remembered_and_can_be_changed(tmp_path):
    path = filled(tmp_path / "db", DOCUMENTS, dictionaries=False)
    for options, has in (
        ({}, False),
        ({"dictionaries": True}, True),
        ({}, True),
        ({"dictionaries": False}, False),
    ):
        with lsmdbm.open(path, "w", **options) as db:
            db[b"another"] = b"one"
            db.compact()
            assert DOCUMENTS.items() <= dict(db.items()).items()
        assert [has] == with_dictionary(path)


@pytest.mark.parametrize("compression", ["zstd", None])
def test_without_compression_there_is_no_dictionary_and_the_wish_for_one_is_remembered(tmp_path, compression):
    path = filled(tmp_path / "db", DOCUMENTS, compression=None)
    assert [False] == with_dictionary(path)
    with lsmdbm.open(path, "w", compression=compression) as db:
        db[b"another"] = b"one"
        db.compact()

    assert [compression is not None] == with_dictionary(path)


def imported(path):
    lsmdbm.import_dbm(DOCUMENTS, path)


def loaded(path):
    bulk_load(path, DOCUMENTS, dictionaries=True)


def ingested(path):
    with TableWriter(f"{path}.table") as writer:
        writer.extend(DOCUMENTS)
    with lsmdbm.open(path, "n") as db:
        db.ingest([f"{path}.table"])


@pytest.mark.parametrize("make", [imported, loaded, ingested])
def test_tables_that_were_loaded_get_a_dictionary_when_something_rewrites_them(tmp_path, make):
    make(tmp_path / "db")
    assert [False] == with_dictionary(tmp_path / "db")
    with lsmdbm.open(tmp_path / "db", "w") as db:
        db[b"another"] = b"one"
        db.compact()

    assert [True] == with_dictionary(tmp_path / "db")


def test_a_compacted_database_keeps_its_dictionary_as_long_as_it_does_well(tmp_path, monkeypatch):
    path = filled(tmp_path / "db", DOCUMENTS)
    monkeypatch.setattr(dictionaries.zstandard, "train_dictionary", None)
    with lsmdbm.open(path, "w") as db:
        for key, value in documents(random.Random("more"), 100, first=5000):
            db[key] = value
        db.compact()

    assert [True] == with_dictionary(path)


# One table after the other


def test_random_documents_through_flushes_and_compactions(seed, without_a_least_size, tmp_path):
    """With a dictionary in every table, old ones that go over, and blocks that move between them."""
    rng, model, had = random.Random(f"{seed} documents"), {}, 0
    path = tmp_path / "db"
    options = {"memtable_bytes": 1 << 14, "block_bytes": 500}
    for opening in range(6):
        with lsmdbm.open(path, "c", **options, dictionaries=opening != 3) as db:
            for _ in range(250):
                key = b"document %05d" % rng.randrange(2000)
                if rng.random() < 0.2:
                    db.pop(key, None)
                    model.pop(key, None)
                else:
                    value = document(rng, rng.randrange(1000))
                    value = value.swapcase() if rng.random() < opening / 10 else value
                    db[key] = model[key] = value
            getattr(db, rng.choice(("flush", "compact", "sync")))()
            assert model == dict(db.items())
        had += sum(with_dictionary(path))
        assert lsmdbm.verify(path).ok
    assert had > 3, f"seed {seed}"


# Care


def test_a_backup_and_a_repair_of_it_hold_the_same(tmp_path):
    path = filled(tmp_path / "db", DOCUMENTS)
    with lsmdbm.open(path, "w") as db:
        db[b"in the log"] = b"value"
        db.backup(tmp_path / "backup")
    report = lsmdbm.repair(path, tmp_path / "repaired")

    assert report.ok
    for copy in ("backup", "repaired"):
        assert lsmdbm.verify(tmp_path / copy).ok
        with lsmdbm.open(tmp_path / copy, "r") as db:
            assert {**DOCUMENTS, b"in the log": b"value"} == dict(db.items())
    assert True in with_dictionary(tmp_path / "backup")


def test_verify_finds_any_flipped_bit_and_repair_loses_at_most_a_block(seed, budget, specimen):
    rng = random.Random(f"{seed} flips")
    names = tables(specimen.files)
    bits = [(name, bit) for name in names for bit in range(8 * len(specimen.files[name]))]
    block = 5  # entries in the largest
    costly = 0
    for name, bit in rng.sample(bits, min(FLIPS[budget], len(bits))):
        where = f"seed {seed}: {name} bit {bit}"
        storage = specimen.storage({**specimen.files, name: flip(specimen.files[name], bit)})

        assert not verify_on(storage, PATH).ok, where
        report = repair_on(storage, PATH, COPY)
        saved = contents(storage, COPY)
        assert saved.items() <= specimen.content.items(), where
        assert len(specimen.content) - len(saved) <= block, where
        assert (saved == specimen.content) or report.losses, where
        costly += saved != specimen.content
    assert 0 < costly < len(bits)


def dictionaries_in(data):
    """Return the offsets of the two dictionaries of a table, and their length."""
    footer = Footer.decode(data[-FOOTER_BYTES:])
    first = 28
    stored = next(
        length
        for length in range(1, len(data))
        if data[footer.filter.offset - length :][:12] == data[first:][:12]
    )
    return (first, footer.filter.offset - stored), stored


def test_one_damaged_dictionary_costs_nothing_and_two_cost_the_table(specimen):
    name = tables(specimen.files)[0]
    data = specimen.files[name]
    offsets, stored = dictionaries_in(data)
    damaged = data
    for offset, costs in zip(offsets, (False, True), strict=True):
        damaged = flip(damaged, 8 * (offset + stored // 2))
        storage = specimen.storage({**specimen.files, name: damaged})
        with open_on(storage, PATH, "r", 0o666, {}) as db:
            if costs:
                with pytest.raises(CorruptionError, match=name):
                    dict(db.items())
            else:
                assert specimen.content == dict(db.items())
        assert [name in str(problem) for problem in verify_on(storage, PATH).problems] == [True]
        report = repair_on(storage, PATH, COPY)
        assert costs != (contents(storage, COPY) == specimen.content)
        assert costs == bool(report.losses)
