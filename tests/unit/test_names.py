import errno

import pytest

from lsmdbm._base.errors import error
from lsmdbm._engine.names import (
    LOCK,
    MANIFEST,
    MAX_NUMBER,
    TABLE,
    WAL,
    Counter,
    file_name,
    numbers,
    parse,
    unlink_all,
)
from support.crash_storage import CrashStorage, failure

NAMES = [
    (1, WAL, "000001.wal"),
    (17, TABLE, "000017.sst"),
    (999_999, MANIFEST, "999999.man"),
    (1_000_000, TABLE, "1000000.sst"),
    (MAX_NUMBER, WAL, f"{MAX_NUMBER}.wal"),
]
FOREIGN = [
    LOCK,
    "",
    "17.sst",
    "00017.sst",
    "0000017.sst",  # one zero too many
    "01000000.sst",
    "000017.SST",
    "000017.log",
    "000017.sst~",
    "000017.sst\n",
    " 000017.sst",
    "000017.sst.000017.sst",
    "-00017.sst",
    "+00017.sst",
    "00_017.sst",
    "\u0661\u0661\u0661\u0661\u0661\u0661.sst",  # digits, but not ASCII
    f"{MAX_NUMBER + 1}.sst",
    f"1{MAX_NUMBER}.sst",
]


@pytest.mark.parametrize(("number", "kind", "name"), NAMES)
def test_names_are_written_and_read_alike(number, kind, name):
    assert name == file_name(number, kind)
    assert (number, kind) == parse(name)


@pytest.mark.parametrize("name", FOREIGN)
def test_names_of_others_are_not_ours(name):
    assert parse(name) is None


def test_numbers_of_one_kind_come_ascending_and_foreign_names_are_passed_over():
    names = [*(name for _, _, name in NAMES[::-1]), *FOREIGN, "000003.sst"]

    assert [3, 17, 1_000_000] == numbers(names, TABLE)
    assert [1, MAX_NUMBER] == numbers(names, WAL)
    assert [999_999] == numbers(names, MANIFEST)


def test_counter_hands_out_each_number_once():
    counter = Counter(5)

    assert [5, 6, 7] == [counter.take() for _ in range(3)]
    assert 8 == counter.next_number


def test_created_files_of_all_kinds_share_one_counter():
    storage = CrashStorage()
    directory = storage.directory("/", 0o666)
    counter = Counter(1)

    assert [1, 2, 3] == [counter.create(directory, kind)[0] for kind in (WAL, TABLE, MANIFEST)]
    assert ["000001.wal", "000002.sst", "000003.man"] == sorted(storage.contents())


def test_taken_name_means_the_next_number_and_is_left_alone():
    storage = CrashStorage()
    for number in (4, 5, 7):
        storage.plant(f"/{file_name(number, TABLE)}", b"somebody else's")
    directory = storage.directory("/", 0o666)
    counter = Counter(4)

    number, file = counter.create(directory, TABLE)
    file.pwrite(b"ours", 0)

    assert (6, 8) == (number, counter.create(directory, TABLE)[0])
    assert [b"somebody else's"] * 3 == [storage.contents()[file_name(n, TABLE)] for n in (4, 5, 7)]
    assert b"ours" == storage.contents()["000006.sst"]


def test_name_taken_by_another_kind_is_free():
    storage = CrashStorage()
    storage.plant("/000004.wal", b"")

    assert 4 == Counter(4).create(storage.directory("/", 0o666), TABLE)[0]


def test_other_errors_come_out_at_once_and_the_number_is_used_up():
    storage = CrashStorage()
    directory = storage.directory("/", 0o666)
    counter = Counter(4)
    storage.fault(storage.count, errno.ENOSPC)

    with pytest.raises(error) as caught:
        counter.create(directory, TABLE)

    assert errno.ENOSPC == caught.value.errno
    assert 5 == counter.create(directory, TABLE)[0]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("is_enough", [True, False])
def test_without_descriptors_room_is_made_and_creating_tried_once_more(code, is_enough):
    storage = CrashStorage()
    directory = storage.directory("/", 0o666)
    storage.fault(storage.count, code, later=set() if is_enough else {"create"})
    made = []
    counter = Counter(4, lambda: made.append("room"))

    if is_enough:
        assert 5 == counter.create(directory, TABLE)[0]
    else:
        with pytest.raises(error) as caught:
            counter.create(directory, TABLE)
        assert code == caught.value.errno
    assert ["room"] == made


def test_file_that_appears_although_creating_it_failed_is_never_written_to():
    """Over a network a create may take effect and yet report an error."""
    storage = CrashStorage()
    directory = storage.directory("/", 0o666)
    counter = Counter(4)
    storage.fault(storage.count, errno.EIO, "after")

    with pytest.raises(type(failure(errno.EIO, "/"))):
        counter.create(directory, TABLE)

    assert ["000004.sst"] == list(storage.contents())
    assert 5 == counter.create(directory, TABLE)[0]


def test_no_number_is_handed_out_that_no_name_can_have():
    """The name of the next one would not be ours: what is written into that file would never be found."""
    storage = CrashStorage()
    counter = Counter(MAX_NUMBER - 1)

    assert MAX_NUMBER - 1 == counter.create(storage.directory("/", 0o666), WAL)[0]
    for _ in range(2):
        with pytest.raises(error, match="no file number is left"):
            counter.create(storage.directory("/", 0o666), WAL)
    assert [f"{MAX_NUMBER - 1}.wal"] == list(storage.contents())


def test_reserved_numbers_are_nobody_elses():
    counter = Counter(7)

    assert range(7, 12) == counter.reserve(5)
    assert 12 == counter.take()


def test_a_counter_that_ends_gives_no_number_beyond():
    counter = Counter(7, stop=9)

    with pytest.raises(error, match="no file number is left below 9"):
        counter.reserve(3)
    assert [7, 8] == [counter.take(), counter.take()]
    with pytest.raises(error, match="no file number is left below 9"):
        counter.take()


def test_a_file_that_cannot_be_unlinked_keeps_none_of_the_others():
    storage = CrashStorage()
    directory = storage.directory("/", 0o666)
    for number in (1, 2, 3):
        directory.create(file_name(number, TABLE))
    storage.fault(storage.count + 1, errno.EIO, "before")

    unlink_all(directory, [file_name(number, TABLE) for number in (1, 2, 3)])

    assert ["000002.sst"] == list(storage.contents())
