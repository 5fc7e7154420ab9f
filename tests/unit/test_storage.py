"""The system behind the seam: os_file, os_storage, paths.  And that the one in memory does the same."""

import errno
import gc
import os
import random
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from lsmdbm._base import os_file, os_storage
from lsmdbm._base.errors import NotFoundError, error
from lsmdbm._base.os_file import OsFile
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.paths import path_text
from lsmdbm._base.storage import write_all
from support.crash_storage import CrashStorage

MODE = 0o666


@pytest.fixture
def storage():
    return OsStorage()


@pytest.fixture
def directory(storage, tmp_path):
    return storage.directory(str(tmp_path), MODE)


@pytest.fixture
def umask():
    """A function that sets the umask; the old one comes back after the test."""
    old = os.umask(0o022)
    yield os.umask
    os.umask(old)


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def python(source, directory, *args, **kwargs):
    """Start a process that runs `source` in `directory`: at the root, the checkout would hide the wheel."""
    head = "import errno, os, sys\nfrom lsmdbm._base.os_storage import OsStorage\nstorage = OsStorage()\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(source), directory, *args], cwd=directory, **kwargs
    )


def run(source, directory, *args):
    process = python(source, directory, *args)
    process.communicate()
    assert process.returncode == 0


# Files


def test_what_was_written_is_read_at_its_offset(directory):
    file = directory.create("000001.wal")

    assert file.pwrite(b"hello", 3) == 5
    assert file.pread(5, 3) == b"hello"
    assert file.pread(8, 0) == b"\0\0\0hello"
    assert file.size() == 8


def test_a_read_is_short_only_at_the_end_of_the_file(directory):
    file = directory.create("000001.wal")
    file.pwrite(b"hello", 0)

    assert file.pread(100, 2) == b"llo"
    assert file.pread(100, 5) == b""
    assert file.pread(100, 99) == b""
    assert file.pread(0, 0) == b""


def test_a_read_the_system_gives_in_pieces_is_whole(directory, monkeypatch):
    file = directory.create("000001.wal")
    file.pwrite(b"0123456789", 0)
    pread = os.pread
    monkeypatch.setattr(
        os, "pread", lambda descriptor, length, offset: pread(descriptor, min(length, 3), offset)
    )

    assert file.pread(8, 1) == b"12345678"
    assert file.pread(100, 1) == b"123456789"


def test_write_all_goes_on_after_a_short_write():
    storage = CrashStorage()
    file = storage.directory("/", MODE).create("000001.wal")
    storage.fault(storage.count, errno.ENOSPC, "short")
    storage.fault(storage.count + 1, errno.ENOSPC, "short")
    write_all(file, b"0123456789", 2)

    assert storage.contents() == {"000001.wal": b"\0\x000123456789"}
    assert ["pwrite"] * 3 == [operation for operation, _ in storage.calls if operation == "pwrite"]


@pytest.mark.parametrize("storage", [OsStorage(), CrashStorage()], ids=["disk", "memory"])
def test_writing_nothing_behind_the_end_changes_nothing(storage, tmp_path):
    path = str(tmp_path) if isinstance(storage, OsStorage) else "/"
    file = storage.directory(path, MODE).create("000001.wal")

    assert file.pwrite(b"", 10) == 0
    assert file.size() == 0


def test_truncate_cuts_and_a_file_opened_for_reading_refuses(directory):
    file = directory.create("000001.wal")
    file.pwrite(b"hello", 0)
    file.truncate(2)
    assert file.pread(9, 0) == b"he"

    reading = directory.open("000001.wal")
    assert reading.pread(9, 0) == b"he"
    with pytest.raises(error) as caught:
        reading.pwrite(b"x", 0)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(error) as caught:
        reading.truncate(0)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", ["fdatasync", "fsync"])
def test_a_sync_reaches_this_very_file(directory, monkeypatch, name):
    file = directory.create("000001.wal")
    synced = []
    monkeypatch.setattr(os_file, "_data_sync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os_file, "_full_sync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    getattr(file, name)()

    assert [os.stat(file.path).st_ino] == synced


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.ENOTSUP])
def test_a_file_sync_that_fails_says_so_whatever_the_error(directory, monkeypatch, code):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    file = directory.create("000001.wal")
    monkeypatch.setattr(os_file, "_data_sync", fail)
    monkeypatch.setattr(os, "fsync", fail)
    for sync in (file.fdatasync, file.fsync):
        with pytest.raises(error) as caught:
            sync()
        assert (code, file.path) == (caught.value.errno, caught.value.filename)


def test_closing_twice_gives_back_one_descriptor(directory):
    file = directory.create("000001.wal")
    descriptor = file._descriptor
    file.close()
    other = directory.open("000001.wal")  # gets the number that has become free
    file.close()

    assert descriptor == other._descriptor
    assert other.size() == 0


def test_closing_forgives_a_descriptor_that_is_gone(directory):
    file = directory.create("000001.wal")
    os.close(file._descriptor)
    file.close()

    with pytest.raises(error):
        file.size()


def test_a_file_is_closed_with_the_last_reference_to_it(directory):
    file = directory.create("000001.wal")
    descriptor = file._descriptor
    again = file
    del file
    assert is_open(descriptor)

    del again
    assert not is_open(descriptor)


