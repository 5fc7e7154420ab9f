"""The table reader: points, ranges, what it costs, and what damage does to it."""

import random
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base.chunk import KEY_ONLY, MAX_KEY_BYTES, MISSING
from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._base.lru import LRU
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._format import envelope, table_parts, table_reader, table_writer
from lsmdbm._format.block import encode_body, encode_head
from lsmdbm._format.bloom import hash_key, pattern
from lsmdbm._format.coding import Malformed
from lsmdbm._format.footer import (
    FOOTER_BYTES,
    HEADER_BYTES,
    BlockHandle,
    Footer,
    PartHandle,
    encode_header,
    footer_crc,
)
from lsmdbm._format.table_check import problems_of
from lsmdbm._format.table_parts import describe
from lsmdbm._format.table_reader import ReadCounters
from support.documents import dictionary_for, documents
from support.format import (
    NUMBER,
    ORIGIN,
    MemoryFile,
    build_table,
    chunk_of,
    entries_of,
    finish,
    flipped,
    open_table,
    place,
    u8,
    u32,
    with_crc,
)
from support.format import table_writer as make_writer

SEPARATORS = b"\0\n\xff"
SHAPES = {
    "one empty entry": [(b"", b"")],
    "one tombstone": [(b"", None)],
    "one entry": [(b"key", b"value")],
    "all tombstones": [(b"%03d" % index, None) for index in range(100)],
    "every other a tombstone": [
        (b"%03d" % index, None if index % 2 else b"%d" % index) for index in range(100)
    ],
    "uniform": [(b"%03d" % index, b"%03d" % index) for index in range(200)],
    "split": [(b"%d" % index, b"%d" % index) for index in sorted(range(200), key=str)],
    "values with separators": [(b"%03d" % index, SEPARATORS[: index % 4]) for index in range(200)],
    "keys with separators": sorted((SEPARATORS * (index % 3) + b"%d" % index, b"v") for index in range(100)),
    "keys of 0xff": [(b"\xff" * index, b"v") for index in range(40)],
    "zeros": [(b"\0" * index, b"\0" * (40 - index)) for index in range(40)],
    "keys of 64 KiB": [(b"\xff" * (MAX_KEY_BYTES - 1) + u8(index), b"v") for index in range(4)],
    "long shared prefix": [(b"p" * 2000 + b"%03d" % index, b"v") for index in range(60)],
    "long and short": [(b"a", b"x" * 100_000), (b"a\0", b""), (b"b", b"y" * 70_000), (b"c", None)],
    "empty values": [(b"%03d" % index, b"") for index in range(200)],
}
SETTINGS = [
    {"block_bytes": 1, "level": None, "bloom_bits": 12},
    {"block_bytes": 64, "level": 1, "bloom_bits": 12},
    {"block_bytes": 4096, "level": 1, "bloom_bits": 0},
    {"block_bytes": 1 << 24, "level": None, "bloom_bits": 1},
]
SMALL = [
    (b"apple", b"red"),
    (b"banana", None),
    (b"cherry", b"dark red" * 12),
    (b"date", b""),
    (b"elder", b"x"),
]
keys = st.binary(max_size=2)
entries = st.dictionaries(keys, st.none() | st.binary(max_size=6), min_size=1, max_size=40).map(
    lambda found: sorted(found.items())
)


def clipped(model, start, stop):
    return [
        (key, value)
        for key, value in model
        if (start is None or start <= key) and (stop is None or key < stop)
    ]


def without_values(model):
    return [(key, None if value is None else KEY_ONLY) for key, value in model]


def backwards(chunks):
    return entries_of(list(chunks)[::-1])


def may_hold(reader, key):
    """Ask the filter of a table, as those do who have more than one."""
    hashed = hash_key(key)
    return reader.may_hold(hashed, pattern(hashed))


def read_all(reader):
    """Return the entries as each way of reading them gives them; a CorruptionError where one raises."""
    found = []
    for read in (
        lambda: entries_of(reader.chunks()),
        lambda: backwards(reader.chunks(reverse=True)),
        lambda: [(key, value) for key, value in ((key, reader.get(key)) for key, _ in SMALL)],
    ):
        try:
            found.append(read())
        except CorruptionError as exc:
            found.append(exc)
    return found


# Reading


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"blocks of {settings['block_bytes']}")
@pytest.mark.parametrize("shape", SHAPES)
def test_table_of_this_shape_is_read_back(shape, settings):
    model = SHAPES[shape]
    reader = open_table(*build_table(model, **settings))
    held = dict(model)
    probes = [*held, *(key + b"\0" for key in held), *(key[:-1] for key in held), b"\xff" * 50]

    assert [] == list(problems_of(reader))
    assert model == entries_of(reader.chunks())
    assert model == backwards(reader.chunks(reverse=True))
    assert without_values(model) == entries_of(reader.chunks(keys_only=True))

    def probed(reader, key):
        return reader.get(key, is_probable=True) if may_hold(reader, key) else MISSING

    assert [held.get(key, MISSING) for key in probes] == [reader.get(key) for key in probes]
    assert without_values(model) == backwards(
        reader.chunks(keys_only=True, reverse=True)
    )  # now from the cache
    assert model == entries_of(reader.chunks())


