"""A cache: entries end when their time is over, the oldest go when space is short; nothing else changes."""

import copy
import json
import os
import pickle
import random
import threading

import pytest

import lsmdbm
from lsmdbm.cache import TTL, Cache, flights
from lsmdbm.cache import cache as module
from lsmdbm.cache.holding import Holding
from lsmdbm.cache.keys import encode_key
from support.crash_storage import CrashStorage
from support.threads import in_threads

try:
    from test import mapping_tests
except ImportError:  # distributions keep the tests of Python in a package of their own
    mapping_tests = None

pytestmark = pytest.mark.usefixtures("no_syncs")

SMALL = 1 << 20  # as small as a cache may be


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(path, clock):
    with Cache(path, clock=clock) as cache:
        yield cache


@pytest.fixture
def storage(monkeypatch):
    """A file system in memory, on which caches are opened."""
    storage = CrashStorage()
    monkeypatch.setattr(module, "_STORAGE", storage)
    return storage


if mapping_tests is not None:

    class TestProtocol(mapping_tests.BasicTestMappingProtocol):
        """CPython's own idea of a mapping."""

        @pytest.fixture(autouse=True)
        def _here(self, tmp_path, storage):
            self.storage = storage
            self.made = 0

        def _reference(self):
            return {"key1": "value1", "key2": 2, "key3": (1, 2, 3)}

        def _empty_mapping(self):
            self.made += 1
            cache = Cache(f"/{self.made}", codec=pickle)
            self.addCleanup(cache.close)
            return cache


# -- time ---------------------------------------------------------------------------------------------


def test_entry_is_there_until_its_time_is_over_and_not_at_that_moment(cache, clock):
    cache.set("page", "text", ttl=10)
    clock.now += 9.999999
    assert "text" == cache["page"] == cache.get("page")
    clock.now += 0.000001

    assert "page" not in cache
    assert cache.get("page", "nothing") == "nothing"
    assert {} == cache.get_many(["page"])
    assert (0, [], [], [], False) == (len(cache), [*cache], [*cache.items()], [*cache.values()], bool(cache))
    assert not cache.touch("page")
    assert not cache.delete("page")
    for operation in (cache.__getitem__, cache.__delitem__, cache.pop):
        with pytest.raises(KeyError):
            operation("page")


def test_ttl_of_a_cache_is_that_of_its_entries_unless_they_have_their_own(path, clock):
    with Cache(path, ttl=5, clock=clock) as cache:
        cache["five"] = cache["touched"] = 5
        cache.set("ten", 10, ttl=10)
        cache.set("ever", 0, ttl=None)
        cache.set("at once", 0, ttl=0)
        cache.update(more=1)
        assert "at once" not in cache
        clock.now += 4
        assert cache.touch("touched")
        clock.now += 1
        assert {"touched", "ten", "ever"} == {*cache}
        assert cache.touch("ten", None)
        clock.now += 10**9
        assert {"ten", "ever"} == {*cache}


@pytest.mark.parametrize("ttl", [2.0**63 / 1e6, 1e303, 1e308, 10**18, 10**400], ids=[*"abcde"])
def test_time_that_is_longer_than_can_be_told_is_never_over(cache, clock, ttl):
    cache.set("kept", 1, ttl)
    cache.set("touched", 2, 1)
    assert cache.touch("touched", ttl)
    assert 3 == cache.get_or_set("made", lambda: 3, ttl)

    clock.now = 1e12
    assert {"kept": 1, "made": 3, "touched": 2} == dict(cache)


def test_time_is_over_in_another_process_too(path, clock):
    with Cache(path, clock=clock) as cache:
        cache.set("page", "text", ttl=10)
    clock.now += 10
    with Cache(path, "r", clock=clock) as cache:
        assert "page" not in cache
    clock.now -= 1
    with Cache(path, "r", clock=clock) as cache:
        assert "text" == cache["page"]


