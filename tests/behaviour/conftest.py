"""What the tests of this directory share: one database that is open."""

import pytest

import lsmdbm


@pytest.fixture
def db(path):
    """A new database, open for writing."""
    with lsmdbm.open(path, "c") as database:
        yield database
