"""Databases as files, written once by make.py: what was readable stays readable, closed or crashed.

They are opened on the real file system, for reading where they are, and for writing as a copy.
"""

import json
import random
import shutil
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm._format.coding import FORMAT_VERSION
from support import exam, page_reader
from support.crash_storage import CrashStorage
from support.forgery import LogParts, TableParts, fitted, sealed_manifest
from support.format import patched, u8, u32
from support.workload import PATH, Session

HOME = Path(__file__).parent / "v1"
NAMES = sorted(path.stem for path in HOME.glob("*.json"))


def expected(name):
    """Return what a database must hold; None if it is no database yet."""
    said = json.loads((HOME / f"{name}.json").read_text("ascii"))
    content = {bytes.fromhex(key): bytes.fromhex(value) for key, value in said["content"].items()}
    return content if said["is_database"] else None


def files_in(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def check_reading(path, content):
    """Read a database where it is."""
    before = files_in(path)
    if content is None:
        with pytest.raises(lsmdbm.NotFoundError):
            lsmdbm.open(path, "r")
    else:
        for options in ({}, {"cache_bytes": 0, "max_open_files": 1, "verify_on_open": True}):
            with lsmdbm.open(path, "r", **options) as db:
                assert content == exam.read(db)
    assert before == files_in(path)


def check_writing(path, content):
    """Write into a database, in every way that moves what is in it."""
    content = dict(content or {})
    for number, care in enumerate(("sync", "flush", "compact", "sync")):
        with lsmdbm.open(path, "c") as db:
            assert content == exam.read(db)
            changes = {b"written": b"%d" % number, **dict.fromkeys(list(content)[number::7], b"replaced")}
            db.update(changes)
            content.update(changes)
            gone = min(content)
            del db[gone], content[gone]
            getattr(db, care)()
            assert content == exam.read(db)
    check_reading(path, content)


def test_the_directory_is_complete():
    kinds = {
        "cleared",
        "compressed",
        "cut_off",
        "dictionary",
        "empty",
        "gap",
        "levels",
        "odd",
        "torn",
        "unborn",
        "unsynced",
    }

    assert kinds == set(NAMES)
    assert kinds == {path.name for path in HOME.iterdir() if path.is_dir()}
    assert sum(len(data) for name in NAMES for data in files_in(HOME / name).values()) < 200_000


@pytest.mark.parametrize("name", NAMES)
def test_database_of_format_1_is_read_as_it_was_written(name):
    check_reading(HOME / name, expected(name))


@pytest.mark.parametrize("name", NAMES)
def test_database_of_format_1_is_written_on(name, tmp_path):
    copy = tmp_path / "db"
    shutil.copytree(HOME / name, copy)
    check_writing(copy, expected(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_page_suffices_to_read_a_database(name):
    """docs/format.md, that is: the second reader was written from it alone."""
    assert expected(name) == page_reader.read(files_in(HOME / name))


@pytest.mark.parametrize("compression", ["zstd", None])
def test_the_page_suffices_for_whatever_a_killed_process_left(seed, compression):
    rng = random.Random(f"{seed} {compression}")
    storage = CrashStorage(seed)
    session = Session(storage, rng, odds=0.0, level="process", options={"compression": compression})
    try:
        for steps in range(12):
            session.run(steps)
            session.db.sync()  # so that a kill takes nothing, at any durability
            found = page_reader.read(storage.freeze().crash("kill").contents(PATH))
            assert session.state == found, f"seed {seed}, after {session.steps}"
    finally:
        session.close()


@pytest.mark.parametrize("kind", ["man", "sst", "wal"])
def test_a_second_reader_that_compares_nothing_would_be_noticed(kind):
    """The planted fault: a byte of one file."""
    files = files_in(HOME / "levels")
    name = max(name for name in files if name.endswith(kind))
    broken = {**files, name: patched(files[name], 60, bytes((files[name][60] ^ 0xFF,)))}
    if kind == "wal":  # which ends there
        assert expected("levels") != page_reader.read(broken)
    else:
        with pytest.raises(page_reader.BadBytes):
            page_reader.read(broken)


def test_another_content_would_be_noticed():
    """The planted fault: one value, one key more and one fewer."""
    content = expected("levels")
    for altered in (
        {**content, b"key00": b"other"},
        {**content, b"more": b""},
        {key: content[key] for key in list(content)[1:]},
    ):
        with pytest.raises(AssertionError):
            check_reading(HOME / "levels", altered)


def manifest_with(files, offset, value):
    """The files with another number in the newest manifest, whose checksum fits."""
    name = max(name for name in files if name.endswith(".man"))
    return {**files, name: sealed_manifest(patched(files[name][:-20], offset, value), int(name[:-4]))}


def log_with(files, offset, value):
    name = max(name for name in files if name.endswith(".wal"))
    parts = LogParts.of(files[name])
    parts.header = patched(parts.header, offset, value)
    return {**files, name: parts.join()}


def record_with(files, kind):
    name = max(name for name in files if name.endswith(".wal"))
    parts = LogParts.of(files[name])
    parts.records[0] = patched(parts.records[0], 20, u8(kind))
    return {**files, name: parts.join()}


def table_with(files, offset, value):
    name = max(name for name in files if name.endswith(".sst"))
    parts = TableParts.of(files[name])
    parts.twists.append(lambda footer: patched(footer, offset, value))
    return fitted({**files, name: parts.join()})


def column_with(files, column):
    """The files with another kind of column, beside the keys, in the first block of a table."""
    name = max(name for name in files if name.endswith(".sst"))
    parts = TableParts.of(files[name])
    head, _ = parts.blocks[0]
    raw, length = head.raw, int.from_bytes(head.raw[6:10], "little")
    head.raw = raw[:4] + u8(2) + raw[5:6] + u32(length) + u8(column) + u32(0) + raw[-length:]
    return fitted({**files, name: parts.join()})


NEWER = FORMAT_VERSION + 1
REFUSED = {  # by what, and what the message must name
    "a manifest for newer readers": (lambda files: manifest_with(files, 8, u32(NEWER)), "format 1 "),
    "a feature of the database": (lambda files: manifest_with(files, 12, u32(4)), "features 0x4"),
    "a compression": (lambda files: manifest_with(files, 76, u8(4)), "compression 4"),
    "a compaction": (lambda files: manifest_with(files, 79, u8(9)), "compaction 9"),
    "a newer log": (lambda files: log_with(files, 4, u32(NEWER)), f"log of format {NEWER}"),
    "a kind of record": (lambda files: record_with(files, 6), "record of kind 6"),
    "a newer table": (lambda files: table_with(files, 60, u32(NEWER)), f"table of format {NEWER}"),
    "a feature of a table": (lambda files: table_with(files, 56, u32(8)), "features 0x8"),
    "a kind of column": (lambda files: column_with(files, 3), r"columns \[1, 3\]"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_newer_is_refused_by_name_and_left_alone(what, tmp_path):
    change, reason = REFUSED[what]
    for name, data in change(files_in(HOME / "levels")).items():
        (tmp_path / name).write_bytes(data)
    before = files_in(tmp_path)
    for flag in "rwc":
        with pytest.raises(lsmdbm.error, match=reason) as caught, lsmdbm.open(tmp_path, flag) as db:
            exam.read(db)
        assert not isinstance(caught.value, lsmdbm.CorruptionError)
        after = files_in(tmp_path)
        after.pop("LOCK", None)
        assert before == after


def test_a_newer_version_that_older_readers_may_read_is_read(tmp_path):
    for name, data in manifest_with(files_in(HOME / "levels"), 4, u32(NEWER)).items():
        (tmp_path / name).write_bytes(data)
    check_reading(tmp_path, expected("levels"))
