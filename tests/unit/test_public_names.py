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


def test_with_the_first_name_come_the_others_that_were_imported_with_it(tmp_path):
    """At the end of the interpreter a name could not be looked up, and a finalizer's `except` failed."""
    program = (
        "import lsmdbm, sys\n"
        "lsmdbm.open\n"
        "before, finders, sys.meta_path = dict(sys.modules), sys.meta_path, None\n"
        "sys.modules.clear()\n"
        "print(lsmdbm.FailedError.__name__, lsmdbm.Database.__name__)\n"
        "sys.modules.update(before)\n"
        "sys.meta_path = finders\n"  # for others who have something to do at the end
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)

    assert (0, "FailedError Database\n", "") == (done.returncode, done.stdout, done.stderr)


def test_what_somebody_has_put_in_the_place_of_a_name_stays(tmp_path):
    program = "import lsmdbm; lsmdbm.open = len; lsmdbm.Text; lsmdbm.Database; print(lsmdbm.open is len)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)

    assert (0, "True\n", "") == (done.returncode, done.stdout, done.stderr)


def test_opening_imports_no_dataclasses_and_asking_for_figures_does(tmp_path):
    """They, and `inspect` which they need, took a quarter of the first `lsmdbm.open` of a process."""
    program = (
        "import lsmdbm, sys\n"
        "costly = {'dataclasses', 'inspect'} - {*sys.modules}\n"  # a debugger or a coverage may have them
        "with lsmdbm.open('db', 'c') as db:\n"
        "    db[b'key'] = b'value'\n"
        "with lsmdbm.open('db') as db:\n"
        "    print(db[b'key'], sorted(costly & {*sys.modules}))\n"
        "    print(db.stats().memtable_entries, 'dataclasses' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)

    assert (0, "b'value' []\n1 True\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(("end", "expected"), [("db.close()", False), ("pass", True)])
def test_end_of_a_program_imports_what_a_flush_needs_only_for_what_is_open(end, expected, tmp_path):
    program = (
        "import atexit, lsmdbm, sys\n"
        "atexit.register(lambda: print('sortedcontainers' in sys.modules))\n"  # called after that of lsmdbm
        "db = lsmdbm.open('db', 'c')\n"
        "db[b'key'] = b'value'\n"
        f"{end}\n"
    )
    words = [sys.executable, "-W", "ignore::ResourceWarning", "-c", program]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)

    assert (0, f"{expected}\n", "") == (done.returncode, done.stdout, done.stderr)
