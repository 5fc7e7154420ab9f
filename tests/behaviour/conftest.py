"""What the tests of this directory share: a place for a database, and one database that is open."""

import os

import pytest

import lsmdbm
from lsmdbm._base import storage


@pytest.fixture
def path(tmp_path):
    """Where a database may come to be; there is none yet."""
    return os.fspath(tmp_path / "db")


@pytest.fixture
def db(path):
    """A new database, open for writing."""
    with lsmdbm.open(path, "c") as database:
        yield database


@pytest.fixture
def no_syncs(monkeypatch):
    """Let syncs do nothing: for tests that write a lot, and ask nothing that a power loss could answer."""
    monkeypatch.setattr(storage, "_full_sync", lambda descriptor: None)
    monkeypatch.setattr(storage, "_data_sync", lambda descriptor: None)
    monkeypatch.setattr(storage, "_sync_directory", lambda descriptor, path: None)
