"""The verbs of care: verify, repair, backup, compact, destroy, import, export, whichdb; and bench."""

import dbm.dumb
import io
import json
import os
import random
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm.cli import bench as benching
from lsmdbm.cli import care
from lsmdbm.cli.output import Output
from support.commands import FRONTS, call


@pytest.fixture(params=FRONTS)
def lsm(request):
    """Call the command, through each front end."""
    return lambda *arguments, stdin=b"": call(*arguments, stdin=stdin, front=request.param)


@pytest.fixture
def words(path):
    """A database of two tables and a log."""
    with lsmdbm.open(path, "c", background="manual") as db:
        for start in (0, 500):
            db.update((b"%04d" % number, b"value %d" % number) for number in range(start, start + 1000))
            db.flush()
        db["last"] = "one"
    return path


def damage(path, place=40):
    """Flip a bit of the first table; return its name."""
    table = sorted(Path(path).glob("*.sst"))[0]
    data = bytearray(table.read_bytes())
    data[place] ^= 1
    table.write_bytes(data)
    return table.name


def test_verify_of_a_sound_database_says_what_was_checked(lsm, words):
    found = lsm("verify", words)

    assert (0, "") == (found.code, found.err)
    assert found.text.startswith("no problem found: 4 files, ")
    assert json.loads(lsm("verify", words, "--json").out)["ok"] is True


def test_verify_names_problems_notes_and_files_of_others(lsm, words):
    name = damage(words)
    Path(words, "note\x1b[2J.txt").touch()
    Path(words, "999999.sst").touch()
    log = sorted(Path(words).glob("*.wal"))[-1]
    log.write_bytes(log.read_bytes() + b"torn")
    found = lsm("verify", words)

    assert (1, "") == (found.code, found.err)
    assert f"problem: {words}/{name}, offset 28: checksum does not match" in found.lines
    assert [line for line in found.lines if line.startswith(f"note: {log}, ")]
    assert "needed by nothing: 999999.sst" in found.lines
    assert r"not ours: note\x1b[2J.txt" in found.lines
    assert found.lines[-1].startswith("1 problem: ")
    document = json.loads(lsm("verify", words, "--json").out)
    assert [False, 28] == [document["ok"], document["problems"][0]["offset"]]


def test_repair_says_what_was_lost(lsm, words, path):
    damage(words)
    found = lsm("repair", words, f"{path}-saved")

    assert 1 == found.code
    assert found.lines[0].startswith(f"lost: {words}/")
    assert found.lines[1].startswith("  keys from 0000 to ")
    assert found.lines[2].startswith(f"doubt: {words}")
    assert found.lines[-1].endswith("entries saved: 1 loss, 1 doubt")
    with lsmdbm.open(f"{path}-saved") as db:
        assert f"{len(db):,} " in found.lines[-1]
    document = json.loads(lsm("repair", words, f"{path}-again", "--json").out)
    assert "0000" == document["losses"][0]["low"]


def test_repair_of_a_sound_database_loses_nothing(lsm, words, path):
    assert (0, "1,501 entries saved: nothing is lost\n") == (
        (found := lsm("repair", words, f"{path}-saved")).code,
        found.text,
    )


def test_backup_makes_a_second_database_and_no_third(lsm, words, path):
    assert (0, b"") == ((found := lsm("backup", words, f"{path}-copy")).code, found.out)
    with lsmdbm.open(words) as db, lsmdbm.open(f"{path}-copy") as copy:
        assert dict(db) == dict(copy)
    assert re.fullmatch(r".* of tables(, and \d+ entr(y|ies) of logs)? backed up\n", found.err)
    again = lsm("backup", words, f"{path}-copy")
    assert (3, True) == (again.code, again.err.startswith(f"lsmdbm: {path}-copy"))


def test_backup_tells_of_entries_that_no_table_has_yet(lsm, path):
    with lsmdbm.open(path, "c") as db:
        db["apple"] = "red"

    assert "0 B of tables, and 1 entry of logs backed up\n" == lsm("backup", path, f"{path}-copy").err


def test_compact_leaves_one_level(lsm, words):
    found = lsm("compact", words)

    assert (0, b"") == (found.code, found.out)
    assert " before, " in found.err
    with lsmdbm.open(words) as db:
        assert (1, 0) == (db.stats().runs, db.stats().memtable_entries)


class Watched(Output):
    """An Output that keeps what it is told of how far something is."""

    reports = ()

    @contextmanager
    def progress(self, what, unit="B"):
        self.reports = []
        yield lambda done, total: self.reports.append((done, total))


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(care, "LOOK_SECONDS", 1e-3)
    return Watched(io.BytesIO(), io.StringIO())


def test_compact_tells_how_much_it_has_read_of_what_it_has_to_read(watched, path):
    """It told how much was written, as a part of what was there: a third is where half was overwritten."""
    with lsmdbm.open(path, "c", background="manual") as db:
        for _ in range(4):  # the same keys, of which one in four is left
            db.update((b"%06d" % number, os.urandom(20)) for number in range(20_000))
            db.flush()
        db["last"] = "one"
    care.compact(watched, db=path, timeout=0)
    with lsmdbm.open(path) as db:
        left = db.stats().file_bytes
    done, totals = zip(*watched.reports, strict=True)

    assert 1 == len(set(totals))
    assert sorted(done) == list(done)
    assert 0.9 * totals[0] < done[-1] <= totals[0]
    assert left < 0.5 * totals[0]


