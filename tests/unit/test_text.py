"""What text_coding() makes of a codec.  What users see: behaviour/test_text.py."""

import json
import pickle
import types

import pytest

from lsmdbm.text import text_coding

VALUES = [  # codec, value, as it is stored
    (None, b"\xff", b"\xff"),
    ("utf-8", "caf\u00e9", b"caf\xc3\xa9"),
    ("latin-1", "caf\u00e9", b"caf\xe9"),
    ("utf-16", "a", "a".encode("utf-16")),
    (json, {"a": [1, None]}, '{"a": [1, null]}'),
    (json, "caf\u00e9", '"caf\\u00e9"'),
    (pickle, {1, 2}, pickle.dumps({1, 2})),
    (types.SimpleNamespace(dumps=bytearray, loads=bytes), b"a", bytearray(b"a")),
]


@pytest.mark.parametrize(("codec", "value", "stored"), VALUES)
def test_codecs_store_values_and_give_them_back(codec, value, stored):
    coding = text_coding(codec)

    assert stored == coding.encode_value(value)
    assert value == coding.decode_value(stored.encode() if isinstance(stored, str) else bytes(stored))
    assert "utf-8" == coding.key_encoding


@pytest.mark.parametrize("name", ["", "no-such-encoding", "hex", "zlib", "rot13"])
def test_what_is_no_text_encoding_is_refused_when_it_is_named(name):
    with pytest.raises(LookupError):
        text_coding(name)


class WithDumps:
    dumps = pickle.dumps


class WithLoads:
    loads = pickle.loads


@pytest.mark.parametrize(
    "wrong",
    [b"utf-8", 1, object(), WithDumps(), WithLoads(), types.SimpleNamespace(dumps=1, loads=2)],
    ids=repr,
)
def test_what_is_no_codec_is_refused(wrong):
    with pytest.raises(TypeError, match=f"^codec must be .*, which {type(wrong).__name__} has not$"):
        text_coding(wrong)


@pytest.mark.parametrize("wrong", [b"a", 1, None], ids=repr)
def test_a_text_encoding_takes_str_alone(wrong):
    with pytest.raises(TypeError, match=f"^value must be str, not {type(wrong).__name__}$"):
        text_coding("utf-8").encode_value(wrong)


def test_texts_that_do_not_fit_the_encoding_are_errors():
    with pytest.raises(UnicodeEncodeError):
        text_coding("ascii").encode_value("\u00e9")
    with pytest.raises(UnicodeEncodeError):
        text_coding("utf-8").encode_value("\ud800")
    with pytest.raises(UnicodeDecodeError):
        text_coding("utf-8").decode_value(b"\xff")