def test_a_directory_is_closed_with_the_last_reference_to_it(storage, tmp_path):
    directory = storage.directory(str(tmp_path), MODE)
    descriptor = directory._descriptor
    directory.close()
    directory.close()
    assert not is_open(descriptor)

    directory = storage.directory(str(tmp_path), MODE)
    descriptor = directory._descriptor
    del directory
    assert not is_open(descriptor)


def test_a_directory_that_could_not_be_opened_leaves_nothing_to_close(storage, tmp_path):
    with pytest.raises(NotFoundError):
        storage.directory(str(tmp_path / "missing"), MODE)


def test_closed_handles_raise_instead_of_using_another_file(directory, tmp_path):
    file = directory.create("000001.wal")
    file.close()
    for use in (
        lambda: file.pread(1, 0),
        lambda: file.pwrite(b"x", 0),
        lambda: file.truncate(0),
        file.fdatasync,
        file.fsync,
        file.size,
    ):
        with pytest.raises(error) as caught:
            use()
        assert (errno.EBADF, file.path) == (caught.value.errno, caught.value.filename)


# Names


def test_create_refuses_a_name_that_exists(directory):
    directory.create("000001.wal").pwrite(b"kept", 0)
    with pytest.raises(error) as caught:
        directory.create("000001.wal")

    assert (errno.EEXIST, os.path.join(directory.path, "000001.wal")) == (
        caught.value.errno,
        caught.value.filename,
    )
    assert directory.open("000001.wal").pread(9, 0) == b"kept"


def test_open_of_a_missing_name_is_not_found(directory):
    with pytest.raises(NotFoundError) as caught:
        directory.open("000001.wal")

    assert (errno.ENOENT, os.path.join(directory.path, "000001.wal")) == (
        caught.value.errno,
        caught.value.filename,
    )


@pytest.mark.parametrize("use", ["create", "open", "lock"])
@pytest.mark.parametrize("target", ["secret", "missing"])
def test_a_symbolic_link_is_never_followed(directory, tmp_path, use, target):
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (tmp_path / "000001.wal").symlink_to(outside / target)
    call = {
        "create": directory.create,
        "open": directory.open,
        "lock": lambda name: directory.lock(name, b"label"),
    }[use]
    with pytest.raises(error) as caught:
        call("000001.wal")

    assert caught.value.errno in (errno.EEXIST, errno.ELOOP)
    assert [(name.name, name.read_bytes()) for name in outside.iterdir()] == [("secret", b"secret")]


def test_peek_follows_no_symbolic_link_either(directory, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "LOCK").symlink_to(tmp_path / "secret")

    assert directory.peek("LOCK") == b""


def test_peek_gives_the_beginning_of_a_file_and_nothing_for_trouble(directory, tmp_path):
    (tmp_path / "LOCK").write_bytes(bytes(range(256)) * 2)
    (tmp_path / "sub").mkdir()

    assert directory.peek("LOCK") == bytes(range(256))
    assert directory.peek("missing") == b""
    assert directory.peek("sub") == b""


@pytest.mark.parametrize("use", ["open", "lock", "peek"])
def test_a_fifo_is_refused_without_waiting_for_its_other_end(directory, tmp_path, use):
    os.mkfifo(tmp_path / "000001.wal")
    if use == "peek":
        assert directory.peek("000001.wal") == b""
        return
    with pytest.raises(error, match=r"000001\.wal: not a regular file"):
        directory.open("000001.wal") if use == "open" else directory.lock("000001.wal", b"")


def test_a_subdirectory_is_no_file(directory, tmp_path):
    (tmp_path / "000001.wal").mkdir()
    with pytest.raises(error, match=r"000001\.wal: not a regular file"):
        directory.open("000001.wal")
    with pytest.raises(error):
        directory.unlink("000001.wal")


def test_unlink_forgives_a_missing_name(directory):
    directory.create("000001.wal")
    directory.unlink("000001.wal")
    directory.unlink("000001.wal")

    assert directory.listdir() == []


def test_an_unlinked_file_stays_readable_while_it_is_open(directory):
    file = directory.create("000001.wal")
    file.pwrite(b"hello", 0)
    directory.unlink("000001.wal")

    assert file.pread(9, 0) == b"hello"


def test_a_link_is_a_second_name_for_the_same_file(storage, directory, tmp_path):
    (tmp_path / "copy").mkdir()
    copy = storage.directory(str(tmp_path / "copy"), MODE)
    file = directory.create("000001.sst")
    file.pwrite(b"hello", 0)
    directory.link("000001.sst", copy)
    directory.unlink("000001.sst")

    assert copy.open("000001.sst").pread(9, 0) == b"hello"
    with pytest.raises(NotFoundError):
        directory.link("000001.sst", copy)
    directory.create("000001.sst")
    with pytest.raises(error) as caught:
        directory.link("000001.sst", copy)
    assert (errno.EEXIST, os.path.join(copy.path, "000001.sst")) == (
        caught.value.errno,
        caught.value.filename,
    )


