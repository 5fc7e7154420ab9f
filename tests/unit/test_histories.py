"""The checker of histories: what it accepts, and what it must refuse."""

import pytest

from support.histories import Call, History, NotLinearizable, check_register


def calls(*lines):
    """Calls from lines like "0 3 put a", "1 2 get -"."""
    found = []
    for line in lines:
        made, returned, name, given, *answer = line.split()
        value = None if given == "-" else given.encode()
        if name in ("get", "pop"):
            found.append(Call(int(made), int(returned), name, None, value))
        else:
            told = answer[0].encode() if answer else None
            found.append(Call(int(made), int(returned), name, value, told))
    return found


LINEARIZABLE = {
    "nothing": [],
    "one after the other": ["0 1 get -", "2 3 put a", "4 5 get a", "6 7 pop a", "8 9 get -"],
    "a get beside a put sees it": ["0 3 put a", "1 2 get a"],
    "a get beside a put does not see it": ["0 3 put a", "1 2 get -"],
    "two gets beside a put see it one after the other": ["0 9 put a", "1 2 get -", "3 4 get a"],
    "two puts at once in either order": ["0 3 put a", "1 2 put b", "4 5 get a"],
    "one of two pops gets it": ["0 1 put a", "2 5 pop a", "3 4 pop -"],
    "a put between two that overlap": ["0 1 put a", "2 9 pop b", "3 4 put b", "5 6 get -"],
    "setdefault finds what is there": ["0 1 put a", "2 3 setdefault b a", "4 5 get a"],
    "a deletion finds what is there, once": ["0 1 put a", "2 5 delete - x", "3 4 delete -", "6 7 get -"],
    "increments in either order": ["0 3 increment 2 5", "1 2 increment 3 3", "4 5 get 5"],
    "an increment begins anew behind a pop": ["0 1 increment 2 2", "2 3 pop 2", "4 5 increment 3 3"],
    "setdefault sets what is missing": ["0 1 setdefault b b", "2 3 get b"],
}
NOT_LINEARIZABLE = {
    "a value that nobody wrote": ["0 1 put a", "2 3 get b"],
    "a stale read": ["0 1 put a", "2 3 put b", "4 5 get a"],
    "a lost write": ["0 1 put a", "2 3 get -"],
    "a deletion that comes back": ["0 1 put a", "2 3 pop a", "4 5 get a"],
    "two pops of one value": ["0 1 put a", "2 5 pop a", "3 4 pop a"],
    "two deletions of one value": ["0 1 put a", "2 5 delete - x", "3 4 delete - x"],
    "a deletion that misses what is there": ["0 1 put a", "2 3 delete -"],
    "an increment that is lost": ["0 3 increment 2 2", "1 2 increment 3 3", "4 5 get 5"],
    "two gets beside a put in the wrong order": ["0 9 put a", "1 2 get a", "3 4 get -"],
    "two that set what was missing": ["0 3 setdefault a a", "1 2 setdefault b b"],
    "readers that disagree on the order": [
        "0 9 put a",
        "1 8 put b",
        "2 3 get a",
        "4 5 get b",
        "6 7 get a",
    ],  # fmt: skip
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_a_history_with_an_order_is_accepted(name):
    check_register(calls(*LINEARIZABLE[name]))


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_a_history_without_an_order_is_refused(name):
    with pytest.raises(NotLinearizable):
        check_register(calls(*NOT_LINEARIZABLE[name]))


def test_a_history_notes_what_is_called():
    history, held = History(), {}
    history.call("put", b"k", b"a", held.__setitem__, b"k", b"a")
    assert b"a" == history.call("get", b"k", None, held.get, b"k")
    history.look([b"k", b"other"], held.copy)
    assert 4 == history.count()
    history.check()
    history.call("get", b"k", None, {}.get, b"k")
    with pytest.raises(NotLinearizable, match="^b'k': "):
        history.check()
