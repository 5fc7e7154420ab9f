import random
import sys
import weakref

import pytest

from lsmdbm._base.lru import LEAST_OFFERS, LRU, OFFER_COST
from support.threads import in_threads


def filled(count, **bounds):
    cache = LRU(**{"max_cost": 100, **bounds})
    for key in range(count):
        cache.put(key, f"entry {key}", 1)
    return cache


def kept(cache, count=1000):
    return [key for key in range(count) if cache.peek(key) is not None]


def test_a_miss_is_none_and_a_hit_is_the_entry_itself():
    cache = LRU(10)
    entry = object()
    cache.put("key", entry, 1)

    assert cache.get("other") is None
    assert cache.get("key") is entry
    assert (1, 1) == (cache.hits, cache.misses)


def test_costs_stay_within_the_bound():
    cache = LRU(10)
    for key, cost in enumerate([4, 4, 4]):
        cache.put(key, key + 1, cost)

    assert kept(cache) == [1, 2]
    assert cache.cost == 8


def test_a_cost_that_fills_the_cache_exactly_is_kept():
    cache = LRU(10)
    cache.put("key", "entry", 10)

    assert cache.get("key") == "entry"
    assert (10, 1) == (cache.cost, len(cache))


def test_count_stays_within_the_bound():
    cache = filled(10, max_count=3)

    assert kept(cache) == [7, 8, 9]
    assert (3, 3) == (cache.cost, len(cache))


def test_the_oldest_goes_first_and_a_hit_makes_young():
    cache = filled(3, max_count=3)
    cache.get(0)
    cache.put(3, "entry 3", 1)

    assert kept(cache) == [0, 2, 3]


def test_a_peek_neither_makes_young_nor_counts():
    cache = filled(3, max_count=3)
    assert cache.peek(0) == "entry 0"
    assert cache.peek(7) is None
    cache.put(3, "entry 3", 1)

    assert kept(cache) == [1, 2, 3]
    assert (0, 0) == (cache.hits, cache.misses)


def test_an_entry_larger_than_the_cache_is_not_kept_and_evicts_nothing():
    cache = LRU(10)
    cache.put("small", "entry", 10)
    cache.put("large", "entry", 11)

    assert cache.get("large") is None
    assert cache.get("small") == "entry"
    assert cache.cost == 10


def test_replacing_by_an_oversized_entry_leaves_no_old_one_behind():
    cache = LRU(10)
    cache.put("key", "old", 1)
    cache.put("key", "new", 11)

    assert cache.get("key") is None
    assert (0, 0) == (cache.cost, len(cache))


def test_replacing_charges_the_new_cost_alone():
    cache = LRU(10)
    cache.put("key", "old", 7)
    cache.put("other", "entry", 3)
    cache.put("key", "new", 2)

    assert cache.get("key") == "new"
    assert cache.get("other") == "entry"
    assert cache.cost == 5


def test_replacing_makes_young():
    cache = filled(3, max_count=3)
    cache.put(0, "again", 1)
    cache.put(3, "entry 3", 1)

    assert kept(cache) == [0, 2, 3]


def test_what_is_offered_enters_as_long_as_there_is_room():
    cache = LRU(10)
    cache.offer("key", "entry", 4)
    cache.offer("other", "entry", 6)

    assert ("entry", "entry", 10) == (cache.peek("key"), cache.peek("other"), cache.cost)


def test_what_is_offered_once_to_a_full_cache_evicts_nothing():
    cache = filled(3, max_cost=3)
    for key in range(3, 50):
        cache.offer(key, f"entry {key}", 1)

    assert [0, 1, 2] == kept(cache)
    assert not cache.has_evicted


def test_what_is_offered_twice_to_a_full_cache_makes_room_for_itself():
    cache = filled(3, max_cost=3)
    for _ in range(2):
        cache.offer(3, "entry 3", 1)

    assert [1, 2, 3] == kept(cache)
    assert (3, True) == (cache.cost, cache.has_evicted)


def test_a_key_that_was_let_in_has_to_be_offered_twice_again():
    cache = filled(3, max_cost=3)
    for _ in range(2):
        cache.offer(3, "entry 3", 1)
    cache.discard(3)
    cache.put(4, "entry 4", 1)
    cache.offer(3, "entry 3", 1)

    assert [1, 2, 4] == kept(cache)


def test_offered_keys_are_remembered_in_bounded_memory():
    cache = LRU(10 * OFFER_COST)
    cache.put("large", "entry", 10 * OFFER_COST)
    for _ in range(2):
        for key in range(1000):
            cache.offer(key, "entry", 1)

    assert "entry" == cache.peek("large")  # each was forgotten before it came again
    assert len(cache._offered) + len(cache._offered_before) <= 2 * (10 + LEAST_OFFERS)


def test_keys_that_come_in_turns_do_not_keep_each_other_out():
    cache = LRU(1000 * OFFER_COST)
    cache.put("large", "entry", 500 * OFFER_COST)
    cache.put("large too", "entry", 500 * OFFER_COST)
    for _ in range(2):
        for key in range(1500):
            cache.offer(key, "entry", 1)

    assert list(range(1500)) == kept(cache, 2000)


