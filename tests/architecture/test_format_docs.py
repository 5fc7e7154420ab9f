"""docs/format.md, executable: its examples, tables of fields, codes and limits are those of the code."""

import re
from importlib import import_module
from pathlib import Path
from struct import Struct

import pytest

from lsmdbm._base import chunk
from lsmdbm._base.intervals import ABOVE_ALL
from lsmdbm._format import block, coding, columns, dictionaries, envelope, footer, manifest, position, records
from lsmdbm._format.footer import FOOTER_BYTES, BlockHandle, Footer
from lsmdbm._format.manifest import Manifest
from lsmdbm._format.position import Position
from lsmdbm._format.records import LogHeader
from lsmdbm._format.table_writer import _DICTIONARY, _METADATA, Origin
from support.format import MemoryFile, finish, table_writer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/format.md").read_text("utf-8")
MODULES = "coding columns records position manifest bloom block envelope dictionaries footer"
MODULES += " table_writer table_parts table_reader"
CODES = {"u8": "B", "i8": "b", "u32": "I", "u64": "Q"}


# The page, taken apart

ROW = re.compile(r"\|(.*)\|")
LINE = re.compile(r" *(\d+)  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {2,}(\S.*))?")


def table_below(page, marker):
    """Return the rows of the table that follows a marker, without its head."""
    rows = []
    for line in page.partition(f"<!-- {marker} -->\n")[2].splitlines():
        match = ROW.fullmatch(line)
        if match is None:
            break
        rows.append([cell.strip() for cell in match[1].split("|")])
    return rows[2:]


def names(page, kind):
    return re.findall(rf"<!-- {kind}: (\S+) -->", page)


def example(page, name):
    """Return the lines of a hexadecimal example: offset, bytes, and what stands behind them."""
    text = page.partition(f"<!-- hex: {name} -->\n```text\n")[2].partition("```")[0]
    lines = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        lines.append((int(match[1]), bytes.fromhex(match[2]), match[3] or "") if match else (-1, b"", line))
    return lines


def fixed_fields(page, name):
    """Return (field, struct code, bytes) of each row of fixed length, those of handles included."""
    found = []
    for field, length, kind, _ in table_below(page, f"fields: {name}"):
        if kind.endswith("-handle"):
            found += [(f"{field}: {part}", *rest) for part, *rest in fixed_fields(page, kind)]
        elif length.isdigit():
            found.append((field, CODES.get(kind, f"{length}s"), int(length)))
    return found


# The code


def log():
    """Return the parts of the log of the worked example, and where each begins."""
    header = LogHeader(number=17, salt=0x8877665544332211, first_seq=1)
    parts = {"log-header": (0, header.encode())}
    end, seed = records.HEADER_BYTES, header.seed
    for name, encode in (
        ("record-clear", lambda offset: records.encode_clear(seed, 1, 0)),
        ("record-delete", lambda offset: records.encode_delete(seed, 2, 0, b"banana")),
        ("record-put", lambda offset: records.encode_put(seed, 3, 0, b"apple", b"red")),
        ("mark", lambda offset: records.encode_mark(seed, 4, offset, header)),
        (
            "record-chunk",
            lambda offset: records.encode_chunk(
                seed, 4, parts["mark"][0], [b"banana", b"cherry", b"date"], [None, b"dark red", b""]
            ),
        ),
    ):
        parts[name] = (end, encode(end))
        end += len(parts[name][1])
    return parts


def table():
    """Return the parts of the table of the worked example, and what the manifest says of it."""
    file = MemoryFile()
    writer = table_writer(file, number=18, salt=0x1122334455667788, block_bytes=16, level=None, bloom_bits=12)
    writer.add([b"apple", b"banana", b"cherry", b"date"], [b"red", None, b"dark red", b""])
    meta = finish(writer, Origin(level=0, first_seq=1, last_seq=6))
    data = bytes(file.data)
    last = Footer.decode(data[-FOOTER_BYTES:])
    first, second = (BlockHandle.decode(data[offset : offset + footer.HANDLE_BYTES]) for offset in (165, 189))
    edges = {
        "table-header": (0, footer.HEADER_BYTES),
        "block": (first.offset, first.end),
        "block-last": (second.offset, second.end),
        "filter": (last.filter.offset, last.filter.end),
        "index": (last.index.offset, last.index.end),
        "metadata": (last.metadata.offset, last.metadata.end),
        "footer": (len(data) - FOOTER_BYTES, len(data)),
    }
    return {name: (low, data[low:high]) for name, (low, high) in edges.items()}, meta


