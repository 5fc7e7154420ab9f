import errno
import random
import tracemalloc

import pytest

from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._engine import jobs
from lsmdbm._engine.jobs import ENTRY_BYTES, SPAN_BLOCKS, STEP_ENTRIES, TableSpan, compact, flush
from lsmdbm._engine.names import TABLE, file_name
from lsmdbm._engine.picker import pick_everything
from lsmdbm._engine.plan import Limits
from lsmdbm._format import envelope, table_reader
from lsmdbm._format.dictionaries import SAMPLE_BLOCKS
from lsmdbm._format.footer import FOOTER_BYTES, Footer
from lsmdbm._format.table_check import problems_of
from lsmdbm._format.table_reader import TableReader
from lsmdbm._format.table_writer import BLOOM_STEP, TableWriter
from support.crash_storage import SYNCS, UNLINKS, WRITES, Killed, failure
from support.documents import documents
from support.stage import Calls, Stage, live, memtable, merged, run


def name(meta):
    return file_name(meta.number, TABLE)


def entries(count, step=1, first=0, value=b"value %d"):
    return {
        b"%06d" % number: value % number if b"%" in value else value
        for number in range(first, first + count * step, step)
    }


def random_layers(rng, count, key_count=500):
    """Return random dicts of puts and deletes, the newest first."""
    return [
        {
            b"%04d" % rng.randrange(key_count): rng.choice((None, b"%d" % number * rng.randrange(20)))
            for _ in range(rng.choice((1, 20, 300)))
        }
        for number in range(count)
    ]


def stored(stage, metas):
    """Return the blocks of tables as they are stored: a list of (keys, head, body)."""
    blocks = []
    for meta in metas:
        reader = stage.tables.reader(meta)
        for index in range(reader.block_count):
            block = reader.stored_block(index)
            blocks.append((block.keys, block.head, block.body))
    return blocks


def problems(stage, metas):
    return [problem for meta in metas for problem in problems_of(stage.tables.reader(meta))]


# Flush


def test_flush_writes_what_the_memtables_say_together(seed):
    rng = random.Random(f"{seed} flush")
    for count in (1, 2, 5, 30):
        layers, stage = random_layers(rng, count), Stage()
        (meta,) = stage.flush(*map(memtable, layers))

        assert merged(layers) == stage.entries([meta]), f"seed {seed}"
        assert [] == problems(stage, [meta])
        assert len(merged(layers)) == meta.entries
        assert list(merged(layers).values()).count(None) == meta.tombstones
        assert (min(merged(layers)), max(merged(layers))) == (meta.smallest, meta.largest)


def test_flush_keeps_tombstones_whatever_is_below():
    stage = Stage()
    (meta,) = stage.flush(memtable({b"a": None}))

    assert {b"a": None} == stage.entries([meta])


def test_flushed_table_says_where_its_entries_come_from():
    stage = Stage()
    newer, older = memtable(entries(3), 8), memtable(entries(2, first=10), 5)
    newer.last_seq = 11
    (meta,) = stage.flush(newer, older)
    origin = stage.tables.reader(meta).metadata.origin

    assert (0, 5, 11, ()) == (origin.level, origin.first_seq, origin.last_seq, origin.inputs)
    assert (5, 11) == (meta.first_seq, meta.last_seq)


def test_flush_of_nothing_writes_no_table():
    stage = Stage()
    assert ([], []) == run(flush((memtable({}),), stage.shop))
    assert set() == stage.files()


def test_large_memtable_is_flushed_into_several_tables():
    stage = Stage(memtable_bytes=1000, block_bytes=100, compression=None)
    metas = stage.flush(memtable(entries(2000)))

    assert len(metas) > 3
    assert entries(2000) == stage.entries(metas)
    assert all(one.largest < other.smallest for one, other in zip(metas, metas[1:], strict=False))
    assert all(meta.file_bytes > 4000 for meta in metas[:-1])


def test_flush_leaves_its_memtables_as_they_are():
    stage = Stage()
    newer, older = memtable({b"a": None, b"b": b"1"}), memtable({b"b": None, b"c": b"2"})
    stage.flush(newer, older)

    assert ({b"a": None, b"b": b"1"}, {b"b": None, b"c": b"2"}) == (newer.entries, older.entries)


