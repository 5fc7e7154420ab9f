import random

import pytest

from lsmdbm._format import salvage
from lsmdbm._format.coding import Malformed
from lsmdbm._format.columns import open_column
from lsmdbm._format.footer import FOOTER_BYTES, HEADER_BYTES, BlockHandle, Footer
from support.documents import dictionary_for, documents
from support.format import (
    NUMBER,
    SALT,
    MemoryFile,
    build_table,
    entries_of,
    finish,
    open_table,
    table_writer,
)

SIZES = (64, 300, 4096)
DICTIONARY = dictionary_for(documents(random.Random("salvage"), 900))


def random_entries(rng, count=200):
    def value():
        return rng.choice((rng.randbytes(rng.randrange(60)), b"ab" * rng.randrange(40), b"%09d" % count, b""))

    return [(b"%06d" % number, None if rng.random() < 0.1 else value()) for number in range(count)]


def damaged(data, *offsets):
    data = bytearray(data)
    for offset in offsets:
        data[offset] ^= 1
    return bytes(data)


def handles(reader):
    return [reader.handle(index) for index in range(reader.block_count)]


def entries(data, outline):
    return entries_of(outline.chunk(data[handle.offset : handle.end], handle) for handle in outline.handles)


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("bloom_bits", [0, 12])
@pytest.mark.parametrize("block_bytes", SIZES)
def test_all_blocks_are_found_whichever_part_is_damaged(seed, level, bloom_bits, block_bytes):
    rng = random.Random(f"{seed} {level} {bloom_bits} {block_bytes}")
    check_all_blocks_are_found(rng, random_entries(rng), level, bloom_bits, block_bytes, b"")


@pytest.mark.parametrize("block_bytes", SIZES)
def test_all_blocks_are_found_whichever_part_of_a_table_with_a_dictionary_is_damaged(seed, block_bytes):
    rng = random.Random(f"{seed} {block_bytes}")
    check_all_blocks_are_found(rng, documents(rng, 200), 1, 12, block_bytes, DICTIONARY)


def check_all_blocks_are_found(rng, model, level, bloom_bits, block_bytes, dictionary):
    file, meta = build_table(
        model, level=level, bloom_bits=bloom_bits, block_bytes=block_bytes, dictionary=dictionary
    )
    reader, data = open_table(file, meta), bytes(file.data)
    footer = Footer.decode(data[-FOOTER_BYTES:])
    parts = {
        "nothing": [],
        "header": [rng.randrange(HEADER_BYTES)],
        "filter": [rng.randrange(footer.filter.offset, footer.filter.end)],
        "index": [rng.randrange(footer.index.offset, footer.index.end)],
        "footer": [rng.randrange(len(data) - FOOTER_BYTES, len(data))],
    }
    if dictionary:
        begin, end = reader.handle(0).offset, reader.handle(reader.block_count - 1).end
        parts["dictionary"] = [rng.randrange(HEADER_BYTES, begin)]
        parts["dictionary behind"] = [rng.randrange(end, footer.filter.offset)]
        parts["dictionary, footer"] = [rng.randrange(HEADER_BYTES, begin), len(data) - 30]
    for part, offsets in parts.items():
        found = salvage.outline(damaged(data, *offsets), NUMBER)

        assert handles(reader) == found.handles, part
        assert ([], True, reader.metadata) == (found.gaps, found.is_whole, found.metadata), part
        assert model == entries(data, found), part
        assert (None if "footer" in part else meta.footer_crc) == found.footer_crc
        assert dictionary == found.dictionary


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("is_footer_damaged", [False, True])
def test_a_damaged_block_is_a_gap_between_the_keys_around_it(seed, level, is_footer_damaged):
    rng = random.Random(f"{seed} {level} {is_footer_damaged}")
    model = random_entries(rng)
    file, meta = build_table(model, level=level, block_bytes=300)
    reader, data = open_table(file, meta), bytes(file.data)
    blocks = [reader.block_chunk(index, index + 1)[0] for index in range(reader.block_count)]
    for index, handle in enumerate(handles(reader)):
        for offset in (rng.randrange(handle.offset, handle.end), handle.offset, handle.end - 1):
            offsets = [offset, len(data) - 30] if is_footer_damaged else [offset]
            found = salvage.outline(damaged(data, *offsets), NUMBER)

            low = blocks[index - 1][-1] if index else None
            high = blocks[index + 1][0] if index + 1 < len(blocks) else None
            assert [salvage.Gap(handle.offset, handle.end, low, high)] == found.gaps
            assert handles(reader)[:index] + handles(reader)[index + 1 :] == found.handles
            assert found.is_whole