def test_a_link_joins_the_directories_that_were_opened_even_if_they_moved(storage, tmp_path):
    """It went by their paths once, so that after a chdir() or a rename it met others, or none."""
    opened = []
    for name in ("source", "copy"):
        (tmp_path / name).mkdir()
        opened.append(storage.directory(str(tmp_path / name), MODE))
        (tmp_path / name).rename(tmp_path / f"moved {name}")
        (tmp_path / name).mkdir()
    source, copy = opened
    source.create("000001.sst").pwrite(b"ours", 0)
    (tmp_path / "source" / "000001.sst").write_bytes(b"not ours")
    source.link("000001.sst", copy)

    assert b"ours" == (tmp_path / "moved copy" / "000001.sst").read_bytes()
    assert [] == list((tmp_path / "copy").iterdir())
    with pytest.raises(error) as caught:
        source.link("000001.sst", CrashStorage().directory("/", MODE))
    assert errno.EXDEV == caught.value.errno


def test_a_link_does_not_reach_through_a_symbolic_link(storage, directory, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "000001.sst").symlink_to(tmp_path / "secret")
    directory.link("000001.sst", storage.directory(str(tmp_path / "copy"), MODE))

    assert (tmp_path / "secret").stat().st_nlink == 1


def test_length_follows_no_symbolic_link_and_is_none_for_a_missing_name(directory, tmp_path):
    (tmp_path / "000001.sst").write_bytes(bytes(1000))
    (tmp_path / "000002.sst").symlink_to("000001.sst")

    assert directory.length("000001.sst") == 1000
    assert directory.length("000002.sst") != 1000
    assert directory.length("000003.sst") is None


def test_names_belong_to_the_directory_that_was_opened_even_if_it_moved(storage, tmp_path):
    (tmp_path / "db").mkdir()
    directory = storage.directory(str(tmp_path / "db"), MODE)
    (tmp_path / "db").rename(tmp_path / "moved")
    (tmp_path / "db").mkdir()
    directory.create("000001.wal")
    directory.create("000002.wal")
    directory.unlink("000002.wal")

    assert os.listdir(tmp_path / "moved") == ["000001.wal"] == directory.listdir()
    assert os.listdir(tmp_path / "db") == []


def test_threads_that_list_at_once_each_see_every_name_once(directory, tmp_path):
    """`os.listdir(fd)` shares its position with other listings of the same descriptor."""
    expected = [f"{number:06d}.sst" for number in range(300)]
    for name in expected:
        (tmp_path / name).touch()
    wrong = []

    def work():
        for _ in range(100):
            found = directory.listdir()
            if sorted(found) != expected:
                wrong.append(len(found))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_listing_leaves_no_descriptor_open(directory):
    before = set(os.listdir("/dev/fd"))
    directory.listdir()

    assert before == set(os.listdir("/dev/fd"))


