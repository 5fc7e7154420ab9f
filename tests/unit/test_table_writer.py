"""The table writer: where blocks are cut, what stands between them, and the file as a whole."""

import random
import tracemalloc
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._format import envelope
from lsmdbm._format import table_writer as table_writer_module
from lsmdbm._format.block import Block, decode_head
from lsmdbm._format.bloom import Bloom
from lsmdbm._format.coding import Malformed, Unsupported
from lsmdbm._format.columns import decode as decode_column
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
from lsmdbm._format.table_writer import BLOOM_STEP, WRITE_BYTES, Metadata, Origin, separator
from support.documents import dictionary_for, documents
from support.format import (
    NUMBER,
    SALT,
    MemoryFile,
    build_table,
    chunk_of,
    chunks_of,
    counted,
    describe,
    entries_of,
    finish,
    open_table,
    seed_of,
    table_writer,
    u8,
    u32,
    u64,
)

SEED = seed_of(NUMBER, SALT)
METADATA = Metadata(
    Origin(2, 3, 9, (5, 7)), entries=4, tombstones=1, raw_bytes=90, smallest=b"a", largest=b"b"
)


DOCUMENTS = documents(random.Random("writer"), 900)
DICTIONARY = dictionary_for(DOCUMENTS)
OTHER = dictionary_for([(key, (value or b"").swapcase()) for key, value in DOCUMENTS])


def metadata_bytes(count=2, range_deletions=0):
    numbers = u64(4) + u64(1) + u64(90) + u64(3) + u64(9) + u32(count) + u64(5) + u64(7)
    return u8(2) + numbers + counted(b"a") + counted(b"b") + u32(range_deletions)


def parts_of(file):
    """Return the parts of a table by hand: separators, a chunk a block, filter, metadata, all handles."""
    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:]))

    def raw(offset, stored, length):
        return envelope.unwrap(bytes(file.data[offset : offset + stored]), length, SEED, offset)

    def halves(handle):
        middle = handle.offset + handle.head_stored
        return (
            raw(handle.offset, handle.head_stored, handle.head_raw),
            raw(middle, handle.body_stored, handle.body_raw),
        )

    head, body = halves(footer.index)
    separators, _ = decode_head(head)
    handles = [BlockHandle.decode(handle) for handle in decode_column(body, len(separators))]
    chunks = [Block(*halves(handle)).chunk() for handle in handles]
    bloom = raw(footer.filter.offset, footer.filter.stored, footer.filter.raw)
    metadata = raw(footer.metadata.offset, footer.metadata.stored, footer.metadata.raw)
    return separators, chunks, bloom, metadata, [*handles, footer.filter, footer.index, footer.metadata]


def numbered(count, value=b"v" * 10):
    return [(b"%06d" % index, value) for index in range(count)]


# Metadata


def test_metadata_has_these_bytes_and_is_read_back():
    assert metadata_bytes() == METADATA.encode()
    assert METADATA == Metadata.decode(metadata_bytes())


@pytest.mark.parametrize(
    "data",
    [
        *(metadata_bytes()[:length] for length in range(len(metadata_bytes()))),
        metadata_bytes() + b"\0",
        metadata_bytes(count=3),
        metadata_bytes(count=2**32 - 1),
    ],
    ids=describe,
)
def test_bytes_that_are_no_metadata_are_malformed(data):
    with pytest.raises(Malformed) as caught:
        Metadata.decode(data)
    assert not isinstance(caught.value, Unsupported)


def test_metadata_with_range_deletions_is_unsupported():
    with pytest.raises(Unsupported, match="range deletions"):
        Metadata.decode(metadata_bytes(range_deletions=1))


# Separators


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (b"apple", b"banana", b"b"),
        (b"abc", b"abd", b"abc"),
        (b"abc", b"abde", b"abd"),
        (b"ab", b"abxyz", b"abx"),
        (b"ab", b"abx", b"ab"),
        (b"", b"a", b""),
        (b"", b"ab", b"a"),
        (b"a", b"a\0", b"a"),
        (b"a\xff", b"b", b"a\xff"),
        (b"\xff", b"\xff\xff", b"\xff"),
        (b"p" * 65535 + b"a", b"p" * 65535 + b"b", b"p" * 65535 + b"a"),
        (b"p" * 60000 + b"a" * 5000, b"p" * 60000 + b"b" * 5000, b"p" * 60000 + b"b"),
    ],
    ids=describe,
)
def test_separator_of_known_keys(low, high, expected):
    assert expected == separator(low, high)