def test_options_shape_the_tables():
    text = entries(500, value=b"the same text over and over again")
    plain, packed = Stage(compression=None), Stage(compression="zstd")
    unfiltered, coarse = Stage(bloom_bits_per_key=0), Stage(block_bytes=4096)
    sizes = [stage.flush(memtable(text))[0].file_bytes for stage in (plain, packed, unfiltered, coarse)]

    assert sizes[1] < sizes[0]
    assert sizes[2] < sizes[1]
    assert (
        coarse.tables.reader(*coarse.version).block_count < packed.tables.reader(*packed.version).block_count
    )


def test_each_table_has_a_salt_of_its_own():
    stage = Stage()
    first, second = (stage.flush(memtable({b"a": b"1"}))[0] for _ in range(2))
    data = stage.storage.contents()

    assert data[name(first)][16:24] != data[name(second)][16:24]


# Compaction


def compacted(stage, level, *layers):
    """Put layers, given newest first, into level 0; return the outputs of their compaction."""
    metas = [stage.add(0, layer)[0] for layer in reversed(layers)]
    return stage.compact(stage.merge_of(level, *([meta] for meta in reversed(metas))))


def test_compaction_writes_what_its_tables_say_together(seed):
    rng = random.Random(f"{seed} compact")
    for count in (1, 2, 5, 12):
        for table_bytes in (1, 2000, 1 << 20):
            layers = random_layers(rng, count)
            stage = Stage(block_bytes=rng.choice((16, 200)), limits=Limits(table_bytes, 4, 1000))
            metas = compacted(stage, 1, *layers)

            assert live(layers) == stage.entries(metas), f"seed {seed}"
            assert [] == problems(stage, metas)
            assert all(a.largest < b.smallest for a, b in zip(metas, metas[1:], strict=False))


def test_random_trees_stay_what_they_were_whatever_is_compacted(seed):
    """Flush by flush, with compactions of everything from some level on."""
    rng = random.Random(f"{seed} trees")
    for _ in range(5):
        stage = Stage(block_bytes=100, limits=Limits(1000, 3, 3000))
        layers = []
        for _ in range(25):
            layers[:0] = random_layers(rng, 1)
            stage.flush(memtable(layers[0]))
            if rng.random() < 0.4:
                level = rng.randrange(1, 4)
                runs = [[meta] for meta in stage.version.level(0)]
                runs += [stage.version.level(n) for n in range(1, level + 1) if stage.version.level(n)]
                stage.compact(stage.merge_of(level, *runs))

            assert live(layers) == dict(
                pair for keys, values in stage.view().chunks() for pair in zip(keys, values, strict=True)
            ), f"seed {seed}"


def test_compacted_table_says_where_its_entries_come_from():
    stage = Stage()
    newer, older = stage.flush(memtable({b"a": b"1"}, 20))[0], stage.add(1, {b"a": b"2", b"b": b"3"})[0]
    (meta,) = stage.compact(stage.merge_of(1, [newer], [older]))
    origin = stage.tables.reader(meta).metadata.origin

    assert (1, tuple(sorted((newer.number, older.number)))) == (origin.level, origin.inputs)
    first, last = min(newer.first_seq, older.first_seq), max(newer.last_seq, older.last_seq)
    assert (first, last, first, last) == (origin.first_seq, origin.last_seq, meta.first_seq, meta.last_seq)


def test_compaction_leaves_its_inputs_where_they_are():
    stage = Stage()
    metas = [stage.add(0, entries(20, first=number))[0] for number in range(3)]
    before = stage.storage.contents()
    run(compact(stage.merge_of(1, *([meta] for meta in metas)), stage.version, stage.shop))

    assert before.items() <= stage.storage.contents().items()


def test_compaction_that_leaves_nothing_writes_no_table():
    stage = Stage()
    metas = compacted(stage, 1, {b"a": None, b"b": None}, {b"a": b"1"})

    assert ([], ()) == (metas, stage.version.levels)


def test_everything_leaves_one_level_of_what_is_there(seed):
    rng = random.Random(f"{seed} everything")
    layers, stage = random_layers(rng, 8), Stage(block_bytes=100, limits=Limits(1000, 4, 2000))
    for number, layer in enumerate(reversed(layers)):
        stage.flush(memtable(layer))
        if number == 3:
            stage.compact(pick_everything(stage.version, stage.shop.limits))
    stage.compact(pick_everything(stage.version, stage.shop.limits))

    assert live(layers) == stage.entries(stage.version), f"seed {seed}"
    assert 1 == sum(map(bool, stage.version.levels))
    assert not stage.version.may_delete