def test_identity_tells_directories_apart_whatever_they_are_called(storage, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to("a")
    a, b, link = (storage.directory(str(tmp_path / name), MODE).identity() for name in ("a", "b", "link"))

    assert a == link != b


# Mode bits


def bits(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_file_gets_the_mode_less_the_umask(storage, tmp_path, umask):
    umask(0o027)
    directory = storage.directory(str(tmp_path), 0o666)
    directory.create("000001.wal")
    directory.lock("LOCK", b"")

    assert (0o640, 0o640) == (bits(tmp_path / "000001.wal"), bits(tmp_path / "LOCK"))


@pytest.mark.parametrize(("mode", "later"), [(0o666, 0o077), (0o600, 0o000), (0o666, 0o000)])
def test_later_files_get_the_bits_of_lock_whatever_the_umask_is_now(storage, tmp_path, umask, mode, later):
    umask(0o026)
    storage.directory(str(tmp_path), mode).lock("LOCK", b"").close()
    umask(later)
    storage.directory(str(tmp_path), 0o666).create("000001.wal")

    assert mode & ~0o026 == bits(tmp_path / "LOCK") == bits(tmp_path / "000001.wal")


def test_an_existing_lock_keeps_its_bits(storage, tmp_path, umask):
    umask(0)
    (tmp_path / "LOCK").touch()
    (tmp_path / "LOCK").chmod(0o604)
    storage.directory(str(tmp_path), 0o666).lock("LOCK", b"")

    assert bits(tmp_path / "LOCK") == 0o604


def test_mkdir_applies_mode_and_umask(storage, tmp_path, umask):
    umask(0o027)
    storage.mkdir(str(tmp_path / "db"), 0o777)

    assert bits(tmp_path / "db") == 0o750


# The lock


def test_the_lock_is_exclusive_and_ends_with_its_file(directory):
    file = directory.lock("LOCK", b"first")
    assert directory.lock("LOCK", b"second") is None
    assert directory.peek("LOCK") == b"first"

    file.close()
    again = directory.lock("LOCK", b"third")
    assert again is not None
    del again
    assert directory.lock("LOCK", b"fourth") is not None


def test_the_label_replaces_a_longer_one(directory):
    directory.lock("LOCK", b"a long label").close()
    directory.lock("LOCK", b"short").close()

    assert directory.peek("LOCK") == b"short"


def test_the_lock_of_another_process_is_respected_until_it_dies(directory):
    other = python(
        """
        held = storage.directory(sys.argv[1], 0o666).lock("LOCK", b"other process")
        print(held is not None, flush=True)
        sys.stdin.read()
        """,
        directory.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout.readline() == b"True\n"
    assert directory.lock("LOCK", b"ours") is None
    assert directory.peek("LOCK") == b"other process"

    other.kill()
    other.communicate()
    assert directory.lock("LOCK", b"ours") is not None


def test_opening_and_closing_the_lock_file_does_not_drop_the_lock(directory):
    """POSIX record locks vanish on any close; this lock must not."""
    held = directory.lock("LOCK", b"ours")
    directory.open("LOCK").close()
    run(
        """
        directory = storage.directory(sys.argv[1], 0o666)
        directory.open("LOCK").close()
        assert directory.lock("LOCK", b"other") is None
        """,
        directory.path,
    )
    assert held.size() == 4


def test_a_lock_file_replaced_while_we_took_it_is_taken_again(directory, tmp_path, monkeypatch):
    try_lock = OsFile.try_lock
    tries = []

    def replaced_first(file):
        if not tries:
            (tmp_path / "LOCK").unlink()
            (tmp_path / "LOCK").touch()
        tries.append(file)
        return try_lock(file)

    monkeypatch.setattr(OsFile, "try_lock", replaced_first)
    held = directory.lock("LOCK", b"ours")

    assert len(tries) == 2
    assert os.fstat(held._descriptor).st_ino == (tmp_path / "LOCK").stat().st_ino
    assert directory.lock("LOCK", b"other") is None


def test_a_lock_file_removed_while_we_took_it_is_made_again(directory, tmp_path, monkeypatch):
    try_lock = OsFile.try_lock
    tries = []

    def removed_first(file):
        if not tries:
            (tmp_path / "LOCK").unlink()
        tries.append(file)
        return try_lock(file)

    monkeypatch.setattr(OsFile, "try_lock", removed_first)
    held = directory.lock("LOCK", b"ours")

    assert os.fstat(held._descriptor).st_ino == (tmp_path / "LOCK").stat().st_ino


def test_a_label_that_cannot_be_written_leaves_no_lock_behind(directory):
    """The error's traceback keeps the frame alive, and would keep the lock as well."""
    run(
        """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        directory = storage.directory(sys.argv[1], 0o666)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            directory.lock("LOCK", b"label")
        except OSError as exc:
            assert exc.errno == errno.EFBIG and exc.filename == os.path.join(sys.argv[1], "LOCK")
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert directory.lock("LOCK", b"label") is not None
        else:
            raise AssertionError
        """,
        directory.path,
    )


# Mapped files


@pytest.fixture
def mapped(storage, mappable):
    """A new file of 100,000 bytes that is mapped."""
    file = storage.directory(str(mappable), MODE).create("000001.wal")
    file.map(100_000)
    return file


def test_a_mapped_file_is_allocated_in_full(mapped):
    """A hole would be filled by a store: on a full disk, by a SIGBUS."""
    status = os.fstat(mapped._descriptor)

    assert 100_000 == status.st_size <= 512 * status.st_blocks


def test_a_store_is_no_call_of_the_system_and_others_read_it(mapped, mappable, monkeypatch):
    monkeypatch.setattr(os, "pwrite", None)
    assert 5 == mapped.pwrite(b"hello", 99_995)

    assert b"hello" == mapped.pread(9, 99_995)
    assert b"\0hello" == (mappable / "000001.wal").read_bytes()[-6:]
    with pytest.raises(IndexError):
        mapped.pwrite(b"hello", 99_996)


def test_a_mapped_file_is_not_cut_before_it_is_unmapped(mapped):
    with pytest.raises(error) as caught:
        mapped.truncate(5)
    assert (errno.EBUSY, 100_000) == (caught.value.errno, mapped.size())

    mapped.pwrite(b"hello", 0)
    mapped.unmap(5)
    assert 6 == mapped.pwrite(b" world", 5)
    mapped.unmap(3)
    assert b"hello world" == mapped.pread(99, 0)


def test_a_mapping_goes_with_its_file(mapped):
    ours = set(os.listdir("/proc/self/fd"))
    mapped.close()
    assert 2 == len(ours - set(os.listdir("/proc/self/fd")))
    with pytest.raises(error) as caught:
        mapped.pwrite(b"x", 0)

    assert errno.EBADF == caught.value.errno


def test_a_mapping_that_fails_leaves_a_file_that_can_be_written(storage, mappable, monkeypatch):
    file = storage.directory(str(mappable), MODE).create("000001.wal")
    monkeypatch.setattr(os_file.mmap, "mmap", lambda *args: os.fstat(-1))
    with pytest.raises(error) as caught:
        file.map(4096)
    file.truncate(0)

    assert (errno.EBADF, 1) == (caught.value.errno, file.pwrite(b"x", 0))
    assert b"x" == file.pread(9, 0)


def test_a_file_for_reading_is_not_mapped(storage, mapped, mappable):
    with pytest.raises(error) as caught:
        storage.directory(str(mappable), MODE).open("000001.wal").map(10)

    assert errno.EBADF == caught.value.errno


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2), (1, 2)])
def test_no_mapping_uses_the_descriptor_of_a_standard_stream(mappable, closed):
    """It has a descriptor of its own, open for writing: a stray print would land in the log."""
    run(
        """
        closed = [int(number) for number in sys.argv[2].split(",")]
        for number in closed:
            os.close(number)
        file = storage.directory(sys.argv[1], 0o666).create("000001.wal")
        file.map(4096)
        for number in closed:
            try:
                os.fstat(number)
            except OSError:
                continue
            os._exit(7)
        os._exit(0)
        """,
        str(mappable),
        ",".join(map(str, closed)),
    )


