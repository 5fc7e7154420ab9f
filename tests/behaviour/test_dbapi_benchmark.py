"""The benchmark of SQL does what it times on both sides, and notices when their answers differ."""

from importlib import import_module

import pytest

from support import benches, sql

sql.module()
bench = import_module(f"{benches.data.__package__}.sql")


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr(bench, "RUNS", 1)
    monkeypatch.setattr(bench, "LOOKS", 30)
    monkeypatch.setattr("sys.argv", ["benchmarks.sql", "40"])


def test_it_prints_both_times_and_their_ratio(capsys):
    bench.main()

    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert ["work", "sqlite3, ms", "lsmdbm.dbapi, ms", "ratio"] == rows[0]
    assert 19 == len(rows[2:])
    assert all(float(figure) >= 0 for row in rows[2:] for figure in row[1:])


def test_an_answer_that_differs_ends_it(monkeypatch):
    connect = bench.connect

    def forgetful(kind, path):
        connection = connect(kind, path)
        lost = 7 if kind == "lsmdbm" else 40
        connection.cursor().execute("DELETE FROM kv WHERE key = ?", [b"key:%010d" % lost])
        return connection

    monkeypatch.setattr(bench, "connect", forgetful)
    with pytest.raises(SystemExit, match="the answers differ"):
        bench.main()