@given(st.binary(max_size=6), st.binary(max_size=6), st.binary(max_size=6))
def test_separator_is_not_below_the_low_key_and_below_the_high_one(prefix, low, high):
    low, high = prefix + min(low, high), prefix + max(low, high)
    if low < high:
        found = separator(low, high)

        assert low <= found < high
        assert found == low or high.startswith(found)
        assert len(found) <= max(len(low), len(high))


# Blocks


@pytest.mark.parametrize("block_bytes", [1, 15, 16, 17, 48, 100, 1000])
def test_blocks_are_cut_where_they_reach_their_size(block_bytes):
    file, _ = build_table(numbered(60), block_bytes=block_bytes)
    _, chunks, *_ = parts_of(file)
    lengths = [16 * len(keys) for keys, _ in chunks]

    assert numbered(60) == entries_of(chunks)
    assert all(length - 16 < block_bytes <= length for length in lengths[:-1])
    assert lengths[-1] <= block_bytes + 15


def test_cutting_does_not_depend_on_the_chunks(seed):
    rng = random.Random(f"{seed} cutting")
    entries = [
        (b"%06d" % index, rng.choice((None, rng.randbytes(rng.randrange(30))))) for index in range(300)
    ]
    whole, meta = build_table(entries)
    for _ in range(20):
        file = MemoryFile()
        writer = table_writer(file)
        for chunk in chunks_of(entries, rng):
            writer.add(*chunk)

        assert meta == finish(writer), f"seed {seed}"
        assert whole.data == file.data


def test_entries_without_bytes_wait_for_more():
    file, meta = build_table([(b"", b""), (b"a", b"")], block_bytes=1)

    assert [([b"", b"a"], [b"", b""])] == parts_of(file)[1]
    assert 2 == meta.entries


def test_values_larger_than_a_block_have_one_of_their_own():
    entries = [(b"a", b"x"), (b"b", b"y" * 1000), (b"c", b"z")]
    file, _ = build_table(entries, block_bytes=100)

    assert [[b"a", b"b"], [b"c"]] == [keys for keys, _ in parts_of(file)[1]]


def test_adding_changes_no_list_of_the_caller():
    keys, values = chunk_of(numbered(10))
    writer = table_writer(MemoryFile())
    writer.add(keys[:3], values[:3])
    writer.add(keys, values)

    assert (keys, values) == chunk_of(numbered(10))


# The file


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("bloom_bits", [0, 12])
@pytest.mark.parametrize("block_bytes", [1, 64, 4096])
def test_table_is_its_parts_without_gaps(level, bloom_bits, block_bytes):
    entries = [(b"%06d" % index, None if index % 7 == 0 else b"v" * (index % 20)) for index in range(200)]
    file, meta = build_table(entries, level=level, bloom_bits=bloom_bits, block_bytes=block_bytes)
    separators, chunks, bloom, metadata, handles = parts_of(file)
    blocks = handles[:-3]

    assert encode_header(NUMBER, SALT) == file.data[:HEADER_BYTES]
    assert [HEADER_BYTES, *(handle.end for handle in handles)] == [
        *(handle.offset for handle in handles),
        len(file.data) - FOOTER_BYTES,
    ]
    assert entries == entries_of(chunks)
    assert all(low < high for low, high in pairwise(separators))
    assert all(
        keys[-1] <= bound < more[0]
        for (keys, _), (more, _), bound in zip(chunks, chunks[1:], separators, strict=False)
    )
    assert chunks[-1][0][-1] == separators[-1]
    assert bloom_bits * 200 // 64 * 8 <= len(bloom) <= (bloom_bits * 200 // 64 + 1) * 8
    assert all(map(Bloom(bloom).may_contain, (key for key, _ in entries)))
    assert Metadata.decode(metadata) == Metadata(
        Origin(0, 1, 9),
        200,
        29,
        sum(block.head_raw + block.body_raw for block in blocks),
        b"000000",
        b"000199",
    )
    assert (NUMBER, len(file.data), footer_crc(bytes(file.data[-FOOTER_BYTES:]))) == (
        meta.number,
        meta.file_bytes,
        meta.footer_crc,
    )
    assert (meta.entries, meta.tombstones, meta.smallest, meta.largest) == (200, 29, b"000000", b"000199")
    assert (meta.first_seq, meta.last_seq) == (1, 9)