def dirty_bytes(path):
    """Return how much of the mapping of a file is not on disk, by what the system says of this process."""
    inside = False
    found = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith(("Private_Dirty", "Shared_Dirty")):
            found += 1024 * int(line.split()[1])
    return found


def test_a_sync_of_the_descriptor_takes_what_was_stored_along(mapped, mappable):
    """On Linux it does what msync does, and more; so there is no second sync that could tell of an error."""
    if os_storage._file_system(os.fstat(mapped._descriptor).st_dev) == "tmpfs":
        pytest.skip("a tmpfs has no disk: its pages are always dirty")
    mapped.pwrite(b"x" * 8192, 4096)
    assert 8192 == dirty_bytes(mappable / "000001.wal")
    mapped.fdatasync()

    assert 0 == dirty_bytes(mappable / "000001.wal")


def mounts(tmp_path, monkeypatch, device, kind):
    table = tmp_path / "mounts"
    number = f"{os.major(device)}:{os.minor(device)}"
    table.write_text(
        "20 1 0:19 / /proc rw shared:3 - proc proc rw\n"
        f"24 1 {number} / /a\\040b rw,relatime shared:1 master:2 - {kind} /dev/vda rw\n"
    )
    monkeypatch.setattr(os_storage, "MOUNTS", str(table))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
def test_files_are_mapped_where_what_is_allocated_stays_so(directory, tmp_path, monkeypatch, kind):
    mounts(tmp_path, monkeypatch, os.stat(tmp_path).st_dev, kind)

    assert "" == directory.why_not_mapped()


@pytest.mark.parametrize("kind", ["ext3", "btrfs", "overlay", "nfs4", "fuse.sshfs", "9p"])
def test_files_are_not_mapped_elsewhere(directory, tmp_path, monkeypatch, kind):
    mounts(tmp_path, monkeypatch, os.stat(tmp_path).st_dev, kind)

    assert f"the file system is {kind}, not one of ext4, tmpfs, xfs" == directory.why_not_mapped()


def test_files_are_not_mapped_where_nobody_knows_where_that_is(directory, tmp_path, monkeypatch):
    mounts(tmp_path, monkeypatch, os.stat(tmp_path).st_dev + 1, "ext4")
    assert "the file system is unknown" in directory.why_not_mapped()
    monkeypatch.setattr(os_storage, "MOUNTS", str(tmp_path / "missing"))
    assert "the file system is unknown" in directory.why_not_mapped()
    monkeypatch.setattr(os_storage.sys, "platform", "darwin")
    assert "the system is darwin, not Linux" == directory.why_not_mapped()


@pytest.mark.parametrize("storage", [OsStorage(), CrashStorage()], ids=["disk", "memory"])
def test_a_mapped_file_in_memory_does_what_one_on_disk_does(storage, mappable, seed):
    rng = random.Random(f"{seed} mapped")
    path = str(mappable) if isinstance(storage, OsStorage) else "/"
    file = storage.directory(path, MODE).create("000001.wal")
    expected = b""
    for _ in range(30):
        length = rng.randrange(len(expected) + 1, len(expected) + 5000)
        file.map(length)
        expected = expected.ljust(length, b"\0")
        for _ in range(rng.randrange(4)):
            data = rng.randbytes(rng.randrange(length))
            offset = rng.randrange(length - len(data))
            file.pwrite(data, offset)
            expected = expected[:offset] + data + expected[offset + len(data) :]
            assert (length, expected[offset : offset + 70]) == (file.size(), file.pread(70, offset))
            file.fdatasync()
        if rng.random() < 0.7:
            expected = expected[: rng.randrange(length)]
            file.unmap(len(expected))
        assert expected == file.pread(1 << 20, 0)


# Descriptors


@pytest.mark.parametrize("closed", [(0,), (0, 1), (0, 1, 2), (2,)])
def test_descriptors_of_the_standard_streams_are_never_used(tmp_path, closed):
    run(
        """
        closed = [int(number) for number in sys.argv[2].split(",")]
        for number in closed:
            os.close(number)
        directory = storage.directory(sys.argv[1], 0o666)
        files = [directory.lock("LOCK", b""), directory.create("000001.wal"), directory.open("000001.wal")]
        directory.listdir()
        storage.sync_parent(sys.argv[1])
        numbers = [file._descriptor for file in [directory, *files]]
        for number in closed:
            try:
                os.fstat(number)
            except OSError:
                continue
            os._exit(7)
        os._exit(0 if min(numbers) > 2 else 8)
        """,
        str(tmp_path),
        ",".join(map(str, closed)),
    )


def test_descriptors_are_not_inherited_by_other_programs(storage, tmp_path):
    directory = storage.directory(str(tmp_path), MODE)
    files = [directory.lock("LOCK", b""), directory.create("000001.wal"), directory.open("000001.wal")]

    for file in (directory, *files):
        assert not os.get_inheritable(file._descriptor)


# The file system around


