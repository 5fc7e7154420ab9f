"""dogpile.cache finds lsmdbm through the stock dbm: register(default=True), backend "dogpile.cache.dbm"."""

import json
import os
import threading
from types import SimpleNamespace

import pytest

import lsmdbm
from support.clients import client, finish, shown
from support.threads import in_threads

cache = client("dogpile.cache")
api = client("dogpile.cache.api")
regions = client("dogpile.cache.region")
creation = client("dogpile.lock")

DAY = 86400

WORKER = """
import json, sys
import lsmdbm
from dogpile.cache import make_region

lsmdbm.register(default=True)
path, name, locks = sys.argv[1:]
arguments = {"filename": path, **json.loads(locks)}
region = make_region().configure("dogpile.cache.dbm", arguments=arguments)
print("ready", flush=True)
made = []
if sys.stdin.readline() == "share\\n":
    for number in range(20):
        key = f"shared {number}"
        region.get_or_create(key, lambda: made.append(key) or key)
for number in range(50):
    region.set(f"{name} {number}", number)
    assert number == region.get(f"{name} {number}")
print(json.dumps(made), flush=True)
if sys.stdin.readline() == "die\\n":
    import os
    os._exit(9)
"""


@pytest.fixture(autouse=True)
def _registered():
    lsmdbm.register(default=True)
    yield
    lsmdbm.unregister()


def region_at(path, **arguments):
    return cache.make_region().configure("dogpile.cache.dbm", arguments={"filename": path, **arguments})


@pytest.fixture
def region(path):
    return region_at(path)


def test_values_are_made_once_and_kept_in_a_database_of_ours(path, region):
    made = []
    values = {"number": 1, "caf\u00e9": ["text", b"\x00", None], "none": None}

    for _ in range(2):
        for key, value in values.items():
            assert value == region.get_or_create(key, lambda key=key, value=value: made.append(key) or value)
    assert [*values] == made
    assert values == {key: region_at(path).get(key) for key in values}  # another handle, as after a restart
    assert "lsmdbm" == lsmdbm.whichdb(path)
    with lsmdbm.open(path) as db:
        assert sorted(key.encode() for key in values) == db.keys()


def test_the_documented_region_makes_a_database_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(shown("dogpile.cache"), example := {})

    example["region"].set("key", "value")
    with lsmdbm.open("cache.lsm") as db:
        assert [b"key"] == db.keys()


def test_what_is_missing_or_deleted_is_no_value_itself(region):
    assert api.NO_VALUE is region.get("absent")
    assert api.NO_VALUE is region.backend.get_serialized("absent")
    region.set("key", "value")
    assert "value" == region.get("key")
    region.delete("key")
    region.delete("key")
    assert api.NO_VALUE is region.get("key")


def test_many_at_once_are_as_single_ones(region):
    region.set_multi({f"key {number}": number for number in range(5)})
    assert [0, 4, api.NO_VALUE] == region.get_multi(["key 0", "key 4", "key 5"])
    region.delete_multi(["key 0", "key 5"])
    assert [api.NO_VALUE, 4] == region.get_multi(["key 0", "key 4"])
    assert [-1, 4] == region.get_or_create_multi(["key 0", "key 4"], lambda *keys: [-1 for _ in keys])
    assert -1 == region.get("key 0")


def test_expired_values_are_made_again(region, monkeypatch):
    now = 1_000_000.0
    for module in (regions, creation):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now))
    made = iter(range(10))

    assert 0 == region.get_or_create("key", lambda: next(made), expiration_time=DAY)
    now += DAY - 1
    assert 0 == region.get_or_create("key", lambda: next(made), expiration_time=DAY)
    now += 2
    assert api.NO_VALUE is region.get("key", expiration_time=DAY)
    assert 0 == region.get("key", ignore_expiration=True)
    assert 1 == region.get_or_create("key", lambda: next(made), expiration_time=DAY)
    now += 1
    region.invalidate()
    now += 1
    assert 2 == region.get_or_create("key", lambda: next(made))


def test_threads_make_each_value_once_and_lose_nothing(region):
    made = []
    failures = []
    begin = threading.Barrier(4)

    def work(name):
        try:
            begin.wait()
            for number in range(15):
                key = f"shared {number}"
                assert key == region.get_or_create(key, lambda key=key: made.append(key) or key)
                region.set(f"{name} {number}", number)
                assert number == region.get(f"{name} {number}")
                region.delete(f"{name} {number - 1}")
        except BaseException as exc:
            failures.append(exc)

    in_threads(work, "abcd")
    assert [] == failures
    assert sorted(f"shared {number}" for number in range(15)) == sorted(made)
    assert [14] * 4 == [region.get(f"{name} 14") for name in "abcd"]
    assert [api.NO_VALUE] * 4 == [region.get(f"{name} 13") for name in "abcd"]


def work_in_two_processes(start, path, what, **locks):
    """Let two processes fill one region at once, until they wait at the end; return what they made."""
    pair = [start("-c", WORKER, path, name, json.dumps(locks)) for name in "xy"]
    for process in pair:
        assert "ready\n" == process.stdout.readline()
    for process in pair:
        process.stdin.write(what)
        process.stdin.flush()
    return pair, [json.loads(process.stdout.readline()) for process in pair]


def kept(region):
    return [region.get(f"{name} {number}") for name in "xy" for number in range(50)]


def test_two_processes_make_each_value_once_and_lose_nothing_even_if_they_die(path, start, region):
    pair, made = work_in_two_processes(start, path, "share\n")
    for process in pair:
        process.stdin.write("die\n")

    assert [(9, "")] * 2 == [finish(process) for process in pair]
    assert sorted(f"shared {number}" for number in range(20)) == sorted(made[0] + made[1])
    assert [*range(50)] * 2 == kept(region)
    assert all(key == region.get(key) for keys in made for key in keys)


def test_without_locks_of_its_own_two_processes_lose_nothing_either(path, start):
    """Writers wait for each other, and readers find what was there, without dogpile's lock files."""
    locks = {"rw_lockfile": False, "dogpile_lockfile": False}
    pair, _ = work_in_two_processes(start, path, "work\n", **locks)

    assert [(0, "")] * 2 == [finish(process) for process in pair]
    assert [*range(50)] * 2 == kept(region_at(path, **locks))
    assert not os.path.exists(path + ".rw.lock")