# Tombstones


def test_tombstones_are_dropped_only_where_nothing_older_is_below():
    stage = Stage()
    stage.add(3, {b"b": b"old", b"c": b"old"}, {b"g": b"old"})
    stage.add(2, {b"e": b"old"})
    deleted = {bytes([letter]): None for letter in b"abcdefgh"}
    metas = compacted(stage, 1, deleted)

    assert {b"b": None, b"c": None, b"e": None, b"g": None} == stage.entries(metas)


def test_tombstones_hide_what_is_in_the_target_level_and_go_with_it():
    stage = Stage()
    stage.add(1, {b"a": b"1", b"b": b"1"})
    stage.add(0, {b"a": None, b"z": None})
    metas = stage.compact(stage.merge_of(1, stage.version.level(0), stage.version.level(1)))

    assert {b"b": b"1"} == stage.entries(metas)


def test_tombstones_within_the_bounds_of_a_deeper_table_are_kept():
    """Bounds are all that is known without reading."""
    stage = Stage()
    stage.add(2, {b"a": b"1", b"z": b"1"})

    assert {b"m": None} == stage.entries(compacted(stage, 1, {b"m": None}))


# Blocks that go over as they are


@pytest.fixture
def spread():
    """A stage with 3000 keys in level 1, in many blocks of about 40, and its table."""
    stage = Stage(block_bytes=512, limits=Limits(1 << 20, 4, 1 << 20))
    (meta,) = stage.add(1, entries(3000))
    return stage, meta


def decompressing(monkeypatch):
    """Return a list that grows with the index of every block that is decoded whole."""
    decoded = []
    read = jobs.TableReader.block_chunk

    def watched(reader, first, stop):
        decoded.extend(range(first, stop))
        return read(reader, first, stop)

    monkeypatch.setattr(jobs.TableReader, "block_chunk", watched)
    return decoded


def test_blocks_that_overlap_nothing_keep_their_stored_bytes(spread, monkeypatch):
    stage, older = spread
    before = stored(stage, [older])
    stage.add(0, {b"001500": b"new", b"001501": None})
    decoded = decompressing(monkeypatch)
    metas = stage.compact(stage.merge_of(1, stage.version.level(0), stage.version.level(1)))
    after = {tuple(keys): (head, body) for keys, head, body in stored(stage, metas)}
    kept = [keys for keys, head, body in before if after.get(tuple(keys)) == (head, body)]

    assert len(before) - SPAN_BLOCKS <= len(kept) < len(before)
    assert len(decoded) <= 1 + SPAN_BLOCKS + 1  # the new table, a span of the old one, its small last block
    assert {**entries(3000), b"001500": b"new", b"001501": None}.items() >= stage.entries(metas).items()
    assert 2999 == len(stage.entries(metas))
    assert [] == problems(stage, metas)


def test_bounds_of_a_span_are_the_separators_around_it(spread):
    """With bounds further apart more would be read than has to be."""
    stage, meta = spread
    reader = stage.tables.reader(meta)
    spans = [TableSpan(reader, first) for first in range(0, reader.block_count, SPAN_BLOCKS)]
    separators = reader.separators()

    assert [meta.smallest, *separators[SPAN_BLOCKS - 1 : -1 : SPAN_BLOCKS]] == [span.lower for span in spans]
    assert [span.lower for span in spans[1:]] + [meta.largest] == [span.upper for span in spans]
    for span in spans:
        keys, _ = span.load()
        assert span.lower <= keys[0]
        assert keys[-1] <= span.upper


def test_interleaved_tables_that_do_not_overlap_go_over_whole():
    stage = Stage(block_bytes=100, limits=Limits(1 << 20, 4, 1 << 20))
    low, middle, high = (stage.table(entries(400, first=first)) for first in (0, 400, 800))
    stage.move_to((), {0: [middle], 1: [low, high]})
    before = stored(stage, [low, middle, high])
    metas = stage.compact(stage.merge_of(1, [middle], [low, high]))

    assert entries(1200) == stage.entries(metas)
    assert len(before) - 3 <= len([block for block in before if block in stored(stage, metas)])


