"""The battery finds a mapping that does one thing wrong."""

import random

import pytest

from lsmdbm.database import open_on
from lsmdbm.decoded_range import DecodedRange
from lsmdbm.text import Text, text_coding
from support.battery import everything_about, expected_about, selection, walk
from support.crash_storage import CrashStorage

KEYS = ["", "a", "ab", "b", "key"]


def keeps(mapping, key, *default):
    return mapping[key] if key in mapping or not default else default[0]


class OffRange(DecodedRange):
    """Its last entry is its first."""

    def last(self):
        return self.first()


FAULTS = {
    "pop keeps the entry": {"pop": keeps},
    "popitem takes the last": {"popitem": lambda self: (key := self.lastkey(), self.pop(key))},
    "clear does nothing": {"clear": lambda self: None},
    "length is one too large": {"__len__": lambda self: Text.__len__(self) + 1},
    "get ignores its default": {"get": lambda self, key, default=None: Text.get(self, key)},
    "setdefault replaces": {"setdefault": lambda self, key, value: self.update({key: value}) or value},
    "update takes one pair": {
        "update": lambda self, pairs, **more: Text.update(self, [*dict(pairs).items()][:1], **more)
    },
    "delete forgives": {"__delitem__": lambda self, key: self.pop(key, None)},
    "keys are in no order": {"__reversed__": Text.__iter__},
    "values are others": {"__getitem__": lambda self, key: Text.__getitem__(self, key) + b"x"},
    "equality is of lengths": {"__eq__": lambda self, other: len(other) > 2, "__hash__": None},
    "ranges end elsewhere": {"_over": lambda self, stored: OffRange(self._coding, stored)},
    "ranges ignore a bound": {
        "range": lambda self, start=None, stop=None, **more: Text.range(self, start, **more)
    },
}


def walked(kind):
    with open_on(CrashStorage(), "/db", "c", 0o666, {}) as db:
        return walk(kind(db, text_coding(None)), random.Random(5), KEYS, [b"1", b"2"], steps=400)


def test_a_mapping_without_faults_passes():
    assert walked(Text)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault):
    kind = type("Faulty", (Text,), FAULTS[fault])

    with pytest.raises(AssertionError, match="expected"):
        walked(kind)


def test_a_selection_is_what_a_range_holds():
    model = {"b": 2, "a": 1, "ab": 3, "c": 4}

    assert [("a", 1), ("ab", 3), ("b", 2)] == selection(model, None, "c", None, False)
    assert [("ab", 3), ("a", 1)] == selection(model, "a", None, "a", True)
    assert [("c", 4), ("b", 2)] == selection(model, "c", "a", None, False, lambda key: -ord(key[0]))[:2]


def test_an_empty_and_a_full_expectation_name_the_same_things():
    with open_on(CrashStorage(), "/db", "c", 0o666, {}) as db:
        text = db.text()
        assert expected_about([]) == everything_about(text.range())
        text["a"] = b"1"
        assert expected_about([("a", b"1")]) == everything_about(text.range())
