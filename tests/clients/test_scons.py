"""SCons keeps its signatures in lsmdbm: SConsignFile(path, lsmdbm)."""

import os
import pickle
import shutil

import pytest

import lsmdbm
from support.clients import client, finish, shown

client("SCons")

UP_TO_DATE = "scons: `.' is up to date.\n"

# Two targets, one in a directory of its own; `killed=NAME` ends SCons when it has written that one.
SCONSTRUCT = f"""
import os, signal
{shown("SCons")}
def join(target, source, env):
    with open(str(target[0]), "w") as out:
        out.write("+".join(node.get_text_contents() for node in source))
    if ARGUMENTS.get("killed") == os.path.basename(str(target[0])):
        os.kill(os.getpid(), signal.SIGKILL)

env = Environment(tools=[], BUILDERS=dict(Join=Builder(action=Action(join, "join $TARGET"))))
env.Join("small.txt", ["a.txt"])
env.Join("out/large.txt", ["small.txt", "b.txt"])
"""


@pytest.fixture
def project(tmp_path):
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "SConstruct").write_text(SCONSTRUCT)
    (directory / "a.txt").write_text("a")
    (directory / "b.txt").write_text("b")
    return directory


@pytest.fixture
def build(start):
    """Run SCons in a directory; return its exit status and what it says."""
    return lambda directory, *arguments: finish(start("-m", "SCons", "-Q", *arguments, directory=directory))


def signatures(directory):
    """What SCons has stored: the files it knows of, by directory."""
    with lsmdbm.open(directory / "signatures") as db:
        return {os.fsdecode(key): sorted(pickle.loads(value)) for key, value in db.items()}


def test_second_build_has_nothing_to_do(project, build):
    assert (0, "join small.txt\njoin out/large.txt\n") == build(project)
    assert "a+b" == (project / "out/large.txt").read_text()
    assert (0, UP_TO_DATE) == build(project)
    stored = signatures(project)
    assert {".", "out"} == set(stored)
    assert {"a.txt", "b.txt", "small.txt"} <= set(stored["."])
    assert ["large.txt"] == stored["out"]


def test_a_changed_source_rebuilds_what_depends_on_it(project, build):
    build(project)

    (project / "b.txt").write_text("B")
    assert (0, "join out/large.txt\n") == build(project)
    assert "a+B" == (project / "out/large.txt").read_text()
    os.utime(project / "a.txt")  # newer, and the same
    assert (0, UP_TO_DATE) == build(project)


def test_a_build_that_was_killed_leaves_the_signatures_of_the_last_one(project, build):
    build(project)
    before = signatures(project)
    (project / "b.txt").write_text("B")

    assert -9 == build(project, "killed=large.txt")[0]
    assert before == signatures(project)
    assert (0, "join out/large.txt\n") == build(project)
    assert (0, UP_TO_DATE) == build(project)


def test_a_build_beside_another_one_asks_twice_fails_and_says_why(project, build):
    counted = "lambda *args: print('asked') or there(*args, timeout=0)"
    (project / "SConstruct").write_text(
        f"import lsmdbm\nthere, lsmdbm.open = lsmdbm.open, {counted}\n{SCONSTRUCT}"
    )
    with lsmdbm.open(project / "signatures", "c"):
        status, output = build(project)

    assert (2, 2) == (status, output.count("asked\n")), output
    assert f"writer lock held by pid {os.getpid()}" in output
    assert not (project / "small.txt").exists()


def test_what_a_repository_has_built_is_not_built_again(tmp_path, project, build):
    build(project)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (project / "signatures").iterdir())
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(project / "SConstruct", here)

    assert (0, UP_TO_DATE) == build(here, "-Y", os.fspath(project))
    (here / "b.txt").write_text("B")
    assert (0, "join out/large.txt\n") == build(here, "-Y", os.fspath(project))
    assert "a+B" == (here / "out/large.txt").read_text()
    assert not (here / "small.txt").exists()
    after = sorted((path.name, path.stat().st_mtime_ns) for path in (project / "signatures").iterdir())
    assert before == after  # read, not written


def test_a_repository_without_signatures_is_built_anew(tmp_path, project, build):
    build(project)
    shutil.rmtree(project / "signatures")
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(project / "SConstruct", here)

    assert (0, "join small.txt\njoin out/large.txt\n") == build(here, "-Y", os.fspath(project))
    assert "a+b" == (here / "out/large.txt").read_text()
    assert not (project / "signatures").exists()