def test_blocks_with_tombstones_are_rewritten_without_them():
    stage = Stage(block_bytes=512, limits=Limits(1 << 20, 4, 1 << 20))
    deleted = {key: None for index, key in enumerate(entries(3000)) if index % 1000 == 500}
    (meta,) = stage.add(1, {**entries(3000), **deleted})
    before = stored(stage, [meta])
    metas = stage.compact(stage.merge_of(1, [meta]))
    after = stored(stage, metas)

    assert 0 == sum(meta.tombstones for meta in metas)
    assert live([deleted, entries(3000)]) == stage.entries(metas)
    kept = [block for block in before if block in after]
    assert len(before) - 4 <= len(kept) < len(before)  # three with tombstones, and the small last one


def test_small_blocks_are_joined():
    stage = Stage(block_bytes=1000, limits=Limits(1 << 20, 4, 1 << 20))
    metas = [stage.add(1, entries(2, first=10 * number))[0] for number in range(200)]
    assert 200 == len(stored(stage, metas))
    outputs = stage.compact(stage.merge_of(2, metas))
    blocks = stored(stage, outputs)

    assert merged(stage.contents[meta.number] for meta in metas) == stage.entries(outputs)
    assert len(blocks) < 20


@pytest.mark.parametrize(("value_bytes", "rewritten"), [(450, [0]), (550, [])])
def test_block_of_half_the_size_is_large_enough(value_bytes, rewritten, monkeypatch):
    stage = Stage(block_bytes=1000)
    (meta,) = stage.add(1, {b"a": b"x" * value_bytes})
    decoded = decompressing(monkeypatch)
    stage.compact(stage.merge_of(2, [meta]))

    assert rewritten == decoded


def test_blocks_go_over_uncompressed_too(seed):
    rng = random.Random(f"{seed} raw")
    stage = Stage(compression=None, block_bytes=256)
    held = {b"%04d" % number: rng.randbytes(30) for number in range(500)}
    (meta,) = stage.add(1, held)
    before = stored(stage, [meta])
    metas = stage.compact(stage.merge_of(2, [meta]))

    assert held == stage.entries(metas)
    assert before[:-1] == stored(stage, metas)[: len(before) - 1]


def test_points_are_found_in_blocks_that_went_over(spread):
    stage, older = spread
    metas = stage.compact(stage.merge_of(2, [older]))
    readers = [stage.tables.reader(meta) for meta in metas]

    assert list(entries(3000).values()) == [
        next(reader.get(key) for reader in readers if key <= reader.meta.largest) for key in entries(3000)
    ]


# Tables are cut


# Dictionaries


def flushed_documents(stage, seed, *halves):
    """Flush documents with keys in each of these ranges; return the tables and all entries."""
    rng = random.Random(f"{seed} documents")
    layers = [dict(documents(rng, stop - start, first=start)) for start, stop in halves]
    return [stage.flush(memtable(layer))[0] for layer in layers], merged(layers)


def dictionaries_of(stage, metas):
    return [stage.tables.reader(meta).dictionary for meta in metas]


def test_all_tables_of_a_job_have_the_same_dictionary(seed):
    stage = Stage(block_bytes=1024, memtable_bytes=1 << 15, limits=Limits(1 << 14, 4, 1 << 20))
    layer = dict(documents(random.Random(f"{seed} many"), 3000))
    for metas in (stage.flush(memtable(layer)), stage.compact(stage.merge_of(1, stage.version.level(0)))):
        found = dictionaries_of(stage, metas)

        assert len(metas) > 1
        assert 1 == len(set(found))
        assert b"" not in found
        assert layer == stage.entries(metas)
        assert [] == problems(stage, metas)


def test_blocks_with_the_dictionary_of_the_outputs_keep_their_stored_bytes(seed, monkeypatch):
    stage = Stage(block_bytes=1024, memtable_bytes=1 << 20)
    (older,), entries = flushed_documents(stage, seed, (0, 2000))
    newer = stage.table({b"document 00001000": b"new"})
    stage.move_to((), {0: [newer]})
    before = bodies(stage, older)
    monkeypatch.setattr(envelope, "recompress", None)
    (meta,) = stage.compact(stage.merge_of(1, [newer], [older]))

    assert dictionaries_of(stage, [older]) == dictionaries_of(stage, [meta]) != [b""]
    assert len(before) - SPAN_BLOCKS <= len(before & bodies(stage, meta)) < len(before)
    assert {**entries, b"document 00001000": b"new"} == stage.entries([meta])


