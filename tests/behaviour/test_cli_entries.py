"""The verbs get, put, del, scan, count, dump and load."""

import itertools
import json
import os
import random
import subprocess
import sys

import pytest

import lsmdbm
from lsmdbm.cli.opening import reading
from support.commands import FRONTS, call, command, environment, run

ODD = {
    b"\x00\xff": b"\x1b[31m",
    b"tab\t": b"line\n",
    b"\\": b"",
    b"": b"empty",
    "gr\u00fcn".encode(): b"\xff",
}


@pytest.fixture(params=FRONTS)
def lsm(request):
    """Call the command, through each front end."""
    return lambda *arguments, stdin=b"": call(*arguments, stdin=stdin, front=request.param)


@pytest.fixture
def fruit(path):
    """A database with entries in a table and in the log."""
    with lsmdbm.open(path, "c") as db:
        db.update({"apple": "red", "banana": "yellow", "cherry": "dark red"})
        db.flush()
        db.update({"blueberry": "blue", "grape": "green"})
    return path


def contents(path):
    with lsmdbm.open(path) as db:
        return dict(db)


def files(path):
    return sorted((name, os.stat(os.path.join(path, name)).st_mtime_ns) for name in os.listdir(path))


def test_get_writes_the_bytes_of_the_value_and_nothing_else(lsm, fruit):
    found = lsm("get", fruit, "apple")

    assert (0, b"red", "") == (found.code, found.out, found.err)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("raw", b"\x1b\xff\n"),
        ("text", rb"\x1b\xff\n" + b"\n"),
        ("hex", b"1bff0a\n"),
        ("repr", b"b'\\x1b\\xff\\n'\n"),
        ("jsonl", b'{"value_base64": "G/8K"}\n'),
    ],
)
def test_get_writes_a_value_in_each_format(lsm, fruit, form, expected):
    with lsmdbm.open(fruit, "w") as db:
        db["odd"] = b"\x1b\xff\n"

    assert expected == lsm("get", fruit, "odd", "--format", form).out


def test_get_of_a_missing_key_says_so_safely(lsm, fruit):
    found = lsm("get", fruit, "a\x1b[2J")

    assert (1, b"", f"lsmdbm: {fruit}: no key a\\x1b[2J\n") == (found.code, found.out, found.err)


def test_put_makes_a_database_only_if_it_is_told_to(lsm, path):
    found = lsm("put", path, "apple", "red")
    assert (3, f"lsmdbm: {path}: there is no database: --create makes one\n") == (found.code, found.err)
    assert not os.path.exists(path)

    assert (0, b"", "") == ((made := lsm("put", "--create", path, "apple", "red")).code, made.out, made.err)
    assert 0 == lsm("put", path, "apple", "green").code
    assert {b"apple": b"green"} == contents(path)


def test_put_takes_a_value_from_stdin_byte_for_byte(lsm, fruit):
    value = bytes(range(256)) + b"\r\n"
    assert 0 == lsm("put", fruit, "all", "-", stdin=value).code

    assert value == lsm("get", fruit, "all").out


@pytest.mark.parametrize(
    ("flag", "key", "value"), [("--hex", "00ff", "1b"), ("--repr", r"\x00\xff", r"b'\x1b'")]
)
def test_keys_and_values_that_are_no_text_can_be_given(lsm, fruit, flag, key, value):
    assert 0 == lsm("put", flag, fruit, key, value).code
    assert b"\x1b" == contents(fruit)[b"\x00\xff"]
    assert b"\x1b" == lsm("get", fruit, key, flag).out
    assert b"1\n" == lsm("count", fruit, flag, "--prefix", key).out
    assert 0 == lsm("del", fruit, flag, key).code
    assert b"\x00\xff" not in contents(fruit)


@pytest.mark.parametrize(
    "arguments", [("--hex", "get", "xx"), ("--repr", "get", "\\"), ("--hex", "--repr", "get", "00")]
)
def test_a_key_of_another_form_is_a_wrong_usage(lsm, fruit, arguments):
    *flags, verb, key = arguments
    found = lsm(verb, *flags, fruit, key)

    assert (2, b"") == (found.code, found.out)
    assert found.err.startswith("lsmdbm: ")


