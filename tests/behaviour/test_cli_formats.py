"""How the command shows bytes and reads them back: escapes, keys on the command line, formats of entries."""

import csv
import io
import json
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lsmdbm.cli import formats
from lsmdbm.cli.escapes import argument_bytes, escaped, line, shown, unescaped

AWKWARD = [
    *(
        b"",
        b"\\",
        b"\\n",
        b"\t",
        b"\n",
        b"\r\n",
        b"\x1b[2J",
        b"\x7f",
        b"\xff\xfe",
        b'"',
        b"'",
        b",",
        b" a ",
        b"-",
    ),
    *(
        "\u00fc".encode(),
        "\u202e".encode(),
        "\x9b31m".encode(),
        "\u2028".encode(),
        b"key",
        b"\xed\xa0\x80",
        b"\x00",
    ),
]
datas = st.one_of(
    st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
)
pairs = st.lists(st.tuples(datas, datas), max_size=8)


def awkward(test):
    for data in AWKWARD:
        test = example(data)(test)
    return test


def is_safe(text):
    """Whether no character of a text moves the cursor, changes colours, or is not to be seen."""
    return not any(unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for each in text)


@awkward
@given(datas)
def test_every_byte_string_has_an_escaped_text_that_is_safe_and_gives_it_back(data):
    for is_ascii in (False, True):
        text = escaped(data, is_ascii=is_ascii)
        assert is_safe(text)
        assert text.isascii() or not is_ascii
        assert data == unescaped(text)


def test_text_stays_as_it_is():
    assert "gr\u00fcn & blau" == escaped("gr\u00fcn & blau".encode())
    assert r"gr\xc3\xbcn" == escaped("gr\u00fcn".encode(), is_ascii=True)


@pytest.mark.parametrize("text", ["\\", r"\q", r"\x", r"\x1", r"a\xg0", "\\\\\\"])
def test_a_backslash_that_begins_no_escape_is_refused(text):
    with pytest.raises(ValueError, match="backslash"):
        unescaped(text)


def test_what_is_long_is_cut_before_it_is_escaped():
    assert r"\x00" * 5 + "..." == shown(bytes(1000), 5)
    assert "abc" == shown(b"abc", 3)


@awkward
@given(datas)
def test_an_error_is_one_safe_line_whatever_it_names(data):
    assert is_safe(line(f"file {data.decode('utf-8', 'surrogateescape')}: no"))


@awkward
@given(datas)
def test_keys_reach_the_database_in_each_form(data):
    assert data == argument_bytes(data.hex(), "hex")
    assert data == argument_bytes(repr(data), "repr")
    assert data == argument_bytes(repr(data)[2:-1], "repr")
    assert data == argument_bytes(data.decode("utf-8", "surrogateescape"), "text")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("0", "hex"),
        ("xx", "hex"),
        (r"\x0", "repr"),
        ("b'a", "repr"),
        ("\u00fc", "repr"),
        ("\\", "repr"),
        ("'a' + b", "repr"),
    ],
)
def test_a_key_that_is_not_of_its_form_is_refused(text, form):
    try:
        found = argument_bytes(text, form)
    except ValueError as exc:
        assert str(exc).startswith("not ")
    else:  # quotes and operators are characters like others
        assert text.encode() == found


@pytest.mark.parametrize("form", formats.DUMPS)
@given(pairs)
@example([(data, data[::-1]) for data in AWKWARD])
def test_what_is_written_in_a_format_is_read_back(form, entries):
    encode = formats.encoder(form)
    data = formats.header(form) + b"".join(encode(key, value) for key, value in entries)

    assert entries == list(formats.entries(io.BytesIO(data), form))
    assert len(entries) + (form == "csv") == data.count(b"\n")  # one line each
    assert is_safe(data.decode().replace("\t", "").replace("\n", ""))


@given(pairs)
def test_json_lines_are_what_json_says_and_csv_what_csv_says(entries):
    encode = formats.encoder("jsonl")
    for key, value in entries:
        fields = json.loads(encode(key, value))
        assert 2 == len(fields)
        assert key.decode() == fields["key"] if "key" in fields else "key_base64" in fields
    rows = [formats.encoder("csv")(key, value).decode() for key, value in entries]
    assert [[escaped(key), escaped(value)] for key, value in entries] == list(csv.reader(rows))


def test_keys_alone_are_written_without_a_value():
    assert [b"a\n", b"61\n", b"b'a'\n", b'{"key": "a"}\n', b"a\n", b"a\n"] == [
        formats.encoder(form)(b"a", None) for form in ("text", "hex", "repr", "jsonl", "csv", "raw")
    ]
    assert (b"key\n", b"") == (formats.header("csv", keys_only=True), formats.header("text", keys_only=True))


def test_json_lines_may_have_blank_lines_and_more_fields_and_csv_no_names():
    assert [(b"a", b"1")] == list(
        formats.entries(io.BytesIO(b'\n{"value": "1", "key": "a", "x": 1}\n'), "jsonl")
    )
    assert [(b"a", b"1")] == list(formats.entries(io.BytesIO(b"a,1\r\n\r\n"), "csv"))


@pytest.mark.parametrize(
    ("form", "data", "what"),
    [
        ("jsonl", b'{"key": "a", "value": "b"}\n{', "line 2: no JSON: "),
        ("jsonl", b"[1]\n", "line 1: a JSON list"),
        ("jsonl", b'{"key": "a"}\n', 'line 1: a string is wanted as "value"'),
        ("jsonl", b'{"key": "a", "key_base64": "YQ==", "value": ""}', 'as "key"'),
        ("jsonl", b'{"key": 1, "value": ""}', 'as "key"'),
        ("jsonl", b'{"key_base64": "*", "value": ""}', "line 1: "),
        ("jsonl", b'{"key": "\\ud800", "value": ""}', "line 1: "),
        ("jsonl", b"\xff\n", "line 1: "),
        ("jsonl", b"[" * 100_000, "line 1: "),
        ("csv", b"key,value\na\n", "line 2: 1 cells"),
        ("csv", b"key,value\na,b,c\n", "line 2: 3 cells"),
        ("csv", b"a,\\q\n", "line 1: a backslash"),
        ("csv", b"a,b\na,\xff\n", "line 2: "),
        ("csv", b'a,"b\n', "line 1: "),
        ("text", b"a\tb\nc\n", "line 2: no TAB"),
        ("hex", b"a\tb\n", "line 1: not hex"),
        ("repr", b"'a'\tb'\\x'\n", "line 1: not the repr"),
    ],
)
def test_a_line_that_is_none_is_named(form, data, what):
    with pytest.raises(ValueError, match=re.escape(what)):
        list(formats.entries(io.BytesIO(data), form))