@given(
    entries,
    st.none() | keys,
    st.none() | keys,
    st.sampled_from([1, 8, 100]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_range_is_that_of_a_sorted_list(model, start, stop, block_bytes, reverse, keys_only, cached):
    reader = open_table(*build_table(model, block_bytes=block_bytes, level=None))
    if cached:
        for key, _ in model:
            reader.get(key)
    chunks = list(reader.chunks(start, stop, reverse=reverse, keys_only=keys_only))
    expected = clipped(model, start, stop)

    assert all(chunk[0] for chunk in chunks)
    assert (without_values(expected) if keys_only else expected) == entries_of(
        chunks[::-1] if reverse else chunks
    )


@given(entries, st.lists(keys), st.sampled_from([0, 4, 12]))
def test_point_is_that_of_a_dict(model, probes, bloom_bits):
    reader = open_table(*build_table(model, block_bytes=8, level=None, bloom_bits=bloom_bits))
    held = dict(model)

    for key in [*probes, *held, *probes]:
        assert held.get(key, MISSING) == reader.get(key)


def test_random_tables_are_read_back(seed):
    rng = random.Random(f"{seed} tables")
    for _ in range(10):
        held = {
            rng.randbytes(rng.randrange(1, 6)): rng.choice((None, rng.randbytes(rng.randrange(200))))
            for _ in range(rng.randrange(1, 2000))
        }
        model = sorted(held.items())
        settings = {"block_bytes": rng.choice((1, 100, 4096)), "level": rng.choice((None, 1))}
        reader = open_table(*build_table(model, **settings))

        assert [] == list(problems_of(reader)), f"seed {seed}"
        assert model == entries_of(reader.chunks()), f"seed {seed}"
        for _ in range(20):
            start, stop = rng.randbytes(2), rng.randbytes(2)
            assert clipped(model, start, stop) == entries_of(reader.chunks(start, stop)), f"seed {seed}"


def test_table_on_a_real_file_is_read_back(tmp_path):
    directory = OsStorage().directory(str(tmp_path), 0o666)
    model = SHAPES["split"]
    file = directory.create("000018.sst")
    writer = make_writer(file)
    writer.add(*chunk_of(model))
    meta = finish(writer)
    file.close()
    reader = open_table(directory.open("000018.sst"), meta)

    assert [] == list(problems_of(reader))
    assert model == entries_of(reader.chunks())
    directory.close()


def test_value_too_large_to_be_compressed_stays_raw_and_is_read_back():
    value = bytes((32 << 20) + 1)
    model = [(b"a", b"x"), (b"b", value), (b"c", b"y")]
    file, meta = build_table(model, level=1)
    reader = open_table(file, meta)

    assert meta.file_bytes > len(value)
    assert model == entries_of(reader.chunks())
    assert value == reader.get(b"b")


# What reading costs


@pytest.fixture
def large():
    """A table of 100 blocks of ten entries: (entries, file, meta)."""
    model = [(b"%06d" % (2 * index), b"%09d" % index) for index in range(1000)]
    file, meta = build_table(model, block_bytes=150)
    assert 100 == open_table(MemoryFile(file.data), meta).block_count
    return model, file, meta


def test_opening_takes_two_reads(large):
    _, file, meta = large
    open_table(file, meta)

    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:]))

    last = meta.file_bytes - FOOTER_BYTES
    assert [(FOOTER_BYTES, last), (last - footer.filter.offset, footer.filter.offset)] == file.preads


def test_point_takes_one_read_and_none_once_it_is_cached(large):
    model, file, meta = large
    counters = ReadCounters()
    reader = open_table(file, meta, counters=counters)
    file.preads.clear()

    assert model[500][1] == reader.get(model[500][0])
    handle = reader.handle(50)
    assert [(handle.end - handle.offset, handle.offset)] == file.preads
    assert model[501][1] == reader.get(model[501][0])
    assert MISSING is reader.get(b"001001")  # in the same block, which is cached: the filter is not asked
    assert 1 == len(file.preads)
    assert (1, 1, 0) == (counters.filter_probes, counters.blocks_read, counters.false_positives)


def test_filter_saves_the_read_of_most_absent_keys(large):
    model, file, meta = large
    counters = ReadCounters()
    reader = open_table(file, meta, cache=LRU(0), counters=counters)
    file.preads.clear()
    absent = [b"%06d" % (2 * index + 1) for index in range(999)]

    assert [MISSING] * 999 == list(map(reader.get, absent))
    assert len(file.preads) == counters.blocks_read == counters.false_positives < 50
    assert 999 == counters.filter_probes


def test_point_with_a_hash_asks_the_filter_first_and_finds_the_same(large):
    model, file, meta = large
    counters = ReadCounters()
    reader = open_table(file, meta, counters=counters)
    reader.get(model[0][0])
    probes = [model[0][0], model[500][0], b"000001", b"001001", b"1"]
    held = dict(model)

    def probed(reader, key):
        return reader.get(key, is_probable=True) if may_hold(reader, key) else MISSING

    assert [held.get(key, MISSING) for key in probes] == [probed(reader, key) for key in probes]
    assert 1 == counters.filter_probes
    assert not may_hold(reader, b"000001")


def test_keys_above_the_last_one_cost_nothing(large):
    _, file, meta = large
    counters = ReadCounters()
    reader = open_table(file, meta, counters=counters)
    file.preads.clear()

    assert MISSING is reader.get(b"1")
    assert [] == list(reader.chunks(b"1"))
    assert ([], 0) == (file.preads, counters.filter_probes)