def test_discard_gives_the_cost_back_and_forgives_a_missing_key():
    cache = filled(3)
    cache.discard(1)
    cache.discard(1)

    assert kept(cache) == [0, 2]
    assert cache.cost == 2


def test_shrink_evicts_the_oldest():
    cache = filled(5)
    cache.shrink(2)

    assert kept(cache) == [3, 4]
    assert cache.cost == 2


def test_clear_leaves_nothing_and_the_cache_usable():
    cache = filled(5)
    cache.clear()
    assert (0, 0, []) == (cache.cost, len(cache), kept(cache))

    cache.put(7, "entry 7", 1)
    assert kept(cache) == [7]


def test_a_cache_of_no_cost_keeps_nothing_that_costs():
    cache = LRU(0)
    cache.put("key", "entry", 1)

    assert cache.get("key") is None


def test_evicting_drops_the_reference_and_whoever_uses_the_entry_keeps_it():
    class Entry:
        pass

    cache = LRU(1)
    used = Entry()
    cache.put("used", used, 1)
    cache.put("unused", entry := Entry(), 1)
    unused = weakref.ref(entry)
    del entry
    assert unused() is not None

    cache.put("next", "entry", 1)
    assert unused() is None
    assert cache.get("used") is None
    assert isinstance(used, Entry)


def test_costs_add_up_after_any_calls(seed):
    rng = random.Random(f"{seed} lru")
    cache = LRU(50, max_count=12)
    costs = {}  # of everything ever put, oldest first
    for _ in range(3000):
        key = rng.randrange(30)
        step = rng.choice(("put", "put", "get", "discard"))
        if step == "put":
            costs.pop(key, None)
            cost = rng.randrange(60)
            cache.put(key, cost, cost)
            if cost <= 50:
                costs[key] = cost
            while sum(costs.values()) > 50 or len(costs) > 12:
                del costs[next(iter(costs))]
        elif step == "get":
            assert costs.get(key) == cache.get(key)
            if key in costs:
                costs[key] = costs.pop(key)
        else:
            cache.discard(key)
            costs.pop(key, None)
        assert (sum(costs.values()), len(costs)) == (cache.cost, len(cache))


@pytest.fixture
def frequent_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_find_their_entries_and_leave_the_costs_right(seed, frequent_switches):
    """`next(iter(entries))` chose what to evict once, and failed when a `get` moved an entry meanwhile."""
    cache = LRU(50)
    failures = []

    def work(number):
        rng = random.Random(f"{seed} lru {number}")
        try:
            for _ in range(20_000):
                key = rng.randrange(100)
                entry = cache.get(key)
                if entry is None:
                    cache.put(key, key + 1, 1)
                elif entry != key + 1:
                    failures.append((key, entry))
        except BaseException as exc:
            failures.append(exc)

    in_threads(work, range(4))

    assert failures == []
    assert cache.cost == len(cache) <= 50


class Interrupt(BaseException):
    pass


def interrupt(cache):
    raise Interrupt


def at_opcode(number, action, function, cache):
    """Call `function`, and before opcode `number` of it in lru.py `action`; return whether it had so many."""
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if not frame.f_code.co_filename.endswith("lru.py"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == number + 1:
                action(cache)
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12.1 wants to know when tracing begins
    sys.settrace(trace)
    try:
        function(cache)
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
    return seen > number


def check_works(cache):
    """Use the cache; that must raise nothing, and emptying it must put everything right."""
    for key in range(40):
        cache.put(key % 13, f"entry {key}", 1)
        assert cache.get(key % 13) in (f"entry {key}", None)
        cache.discard((key + 5) % 13)
    assert len(cache) <= 7  # the costliest entry of CALLS may have been charged to nobody
    cache.clear()
    cache.put("key", "entry", 5)
    assert (5, "entry") == (cache.cost, cache.get("key"))


CALLS = {
    "replace": lambda cache: cache.put(2, "new", 1),
    "evict": lambda cache: cache.put(9, "new", 2),
    "get": lambda cache: cache.get(2),
    "discard": lambda cache: cache.discard(2),
    "shrink": lambda cache: cache.shrink(1),
    "offer": lambda cache: [cache.offer(9, "new", 2) for _ in range(2)],
}
ACTIONS = {
    "interrupt": interrupt,
    "reorder": lambda cache: cache.get(0),
    "enter": lambda cache: cache.put("inner", "entry", 1),
    "evict all": lambda cache: cache.put("inner", "entry", 5),
    "clear": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("action", ACTIONS)
def test_whatever_happens_in_the_middle_of_a_call_breaks_nothing(call, action):
    """At each opcode: an exception from outside, or a use of the cache by a handler or another thread."""
    number = 0
    while True:
        cache = filled(5, max_cost=5)
        if not at_opcode(number, ACTIONS[action], CALLS[call], cache):
            break
        check_works(cache)
        number += 1
    assert number > 10
