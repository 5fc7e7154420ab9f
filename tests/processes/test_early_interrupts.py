"""Ctrl-C while the command is still being imported, at places that an import hook chooses.

A signal is sent, and has arrived, before the module of a name is looked for.
"""

import os
import signal
import subprocess
import sys

import pytest

from support.commands import command, environment

HOOK = """\
import os, sys  # and not signal, which is to be imported by others

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if "names" == WHAT:
            print(name, file=sys.stderr)
        if name == WHAT:
            os.kill(os.getpid(), 2)

WHAT = os.environ["INTERRUPTED_IMPORT"]
sys.meta_path.insert(0, Interrupting())
"""
FRONTS = {"installed": [command()], "module": [sys.executable, "-m", "lsmdbm"]}
fronts = pytest.mark.parametrize("words", FRONTS.values(), ids=FRONTS)
PLACES = ["signal", "lsmdbm.cli.plain", "dataclasses", "lsmdbm.cli.entries", "lsmdbm.database"]


@pytest.fixture
def interrupted(tmp_path):
    """Run a command that gets Ctrl-C when it begins to import a module."""
    place = tmp_path / "hook"
    place.mkdir()
    (place / "sitecustomize.py").write_text(HOOK, "ascii")
    path = f"{place}{os.pathsep}{environment()['PYTHONPATH']}"

    def run(words, what, **options):
        env = environment(PYTHONPATH=path, INTERRUPTED_IMPORT=what)
        return subprocess.run(
            [*words, "count", tmp_path / "absent"], capture_output=True, env=env, text=True, **options
        )

    return run


@fronts
@pytest.mark.parametrize("what", PLACES)
def test_ctrl_c_during_an_import_is_clean(words, what, interrupted):
    """A traceback of twenty lines came of whatever was interrupted before the front end had begun."""
    done = interrupted(words, what)

    assert done.returncode in (130, -signal.SIGINT)
    assert done.stderr in ("", "lsmdbm: interrupted\n")
    assert "" == done.stdout


@fronts
def test_nothing_else_is_imported_before_ctrl_c_is_taken_care_of(words, interrupted):
    names = interrupted(words, "names").stderr.splitlines()
    names = names[names.index("lsmdbm") : names.index("signal")]

    assert {name for name in names if name.startswith("lsmdbm")} - {"lsmdbm.__main__"} == {
        *("lsmdbm", "lsmdbm._base", "lsmdbm._base.forking", "lsmdbm.cli", "lsmdbm.cli.entry")
    }
    assert 10 > len(names)


@fronts
def test_a_command_that_is_to_ignore_ctrl_c_does_so_from_the_start(words, interrupted):
    ignoring = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731 - as nohup does
    done = interrupted(words, "lsmdbm.cli.plain", preexec_fn=ignoring)

    assert (3, True) == (done.returncode, done.stderr.endswith(": there is no database\n"))