def test_tables_share_a_cache_and_counters(large):
    model, file, meta = large
    other = build_table([(key, b"other") for key, _ in model], number=19, block_bytes=110)
    cache, counters = LRU(1 << 20), ReadCounters()
    readers = [open_table(*table, cache=cache, counters=counters) for table in ((file, meta), other)]

    for _ in range(2):
        for key, value in model[::10]:
            assert [value, b"other"] == [reader.get(key) for reader in readers]
    assert (200, 200) == (len(cache), counters.blocks_read)


def test_blocks_that_are_read_once_do_not_drive_out_what_a_full_cache_holds(large):
    model, file, meta = large
    room = 10 * open_table(file, meta)._load(0).cost
    cache = LRU(room)
    reader = open_table(file, meta, cache=cache)
    for key, _ in model[:1000:10]:
        reader.get(key)
    file.preads.clear()

    for key, value in model[:100:10]:
        assert value == reader.get(key)
    assert [] == file.preads
    for _ in range(2):
        reader.get(model[500][0])
    file.preads.clear()
    reader.get(model[500][0])
    assert [] == file.preads


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("start", "stop"), [(None, None), (b"000300", b"000900"), (b"000301", b"000303")])
def test_reading_keys_only_never_reads_a_body(large, reverse, start, stop):
    model, file, meta = large
    reader = open_table(file, meta)
    bodies = [(handle.offset + handle.head_stored, handle.end) for handle in map(reader.handle, range(100))]
    file.preads.clear()

    found = list(reader.chunks(start, stop, reverse=reverse, keys_only=True))

    assert without_values(clipped(model, start, stop)) == entries_of(found[::-1] if reverse else found)
    assert not any(
        low < offset + length and offset < high for length, offset in file.preads for low, high in bodies
    )


def test_range_reads_no_block_outside_of_it(large):
    model, file, meta = large
    reader = open_table(file, meta)
    file.preads.clear()

    assert clipped(model, b"000300", b"000340") == entries_of(reader.chunks(b"000300", b"000340"))
    assert len(file.preads) <= 3
    file.preads.clear()
    assert [] == list(reader.chunks(b"000301", b"000302"))
    assert [] == list(reader.chunks(b"000340", b"000300"))
    assert len(file.preads) <= 2


@pytest.mark.parametrize("reverse", [False, True])
def test_range_caches_its_first_block_alone(large, reverse):
    _, file, meta = large
    cache = LRU(1 << 20)
    reader = open_table(file, meta, cache=cache)
    list(reader.chunks(reverse=reverse))
    file.preads.clear()

    assert 1 == len(cache)
    next(reader.chunks(reverse=reverse))
    assert [] == file.preads


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("keys_only", [False, True])
def test_long_ranges_join_more_and_more_blocks(large, reverse, keys_only, monkeypatch):
    model, file, meta = large
    reader = open_table(file, meta)
    lengths = [len(keys) for keys, _ in reader.chunks(reverse=reverse, keys_only=keys_only)]

    assert [10, 20, 40, 80, 160, 160, 160, 160, 160, 50] == lengths
    for run_bytes, expected in ((table_reader.RUN_BYTES, lengths), (1, [10] * 100)):
        monkeypatch.setattr(table_reader, "RUN_BYTES", run_bytes)
        fresh = open_table(file, meta)
        assert expected == [len(keys) for keys, _ in fresh.chunks(reverse=reverse, keys_only=keys_only)]
        for key, _ in model:
            fresh.get(key)
        assert expected == [len(keys) for keys, _ in fresh.chunks(reverse=reverse, keys_only=keys_only)]


def test_separators_and_handles_say_where_every_key_is(large):
    model, file, meta = large
    reader = open_table(file, meta)

    assert 100 == len(reader.separators())
    for key, _ in model[::37]:
        block = reader.stored_block(bisect_left(reader.separators(), key))
        assert key in block.keys
        assert 0 == block.tombstones


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (99, 100), (40, 60), (0, 100)])
def test_blocks_by_index_are_read_past_the_cache(large, first, stop):
    model, file, meta = large
    cache = LRU(1 << 20)
    reader = open_table(file, meta, cache=cache)

    assert chunk_of(model[10 * first : 10 * stop]) == reader.block_chunk(first, stop)
    assert 0 == len(cache)


def test_blocks_that_follow_each_other_take_one_read(large):
    _, file, meta = large
    reader = open_table(file, meta)
    file.preads.clear()
    reader.block_chunk(40, 60)
    first, last = reader.handle(40), reader.handle(59)

    assert [(last.end - first.offset, first.offset)] == file.preads


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_takes_one_read_for_a_run_of_blocks_and_goes_around_what_is_cached(large, reverse):
    model, file, meta = large
    reader = open_table(file, meta)
    file.preads.clear()
    scanned = list(reader.chunks(reverse=reverse))
    calls = len(file.preads)
    reader.get(model[500][0])
    file.preads.clear()

    assert scanned == list(reader.chunks(reverse=reverse))
    assert 10 == calls  # for 1, 2, 4, 8, 16, 16 ... blocks
    assert calls - 1 < len(file.preads) < calls + 15
    assert reader.handle(50).offset not in {offset for _, offset in file.preads}


