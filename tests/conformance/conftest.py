"""Where the tests of this directory put their databases."""

import os
import tempfile

import pytest

MEMORY = "/dev/shm"


@pytest.fixture
def directory(tmp_path):
    """An empty directory, in memory if there is such a place: nothing here asks what a power loss leaves."""
    if not os.access(MEMORY, os.W_OK):
        yield os.fspath(tmp_path)
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as path:
        yield path


@pytest.fixture
def path(directory):
    """Where a database may come to be; there is none yet."""
    return os.path.join(directory, "db")