def manifest_file():
    _, meta = table()
    shape = {
        "block_bytes": 16,
        "compression": None,
        "compression_level": 1,
        "bloom_bits_per_key": 12,
        "dictionaries": False,
    }
    return manifest.encode(
        Manifest(
            uuid=bytes(range(16)),
            number=19,
            next_number=20,
            last_seq=6,
            min_wal=20,
            live_count=3,
            shape={**shape, "compaction": "leveled"},
            levels=((meta,),),
        )
    )


def deletions():
    """Return the record of a range deletion, and what it leaves in the manifest."""
    seed = LogHeader(number=17, salt=0x8877665544332211, first_seq=1).seed
    ranges = ((b"a", b"c"), (b"pear", ABOVE_ALL))
    _, meta = table()
    holed = manifest.encode_table(0, meta._replace(holes=((b"b", b"c"),)))
    return {
        "record-ranges": (56, records.encode_ranges(seed, 1, 0, ranges, [b"apple"], [b"red"])),
        "manifest-holes": (162, holed[len(manifest.encode_table(0, meta)) :]),
    }


def kept_logs():
    """Return what a manifest of the example says more if it keeps logs."""
    without, state = manifest_file(), manifest.decode(manifest_file(), 19)
    shape = {**state.shape, "log_keep_bytes": 1 << 20}
    data = manifest.encode(state._replace(shape=shape, prev_log=(17, 161, 6)))
    return data[80 : 80 + len(data) - len(without)]


def envelope_of_a_frame(stored):
    """Return the envelope of the example made again from its frame, which zstd must take for 64 letters."""
    seed = coding.file_seed(18, 0x1122334455667788)
    if envelope.unwrap(stored, 64, seed, 28) != b"a" * 64:
        raise coding.Malformed("another frame")
    return envelope.seal(stored[: -envelope.CRC_BYTES], seed, 28)


def expected_examples():
    """Return what each example must show: (offset of its first byte, its bytes)."""
    return {
        **log(),
        **table()[0],
        "manifest": (0, manifest_file()),
        **deletions(),
        "manifest-kept": (80, kept_logs()),
        "position": (0, Position(7, 17, 0x8877665544332211, 161).encode()),
        "column-uniform": (0, columns.encode([b"ab", b"cd"])),
        "column-sized": (0, columns.encode([b"\0\n\xff", b"ab"])),
        "column-split": (0, columns.encode([b"a", b"", b"bc"])),
        "positions": (0, columns.encode_positions([0, 2])),
    }


def codes(*structs):
    """Return the codes of struct formats, one behind the other."""
    formats = "".join(part.format if isinstance(part, Struct) else part for part in structs)
    return re.findall(r"\d*s|[A-Za-z]", formats.replace("<", ""))