def test_blocks_that_do_not_follow_each_other_are_read_on_their_own(large):
    """An index may say so, and need not be ours: what lies between them is not read."""
    model, file, meta = large
    reader = open_table(file, meta)
    reader._handles = b"".join(reader.handle(index).encode() for index in (0, 99, 2))
    file.preads.clear()

    with pytest.raises(CorruptionError, match="keys outside of the bounds of their block"):
        reader.block_chunk(0, 3)
    assert sum(length for length, _ in file.preads) < 1000
    assert chunk_of(model[:10]) == reader.block_chunk(0, 1)


def test_cost_is_about_what_the_index_and_the_filter_take(large):
    _, file, meta = large
    reader = open_table(file, meta)

    assert meta.file_bytes - reader.handle(99).end + 100 * table_parts.SEPARATOR_OVERHEAD == reader.cost


# Damage


def test_every_wrong_bit_of_a_table_gives_exact_data_or_an_error():
    file, meta = build_table(SMALL, block_bytes=20)
    expected = entries_of([chunk_of(SMALL)])
    for offset, damaged in flipped(bytes(file.data)):
        try:
            reader = open_table(MemoryFile(damaged), meta)
        except CorruptionError:
            continue
        found = read_all(reader)

        assert all(isinstance(one, CorruptionError) or one == expected for one in found), offset
        assert any(isinstance(one, CorruptionError) for one in found) == (offset >= HEADER_BYTES), offset
        assert [] != list(problems_of(reader)), offset


def test_wrong_bits_in_blocks_are_noticed_by_every_way_of_reading_them():
    file, meta = build_table(SMALL, block_bytes=1 << 20)
    whole = open_table(file, meta)
    handle = whole.handle(0)
    for offset in range(handle.offset, handle.end):
        damaged = bytearray(file.data)
        damaged[offset] ^= 1
        reader = open_table(MemoryFile(damaged), meta)
        for read in (
            lambda reader=reader: reader.get(b"apple"),
            lambda reader=reader: reader.stored_block(0),
        ):
            with pytest.raises(CorruptionError, match=f"000018.sst, offset {handle.offset}: checksum"):
                read()
        if offset < handle.offset + handle.head_stored:
            with pytest.raises(CorruptionError, match="checksum"):
                list(reader.chunks(keys_only=True))
        else:
            assert without_values(SMALL) == entries_of(reader.chunks(keys_only=True))
        assert [handle.offset] == [problem.offset for problem in problems_of(reader)]


def test_table_cut_anywhere_is_corrupt():
    file, meta = build_table(SMALL)
    for length in range(len(file.data)):
        data = bytes(file.data[:length])
        for found in (data, data + bytes(meta.file_bytes - length)):
            if found != file.data:
                with pytest.raises(CorruptionError):
                    open_table(MemoryFile(found), meta._replace(file_bytes=len(found)))
    with pytest.raises(CorruptionError, match=f"bytes long, the manifest says {meta.file_bytes}") as caught:
        open_table(MemoryFile(file.data[:-1]), meta)
    assert -1 == caught.value.offset


@pytest.mark.parametrize("part", ["filter", "index", "metadata", "footer"])
def test_error_says_which_part_is_damaged(part):
    file, meta = build_table(SMALL)
    end = meta.file_bytes - FOOTER_BYTES
    offset = end if part == "footer" else getattr(Footer.decode(bytes(file.data[end:])), part).offset
    file.data[offset] ^= 1

    with pytest.raises(CorruptionError) as caught:
        open_table(file, meta)
    assert ("000018.sst", offset) == (caught.value.path, caught.value.offset)


def test_table_cut_while_it_is_open_is_corrupt():
    file, meta = build_table(SMALL)
    reader = open_table(file, meta)
    file.truncate(40)

    assert [True] * 3 == [isinstance(found, CorruptionError) for found in read_all(reader)]


def test_blocks_in_each_others_place_are_corrupt():
    file, meta = build_table([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], block_bytes=1, level=None)
    first, second = map(open_table(file, meta).handle, (0, 1))
    low, high = file.data[first.offset : first.end], file.data[second.offset : second.end]
    file.data[first.offset : second.end] = high + low
    reader = open_table(file, meta)

    assert [first.offset, second.offset] == [problem.offset for problem in problems_of(reader)]
    with pytest.raises(CorruptionError, match="checksum"):
        reader.get(b"a")


def test_table_in_the_place_of_another_is_corrupt():
    file, meta = build_table(SMALL)
    other, _ = build_table(SMALL, salt=5)
    third, third_meta = build_table(SMALL, number=19)

    for swapped, said in ((other, meta), (third, third_meta._replace(number=18))):
        with pytest.raises(CorruptionError, match="not the table that the manifest names"):
            open_table(swapped, said)
    with pytest.raises(CorruptionError, match="not the table that the manifest names"):
        open_table(file, meta._replace(footer_crc=meta.footer_crc ^ 1))


def test_problems_go_on_behind_a_damaged_block():
    file, meta = build_table([(b"%d" % index, b"v") for index in range(9)], block_bytes=1)
    handles = list(map(open_table(file, meta).handle, range(9)))
    for index in (2, 5):
        file.data[handles[index].offset] ^= 1

    assert [handles[2].offset, handles[5].offset] == [
        problem.offset for problem in problems_of(open_table(file, meta))
    ]


