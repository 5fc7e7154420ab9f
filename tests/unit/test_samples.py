"""Samples: from all over, without an entry twice, and bounded whatever is sampled."""

import random

import pytest

from lsmdbm._base.errors import CorruptionError
from lsmdbm._base.options import Options
from lsmdbm._engine.names import TABLE, file_name
from lsmdbm._engine.samples import dictionary_of_memtables, dictionary_of_tables
from lsmdbm._format import dictionaries
from lsmdbm._format.dictionaries import LEAST_SAMPLE, SAMPLE_BLOCKS
from support.documents import documents, noise
from support.format import ORIGIN, finish, table_writer
from support.stage import Stage, memtable

OPTIONS = Options(block_bytes=1024)
DOCUMENTS = dict(documents(random.Random("samples"), 2000))  # 400 KB


@pytest.fixture
def chosen(monkeypatch):
    """A list that grows with the arguments of every choice."""
    calls = []
    monkeypatch.setattr(dictionaries, "choose", lambda *given: calls.append(given) or b"")
    return calls


def shuffled(entries):
    keys = list(entries)
    random.Random("order").shuffle(keys)
    return {key: entries[key] for key in keys}


def check_sample(blocks, entries):
    """Blocks of about the right length, ascending, that share no entry and come from all over."""
    keys = [key for keys, _ in blocks for key in keys]
    order = sorted(entries)
    thirds = [order[len(order) * number // 3] for number in range(3)]

    assert LEAST_SAMPLE <= len(blocks) <= SAMPLE_BLOCKS + 1
    assert len(keys) == len(set(keys))
    assert all(
        entries[key] == value for keys, values in blocks for key, value in zip(keys, values, strict=True)
    )
    for low, high in zip(thirds, [*thirds[1:], order[-1]], strict=True):
        assert sum(low <= keys[0] <= high for keys, _ in blocks) >= len(blocks) / 6


@pytest.mark.parametrize("order", [sorted, shuffled])
def test_blocks_of_a_memtable_are_as_long_as_those_of_a_table_and_come_from_all_over(chosen, order):
    entries = {key: DOCUMENTS[key] for key in order(DOCUMENTS)}
    dictionary_of_memtables([memtable(entries)], OPTIONS, 1 << 20)
    ((blocks, level, table_bytes),) = chosen

    check_sample(blocks, entries)
    assert all(6 <= len(keys) <= 8 for keys, _ in blocks[:-1])
    assert (1, memtable(entries).charge) == (level, table_bytes)


def test_several_memtables_are_sampled_by_their_share(chosen):
    parts = sorted(DOCUMENTS.items())
    few, many = dict(parts[:400]), dict(parts[400:])
    dictionary_of_memtables([memtable(few), memtable(many)], OPTIONS, 1 << 20)
    blocks = chosen[0][0]

    check_sample(blocks, DOCUMENTS)
    assert 5 <= sum(keys[0] in few for keys, _ in blocks) <= 15


def test_a_table_is_never_taken_for_longer_than_it_gets(chosen):
    dictionary_of_memtables([memtable(DOCUMENTS)], OPTIONS, 1000)

    assert 1000 == chosen[0][2]


@pytest.mark.parametrize("count", [1, 3, 100])
def test_blocks_of_tables_come_from_all_of_them(chosen, count):
    stage = Stage(block_bytes=1024)
    parts = sorted(DOCUMENTS.items())
    size = len(parts) // count
    metas = [stage.table(dict(parts[low : low + size])) for low in range(0, len(parts), size)]
    stage.forget_readers()
    dictionary_of_tables(metas, stage.tables, OPTIONS, 1 << 30)
    blocks, level, table_bytes, inherited = chosen[0]

    check_sample(blocks, DOCUMENTS)
    assert (1, b"") == (level, inherited)
    assert sum(meta.raw_bytes for meta in metas) == table_bytes
    assert len(stage.tables.readers) <= SAMPLE_BLOCKS
    assert 0 == len(stage.tables.blocks)


def test_the_dictionary_that_most_of_the_sample_has_is_inherited(chosen, monkeypatch):
    monkeypatch.setattr(dictionaries, "LEAST_TABLE_BYTES", 1)
    stage = Stage(block_bytes=1024)
    parts = sorted(DOCUMENTS.items())
    old, new = (dictionaries_of(dict(half)) for half in (parts[:1000], parts[1000:]))
    metas = [
        with_dictionary(stage, dict(parts[low : low + 500]), dictionary)
        for low, dictionary in ((0, old), (500, new), (1000, new), (1500, b""))
    ]
    for some, inherited in (
        (metas, new),
        (metas[:1], old),
        (metas[::3], old),
        ([*metas[::3], metas[3]], old),
        (metas[3:], b""),
    ):
        dictionary_of_tables(some, stage.tables, OPTIONS, 1 << 30)
        assert inherited == chosen.pop()[3]


def dictionaries_of(entries):
    parts = [([key], [value]) for key, value in entries.items()]
    return dictionaries._train([p for part in parts for p in dictionaries._raw(part)], 2048, 1)


def with_dictionary(stage, entries, dictionary):
    number, file = stage.numbers.create(stage.directory, TABLE)
    writer = table_writer(file, number=number, salt=number, block_bytes=1024, dictionary=dictionary)
    writer.add(list(entries), list(entries.values()))
    return finish(writer, ORIGIN)


@pytest.mark.parametrize(
    "options", [{"compression": None}, {"dictionaries": False}, {"block_bytes": 1 << 16}], ids=str
)
def test_nothing_is_sampled_where_no_dictionary_may_be_had(chosen, options):
    stage = Stage(block_bytes=1024)
    meta = stage.table(DOCUMENTS)
    stage.forget_readers()
    options = Options(**{"block_bytes": 1024, **options})

    assert b"" == dictionary_of_memtables([memtable(DOCUMENTS)], options, 1 << 20)
    assert b"" == dictionary_of_tables([meta], stage.tables, options, 1 << 20)
    assert [] == chosen
    assert 0 == len(stage.tables.readers)


def test_little_is_not_sampled(chosen):
    stage = Stage(block_bytes=1024)
    few = dict(sorted(DOCUMENTS.items())[:300])
    dictionary_of_memtables([memtable(few)], OPTIONS, 1 << 20)
    dictionary_of_tables([stage.table(few)], stage.tables, OPTIONS, 1 << 20)

    assert [] == chosen


def test_blocks_with_large_values_are_left_out(chosen):
    large = dict(noise(random.Random("large"), 100))
    entries = {**DOCUMENTS, **{key: value * 100 for key, value in large.items()}}
    stage = Stage(block_bytes=1024)
    dictionary_of_memtables([memtable(entries)], OPTIONS, 1 << 20)
    dictionary_of_tables([stage.table(entries)], stage.tables, OPTIONS, 1 << 20)
    for blocks, *_ in chosen:
        assert 0 < len(blocks) < SAMPLE_BLOCKS
        assert not any(key in large for keys, _ in blocks[:-1] for key in keys)


def test_tombstones_are_sampled_like_values(chosen):
    entries = {key: None if place % 3 else value for place, (key, value) in enumerate(DOCUMENTS.items())}
    made = memtable(entries)
    made.charge = 1 << 20
    dictionary_of_memtables([made], OPTIONS, 1 << 20)

    check_sample(chosen[0][0], entries)


def test_a_damaged_table_is_an_error():
    stage = Stage(block_bytes=1024)
    meta = stage.table(DOCUMENTS)
    path = f"/{file_name(meta.number, TABLE)}"
    data = stage.directory.open(file_name(meta.number, TABLE)).pread(meta.file_bytes, 0)
    half = stage.tables.reader(meta).handle(100).offset
    stage.storage.plant(path, data[:40] + bytes(half - 40) + data[half:])
    stage.forget_readers()
    with pytest.raises(CorruptionError):
        dictionary_of_tables([meta], stage.tables, OPTIONS, 1 << 20)