def test_index_and_metadata_are_compressed_and_the_filter_is_not():
    long_key = b"p" * 1000
    file, _ = build_table([(long_key + b"%06d" % index, b"") for index in range(50)], block_bytes=2000)
    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:]))

    assert footer.index.head_stored < footer.index.head_raw
    assert footer.index.body_stored < footer.index.body_raw
    assert footer.metadata.stored < footer.metadata.raw
    full, _ = build_table(numbered(5000), bloom_bits=1)  # nearly all bits are set: it would be worth it
    part = Footer.decode(bytes(full.data[-FOOTER_BYTES:])).filter
    assert part.stored == part.raw + envelope.CRC_BYTES


def test_chunks_of_one_entry_cost_no_more_than_those_of_many():
    """Each chunk used to be measured together with all that waited before it."""
    measured = []

    class Value(bytes):
        def __len__(self):
            measured.append(1)
            return super().__len__()

    writer = table_writer(MemoryFile(), block_bytes=1 << 20, bloom_bits=0)
    for key, _ in numbered(1000):
        writer.add([key], [Value(b"v")])

    assert 1000 == len(measured)


def test_same_entries_give_the_same_bytes():
    assert build_table(numbered(100))[0].data == build_table(numbered(100))[0].data


def test_another_salt_or_number_changes_every_checksum():
    tables = [
        build_table(numbered(20), level=None, **other)[0].data for other in ({}, {"salt": 1}, {"number": 19})
    ]
    first = [bytes(data[HEADER_BYTES : HEADER_BYTES + 100]) for data in tables]

    assert 3 == len(set(first))


def test_origin_is_kept_in_the_metadata():
    writer = table_writer(MemoryFile())
    writer.add([b"a"], [b""])
    origin = Origin(3, 100, 200, (4, 5, 6))
    meta = finish(writer, origin)

    assert (100, 200) == (meta.first_seq, meta.last_seq)
    assert origin == open_table(writer._file, meta).metadata.origin


def test_file_that_takes_few_bytes_at_a_time_gets_them_all():
    whole, meta = build_table(numbered(100))
    file = MemoryFile(write_limit=7)
    writer = table_writer(file)
    writer.add(*chunk_of(numbered(100)))

    assert meta == finish(writer)
    assert whole.data == file.data


def test_writes_are_large_and_one_behind_the_other():
    file, meta = build_table(numbered(3000, random.Random(1).randbytes(500)), block_bytes=4096, level=None)
    lengths = [length for length, _ in file.pwrites]

    assert meta.file_bytes == sum(lengths)
    assert [sum(lengths[:index]) for index in range(len(lengths))] == [offset for _, offset in file.pwrites]
    assert all(WRITE_BYTES <= length < WRITE_BYTES + 5000 for length in lengths[:-1])


def test_stored_bytes_follow_what_was_added():
    file = MemoryFile()
    writer = table_writer(file, block_bytes=1, level=None)
    seen = [writer.stored_bytes]
    for chunk in ([b"a"], [b"1"]), ([b"b"], [b"2"]):
        writer.add(*chunk)
        seen.append(writer.stored_bytes)

    assert [HEADER_BYTES, HEADER_BYTES + 30, HEADER_BYTES + 60] == seen
    assert finish(writer).file_bytes == writer.stored_bytes == len(file.data)


def test_finishing_comes_in_bounded_steps():
    writer = table_writer(MemoryFile(), block_bytes=4096)
    writer.add(*chunk_of(numbered(2 * BLOOM_STEP + 1, b"")))

    assert 3 == sum(1 for _ in writer.finish(Origin(0, 1, 1)))


