"""The programs under examples/, run as a user runs them, in a process and a directory of their own."""

import http.server
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

import lsmdbm
from support import sql

ROOT = Path(__file__).parents[2]
SEARCH = ROOT / "examples/search_source.py"

TOUR = """\
b'red' None True 5
b'banana' b'yellow'
b'blueberry' b'blue'
[b'blueberry'] [b'grape', b'cherry']
b'apple' b'blueberry' (b'grape', b'green')
{b'apple': b'green', b'banana': b'yellow', b'blueberry': b'blue', b'grape': b'green'}
5 entries from the log, 0 tables
"""

SOLAR_SYSTEM = """\
-- moons by planet, and the largest of each
   Mercury 0 None None
   Venus 0 None None
   Earth 1 1737.4 Moon
   Mars 2 11.1 Phobos
   Jupiter 10 2634.1 Ganymede
   Saturn 10 2574.7 Titan
   Uranus 6 788.9 Titania
   Neptune 4 1353.4 Triton
-- discovered by century
   17 9 Jupiter,Saturn
   18 4 Saturn,Uranus
   19 8 Jupiter,Mars,Neptune,Saturn,Uranus
   20 11 Jupiter,Neptune,Saturn,Uranus
-- larger than the smallest planet
   Jupiter Ganymede 2634.1
   Saturn Titan 2574.7
-- mostly hydrogen
   Jupiter {'H2': 89, 'He': 10}
   Neptune {'H2': 80, 'He': 19}
   Saturn {'H2': 96, 'He': 3}
   Uranus {'H2': 83, 'He': 15}
-- the last moons of Saturn, by name
   Titan Christiaan Huygens
   Tethys Giovanni Cassini
   Rhea Giovanni Cassini
"""