def bodies(stage, meta):
    """Return the bodies of the blocks of a table as they are stored."""
    reader = stage.tables.reader(meta)
    return {reader.stored_block(index, 1, reader.dictionary).body for index in range(reader.block_count)}


@pytest.mark.parametrize("options", [{}, {"dictionaries": False}, {"compression": None}], ids=str)
def test_blocks_of_other_dictionaries_go_over_whole_and_are_compressed_again(seed, options, monkeypatch):
    stage = Stage(block_bytes=1024, memtable_bytes=1 << 20)
    metas, entries = flushed_documents(stage, seed, (0, 1000), (1000, 2000), (2000, 2900))
    first, *others = dictionaries_of(stage, metas)
    stage.shop = stage.shop._replace(options=stage.options.replace(**options))
    decoded = decompressing(monkeypatch)
    (meta,) = stage.compact(stage.merge_of(1, *([meta] for meta in metas)))

    assert len({first, *others}) == 3
    assert dictionaries_of(stage, [meta])[0] in ([b""] if options else [first, *others])
    assert len(decoded) <= SAMPLE_BLOCKS + len(metas)  # the sample, and small last blocks
    assert entries == stage.entries([meta])
    assert [] == problems(stage, [meta])


def test_a_damaged_body_of_another_dictionary_stops_the_compaction(seed):
    """It is met before it goes over: nobody could tell later where it was damaged."""
    stage = Stage(block_bytes=1024, memtable_bytes=1 << 20)
    metas, _ = flushed_documents(stage, seed, (0, 1000), (1000, 2000))
    stage.shop = stage.shop._replace(options=stage.options.replace(dictionaries=False))
    stage.tables.reader(metas[1]).dictionary = stage.tables.reader(metas[0]).dictionary
    before = stage.files()
    with pytest.raises(CorruptionError, match="zstd: "):
        stage.compact(stage.merge_of(1, *([meta] for meta in metas)))

    assert before == stage.files()


def test_tables_are_cut_at_table_bytes():
    stage = Stage(block_bytes=200, limits=Limits(4000, 4, 1000), compression=None)
    metas = compacted(stage, 1, entries(1500, 2), entries(1500))
    sizes = [stage.tables.reader(meta).data_end for meta in metas]

    assert len(metas) > 5
    assert all(4000 <= size < 8000 for size in sizes[:-1])


def test_tables_are_cut_among_blocks_that_go_over_as_they_are():
    """A span is as long as many blocks; with large values it was as long as many tables."""
    stage = Stage(block_bytes=200, limits=Limits(4000, 4, 1000), compression=None)
    (meta,) = stage.add(1, entries(100, value=b"x" * 1000))
    metas = stage.compact(stage.merge_of(2, [meta]))

    assert entries(100, value=b"x" * 1000) == stage.entries(metas)
    assert {4} == {meta.entries for meta in metas}