def test_kind_of_each_thing_there_is(storage, tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    kinds = {
        name: storage.kind(str(tmp_path / name))
        for name in ("", "file", "fifo", "link", "dangling", "x", "file/x")
    }

    assert kinds == {
        "": "directory",
        "file": "file",
        "fifo": "other",
        "link": "directory",
        "dangling": "missing",
        "x": "missing",
        "file/x": "missing",
    }


def test_mkdir_makes_one_directory_and_refuses_an_existing_one(storage, tmp_path):
    storage.mkdir(str(tmp_path / "db"), 0o777)
    assert storage.kind(str(tmp_path / "db")) == "directory"

    with pytest.raises(error) as caught:
        storage.mkdir(str(tmp_path / "db"), 0o777)
    assert (errno.EEXIST, str(tmp_path / "db")) == (caught.value.errno, caught.value.filename)
    with pytest.raises(NotFoundError):
        storage.mkdir(str(tmp_path / "x" / "db"), 0o777)


def test_rmdir_takes_an_empty_directory_and_nothing_else(storage, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "link").symlink_to("full")
    storage.rmdir(str(tmp_path / "empty"))
    assert not (tmp_path / "empty").exists()

    for name, code in (("full", errno.ENOTEMPTY), ("full/file", errno.ENOTDIR), ("link", errno.ENOTDIR)):
        with pytest.raises(error) as caught:
            storage.rmdir(str(tmp_path / name))
        assert (code, str(tmp_path / name)) == (caught.value.errno, caught.value.filename)
    with pytest.raises(NotFoundError):
        storage.rmdir(str(tmp_path / "empty"))
    assert (tmp_path / "full" / "file").exists()


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_a_link_is_told_from_what_it_leads_to(storage, tmp_path, end):
    (tmp_path / "db").mkdir()
    (tmp_path / "link").symlink_to("db")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    names = ("", "db", "link", "dangling", "file", "missing", "file/x")

    assert ["link", "dangling"] == [name for name in names if storage.is_link(str(tmp_path / name) + end)]


@pytest.mark.parametrize("itself", [False, True])
def test_permission_bits_are_taken_over_whatever_the_umask_is(storage, tmp_path, umask, itself):
    for name in ("source", "copy"):
        (tmp_path / name).mkdir(0o700)
    source, copy = (storage.directory(str(tmp_path / name), 0o600) for name in ("source", "copy"))
    for directory in (source, copy):
        directory.lock("LOCK", b"").close()
    (tmp_path / "source").chmod(0o751)
    (tmp_path / "source" / "LOCK").chmod(0o664)
    umask(0o077)
    copy.take_mode(source, itself=itself)
    copy.create("000001.sst")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "copy").iterdir()}
    assert {"LOCK": 0o664, "000001.sst": 0o664} == modes
    assert (0o751 if itself else 0o700) == stat.S_IMODE((tmp_path / "copy").stat().st_mode)


def test_where_there_is_no_lock_file_its_bits_are_those_of_the_directory(storage, tmp_path):
    for name in ("source", "copy"):
        (tmp_path / name).mkdir(0o750)
    source, copy = (storage.directory(str(tmp_path / name), 0o600) for name in ("source", "copy"))
    copy.lock("LOCK", b"").close()
    copy.take_mode(source, itself=True)

    assert 0o640 == stat.S_IMODE((tmp_path / "copy" / "LOCK").stat().st_mode)


def test_unlink_of_a_path_is_strict(storage, tmp_path):
    (tmp_path / "file").touch()
    storage.unlink(str(tmp_path / "file"))
    with pytest.raises(NotFoundError):
        storage.unlink(str(tmp_path / "file"))
    with pytest.raises(error):
        storage.unlink(str(tmp_path))


