"""Where apsw is not installed: the tests of lsmdbm.dbapi are skipped, but not where tox has promised them."""

import configparser
import re
import sys
from pathlib import Path

import pytest

from support import sql

ROOT = Path(__file__).parents[2]


@pytest.fixture
def _without_apsw(monkeypatch):
    monkeypatch.setitem(sys.modules, "apsw", None)
    for name in [name for name in sys.modules if name.startswith(sql.MODULE)]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("_without_apsw")
def test_tests_are_skipped_with_a_reason(monkeypatch):
    monkeypatch.delenv("LSMDBM_SQL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apsw is not installed"):
        sql.module()


@pytest.mark.usefixtures("_without_apsw")
def test_it_is_a_failure_where_apsw_is_required(monkeypatch):
    monkeypatch.setenv("LSMDBM_SQL", "required")
    with pytest.raises(ImportError, match=re.escape("lsmdbm[sql]")):
        sql.module()


def test_the_environment_of_sql_requires_it_and_ci_its_report():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read_string((ROOT / "tox.ini").read_text("ascii"))
    environment = tox["testenv:sql"]
    expected = re.search(r"^expected=\((.*?)\)$", (ROOT / ".ci/run").read_text("ascii"), re.MULTILINE)[1]

    assert "sql" in tox["tox"]["env_list"].replace(" ", "").split(",")
    assert "LSMDBM_SQL = required" in environment["set_env"].splitlines()
    assert {"sql", "sqltest", "test"} == set(environment["extras"].replace(" ", "").split(","))
    assert "sql" in tox["testenv:coverage"]["extras"].replace(" ", "").split(",")
    assert "sql" in expected.split()