def test_table_of_entries_that_compress_to_nothing_is_cut_by_their_number():
    """Two bytes an entry on disk are 52 in the memory of the writer: the table grew until it was cut by its
    length, and memory with it, twenty times as much."""
    stage = Stage(block_bytes=512, limits=Limits(10_000, 4, 1 << 20))
    metas = compacted(stage, 1, entries(5000, value=b""), entries(5000, first=5000, value=b""))

    assert 10_000 == sum(meta.entries for meta in metas)
    assert sum(meta.file_bytes for meta in metas) < 60_000
    assert all(meta.entries < 10_000 // ENTRY_BYTES + 200 for meta in metas)


# Durability


def test_tables_are_synced_when_the_job_returns():
    stage = Stage(limits=Limits(2000, 4, 1000))
    flushed = stage.flush(memtable(entries(300)))
    compacted_metas = compacted(stage, 1, entries(100), entries(300))
    stage.directory.sync()
    after = stage.storage.crash("strict").contents()

    assert {name(meta) for meta in (*flushed, *compacted_metas)} <= set(after)
    assert stage.storage.contents() == after


def test_job_syncs_no_directory_and_unlinks_nothing():
    stage = Stage(limits=Limits(500, 4, 1000))
    calls = Calls(stage.storage)
    stage.flush(memtable(entries(300)))
    stage.compact(pick_everything(stage.version, stage.shop.limits))
    used = {operation for operation, _ in stage.storage.calls}

    assert {"create", "pwrite", "fsync", "open", "pread", "size", "directory"} == used
    assert calls.count("fsync") == len(set(calls.paths("create"))) > 2


def test_each_table_is_written_before_it_is_synced_and_not_after():
    stage = Stage(limits=Limits(500, 4, 1000))
    stage.flush(memtable(entries(300)))
    stage.compact(pick_everything(stage.version, stage.shop.limits))
    state = {}
    for operation, path in stage.storage.calls:
        if operation in WRITES:
            assert state.get(path) != "synced", path
            state[path] = "written"
        elif operation in SYNCS:
            state[path] = "synced"

    assert {"synced"} == set(state.values())


# Dropped and failed jobs


def make_flush(stage):
    return flush((memtable(entries(60, 2)), memtable(entries(60))), stage.shop)


def make_compaction(stage):
    return compact(pick_everything(stage.version, stage.shop.limits), stage.version, stage.shop)


MAKERS = pytest.mark.parametrize("make", [make_flush, make_compaction])


def small_stage():
    """Return a stage over which jobs take many steps and write several tables."""
    stage = Stage(block_bytes=64, limits=Limits(300, 4, 1000))
    stage.add(1, entries(40, first=100), {**entries(40, first=160), b"000160": None})
    stage.add(0, entries(30, 3, first=90))
    return stage


@MAKERS
def test_job_that_is_dropped_unlinks_its_tables(make):
    """After each number of steps."""
    total = len(run(make(small_stage()))[1])
    assert total > 5
    for number in range(total + 1):
        stage = small_stage()
        before = stage.storage.contents()
        steps = make(stage)
        for _ in range(number):
            next(steps)
        is_under_way = number == 0 or stage.storage.contents() != before
        steps.close()

        assert before == stage.storage.contents(), number
        assert is_under_way


@MAKERS
def test_job_that_nobody_refers_to_any_more_unlinks_its_tables(make):
    stage = small_stage()
    before = stage.storage.contents()
    steps = make(stage)
    next(steps)
    assert before != stage.storage.contents()
    del steps

    assert before == stage.storage.contents()


@MAKERS
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_job_that_fails_raises_unlinks_its_tables_and_works_the_next_time(make, code):
    """At each call to the file system."""
    healthy = small_stage()
    first = healthy.storage.count
    metas, _ = run(make(healthy))
    calls, expected = healthy.storage.calls[first:], healthy.entries(metas)
    for index in range(len(calls)):
        stage = small_stage()
        before = stage.storage.contents()
        stage.storage.fault(first + index, code)
        with pytest.raises(error) as caught:
            run(make(stage))

        assert code == caught.value.errno
        assert before == stage.storage.contents()
        assert expected == stage.entries(run(make(stage))[0])
    assert {"create", "pwrite", "fsync"} <= {operation for operation, _ in calls}


@MAKERS
def test_sync_that_fails_is_not_tried_again_on_the_same_table(make):
    stage = small_stage()
    before = stage.storage.contents()

    def fail(index, operation, path):
        if operation == "fsync":
            stage.storage.on_call = None
            raise error(errno.EIO, "Input/output error", path)

    stage.storage.on_call = fail
    calls = Calls(stage.storage)
    with pytest.raises(error, match="Input/output error"):
        run(make(stage))

    assert 1 == calls.count("fsync")
    assert before == stage.storage.contents()


@MAKERS
def test_error_comes_out_even_if_the_tables_cannot_be_unlinked(make):
    stage = small_stage()
    before = stage.storage.contents()
    steps = make(stage)
    next(steps)

    def fail(index, operation, path):
        if operation in WRITES | UNLINKS:
            raise failure(errno.EACCES if operation in UNLINKS else errno.ENOSPC, path)

    stage.storage.on_call = fail
    with pytest.raises(error) as caught:
        run(steps)

    assert errno.ENOSPC == caught.value.errno
    assert before.items() < stage.storage.contents().items()


@MAKERS
def test_interruption_comes_out_as_it_is_and_tables_are_unlinked(make):
    stage = small_stage()
    before = stage.storage.contents()
    steps = make(stage)
    next(steps)

    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt)
    assert before == stage.storage.contents()


@MAKERS
def test_process_that_dies_in_a_job_leaves_the_inputs(make):
    stage = small_stage()
    stage.directory.sync()
    before = stage.storage.crash("strict").contents()
    steps = make(stage)
    next(steps)
    stage.storage.fault(stage.storage.count, None)
    with pytest.raises(Killed):
        run(steps)

    assert before == stage.storage.crash("strict").contents()