@pytest.mark.parametrize("level", [None, 1])
def test_of_a_table_that_was_cut_the_blocks_before_the_cut_are_found(seed, level):
    rng = random.Random(f"{seed} {level}")
    file, meta = build_table(random_entries(rng, 12), level=level)
    reader, data = open_table(file, meta), bytes(file.data)
    footer = Footer.decode(data[-FOOTER_BYTES:])
    for length in range(HEADER_BYTES, len(data)):
        found = salvage.outline(data[:length], NUMBER)

        assert [handle for handle in handles(reader) if handle.end <= length] == found.handles
        assert (length >= footer.index.end) == found.is_whole
        assert (found.metadata is not None) == (length >= footer.metadata.end)


def test_without_header_and_footer_nothing_can_be_told(seed):
    file, _ = build_table(random_entries(random.Random(seed)))
    data = damaged(file.data, 5, len(file.data) - 30)
    with pytest.raises(Malformed):
        salvage.outline(data, NUMBER)
    with pytest.raises(Malformed):
        salvage.outline(b"", NUMBER)
    with pytest.raises(Malformed, match="header of table 18"):
        salvage.outline(bytes(file.data), NUMBER + 1)


@pytest.mark.parametrize("is_footer_damaged", [False, True])
def test_without_its_dictionary_what_a_table_holds_is_a_gap_and_nothing_wrong(seed, is_footer_damaged):
    model = documents(random.Random(f"{seed}"), 200)
    file, meta = build_table(model, dictionary=DICTIONARY, block_bytes=1000)
    reader = open_table(file, meta)
    begin, end = reader.handle(0).offset, reader.handle(reader.block_count - 1).end
    offsets = [begin - 1, end + 1, *([len(file.data) - 30] if is_footer_damaged else [])]
    found = salvage.outline(damaged(file.data, *offsets), NUMBER)

    assert ([], b"") == (found.handles, found.dictionary)
    assert is_footer_damaged or [HEADER_BYTES] == [gap.offset for gap in found.gaps]
    assert found.is_whole
    assert reader.metadata == found.metadata


def test_the_dictionary_of_another_table_is_not_taken(seed):
    model = documents(random.Random(f"{seed}"), 200)
    file, meta = build_table(model, dictionary=DICTIONARY, salt=1)
    theirs, _ = build_table(model, dictionary=DICTIONARY, salt=2)
    begin = open_table(file, meta).handle(0).offset
    data = bytes(file.data[:HEADER_BYTES] + theirs.data[HEADER_BYTES:begin] + file.data[begin:])

    assert model == entries(data, salvage.outline(data, NUMBER))  # by the second one
    assert HEADER_BYTES < salvage.outline(data, NUMBER).handles[0].offset


def test_blocks_of_another_table_or_place_are_not_taken(seed):
    rng = random.Random(seed)
    ours, meta = build_table(random_entries(rng), salt=1)
    theirs, _ = build_table(random_entries(rng), salt=2)
    reader = open_table(ours, meta)
    first, second = handles(reader)[3:5]
    data = bytearray(ours.data)
    data[first.offset : first.end] = theirs.data[first.offset : first.end]
    moved = bytes(ours.data[second.offset : second.end])
    data[second.offset : second.end] = (moved + bytes(1))[1:]
    found = salvage.outline(bytes(data), NUMBER)

    assert not {first, second} & set(found.handles)
    assert set(handles(reader)) - {first, second} == set(found.handles)


