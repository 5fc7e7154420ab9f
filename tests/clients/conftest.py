"""What the tests of this directory share: a place for a database, and programs that do not outlive a test."""

import os

import pytest

from support import clients


@pytest.fixture
def path(tmp_path):
    """Where a client will make its database."""
    return os.fspath(tmp_path / "db")


@pytest.fixture
def start(tmp_path):
    """Start Python programs, in the directory of the test; kill those still running at its end."""
    started = []

    def start_one(*arguments, directory=tmp_path):
        started.append(clients.start(directory, *arguments))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        with process:  # closes the pipes, and waits
            pass