EXPECTED_FIELDS = {  # table of fields on the page: struct codes in the code
    "file-seed": codes(coding._PLACE),
    "log-header": codes(records._HEADER, coding.U32),
    "record": codes(records.RECORD),
    "record-put": codes(records._PUT_PAYLOAD),
    "record-delete": codes("B"),
    "record-chunk": codes("B", records._COLUMNS),
    "record-ranges": codes(records._RANGES, records._COLUMNS),
    "record-clear": codes("B"),
    "column-uniform": codes(columns._UNIFORM),
    "column-sized": codes("BB"),
    "column-split": codes("BB"),
    "positions": codes(coding.U32),
    "table-header": codes(footer._HEADER, coding.U32),
    "envelope": codes(coding.U32),
    "dictionary": codes("II"),
    "block-head": codes(block._HEAD),
    "block-column": codes(block._ENTRY),
    "filter": [],
    "block-handle": codes(footer._BLOCK_HANDLE),
    "part-handle": codes("QII"),
    "metadata": codes(_METADATA, coding.U32),
    "metadata-dictionary": codes(_DICTIONARY),
    "footer": codes(footer._FOOTER, coding.U32, f"{len(footer.FOOTER_MAGIC)}s"),
    "manifest": codes(manifest._FIXED, manifest._SHAPE, coding.U32, manifest._TAIL),
    "manifest-table": codes(manifest._TABLE),
    "manifest-holes": codes(coding.U32),
    "manifest-kept": codes(manifest._KEPT),
    "position": codes(position._POSITION, coding.U32),
}
MADE_OF_OTHERS = {  # a Struct that serves several fields at once: those it is made of
    "records._AFTER_CRC": codes(records.RECORD)[1:],
    "records._PUT": codes(records.RECORD)[1:] + codes(records._PUT_PAYLOAD),
    "records._DELETE": codes(records.RECORD)[1:] + codes("B"),
    "coding.U64": codes("Q"),
    "records._COLUMNS": codes(records._COLUMNS),
    "records._RANGES": codes(records._RANGES),
    "block._PLAIN_HEAD": codes(block._HEAD) + codes(block._ENTRY),
    "block._USUAL_HEAD": codes(block._PLAIN_HEAD) + codes(columns._UNIFORM),
    "footer._HEADER": EXPECTED_FIELDS["table-header"][:-1],
    "records._HEADER": EXPECTED_FIELDS["log-header"][:-1],
    "footer._FOOTER": EXPECTED_FIELDS["footer"][:-2],
    "table_writer._METADATA": EXPECTED_FIELDS["metadata"][:-1],
    "manifest._FIXED": EXPECTED_FIELDS["manifest"][:10],
    "manifest._SHAPE": EXPECTED_FIELDS["manifest"][10:15],
    "manifest._TAIL": EXPECTED_FIELDS["manifest"][16:],
    "position._POSITION": EXPECTED_FIELDS["position"][:-1],
}
EXPECTED_CODES = {
    "records": {name: getattr(records, name) for name in ("PUT", "DELETE", "CHUNK", "CLEAR", "RANGES")},
    "columns": {name: getattr(columns, name) for name in ("UNIFORM", "SIZED", "SPLIT")},
    "block": {name: getattr(block, name) for name in ("KEYS", "TOMBSTONES")},
}
FIELDS_IN_EXAMPLES = {  # where they are not those of the table with the name of the example
    **{
        f"record-{kind}": ["record", f"record-{kind}"]
        for kind in ("put", "delete", "clear", "chunk", "ranges")
    },
    "mark": ["record", "log-header"],
    "block": ["block-head", "block-column", "block-column"],
    "block-last": ["block-head", "block-column"],
    "index": ["block-head", "block-column", "block-handle", "block-handle"],
    "manifest": ["manifest, up to tables", "manifest-table", "manifest, from total"],
}
LIMITS = {
    "chunk": chunk,
    "records": records,
    "envelope": envelope,
    "dictionaries": dictionaries,
    "block": block,
    "manifest": manifest,
    "coding": coding,
}


def structs():
    """Return every Struct of lsmdbm._format by the name of its module and its own."""
    return {
        f"{name}.{attribute}": value
        for name in MODULES.split()
        for attribute, value in vars(import_module(f"lsmdbm._format.{name}")).items()
        if isinstance(value, Struct) and not (name != "coding" and value in (coding.U32, coding.U64))
    }


# What the page says against what the code does


def wrong_examples(page):
    expected = expected_examples()
    yield from sorted({*expected, "envelope"} ^ set(names(page, "hex")))
    for name, (start, data) in expected.items():
        if joined(example(page, name)) != (start, data):
            yield name
    try:
        start, stored = joined(example(page, "envelope"))
        if (start, stored) != (28, envelope_of_a_frame(stored)):
            yield "envelope"
    except coding.Malformed:
        yield "envelope"