# Runs a script, and kills it inside the n-th update(), when half of what that brings is written.
KILL_IN_UPDATE = """
import os, runpy, signal, sys
import lsmdbm

count, script = int(sys.argv[1]), sys.argv[2]
update = lsmdbm.Database.update

def update_or_die(self, pairs):
    global count
    count -= 1
    if count:
        return update(self, pairs)
    update(self, pairs[: len(pairs) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

lsmdbm.Database.update = update_or_die
sys.argv[:3] = [script]
runpy.run_path(script, run_name="__main__")
"""
KILL_IN_COMPACT = """
import os, runpy, signal, sys
import lsmdbm

lsmdbm.Database.compact = lambda self: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[:2] = [sys.argv[2]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def run(tmp_path):
    """Run Python in an empty directory; the result has the output as text."""
    here = tmp_path / "here"
    here.mkdir()

    def run(*arguments, status=0):
        command = [sys.executable, "-W", "error", *map(str, arguments)]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, encoding="utf-8")
        assert (status, done.stderr) == (done.returncode, done.stderr)
        return done

    run.here = here
    return run


@pytest.fixture
def source(tmp_path):
    """Some files with whatever makes splitting into lines and words hard."""
    source = tmp_path / "source"
    files = {
        "a.py": b"import heapq\nfrom heapq import heapify as Heapify, heap\n\n\x0cheap = [heap, heap_]\n",
        "b/__init__.py": b"",
        "b/a.py": b"HEAP = 1\r\nheaps = 'not heap'\r\n",
        "b/latin.py": b"# -*- coding: latin-1 -*-\nheap\xe9 = 'heap \xff'\n",
        "b/unicode.py": "h\u00e9ap = heap\u2028 heap\n# \u00c9t\u00e9 and \u00e9t\u00e9s\n".encode(),
        "c.py": b"\0 heap \0heapify\0\n" + b"heap " + b"x" * 300_000 + b"\nno newline at the end: heap",
        "d.txt": b"heap\n",
        "site-packages/e.py": b"heap\n",
    }
    for name, data in files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return source


def naive(source, pattern):
    """What grep would find: a line as `path:number`."""
    found = set()
    for path in source.rglob("*.py"):
        if "site-packages" not in path.parts:
            text = path.read_bytes().decode("utf-8", "replace")
            for number, line in enumerate(text.split("\n"), 1):
                if re.search(pattern, line, re.IGNORECASE):
                    found.add(f"{path.relative_to(source).as_posix()}:{number}")
    return found


def answers(output):
    """The places a search printed, by the title of the query."""
    found = {}
    for line in output.splitlines():
        title = re.fullmatch(r"(\S+): ([\d,]+) lines in ([\d,]+) files, .* ms", line)
        place = re.match(r"(\S+:\d+): ", line)
        if title:
            places = found.setdefault(title[1], [])
            assert places == []
        elif place:
            places.append(place[1])
    return found


def expected_answers(source, words, beginnings):
    by_word = {word: naive(source, rf"\b{word.lower()}\b") for word in words}
    return {**by_word, **{f"{part}...": naive(source, rf"\b{part.lower()}") for part in beginnings}}


def entries_written(done):
    return int(re.findall(r"([\d,]+) entries,", done.stderr)[-1].replace(",", ""))


def as_sets(found):
    assert [len(set(places)) for places in found.values()] == [len(places) for places in found.values()]
    return {title: set(places) for title, places in found.items()}


WORDS = ["heap", "heapq", "Heapify", "heaps", "\u00e9t\u00e9", "absent"]
BEGINNINGS = ["heap", "heapi", "H\u00e9", "absent"]
QUERY = ["--max", "0", *WORDS, *(f"--prefix={beginning}" for beginning in BEGINNINGS)]


def test_search_finds_what_a_naive_search_finds_and_builds_once(run, source):
    expected = expected_answers(source, WORDS, BEGINNINGS)
    assert len(expected["heap"]) > 5

    first = run(SEARCH, "--source", source, *QUERY)
    again = run(SEARCH, *QUERY)

    assert expected == as_sets(answers(first.stdout))
    assert "building" in first.stderr
    assert answers(first.stdout) == answers(again.stdout)
    assert "" == again.stderr


def test_search_over_a_part_of_the_standard_library(run):
    source = Path(json.__file__).parent
    expected = expected_answers(source, ["decoder", "self"], ["scan"])

    done = run(SEARCH, "--source", source, "--max=0", "decoder", "self", "--prefix=scan")

    assert expected == as_sets(answers(done.stdout))
    assert min(map(len, expected.values())) > 1


def test_search_shows_progress_the_tree_and_the_line(run, source):
    done = run(SEARCH, "--source", source, "--max=1", "heapify")

    assert "a.py:2: from heapq import heapify as Heapify, heap\n... and 1 more" in done.stdout
    assert re.search(r"^ +\d +1 +\d+ +0\.3 MB +0\.0 MB +\d+\.\d\d$", done.stdout, re.MULTILINE)
    assert re.search(r"^6/6 files, 0\.3 MB, \d+ entries, [\d,]+ entries/s$", done.stderr, re.MULTILINE)
    assert "\r" not in done.stderr


def test_progress_goes_over_its_line_on_a_terminal(run, source):
    ours, theirs = os.openpty()
    try:
        command = [sys.executable, SEARCH, "--source", source]
        subprocess.run(command, cwd=run.here, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert re.search(r"\r1/6 files, .*\r6/6 files, [^\n]* entries/s *\r\n$", shown, re.DOTALL)


@pytest.mark.parametrize("files", [1, 2, 6])
def test_killed_build_is_noticed_and_goes_on(run, source, files):
    run("-c", KILL_IN_UPDATE, files, SEARCH, "--source", source, status=-signal.SIGKILL)
    with lsmdbm.open(run.here / "stdlib-index") as db:
        assert "meta/complete" not in db
        assert files - 1 == len(db.range(prefix="doc/"))
        assert len(db.range(prefix="word/")) > 0

    done = run(SEARCH, "--source", source, *QUERY)

    assert (files > 1) == (f"cut off behind {files - 1} files; going on" in done.stderr)
    fresh = run(SEARCH, "--source", source, "--index", "fresh")
    assert (files > 1) == (entries_written(done) < entries_written(fresh))
    assert expected_answers(source, WORDS, BEGINNINGS) == as_sets(answers(done.stdout))


def test_build_killed_before_its_marker_is_not_answered_from(run, source):
    run("-c", KILL_IN_COMPACT, 0, SEARCH, "--source", source, status=-signal.SIGKILL)

    done = run(SEARCH, "--source", source, *QUERY)

    assert "cut off behind 6 files; going on" in done.stderr
    assert expected_answers(source, WORDS, BEGINNINGS) == as_sets(answers(done.stdout))


def test_killed_build_of_another_source_leaves_nothing_behind(run, source):
    run("-c", KILL_IN_UPDATE, 3, SEARCH, "--source", source, status=-signal.SIGKILL)

    done = run(SEARCH, "--source", source / "b", *QUERY)

    assert "cut off" not in done.stderr
    assert expected_answers(source / "b", WORDS, BEGINNINGS) == as_sets(answers(done.stdout))


def test_search_keeps_an_index_of_something_else_unless_told_to_rebuild(run, source):
    run(SEARCH, "--source", source)

    refused = run(SEARCH, "--source", source / "b", status=1)
    assert f"is an index of {str(source)!r}: name another --index, or say --rebuild" in refused.stderr

    done = run(SEARCH, "--source", source / "b", "--rebuild", *QUERY)
    assert expected_answers(source / "b", WORDS, BEGINNINGS) == as_sets(answers(done.stdout))


def test_search_leaves_other_databases_and_files_alone(run, source):
    with lsmdbm.open(run.here / "other", "c") as db:
        db["mine"] = "yes"
    (run.here / "file").write_text("mine")

    for index, flags in [("other", ()), ("other", ("--rebuild",)), ("file", ()), ("file", ("--rebuild",))]:
        refused = run(SEARCH, "--source", source, "--index", index, *flags, status=1)
        assert re.fullmatch(r"search_source: (other|file)\b.*\n", refused.stderr)

    assert "mine" == (run.here / "file").read_text()
    with lsmdbm.open(run.here / "other") as db:
        assert {b"mine": b"yes"} == dict(db)


@pytest.mark.parametrize("arguments", [["--source", "absent"], ["--source", ".", "--index", "absent/index"]])
def test_search_says_in_a_line_what_is_wrong(run, arguments):
    done = run(SEARCH, *arguments, status=1)

    assert re.fullmatch(r"search_source: .*\n", done.stderr)
    assert "absent" in done.stderr or "no Python files" in done.stderr
    assert [] == list(run.here.iterdir())


def test_files_that_several_processes_built_are_one_database(run):
    done = run(ROOT / "examples/bulk_load.py", "db")

    assert "39998 numbers from 8 files\n39999 = 3 * 67 * 199\n4203 primes below 40000\n" == done.stdout
    assert ["db"] == [path.name for path in run.here.iterdir()]
    with lsmdbm.open(run.here / "db") as db:
        assert (39998, b"2 2 2 5 5") == (len(db), db["000000200"])


def test_tables_of_files_are_joined_grouped_and_there_again(run):
    sql.module()
    first = run(ROOT / "examples/solar_system.py")
    again = run(ROOT / "examples/solar_system.py")

    loaded, answers = first.stdout.split("\n", 1)
    assert "loaded 8 planets and 33 moons" == loaded
    assert SOLAR_SYSTEM == answers == again.stdout
    assert ["solar.lsm"] == [path.name for path in run.here.iterdir()]


def test_tour_prints_what_it_should(run):
    assert TOUR == run(ROOT / "examples/tour.py").stdout
    assert TOUR == run(ROOT / "examples/tour.py").stdout


def test_tour_is_the_one_in_the_readme():
    readme = (ROOT / "README.md").read_text("ascii")
    tour = (ROOT / "examples/tour.py").read_text("ascii").partition("\n\n")[2]

    assert f"```python\n{tour}```\n" in readme
    assert f"```text\n{TOUR}```\n" in readme


def load(name):
    """What an example defines, to look at what a run does not show."""
    return types.SimpleNamespace(**runpy.run_path(str(ROOT / f"examples/{name}.py")))


SERIES = """\
8,640 measurements, the newest of the roof: (259140, 19.999305555555555)
the second day at noon: 60 measurements, 19.52 degrees
without the first day, and the second by the hour: 5,784 measurements
['19.02', '19.06', '19.10', '19.15']
"""


def test_time_series_prints_what_it_should(run):
    assert SERIES == run(ROOT / "examples/time_series.py").stdout
    assert SERIES == run(ROOT / "examples/time_series.py").stdout


def test_time_series_keeps_sensors_and_hours_apart(tmp_path):
    series = load("time_series")
    with lsmdbm.open(tmp_path / "db", "n") as db:
        series.append(db, [("a", time, float(time)) for time in (0, 3599, 3600, 7200, 7201)])
        series.append(db, [("ab", 5, 1.0)])
        with pytest.raises(ValueError, match="sort into others"):
            series.append(db, [("a\0b", 5, 1.0)])

        assert [(3599, 3599.0), (3600, 3600.0)] == list(series.between(db, "a", 1, 7200))
        assert None is series.newest(db, "b")
        series.thin_out(db, "a", 7201)
        assert [(0, 1799.5), (3600, 3600.0), (7200, 7200.0), (7201, 7201.0)] == list(
            series.between(db, "a", 0, 9999)
        )
        series.forget(db, "a", 7200)
        assert [(7200, 7200.0), (7201, 7201.0)] == list(series.between(db, "a", 0, 9999))
        assert [(7201, 7201.0), (5, 1.0)] == [series.newest(db, sensor) for sensor in ("a", "ab")]


def test_job_queue_does_every_job(run):
    said = '0 jobs are left from the last time\nfirst comes "tell the boss"\n'
    said += "then 100 others, by four threads; 0 left\n"

    assert said == run(ROOT / "examples/job_queue.py").stdout
    assert said == run(ROOT / "examples/job_queue.py").stdout


KILL_IN_WORK = """
import os, signal, sys, threading

