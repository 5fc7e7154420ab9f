"""Messages between a process and its worker: what is sent is what comes, in whatever pieces."""

import random

import pytest

from lsmdbm._base.errors import ClosedError, CorruptionError, error
from lsmdbm._base.options import Options
from lsmdbm._format import messages
from lsmdbm._format.coding import Malformed
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.messages import (
    CORRUPT,
    FAILED,
    REFUSED,
    Failure,
    Frames,
    Order,
    Outputs,
    Progress,
    encode,
)

SHAPE = Options(compression=None, compression_level=-3, block_bytes=77).shape()


def table(number):
    return TableMeta(number, 1 << 40, 0xFFFFFFFF, 5, 2, 3000, 7, 9, b"a" * number, b"b\0\xff")


ORDER = Order(
    "/tmp/d\udcffb/\u00e9",  # as a path that is no UTF-8 comes from the system
    ((1 << 64) - 1, 3),
    (17, 40),
    1 << 32,
    5,
    SHAPE,
    2,
    ((table(1),), (table(2), table(3))),
    ((), (table(4),)),
)
MESSAGES = {
    "order": ORDER,
    "progress": Progress(1 << 40),
    "outputs": Outputs((table(1), table(2))),
    "no outputs": Outputs(()),
    "refused": Failure(REFUSED, "\u00e9"),
    "failed": Failure(FAILED, "No space left on device", 28, "/db/000001.sst"),
    "corrupt": Failure(CORRUPT, "rot", -1, "/db"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_sent_is_what_comes(name):
    assert [MESSAGES[name]] == Frames().feed(encode(MESSAGES[name]))


def test_frames_come_in_whatever_pieces(seed):
    rng = random.Random(f"{seed} pieces")
    sent = [rng.choice(list(MESSAGES.values())) for _ in range(50)]
    data = b"".join(map(encode, sent))
    frames, came = Frames(), []
    while data:
        size = rng.choice((1, 2, 5, 100, 1000))
        came += frames.feed(data[:size])
        data = data[size:]

    assert sent == came


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_cut_short_or_too_many_are_no_message(name):
    frame = encode(MESSAGES[name])[4:]
    for wrong in [frame[:length] for length in range(len(frame))] + [frame + b"\0"]:
        with pytest.raises(Malformed):
            messages.decode(wrong)


@pytest.mark.parametrize(
    "frame", [b"", b"\0", b"\x09", b"\x03\0\0\0\0", b"\x04\0" + b"\0" * 8 + b"\1\0\0\0\xff"]
)
def test_other_bytes_are_no_message(frame):
    with pytest.raises(Malformed):
        messages.decode(frame)


def test_a_length_over_the_limit_is_not_waited_for():
    with pytest.raises(Malformed, match="frame of"):
        Frames().feed(b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    ("exc", "kind", "text"),
    [
        (CorruptionError("/db/1.sst", 17, "rot"), CorruptionError, "/db/1.sst, offset 17: rot"),
        (error(28, "No space left", "/db/2.sst"), error, "[Errno 28] No space left: '/db/2.sst'"),
    ],
)
def test_an_error_arrives_as_what_it_is(exc, kind, text):
    found = Failure.of(exc).exception()

    assert (kind, text) == (type(found), str(found))
    assert getattr(exc, "errno", None) == found.errno


@pytest.mark.parametrize("exc", [error("without a number"), ClosedError(), MemoryError("x"), ValueError()])
def test_what_is_the_workers_own_trouble_is_no_error(exc):
    failure = Failure.of(exc)

    assert (REFUSED, None) == (failure.cause, failure.exception())
    assert failure.text.startswith(type(exc).__name__)
