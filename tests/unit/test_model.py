"""The oracle is checked by hand: nothing else is simple enough to check it with."""

from support.model import Model


def filled():
    model = Model()
    for key in (b"b", b"a", b"\xff", b"ab", b""):
        model.put(key, b"value of " + key)
    return model


def test_keys_ascend_by_bytes():
    assert filled().keys() == [b"", b"a", b"ab", b"b", b"\xff"]


def test_writes_do_what_a_dict_does():
    model = filled()
    model.put(b"a", b"again")
    assert model.delete(b"b")
    assert not model.delete(b"b")
    model.update([(b"c", b"1"), (b"c", None), (b"d", b"2"), (b"missing", None)])
    model.update({b"e": b"3"})

    assert model == {
        b"": b"value of ",
        b"a": b"again",
        b"ab": b"value of ab",
        b"\xff": b"value of \xff",
        b"d": b"2",
        b"e": b"3",
    }
    assert (model.get(b"a"), model.get(b"b"), b"a" in model, b"b" in model) == (b"again", None, True, False)
    assert len(model) == 6


def test_an_empty_value_is_a_value():
    model = Model({b"a": b""})

    assert model.get(b"a") == b""
    assert model.delete(b"a")


def test_start_is_in_and_stop_is_out():
    model = filled()

    assert [key for key, _ in model.range(b"a", b"b")] == [b"a", b"ab"]
    assert [key for key, _ in model.range(b"a", b"b", reverse=True)] == [b"ab", b"a"]
    assert [key for key, _ in model.range(stop=b"a")] == [b""]
    assert [key for key, _ in model.range(start=b"b")] == [b"b", b"\xff"]
    assert [key for key, _ in model.range(prefix=b"a")] == [b"a", b"ab"]
    assert model.range(b"b", b"a") == []
    assert model.range(b"a", b"a\x00") == [(b"a", b"value of a")]


def test_first_and_last():
    assert (filled().first(), filled().last()) == ((b"", b"value of "), (b"\xff", b"value of \xff"))
    assert (Model().first(), Model().last()) == (None, None)


def test_ranges_and_everything_can_be_deleted():
    model = filled()
    model.delete_range(b"a", b"b")
    assert model.keys() == [b"", b"b", b"\xff"]

    model.clear()
    assert (len(model), model.keys()) == (0, [])


def test_a_copy_is_of_its_moment():
    model = filled()
    copy = model.copy()
    model.clear()

    assert copy == filled() != model