sys.path.insert(0, os.path.dirname(sys.argv[1]))
import job_queue

def finish(self, taken):
    if threading.current_thread() is not threading.main_thread():
        os.kill(os.getpid(), signal.SIGKILL)
    return finish_one(self, taken)

finish_one = job_queue.Queue.finish

job_queue.Queue.finish = finish
job_queue.main("jobs.lsm")
"""


def test_jobs_of_a_queue_that_was_killed_are_done_by_the_next_one(run):
    run("-B", "-c", KILL_IN_WORK, ROOT / "examples/job_queue.py", status=-signal.SIGKILL)
    with lsmdbm.open(run.here / "jobs.lsm") as db:
        taken = len(db.range(prefix="taken/"))
        left = len(db.range(prefix="ready/"))
        assert (True, 100) == (1 <= taken <= 4, taken + left)  # one was finished

    assert f"{left} jobs are left" in run(ROOT / "examples/job_queue.py").stdout
    with lsmdbm.open(run.here / "jobs.lsm", "w") as db:
        queue = load("job_queue").Queue(db)
        assert queue.take() is None  # those that were killed are not overdue
        late = [queue.take(now=queue.patience + time.time() + 1)[1] for _ in range(taken)]
        assert all(job["resize"].startswith("picture ") for job in late)
        assert queue.take() is None


def test_job_of_a_worker_that_takes_too_long_is_given_to_another(tmp_path):
    with lsmdbm.open(tmp_path / "db", "c") as db:
        queue = load("job_queue").Queue(db, patience=10)
        queue.put("first", priority=7)
        queue.put("urgent", priority=1)
        urgent, _ = queue.take(now=100)
        first, job = queue.take(now=100)

        assert ("first", None) == (job, queue.take(now=110))
        assert queue.finish(urgent)
        again, job = queue.take(now=111)
        assert ("first", b"taken/000000000121/000000000001") == (job, again)
        assert [False, True] == [queue.finish(first), queue.finish(again)]
        assert queue.take(now=1000) is None


def test_http_client_asks_only_for_what_is_not_fresh(run, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    first = run(ROOT / "examples/http_client.py").stdout

    assert ["fetched", "fetched", "fresh", "unchanged"] == re.findall(r": (\w+),", first)


@pytest.fixture
def site(monkeypatch):
    """The pages of the example, on a server that is closed at the end."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), load("http_client").Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_http_client_keeps_answers_for_as_long_as_it_may(tmp_path, site):
    clock = [0.0]
    kept = f"http://127.0.0.1:{site.server_port}/kept"
    with lsmdbm.open_shelf(tmp_path / "shelf") as shelf:
        client = load("http_client").Client(shelf, clock=lambda: clock[0])
        _, body = client.get(kept)
        seen = []
        for clock[0] in (3599.0, 3600.0, 7199.0):
            how, again = client.get(kept)
            assert body == again
            seen.append(how)

    assert ["fresh", "unchanged", "fresh"] == seen