def joined(lines):
    """Return offset and bytes of an example; None where an offset is not behind the line before."""
    start = position = lines[0][0] if lines else -1
    for offset, data, _ in lines:
        if offset != position:
            return None, b""
        position += len(data)
    return start, b"".join(data for _, data, _ in lines)


def wrong_values(page):
    """Yield the lines whose bytes are not the value that is written behind them."""
    for name in names(page, "hex"):
        for offset, data, label in example(page, name):
            field, equals, value = label.partition(" = ")
            is_signed = field == "compression_level"
            if value.startswith('"'):
                said = value.strip('"').encode()
            else:
                said = int(value).to_bytes(len(data), "little", signed=is_signed) if equals else data
            if said != data:
                yield f"{name}, offset {offset}"


def wrong_lines(page):
    """Yield the examples without one line for each fixed field, in the order of the fields."""
    for name in names(page, "hex"):
        lines = iter([(label.partition(" = ")[0], len(data)) for _, data, label in example(page, name)])
        fields = [field for part in FIELDS_IN_EXAMPLES.get(name, [name]) for field in fields_of(page, part)]
        if not all((field, length) in lines for field, _, length in fields):
            yield name


def fields_of(page, part):
    """Return the fixed fields of a table, or of `table, up to field`, or of `table, from field`."""
    name, _, part = part.partition(", ")
    fields = fixed_fields(page, name)
    if not part:
        return fields
    edge = [field for field, *_ in fields].index(part.rpartition(" ")[2])
    return fields[: edge + 1] if part.startswith("up to") else fields[edge:]


def wrong_fields(page):
    yield from sorted(set(EXPECTED_FIELDS) ^ set(names(page, "fields")))
    for name, expected in EXPECTED_FIELDS.items():
        fields = fixed_fields(page, name)
        if [code for _, code, _ in fields] != expected:
            yield name
        if any(length != Struct("<" + code).size for _, code, length in fields):
            yield f"{name}, bytes"


def wrong_codes(page):
    for name, expected in EXPECTED_CODES.items():
        rows = table_below(page, f"codes: {name}")
        if {constant.strip("`"): int(code) for code, constant, _ in rows if constant} != expected:
            yield name
        if len({code for code, *_ in rows}) != len(rows) or len(rows) < len(expected):
            yield name


def wrong_limits(page):
    rows = table_below(page, "limits")
    if len(rows) != 11:
        yield "limits"
    for name, value, constant in rows:
        module, _, attribute = constant.strip("`").partition(".")
        if int(value.split()[0].replace(",", "")) != getattr(LIMITS[module], attribute):
            yield name


CHECKS = [wrong_examples, wrong_values, wrong_lines, wrong_fields, wrong_codes, wrong_limits]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("wrong_"))
def test_page_says_what_the_code_does(check):
    assert [] == list(check(PAGE))


def test_examples_of_one_file_are_the_whole_file():
    for parts, whole in ((log(), 301), (table()[0], table()[1].file_bytes)):
        position = 0
        for offset, data in sorted(parts.values()):
            assert position == offset
            position += len(data)
        assert whole == position


def test_every_struct_of_the_format_is_little_endian_and_on_the_page():
    documented = [*EXPECTED_FIELDS.values(), *MADE_OF_OTHERS.values()]
    found = structs()

    assert [] == [name for name, fields in found.items() if not fields.format.startswith("<")]
    assert [] == [name for name, fields in found.items() if codes(fields) not in documented]
    assert [] == [name for name, expected in MADE_OF_OTHERS.items() if codes(found[name]) != expected]


def test_page_names_every_section_that_a_docstring_points_to():
    headings = set(re.findall(r"(?m)^#+ (.*)$", PAGE))
    sections = {
        section
        for path in (ROOT / "lsmdbm").rglob("*.py")
        for section in re.findall(r"docs/format\.md, ([A-Z][a-z]*(?: [a-z]+)?)", path.read_text("utf-8"))
    }

    assert set() == sections - headings
    assert {
        "Conventions",
        "Log",
        "Column",
        "Table",
        "Envelope",
        "Block",
        "Bloom filter",
        "Manifest",
    } <= sections


