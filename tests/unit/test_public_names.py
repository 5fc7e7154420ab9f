"""Names that are imported when they are first asked for."""

import subprocess
import sys

import pytest

import lsmdbm


@pytest.mark.parametrize("name", lsmdbm._LATER)
def test_a_name_is_ours_from_the_first_time_it_is_asked_for(name, tmp_path):
    """The first `lsmdbm.shelve` of a process was the stdlib's module, which the submodule imports."""
    program = f"import lsmdbm; print(lsmdbm.{name} is lsmdbm.{name}, lsmdbm.{name})"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("True ")