@pytest.mark.parametrize("can_link", [True, False])
def test_backup_tells_how_much_is_there_of_what_is_to_be_there(watched, words, path, can_link, monkeypatch):
    def link(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    if not can_link:
        monkeypatch.setattr(os, "link", link)
    care.backup(watched, db=words, destination=f"{path}-copy")
    with lsmdbm.open(words) as db:
        total = db.stats().file_bytes
    done, totals = zip(*watched.reports, strict=True)

    assert {total} == set(totals)
    assert sorted(done) == list(done)
    assert total <= done[-1] < 1.1 * total  # and a table of what the log held


def test_destroy_wants_a_yes(lsm, words):
    found = lsm("destroy", words, stdin=b"y\n")
    assert 2 == found.code
    assert "Say --yes" in found.err
    assert lsmdbm.is_database(words)

    assert (0, b"", "") == ((done := lsm("destroy", words, "--yes")).code, done.out, done.err)
    assert not os.path.exists(words)


def test_destroy_tells_what_it_leaves(lsm, words):
    Path(words, "mine\x07").touch()

    assert "lsmdbm" not in (found := lsm("destroy", words, "--yes")).err
    assert "left, because it is not ours: mine\\x07\n" == found.err


def test_import_and_export_copy_everything(lsm, path):
    entries = {b"apple": b"red", b"\x00\xff": b"\x1b"}
    with dbm.dumb.open(path, "c") as old:
        for key, value in entries.items():
            old[key] = value

    assert (0, "2 entries imported\n") == ((found := lsm("import", path, f"{path}-new")).code, found.err)
    with lsmdbm.open(f"{path}-new") as db:
        assert entries == dict(db)
    exported = lsm("export", f"{path}-new", f"{path}-back", "--backend", "dbm.dumb")
    assert (0, "2 entries exported\n") == (exported.code, exported.err)
    with dbm.dumb.open(f"{path}-back") as back:
        assert entries == dict(back)


def test_export_to_a_module_that_is_not_there_is_a_line(lsm, words, path, monkeypatch):
    """`--backend json` was an AttributeError, and of dbm.gnu it said that there is no _gdbm."""
    monkeypatch.setitem(sys.modules, "dbm.gnu", None)
    found = lsm("export", words, f"{path}-back", "--backend", "dbm.gnu")
    assert (2, 1) == (found.code, found.err.count("\n"))
    assert found.err.startswith("lsmdbm: dbm.gnu: ")

    found = lsm("export", words, f"{path}-back", "--backend", "json")
    assert (2, 1) == (found.code, found.err.count("\n"))
    assert "dbm.sqlite3" in found.err


def test_whichdb_knows_ours_and_others(lsm, words, path):
    dbm.dumb.open(f"{path}-dumb", "c").close()
    Path(f"{path}-text").write_text("no database")

    assert (0, b"lsmdbm\n") == ((found := lsm("whichdb", words)).code, found.out)
    found = lsm("whichdb", words, f"{path}-dumb", f"{path}-text", f"{path}-none")
    kinds = [line.split("\t")[1] for line in found.lines]
    assert (1, ["lsmdbm", "dbm.dumb", "of no kind that is known", "nothing there"]) == (found.code, kinds)
    assert ["of no kind that is known"] == lsm("whichdb", os.path.dirname(path)).lines  # but something


def test_bench_measures_and_leaves_nothing(lsm, tmp_path):
    found = lsm("bench", "--entries", 300, "--value-bytes", 20, "--directory", tmp_path, "--json")
    document = json.loads(found.out)

    assert (0, []) == (found.code, os.listdir(tmp_path))
    assert ["put, one by one", "flush and compact"] == [each["name"] for each in document["measures"][:2]]
    assert all(each["seconds"] > 0 for each in document["measures"])
    assert [300 * 36] * 2 == [document["measures"][index]["data_bytes"] for index in (0, -1)]
    lines = lsm("bench", "--entries", 300, "--value-bytes", 0, "--directory", tmp_path).lines
    assert 1 + len(document["measures"]) + 1 == len(lines)


def test_bench_finds_a_get_that_answers_wrongly(path):
    """The figures are of reads that found what they should."""
    with lsmdbm.open(path, "c") as db:
        with pytest.raises(Exception, match="this is a bug"):
            list(benching._get(db, [b"absent"], True))
        db["there"] = "1"
        with pytest.raises(Exception, match="this is a bug"):
            list(benching._get(db, [b"there"], False))


@pytest.mark.parametrize("options", [["--entries", 0], ["--value-bytes=-1"], ["--entries", "many"]])
def test_bench_wants_something_to_measure(lsm, options):
    assert 2 == lsm("bench", *options).code


def test_bench_keys_are_those_that_were_put(path, seed):
    rng = random.Random(seed)
    count = rng.randrange(1, 50)
    with lsmdbm.open(path, "c") as db:
        assert count == len(list(benching._put(db, count, rng.randrange(5))))
        assert count == len(db)
        assert set(benching._keys(count, 100)) <= set(db)
        assert set(benching._keys(count, 100, b"no")).isdisjoint(db)
