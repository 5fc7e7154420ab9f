"""T11: programs that end with a database open; they end soon, quietly, and keep their level's promise."""

import os
import random
import subprocess
import sys
from pathlib import Path

import lsmdbm
from support import shutdowns

PATIENCE = 60  # seconds, after which a program that does not end is killed
LEVELS = ("process", "none", "interval", "full")
CASES = [
    (name, level)
    for level in LEVELS
    for name in shutdowns.ENDS
    # Its sync never ends, and at "interval" the exit waits for the sync of the last interval.
    if (name, level) != ("closed_beside_a_stopped_thread", "interval")
]
COUNTS = {"small": 3, "default": 14, "crash": len(CASES), "long": len(CASES)}
CLOSES = ("closed_by_atexit", "generator_open")  # whose content is whole at every level
# A daemon thread that comes back when the interpreter is gone is stopped where it is: nobody says a word.
WORDS = ("ResourceWarning: unclosed database", "Object allocated at", "ResourceWarning: Enable tracemalloc")


def program(name, path, level):
    """Run one to its end."""
    places = (Path(shutdowns.__file__).parents[1], Path(lsmdbm.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-W", "default", "-m", "support.shutdowns", name, path, level],
        capture_output=True,
        cwd=os.path.dirname(path),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        timeout=PATIENCE,
        check=False,
    )


def unexpected(stderr):
    """The lines that are neither a ResourceWarning nor the source line it shows."""
    lines = stderr.decode().splitlines()
    return [line for line in lines if not any(word in line for word in WORDS) and not line.startswith("  ")]


def check(name, path, level):
    done = program(name, path, level)
    assert shutdowns.ENDS[name][1] == done.returncode, done.stderr
    assert [] == unexpected(done.stderr)
    returned = {b"%06d" % int(line): line for line in done.stdout.split(b"\n")[:-1]}
    with lsmdbm.open(path, "w", timeout=0) as db:
        found = dict(db)
        assert len(found) == len(db)
    unheard = {key: value for key, value in found.items() if key not in returned}
    assert all(key == b"%06d" % int(value) for key, value in found.items())
    assert len(unheard) <= 3  # one for each thread
    if level != "none" or name in CLOSES:
        assert returned.items() <= found.items()
    else:  # of each thread a prefix
        for first in {int(key) // 100_000 for key in returned}:
            own = sorted(int(key) for key in found if int(key) // 100_000 == first)
            assert [*range(first * 100_000, first * 100_000 + len(own))] == own


def test_nobody_waits_for_a_thread_that_was_stopped(tmp_path):
    path = os.fspath(tmp_path / "db")
    assert b"  refused\n" == program("closed_beside_a_stopped_thread", path, "process").stderr


def test_programs_end_quietly_and_keep_their_promise(tmp_path, seed, budget):
    rng = random.Random(f"{seed} shutdowns")
    chosen = rng.sample(CASES, min(COUNTS[budget], len(CASES)))
    for name, level in chosen:
        check(name, os.fspath(tmp_path / f"{name}-{level}"), level)
    print(f"T11 shutdown: seed {seed}, {len(chosen)} cases, 0 failures")


def test_what_is_printed_otherwise_is_noticed():
    """The planted fault."""
    expected = b"sys:1: ResourceWarning: unclosed database 'db'\n"
    assert [] == unexpected(expected)
    assert ["Exception ignored in: <x>"] == unexpected(expected + b"Exception ignored in: <x>\n")