def test_http_client_prefers_an_old_answer_to_none(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as deaf, lsmdbm.open_shelf(tmp_path / "shelf") as shelf:
        deaf.bind(("127.0.0.1", 0))  # and nobody listens
        nobody = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        client = load("http_client").Client(shelf)
        shelf[nobody] = {"etag": None, "fresh_until": 0.0, "body": b"old"}

        assert ("stale", b"old") == client.get(nobody)
        with pytest.raises(OSError, match="refused"):
            client.get(f"{nobody}other")


def test_memo_computes_in_its_first_run_alone(run):
    first, second = (run(ROOT / "examples/memo.py").stdout for _ in range(2))

    assert ["computed", "computed", "from the cache"] == re.findall("computed$|from the cache$", first, re.M)
    assert first.replace(", computed", ", from the cache").replace("1 times", "0 times") == second
    assert "1 times" in first


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 30, 100])
def test_memo_counts_primes(tmp_path, limit):
    with lsmdbm.cache.Cache(tmp_path / "primes") as cache:
        primes = load("memo").Primes(cache)
        found = sum(all(number % each for each in range(2, number)) for number in range(2, limit))

        assert found == primes.below(limit) == primes.below(limit)
        assert [limit] == primes.computed


PROGRAMS = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_example_is_run_by_a_test_and_explained_on_the_page(name):
    ours = Path(__file__).read_text("utf-8") + (ROOT / "tests/clients/test_scrapy.py").read_text("utf-8")
    page = (ROOT / "docs/examples.md").read_text("ascii")

    assert f"examples/{name}" in ours
    assert f"`{name}`" in page
    assert "def main(" in (ROOT / "examples" / name).read_text("utf-8") or name == "tour.py"


SHOWN = re.findall(
    r"^```console\n\$ python (\S+)\n(.*?)^```$", (ROOT / "docs/examples.md").read_text("ascii"), re.M | re.S
)


@pytest.mark.parametrize(("program", "printed"), SHOWN, ids=[program for program, _ in SHOWN])
def test_page_of_examples_shows_what_the_programs_print(run, monkeypatch, program, printed):
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    assert printed == run(ROOT / program).stdout
    assert (ROOT / "docs/examples.md").read_text("ascii").count("```") == 2 * len(SHOWN)