def test_writing_holds_one_block_and_little_more():
    file = MemoryFile()
    writer = table_writer(file, block_bytes=4096, level=None, bloom_bits=0)
    rng = random.Random(1)
    tracemalloc.start()
    try:
        for index in range(300):
            writer.add([b"%06d" % index], [rng.randbytes(10_000)])
            del file.data[:]
        assert tracemalloc.get_traced_memory()[1] < 8 * WRITE_BYTES  # of 3 MB that are written
    finally:
        tracemalloc.stop()


# Whole blocks


def pass_through(file, meta, **settings):
    """Return the table of all blocks of another one, taken as they are stored."""
    reader, target = open_table(file, meta), MemoryFile()
    writer = table_writer(target, **settings)
    for index in range(reader.block_count):
        writer.add_block(reader.stored_block(index))
    return target, finish(writer)


@pytest.mark.parametrize("level", [None, 1])
def test_blocks_passed_through_give_the_same_table(level):
    entries = [(b"%06d" % index, None if index % 5 == 0 else b"v" * (index % 40)) for index in range(200)]
    file, meta = build_table(entries, level=level)
    copy, copied = pass_through(file, meta, level=level)

    assert meta == copied
    assert file.data == copy.data


def test_blocks_passed_into_another_table_get_its_checksums():
    entries = [(b"%06d" % index, None if index % 5 == 0 else b"v" * (index % 40)) for index in range(200)]
    copy, meta = pass_through(*build_table(entries, level=1), number=77, salt=5, level=None)

    assert [] == list(problems_of(open_table(copy, meta)))
    assert entries == entries_of(open_table(copy, meta).chunks())
    assert 77 == meta.number


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("source", [b"", DICTIONARY, OTHER])
@pytest.mark.parametrize("target", [b"", DICTIONARY])
def test_blocks_go_into_a_table_of_another_dictionary(level, source, target):
    entries = [*documents(random.Random("passed"), 100), (b"~", None)]
    target = target if level else b""
    file, meta = build_table(entries, level=1, dictionary=source)
    reader, copy = open_table(file, meta), MemoryFile()
    writer = table_writer(copy, level=level, dictionary=target)
    for index in range(reader.block_count):
        writer.add_block(reader.stored_block(index, level, target))
    copied = finish(writer)
    whole, known = build_table(entries, level=level, dictionary=target)

    assert entries == entries_of(open_table(copy, copied).chunks())
    assert [] == list(problems_of(open_table(copy, copied)))
    if level or source:
        assert (whole.data, known) == (copy.data, copied)


def test_entries_and_passed_blocks_mix():
    file, meta = build_table([(b"f", b"1"), (b"g", None)])
    block = open_table(file, meta).stored_block(0)
    target = MemoryFile()
    writer = table_writer(target, number=19)
    writer.add([b"a", b"b"], [b"2", None])
    writer.add_block(block)
    writer.add([b"x"], [b"3"])
    mixed = finish(writer)
    entries = [(b"a", b"2"), (b"b", None), (b"f", b"1"), (b"g", None), (b"x", b"3")]

    assert entries == entries_of(open_table(target, mixed).chunks())
    assert [] == list(problems_of(open_table(target, mixed)))
    assert (5, 2, 3) == (mixed.entries, mixed.tombstones, open_table(target, mixed).block_count)


@pytest.mark.parametrize("batch_bytes", [1, 100, 1000, 1 << 20])
@pytest.mark.parametrize("dictionary", [b"", DICTIONARY])
def test_a_table_is_the_same_however_many_blocks_wait_for_each_other(batch_bytes, dictionary):
    passed, meta = build_table(DOCUMENTS[300:600], block_bytes=512, dictionary=dictionary)
    reader = open_table(passed, meta)

    def written(**settings):
        file = MemoryFile()
        writer = table_writer(file, block_bytes=512, dictionary=dictionary, **settings)
        for low in range(0, 300, 50):
            writer.add(*chunk_of(DOCUMENTS[low : low + 50]))
        for index in range(reader.block_count):
            writer.add_block(reader.stored_block(index, 1, dictionary))
        writer.add(*chunk_of([*DOCUMENTS[600:], (b"~", None)]))
        return finish(writer), file.data

    assert written() == written(batch_bytes=batch_bytes)


