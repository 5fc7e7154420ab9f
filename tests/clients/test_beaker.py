"""Beaker keeps caches and sessions in lsmdbm: type "dbm", dbmmodule=lsmdbm."""

import json
import pickle
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest

import lsmdbm
from support.clients import client, finish, shown
from support.threads import in_threads

cache = client("beaker.cache")
container = client("beaker.container")
middleware = client("beaker.middleware")

COUNTER = """
import json, sys
from beaker.cache import CacheManager
import lsmdbm

words = CacheManager(type="dbm", data_dir=sys.argv[1], dbmmodule=lsmdbm).get_cache("words")
print("ready", flush=True)
sys.stdin.readline()
made = []
for number in range(20):
    key = f"key {number}"
    value = words.get(key, createfunc=lambda: made.append(key) or [sys.argv[2], number])
    assert value[1] == number
for number in range(50):
    words.put(f"{sys.argv[2]} {number}", number)
print(json.dumps(made), flush=True)
"""


@pytest.fixture(autouse=True)
def _no_managers_of_other_tests():
    cache.cache_managers.clear()
    yield
    cache.cache_managers.clear()


@pytest.fixture
def manager(path):
    return cache.CacheManager(type="dbm", data_dir=path, dbmmodule=lsmdbm)


def databases(path):
    """Every directory that Beaker has made a database of."""
    return sorted(Path(path, "container_dbm").glob("*/*/*.dbm"))


def test_a_cache_makes_each_value_once_and_keeps_it(path, manager):
    words = manager.get_cache("words")
    made = []

    for _ in range(2):
        for key in ("plain", "caf\u00e9", "with space"):
            assert [key] == words.get(key, createfunc=lambda key=key: made.append(key) or [key])
    assert ["plain", "caf\u00e9", "with space"] == made
    words["none"] = None
    assert "none" in words
    assert "absent" not in words
    with pytest.raises(KeyError):
        words["absent"]
    del words["plain"]
    assert "plain" not in words
    (file,) = databases(path)
    with lsmdbm.open(file) as db:
        assert [b"caf\\xe9", b"none", b"with space"] == db.keys()  # Beaker's own way to spell a key
        assert None is pickle.loads(db["none"])[2]


def test_a_cache_outlives_its_manager(path, manager):
    manager.get_cache("words")["key"] = {"value": [1, 2.5, b"\x00"]}
    manager.get_cache("others")["key"] = "another namespace"
    cache.cache_managers.clear()

    again = cache.CacheManager(type="dbm", data_dir=path, dbmmodule=lsmdbm)
    assert {"value": [1, 2.5, b"\x00"]} == again.get_cache("words")["key"]
    assert "another namespace" == again.get_cache("others")["key"]
    assert 2 == len(databases(path))


def test_the_documented_manager_makes_a_database_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(shown("Beaker"), example := {})

    example["manager"].get_cache("words")["key"] = "value"
    (file,) = databases("cache")
    with lsmdbm.open(file) as db:
        assert [b"key"] == db.keys()


def test_expired_values_are_made_again(manager, monkeypatch):
    words = manager.get_cache("words", expire=100)
    now = 1_000_000.0
    monkeypatch.setattr(container.time, "time", lambda: now)
    made = iter(range(10))

    assert 0 == words.get("key", createfunc=lambda: next(made))
    now += 99
    assert 0 == words.get("key", createfunc=lambda: next(made))
    now += 2
    assert "key" not in words
    assert 1 == words.get("key", createfunc=lambda: next(made))


def test_threads_share_a_cache_and_lose_nothing(manager):
    words = manager.get_cache("words")
    made = []
    failures = []

    def work(name):
        try:
            for number in range(15):
                key = f"shared {number}"
                words.get(key, createfunc=lambda key=key: made.append(key) or key)
                words[f"{name} {number}"] = number
                assert number == words[f"{name} {number}"]
        except BaseException as exc:
            failures.append(exc)

    in_threads(work, "abcd")
    assert [] == failures
    assert sorted(f"shared {number}" for number in range(15)) == sorted(made)
    assert all(number == words[f"{name} {number}"] for name in "abcd" for number in range(15))


def test_two_processes_make_each_value_once_and_lose_nothing(path, start, manager):
    pair = [start("-c", COUNTER, path, name) for name in "xy"]
    for process in pair:
        assert "ready\n" == process.stdout.readline()
    for process in pair:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [finish(process) for process in pair]

    assert [0, 0] == [status for status, _ in answers], answers
    made = [key for _, output in answers for key in json.loads(output)]
    assert sorted(f"key {number}" for number in range(20)) == sorted(made)
    words = manager.get_cache("words")
    assert all(number == words[f"{name} {number}"] for name in "xy" for number in range(50))


def test_clear_fails_loudly_and_loses_nothing(path, manager):
    words = manager.get_cache("words")
    words["key"] = "value"

    with pytest.raises((IsADirectoryError, PermissionError)):  # Linux, macOS: a database is no file
        words.clear()
    assert "value" == words["key"]
    words["other"] = "written afterwards"
    (file,) = databases(path)
    with lsmdbm.open(file) as db:
        assert [b"key", b"other"] == db.keys()


def test_a_cache_can_be_emptied_by_opening_its_database_anew(path, manager):
    words = manager.get_cache("words")
    words["key"] = "value"

    lsmdbm.open(words.namespace.file, "n").close()
    assert "key" not in words
    words["key"] = "again"
    assert "again" == words["key"]


def browse(application, path, cookie=None):
    """Ask a WSGI application for a path, as a browser does; return the text and the cookie it now has."""
    environ = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    if cookie:
        environ["HTTP_COOKIE"] = cookie
    received = []
    text = b"".join(application(environ, lambda status, headers, *_: received.extend(headers)))
    for name, value in received:
        if name == "Set-cookie":
            cookie = value.partition(";")[0]
    return text.decode(), cookie


def test_a_session_lasts_from_request_to_request_until_it_is_deleted(path):
    def visits(environ, start_response):
        session = environ["beaker.session"]
        if environ["PATH_INFO"] == "/leave":
            session.delete()
        else:
            session["pages"] = [*session.get("pages", []), environ["PATH_INFO"]]
            session.save()
        start_response("200 OK", [])
        return [" ".join(session.get("pages", ["nothing"])).encode()]

    def application():
        return middleware.SessionMiddleware(
            visits, {"session.type": "dbm", "session.data_dir": path, "session.dbmmodule": lsmdbm}
        )

    first, second = application(), application()  # as after a restart
    text, ann = browse(first, "/a")
    assert ("/a", True) == (text, bool(ann))
    assert "/x" == browse(first, "/x")[0]
    assert ("/a /b", ann) == browse(second, "/b", ann)
    assert ("/a /b /c", ann) == browse(first, "/c", ann)
    assert 2 == len(databases(path))
    assert ("nothing", ann) == browse(second, "/leave", ann)
    assert "/d" == browse(first, "/d", ann)[0]
