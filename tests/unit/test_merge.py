import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._engine.merge import combine, merge, merge_spans, survivors, visible
from support.format import chunks_of, entries_of
from support.stage import chunk, live, merged

keys = st.binary(max_size=2)
layers = st.lists(st.dictionaries(keys, st.none() | st.binary(max_size=1), max_size=40), max_size=6)


def random_layers(rng, count, key_count=60):
    """Return random dicts, the newest first; each says in its values which one it is."""
    return [
        {
            b"%04d" % rng.randrange(key_count): rng.choice((None, b"%d" % number, b"%d" % number))
            for _ in range(rng.choice((0, 1, 5, 50, 200)))
        }
        for number in range(count)
    ]


def sources(layers, rng, *, reverse=False):
    """Return each layer as a stream of chunks of random lengths."""
    streams = [list(chunks_of(sorted(layer.items()), rng)) for layer in layers]
    return [iter(stream[::-1] if reverse else stream) for stream in streams]


def read(chunks, *, reverse=False):
    found = list(chunks)
    return entries_of(found[::-1] if reverse else found)


# combine


def test_combining_one_part_gives_the_part_itself():
    part = chunk({b"a": b"1"})

    assert combine([part]) is part


@given(layers.filter(any))
def test_combining_parts_gives_their_union_the_newest_winning(layers):
    assert chunk(merged(layers)) == combine([chunk(layer) for layer in layers if layer])


# merge


