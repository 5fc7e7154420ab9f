import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base import chunk
from lsmdbm._base.chunk import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    bounds,
    check_key,
    check_value,
    clip,
    prefix_stop,
)

letters = st.binary(max_size=3).map(lambda data: bytes(b"\x00a\xff"[byte % 3] for byte in data))
sorted_keys = st.lists(letters, unique=True).map(sorted)
ends = st.none() | letters


def test_limits_are_what_the_format_can_hold():
    assert (64 << 10, 1 << 30) == (MAX_KEY_BYTES, MAX_VALUE_BYTES)


@pytest.mark.parametrize(
    ("check", "limit", "noun"),
    [(check_key, "MAX_KEY_BYTES", "key"), (check_value, "MAX_VALUE_BYTES", "value")],
)
def test_the_limit_itself_is_allowed_and_one_byte_more_is_refused(check, limit, noun, monkeypatch):
    monkeypatch.setattr(chunk, limit, 10)

    assert check(b"") == b""
    assert check(b"x" * 10) == b"x" * 10
    with pytest.raises(ValueError, match=f"^{noun} of 11 bytes: the limit is 10$"):
        check(b"x" * 11)


@given(sorted_keys, ends, ends)
def test_bounds_include_start_and_exclude_stop(keys, start, stop):
    low, high = bounds(keys, start, stop)

    expected = [key for key in keys if (start is None or start <= key) and (stop is None or key < stop)]
    assert expected == keys[low:high]
    assert 0 <= low <= high <= len(keys)


@given(sorted_keys, ends, ends)
def test_clip_keeps_keys_and_values_together(keys, start, stop):
    low, high = bounds(keys, start, stop)
    values = [None if index % 3 == 0 else b"%d" % index for index in range(len(keys))]

    assert (keys[low:high], values[low:high]) == clip((keys, values), start, stop)


def test_clip_of_nothing_gives_the_chunk_itself_and_never_changes_it():
    whole = ([b"a", b"b"], [b"1", None])

    assert clip(whole, None, None) is whole
    assert clip(whole, b"a", b"c") is whole
    assert clip(whole, b"b", None) == ([b"b"], [None])
    assert whole == ([b"a", b"b"], [b"1", None])


@given(letters, letters)
def test_prefix_stop_parts_keys_with_the_prefix_from_those_above(prefix, key):
    stop = prefix_stop(prefix)

    assert key.startswith(prefix) == (prefix <= key and (stop is None or key < stop))


@pytest.mark.parametrize(
    ("prefix", "stop"),
    [(b"", None), (b"\xff\xff", None), (b"a\xff\xff", b"b"), (b"\x00", b"\x01"), (b"ab", b"ac")],
)
def test_prefix_stop_carries_over_the_highest_byte(prefix, stop):
    assert stop == prefix_stop(prefix)
