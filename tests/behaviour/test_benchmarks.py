"""The benchmarks do the work they time, notice a store that gets it wrong, and run as a command.

Peers that are installed are tried in the larger budgets; lsmdbm, dbm.dumb and the pickled dict always.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

import lsmdbm
from support.benches import ROOT, adapters, command, data, job, results, workloads

ALWAYS = ["lsmdbm", "dbm.dumb", "dict"]
PEERS = ALWAYS if os.environ["LSMDBM_BUDGET"] == "small" else adapters.installed()[0]
SETTINGS = workloads.Settings(entries=60, reads=40, seed=7)
BRIEF = replace(SETTINGS, limit=0.01)  # for what is repeated until its time is over
NAMES = [name for name in workloads.WORKLOADS if name != "import"] + workloads.growth([30])

OPERATIONS = {"fill10": 10, "growth.30": 30, "growth.30.read": 30, "large": 10, "largeread": 10}
PER_ENTRY = ("fill", "fill_durably", "fill_by_the_clock", "grow", "fill_objects", "scan", "read_objects")


@pytest.fixture
def files(tmp_path):
    """Where the files of workloads are, for the ones that start from them."""

    def prepare(workload):
        own, start = tmp_path / workload.name, tmp_path / workload.start
        if not workload.start:
            own.mkdir(exist_ok=True)
            return own
        return shutil.copytree(start, own) if workload.changes else start

    return prepare


def settings_of(workload):
    timed = ("open_and_get", "open_and_put", "read_while_writing", "beside_busy")
    return BRIEF if workload.phase in timed else SETTINGS


def expected_operations(workload):
    """How many operations a workload that is not cut has to do; None for those that go by time."""
    if workload.name in OPERATIONS:
        return OPERATIONS[workload.name]
    if workload.phase in PER_ENTRY:
        return SETTINGS.entries
    return SETTINGS.reads if workload.phase in ("read", "seek", "delete", "queue", "ycsb") else None


@pytest.mark.parametrize("peer", PEERS)
def test_every_workload_does_its_work_on_every_peer(peer, files, no_syncs):
    adapter = adapters.ADAPTERS[peer]
    done = 0
    for name in NAMES:
        workload = workloads.find(name)
        if workload.needs and not getattr(adapter, workload.needs):
            continue
        figures = workload.run(adapter, os.fspath(files(workload)), settings_of(workload))
        done += 1
        assert all(value >= 0 for value in figures.values()), name
        expected = expected_operations(workload)
        assert expected in (None, figures.get("operations")), name

    assert done >= 40


def test_only_what_a_peer_cannot_do_is_left_out():
    lacking = {each.needs for each in workloads.WORKLOADS.values()}

    assert {"", "is_ordered", "has_threads"} == lacking
    assert all(getattr(adapters.ADAPTERS["lsmdbm"], need) for need in lacking if need)


def test_import_is_timed_in_a_process_that_has_nothing_imported(tmp_path):
    figures = workloads.find("import").run(adapters.ADAPTERS["dict"], os.fspath(tmp_path), BRIEF)

    assert figures["ms"] > 0


def test_a_fill_leaves_the_entries_that_reads_look_for(files, no_syncs):
    fill = workloads.find("fillrandom")
    directory = files(fill)
    fill.run(adapters.ADAPTERS["lsmdbm"], os.fspath(directory), SETTINGS)
    entries = data.Data("random", SETTINGS.entries, SETTINGS.seed)

    with lsmdbm.open(directory / "store") as db:
        assert {entries.key(number): entries.value(number) for number in range(60)} == dict(db)


class Forgetful(adapters.ADAPTERS["lsmdbm"]):
    """Answers, but not with what was put."""

    def open(self):
        super().open()
        self.get = lambda key: b"something else"

    def scan(self):
        return iter([*super().scan()][:-1])

    def scan_back(self):
        return iter([*super().scan_back()][1:])

    def seek(self, key, count):
        return super().seek(key, count)[1:]

    def pop_first(self):
        return super().pop_first()[0], b"something else"

    def get_object(self, key):
        return {}


class Empty(Forgetful):
    """Finds nothing."""

    def open(self):
        super().open()
        self.get = lambda key: None


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (
            Forgetful,
            "readrandom readwarm readmissing readhot readcold readseq readreverse seekrandom deleterandom"
            " queue putbusy open openput shelveread jsonread",
        ),
        (Empty, "readwhilewriting ycsb-a ycsb-b ycsb-c ycsb-d ycsb-f"),
    ],
)
def test_a_wrong_answer_ends_a_phase(wrong, names, files, no_syncs):
    right = adapters.ADAPTERS["lsmdbm"]
    for name in ("fillrandom", "shelve", "json"):
        workload = workloads.find(name)
        workload.run(right, os.fspath(files(workload)), SETTINGS)

    for name in names.split():
        workload = workloads.find(name)
        directory = os.fspath(files(workload))
        with pytest.raises(job.WrongAnswer):
            workload.run(wrong, directory, settings_of(workload))


def test_a_scan_of_other_entries_or_in_another_order_is_a_wrong_answer(files, no_syncs):
    class Reordered(adapters.ADAPTERS["lsmdbm"]):
        def scan(self):
            return reversed([*super().scan()])

    class Exchanged(adapters.ADAPTERS["lsmdbm"]):
        def scan(self):
            return iter([(key, b"") for key, _ in super().scan()])

    fill, read = workloads.find("fillrandom"), workloads.find("readseq")
    fill.run(adapters.ADAPTERS["lsmdbm"], os.fspath(files(fill)), SETTINGS)
    other = "not what was put"
    for wrong, found in ((Reordered, other), (Exchanged, other), (Forgetful, "59 of 60")):
        with pytest.raises(job.WrongAnswer, match=found):
            read.run(wrong, os.fspath(files(read)), SETTINGS)


def test_command_runs_from_end_to_end(tmp_path, capsys):
    path = tmp_path / "out.json"
    arguments = ["--entries", "50", "--repeat", "1", "--only", "fillrandom,queue", "--peers", "dict"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "run", os.fspath(path), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert (0, "") == (done.returncode, done.stdout)
    assert "[1/4] fillrandom, lsmdbm: " in done.stderr
    assert done.stderr.endswith("[4/4] queue, dict: -\n")
    found = results.Results.load(path)
    assert ["lsmdbm", "dict"] == [*found.peers]
    assert 50 == found.figure("fillrandom", "dict", "operations")
    assert "| fillrandom |" in path.with_suffix(".md").read_text("ascii")

    command.main(["report", os.fspath(path), "--level", "3"])
    assert "\n### Bars\n" in capsys.readouterr().out
    command.main(["compare", os.fspath(path), os.fspath(path)])
    assert "1.00x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "out.json", "--only", "fillslowly"], "no workload 'fillslowly'"),
        (["run", "out.json", "--peers", "papyrus"], "no peer 'papyrus'"),
        (["run", "out.json", "--growth", "many"], "no number of entries: 'many'"),
        (["report", "out.json"], "out.json"),
        (["report", "other.json"], "other.json: no results of format 1"),
    ],
)
def test_a_wrong_command_says_so_and_writes_nothing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text("[]")

    with pytest.raises(SystemExit, match=message):
        command.main(arguments)
    assert ["other.json"] == os.listdir(tmp_path)
