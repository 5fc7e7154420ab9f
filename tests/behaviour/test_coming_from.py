"""The programs of docs/migration.md that need another package, run where it is installed.

What they make and move is looked at here; all other examples of the page are run like those of any page.
"""

import functools
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lsmdbm

PAGE = (Path(__file__).parents[2] / "docs/migration.md").read_text("ascii")
SECTIONS = {title: text for title, text in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)}

FRUIT = {b"fruit:apple": b"red", b"fruit:pear": b"green"}
PEOPLE = {"ann": {"age": 30}, "bob": {"age": 40}}
MOVED = {  # where it is moved to, how to read it there, and what it is
    "plyvel": ("fruit.lsm", lsmdbm.open, FRUIT),
    "sqlitedict": ("people.lsm", lsmdbm.open_shelf, PEOPLE),
    "diskcache": (
        "cache.lsm",
        functools.partial(lsmdbm.cache.Cache, codec=pickle),
        {"answer": [42], "later": "gone in a minute"},
    ),
}


def programs(section, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[section], re.M | re.S)


def run(program, directory):
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(lsmdbm.__file__))}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=directory, env=environment, capture_output=True, text=True
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def require(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def test_every_program_for_another_package_is_run_here():
    assert sorted(MOVED) == sorted(section for section in SECTIONS if programs(section, "py"))
    assert PAGE.count("```py\n") == 2 * len(MOVED)


@pytest.mark.parametrize("package", MOVED)
def test_the_data_of_another_package_is_moved(tmp_path, package):
    require(package)
    before, move = programs(package, "py")
    run(before, tmp_path)
    run(move, tmp_path)

    name, open_moved, expected = MOVED[package]
    with open_moved(tmp_path / name, "r") as db:
        assert expected == dict(db)


@pytest.mark.parametrize("package", MOVED)
def test_the_code_after_says_what_the_code_before_said(tmp_path, package):
    require(package)
    before, _ = programs(package, "py")
    (after,) = programs(package, "python")
    said = run(after, tmp_path)

    assert said
    assert run(before, tmp_path) == said


def test_entries_that_have_expired_are_not_moved(tmp_path):
    require("diskcache")
    _, move = programs("diskcache", "py")
    fill = "import diskcache\nwith diskcache.Cache('cache', cull_limit=0) as old:"
    run(f"{fill} old.set('a', 1, expire=-1); old['b'] = 2", tmp_path)
    run(move, tmp_path)

    with lsmdbm.cache.Cache(tmp_path / "cache.lsm", "r") as cache:
        assert {"b": 2} == dict(cache)


def test_entries_that_will_expire_do_so_after_they_were_moved(tmp_path):
    require("diskcache")
    before, move = programs("diskcache", "py")
    run(before, tmp_path)
    run(move, tmp_path)
    for seconds, expected in ((30, {"answer", "later"}), (90, {"answer"})):
        clock = functools.partial(lambda seconds: time.time() + seconds, seconds)
        with lsmdbm.cache.Cache(tmp_path / "cache.lsm", "r", clock=clock) as cache:
            assert expected == {*cache}