def test_keys_that_look_like_options_come_behind_two_dashes(lsm, fruit):
    assert 0 == lsm("put", fruit, "--", "--hex", "-5").code

    assert b"-5" == lsm("get", fruit, "--", "--hex").out


def test_del_deletes_what_is_there_and_names_what_is_not(lsm, fruit):
    assert 0 == lsm("del", fruit, "apple", "banana").code
    found = lsm("del", fruit, "cherry", "durian", "elder")

    assert (1, f"lsmdbm: {fruit}: no key durian, elder\n") == (found.code, found.err)
    assert [b"blueberry", b"grape"] == list(contents(fruit))


def test_reading_changes_no_file_and_makes_none(lsm, fruit):
    before = files(fruit)
    for verb in ("scan", "count", "dump", "stats", "tree", "verify"):
        assert 0 == lsm(verb, fruit).code
    assert 0 == lsm("get", fruit, "apple").code

    assert before == files(fruit)


FRUIT = ["apple\tred", "banana\tyellow", "blueberry\tblue", "cherry\tdark red", "grape\tgreen"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], FRUIT),
        (["--reverse"], FRUIT[::-1]),
        (["--limit", 2], FRUIT[:2]),
        (["--limit", 0], []),
        (["--limit", 99], FRUIT),
        (["--start", "banana"], FRUIT[1:]),
        (["--stop", "banana"], FRUIT[:1]),
        (["--start", "b", "--stop", "c"], FRUIT[1:3]),
        (["--prefix", "b"], FRUIT[1:3]),
        (["--prefix", "b", "--reverse", "--limit", 1], FRUIT[2:3]),
        (["--prefix", "zzz"], []),
        (["--start", "x", "--stop", "a"], []),
        (["--keys-only"], [line.partition("\t")[0] for line in FRUIT]),
        (["--keys-only", "--reverse", "--limit", 1], ["grape"]),
    ],
)
def test_scan_writes_the_part_that_is_meant(lsm, fruit, options, expected):
    found = lsm("scan", fruit, *options)

    assert (0, expected, "") == (found.code, found.lines, found.err)


def test_a_negative_limit_is_a_wrong_usage(lsm, fruit):
    assert (2, "lsmdbm: --limit -1: must be 0 or more\n") == (
        (found := lsm("scan", fruit, "--limit=-1")).code,
        found.err,
    )


@pytest.mark.parametrize("timeout", ["-1", "nan", "inf"])
def test_a_timeout_without_sense_is_a_wrong_usage(lsm, fruit, timeout):
    found = lsm("put", fruit, "key", "value", "--timeout", timeout)

    assert (2, f"lsmdbm: option timeout={float(timeout)}: must be a number of seconds, 0 or more\n") == (
        found.code,
        found.err,
    )


@pytest.mark.parametrize("form", ["text", "raw", "hex", "repr", "jsonl", "csv"])
def test_scan_writes_each_format(lsm, fruit, form):
    expected = {
        "text": b"apple\tred\n",
        "raw": b"apple\tred\n",
        "hex": b"6170706c65\t726564\n",
        "repr": b"b'apple'\tb'red'\n",
        "jsonl": b'{"key": "apple", "value": "red"}\n',
        "csv": b"key,value\napple,red\n",
    }

    assert expected[form] == lsm("scan", fruit, "--limit", 1, "--format", form).out


def test_count_counts_a_part(lsm, fruit):
    assert [b"5\n", b"2\n", b"0\n"] == [
        lsm("count", fruit, *options).out for options in ([], ["--prefix", "b"], ["--start", "x"])
    ]


@pytest.mark.parametrize("form", [None, "jsonl", "csv", "text", "hex", "repr"])
def test_what_dump_writes_load_reads_back(lsm, fruit, path, form, seed):
    """The identity on entries of any bytes, in every format, from a pipe and from a file."""
    rng = random.Random(f"{seed} {form}")
    with lsmdbm.open(fruit, "w") as db:
        db.update(ODD)
        db.update((rng.randbytes(rng.randrange(20)), rng.randbytes(rng.randrange(200))) for _ in range(300))
    options = [] if form is None else ["--format", form]
    dumped = lsm("dump", fruit, *options)
    assert (0, "") == (dumped.code, dumped.err)
    file = f"{path}.{'csv' if form == 'csv' else 'jsonl'}"
    with open(file, "wb") as stream:
        stream.write(dumped.out)

    entries = contents(fruit)
    for copy, arguments, stdin in (
        ("piped", [], dumped.out),
        ("dashed", ["-"], dumped.out),
        ("read", [file], b""),
    ):
        given = [] if form == "csv" and copy == "read" else options  # the name of the file says it
        loaded = lsm("load", f"{path}-{copy}", *arguments, *given, stdin=stdin)
        assert (0, f"{len(entries):,} entries loaded\n") == (loaded.code, loaded.err)
        assert entries == contents(f"{path}-{copy}")
        assert dumped.out == lsm("dump", f"{path}-{copy}", *options).out


