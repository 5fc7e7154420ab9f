"""The command on a terminal: nothing unsafe, questions, progress, colours, Ctrl-C; and closed pipes."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest

import lsmdbm
from lsmdbm.cli.output import Cell, Column, Meter, Output, duration
from support.commands import CONTROLS, STYLES, Terminal, command, environment, hiding, on_terminal, run

EVIL = b"\x1b]0;title\x07\x1b[2J\x9b\xc2\x9b31m\r\x7f\xe2\x80\xae"


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A database whose keys and values want to take a terminal over."""
    path = os.fspath(tmp_path_factory.mktemp("evil") / "db")
    with lsmdbm.open(path, "c") as db:
        db.update({EVIL: EVIL, b"plain": "gr\u00fcn"})
        db.flush()
        db.update({b"log" + EVIL: EVIL})
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A database with more entries than a pipe or a terminal holds."""
    path = os.fspath(tmp_path_factory.mktemp("many") / "db")
    with lsmdbm.open(path, "c") as db:
        db.update((b"%06d" % number, b"v" * 50) for number in range(20_000))
    return path


def unsafe(shown):
    """The control characters besides what rich writes on purpose, and the new lines of a terminal."""
    return CONTROLS.findall(STYLES.sub(b"", shown.replace(b"\r\n", b"\n")))


def commands(path):
    table, log = (
        sorted(name for name in os.listdir(path) if name.endswith(end))[-1] for end in (".sst", ".wal")
    )
    return [
        ["get", "--hex", path, EVIL.hex(), "--format", "raw"],
        ["get", "--hex", path, EVIL.hex() + "00"],
        *(["scan", path, "--format", form] for form in ("text", "raw")),
        ["tree", path, "--tables"],
        ["table", f"{path}/{table}", "--keys", "--blocks"],
        ["log", f"{path}/{log}", "--records"],
    ]


def test_no_control_character_gets_to_a_terminal(evil):
    assert unsafe(EVIL)  # the check finds them
    for words in commands(evil):
        code, terminal = on_terminal(*words)
        assert [] == unsafe(terminal.shown), words
        assert b"\xe2\x80\xae" not in terminal.shown
        assert code in (0, 1)
        assert terminal.shown


def test_a_pipe_gets_the_bytes_as_they_are(evil):
    assert EVIL == run("get", "--hex", evil, EVIL.hex()).out


def test_a_terminal_gets_text_as_it_is_and_one_that_is_not_utf8_gets_ascii(evil):
    assert "gr\u00fcn\r\n".encode() == on_terminal("get", evil, "plain")[1].shown
    found = on_terminal("get", evil, "plain", PYTHONIOENCODING="latin-1")[1].shown

    assert b"gr\\xc3\\xbcn\r\n" == found


@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 1), ("yup\n", 1)]
)
def test_destroy_asks_and_takes_only_a_yes(path, answer, code):
    lsmdbm.open(path, "c").close()
    with Terminal("destroy", path) as terminal:
        terminal.expect(f"Remove the database {path}, and all that is in it? [y/N] ")
        terminal.send(answer)
        assert code == terminal.end()

    assert (code == 1) is lsmdbm.is_database(path)
    assert (code == 1) is ("lsmdbm: nothing was done" in terminal.plain)


def test_a_bar_does_not_run_into_entries_on_a_terminal(many):
    code, terminal = on_terminal("scan", many, "--keys-only")

    assert 0 == code
    assert [f"{number:06}" for number in range(20_000)] == terminal.plain.splitlines()
    assert "reading" not in terminal.plain


def test_a_table_wider_than_the_terminal_keeps_its_words_and_numbers_whole(path):
    with lsmdbm.open(path, "c") as db:
        db.update((b"%d" % number * 40, b"") for number in range(1000, 3000))
        db.flush()
    words = ["tree", path, "--tables"]
    wide = [line for line in run(*words).text.splitlines() if "..." in line or "smallest key" in line]
    code, terminal = on_terminal(*words)

    assert (0, 2) == (code, len(wide))
    assert all(len(line) > 100 for line in wide)
    assert wide == [line.rstrip() for line in terminal.plain.splitlines() if line.rstrip() in wide]


def test_destroy_asks_nothing_where_nothing_is(path):
    code, terminal = on_terminal("destroy", path)

    assert (3, f"lsmdbm: {path}: there is no database\n") == (code, terminal.plain)


def test_load_wants_something_piped_in_and_waits_for_nobody(path):
    code, terminal = on_terminal("load", path)

    assert 2 == code
    assert "stdin is a terminal" in terminal.plain
    assert not os.path.exists(path)


@pytest.mark.parametrize("hidden", ["", "rich"])
def test_long_work_shows_progress_with_rate_and_the_time_that_is_left(many, tmp_path, hidden):
    more = hiding(tmp_path, hidden)
    dump = tmp_path / "dump"
    with open(dump, "wb") as stdout:
        code, terminal = on_terminal("dump", many, stdout=stdout, **more)
    assert (0, 20_000) == (code, dump.read_bytes().count(b"\n"))
    assert "reading: 1,000 of 20,000 entries, 5 %, " in terminal.plain
    assert "/s, " in terminal.plain
    assert " left" in terminal.plain

    code, terminal = on_terminal("load", tmp_path / "copy", dump, **more)
    assert 0 == code
    assert "loading: " in terminal.plain
    assert "MB, " in terminal.plain
    assert "B/s, " in terminal.plain
    assert "20,000 entries loaded\n" in terminal.plain
    code, terminal = on_terminal("verify", tmp_path / "copy", **more)
    assert (0, True) == (code, "checking: " in terminal.plain)


@pytest.mark.parametrize("hidden", ["", "rich"])
def test_progress_keeps_to_one_row_of_a_narrow_terminal(many, tmp_path, hidden):
    """Without rich, a line longer than a row went on in the next one, and so each picture stayed."""
    _, terminal = on_terminal("dump", many, stdout=subprocess.DEVNULL, columns=30, **hiding(tmp_path, hidden))
    pictures = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.shown.decode()))

    assert any(line.startswith("reading: 1,000") for line in pictures)
    assert max(map(len, pictures)) <= 30


def test_progress_is_for_terminals_alone(many, tmp_path):
    found = run("dump", many)
    assert (0, "") == (found.code, found.err)
    assert "reading" not in on_terminal("dump", many, stdout=subprocess.DEVNULL, TERM="dumb")[1].plain


def test_colours_are_for_those_who_want_them(many, tmp_path):
    for more, is_coloured in (
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        (hiding(tmp_path, "rich"), False),
    ):
        code, terminal = on_terminal("tree", many, **more)
        assert (0, is_coloured) == (code, b"\x1b[3" in terminal.shown)
        assert "read amplification" in terminal.plain
    assert b"\x1b" not in run("tree", many).out


def test_every_row_of_a_tree_fits_its_terminal(many):
    for columns in (80, 120):
        _, terminal = on_terminal("tree", many, COLUMNS=str(columns))
        lines = terminal.plain.split("\n")
        rows = [line for line in lines if line.startswith("    ") and line.strip()[:1].isdigit()]
        assert rows
        assert max(map(len, lines)) <= columns
        assert all("%" in row for row in rows)


def test_ctrl_c_ends_it_in_one_line(many):
    with Terminal("scan", many) as terminal:
        terminal.expect("000000")
        terminal.send("\x03")  # the scan waits for us to read
        assert 130 == terminal.end()

    assert terminal.plain.endswith("lsmdbm: interrupted\n")
    assert "Traceback" not in terminal.plain


def test_ctrl_c_in_a_load_keeps_a_sound_database(tmp_path):
    reader, writer = os.pipe()
    words = [command(), "load", os.fspath(tmp_path / "db")]
    with subprocess.Popen(words, stdin=reader, stderr=subprocess.PIPE, env=environment()) as loading:
        os.close(reader)
        with open(writer, "wb") as pipe:
            for number in range(20_000):  # a pipe holds less: when all is written, most was read
                pipe.write(b'{"key": "%06d", "value": "v"}\n' % number)
            pipe.flush()
            loading.send_signal(2)
            error = loading.stderr.read().decode()
    assert 130 == loading.returncode
    assert re.fullmatch(
        r"lsmdbm: interrupted; up to [\d,]+ entries are written, and may be loaded again\n", error
    )
    assert lsmdbm.verify(tmp_path / "db").ok
    with lsmdbm.open(tmp_path / "db") as db:
        assert 10_000 < len(db) <= 20_000


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("verb", ["scan", "dump", "get"])
def test_a_closed_pipe_is_no_error(many, verb, path, unbuffered):
    """With PYTHONUNBUFFERED, stdout is a raw file, which wrote a part of a long value, and told no error."""
    with lsmdbm.open(path, "c") as db:
        db["long"] = b"x" * (1 << 20)
    words = [command(), *(["get", path, "long"] if verb == "get" else [verb, many])]
    pipe, env = subprocess.PIPE, environment(PYTHONUNBUFFERED=unbuffered)
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, env=env) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert b"" == process.stderr.read()
    assert 141 == process.returncode


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_one_line(many):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [command(), "scan", many], stdout=full, stderr=subprocess.PIPE, env=environment()
        )

    assert (3, b"lsmdbm: No space left on device\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("closed", "code", "err"), [("1", 3, b"lsmdbm: stdout is closed\n"), ("2", 1, b""), ("0", 1, None)]
)
def test_closed_streams_are_no_traceback(many, closed, code, err):
    line = f'exec "$0" get "$1" absent {closed}>&-'
    done = subprocess.run(["sh", "-c", line, command(), many], capture_output=True, env=environment())

    assert code == done.returncode
    assert err is None or err == done.stderr


@pytest.mark.parametrize("verb", ["shell", "sql"])
def test_prompts_without_stdin_are_one_line(many, verb):
    if verb == "sql":
        pytest.importorskip("apsw", reason="the extra sql is not installed")
    line = 'exec "$0" "$1" "$2" 0>&-'
    done = subprocess.run(["sh", "-c", line, command(), verb, many], capture_output=True, env=environment())

    assert (2, b"lsmdbm: stdin is closed\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_help_that_does_not_arrive_is_no_success(unbuffered, module):
    words = [sys.executable, "-m", "lsmdbm"] if module else [command()]
    ours, theirs = os.pipe()
    os.close(ours)  # the pipe is closed before anything is written
    with open(theirs, "wb") as stdout:
        done = subprocess.run(
            [*words, "--help"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(PYTHONUNBUFFERED=unbuffered),
        )

    assert (141, b"") == (done.returncode, done.stderr)


# The shell


def prompted(terminal):
    """Wait until prompt_toolkit reads keys: it draws a line that is done once more, without this."""
    terminal.expect("\x1b[?2004h")
    terminal.expect("db>")


def test_shell_does_verbs_completes_and_remembers(evil, tmp_path):
    pytest.importorskip("prompt_toolkit", reason="the extra cli")
    history = tmp_path / "state/history"
    with Terminal("shell", evil, PROMPT_TOOLKIT_NO_CPR="1", LSMDBM_HISTORY=str(history)) as terminal:
        prompted(terminal)
        terminal.send("cou\t")
        terminal.expect("nt")  # "cou" may have been shown before
        terminal.send("\r")
        terminal.expect("3\r\n")
        prompted(terminal)
        terminal.send("get pl\t")
        terminal.expect("ain")
        terminal.send("\r")
        terminal.expect("gr\u00fcn\r\n")
        prompted(terminal)
        terminal.send("get 'no\r")
        terminal.expect("lsmdbm: No closing quotation")
        prompted(terminal)
        terminal.send("x")
        terminal.expect("x")
        terminal.send("\x03")  # gives the line up
        prompted(terminal)
        terminal.send("get absent\r")
        terminal.expect("no key absent")
        prompted(terminal)
        terminal.send("\x04")
        assert 1 == terminal.end()  # that of the last verb

    lines = [line for line in history.read_text().splitlines() if line.startswith("+")]
    assert ["+count", "+get plain", "+get 'no", "+get absent"] == lines
    assert 0o600 == stat.S_IMODE(history.stat().st_mode)


def test_shell_without_prompt_toolkit_reads_lines(evil, tmp_path):
    with Terminal("shell", evil, **hiding(tmp_path, "prompt_toolkit", "rich", "click")) as terminal:
        terminal.expect("db> ")
        terminal.send("count --prefix plain\n")
        terminal.expect("\n1\r\n")
        terminal.expect("db> ")
        terminal.send(
            "nonsense\x03"
        )  # gives the line up, at once or, between prompt and read, with the next key
        terminal.send("\n")
        terminal.expect("db> ")
        terminal.send("exit\n")
        assert 0 == terminal.end()

    assert "invalid choice" not in terminal.plain


def test_shell_takes_lines_from_a_pipe(path):
    lsmdbm.open(path, "c").close()
    lines = b"put apple red\n\n# a remark\nput 'two words' \"x y\"\nscan\n"
    lines += b"get absent\nscan --keys-only --limit 1\nquit\nput no no\n"
    found = run("shell", path, stdin=lines)

    assert (0, b"apple\tred\ntwo words\tx y\napple\n") == (found.code, found.out)
    assert f"lsmdbm: {path}: no key absent\n" == found.err
    assert 2 == run("shell", path, stdin=b"nonsense\n").code
    assert 1 == run("shell", path, stdin=b"get absent\n").code


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_lines_from_a_pipe_are_taken_as_their_bytes(path, encoding):
    """A byte that is no UTF-8 ended the shell, and what was typed before it was all that was done."""
    lsmdbm.open(path, "c").close()
    lines = "put apple gr\u00fcn\n".encode() + b"put \xff 1\nget apple\n"
    found = run("shell", path, stdin=lines, PYTHONIOENCODING=encoding)

    assert (0, "gr\u00fcn", "") == (found.code, found.text, found.err)
    with lsmdbm.open(path) as db:
        assert [b"apple", b"\xff"] == list(db)


def test_shell_knows_files_of_the_database_by_their_names(evil):
    table = next(name for name in os.listdir(evil) if name.endswith(".sst"))
    found = run("shell", evil, stdin=f"table {table} --json\n".encode())

    assert 2 == json.loads(found.out)["entries"]


def test_shell_explains_itself(evil):
    found = run("shell", evil, stdin=b"help\nhelp scan\n")

    assert 0 == found.code
    assert "draw the levels" in found.text
    assert "--reverse" in found.text
    assert "DB" not in found.text


# Progress, by a clock of its own


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_meter_tells_share_rate_and_time_left():
    clock = Clock()
    meter = Meter("loading", "B", clock)
    clock.now += 10

    assert "loading: 5.0 MB of 20.0 MB, 25 %, 500.0 kB/s, 30 s left" == meter.text(5_000_000, 20_000_000)
    assert "loading: 5.0 MB, 500.0 kB/s" == meter.text(5_000_000, None)
    assert "loading: 20.0 MB of 20.0 MB, 100 %, 2.0 MB/s" == meter.text(20_000_000, 20_000_000)
    assert "copying: 1,000 of 4,000 entries, 25 %, 0/s" == Meter("copying", "entries", clock).text(1000, 4000)
    assert "copying: 1,000 entries, 0/s" == Meter("copying", "entries", clock).text(1000, None)


def test_progress_fits_80_columns_whatever_is_counted():
    """The unit stood there three times, and of a million entries the time that was left was cut off."""
    clock = Clock()
    meter = Meter("put, one by one", "entries", clock)
    clock.now += 999

    assert len(meter.text(9_870_000, 99_999_999)) < 80


def test_a_meter_is_not_shown_more_often_than_it_can_be_read():
    clock = Clock()
    meter = Meter("loading", "B", clock)
    due = []
    for _ in range(10):
        due.append(meter.is_due())
        clock.now += 0.0625  # exact

    assert [True, False] * 5 == due


def test_times_are_told_as_people_tell_them():
    assert ["0 s", "59 s", "1:00 min", "59:59 min", "1:00 h", "27:46 h"] == list(
        map(duration, (0.2, 59.4, 59.6, 3599, 3600, 100_000))
    )


def test_a_plain_table_is_aligned(tmp_path):
    with open(tmp_path / "out", "wb") as stdout:
        output = Output(stdout, sys.stderr)
        output.table([Column("name"), Column("count", True)], [["a", "1"], [Cell("long", "red"), "1,000"]])
    assert ["name  count", "a         1", "long  1,000"] == (tmp_path / "out").read_text().splitlines()