# Tables that are wrong behind right checksums


def with_footer(file, meta, **fields):
    """Return the table with another footer, whose checksum is right, and what a manifest would say of it."""
    data = bytes(file.data[:-FOOTER_BYTES])
    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:]))._replace(**fields).encode()
    return MemoryFile(data + footer), meta._replace(footer_crc=footer_crc(footer))


def crafted(change, model=SMALL, **settings):
    """Return a table whose writer was tampered with before it finished."""
    file = MemoryFile()
    writer = make_writer(file, **{"block_bytes": 1, **settings})
    writer.add(*chunk_of(model))
    change(writer)
    return file, finish(writer)


def assert_corrupt(reader, reason, index=0, key=None):
    key = key or SMALL[index][0]
    for read in (
        lambda: reader.get(key, is_probable=True),
        lambda: list(reader.chunks()),
        lambda: list(reader.chunks(keys_only=True)),
        lambda: reader.stored_block(index),
    ):
        with pytest.raises(CorruptionError, match=reason):
            read()
    assert any(reason in problem.reason for problem in problems_of(reader))


@pytest.mark.parametrize(
    "handle",
    [
        BlockHandle(0, 20, 16, 10, 6),
        BlockHandle(HEADER_BYTES - 1, 20, 16, 10, 6),
        BlockHandle(1 << 40, 20, 16, 10, 6),
        BlockHandle(2**64 - 1, 2**32 - 1, 16, 2**32 - 1, 6),
        BlockHandle(HEADER_BYTES, 2**32 - 1, 2**32 - 1, 10, 6),
    ],
    ids=lambda handle: f"{handle.offset}-{handle.head_stored}",
)
def test_handle_outside_of_the_table_is_corrupt_before_it_is_read(handle):
    def change(writer):
        writer._handles[0] = handle.encode()

    file, meta = crafted(change)
    reader = open_table(file, meta)
    file.preads.clear()

    with pytest.raises(CorruptionError, match="block 0 .* outside of the table"):
        reader.get(b"apple")
    assert [] == file.preads
    assert_corrupt(reader, "outside of the table")


def test_handle_of_another_length_is_corrupt():
    def change(writer):
        writer._handles[1] += b"\0"

    with pytest.raises(CorruptionError, match=r"handles of \[24, 25\] bytes"):
        open_table(*crafted(change))


def test_handles_in_another_order_are_corrupt():
    def change(writer):
        writer._handles.reverse()

    assert_corrupt(open_table(*crafted(change)), "keys outside of the bounds")


def test_block_named_twice_is_corrupt():
    def change(writer):
        writer._handles[1] = writer._handles[0]

    reader = open_table(*crafted(change))

    assert b"red" == reader.get(b"apple")
    assert_corrupt(reader, "keys outside of the bounds", index=1)


@pytest.mark.parametrize(("separator", "block"), [(b"aaa", 0), (b"banana", 1)])
def test_keys_on_the_wrong_side_of_a_separator_are_corrupt(separator, block):
    def change(writer):
        writer._separators[0] = separator

    reader = open_table(*crafted(change))

    for read in (
        lambda: list(reader.chunks()),
        lambda: list(reader.chunks(keys_only=True)),
        lambda: reader.stored_block(block),
    ):
        with pytest.raises(CorruptionError, match="keys outside of the bounds"):
            read()
    assert [reader.handle(block).offset] == [problem.offset for problem in problems_of(reader)]


def test_separators_out_of_order_are_corrupt():
    def change(writer):
        writer._separators[0] = b"zzz"

    with pytest.raises(CorruptionError, match="not ascending"):
        open_table(*crafted(change))


def test_index_of_deleted_blocks_is_corrupt():
    def put_index(writer):
        head, body = (
            encode_head([*writer._separators, writer._largest], [0]),
            encode_body(writer._handles, ()),
        )
        first, second = (writer._put_part(part, compress=True) for part in (head, body))
        return BlockHandle(first.offset, first.stored, first.raw, second.stored, second.raw)

    with pytest.raises(CorruptionError, match="deleted blocks in the index"):
        open_table(*crafted(lambda writer: setattr(writer, "_put_index", lambda: put_index(writer))))


def test_index_with_fewer_handles_than_separators_is_corrupt():
    with pytest.raises(CorruptionError, match="5 items of 24 bytes"):
        open_table(*crafted(lambda writer: writer._handles.pop()))


def test_filter_that_denies_a_key_is_a_problem():
    reader = open_table(*crafted(lambda writer: writer._hashes.clear()))

    assert {"filter denies a key of the table"} == {problem.reason for problem in problems_of(reader)}
    assert SMALL == entries_of(reader.chunks())


def test_key_twice_in_a_block_is_a_problem():
    def change(writer):
        writer._keys = [b"a", b"a"]
        writer._values = [b"1", b"2"]

    reader = open_table(*crafted(change, block_bytes=1 << 20))

    assert ["a key twice in one block"] == [problem.reason for problem in problems_of(reader)]


@pytest.mark.parametrize(
    "fields",
    [{"entries": 4}, {"tombstones": 0}, {"smallest": b""}],
    ids=lambda fields: next(iter(fields)),
)
def test_counts_and_bounds_that_differ_from_the_manifest_are_a_problem(fields):
    file, meta = build_table(SMALL)

    assert (
        "differ from what the manifest says"
        in list(problems_of(open_table(file, meta._replace(**fields))))[-1].reason
    )


