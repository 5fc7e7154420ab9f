import pytest

from lsmdbm._base.errors import error
from lsmdbm._engine.figures import LevelStats, Stats
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.stats import Totals, gather
from lsmdbm._engine.view import View
from support.stage import Stage, memtable


def figures(view, *, totals=None, trouble=None):
    return gather(view, 3, totals or Totals(), trouble, 2)


def test_empty_tree_has_no_figures_and_no_rates():
    stats = figures(Stage().view())

    assert ((), 0, 0, 0) == (stats.levels, stats.tables, stats.file_bytes, stats.raw_bytes)
    assert (0, 0, 0, 3) == (stats.memtables, stats.memtable_entries, stats.memtable_bytes, stats.log_files)
    assert [None] * 4 == [
        stats.cache_hit_rate,
        stats.compression_ratio,
        stats.write_amplification,
        stats.trouble,
    ]


def test_levels_add_up_their_tables():
    stage = Stage()
    stage.add(2, {b"a": b"x" * 500, b"b": b"x" * 500}, {b"c": None, b"d": b"1"})
    stage.add(0, {b"a": None})
    level2, level0 = stage.version.level(2), stage.version.level(0)
    stats = figures(stage.view())
    expected = (
        LevelStats(0, 1, 1, 1, level0[0].file_bytes, level0[0].raw_bytes),
        LevelStats(1, 0, 0, 0, 0, 0),
        LevelStats(
            2, 2, 4, 1, sum(meta.file_bytes for meta in level2), sum(meta.raw_bytes for meta in level2)
        ),
    )

    assert expected == stats.levels
    assert 3 == stats.tables
    assert sum(map(len, stage.storage.contents().values())) == stats.file_bytes
    assert sum(meta.raw_bytes for meta in stage.version) == stats.raw_bytes
    assert stats.raw_bytes / stats.file_bytes == stats.compression_ratio


def test_memtables_count_if_they_hold_anything():
    sealed = memtable({b"a": b"1", b"b": None}), memtable({b"c": b"1"})
    stage = Stage()
    stats = figures(stage.view(*sealed))
    assert (2, 3, sum(one.charge for one in sealed)) == (
        stats.memtables,
        stats.memtable_entries,
        stats.memtable_bytes,
    )

    active = Memtable(1, {b"d": b"1"})
    active.charge = 5
    assert (1, 1, 5) == (
        (stats := figures(View(active, (), stage.version, stage.tables))).memtables,
        stats.memtable_entries,
        stats.memtable_bytes,
    )


def test_point_reads_are_counted():
    stage = Stage(block_bytes=16, bloom_bits_per_key=16)
    stage.add(1, {b"%03d" % number: b"value" for number in range(0, 200, 2)})
    view = stage.view()
    view.get(b"010")
    view.get(b"010")
    for number in range(1, 200, 2):
        view.get(b"%03d" % number)
    stats = figures(view)
    blocks = stage.tables.blocks

    assert 100 == stats.filter_probes + blocks.hits - 1
    assert stats.blocks_read == 1 + stats.filter_false_positives
    assert stats.blocks_read < 20
    assert blocks.hits / (blocks.hits + blocks.misses) == stats.cache_hit_rate
    assert 0 < stats.cache_hit_rate < 1
    assert blocks.cost == stats.cache_bytes > 0
    assert (1, 2) == (stats.open_tables, stats.snapshots)


def test_bytes_are_counted_by_who_reads_them():
    stage = Stage(block_bytes=16, cache_bytes=1 << 20)
    stage.add(1, {b"%03d" % number: b"value" for number in range(20)})
    (meta,) = stage.version.level(1)
    view, reader = stage.view(), stage.tables.reader(meta)
    handles = [reader.handle(index) for index in range(reader.block_count)]
    whole = sum(handle.end - handle.offset for handle in handles)

    def read():
        stats = figures(view)
        return stats.get_read_bytes, stats.scan_read_bytes, stats.compaction_read_bytes

    assert (0, 0, 0) == read()
    assert view.get(b"003") == view.get(b"003")
    hit = handles[next(index for index, key in enumerate(reader.separators()) if key >= b"003")]
    gets = hit.end - hit.offset
    assert (gets, 0, 0) == read()
    assert 20 == sum(len(keys) for keys, _ in view.chunks(keys_only=True))
    heads = sum(handle.head_stored for handle in handles) - hit.head_stored  # that block was cached
    assert (gets, heads, 0) == read()
    assert 20 == sum(len(keys) for keys, _ in view.chunks())
    assert (gets, heads + whole - gets, 0) == read()
    reader.block_chunk(0, reader.block_count)
    reader.stored_block(0)
    assert (gets, heads + whole - gets, whole + handles[0].end - handles[0].offset) == read()
    assert (1, 1) == (figures(view).cache_hits, figures(view).cache_misses)


def test_totals_are_those_of_the_store():
    totals = Totals()
    assert [0] * 12 == [getattr(totals, name) for name in Totals.__slots__]
    for number, name in enumerate(Totals.__slots__, 1):
        setattr(totals, name, 100 * number)
    stats = figures(Stage().view(), totals=totals)

    assert [100 * number for number in range(1, 13)] == [getattr(stats, name) for name in Totals.__slots__]
    written, tables = totals.written_bytes, totals.flushed_bytes + totals.compacted_bytes
    assert (written + tables) / written == stats.write_amplification


@pytest.mark.parametrize("trouble", [error(28, "No space left on device", "/db"), OSError("odd")])
def test_trouble_is_told_in_words(trouble):
    assert str(trouble) == figures(Stage().view(), trouble=trouble).trouble


def test_figures_cannot_be_changed():
    stats = figures(Stage().view())
    with pytest.raises(AttributeError):
        stats.memtables = 1
    assert not hasattr(stats, "__dict__")
    assert isinstance(stats, Stats)