def test_add_sets_what_is_over_and_nothing_else(cache, clock):
    assert cache.add("lock", 1, ttl=5)
    assert not cache.add("lock", 2, ttl=5)
    assert 1 == cache["lock"]
    clock.now += 5
    assert cache.add("lock", 3)
    assert 3 == cache["lock"] == cache.setdefault("lock", 4)
    assert 4 == cache.setdefault("other", 4) == cache["other"]


def test_increment_ends_when_the_first_one_said(cache, clock):
    assert [1, 3, 2] == [cache.increment("n", step, ttl=60) for step in (1, 2, -1)]
    clock.now += 59
    assert 3 == cache.increment("n")
    clock.now += 1
    assert 8 == cache.increment("n", default=7)
    cache["text"] = "3"
    with pytest.raises(TypeError, match="no int"):
        cache.increment("text")
    assert "3" == cache["text"]


def test_increments_of_many_threads_all_count(cache):
    in_threads(lambda _: [cache.increment("n") for _ in range(50)], range(4))

    assert 200 == cache["n"]


# -- random work, compared with a model ---------------------------------------------------------------


class Model:
    """What a cache without a bound holds: by stored key, the key, a value and when it ends."""

    def __init__(self, clock):
        self.clock = clock
        self.entries = {}

    def set(self, key, value, ttl):
        end = float("inf") if ttl is None else self.clock.now + ttl
        self.entries[encode_key(key)] = key, value, end

    def live(self):
        return {name: entry for name, entry in self.entries.items() if entry[2] > self.clock.now}


RANDOM_KEYS = ["a", b"a", 1, True, 1.0, None, (), ("u",), ("u", 1), ("u", 1, "x"), ("u", 11), ("v", (1,))]
TTLS = [None, 0, 1, 3, 10]


def step(cache, model, rng):
    """Do one thing at random to both; return what each says."""
    key, value, ttl = rng.choice(RANDOM_KEYS), rng.choice([b"x", "y" * 300, [1, None], 2.5]), rng.choice(TTLS)
    found = model.live().get(encode_key(key))
    kind = rng.choice(
        ["set", "set", "add", "touch", "delete", "pop", "get", "in", "prefix", "make", "expire"]
    )
    if kind == "set":
        model.set(key, value, ttl)
        return None, cache.set(key, value, ttl)
    if kind == "add":
        if not found:
            model.set(key, value, ttl)
        return not found, cache.add(key, value, ttl)
    if kind == "touch":
        if found:
            model.set(key, found[1], ttl)
        return bool(found), cache.touch(key, ttl)
    if kind in ("delete", "pop"):
        model.entries.pop(encode_key(key), None)
        if kind == "delete":
            return bool(found), cache.delete(key)
        return found[1] if found else None, cache.pop(key, None)
    if kind == "get":
        return found[1] if found else None, cache.get(key)
    if kind == "in":
        return bool(found), key in cache
    if kind == "prefix":
        prefix = rng.choice([("u",), ("u", 1), ("v",)])
        entries = model.entries.items()
        gone = [name for name, (each, *_) in entries if type(each) is tuple and each[: len(prefix)] == prefix]
        for name in gone:
            del model.entries[name]
        return None, cache.delete_prefix(prefix)
    if kind == "make":
        if not found:
            model.set(key, value, ttl)
        return found[1] if found else value, cache.get_or_set(key, lambda: value, ttl)
    return True, cache.expire() >= 0


@pytest.mark.parametrize("number", range(3))
def test_cache_does_what_its_model_does(storage, clock, seed, number):
    rng, model = random.Random(f"{seed} cache {number}"), Model(clock)
    for _ in range(6):
        with Cache("/db", max_bytes=SMALL, memtable_bytes=2000, block_bytes=200, clock=clock) as cache:
            for _ in range(60):
                expected, actual = step(cache, model, rng)
                assert expected == actual, f"seed {seed}"
                clock.now += rng.choice([0, 0, 0.5, 2])
            if rng.random() < 0.5:
                cache._db.flush()
            live = model.live()

            assert {name: value for name, (_, value, _) in live.items()} == {
                encode_key(key): value for key, value in cache.items()
            }, f"seed {seed}"
            assert len(live) == len(cache)