@pytest.mark.parametrize(
    "fields", [{"raw_bytes": 1}, {"first_seq": 2}, {"last_seq": 8}], ids=lambda fields: next(iter(fields))
)
def test_sequences_and_bytes_that_differ_from_the_manifest_are_a_problem(fields):
    file, meta = build_table(SMALL)

    assert (
        "differ from what the manifest says"
        in list(problems_of(open_table(file, meta._replace(**fields))))[-1].reason
    )


@pytest.mark.parametrize("name", ["_smallest", "raw_bytes"])
def test_what_the_metadata_says_wrong_of_the_blocks_is_a_problem(name):
    file = MemoryFile()
    writer = make_writer(file)
    writer.add(*chunk_of(SMALL))
    put_index = writer._put_index

    def lie():
        index = put_index()  # which is right: only the metadata lies
        setattr(writer, name, {"_smallest": b"", "raw_bytes": 1}[name])
        return index

    writer._put_index = lie
    meta = finish(writer)

    assert ["first key, last key or bytes of the blocks: not as stated"] == [
        problem.reason for problem in problems_of(open_table(file, meta))
    ]


def test_a_table_describes_itself_as_the_manifest_would():
    file, meta = build_table(SMALL)

    assert (meta, ORIGIN) == describe(file, NUMBER)
    with pytest.raises(CorruptionError, match="footer of table 18"):
        describe(file, NUMBER + 1)


def test_a_damaged_table_does_not_describe_itself():
    file, meta = build_table(SMALL)
    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:]))
    said = {*range(footer.metadata.offset, footer.metadata.end)}
    said |= {*range(meta.file_bytes - FOOTER_BYTES, meta.file_bytes)}
    for offset in range(meta.file_bytes):
        damaged = bytearray(file.data)
        damaged[offset] ^= 1
        if offset in said:
            with pytest.raises(CorruptionError):
                describe(MemoryFile(damaged), NUMBER)
        else:
            assert (meta, ORIGIN) == describe(MemoryFile(damaged), NUMBER)
    for length in range(meta.file_bytes):
        with pytest.raises(CorruptionError):
            describe(MemoryFile(file.data[:length]), NUMBER)


def test_the_keys_of_a_block_can_be_read_though_its_body_is_damaged():
    file, meta = build_table(SMALL, block_bytes=1 << 20)
    handle = open_table(file, meta).handle(0)
    file.data[handle.end - 1] ^= 1
    reader = open_table(file, meta)

    assert without_values(SMALL) == entries_of([reader.block_keys(0)])
    with pytest.raises(CorruptionError):
        reader.block_chunk(0, 1)


def test_counts_that_differ_from_the_entries_are_a_problem():
    def change(writer):
        writer.entries += 1

    problems = list(problems_of(open_table(*crafted(change))))

    assert ["5 entries, 1 of them deletions: not as stated"] == [problem.reason for problem in problems]


@pytest.mark.parametrize(
    "header", [encode_header(17, 1), encode_header(18, 1), b"LSMW" + bytes(24), bytes(28)]
)
def test_header_of_another_table_is_a_problem_but_data_is_exact(header):
    file, meta = build_table(SMALL)
    file.data[:HEADER_BYTES] = header
    reader = open_table(file, meta)

    assert [0] == [problem.offset for problem in problems_of(reader)]
    assert SMALL == entries_of(reader.chunks())


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": PartHandle(0, 20, 16)},
        {"filter": PartHandle(2**64 - 1, 2**32 - 1, 16)},
        {"metadata": PartHandle(2**63, 2**32 - 1, 86)},
        {"metadata": PartHandle(236, 100, 67)},
        {"index": BlockHandle(HEADER_BYTES, 1, 1, 1, 1)},
        {"index": BlockHandle(HEADER_BYTES, 2**32 - 1, 1, 2**32 - 1, 1)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_parts_that_overlap_or_lie_outside_are_corrupt_before_they_are_read(fields):
    file, meta = with_footer(*build_table(SMALL), **fields)

    with pytest.raises(CorruptionError, match="do not follow each other"):
        open_table(file, meta)
    assert 1 == len(file.preads)


def test_gap_between_parts_is_corrupt_before_it_is_read():
    """All from the filter on is read at once: a hole of a TiB, in a sparse file, would be too."""
    file, meta = build_table(SMALL)
    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:]))
    index, metadata = footer.index, footer.metadata
    for moved in (
        {"filter": footer.filter._replace(offset=footer.filter.offset - 1)},
        {"index": index._replace(offset=index.offset + 1, head_stored=index.head_stored - 1)},
        {"metadata": metadata._replace(offset=metadata.offset + 1, stored=metadata.stored - 1)},
        {"metadata": metadata._replace(stored=metadata.stored - 1)},
    ):
        with pytest.raises(CorruptionError, match="do not follow each other"):
            open_table(*with_footer(file, meta, **moved))


def test_compressed_filter_is_corrupt():
    file, meta = build_table(SMALL)
    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:]))

    with pytest.raises(CorruptionError, match="filter is compressed"):
        open_table(*with_footer(file, meta, filter=footer.filter._replace(raw=footer.filter.raw + 8)))


