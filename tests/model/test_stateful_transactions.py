"""Transactions, open side by side over one small database, do what a dict with versions says.

Others write, delete ranges, flush and compact meanwhile.  The model says of each commit which keys it may be
in conflict with: if there are any, it must be, and name one; else it must succeed.
"""

import itertools
from contextlib import nullcontext

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import lsmdbm
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.isolation import Isolated
from support.model import Model, sum_of

PATH = "/db"
KEYS = [b"", *(b"%d" % number for number in range(6)), b"3\x00", b"\xff"]

keys = st.sampled_from(KEYS)
bounds = st.none() | keys
numbers = st.integers(-2, 2)
places = st.integers(0, 3)  # of what is open
values = st.sampled_from([b"0", b"1", b"text", b"v" * 100])
options = st.fixed_dictionaries(
    {
        "memtable_bytes": st.sampled_from([1, 256, 1 << 20]),
        "block_bytes": st.sampled_from([1, 64, 1000]),
        "cache_bytes": st.sampled_from([0, 1 << 20]),
        "background": st.sampled_from(["inline", "manual"]),
        "compaction": st.sampled_from(["leveled", "tiered"]),
    }
)


class Open:
    """A transaction under way, what it must say, and its savepoints with theirs."""

    def __init__(self, handle, expected):
        self.handle = handle
        self.tx = handle.transaction()
        self.expected = expected
        self.points = []

    def walk(self, start, stop, reverse, count, keys_only):
        """Read a part of a range, from either end; return the last key that was seen."""
        part = self.tx.range(start, stop, reverse=reverse)
        expected = self.expected.walk(start, stop, reverse=reverse, keys_only=keys_only, count=count)
        if keys_only:
            assert [key for key, _ in expected] == [*itertools.islice(part, count)]
        elif count is None and reverse:  # the same, by the other means
            part = self.tx.range(start, stop)
            assert expected == [*reversed(part.items())]
        else:
            assert expected == [*itertools.islice(part.items(), count)]
        if count is None:
            assert self.expected.length(start, stop) == len(part)
        return expected[-1][0] if expected else None

    def commit(self, model):
        """Commit; return whether it had to be, and was, in conflict with the model as it is now."""
        conflicts = self.expected.conflicts(model)
        if not conflicts:
            self.tx.commit()
            return False
        with pytest.raises(lsmdbm.ConflictError) as caught:
            self.tx.commit()
        assert any(str(caught.value).startswith(f"{key!r} was changed") for key in conflicts), caught.value
        return True


def key_error_if(expected):
    return pytest.raises(KeyError) if expected else nullcontext()


