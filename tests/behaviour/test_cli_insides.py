"""The verbs that look inside: stats, tree, table, log, manifest."""

import dataclasses
import json
import os
import random
import re
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm._engine import anatomy
from lsmdbm._engine.figures import LevelStats, Stats
from lsmdbm._format.manifest import TableMeta
from lsmdbm.cli.drawing import bar, scale, strip
from lsmdbm.cli.metrics import LEVELS, METRICS
from support.commands import CONTROLS, call, on_terminal

SECRET = b"a value nobody asked for"


def files(path, suffix):
    return sorted(str(file) for file in Path(path).glob(f"*{suffix}"))


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A database with tables in two levels, deletions, a hole, and entries in its log."""
    path = os.fspath(tmp_path_factory.mktemp("grown") / "db")
    rng = random.Random(2024)
    with lsmdbm.open(path, "c", memtable_bytes=20_000, background="manual") as db:
        for _ in range(3):
            db.update((b"key %04d" % rng.randrange(10_000), SECRET) for _ in range(1000))
            db.flush()
            db.compact()
        for _ in range(3):
            db.update((b"key %04d" % rng.randrange(10_000), SECRET) for _ in range(300))
            db.flush()
        for key in list(db)[:40]:
            del db[key]
        db.flush()
        db.delete_range("key 5", "key 6")
        db.flush()
        db.update({b"key\x1b[2J": SECRET, b"last": SECRET})
        del db["last"]
        db.delete_range("key 1", "key 2")
        with db.batch() as batch:
            batch["one"], batch["two"], batch["three"], batch["four"] = [SECRET] * 4
    return path


@pytest.fixture
def database(grown):
    with lsmdbm.open(grown) as db:
        yield db


@pytest.mark.parametrize("verb", ["stats", "tree", "table", "log", "manifest"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_value_is_shown_and_no_control_character(grown, verb, options):
    more = {"tree": ["--tables"], "table": ["--blocks", "--keys", "--check"], "log": ["--records"]}
    kinds = {"table": ".sst", "log": ".wal", "manifest": ".man"}
    for target in files(grown, kinds[verb]) if verb in kinds else [grown]:
        found = call(verb, target, *options, *more.get(verb, []))
        assert (0, "") == (found.code, found.err)
        assert found.out
        assert SECRET not in found.out
        assert all(line.isprintable() for line in found.lines)


def test_stats_tell_what_stats_tell(grown, database):
    stats = database.stats()
    document = json.loads(call("stats", grown, "--json").out)

    assert grown == document.pop("path")
    derived = {name: document.pop(name) for name in ("tables", "runs", "file_bytes", "raw_bytes")}
    assert {name: getattr(stats, name) for name in derived} == derived
    assert stats.compression_ratio == document.pop("compression_ratio")
    assert document.pop("write_amplification") is None
    assert {field.name for field in dataclasses.fields(Stats)} == set(document)
    assert [dataclasses.asdict(level) for level in stats.levels] == document["levels"]


def test_stats_in_words(grown, database):
    text = call("stats", grown).text

    assert f"{sum(level.entries for level in database.stats().levels):,}, " in text
    assert re.search(r"^  entries in logs +\d+, ", text, re.MULTILINE)
    assert re.search(r"^    level 1 +\d tables?, 2,", text, re.MULTILINE)


def test_stats_of_nothing_say_nothing_of_it(tmp_path):
    lsmdbm.open(tmp_path / "none", "c").close()
    rest = [line.split()[-1] for line in call("stats", tmp_path / "none").lines[1:]]

    assert ["0", "0", "0", "0"] == rest  # entries in tables and in logs, tables, logs


def test_space_amplification_counts_what_newer_runs_may_hide(tmp_path):
    with lsmdbm.open(tmp_path / "runs", "c", background="manual") as db:
        for _ in range(3):  # the same keys again: three runs of level 0, of which one would do
            db.update((b"%04d" % number, b"v" * 50) for number in range(1000))
            db.flush()
    found = json.loads(call("tree", tmp_path / "runs", "--json").out)

    assert [0, 0, 0] == [table["level"] for table in found["tables"]]
    assert found["file_bytes"] / found["tables"][-1]["file_bytes"] == found["space_amplification"]
    assert 2.5 < found["space_amplification"] < 3.5


def test_openmetrics_has_every_figure_in_the_right_form(grown, database):
    lines = call("stats", grown, "--openmetrics").lines
    assert {field.name for field in dataclasses.fields(Stats)} - {"levels"} == set(METRICS)
    assert {field.name for field in dataclasses.fields(LevelStats)} - {"level"} == set(LEVELS)
    assert "# EOF" == lines[-1]
    families = {}
    name = kind = None
    for line in lines[:-1]:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in families
            families[name] = []
        elif line.startswith("# "):
            assert line.split(" ")[2] == name
        else:
            sample = re.fullmatch(r'(\w+)\{path="([^"]+)"(?:,level="\d+")?\} ([\d.e-]+)', line)
            assert sample, line
            assert name + ("_total" if kind == "counter" else "") == sample[1]
            assert grown == sample[2]
            families[name].append(float(sample[3]))
    stats = database.stats()
    assert [stats.memtable_entries] == families["lsmdbm_memtable_entries"]
    assert [level.file_bytes for level in stats.levels] == families["lsmdbm_level_file_bytes"]
    units = {line.split(" ")[2] for line in lines if line.startswith("# UNIT ")}
    assert {name for name in families if name.endswith(("_bytes", "_seconds"))} == units


def test_a_path_is_a_label_whatever_it_is(tmp_path):
    path = tmp_path / 'a"b\\c\n'
    lsmdbm.open(path, "c").close()

    assert r'a\"b\\c\n"} 0' in call("stats", path, "--openmetrics").text


def test_json_and_openmetrics_do_not_go_together(grown):
    assert 2 == call("stats", grown, "--json", "--openmetrics").code


def test_tree_draws_every_run_and_counts_what_is_in_it(grown, database):
    stats = database.stats()
    lines = call("tree", grown).lines
    assert [f"{grown}: {stats.tables} tables"] == [lines[0].partition(",")[0]]
    drawn = [line for line in lines[2:] if re.match(r" +\d ", line)]

    assert stats.runs == len(drawn)
    assert all(re.search(r"[\[|].*[\]|]?$", line) for line in drawn)
    level0 = sum(int(line.split()[2].replace(",", "")) for line in drawn if line.split()[0] == "0")
    assert stats.levels[0].entries == level0
    assert re.search(rf"^  read amplification +{stats.runs}: ", "\n".join(lines), re.MULTILINE)


def test_tree_says_how_many_absent_keys_the_filters_let_through(grown):
    document = json.loads(call("tree", grown, "--json").out)

    assert 0 < document["filter_passes"] < 0.03  # 14 bits a key; more above
    for table in document["tables"]:
        assert 8 * table["filter_bytes"] / table["entries"] >= 14
        assert 0 <= table["filter_passes"] < 0.05


def test_tree_lists_tables_with_their_bounds(grown, database):
    metas = list(database._store.view.version)
    found = call("tree", grown, "--tables").lines
    documents = json.loads(call("tree", grown, "--json").out)["tables"]

    assert [meta.number for meta in metas] == [document["number"] for document in documents]
    assert [meta.smallest.decode() for meta in metas] == [document["smallest"] for document in documents]
    assert any(document["holes"] for document in documents)
    for meta in metas:
        assert any(f" {meta.number}  " in line and meta.largest.decode() in line for line in found)


def test_tree_without_filters_and_without_tables(tmp_path):
    with lsmdbm.open(tmp_path / "none", "c", bloom_bits_per_key=0) as db:
        db["a"] = "1"
        assert f"{tmp_path / 'none'}: no tables" == call("tree", tmp_path / "none").lines[0]
        db.flush()
        document = json.loads(call("tree", tmp_path / "none", "--json").out)
    assert document["filter_passes"] is document["tables"][0]["filter_passes"] is None


def test_tree_tells_of_a_table_that_cannot_be_opened_and_draws_the_rest(grown, tmp_path):
    with lsmdbm.open(grown) as db:
        db.backup(tmp_path / "db")
        number = db._store.view.version.level(1)[0].number
    table = tmp_path / f"db/{number:06}.sst"
    data = bytearray(table.read_bytes())
    data[-100] ^= 1  # a backup is linked: another file
    table.unlink()
    table.write_bytes(data)
    found = call("tree", tmp_path / "db")

    assert 1 == found.code
    assert re.search(rf"{number:06}\.sst, offset \d+: checksum", found.text)
    assert len(found.lines) > 5


def test_no_path_can_do_anything_to_a_terminal(tmp_path):
    """What was wrong with a file stood there with its path as it is; so did the labels of --openmetrics."""
    path = tmp_path / "\x1b[2J"
    with lsmdbm.open(path, "c") as db:
        db["apple"] = "red"
        db.flush()
    code, terminal = on_terminal("stats", path, "--openmetrics")
    assert (0, []) == (code, CONTROLS.findall(terminal.shown.replace(b"\r\n", b"\n")))
    table = next(path.glob("*.sst"))
    data = table.read_bytes()
    table.write_bytes(data[:-100] + b"rot" + data[-97:])
    for words in (["table", table], ["log", table], ["tree", path], ["verify", path]):
        found = call(*words)
        assert (words, 1, "") == (words, found.code, found.err)
        assert all(line.isprintable() for line in found.lines)


# Drawings


def meta(smallest, largest):
    return TableMeta(1, 1, 0, 1, 0, 1, 1, 1, smallest, largest)


def test_a_strip_shows_where_tables_lie():
    run = [meta(b"a", b"b"), meta(b"c", b"f")]
    other = [meta(b"d", b"d"), meta(b"e", b"g")]
    bounds = scale([*run, *other])

    assert [b"a", b"b", b"c", b"d", b"e", b"f", b"g"] == bounds
    assert ["[=] [=====]", "      | [===]"] == [strip(run, bounds, 13), strip(other, bounds, 13)]


@pytest.mark.parametrize("width", [12, 32, 64])
def test_no_strip_is_wider_than_its_room(width, seed):
    rng = random.Random(seed)
    keys = sorted({b"%06d" % rng.randrange(10**6) for _ in range(400)})
    run = [meta(*keys[index : index + 2]) for index in range(0, len(keys) - 1, 2)]
    drawn = strip(run, scale(run), width)

    assert width == len(drawn)
    assert set(drawn) <= set("[=]| ")
    assert "|" == strip([meta(b"a", b"a")], [b"a"], width)


def test_a_bar_is_as_long_as_its_part():
    assert ["########", "####", "#", ""] == [bar(100, 100), bar(50, 100), bar(1, 100), bar(0, 100)]


# Single files


def test_table_says_what_the_manifest_says(grown, database):
    for meta in database._store.view.version:
        document = json.loads(call("table", f"{grown}/{meta.number:06}.sst", "--json").out)
        assert (meta.entries, meta.tombstones) == (document["entries"], document["deletions"])
        assert (meta.number, meta.file_bytes) == (document["number"], document["bytes"])
        assert [] == document["problems"]


def test_table_lists_its_blocks_and_its_keys(grown, database):
    meta = database._store.view.version.level(1)[0]
    reader = database._store.view.tables.reader(meta)
    file = f"{grown}/{meta.number:06}.sst"
    rows = [line.split() for line in call("table", file, "--blocks").text.split("\n\n")[1].splitlines()[1:]]

    assert [str(reader.handle(index).offset) for index in range(reader.block_count)] == [
        row[1] for row in rows
    ]
    keys = call("table", file, "--keys").text.split("\n\n")[1].splitlines()
    assert meta.entries == len(keys)
    assert f"+ {meta.smallest.decode()}" == keys[0]


@pytest.mark.parametrize(
    ("place", "what", "shows"),
    [
        (5, "offset 0: checksum of the table header does not match", "entries"),
        (-20, "checksum of the table footer does not match", "number"),
        (-110, "checksum does not match", "number"),
    ],
)
def test_table_says_of_a_damaged_file_what_can_be_read(grown, tmp_path, place, what, shows):
    data = bytearray(Path(files(grown, ".sst")[0]).read_bytes())
    data[place] ^= 1
    file = tmp_path / "damaged"
    file.write_bytes(data)
    found = call("table", file)

    assert (1, "") == (found.code, found.err)
    assert what in found.text
    assert shows in found.text
    assert json.loads(call("table", file, "--json").out)["problems"]


def test_only_check_reads_the_blocks_of_a_table(grown, tmp_path):
    data = bytearray(Path(files(grown, ".sst")[0]).read_bytes())
    data[60] ^= 1
    file = tmp_path / "damaged"
    file.write_bytes(data)

    assert 0 == call("table", file).code
    found = call("table", file, "--check")
    assert (1, True) == (found.code, "offset 28: checksum does not match" in found.text)


def test_table_under_another_number_is_named(grown, tmp_path):
    file = tmp_path / "999999.sst"
    file.write_bytes(Path(files(grown, ".sst")[0]).read_bytes())

    assert "under the name of table 999999" in call("table", file).text


@pytest.mark.parametrize("verb", ["table", "log"])
@pytest.mark.parametrize("data", [b"", b"x", bytes(200), b"LSMT" * 100, b"LSMW" * 100])
def test_files_of_other_kinds_are_problems(tmp_path, verb, data):
    (tmp_path / "other").write_bytes(data)
    found = call(verb, tmp_path / "other")

    assert (1, "") == (found.code, found.err)
    assert "problem: " in found.text


def test_log_counts_and_lists_its_records(grown):
    (file,) = files(grown, ".wal")
    document = json.loads(call("log", file, "--json").out)
    text = call("log", file, "--records").text

    assert {"batch": 2, "delete": 1, "delete ranges": 1} == document["kinds"]
    assert (4, 8) == (document["records"], document["operations"])
    assert document["marks"] > 0
    assert document["durable"] > 0
    rows = text.split("\n\n")[0].splitlines()
    assert 1 + document["records"] + document["marks"] == len(rows)
    assert any(r"+key\x1b[2J, +last" in row for row in rows)
    assert any(re.search(r" delete +-last$", row) for row in rows)
    assert any("key 1 .. key 2" in row for row in rows)
    assert any(re.search(r"batch +\+one, \+two, \+three, and 1 more$", row) for row in rows)


def test_log_says_where_it_is_torn_and_where_it_is_blank(grown, tmp_path):
    (file,) = files(grown, ".wal")
    data = Path(file).read_bytes()
    torn, blank = tmp_path / "torn", tmp_path / "blank"
    torn.write_bytes(data[:-3])
    blank.write_bytes(data + bytes(100))

    assert re.search(r"ends at +\d+; behind it 77 bytes that are no record", call("log", torn).text)
    assert f"{len(data)}; behind it 100 bytes room that was allocated ahead" in call("log", blank).text


def test_manifest_says_what_is_live(grown, database):
    (file,) = files(grown, ".man")
    document = json.loads(call("manifest", file, "--json").out)
    text = call("manifest", file).text

    levels = [[table["number"] for table in level] for level in document["levels"]]
    assert [[meta.number for meta in level] for level in database._store.view.version.levels] == levels
    assert "leveled" == document["shape"]["compaction"]
    assert all(f" {number}  " in text for level in levels for number in level)


def test_damaged_and_renamed_manifests_are_refused(grown, tmp_path):
    (file,) = files(grown, ".man")
    data = bytearray(Path(file).read_bytes())
    data[100] ^= 1
    (tmp_path / Path(file).name).write_bytes(data)
    (tmp_path / "manifest").write_bytes(Path(file).read_bytes())

    damaged, renamed = call("manifest", tmp_path / Path(file).name), call("manifest", tmp_path / "manifest")
    assert (3, 3) == (damaged.code, renamed.code)
    assert "checksum of the manifest does not match" in damaged.err
    assert "named unlike a manifest" in renamed.err


@pytest.mark.parametrize("verb", ["table", "log", "manifest"])
def test_single_files_that_are_not_there_are_told(tmp_path, verb):
    file = tmp_path / "000001.man"
    assert (3, f"lsmdbm: {file}: No such file or directory\n") == (
        (found := call(verb, file)).code,
        found.err,
    )
    assert 3 == call(verb, tmp_path).code


def test_anatomy_keeps_a_view_while_it_is_walked(database):
    """The tables of a view, once each, in the order in which reads ask them."""
    view = database._store.pin()

    assert list(view.version) == [found.meta for found in anatomy.tree(view, probes=10)]