@pytest.mark.parametrize("number", range(2))
def test_past_the_bound_a_key_has_its_last_value_or_none(storage, clock, seed, number):
    """No older value, no deleted one; whatever is dropped, kept, folded or expired."""
    rng, model = random.Random(f"{seed} full cache {number}"), Model(clock)
    hits = drops = kept = 0
    for _ in range(3):
        with Cache("/db", max_bytes=SMALL, clock=clock) as cache:
            for _ in range(500):
                key = min(rng.randrange(1000), rng.randrange(1000))
                found, entry = cache.get(key), model.live().get(encode_key(key))
                assert found is None or (entry and found == entry[1]), f"seed {seed}"
                hits += found is not None
                if found is not None and rng.random() < 0.1:
                    cache.delete(key)
                    model.entries.pop(encode_key(key))
                elif found is None:
                    value = rng.randbytes(rng.choice([1000, 10_000]))
                    cache.set(key, value, ttl := rng.choice([None, 1000]))
                    model.set(key, value, ttl)
                if rng.random() < 0.01:
                    clock.now += 100
                    cache.expire()
            stats = cache.stats()
            drops, kept = drops + stats.store.drops, kept + stats.kept
    assert min(hits, drops, kept) > 0


@pytest.mark.parametrize("keys", [(1, True), (1.0, 1), ((0,), (False,)), (("u", 2), ("u", 2.0)), (0.0, -0.0)])
def test_many_keys_that_are_one_in_a_dict_are_refused(cache, keys):
    """A value would come back under the key of another one."""
    for number, key in enumerate(keys):
        cache[key] = f"value {number}"

    with pytest.raises(ValueError, match="that is another one"):
        cache.get_many(keys)
    assert {keys[1]: "value 1"} == cache.get_many([keys[1], keys[1]])


# -- space --------------------------------------------------------------------------------------------


def disk_bytes(path):
    return sum(entry.stat().st_size for entry in os.scandir(path))


