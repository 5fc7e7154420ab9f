"""Opening, reading and writing a database of any bytes whatsoever runs no code, ends, and stays small.

The checksums of the forged files are right, so that what is wrong reaches the decoders.  Most of them are
looked at in a process of its own, which is denied more memory than may be used.
"""

import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from lsmdbm._base import chunk
from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._engine import appender, names
from lsmdbm._format import block, coding, manifest, table_reader
from lsmdbm._format.block import MAX_COUNT, encode_head
from lsmdbm._format.envelope import MAX_COMPRESSED
from support import exam, forgery
from support.budgets import Budget
from support.forgery import Part, TableParts
from support.format import patched, u32, u64
from support.fuzz import MEMORY_BYTES, MEMORY_FACTOR, Fuzz, Unsafe
from support.specimens import specimens

FILES = {"small": 200, "default": 1500, "crash": 50_000, "long": 5_000_000}
RUN = 2500  # databases that one process looks at
TESTS = Path(__file__).parents[1]
TABLE = "000005.sst"  # of the specimen "compressed"


def test_forged_databases_work_or_raise_an_error_of_ours():
    with Budget("T8", **FILES, unit="databases") as reach:
        for case in reach:
            count = RUN if reach.goal is None else min(RUN, max(1, reach.goal - reach.reached))
            for what, number in looked_at(case, count).items():
                reach.count(what, number)

    for what in ("works", "CorruptionError", "error"):
        assert reach.counts[f"read: {what}"] > reach.reached / 20
        assert reach.counts[f"write: {what}"] > reach.reached / 20
    assert reach.counts["measured"] > reach.reached / 40


def looked_at(case, count, planted="pass"):
    """Return what came of so many databases, looked at in another process."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    code = f"from support import fuzz\n{planted}\nfuzz.main({case!r}, {count})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, f"{case}: the process ended with {done.returncode}: {done.stderr.decode()}"
    found = json.loads(done.stdout)
    assert "unsafe" not in found, f"{found}\n{done.stderr.decode()}"
    return found["counts"]


# -- bombs ------------------------------------------------------------------------------------------


def base():
    return next(specimen for specimen in specimens() if specimen.name == "compressed")


def padded(count, filler):
    """So many keys, as long as their column allows."""
    return [b"%08d" % number + bytes(filler) for number in range(count)]


def largest_blocks(parts):
    """As many keys as a block may have, in a head and a body as long as they may be compressed."""
    filler = MAX_COMPRESSED // MAX_COUNT - 8 - 1
    keys = padded(3 * MAX_COUNT, filler)
    body = Part(b"\0" + u32(MAX_COMPRESSED // MAX_COUNT - 1) + bytes(MAX_COMPRESSED - MAX_COUNT), True)
    heads = [encode_head(keys[low : low + MAX_COUNT], ()) for low in range(0, len(keys), MAX_COUNT)]
    parts.blocks = [(Part(head, True), body) for head in heads]
    parts.index_head = Part(encode_head(keys[MAX_COUNT - 1 :: MAX_COUNT], ()), True)


def of_one_block(parts, head, body=b"", last=b"key"):
    parts.blocks = [(Part(head, True), Part(body, len(body) > 100))]
    parts.index_head = Part(encode_head([last], ()), True)


def all_deleted(parts):
    keys = padded(MAX_COUNT, 40)
    of_one_block(parts, encode_head(keys, range(MAX_COUNT)), last=keys[-1])


def one_large_value(parts):
    value = b"\0" + u32(MAX_COMPRESSED - 5) + bytes(MAX_COMPRESSED - 5)
    of_one_block(parts, encode_head([b"key"], ()), value)


def largest_index(parts):
    """Separators of 64 KiB, as many as fit into a compressed index; and all the inputs metadata can have."""
    count = MAX_COMPRESSED // (chunk.MAX_KEY_BYTES + 8)
    keys = padded(count, chunk.MAX_KEY_BYTES - 8)
    parts.blocks = [(Part(encode_head([key], ()), True), Part(b"\0" + u32(0), False)) for key in keys]
    parts.index_head = Part(encode_head(keys, ()), True)
    raw, inputs = parts.metadata.raw, (MAX_COMPRESSED - 300) // 8
    bounds = raw[45 + 8 * int.from_bytes(raw[41:45], "little") :]
    parts.metadata = Part(raw[:41] + u32(inputs) + bytes(8 * inputs) + bounds, True)


def more_keys_than_allowed(parts):
    of_one_block(parts, u32(3 << 19) + b"\1\1" + u32(5 + (3 << 20)) + b"\0" + u32(2) + bytes(3 << 20))


def empty_keys(parts):
    size = MAX_COMPRESSED - 20
    head = u32(size + 1) + b"\1\1" + u32(2 + size) + b"\2\0" + bytes(size)
    of_one_block(parts, head, body=b"\0" + u32(0))  # as many empty values


def more_positions_than_keys(parts):
    count = MAX_COMPRESSED // 4 - 20
    columns = b"\2\1" + u32(6) + b"\2" + u32(4 * count + 4) + b"\0" + u32(1) + b"k" + u32(count)
    of_one_block(parts, u32(1) + columns + b"".join(map(u32, range(count))))


def compressed_filter(parts):
    parts.filter = Part(bytes(MAX_COMPRESSED), True)


def frame_of_a_gigabyte(parts):
    of_one_block(parts, b"key")
    frame = b"\x28\xb5\x2f\xfd\xa0" + u32(1 << 30) + b"\x03\x00\x00"
    parts.blocks = [(Part(b"", True, stated=1 << 30, frame=frame), parts.blocks[0][1])]


def crafted(change):
    """Return the files of a database one of whose tables was changed, and a manifest that fits it."""
    files = base().files
    parts = TableParts.of(files[TABLE])
    change(parts)
    name = next(name for name in files if name.endswith(".man"))
    state = manifest.decode(files[name], int(name[:-4]))
    largest = block.decode_head(parts.index_head.raw, 1 << 24)[0][-1]
    levels = [
        [meta._replace(smallest=b"", largest=largest) if meta.number == 5 else meta for meta in level]
        for level in state.levels
    ]
    fitting = manifest.encode(state._replace(levels=levels))
    return forgery.fitted({**files, TABLE: parts.join(), name: fitting})


BOMBS = {
    largest_blocks: True,  # whether it can be read: it is as large as a sound one may be
    all_deleted: True,
    one_large_value: True,
    largest_index: True,
    more_keys_than_allowed: False,
    empty_keys: False,
    more_positions_than_keys: False,
    compressed_filter: False,
    frame_of_a_gigabyte: False,
}


def peak_of(files):
    """Return how much memory it takes to read all of these files, and what comes of it."""
    storage = base().storage(files)
    outcome = None
    tracemalloc.start()
    try:
        with exam.opened(storage, "r", cache_bytes=1 << 20) as db:
            for _ in db.items():
                pass
            db.get(exam.ABSENT[1])
            db.lastkey()
    except error as exc:
        outcome = exc
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, outcome


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_no_table_takes_more_memory_than_the_bound(bomb):
    files = crafted(bomb)
    peak, outcome = peak_of(files)
    stored = sum(map(len, files.values()))
    print(f"{bomb.__name__}: {stored} bytes of files, {peak / 2**20:.1f} MiB of memory, {outcome!r:.80}")

    assert peak <= MEMORY_BYTES + MEMORY_FACTOR * stored
    assert BOMBS[bomb] == (outcome is None), outcome
    assert outcome is None or isinstance(outcome, CorruptionError)


def test_a_limit_left_out_is_found(monkeypatch):
    files = crafted(empty_keys)
    monkeypatch.setattr(block, "MAX_COUNT", 1 << 24)  # as it was once

    assert peak_of(files)[0] > MEMORY_BYTES + MEMORY_FACTOR * sum(map(len, files.values()))


# -- what the fuzzing must find ---------------------------------------------------------------------

WATCHED = {  # what a forged database might have the library do, as a statement planted into recovery
    "a file is opened": "open(fuzz.__file__).close()",
    "a process is started": "__import__('os').system('true')",
    "much memory is taken": "bytearray(200 << 20)",
    "it never ends": "all(True for _ in iter(int, 1))",
}


@pytest.mark.parametrize("what", WATCHED)
def test_what_may_not_happen_is_seen(what):
    if what == "much memory is taken" and sys.platform != "linux":
        pytest.skip("the limit is read from /proc")
    planted = f"""
