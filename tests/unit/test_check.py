import dataclasses
import random

import pytest

from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._base.options import Options
from lsmdbm._engine import check as module
from lsmdbm._engine.check import LogCounts, Problem, check, problem_of, read_log, run
from lsmdbm._engine.tables import Tables
from lsmdbm._format import manifest as manifests
from support.ruins import PATH, build


class Files:
    """The files of a database whose manifest can be changed."""

    def __init__(self, seed):
        self.ruin = build("everywhere", random.Random(f"{seed} check"))
        self.name = self.ruin.names("man")[0]
        self.number = int(self.name[:6])
        self.manifest = manifests.decode(self.ruin.files[self.name], self.number)
        self.storage = self.ruin.storage()

    def change(self, **fields):
        changed = self.manifest._replace(**fields)
        self.storage.plant(f"{PATH}/{self.name}", manifests.encode(changed))

    def change_table(self, level, place, **fields):
        levels = [list(tables) for tables in self.manifest.levels]
        levels[level][place] = levels[level][place]._replace(**fields)
        self.change(levels=tuple(map(tuple, levels)))

    def report(self):
        directory = self.storage.directory(PATH, 0o666)
        return run(check(directory, Tables(directory, Options())), None)

    def problems(self):
        return [problem.what for problem in self.report().problems]


@pytest.fixture
def files(seed):
    return Files(seed)


def test_level_0_has_to_be_newest_first(files):
    newest, older, *rest = files.manifest.levels[0]
    files.change(levels=((older, newest, *rest), *files.manifest.levels[1:]))

    assert [f"table {newest.number} is newer than {older.number} before it"] == files.problems()


def test_sequences_of_tables_lie_within_those_of_the_manifest(files):
    files.change(last_seq=files.manifest.last_seq - 1)
    newest = files.manifest.levels[0][0]
    what = f"sequences {newest.first_seq} to {newest.last_seq}, of {newest.last_seq - 1} in all"

    assert f"table {newest.number}: {what}" in files.problems()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"footer_crc": 1}, "this is not the table that the manifest names"),
        ({"file_bytes": 2000}, "the manifest says 2000"),
        ({"entries": 700}, "not as stated"),
        ({"smallest": b"a"}, "not as stated"),
        ({"largest": b"zz"}, "index does not end at the largest key"),
        ({"raw_bytes": 5}, "not as stated"),
    ],
)
def test_what_a_manifest_says_wrong_of_a_table_is_a_problem(files, fields, reason):
    files.change_table(0, 0, **fields)
    found = files.problems()

    assert found
    assert any(reason in what for what in found)


def test_damage_is_believed_when_two_passes_agree(files, monkeypatch):
    surveys = []
    survey = module._survey

    def seen(directory):
        found = survey(directory)
        if len(surveys) < 3:  # each pass finds something else wrong: a writer is at work
            found.problems.append(Problem(PATH, len(surveys), "transient"))
        surveys.append(found)
        return found

    monkeypatch.setattr(module, "_survey", seen)
    assert files.report().ok
    assert len(surveys) == 4

    surveys.clear()
    files.storage.erase(f"{PATH}/{files.ruin.names('sst')[0]}")
    monkeypatch.setattr(module, "_survey", lambda directory: surveys.append(survey(directory)) or surveys[-1])
    assert not files.report().ok
    assert len(surveys) == 2


def test_a_directory_that_never_settles_is_given_up(files, monkeypatch):
    count = iter(range(10_000))
    survey = module._survey

    def restless(directory):
        found = survey(directory)
        found.problems.append(Problem(PATH, next(count), "transient"))
        return found

    monkeypatch.setattr(module, "_survey", restless)

    assert not files.report().ok
    assert next(count) == module.PASSES + 1


def test_without_a_manifest_that_verifies_nothing_is_called_unreferenced(files):
    files.storage.plant(f"{PATH}/{files.name}", b"LSMM")
    found = files.report()

    assert [(f"{PATH}/{files.name}", "no manifest")] == [(p.path, p.what) for p in found.problems]
    assert () == found.unreferenced


def test_a_log_is_counted_up_to_its_first_invalid_record(files):
    name = files.ruin.names("wal")[0]
    number, data = int(name[:6]), files.ruin.files[name]
    directory = files.storage.directory(PATH, 0o666)
    whole = read_log(directory, number)
    assert (len(data), None) == (whole.bytes, whole.note)

    files.storage.plant(f"{PATH}/{name}", data[:-1])
    cut = read_log(directory, number)
    assert (whole.records - 1, 80) == (cut.records, len(data) - cut.note.offset)  # the mark of close()
    assert "log ends here; 79 bytes behind are no records" == cut.note.what

    files.storage.plant(f"{PATH}/{name}", data + bytes(1000))  # room that was allocated ahead
    assert dataclasses.replace(whole, bytes=len(data) + 1000) == read_log(directory, number)

    for header in (b"", bytes(56), b"x" * 100):
        files.storage.plant(f"{PATH}/{name}", header)
        ignored = Problem(f"{PATH}/{name}", 0, "no log header: ignored, as if its creation had been cut off")
        assert LogCounts(len(header), 0, 0, ignored) == read_log(directory, number)


def test_an_error_is_told_in_its_own_words():
    assert Problem("a", 7, "why") == problem_of(CorruptionError("a", 7, "why"), "b")
    assert Problem("b", -1, "Input/output error") == problem_of(error(5, "Input/output error", "a"), "b")
    assert Problem("b", -1, "some text") == problem_of(error("some text"), "b")
    assert ("b: why", "b, offset 0: why") == (str(Problem("b", -1, "why")), str(Problem("b", 0, "why")))