class TransactionsAndModel(RuleBasedStateMachine):
    """One database, its content, and transactions with what each must say."""

    @initialize(options=options, present=st.sets(keys), is_flushed=st.booleans())
    def begin(self, options, present, is_flushed):
        self.options = options
        self.storage = CrashStorage()
        self.db = open_on(self.storage, PATH, "c", 0o666, options)
        self.model = Model({key: b"1" for key in present})
        self.db.update(self.model.entries)
        if is_flushed:
            self.db.flush()
        self.transactions = []
        self.snapshots = []

    def teardown(self):
        if hasattr(self, "db"):
            self.close_and_open_again()
            self.db.close()
            assert not self.storage.locked

    @rule()
    def close_and_open_again(self):
        for snapshot, model in self.snapshots:
            assert model.range() == [*snapshot.items()]
        self.db.close()
        for each in self.transactions:
            with pytest.raises(lsmdbm.ClosedError):
                each.tx.commit()
        self.transactions, self.snapshots = [], []
        self.db = open_on(self.storage, PATH, "w", 0o666, self.options)
        self.same()

    def same(self):
        assert self.model.range() == [*self.db.items()]
        assert len(self.model) == len(self.db)

    # -- others -------------------------------------------------------------------------------------

    @rule(key=keys, value=st.none() | values)
    def others_write(self, key, value):
        if value is None:
            self.db.pop(key, None)
        else:
            self.db[key] = value
        self.model.update([(key, value)])

    @rule(start=bounds, stop=bounds, changes=st.lists(st.tuples(keys, st.none() | values), max_size=3))
    def others_write_much(self, start, stop, changes):
        with self.db.batch() as batch:
            batch.delete_range(start, stop)
            for key, value in changes:
                batch.delete(key) if value is None else batch.put(key, value)
        self.model.delete_range(start, stop)
        self.model.update(changes)

    @rule(key=keys, delta=numbers)
    def others_count(self, key, delta):
        expected = sum_of(self.model.get(key), delta)
        if expected is not None:
            assert expected == self.db.increment(key, delta)
            self.model.put(key, b"%d" % expected)

    @rule(care=st.sampled_from(["flush", "flush", "compact", "firstkey", "keys", "clear"]))
    def care(self, care):
        getattr(self.db, care)()
        if care == "clear":
            self.model.clear()

    @rule()
    def keep_a_snapshot(self):
        self.snapshots.append((self.db.snapshot(), self.model.copy()))
        for snapshot, model in self.snapshots[:-3]:
            assert model.range() == [*snapshot.items()]
            assert model.range(reverse=True) == [*snapshot.range(reverse=True).items()]
            snapshot.close()
        del self.snapshots[:-3]

    # -- transactions -------------------------------------------------------------------------------

    transacting = precondition(lambda self: self.transactions)

    def chosen_transaction(self, chosen):
        return self.transactions[chosen % len(self.transactions)]

    @precondition(lambda self: len(self.transactions) < 4)
    @rule()
    def begin_a_transaction(self):
        self.transactions.append(Open(self.db, Isolated(self.model)))

    @transacting
    @rule(
        chosen=places,
        kind=st.sampled_from(["put", "put", "pop", "setdefault", "increment", "popitem"]),
        key=keys,
        value=values,
        delta=numbers,
    )
    def change_one_key_in_a_transaction(self, chosen, kind, key, value, delta):
        each = self.chosen_transaction(chosen)
        tx, expected = each.tx, each.expected
        if kind == "put":
            tx[key] = value
            expected.put(key, value)
        elif kind == "pop":
            assert expected.pop(key) == tx.pop(key, None)
        elif kind == "setdefault":
            found = expected.get(key)
            if found is None:
                expected.put(key, value)
            assert (value if found is None else found) == tx.setdefault(key, value)
        elif kind == "increment" and (number := sum_of(expected.get(key), delta)) is not None:
            expected.put(key, b"%d" % number)
            assert number == tx.increment(key, delta)
        elif kind == "increment":
            with pytest.raises(ValueError, match="no decimal integer"):
                tx.increment(key, delta)
        else:
            first = expected.end(None, None, reverse=False)
            with key_error_if(first is None):
                assert first == tx.popitem()
            if first is not None:
                expected.model.delete(first[0])
                expected.written.add(first[0])

    @transacting
    @rule(chosen=places, pairs=st.lists(st.tuples(keys, values), max_size=3))
    def update_a_transaction(self, chosen, pairs):
        each = self.chosen_transaction(chosen)
        each.tx.update(pairs)
        for key, value in pairs:
            each.expected.put(key, value)

    @transacting
    @rule(chosen=places, start=bounds, stop=bounds, is_range=st.booleans())
    def delete_a_range_in_a_transaction(self, chosen, start, stop, is_range):
        each = self.chosen_transaction(chosen)
        each.expected.delete_range(start, stop)
        if is_range:
            each.tx.range(start, stop).delete()
        else:
            each.tx.delete_range(start, stop)

    @transacting
    @rule(
        chosen=places,
        kind=st.sampled_from(["get", "get", "get_many", "end", "end", "length"]),
        looked_at=st.lists(keys, min_size=1, max_size=3),
        start=bounds,
        stop=bounds,
        reverse=st.booleans(),
    )
    def look_in_a_transaction(self, chosen, kind, looked_at, start, stop, reverse):
        each = self.chosen_transaction(chosen)
        tx, expected, key = each.tx, each.expected, looked_at[0]
        if kind == "get":
            found = expected.get(key)
            assert (found, found is not None) == (tx.get(key), key in tx)
        elif kind == "get_many":
            known = {each: found for each in looked_at if (found := expected.get(each)) is not None}
            assert known == tx.get_many(looked_at)
        elif kind == "length":
            assert expected.length() == len(tx)
        else:
            part = tx.range(start, stop, reverse=reverse)
            assert expected.end(start, stop, reverse=reverse) == part.first()

    @transacting
    @rule(
        chosen=places,
        start=bounds,
        stop=bounds,
        reverse=st.booleans(),
        count=st.sampled_from([0, 1, 1, 2, 3, None]),
        keys_only=st.booleans(),
    )
    def walk_in_a_transaction(self, chosen, start, stop, reverse, count, keys_only):
        self.chosen_transaction(chosen).walk(start, stop, reverse, count, keys_only)

    @transacting
    @rule(chosen=places, kind=st.sampled_from(["set", "set", "rollback", "release"]), place=places)
    def use_savepoints(self, chosen, kind, place):
        each = self.chosen_transaction(chosen)
        if kind == "set" or not each.points:
            each.points.append((each.tx.savepoint(), each.expected.mark()))
            return
        place %= len(each.points)
        point, mark = each.points[place]
        later = [point for point, _ in each.points[place + 1 :]]
        if kind == "rollback":
            point.rollback()
            each.expected.go_back(mark)
            del each.points[place + 1 :]
        else:
            point.release()
            later.append(point)
            del each.points[place:]
        for over in later:
            with pytest.raises(lsmdbm.ClosedError, match="savepoint is over"):
                over.rollback()

    @transacting
    @rule(chosen=places, kind=st.sampled_from(["commit", "commit", "commit", "rollback", "forget"]))
    def end_a_transaction(self, chosen, kind):
        each = self.transactions.pop(chosen % len(self.transactions))
        if kind == "commit" and not each.commit(self.model):
            self.model.update(each.expected.changes())
        elif kind == "rollback":
            each.tx.rollback()
        if kind != "forget":
            with pytest.raises(lsmdbm.ClosedError):
                each.tx.get(b"")

    @rule(
        order=st.sampled_from(["look, write", "write, look", "write, look, taken back"]),
        kind=st.sampled_from(["get", "end", "length", "walk", "walk", "walk"]),
        looked_at=keys,
        start=bounds,
        stop=bounds,
        reverse=st.booleans(),
        count=st.sampled_from([1, 1, 2, 3, None]),
        keys_only=st.booleans(),
        own=keys,
        value=values,
        other=st.none() | keys,
        change=st.none() | values | st.just("range"),
        care=st.sampled_from([None, None, "flush", "compact", "keys"]),
    )
    def race(
        self, order, kind, looked_at, start, stop, reverse, count, keys_only, own, value, other, change, care
    ):
        """Look, write, and have others change something, at best the last key that was seen."""
        each, chosen = Open(self.db, Isolated(self.model)), len(self.transactions)
        self.transactions.append(each)
        point, mark = each.tx.savepoint(), each.expected.mark()
        if order != "look, write":
            self.update_a_transaction(chosen, [(own, value)])
        last = own if order == "write, look, taken back" and kind == "get" else looked_at
        if kind == "walk":
            last = each.walk(start, stop, reverse, count, keys_only) or last
        else:
            self.look_in_a_transaction(chosen, kind, [last], start, stop, reverse)
        if order == "write, look, taken back":
            point.rollback()
            each.expected.go_back(mark)
        if order != "write, look":
            self.update_a_transaction(chosen, [(KEYS[-1] if order.endswith("back") else own, value)])
        key = last if other is None else other
        if change == "range":
            self.others_write_much(key, key + b"\0", [])
        else:
            self.others_write(key, change)
        if care is not None:
            self.care(care)
        self.end_a_transaction(chosen, "commit")


TestTransactionsAndModel = TransactionsAndModel.TestCase
TestTransactionsAndModel.settings = settings(stateful_step_count=50)