def inodes_synced(monkeypatch, outcome=None):
    synced = []

    def fsync(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        if outcome is not None:
            raise OSError(outcome, os.strerror(outcome))

    monkeypatch.setattr(os, "fsync", fsync)
    return synced


@pytest.mark.parametrize("spelling", ["db", "db/", "./db", "../{}/db"])
def test_sync_parent_reaches_the_directory_that_holds_the_name(storage, tmp_path, monkeypatch, spelling):
    (tmp_path / "db").mkdir()
    synced = inodes_synced(monkeypatch)
    monkeypatch.chdir(tmp_path)
    storage.sync_parent(spelling.format(tmp_path.name))

    assert [tmp_path.stat().st_ino] == synced


def test_sync_of_a_directory_reaches_the_directory(directory, tmp_path, monkeypatch):
    synced = inodes_synced(monkeypatch)
    directory.sync()

    assert [tmp_path.stat().st_ino] == synced


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_directory_syncs_is_accepted(storage, directory, monkeypatch, code):
    inodes_synced(monkeypatch, code)
    directory.sync()
    storage.sync_parent(directory.path)


def test_a_directory_sync_that_fails_says_so(storage, directory, tmp_path, monkeypatch):
    inodes_synced(monkeypatch, errno.EIO)
    with pytest.raises(error) as caught:
        directory.sync()
    assert (errno.EIO, str(tmp_path)) == (caught.value.errno, caught.value.filename)
    with pytest.raises(error) as caught:
        storage.sync_parent(directory.path)
    assert (errno.EIO, str(tmp_path.parent)) == (caught.value.errno, caught.value.filename)


def test_errors_carry_errno_and_path(storage, directory, tmp_path):
    long = "x" * 300
    for use, path in [
        (lambda: storage.kind(str(tmp_path / long)), tmp_path / long),
        (lambda: storage.mkdir(str(tmp_path / long), 0o777), tmp_path / long),
        (lambda: storage.unlink(str(tmp_path / long)), tmp_path / long),
        (lambda: storage.directory(str(tmp_path / long), MODE), tmp_path / long),
        (lambda: directory.create(long), tmp_path / long),
        (lambda: directory.open(long), tmp_path / long),
        (lambda: directory.lock(long, b""), tmp_path / long),
        (lambda: directory.link(long, directory), tmp_path / long),
        (lambda: directory.unlink(long), tmp_path / long),
        (lambda: directory.length(long), tmp_path / long),
    ]:
        with pytest.raises(error) as caught:
            use()
        assert (errno.ENAMETOOLONG, str(path)) == (caught.value.errno, caught.value.filename)


def test_errors_leave_nothing_to_the_garbage_collector(storage, directory, tmp_path):
    """A cycle of error and frame keeps the callers' files, and so a lock, until the next collection."""
    file = directory.create("000001.wal")
    reading = directory.open("000001.wal")
    missing = str(tmp_path / "x" / "y")

    def provoke(use):
        try:
            use()
        except OSError:
            return True
        return False

    uses = [
        lambda: directory.create("000001.wal"),
        lambda: directory.open("missing"),
        lambda: directory.lock("x" * 300, b""),
        lambda: directory.link("missing", directory),
        lambda: directory.unlink("x" * 300),
        lambda: directory.length("x" * 300),
        lambda: reading.pwrite(b"x", 0),
        lambda: reading.truncate(0),
        lambda: file.pread(1, -1),
        lambda: storage.kind("x" * 300),
        lambda: storage.mkdir(missing, 0o777),
        lambda: storage.unlink(missing),
        lambda: storage.directory(missing, MODE),
        lambda: storage.sync_parent(missing),
    ]
    gc.collect()
    gc.disable()
    try:
        failed = [provoke(use) for use in uses]
        assert directory.peek("missing") == b""
        found = gc.collect()
    finally:
        gc.enable()
    assert all(failed)
    assert found == 0


@pytest.mark.parametrize("path", ["a/words", b"a/words", Path("a/words"), os.fsencode("a/words")])
def test_a_path_may_be_text_bytes_or_an_object(path):
    assert path_text(path) == "a/words"


def test_a_path_of_bytes_that_are_no_text_leads_to_the_same_file(tmp_path):
    raw = os.fsencode(tmp_path) + b"/\xff\xfe"
    OsStorage().mkdir(path_text(raw), 0o777)

    assert os.path.isdir(raw)


@pytest.mark.parametrize(
    ("path", "kind"), [(None, TypeError), (7, TypeError), ("a\0b", ValueError), (b"\0", ValueError)]
)
def test_what_is_no_path_is_refused_before_any_file_is_touched(path, kind):
    with pytest.raises(kind):
        path_text(path)


def test_time_and_randomness_are_those_of_the_system(storage):
    first = storage.monotonic()
    storage.sleep(0)

    assert first <= storage.monotonic()
    assert storage.pid() == os.getpid()
    assert (16, 16) == (len(storage.urandom(16)), len(storage.urandom(16)))
    assert storage.urandom(16) != storage.urandom(16)


# The file system in memory does what the real one does


class World:
    """One storage with its open handles; `run` gives the outcome of a step in comparable words."""

    def __init__(self, storage, root):
        self.storage = storage
        self.root = root
        self.directories = {}
        self.files = {}

    def run(self, step):
        name, *args = step
        try:
            return getattr(self, name)(*args)
        except OSError as exc:
            about = (exc.filename or str(exc)).replace(self.root, "")
            return type(exc).__name__, exc.errno, about

    def path(self, path):
        return self.root + path

    def mkdir(self, path):
        self.storage.mkdir(self.path(path), 0o777)

    def kind(self, path):
        return self.storage.kind(self.path(path))

    def remove(self, path):
        self.storage.unlink(self.path(path))

    def rmdir(self, path):
        self.storage.rmdir(self.path(path))

    def is_link(self, path):
        return self.storage.is_link(self.path(path))

    def sync_parent(self, path):
        self.storage.sync_parent(self.path(path))

    def directory(self, slot, path):
        self.directories[slot] = self.storage.directory(self.path(path), MODE)

    def in_directory(self, slot, use, *args):
        if slot not in self.directories:
            return None
        outcome = getattr(self.directories[slot], use)(*args)
        return sorted(outcome) if use == "listdir" else outcome

    def link(self, slot, name, target):
        if slot in self.directories and target in self.directories:
            self.directories[slot].link(name, self.directories[target])

    def same(self, slot, other):
        if slot not in self.directories or other not in self.directories:
            return None
        return self.directories[slot].identity() == self.directories[other].identity()

    def file(self, slot, directory, use, *args):
        if directory not in self.directories:
            return None
        self.files[slot] = getattr(self.directories[directory], use)(*args)  # drops what was there
        return self.files[slot] is None

    def on_file(self, slot, use, *args):
        if self.files.get(slot) is None:
            return None
        return getattr(self.files[slot], use)(*args)


def random_step(rng):
    names = ["LOCK", "000001.wal", "000002.sst", "sub"]
    paths = ["/db", "/db/sub", "/other", "/other/x/y", "/db/000001.wal", "/db/000001.wal/x", "/db/LOCK"]
    slot, name, path, directory = rng.randrange(4), rng.choice(names), rng.choice(paths), rng.randrange(3)
    return rng.choice(
        [
            ("mkdir", rng.choice(paths[:4] + paths[5:6])),
            ("kind", path),
            ("remove", path),
            ("is_link", path),
            ("rmdir", rng.choice(paths[1:])),
            ("sync_parent", path),
            ("directory", directory, path),
            ("directory", directory, "/db"),
            ("in_directory", directory, "peek", name),
            ("in_directory", directory, "unlink", name),
            ("in_directory", directory, "listdir"),
            ("in_directory", directory, "length", name) if name != "sub" else ("kind", path),
            ("in_directory", directory, "sync"),
            ("link", directory, name, rng.randrange(3)),
            ("same", directory, rng.randrange(3)),
            ("file", slot, directory, "create", name),
            ("file", slot, directory, "create", name),
            ("file", slot, directory, "open", name),
            ("file", slot, directory, "open", name),
            ("file", slot, directory, "lock", name, rng.randbytes(rng.randrange(5))),
            ("on_file", slot, "pwrite", rng.randbytes(rng.randrange(20)), rng.randrange(-1, 40)),
            ("on_file", slot, "pwrite", rng.randbytes(rng.randrange(300)), rng.randrange(40)),
            ("on_file", slot, "pread", rng.randrange(400), rng.randrange(-1, 300)),
            ("on_file", slot, "pread", 1000, 0),
            ("on_file", slot, "truncate", rng.randrange(-1, 100)),
            ("on_file", slot, "size"),
            ("on_file", slot, "fdatasync"),
            ("on_file", slot, "fsync"),
            ("on_file", slot, "close") if rng.random() < 0.3 else ("on_file", slot, "size"),
        ]
    )


# -- what is none of the system's -----------------------------------------------------------------------


def named(function, *names):
    """A call, and the functions of the system of which one raises in it."""
    return pytest.param(function, names, id=names[0])


@pytest.mark.parametrize(
    ("call", "names"),
    [
        named(lambda storage, directory, file: file.pread(1, 0), "pread"),
        named(lambda storage, directory, file: file.pwrite(b"x", 0), "pwrite"),
        named(lambda storage, directory, file: file.truncate(0), "ftruncate"),
        named(lambda storage, directory, file: file.fsync(), "fsync", "fdatasync"),
        named(lambda storage, directory, file: directory.sync(), "fsync"),
        named(lambda storage, directory, file: directory.create("new"), "open"),
        named(lambda storage, directory, file: directory.peek("file"), "open"),
        named(lambda storage, directory, file: directory.unlink("file"), "unlink"),
        named(lambda storage, directory, file: directory.listdir(), "listdir"),
        named(lambda storage, directory, file: directory.has_lost_lock(), "stat"),
        named(lambda storage, directory, file: storage.kind(directory.path), "stat"),
        named(lambda storage, directory, file: storage.is_link(directory.path), "lstat"),
        named(lambda storage, directory, file: OsFile(-1, "closed").close(), "close"),
    ],
)
def test_what_a_signal_handler_raises_in_a_call_comes_out_as_it_is(
    storage, directory, monkeypatch, call, names
):
    """TimeoutError, which handlers of alarms raise, is an OSError, and made a database fail for good."""
    lock = directory.lock("LOCK", b"me")
    file = directory.create("file")
    late = TimeoutError("too late")

    def interrupt(*_, **__):
        raise late

    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os_file.os, name, interrupt)
        with pytest.raises(TimeoutError) as caught:
            call(storage, directory, file)
    assert caught.value is late
    lock.close()