@pytest.mark.parametrize("reverse", [False, True])
@given(layers=layers, rng=st.randoms(use_true_random=False))
def test_merge_is_the_union_the_newest_winning(reverse, layers, rng):
    found = merge(sources(layers, rng, reverse=reverse), reverse=reverse)

    assert list(merged(layers).items()) == read(found, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_merge_of_many_sources_is_their_union(seed, reverse):
    rng = random.Random(f"{seed} merge")
    for count in (*range(12), 40):
        for key_count in (10, 1000):
            layers = random_layers(rng, count, key_count)
            found = list(merge(sources(layers, rng, reverse=reverse), reverse=reverse))

            assert list(merged(layers).items()) == read(found, reverse=reverse), f"seed {seed}"
            assert all(chunk_keys for chunk_keys, _ in found), f"seed {seed}"


@pytest.mark.parametrize("reverse", [False, True])
def test_newest_wins_also_where_the_older_source_has_the_longer_chunks(reverse):
    older = {b"%03d" % number: b"old" for number in range(100)}
    newer = {b"000": b"new", b"050": None, b"099": b"new"}
    streams = [[chunk({key: value}) for key, value in newer.items()], [chunk(older)]]
    found = merge((iter(stream[::-1] if reverse else stream) for stream in streams), reverse=reverse)

    assert list({**older, **newer}.items()) == read(found, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_single_source_passes_as_the_very_same_lists(reverse):
    chunks = [chunk({b"a": b"1", b"b": None}), chunk({b"c": b"2"})]
    found = list(merge([iter(()), iter(chunks), iter(())], reverse=reverse))

    assert [(id(one), id(other)) for one, other in chunks] == [(id(one), id(other)) for one, other in found]


@pytest.mark.parametrize("reverse", [False, True])
def test_whole_chunks_that_overlap_nothing_pass_as_the_very_same_lists(reverse):
    low, middle, high = chunk({b"a": b"1"}), chunk({b"b": b"2", b"c": None}), chunk({b"d": b"3"})
    one = [high, low] if reverse else [low, high]
    found = list(merge([iter([middle]), iter(one)], reverse=reverse))

    expected = [high, middle, low] if reverse else [low, middle, high]
    assert list(map(id, (chunk_keys for chunk_keys, _ in expected))) == [
        id(chunk_keys) for chunk_keys, _ in found
    ]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("streams", [[], [[]], [[], [], []]])
def test_merge_of_nothing_is_nothing(streams, reverse):
    assert [] == list(merge(map(iter, streams), reverse=reverse))


@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_of_a_merge_are_made_as_they_are_asked_for(reverse):
    """A read of the first entry must not read the rest of each source."""
    taken = []

    def source(name):
        for number in range(9, -1, -1) if reverse else range(10):
            taken.append((name, number))
            yield chunk({b"%d%s" % (number, name): b"x"})

    found = merge([source(b"a"), source(b"b")], reverse=reverse)
    next(found)

    assert 2 == len(taken)
    next(found)
    assert len(taken) <= 3


def test_chunks_that_went_in_are_not_changed():
    newer, older = chunk({b"a": b"1", b"c": b"1"}), chunk({b"b": None, b"c": b"2", b"d": b"2"})
    for reverse in (False, True):
        list(merge([iter([newer]), iter([older])], reverse=reverse))

    assert (chunk({b"a": b"1", b"c": b"1"}), chunk({b"b": None, b"c": b"2", b"d": b"2"})) == (newer, older)


@pytest.mark.parametrize("reverse", [False, True])
def test_merge_of_sources_out_of_order_ends(seed, reverse):
    """Nothing sorts what a damaged table says, and the merge must not run for ever on it."""
    rng = random.Random(f"{seed} disorder")
    for _ in range(300):
        streams, chunk_count = [], 0
        for _ in range(rng.randrange(1, 5)):
            stream = [
                ([rng.randbytes(1) for _ in range(length)], [b"x"] * length)
                for length in (rng.randrange(1, 5) for _ in range(rng.randrange(5)))
            ]
            streams.append(iter(stream))
            chunk_count += len(stream)
        found = merge(streams, reverse=reverse)

        assert sum(1 for _ in zip(found, range(chunk_count + 1), strict=False)) <= chunk_count, f"seed {seed}"


# visible and survivors


@given(layers, st.randoms(use_true_random=False))
def test_visible_drops_tombstones_and_empty_chunks(layers, rng):
    found = list(visible(merge(sources(layers, rng))))

    assert list(live(layers).items()) == entries_of(found)
    assert all(chunk_keys for chunk_keys, _ in found)


def test_visible_passes_chunks_without_tombstones_as_the_very_same_lists():
    whole = chunk({b"a": b"1", b"b": b""})
    (found,) = visible(iter([whole]))

    assert (id(whole[0]), id(whole[1])) == (id(found[0]), id(found[1]))


def test_survivors_are_all_but_tombstones_at_the_bottom():
    entries = {b"a": b"1", b"b": None, b"c": None, b"d": b"", b"e": None}

    assert chunk({b"a": b"1", b"c": None, b"d": b""}) == survivors(chunk(entries), lambda key: key != b"c")
    assert chunk({b"a": b"1", b"d": b""}) == survivors(chunk(entries), lambda key: True)
    assert chunk(entries) == survivors(chunk(entries), lambda key: False)
    assert ([], []) == survivors(chunk({b"b": None}), lambda key: True)


def test_survivors_ask_about_deleted_keys_alone():
    asked = []
    survivors(chunk({b"a": b"1", b"b": None, b"c": b"2"}), lambda key: bool(asked.append(key)))
    whole = chunk({b"a": b"1"})

    assert [b"b"] == asked
    assert whole is survivors(whole, asked.append)


# merge_spans


class Span:
    def __init__(self, entries, lower, upper):
        self.lower, self.upper = lower, upper
        self.entries = entries
        self.loads = 0

    def __repr__(self):
        return f"{self.lower!r} .. {self.upper!r}: {list(self.entries)}"

    def load(self):
        self.loads += 1
        return chunk(self.entries)


def exact(*chunks):
    """Return a source whose bounds are those of the keys."""
    return [Span(entries, min(entries), max(entries)) for entries in chunks]


def conservative(entries, rng):
    """Return entries as spans of random lengths whose bounds may be as far from the keys as is allowed."""
    spans, below = [], None
    chunks = [dict(entries_of([part])) for part in chunks_of(sorted(entries.items()), rng)]
    for number, part in enumerate(chunks):
        first, last = min(part), max(part)
        lower = first if below is None else rng.choice((first, below))
        upper = last
        if number + 1 < len(chunks):
            room = last + b"~"  # below every other key that is above `last`
            upper = rng.choice((last, room if room < min(chunks[number + 1]) else last))
        spans.append(Span(part, lower, upper))
        below = upper
    return spans


def flattened(pieces):
    return [
        entry
        for piece in pieces
        for entry in (sorted(piece.entries.items()) if isinstance(piece, Span) else entries_of([piece]))
    ]


def overlap(one, other):
    return one.lower <= other.upper and other.lower <= one.upper


def check_merge(sources):
    """Merge sources of spans; return the pieces, of which everything promised holds."""
    pieces = list(merge_spans(map(iter, sources)))
    expected = merged(
        {key: value for span in source for key, value in span.entries.items()} for source in sources
    )
    assert list(expected.items()) == flattened(pieces)

    spans = {id(span): number for number, source in enumerate(sources) for span in source}
    unread = [piece for piece in pieces if isinstance(piece, Span)]
    assert [0] * len(unread) == [span.loads for span in unread]
    assert all(span.loads <= 1 for source in sources for span in source)
    for number, source in enumerate(sources):
        others = [span for i, other in enumerate(sources) if i != number for span in other]
        for span in source:
            if not any(overlap(span, other) for other in others):
                assert any(span is piece for piece in unread), span
    for span in unread:
        others = [s for i, other in enumerate(sources) if i != spans[id(span)] for s in other]
        assert not any(min(span.entries) <= key <= max(span.entries) for s in others for key in s.entries)
    return pieces


def test_spans_of_a_single_source_come_out_unread_and_in_order():
    source = exact({b"a": b"1"}, {b"b": b"2", b"c": None}, {b"d": b"3"})

    assert source == check_merge([source])


def test_spans_that_interleave_without_overlapping_come_out_unread():
    one = exact({b"a": b"1", b"b": b"1"}, {b"e": b"1", b"f": b"1"})
    other = exact({b"c": b"2", b"d": b"2"}, {b"g": b"2", b"h": b"2"})

    assert [one[0], other[0], one[1], other[1]] == check_merge([one, other])


def test_only_spans_that_overlap_are_read():
    newer = exact({b"d": b"new"})
    older = exact({b"a": b"1", b"b": b"1"}, {b"c": b"2", b"e": b"2"}, {b"f": b"3"})
    pieces = check_merge([newer, older])

    assert [0, 1, 0] == [span.loads for span in older]
    assert older[0] is pieces[0]
    assert older[2] is pieces[-1]
    assert [(b"c", b"2"), (b"d", b"new"), (b"e", b"2")] == flattened(pieces[1:-1])


def test_span_inside_the_gap_of_an_unread_one_is_not_told_apart_by_its_bounds():
    """Bounds say only where keys may be: both are read, and come out in order."""
    wide, narrow = exact({b"a": b"1", b"z": b"1"}), exact({b"m": b"2"})
    pieces = check_merge([wide, narrow])

    assert [1, 1] == [wide[0].loads, narrow[0].loads]
    assert [b"a", b"m", b"z"] == [key for key, _ in flattened(pieces)]


def test_newest_source_wins_in_spans():
    pieces = check_merge(
        [exact({b"a": None}), exact({b"a": b"2", b"b": b"2"}), exact({b"a": b"3", b"c": b"3"})]
    )

    assert [(b"a", None), (b"b", b"2"), (b"c", b"3")] == flattened(pieces)


def test_bounds_that_touch_at_one_key_count_as_overlap():
    newer, older = exact({b"a": b"new", b"b": b"new"}), exact({b"b": b"old", b"c": b"old"})
    pieces = check_merge([newer, older])

    assert [(b"a", b"new"), (b"b", b"new"), (b"c", b"old")] == flattened(pieces)


def test_what_is_left_of_a_read_span_is_judged_by_its_next_key():
    long = exact({b"a": b"1", b"x": b"1"})
    short = exact({b"b": b"2"}, {b"d": b"2", b"e": b"2"}, {b"f": b"2", b"w": b"2"})
    pieces = check_merge([long, short])

    assert [1, 0, 0] == [span.loads for span in short]
    assert short[1:] == [piece for piece in pieces if isinstance(piece, Span)]


def test_span_without_a_key_in_its_lower_part_loses_nothing():
    """A lower bound is the separator of the span before, often far below the first key."""
    one = [Span({b"a": b"1"}, b"a", b"b"), Span({b"x": b"1"}, b"b", b"x")]
    other = exact({b"c": b"2"}, {b"d": b"2", b"y": b"2"})

    assert [b"a", b"c", b"d", b"x", b"y"] == [key for key, _ in flattened(check_merge([one, other]))]


def test_merge_of_no_spans_is_nothing():
    assert [] == list(merge_spans([]))
    assert [] == list(merge_spans([iter(()), iter(())]))


def test_spans_are_taken_from_their_sources_only_when_their_turn_comes():
    taken = []

    def source():
        for span in exact(*({b"%02d" % number: b"x"} for number in range(20))):
            taken.append(span)
            yield span

    pieces = merge_spans([source()])
    next(pieces)

    assert 1 == len(taken)


@given(layers, st.randoms(use_true_random=False))
def test_merge_of_spans_is_the_union_the_newest_winning(layers, rng):
    check_merge([conservative(layer, rng) for layer in layers])


def test_merge_of_many_sources_of_spans_is_their_union(seed):
    rng = random.Random(f"{seed} spans")
    unread = 0
    for _ in range(60):
        layers = random_layers(rng, rng.randrange(1, 8), rng.choice((20, 2000)))
        pieces = check_merge([conservative(layer, rng) for layer in layers])
        unread += sum(isinstance(piece, Span) for piece in pieces)

    assert unread > 0