fuzz.SECONDS = 0.3
from lsmdbm._engine import recovery
decode = recovery.manifests.decode
def planted(*arguments):
    if fuzz.ARMED: {WATCHED[what]}
    return decode(*arguments)
recovery.manifests.decode = planted
"""
    with pytest.raises(AssertionError, match="unsafe|ended with"):
        looked_at(f"planted {what}", 20, planted)


def taken_without_limit(self):
    number = self.next_number
    self.next_number = number + 1
    return number


def taken_unchecked(self, length):
    part = self.data[self.position : self.position + length]
    self.position += length
    return part


def manifest_with(offset, number):
    """The files of a database whose manifest has another integer there."""
    files = base().files
    name = next(name for name in files if name.endswith(".man"))
    body = patched(files[name][:-20], offset, u64(number))
    return {**files, name: forgery.sealed_manifest(body, int(name[:-4]))}


FAULTS = {  # what is left out: the files that show it, where it is, and what comes in its place
    "the limit of file numbers": (
        *(lambda: manifest_with(40, names.MAX_NUMBER), names.Counter, "take", taken_without_limit),
    ),
    "the limit of sequences": (
        *(lambda: manifest_with(48, names.MAX_NUMBER), appender, "MAX_LOG_OPERATIONS", -(1 << 70)),
    ),
    "the bounds of a field": (lambda: manifest_with(80, 7), coding.Cursor, "take", taken_unchecked),
    "the boundary of the decoders": (
        *(lambda: crafted(empty_keys), table_reader.TableReader, "damaged", lambda self, at, exc: exc),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_check_left_out_is_found(monkeypatch, fault):
    files, owner, name, broken = FAULTS[fault]
    crafted_files = files()
    for number in range(5):
        Fuzz().look(f"{fault} {number}", crafted_files, False)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(Unsafe):
        for number in range(5):  # each writes on in another way
            Fuzz().look(f"{fault} {number}", crafted_files, False)


def joined(name, data):
    """A file taken apart and put together again."""
    kind = {".wal": forgery.LogParts, ".sst": TableParts}.get(name[-4:])
    return kind.of(data).join() if kind else data


def test_forgeries_carry_checksums_that_hold():
    """Taken apart and put together again, files say the same: what is changed is all that is wrong."""
    for specimen in specimens():
        files = {name: joined(name, data) for name, data in specimen.files.items()}
        assert specimen.content == exam.read_all(specimen.storage(forgery.fitted(files)))
        assert {n: d for n, d in specimen.files.items() if n.endswith(".wal")}.items() <= files.items()
    rng, files = random.Random(0), base().files
    refused = sum("checksum" in str(peak_of(forgery.forged(rng, files))[1]) for _ in range(100))
    assert refused < 20