def test_more_blocks_than_fit_into_the_table_are_corrupt(monkeypatch):
    file, meta = build_table(SMALL, block_bytes=1)
    monkeypatch.setattr(table_parts, "LEAST_BLOCK_BYTES", 64)

    with pytest.raises(CorruptionError, match=f"of {len(SMALL)} keys"):
        open_table(file, meta)


def test_bounds_of_the_manifest_hold_for_the_keys_of_a_table():
    """Merges take the tables of a level one behind the other, because their bounds do not overlap."""
    file, meta = build_table(SMALL)
    with pytest.raises(CorruptionError, match="index does not end at the largest key"):
        open_table(file, meta._replace(largest=SMALL[-1][0] + b"+"))
    reader = open_table(file, meta._replace(smallest=SMALL[0][0] + b"\0"))
    assert_corrupt(reader, "keys outside of the bounds", key=SMALL[0][0] + b"\1")


def test_part_of_another_raw_length_is_corrupt():
    file, meta = build_table(SMALL)
    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:]))
    for fields in (
        {"filter": footer.filter._replace(raw=footer.filter.raw + 1)},
        {"metadata": footer.metadata._replace(raw=2**32 - 1)},
        {"index": footer.index._replace(head_raw=1)},
        {"index": footer.index._replace(body_raw=32 << 20)},
    ):
        with pytest.raises(CorruptionError):
            open_table(*with_footer(file, meta, **fields))


def test_filter_that_is_no_whole_number_of_words_is_corrupt(monkeypatch):
    monkeypatch.setattr(table_writer.bloom, "encode", lambda words: b"seven..")
    with pytest.raises(CorruptionError, match="filter of 7 bytes"):
        open_table(*build_table(SMALL))


# Tables of a newer format


def assert_newer(read, reason):
    with pytest.raises(error, match=reason) as caught:
        read()
    assert error is type(caught.value)


def test_footer_of_a_newer_format_is_an_error_but_no_corruption():
    file, meta = build_table(SMALL)
    fields = bytes(file.data[-FOOTER_BYTES:-12])
    for newer in (fields[:-20] + u32(2) + fields[-16:], fields[:-24] + u32(4) + fields[-20:]):
        footer = with_crc(newer) + b"LSMTABLE"
        said = meta._replace(footer_crc=footer_crc(footer))
        table = MemoryFile(bytes(file.data[:-FOOTER_BYTES]) + footer)

        assert_newer(
            lambda table=table, said=said: open_table(table, said), "000018.sst, offset .*: table of format"
        )


def test_metadata_with_range_deletions_is_an_error_but_no_corruption(monkeypatch):
    encode = table_writer.Metadata.encode
    monkeypatch.setattr(table_writer.Metadata, "encode", lambda metadata: encode(metadata)[:-4] + u32(1))
    file, meta = build_table(SMALL)

    assert_newer(lambda: open_table(file, meta), "range deletions")


def test_block_with_an_unknown_column_is_an_error_but_no_corruption():
    file, meta = build_table([(b"a", b"1")], block_bytes=1, level=None)
    handle = open_table(file, meta).handle(0)
    end = handle.offset + handle.head_stored - envelope.CRC_BYTES
    head = bytearray(file.data[handle.offset : end])
    head[5] = 3  # was 1, KEYS
    file.data[handle.offset : end + 4] = with_crc(
        head, place(18, make_writer(MemoryFile())._salt, handle.offset)
    )
    reader = open_table(file, meta)

    for read in (
        lambda: reader.get(b"a"),
        lambda: list(reader.chunks()),
        lambda: list(reader.chunks(keys_only=True)),
        lambda: reader.stored_block(0),
        lambda: list(problems_of(reader)),
    ):
        assert_newer(read, r"block has columns \[3\]")


def test_random_damage_behind_right_checksums_is_read_or_an_error(seed, monkeypatch):
    """Whatever the bytes of heads, bodies and metadata are: only `error`."""
    rng = random.Random(f"{seed} crafted")
    wrap = envelope.wrap

    def damaging(raw, level, file_seed, offset, dictionary=b""):
        if raw and rng.random() < 0.3:
            damaged = bytearray(raw)
            damaged[rng.randrange(len(raw))] = rng.choice((0, 1, 2, 3, 127, 255, rng.randrange(256)))
            raw = bytes(damaged)
        return wrap(raw, level, file_seed, offset, dictionary)

    monkeypatch.setattr(envelope, "wrap", damaging)
    for _ in range(500):
        file, meta = build_table(SMALL, block_bytes=20, level=None)
        try:
            reader = open_table(file, meta)
            list(problems_of(reader))
            for read in (reader.chunks, lambda reader=reader: reader.chunks(keys_only=True)):
                found = [key for keys, _ in read() for key in keys]
                assert found == sorted(found), f"seed {seed}"
        except error:
            continue
        except Malformed as exc:
            raise AssertionError(f"seed {seed}") from exc


# Dictionaries

DICTIONARY = dictionary_for(documents(random.Random("reader"), 900))


@pytest.fixture(scope="module")
def compressed():
    """Documents, and a table of them with a dictionary."""
    model = documents(random.Random("compressed"), 200)
    return model, *build_table(model, block_bytes=1000, dictionary=DICTIONARY)