def test_job_that_returned_keeps_its_tables():
    stage = small_stage()
    steps = make_compaction(stage)
    metas, _ = run(steps)
    steps.close()
    del steps

    assert set(map(name, metas)) <= stage.files()


def test_damaged_input_stops_the_compaction_and_changes_nothing():
    """In each block of each input."""
    for victim in range(3):
        stage = small_stage()
        meta = list(stage.version)[victim]
        reader = stage.tables.reader(meta)
        handles = [reader.handle(index) for index in range(reader.block_count)]
        for handle in handles:
            for offset in (handle.offset, handle.end - 5):
                data = stage.storage.contents()[name(meta)]
                damaged = bytearray(data)
                damaged[offset] ^= 1
                stage.storage.plant("/" + name(meta), bytes(damaged))
                before = stage.storage.contents()
                with pytest.raises(CorruptionError) as caught:
                    run(make_compaction(stage))

                assert "/" + name(meta) == caught.value.path
                assert handle.offset <= caught.value.offset <= offset
                assert before == stage.storage.contents()
                stage.storage.plant("/" + name(meta), data)


def test_missing_input_stops_the_compaction():
    stage = small_stage()
    stage.storage.erase("/" + name(stage.version.level(1)[1]))
    before = stage.storage.contents()

    with pytest.raises(CorruptionError, match="missing"):
        run(make_compaction(stage))
    assert before == stage.storage.contents()


def test_inputs_stay_while_a_compaction_needs_them():
    """A read of the tables is all the job holds; its version keeps their names, too."""
    stage = small_stage()
    expected = stage.entries(run(make_compaction(stage))[0])
    steps = make_compaction(stage)
    next(steps)
    inputs = list(stage.version)
    stage.move_to(inputs, {})
    stage.tables.retire(inputs)
    stage.tables.collect()
    stage.forget_readers()

    assert expected == stage.entries(run(steps)[0])


# Steps


def test_steps_are_worth_about_as_much_as_the_job():
    """Merging is worth the bytes that go in, the filter a fourth on top."""
    stage = small_stage()
    memtables = [memtable(entries(60, 2, first=number)) for number in range(2)]
    for total, steps in (
        (sum(one.charge for one in memtables), flush(memtables, stage.shop)),
        (sum(meta.raw_bytes for meta in stage.version), make_compaction(stage)),
    ):
        _, worth = run(steps)

        assert all(step >= 0 for step in worth)
        assert total < sum(worth) < 1.3 * total


def test_no_step_of_a_flush_is_large():
    stage = Stage(memtable_bytes=1 << 20)
    layers = [entries(3000, first=number) for number in range(4)]
    charge = sum(memtable(layer).charge for layer in layers)
    _, worth = run(flush(tuple(map(memtable, layers)), stage.shop))

    assert max(worth) < charge / 12_000 * 3000
    assert len(worth) > 10


@pytest.mark.parametrize("overlap", [False, True])
def test_no_step_of_a_compaction_reads_or_writes_much(monkeypatch, overlap):
    """Whether blocks are merged or passed through; the tables are 200 times as large as a step."""
    read = []
    unwrap_block, stored_block = table_reader.unwrap_block, TableReader.stored_block
    monkeypatch.setattr(table_reader, "unwrap_block", lambda *given: read.append(1) or unwrap_block(*given))
    monkeypatch.setattr(TableReader, "stored_block", lambda *given: read.append(1) or stored_block(*given))
    stage = Stage(block_bytes=512, compression=None, limits=Limits(1 << 20, 4, 1 << 20))
    (older,) = stage.add(1, entries(10_000, 2))
    (newer,) = stage.add(0, entries(10_000, 2, first=1) if overlap else entries(10_000, first=50_000))
    steps = compact(stage.merge_of(1, [newer], [older]), stage.version, stage.shop)
    blocks, calls = [], []
    made = Calls(stage.storage)
    for _ in steps:
        blocks.append(len(read))
        calls.append(made.count("pread"))
        made.clear()
        read.clear()

    assert max(blocks) <= 2 * SPAN_BLOCKS  # a span of each
    assert max(calls) <= (0 if overlap else 2 * SPAN_BLOCKS) + 6  # and the footer and the index of each
    assert sum(blocks) > 600