@pytest.mark.parametrize("redundancy", [1, 4])
def test_directory_never_takes_more_than_max_bytes(path, redundancy):
    """With values that compress well there are more runs than a read should ask, and they are folded."""
    rng = random.Random(redundancy)
    most = 0
    with Cache(path, max_bytes=SMALL, block_bytes=8192) as cache:
        for number in range(600 * redundancy):
            cache[number] = rng.randbytes(3000 // redundancy) + bytes(3000 - 3000 // redundancy)
            if number % 10 == 0:
                most = max(most, disk_bytes(path))
        stats = cache.stats()
        held = len(cache)

        assert SMALL // 2 < most <= SMALL
        assert stats.store.drops > 10
        assert (redundancy > 1) == (stats.store.compactions > 0)
        assert stats.max_bytes == SMALL
        assert stats.evicted_bytes > SMALL // 2
        assert stats.disk_bytes < SMALL
    with Cache(path, max_bytes=SMALL) as cache:
        assert held == len(cache)
        assert number in cache


def test_what_an_iteration_still_needs_is_unlinked_when_it_ends(path):
    rng = random.Random(3)
    with Cache(path, max_bytes=SMALL) as cache:
        cache.update((number, rng.randbytes(3000)) for number in range(200))
        reading = iter(cache.values())
        next(reading)
        needed = {f"{meta.number:06}.sst" for meta in cache._db._store.view.version}
        cache.update((number, rng.randbytes(3000)) for number in range(200, 600))
        assert needed
        assert needed <= {*os.listdir(path)}
        reading.close()
        cache["more"] = 1
        cache._db.flush()

        assert set() == needed & {*os.listdir(path)}
        assert disk_bytes(path) <= SMALL


def test_a_smaller_bound_holds_from_the_first_writes_on(path):
    with Cache(path, max_bytes=4 * SMALL) as cache:
        rng = random.Random(4)
        for number in range(800):
            cache[number] = rng.randbytes(3000)
        assert 2 * SMALL < disk_bytes(path)
    with Cache(path, max_bytes=SMALL) as cache:
        assert 799 in cache
        for number in range(30):
            cache["new", number] = rng.randbytes(3000)

        assert disk_bytes(path) <= SMALL
        assert {799, ("new", 0)} <= {*cache}


def test_large_values_pass_the_bound_by_no_more_than_three_of_them(path):
    with Cache(path, max_bytes=SMALL) as cache:
        rng = random.Random(7)
        for number in range(60):
            cache[number] = rng.randbytes(SMALL // 16 - 100)
            assert disk_bytes(path) <= SMALL + 3 * SMALL // 16
        assert 59 in cache


def test_expired_entries_give_their_tables_back(path, clock):
    with Cache(path, max_bytes=SMALL, ttl=60, clock=clock) as cache:
        rng = random.Random(1)
        for number in range(100):
            cache[number] = rng.randbytes(3000)
        cache._db.flush()
        clock.now += 30
        assert 0 == cache.expire()
        for number in range(100, 200):
            cache[number] = rng.randbytes(3000)
        cache._db.flush()
        clock.now += 30
        before = disk_bytes(path)
        freed = cache.expire()

        assert 250_000 < freed < 350_000
        assert freed <= before - disk_bytes(path) + 4096  # a manifest may have grown
        assert {*range(100, 200)} == {*cache}
        clock.now += 30
        cache.expire()
        assert 0 == cache.stats().store.tables
        cache["again"] = 1
    with Cache(path, clock=clock) as cache:
        assert ["again"] == [*cache]


def test_a_live_entry_keeps_its_table_and_all_that_are_newer(storage, clock):
    with Cache("/db", max_bytes=SMALL, clock=clock) as cache:
        for number, ttl in enumerate([1, None, 1]):
            cache.set(number, "x", ttl)
            cache._db.flush()
        clock.now += 1

        assert 0 < cache.expire()
        assert 2 == cache.stats().store.tables
        assert [1] == [*cache]


def test_what_is_read_is_kept_when_its_table_is_about_to_go(path):
    rng = random.Random(2)
    with Cache(path, max_bytes=SMALL) as cache:
        cache["read"], cache["not read"] = "r", "n"
        for number in range(1000):
            cache[number] = rng.randbytes(3000)
            assert "r" == cache["read"]
        assert "not read" not in cache
        assert 2 < cache.stats().kept < 50


def test_what_is_kept_ends_no_later(path, clock):
    rng = random.Random(2)
    with Cache(path, max_bytes=SMALL, clock=clock) as cache:
        cache.set("read", "r", ttl=100)
        while not cache.stats().kept:
            cache[rng.random()] = rng.randbytes(3000)
            assert "r" == cache["read"]
        clock.now += 100
        assert "read" not in cache


@pytest.mark.parametrize("meanwhile", [lambda cache: cache.set("a", "new"), lambda cache: cache.delete("a")])
def test_what_is_kept_overwrites_nothing_written_meanwhile(storage, monkeypatch, meanwhile):
    with Cache("/db", max_bytes=SMALL) as cache:
        cache["a"] = "old"
        monkeypatch.setattr(Holding, "_late_stamp", lambda self: 1 << 60)
        change = cache._db._store.change

        def changed_before(name, function):
            meanwhile(cache)
            return change(name, function)

        monkeypatch.setattr(cache._db._store, "change", changed_before)
        assert "old" == cache["a"]  # read before the other thread wrote
        monkeypatch.undo()

        assert cache.get("a") in ("new", None)


def test_a_disk_that_is_full_fails_no_read(storage, monkeypatch):
    with Cache("/db", max_bytes=SMALL) as cache:
        cache["a"] = "b"
        monkeypatch.setattr(Holding, "_late_stamp", lambda self: 1 << 60)

        def full(name, change):
            raise lsmdbm.error("No space left on device")

        monkeypatch.setattr(cache._db._store, "change", full)

        assert "b" == cache["a"]
        assert 0 == cache.stats().kept


class Waited(threading.Event):
    """An event that says when somebody waits for it."""

    def __init__(self, waiting):
        super().__init__()
        self.waiting = waiting

    def wait(self, timeout=None):
        self.waiting.set()
        return super().wait(timeout)


# -- one computes, the others wait --------------------------------------------------------------------


def test_one_thread_computes_and_the_others_wait(cache):
    begun, go_on, calls, found = threading.Event(), threading.Event(), [], []

    def compute():
        calls.append(threading.get_ident())
        begun.set()
        go_on.wait()
        return [1, 2]

    threads = [
        threading.Thread(target=lambda: found.append(cache.get_or_set("k", compute))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
        begun.wait()
    go_on.set()
    for thread in threads:
        thread.join()

    assert 1 == len(calls)
    assert [[1, 2]] * 5 == found
    assert 5 == len({*map(id, found)})  # each has its own


def test_what_goes_wrong_goes_wrong_for_all_who_wait_and_nothing_is_stored(cache):
    begun, waiting, raised = threading.Event(), threading.Event(), []

    def compute():
        begun.set()
        waiting.wait()
        raise ZeroDivisionError("once")

    def ask():
        try:
            cache.get_or_set("k", compute)
        except ZeroDivisionError as exc:
            raised.append(exc)

    first = threading.Thread(target=ask)
    first.start()
    begun.wait()
    (flight,) = cache._flights._flights.values()
    flight.done = Waited(waiting)
    second = threading.Thread(target=ask)
    second.start()
    first.join()
    second.join()

    assert 2 == len(raised)
    assert raised[0] is raised[1]
    assert 7 == cache.get_or_set("k", lambda: 7)


def test_an_interruption_of_one_thread_leaves_nobody_waiting(cache):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get_or_set("k", interrupted)

    assert 7 == cache.get_or_set("k", lambda: 7)


def test_a_flight_that_is_gone_without_a_word_is_not_waited_for(cache, monkeypatch):
    """An interruption may come between the two last steps of who has made it."""
    monkeypatch.setattr(flights, "PATIENCE", 0.001)
    waiting, found, planted = threading.Event(), [], flights.Flight()

    planted.maker, planted.done = None, Waited(waiting)
    cache._flights._flights[encode_key("k")] = planted
    thread = threading.Thread(target=lambda: found.append(cache.get_or_set("k", lambda: 7)))
    thread.start()
    waiting.wait()
    assert not found
    del cache._flights._flights[encode_key("k")]
    thread.join()

    assert [7] == found


def test_a_value_that_asks_for_itself_is_an_error(cache):
    with pytest.raises(RuntimeError, match="asked for by the function that is computing it"):
        cache.get_or_set("k", lambda: cache.get_or_set("k", lambda: 1))
    assert 2 == cache.get_or_set("k", lambda: 1 + cache.get_or_set("other", lambda: 1))


def test_a_value_that_cannot_be_decoded_any_more_is_computed_anew(path):
    class Gone:
        dumps = staticmethod(json.dumps)

        @staticmethod
        def loads(data):
            raise ImportError("no such class")

    with Cache(path, codec=pickle) as cache:
        cache["k"] = {1}
    with Cache(path, codec=Gone()) as cache:
        with pytest.raises(ImportError):
            cache["k"]
        assert [2] == cache.get_or_set("k", lambda: [2])
    with Cache(path, codec=json) as cache:
        assert [2] == cache["k"]


def test_a_value_that_is_too_large_is_returned_and_refused(path):
    with Cache(path, max_bytes=SMALL) as cache:
        large = bytes(SMALL // 16)
        assert large == cache.get_or_set("k", lambda: large)
        assert "k" not in cache
        assert 1 == cache.stats().refused
        for operation in (cache.set, cache.add):
            with pytest.raises(ValueError, match="a sixteenth of max_bytes"):
                operation("k", large)
        with pytest.raises(ValueError, match="a sixteenth of max_bytes"):
            cache.update(k=large)


# -- memoized functions -------------------------------------------------------------------------------


def test_calls_that_are_the_same_are_computed_once_however_they_are_written(cache):
    calls = []

    @cache.memoize("add")
    def add(one, two=2, *rest, scale=1, **more):
        """Add."""
        calls.append((one, two, rest, scale, more))
        return (one + two) * scale

    assert [3, 3, 3, 3] == [add(1), add(1, 2), add(two=2, one=1), add(1, scale=1)]
    assert 1 == len(calls)
    assert [4, 6, 3, 3] == [add(2), add(1, scale=2), add(1, 2, 3), add(1, more="x")]
    assert 5 == len(calls)
    assert [3.0, 3] == [add(1.0), add(True)]
    assert 7 == len(calls)
    assert ("Add.", "add") == (add.__doc__, add.__name__)
    assert 9 == add.__wrapped__(4, 5)


def test_results_are_there_after_a_restart_and_can_be_forgotten(path):
    seen = []
    for _ in range(2):
        with Cache(path) as cache:
            square = cache.memoize("square")(lambda n: seen.append(n) or n * n)
            other = cache.memoize("square root")(lambda n: seen.append(n) or n)
            assert (9, 9) == (square(3), other(9))
            assert [3, 9] == seen
            assert square.cache_key(3) in cache
    with Cache(path) as cache:
        square = cache.memoize("square")(lambda n: -n)
        square.cache_clear()
        assert -3 == square(3)
        assert 9 == cache.memoize("square root")(lambda n: 0)(9)


def test_long_arguments_make_short_keys(cache):
    shout = cache.memoize("shout")(str.upper)
    for text in ("a" * 100_000, "a" * 100_001):
        assert text.upper() == shout(text)

    assert shout.cache_key("a" * 100_000) != shout.cache_key("a" * 100_001)
    assert 2 == len(cache)
    assert max(len(name) for name in cache._db) < 100


def test_a_key_leaves_out_what_is_no_key(cache):
    class Reader:
        def __init__(self):
            self.reads = 0

        @cache.memoize("read", key=lambda self, name: name, ttl=5)
        def read(self, name):
            self.reads += 1
            return name.upper()

    one, other = Reader(), Reader()
    assert ("A", "A") == (one.read("a"), other.read("a"))
    assert (1, 0) == (one.reads, other.reads)
    with pytest.raises(TypeError, match="key must be"):
        cache.memoize("all of it")(lambda self: 1)(one)


def test_ttl_of_a_function_is_that_of_its_results(cache, clock):
    times = iter(range(10))
    now = cache.memoize("now", ttl=5)(lambda: next(times))
    assert (0, 0) == (now(), now())
    clock.now += 5
    assert (1, 1) == (now(), now())


def test_a_name_belongs_to_one_function(cache):
    def one():
        return 1

    def other():
        return 2

    async def task():
        return 3

    assert 1 == cache.memoize("f")(one)() == cache.memoize("f")(one)()
    with pytest.raises(ValueError, match="has this name already"):
        cache.memoize("f")(other)
    with pytest.raises(TypeError, match="takes a name"):
        cache.memoize(one)(other)
    with pytest.raises(TypeError, match="a coroutine is no result"):
        cache.memoize("task")(task)
    with pytest.raises(ValueError, match="0 or more"):
        cache.memoize("g", ttl=-1)
    with pytest.raises(ValueError, match="0 or more"):
        cache.get_or_set("g", pytest.fail, ttl=-1)


def test_a_value_json_would_change_is_an_error_at_the_first_call(cache):
    """Else the second call would return a list."""
    with pytest.raises(TypeError, match="give the cache a codec"):
        cache.memoize("pair")(lambda: (1, 2))()


# -- several openings ---------------------------------------------------------------------------------


def test_who_reads_computes_what_is_missing_and_stores_nothing(path):
    with Cache(path) as cache:
        cache["a"] = 1
    with Cache(path, "r") as cache:
        assert (1, 2) == (cache.get_or_set("a", lambda: 0), cache.get_or_set("b", lambda: 2))
        assert "b" not in cache
        for write in (
            lambda: cache.set("a", 1),
            lambda: cache.add("a", 1),
            lambda: cache.touch("a"),
            lambda: cache.delete("a"),
            lambda: cache.pop("a"),
            lambda: cache.increment("a"),
            lambda: cache.update(a=1),
            lambda: cache.delete_prefix(("a",)),
            cache.clear,
            cache.expire,
        ):
            with pytest.raises(lsmdbm.ReadOnlyError):
                write()


def test_who_reads_keeps_nothing(path, monkeypatch):
    with Cache(path) as writer, Cache(path, "r") as cache:
        writer["a"] = 1
        monkeypatch.setattr(Holding, "_late_stamp", lambda self: 1 << 60)

        assert 1 == cache["a"]
        assert 0 == cache.stats().kept
        assert 1 == writer["a"]
        assert 1 == writer.stats().kept


def test_a_closed_cache_says_so(path):
    cache = Cache(path)
    cache.close()
    cache.close()
    for operation in (
        lambda: cache["a"],
        lambda: cache.get("a"),
        lambda: "a" in cache,
        lambda: cache.set("a", object()),
        lambda: cache.add("a", 1),
        lambda: cache.touch("a"),
        lambda: cache.increment("a"),
        lambda: cache.pop("a"),
        lambda: cache.get_or_set("a", lambda: 1),
        lambda: cache.get_many(["a"]),
        lambda: cache.update(a=1),
        lambda: cache.delete_prefix(()),
        lambda: list(cache),
        lambda: len(cache),
        cache.clear,
        cache.expire,
        cache.stats,
        cache.refresh,
    ):
        with pytest.raises(lsmdbm.ClosedError):
            operation()


def test_two_caches_of_one_process_show_the_same(path):
    with Cache(path) as one, Cache(path) as other:
        one["a"] = 1
        assert 1 == other["a"]


@pytest.mark.parametrize("key", ["apple", b"\0", b"\0cache", b"\0cache\1", b"\0sql\0generation"])
def test_what_is_no_cache_is_refused_and_left_as_it_is(path, key):
    with lsmdbm.open(path, "n") as db:
        db[key] = "red"
    before = {entry.name: entry.stat().st_size for entry in os.scandir(path)}
    for flag in "rwc":
        with pytest.raises(lsmdbm.error, match="is no cache: it holds"):
            Cache(path, flag)

    assert before == {entry.name: entry.stat().st_size for entry in os.scandir(path)}
    with lsmdbm.open(path) as db:
        assert b"red" == db[key]
    with Cache(path, "n") as cache:
        assert 0 == len(cache)


def test_a_cache_that_was_written_to_as_a_plain_database_is_none_any_more(path):
    with Cache(path) as cache:
        cache["apple"] = "red"
    with lsmdbm.open(path, "w") as db:
        assert [b"\0cache\0sapple\0"] == [*db]  # nobody takes that for a key of his own
        db["apple"] = "green"
    with pytest.raises(lsmdbm.error, match=r"is no cache: it holds b'apple'"):
        Cache(path)


def test_a_cache_is_verified_and_backed_up_as_any_database(path):
    with Cache(path) as cache:
        cache["apple"] = "red"
        cache._db.flush()
    with lsmdbm.open(path) as db:
        db.backup(path + " of today")

    assert lsmdbm.verify(path)
    with Cache(path + " of today", "r") as cache:
        assert {"apple": "red"} == dict(cache)


def test_files_are_nobody_elses(path):
    with Cache(path) as cache:
        cache["a"] = 1
        assert 0o700 == os.stat(path).st_mode & 0o777
        assert {0o600} == {entry.stat().st_mode & 0o777 for entry in os.scandir(path)}


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"max_bytes": SMALL - 1}, ValueError, "max_bytes=1048575: must be an int from 1048576"),
        ({"max_bytes": 1e9}, ValueError, "must be an int"),
        ({"max_bytes": None}, ValueError, "must be an int"),
        ({"memtable_bytes": "1"}, ValueError, "memtable_bytes='1': must be an int"),
        ({"max_bytes": SMALL, "memtable_bytes": SMALL}, ValueError, "a sixteenth of max_bytes"),
        ({"ttl": -1}, ValueError, "ttl=-1: must be 0 or more"),
        ({"ttl": "1"}, TypeError, "ttl must be a number"),
        ({"ttl": TTL}, TypeError, "ttl must be a number"),
        ({"codec": "utf-8"}, TypeError, "codec must have dumps and loads"),
        ({"compaction": "fifo"}, TypeError, "unexpected keyword argument 'compaction'"),
        ({"log_keep_bytes": 5}, TypeError, "unexpected keyword argument 'log_keep_bytes'"),
        ({"sise": 5}, TypeError, "unexpected keyword argument 'sise'"),
        ({"flag": "x"}, lsmdbm.FlagError, "Flag must be"),
        ({"flag": "w"}, lsmdbm.NotFoundError, "No such file"),
    ],
)
def test_what_is_no_way_to_open_a_cache_makes_nothing(path, arguments, kind, text):
    with pytest.raises(kind, match=text):
        Cache(path, **arguments)

    assert not os.path.exists(path)


def test_figures(cache, clock):
    cache.update(a=1, b=2)
    cache.set("c", 3, ttl=1)
    clock.now += 1
    cache.get("a"), cache.get("c"), cache.get("d"), cache.get_many(["a", "b", "e"]), "a" in cache
    stats = cache.stats()

    assert (3, 3, 1, 0, 0) == (stats.hits, stats.misses, stats.expired, stats.kept, stats.refused)
    assert 0.5 == stats.hit_rate
    assert stats.disk_bytes == stats.store.memtable_bytes
    assert {1, 2} == {cache.popitem()[1], cache.popitem()[1]}
    with pytest.raises(KeyError, match="cache is empty"):
        cache.popitem()
    cache.clear()
    assert not cache


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_cache_cannot_be_copied_or_pickled(path, copied):
    with Cache(path) as cache, pytest.raises(TypeError, match="pass its path"):
        copied(cache)


def test_power_loss_takes_the_last_writes_back_and_makes_up_none(storage, clock, seed, monkeypatch):
    rng, written = random.Random(f"{seed} power"), {}
    cache = Cache("/db", max_bytes=SMALL, clock=clock)
    for number in range(400):
        key = rng.randrange(50)
        value = [number, "x" * rng.randrange(3000)]
        written.setdefault(key, [None]).append(value)
        cache.set(key, value, ttl=rng.choice([None, 10]))
        if number == 200:
            cache.sync()
            synced = {key: len(values) for key, values in written.items()}
    for mode in ("strict", "reorder"):
        monkeypatch.setattr(module, "_STORAGE", storage.freeze().crash(mode, rng))
        with Cache("/db", max_bytes=SMALL, clock=clock) as left:
            for key, values in written.items():
                found = left.get(key)
                assert found in values, f"seed {seed}"
                assert found is not None or key not in synced or cache.stats().store.drops, f"seed {seed}"
    cache.close()