def test_page_names_every_magic():
    for magic in (
        records.MAGIC,
        manifest.MAGIC,
        manifest.END_MAGIC,
        footer.HEADER_MAGIC,
        footer.FOOTER_MAGIC,
    ):
        assert f"`{magic.decode()}`" in PAGE


def test_versions_and_features_on_the_page_are_those_of_the_code():
    assert f"format **{coding.FORMAT_VERSION}**" in PAGE
    assert (3, 1) == (manifest.KNOWN_FEATURES, footer.KNOWN_FEATURES)
    assert "may\nhave bit 0, which says that it has a [dictionary]" in PAGE
    assert f"0x{int.from_bytes(dictionaries.MAGIC, 'little'):08X}" in PAGE


# The checks themselves


def swapped_byte(line):
    offset, data, label = line
    damaged = bytes([data[0] ^ 1]) + data[1:]
    return f"{offset:5}  {data.hex(' ')}", f"{offset:5}  {damaged.hex(' ')}"


@pytest.mark.parametrize("name", names(PAGE, "hex"))
def test_wrong_byte_in_any_line_of_an_example_is_found(name):
    for line in example(PAGE, name):
        before, after = swapped_byte(line)
        head, marker, text = PAGE.partition(f"<!-- hex: {name} -->")
        damaged = head + marker + text.replace(before, after, 1)

        assert damaged != PAGE
        assert name in set(wrong_examples(damaged)), line


@pytest.mark.parametrize(
    ("check", "before", "after", "found"),
    [
        (wrong_examples, "<!-- hex: mark -->", "", "mark"),
        (wrong_examples, "  149  94 27", "  148  94 27", "mark"),
        (wrong_examples, "  153  38 00", "  159  38 00", "mark"),
        (wrong_examples, "   56  43 dc", "   56: 43 dc", "record-clear"),
        (wrong_values, "prev_end = 0", "prev_end = 1", "log-header, offset 40"),
        (wrong_values, 'value = "red"', 'value = "rod"', "record-put, offset 146"),
        (wrong_lines, "prev_end = 0", "prev_rear = 0", "log-header"),
        (wrong_lines, "total = 182", "length = 182", "manifest"),
        (wrong_lines, "footer_crc\n", "crc\n", "manifest"),
        (wrong_lines, "body_raw = 5\n", "body_row = 5\n", "index"),
        (wrong_fields, "| prev_end | 4 | u32 |", "| prev_end | 8 | u64 |", "log-header"),
        (wrong_fields, "| prev_end | 4 | u32 |", "| prev_end | 8 | u32 |", "log-header, bytes"),
        (wrong_fields, "| stored | 4 | u32 |", "| stored | 8 | u64 |", "footer"),
        (wrong_fields, "| compression_level | 1 | i8 |", "| compression_level | 1 | u8 |", "manifest"),
        (wrong_fields, "| uuid | 16 | bytes |", "| uuid | 8 | bytes |", "manifest"),
        (wrong_fields, "<!-- fields: filter -->", "", "filter"),
        (wrong_fields, "<!-- fields: filter -->", "<!-- fields: bloom -->", "bloom"),
        (wrong_codes, "| 2 | `DELETE` |", "| 6 | `DELETE` |", "records"),
        (wrong_codes, "| 5 | `RANGES` |", "| 4 | `RANGES` |", "records"),
        (wrong_codes, "| 2 | `SPLIT` |", "| 2 | |", "columns"),
        (wrong_limits, "| 65,536 bytes", "| 65,535 bytes", "key"),
        (wrong_limits, "| levels | 16 | `manifest.MAX_LEVELS` |\n", "", "limits"),
    ],
)
def test_planted_fault_is_found(check, before, after, found):
    damaged = PAGE.replace(before, after, 1)

    assert damaged != PAGE
    assert found in list(check(damaged))


def test_struct_that_the_page_does_not_know_is_found(monkeypatch):
    monkeypatch.setattr(block, "_ENTRY", Struct("<BQ"))

    with pytest.raises(AssertionError):
        test_every_struct_of_the_format_is_little_endian_and_on_the_page()