def test_a_long_window_is_written_in_several_steps(monkeypatch):
    """Several runs have a span in it, and a span has 64 blocks beside a mapped log."""
    stage = Stage(block_bytes=4096, compression=None, limits=Limits(1 << 20, 4, 1 << 20))
    stage.shop = stage.shop._replace(span_blocks=64)
    for first in range(3):
        stage.add(0, entries(10_000, 3, first=first))
    written, add = [], TableWriter.add
    monkeypatch.setattr(
        TableWriter,
        "add",
        lambda writer, keys, values: written.append(len(keys)) or add(writer, keys, values),
    )
    at_once = []
    for _ in make_compaction(stage):
        at_once.append(sum(written))
        written.clear()

    assert STEP_ENTRIES == max(at_once)
    assert 30_000 == sum(at_once)


def test_filling_the_filter_takes_steps_that_are_worth_something():
    """They were worth nothing, so that one write had to wait for the whole filter of a table."""
    stage = Stage(memtable_bytes=1 << 20)
    held = entries(5 * BLOOM_STEP)
    steps = flush((memtable(held),), stage.shop)
    calls = Calls(stage.storage)
    worth = []
    for step in steps:
        worth.append(step)
    filling = worth[-6:]

    assert 1 == calls.count("fsync")
    assert 5 == sum(step == int(memtable(held).charge / len(held) * (BLOOM_STEP // 4)) for step in filling)


# Memory


def peak_of_compaction(path, tables):
    """Return by how many bytes memory rises in a compaction of so many tables of 64 KiB, and their bytes."""
    path.mkdir()
    options = {"block_bytes": 1024, "compression": None, "cache_bytes": 0, "max_open_files": 6}
    stage = Stage(OsStorage(), str(path), memtable_bytes=1 << 16, **options)
    level1 = [stage.table(entries(500, 2, first=1000 * number, value=b"x" * 100)) for number in range(tables)]
    level0 = [stage.table(entries(500, 2 * tables, first=number, value=b"y" * 100)) for number in range(1, 5)]
    stage.move_to((), {1: level1, 0: level0})
    total = sum(meta.raw_bytes for meta in (*level0, *level1))
    steps = compact(stage.merge_of(1, *([meta] for meta in level0), level1), stage.version, stage.shop)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run(steps)
        return tracemalloc.get_traced_memory()[1] - before, total
    finally:
        tracemalloc.stop()


def test_memory_of_a_compaction_does_not_grow_with_its_inputs(tmp_path):
    few, _ = peak_of_compaction(tmp_path / "few", 8)
    many, total = peak_of_compaction(tmp_path / "many", 50)

    assert total > 40 * (1 << 16)
    assert many < 1.3 * few
    assert many < total / 2


def test_compaction_leaves_the_block_cache_alone(spread):
    stage, older = spread
    stage.view().get(b"000001")
    held = len(stage.tables.blocks)
    run(compact(stage.merge_of(2, [older]), stage.version, stage.shop))

    assert held == len(stage.tables.blocks) == 1


# Filters


def bits_per_key(stage, metas):
    words = sum(meta.entries for meta in metas) / 64
    return [
        round(Footer.decode(file.pread(FOOTER_BYTES, file.size() - FOOTER_BYTES)).filter.raw / 8 / words)
        for file in map(stage.tables.file, metas)
    ]


@pytest.mark.parametrize(("bits", "level0", "above"), [(6, 12, 10), (14, 24, 18), (16, 24, 20), (0, 0, 0)])
def test_tables_above_others_have_more_filter_per_key(bits, level0, above):
    stage = Stage(bloom_bits_per_key=bits)
    flushed = stage.flush(memtable(entries(640)))
    lowest = stage.compact(stage.merge_of(2, flushed))
    fresh = stage.add(0, entries(640))
    upper = stage.compact(stage.merge_of(1, fresh))

    assert [[level0], [bits], [above]] == [bits_per_key(stage, metas) for metas in (flushed, lowest, upper)]


def test_a_table_beside_the_lowest_ones_is_one_of_them():
    stage = Stage(bloom_bits_per_key=6)
    stage.add(2, entries(640, first=1000))
    fresh = stage.add(0, entries(640))

    assert [6] == bits_per_key(stage, stage.compact(stage.merge_of(1, fresh)))