def places(file, meta):
    """Return where the two dictionaries begin, and their length."""
    reader = open_table(file, meta)
    part = reader.metadata.dictionary
    return part.offset, reader.handle(reader.block_count - 1).end, part.stored


def with_damage(file, *offsets):
    damaged = bytearray(file.data)
    for offset in offsets:
        damaged[offset] ^= 1
    return MemoryFile(damaged)


def test_a_table_with_a_dictionary_is_read_in_every_way(compressed):
    model, file, meta = compressed
    reader = open_table(file, meta)

    assert model == entries_of(reader.chunks()) == backwards(reader.chunks(reverse=True))
    assert [(key, KEY_ONLY) for key, _ in model] == entries_of(reader.chunks(keys_only=True))
    assert all(value == reader.get(key) for key, value in model)
    assert DICTIONARY == reader.dictionary
    assert [] == list(problems_of(reader))


def test_one_damaged_dictionary_costs_nothing_and_is_a_problem(compressed):
    model, file, meta = compressed
    first, second, stored = places(file, meta)
    for low in (first, second):
        for offset in (low, low + stored // 2, low + stored - 1):
            reader = open_table(with_damage(file, offset), meta)

            assert model == entries_of(reader.chunks())
            assert [low] == [problem.offset for problem in problems_of(reader)]


def test_a_table_without_a_whole_dictionary_is_not_opened(compressed):
    _, file, meta = compressed
    first, second, stored = places(file, meta)
    with pytest.raises(CorruptionError, match=f"offset {second}: checksum"):
        open_table(with_damage(file, first, second + stored - 1), meta)


def test_a_dictionary_is_read_once_when_the_table_is_opened(compressed):
    model, file, meta = compressed
    first, _, stored = places(file, meta)
    file = MemoryFile(file.data)
    reader = open_table(file, meta)
    opened = list(file.preads)
    for key, _ in model:
        reader.get(key)

    assert [(stored, first)] == [read for read in opened if read[1] == first]
    assert all(offset >= first + stored for _, offset in file.preads[len(opened) :])


def test_the_cost_of_a_reader_counts_its_dictionary(compressed):
    _, file, meta = compressed
    reader = open_table(file, meta)
    _, second, _ = places(file, meta)
    rest = meta.file_bytes - second + reader.block_count * table_parts.SEPARATOR_OVERHEAD

    assert rest + len(DICTIONARY) == reader.cost


def lying(monkeypatch, features=None, dictionary=None):
    """Return a table with other features, or with another handle of its dictionary, and right checksums."""
    if features is not None:
        encode_footer = Footer.encode
        monkeypatch.setattr(
            table_writer.Footer, "encode", lambda it: encode_footer(it._replace(features=features))
        )
    if dictionary is not None:
        encode = table_writer.Metadata.encode
        monkeypatch.setattr(
            table_writer.Metadata,
            "encode",
            lambda it: encode(it._replace(dictionary=dictionary(it.dictionary))),
        )
    table = build_table(documents(random.Random("crafted"), 50), dictionary=DICTIONARY)
    monkeypatch.undo()
    return table


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"features": 0}, "at odds about a dictionary"),
        ({"dictionary": lambda part: None}, "at odds about a dictionary"),
        ({"dictionary": lambda part: part._replace(stored=1 << 30)}, "reaches beyond the blocks"),
        ({"dictionary": lambda part: part._replace(stored=(1 << 32) - 1)}, "reaches beyond the blocks"),
        ({"dictionary": lambda part: part._replace(stored=part.stored + 1)}, "checksum"),
        ({"dictionary": lambda part: part._replace(stored=0)}, "checksum|not compressed"),
        ({"dictionary": lambda part: part._replace(raw=0)}, "not compressed"),
        ({"dictionary": lambda part: part._replace(raw=part.raw + 1)}, "zstd frame of 8192 bytes"),
        (
            {"dictionary": lambda part: part._replace(raw=65_537)},
            "dictionary of 65537 bytes: the limit is 65536",
        ),
        ({"dictionary": lambda part: part._replace(raw=(1 << 32) - 1)}, "the limit is 65536"),
    ],
)
def test_what_is_wrong_about_a_dictionary_is_corruption_and_named(monkeypatch, settings, reason):
    with pytest.raises(CorruptionError, match=reason):
        open_table(*lying(monkeypatch, **settings))


def test_a_dictionary_that_zstd_refuses_is_corruption_of_each_block(monkeypatch):
    """Its checksums hold: only zstd can tell that its entropy tables are none."""
    wrap = envelope.wrap
    broken = DICTIONARY[:8] + b"\xff" * 100 + DICTIONARY[108:]
    monkeypatch.setattr(
        envelope, "wrap", lambda raw, *args: wrap(broken if raw == DICTIONARY else raw, *args)
    )
    file, meta = build_table(documents(random.Random("refused"), 50), dictionary=DICTIONARY, block_bytes=1000)
    reader = open_table(file, meta)

    assert broken == reader.dictionary
    for read in (
        lambda: reader.get(b"document 00000003"),
        lambda: list(reader.chunks(keys_only=True)),
        lambda: reader.stored_block(0, 1, b""),
        lambda: reader.stored_block(0, 1, broken),
    ):
        with pytest.raises(CorruptionError, match="zstd: "):
            read()
    assert reader.block_count <= len(list(problems_of(reader)))
