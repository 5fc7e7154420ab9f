"""Being found by dbm: is_database(), whichdb(), register(), unregister()."""

import dbm
import os

import pytest

import lsmdbm

pytestmark = pytest.mark.usefixtures("no_syncs")


@pytest.fixture(autouse=True)
def stock_dbm(monkeypatch):
    """Let every test begin with a `dbm` that has opened nothing yet, and leave it as it was."""
    monkeypatch.setattr(dbm, "_defaultmod", None)
    monkeypatch.setattr(dbm, "_modules", {})
    monkeypatch.setattr(dbm, "whichdb", dbm.whichdb)
    yield
    lsmdbm.unregister()


def test_a_registered_database_is_found_by_dbm(path):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
    assert dbm.whichdb(path) is None
    lsmdbm.register()

    assert "lsmdbm" == dbm.whichdb(path)
    for flag in "rwc":
        with dbm.open(path, flag) as db:
            assert isinstance(db, lsmdbm.Database)
            assert b"1" == db["a"]
    lsmdbm.unregister()
    assert dbm.whichdb(path) is None
    assert [os.path.basename(path)] == os.listdir(os.path.dirname(path))