def test_values_that_look_like_handles_are_not_taken_for_the_index():
    """But where they name the first block, and each other, and end before their own block: see rule 2."""
    far = [BlockHandle(1000 * number, 1, 1, 1, 1).encode() for number in range(1, 9)]
    ahead = [BlockHandle(HEADER_BYTES, 1 << 20, 1, 1, 1).encode()]
    for values in (far, ahead):
        model = [(b"0", bytes(10_000)), *((b"%d" % number, value) for number, value in enumerate(values, 1))]
        file, meta = build_table(model, block_bytes=9000, level=None)
        assert 2 == open_table(file, meta).block_count
        data = damaged(file.data, len(file.data) - 30)

        assert model == entries(data, salvage.outline(data, NUMBER))


def test_a_block_whose_keys_are_not_above_those_before_is_a_gap():
    file = MemoryFile()
    writer = table_writer(file)
    for key in (b"a", b"c", b"b", b"d"):
        writer.add([key], [bytes(100)])
    meta = finish(writer)
    second, third, fourth = (open_table_past_the_index(file, meta, index) for index in (1, 2, 3))
    found = salvage.outline(bytes(file.data), NUMBER)

    assert [b"a", b"c", b"d"] == [key for key, _ in entries(bytes(file.data), found)]
    assert [salvage.Gap(second.end, fourth.offset, b"c", b"d")] == found.gaps
    assert third.offset == second.end


def open_table_past_the_index(file, meta, index):
    """Return the handle of a block of a table whose index a reader refuses."""
    footer = Footer.decode(bytes(file.data[-FOOTER_BYTES:])).index
    seed = salvage.file_seed(meta.number, SALT)
    start = footer.offset + footer.head_stored
    body = salvage.envelope.unwrap(
        bytes(file.data[start : start + footer.body_stored]), footer.body_raw, seed, start
    )
    return BlockHandle.decode(open_column(body, 4).item(index))


def test_noise_holds_no_block_and_takes_no_memory(seed):
    rng = random.Random(f"{seed} noise")
    header = bytes(build_table([(b"a", b"b")])[0].data[:HEADER_BYTES])
    for bait in (
        b"",
        b"\x28\xb5\x2f\xfd",
        b"\x28\xb5\x2f\xfd\xff\xff\xff\xff",
        b"\1\0\0\0\1\1\xff\xff\xff\x7f",
    ):
        data = header + b"".join(bait + rng.randbytes(20) for _ in range(300))
        found = salvage.outline(data, NUMBER)

        assert ([], [], False) == (found.handles, found.gaps, found.is_whole)


def test_a_planted_fault_in_the_search_is_found(seed, monkeypatch):
    monkeypatch.setattr(salvage.envelope, "frame_bytes", lambda data, offset: None)
    with pytest.raises(AssertionError):
        test_all_blocks_are_found_whichever_part_is_damaged(seed, 1, 12, 300)
    monkeypatch.undo()
    monkeypatch.setattr(salvage, "_is_index", lambda chunk, start, offset: False)
    with pytest.raises(AssertionError):
        test_all_blocks_are_found_whichever_part_is_damaged(seed, 1, 12, 300)


def test_a_planted_fault_in_the_search_for_dictionaries_is_found(seed, monkeypatch):
    first = salvage._dictionary_at

    def at_the_beginning_only(data, file_seed, offset):
        return first(data, file_seed, offset) if offset == HEADER_BYTES else None

    for fault in (at_the_beginning_only, lambda data, file_seed, offset: None):
        monkeypatch.setattr(salvage, "_dictionary_at", fault)
        with pytest.raises(AssertionError):
            test_all_blocks_are_found_whichever_part_of_a_table_with_a_dictionary_is_damaged(seed, 300)