def test_what_a_signal_handler_raises_while_the_mount_table_is_read_comes_out_as_it_is(monkeypatch):
    def interrupt(*_, **__):
        raise TimeoutError

    monkeypatch.setattr(os_storage, "open", interrupt, raising=False)
    with pytest.raises(TimeoutError):
        os_storage._file_system(0)


@pytest.mark.parametrize("number", range(8))
def test_the_storage_in_memory_does_what_a_real_file_system_does(tmp_path, seed, number):
    rng = random.Random(f"{seed} storages {number}")
    worlds = [World(CrashStorage(), ""), World(OsStorage(), str(tmp_path))]
    steps = [("mkdir", "/db"), ("directory", 0, "/db")]
    outcomes = []
    for _ in range(1000):
        steps.append(random_step(rng))
        outcomes.append([world.run(steps[len(outcomes)]) for world in worlds])
        if outcomes[-1][0] != outcomes[-1][1]:
            shown = "\n".join(map(repr, list(zip(steps, outcomes, strict=False))[-20:]))
            pytest.fail(f"the last steps, each with its outcome in memory and on disk:\n{shown}")

    files = {
        path: {
            name: (tmp_path / path / name).read_bytes()
            for name in os.listdir(tmp_path / path)
            if (tmp_path / path / name).is_file()
        }
        for path in ("db", "other")
        if (tmp_path / path).is_dir()
    }
    assert files == {path: worlds[0].storage.contents(f"/{path}") for path in files}