def test_blocks_that_wait_are_compressed_by_one_call_and_written_by_one(monkeypatch):
    entries = [(b"%08d" % number, b"%050d" % number * 2) for number in range(20_000)]
    batches, compress_all = [], envelope.compress_all
    file = MemoryFile()
    writer = table_writer(file, block_bytes=4096, batch_bytes=512 << 10)
    monkeypatch.setattr(
        envelope, "compress_all", lambda raws, *given: batches.append(len(raws)) or compress_all(raws, *given)
    )
    for low in range(0, len(entries), 100):
        writer.add(*chunk_of(entries[low : low + 100]))
    meta = finish(writer)
    blocks = open_table(file, meta).block_count

    assert 2 * blocks == sum(batches)
    assert -(-meta.raw_bytes // (512 << 10)) == len(batches)
    assert 1 == len(file.pwrites)  # what is in it is less than a batch, compressed


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_no_block_has_more_keys_than_a_reader_takes(monkeypatch, step):
    monkeypatch.setattr(table_writer_module, "MAX_COUNT", 3)
    entries = numbered(20)
    target = MemoryFile()
    writer = table_writer(target, block_bytes=1 << 20)
    for low in range(0, len(entries), step):
        writer.add(*chunk_of(entries[low : low + step]))
    reader = open_table(target, finish(writer))

    assert [3, 3, 3, 3, 3, 3, 2] == [len(reader.stored_block(index).keys) for index in range(7)]
    assert entries == entries_of(reader.chunks())
    assert [] == list(problems_of(reader))


# Dictionaries


def test_dictionary_stands_compressed_before_the_blocks_and_once_more_behind_them():
    file, meta = build_table(DOCUMENTS, dictionary=DICTIONARY, block_bytes=4096)
    reader, data = open_table(file, meta), bytes(file.data)
    footer = Footer.decode(data[-FOOTER_BYTES:])
    begin, end = reader.handle(0).offset, reader.handle(reader.block_count - 1).end
    stored = begin - HEADER_BYTES

    assert (1, stored) == (footer.features, footer.filter.offset - end)
    for low in (HEADER_BYTES, end):
        part = data[low : low + stored]
        assert (
            DICTIONARY == zstandard.decompress(part[:-4]) == envelope.unwrap(part, len(DICTIONARY), SEED, low)
        )
    assert Metadata.decode(reader.metadata.encode()).dictionary == PartHandle(28, stored, len(DICTIONARY))


def test_without_a_dictionary_there_is_no_trace_of_one():
    file, meta = build_table(DOCUMENTS)
    reader = open_table(file, meta)

    assert (0, None) == (Footer.decode(bytes(file.data[-FOOTER_BYTES:])).features, reader.metadata.dictionary)
    assert (HEADER_BYTES, b"") == (reader.handle(0).offset, reader.dictionary)


def test_every_frame_of_a_block_is_made_with_the_dictionary_and_no_other():
    file, meta = build_table(DOCUMENTS, dictionary=DICTIONARY, block_bytes=4096)
    reader, data = open_table(file, meta), bytes(file.data)
    footer = Footer.decode(data[-FOOTER_BYTES:])

    def identity(offset):
        return zstandard.get_frame_parameters(data[offset : offset + 20]).dict_id

    handles = [reader.handle(index) for index in range(reader.block_count)]
    assert {int.from_bytes(DICTIONARY[4:8], "little")} == {
        identity(offset)
        for handle in handles
        for offset in (handle.offset, handle.offset + handle.head_stored)
    }
    assert {0} == {identity(offset) for offset in (HEADER_BYTES, handles[-1].end, footer.index.offset)}


def test_metadata_with_a_dictionary_has_two_lengths_more_and_is_read_back():
    known = METADATA._replace(dictionary=PartHandle(HEADER_BYTES, 300, 2048))

    assert metadata_bytes() + u32(300) + u32(2048) == known.encode()
    assert known == Metadata.decode(known.encode())
    for extra in (u32(300), u32(300) + u32(2048) + b"x"):
        with pytest.raises(Malformed):
            Metadata.decode(metadata_bytes() + extra)