def test_dump_writes_a_part(lsm, fruit):
    lines = lsm("dump", fruit, "--prefix", "b", "--stop", "blue").lines

    assert [{"key": "banana", "value": "yellow"}] == list(map(json.loads, lines))


def test_load_keeps_what_is_there_but_for_its_own_keys(lsm, fruit):
    assert 0 == lsm("load", fruit, stdin=b'{"key": "apple", "value": "green"}\n').code

    assert b"green" == contents(fruit)[b"apple"]
    assert 5 == len(contents(fruit))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense\n", "line 3: no JSON: Expecting value at column 1; "),
        (b'{"key": "' + b"k" * 65537 + b'", "value": ""}\n', "entry 3, key b'kkk"),
    ],
)
def test_load_names_the_line_that_is_wrong_and_keeps_what_came_before(lsm, path, line, reason):
    good = b"".join(b'{"key": "%d", "value": ""}\n' % number for number in range(2))
    found = lsm("load", path, stdin=good + line + good)

    assert 3 == found.code
    assert found.err.startswith(f"lsmdbm: stdin: {reason}")
    assert found.err.endswith("; the entries before it are written\n")
    assert {b"0": b"", b"1": b""} == contents(path)


def test_load_of_a_missing_file_makes_no_database(lsm, path):
    found = lsm("load", path, f"{path}.jsonl")

    assert (3, f"lsmdbm: {path}.jsonl: No such file or directory\n") == (found.code, found.err)
    assert not os.path.exists(path)


def test_load_and_dump_stream_through_pipes(path, tmp_path):
    """A dump into a load: more than a pipe holds, so that both have to go on together."""
    with lsmdbm.open(path, "c") as db:
        db.update((b"%08d" % number, bytes([number % 256]) * 50) for number in range(20_000))
    reader, writer = os.pipe()
    with open(reader, "rb") as source:
        dumping = subprocess.Popen([command(), "dump", path], stdout=writer, env=environment())
        os.close(writer)
        loaded = run("load", f"{path}-copy", stdin=source.fileno(), module=True)
        dumping.wait()
    assert (0, 0, "20,000 entries loaded\n") == (dumping.returncode, loaded.code, loaded.err)
    assert contents(path) == contents(f"{path}-copy")


def test_scan_of_much_takes_little_memory(path):
    """40 MB of entries go by in less than they are: nothing is gathered."""
    with lsmdbm.open(path, "c", compression=None) as db:
        db.update((b"%06d" % number, os.urandom(1 << 10) * 100) for number in range(400))
    program = (
        "import resource, sys\nfrom lsmdbm.cli.plain import main\n"
        "code = main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\nsys.exit(code)"
    )
    peaks = []
    for verb, least in ((["count"], 1), (["scan", "--format", "raw"], 40_000_000)):
        words = [sys.executable, "-c", program, verb[0], path, *verb[1:]]
        done = subprocess.run(words, capture_output=True, env=environment(), check=True)
        assert len(done.stdout) >= least
        peaks.append(int(done.stderr))

    assert peaks[1] - peaks[0] < 25_000  # KiB


def test_a_scan_sees_one_moment(path):
    """Entries written while it goes on are not in it."""
    with lsmdbm.open(path, "c") as db:
        db.update({"a": "1", "z": "1"})
        with reading(path) as snapshot:
            entries = iter(snapshot.range().items())
            first = next(entries)
            db.update({"b": "2", "z": "2"})
            db.flush()
            assert [(b"a", b"1"), (b"z", b"1")] == [first, *itertools.islice(entries, 9)]
