"""The strict file system is what the crash suites stand on; here it is seen losing what it must lose."""

import errno
import random

import pytest

from lsmdbm._base.errors import NotFoundError, error
from lsmdbm._base.storage import Directory, File, Storage
from support.crash_storage import MODES, READS, STORES, SYNCS, UNLINKS, WRITES, CrashStorage, Killed
from support.disk import POWER_LOSSES
from support.threads import in_threads

MODE = 0o666
SEEDS = range(200)  # enough for each roll of the dice named below to come up


@pytest.fixture
def storage():
    """A storage with the durable directory /db."""
    storage = CrashStorage()
    storage.mkdir("/db", 0o777)
    storage.sync_parent("/db")
    return storage


@pytest.fixture
def directory(storage):
    return storage.directory("/db", MODE)


def synced_file(directory, name, data):
    file = directory.create(name)
    file.pwrite(data, 0)
    file.fdatasync()
    directory.sync()
    return file


def after(storage, mode, seed=0):
    return storage.crash(mode, random.Random(seed)).contents("/db")


def outcomes(storage, mode, name):
    """Return what became of one file in many crashes."""
    return [after(storage, mode, seed).get(name) for seed in SEEDS]


# Killing the process


def test_kill_loses_nothing(storage, directory):
    directory.create("000001.wal").pwrite(b"hello", 0)

    assert after(storage, "kill") == {"000001.wal": b"hello"}


def test_after_a_kill_a_power_loss_still_loses_what_was_not_synced(storage, directory):
    file = synced_file(directory, "000001.wal", b"synced")
    file.pwrite(b"not synced", 6)
    killed = storage.crash("kill")

    assert killed.contents("/db") == {"000001.wal": b"syncednot synced"}
    assert after(killed, "strict") == {"000001.wal": b"synced"}


def test_a_new_process_can_sync_what_a_killed_one_wrote(storage, directory):
    directory.create("000001.wal").pwrite(b"hello", 0)
    killed = storage.crash("kill")
    directory = killed.directory("/db", MODE)
    directory.open("000001.wal").fdatasync()
    directory.sync()

    assert after(killed, "strict") == {"000001.wal": b"hello"}


def test_a_crash_leaves_the_old_storage_alone(storage, directory):
    file = synced_file(directory, "000001.wal", b"old")
    for mode in MODES:
        crashed = storage.crash(mode, random.Random(0))
        crashed.directory("/db", MODE).create("000002.wal").pwrite(b"new", 0)
    file.pwrite(b"er", 3)

    assert storage.contents("/db") == {"000001.wal": b"older"}
    assert crashed.contents("/db") == {"000001.wal": b"old", "000002.wal": b"new"}


# Losing power: what was synced


def test_strict_loses_bytes_that_were_not_synced(storage, directory):
    synced_file(directory, "000001.wal", b"synced").pwrite(b"SYN+more", 0)

    assert after(storage, "strict") == {"000001.wal": b"synced"}


def test_fdatasync_makes_the_length_durable_too(storage, directory):
    file = synced_file(directory, "000001.wal", b"hello")
    file.truncate(2)
    assert after(storage, "strict") == {"000001.wal": b"hello"}

    file.fdatasync()
    assert after(storage, "strict") == {"000001.wal": b"he"}


@pytest.mark.parametrize("sync", ["fdatasync", "fsync"])
def test_syncing_a_file_does_not_make_its_name_durable(storage, directory, sync):
    file = directory.create("000001.wal")
    file.pwrite(b"hello", 0)
    getattr(file, sync)()

    assert after(storage, "strict") == {}
    directory.sync()
    assert after(storage, "strict") == {"000001.wal": b"hello"}


def test_syncing_a_directory_makes_no_bytes_durable(storage, directory):
    directory.create("000001.wal").pwrite(b"hello", 0)
    directory.sync()

    assert after(storage, "strict") == {"000001.wal": b""}


def test_syncing_one_file_leaves_the_others_alone(storage, directory):
    first, second = synced_file(directory, "000001.wal", b""), synced_file(directory, "000002.wal", b"")
    first.pwrite(b"first", 0)
    second.pwrite(b"second", 0)
    second.fdatasync()

    assert after(storage, "strict") == {"000001.wal": b"", "000002.wal": b"second"}


def test_a_sync_covers_what_was_written_through_another_handle(storage, directory):
    directory.create("000001.wal").pwrite(b"hello", 0)
    directory.open("000001.wal").fdatasync()
    storage.directory("/db", MODE).sync()

    assert after(storage, "strict") == {"000001.wal": b"hello"}


def test_an_unlinked_file_comes_back_until_the_directory_is_synced(storage, directory):
    synced_file(directory, "000001.wal", b"hello")
    directory.unlink("000001.wal")
    assert after(storage, "strict") == {"000001.wal": b"hello"}

    directory.sync()
    assert after(storage, "strict") == {}


def test_a_name_reused_without_a_sync_may_come_back_as_the_old_file(storage, directory):
    synced_file(directory, "LOCK", b"old")
    directory.unlink("LOCK")
    directory.create("LOCK").pwrite(b"new", 0)

    assert after(storage, "strict") == {"LOCK": b"old"}
    assert {b"old", b"new", b"", None} == set(outcomes(storage, "reorder", "LOCK"))


def test_a_directory_whose_parent_was_not_synced_vanishes_with_all_in_it():
    storage = CrashStorage()
    storage.mkdir("/db", 0o777)
    synced_file(storage.directory("/db", MODE), "000001.wal", b"hello")
    assert storage.crash("strict").kind("/db") == "missing"
    assert storage.crash("kill").contents("/db") == {"000001.wal": b"hello"}

    storage.sync_parent("/db")
    assert storage.crash("strict").contents("/db") == {"000001.wal": b"hello"}


def test_a_link_is_durable_once_its_own_directory_is_synced(storage, directory):
    synced_file(directory, "000001.sst", b"hello")
    storage.mkdir("/copy", 0o777)
    storage.sync_parent("/copy")
    copy = storage.directory("/copy", MODE)
    directory.link("000001.sst", copy)
    assert storage.crash("strict").contents("/copy") == {}

    copy.sync()
    crashed = storage.crash("strict")
    assert crashed.contents("/copy") == {"000001.sst": b"hello"}
    crashed.plant("/copy/000001.sst", b"rot")  # still one file under two names
    assert crashed.contents("/db") == {"000001.sst": b"rot"}


def test_a_removed_directory_comes_back_with_all_it_held_until_its_parent_is_synced(storage, directory):
    synced_file(directory, "000001.wal", b"hello")
    directory.unlink("000001.wal")
    storage.rmdir("/db")
    assert storage.crash("strict").contents("/db") == {"000001.wal": b"hello"}
    assert storage.crash("kill").kind("/db") == "missing"

    storage.sync_parent("/db")
    assert storage.crash("strict").kind("/db") == "missing"


@pytest.mark.parametrize("mode", POWER_LOSSES)
def test_what_a_power_loss_left_is_durable(storage, directory, mode):
    for number in range(5):
        directory.create(f"{number:06d}.wal").pwrite(bytes([number]) * 1000, 0)
    for seed in range(20):
        crashed = storage.crash(mode, random.Random(seed))

        assert crashed.freeze().pending() == []
        assert crashed.contents("/db") == after(crashed, "strict")


def random_changes(storage, rng):
    """Change files and names at random; some of it synced."""
    directory = storage.directory("/db", MODE)
    files = {}
    for _ in range(rng.randrange(5, 40)):
        name = f"{rng.randrange(4):06d}.wal"
        step = rng.choice(("create", "pwrite", "pwrite", "pwrite", "truncate", "unlink", "fdatasync", "sync"))
        if step == "create" and name not in storage.contents("/db"):
            files[name] = directory.create(name)
        elif step == "unlink":
            directory.unlink(name)
            files.pop(name, None)
        elif step == "sync":
            directory.sync()
        elif name in files:
            file = files[name]
            if step == "pwrite":
                file.pwrite(bytes([rng.randrange(1, 255)]) * rng.randrange(1, 3000), rng.randrange(9000))
            elif step == "truncate":
                file.truncate(rng.randrange(9000))
            else:
                file.fdatasync()


@pytest.mark.parametrize("mode", POWER_LOSSES)
def test_no_power_loss_changes_what_it_may_not(seed, mode):
    """Bytes change only where an unsynced write or the unsynced end is; names only if a change is pending."""
    for number in range(150):
        rng = random.Random(f"{seed} power loss {number}")
        storage = CrashStorage()
        storage.plant("/db/000000.wal", rng.randbytes(5000))
        random_changes(storage, rng)
        root, now = storage.disk.nodes[2].now, storage.disk.nodes
        names = now[root["db"]]
        untouched = set(names.base) & set(names.now) - {change.name for change in names.changes}
        lost = storage.crash(mode, rng)
        left = lost.contents("/db")

        assert untouched <= set(left) <= {*names.base, *(change.name for change in names.changes)}
        for name in set(left) & untouched:
            file = now[names.now[name]]
            durable = CrashStorage.contents(storage.crash("strict"), "/db")[name]
            shortest = min([len(durable), *(c.offset for c in file.changes if c.data is None)])
            longest = max([len(durable), *(c.offset + len(c.data or b"") for c in file.changes)])
            assert shortest <= len(left[name]) <= longest
            touched = bytearray(longest)
            for change in file.changes:
                stop = longest if change.data is None else change.offset + len(change.data)
                touched[change.offset : stop] = b"x" * (stop - change.offset)
            for at in range(min(len(durable), len(left[name]))):
                assert touched[at] or durable[at] == left[name][at], (number, name, at)


# Losing power: the modes


def test_dir_prefix_keeps_the_changes_of_names_up_to_some_moment(storage, directory):
    for number in range(4):
        directory.create(f"{number}.wal")
    directory.unlink("0.wal")
    found = {tuple(sorted(after(storage, "dir-prefix", seed))) for seed in SEEDS}

    assert found == {
        (),
        ("0.wal",),
        ("0.wal", "1.wal"),
        ("0.wal", "1.wal", "2.wal"),
        ("0.wal", "1.wal", "2.wal", "3.wal"),
        ("1.wal", "2.wal", "3.wal"),
    }


def test_dir_prefix_keeps_synced_bytes_only(storage, directory):
    file = directory.create("000001.wal")
    file.pwrite(b"synced", 0)
    file.fdatasync()
    file.pwrite(b"more", 6)

    assert set(outcomes(storage, "dir-prefix", "000001.wal")) == {None, b"synced"}


def test_dir_prefix_orders_the_changes_of_two_directories(storage, directory):
    storage.mkdir("/copy", 0o777)
    storage.sync_parent("/copy")
    directory.create("first")
    storage.directory("/copy", MODE).create("second")
    crashes = [storage.crash("dir-prefix", random.Random(seed)) for seed in SEEDS]
    found = {(*crash.contents("/db"), *crash.contents("/copy")) for crash in crashes}

    assert found == {(), ("first",), ("first", "second")}


def test_reorder_keeps_a_later_name_without_an_earlier_one(storage, directory):
    directory.create("1.wal")
    directory.create("2.wal")
    found = {tuple(sorted(after(storage, "reorder", seed))) for seed in SEEDS}

    assert found == {(), ("1.wal",), ("2.wal",), ("1.wal", "2.wal")}


def test_reorder_keeps_a_later_file_without_an_earlier_one(storage, directory):
    for name in ("1.wal", "2.wal"):
        synced_file(directory, name, b"").pwrite(b"data", 0)
    found = {tuple(sorted(after(storage, "reorder", seed).items())) for seed in SEEDS}

    assert (("1.wal", b""), ("2.wal", b"data")) in found
    assert (("1.wal", b"data"), ("2.wal", b"")) in found


def test_reorder_keeps_no_write_all_the_first_few_or_any(storage, directory):
    file = synced_file(directory, "000001.wal", b"")
    for at, letter in enumerate(b"abc"):
        file.pwrite(bytes([letter]) * 100, 100 * at)
    a, b, c, hole = b"a" * 100, b"b" * 100, b"c" * 100, bytes(100)
    found = set(outcomes(storage, "reorder", "000001.wal"))

    assert {b"", a, a + b, a + b + c, hole + b, hole + hole + c, hole + b + c, a + hole + c} <= found


@pytest.mark.parametrize("size", [64, 4096])
def test_reorder_breaks_one_write_into_blocks_of_the_file(storage, directory, size):
    length = 5 * size
    synced_file(directory, "000001.wal", bytes(length)).pwrite(b"x" * (length - 37), 37)
    found = set(outcomes(storage, "reorder", "000001.wal"))
    cuts = {at for content in found for at in range(1, length) if content[at - 1] != content[at]}

    assert {length} == set(map(len, found))
    assert {at % 64 for at in cuts - {37}} == {0}
    assert any(  # a block that was written beside one that was not
        content[at - size : at] == bytes(size) and content[at : at + size] == b"x" * size
        for content in found
        for at in range(size, length, size)
    )


def test_reorder_may_lose_a_truncation_and_keep_what_followed(storage, directory):
    file = synced_file(directory, "000001.wal", b"old old")
    file.truncate(0)
    file.pwrite(b"new", 0)
    found = set(outcomes(storage, "reorder", "000001.wal"))

    assert {b"old old", b"new old", b"", b"new"} == found


def test_torn_cuts_the_last_write_short(storage, directory):
    file = synced_file(directory, "000001.wal", b"synced")
    file.pwrite(b"whole", 6)
    file.pwrite(b"t" * 10_000, 11)
    found = outcomes(storage, "torn", "000001.wal")

    assert all(content.startswith(b"syncedwhole") for content in found)
    assert all(b"t" * (len(content) - 11) == content[11:] for content in found)
    lengths = {len(content) for content in found}
    assert max(lengths) < 10_011
    assert any(length % 512 for length in lengths)
    assert any(length % 512 == 0 and length % 4096 for length in lengths)
    assert {4096, 8192} <= lengths


def test_torn_reaches_every_cut_of_a_small_write(storage, directory):
    synced_file(directory, "000001.wal", b"").pwrite(b"abcdef", 0)

    assert {b"", b"a", b"ab", b"abc", b"abcd", b"abcde"} == set(outcomes(storage, "torn", "000001.wal"))


def test_torn_always_cuts_the_newest_write_and_sometimes_older_ones_of_other_files(storage, directory):
    synced_file(directory, "1.wal", b"").pwrite(b"x" * 100, 0)
    synced_file(directory, "2.wal", b"").pwrite(b"x" * 100, 0)

    older, newer = outcomes(storage, "torn", "1.wal"), outcomes(storage, "torn", "2.wal")
    assert max(map(len, newer)) < 100
    assert {True, False} == {len(content) == 100 for content in older}


def test_torn_takes_what_was_written_after_a_kill_for_newer(storage, directory):
    older, newer = synced_file(directory, "1.wal", b""), synced_file(directory, "2.wal", b"")
    older.pwrite(b"x" * 100, 0)
    assert newer.size() == 0
    killed = storage.crash("kill")
    killed.plant("/db/2.wal", b"")
    killed.directory("/db", MODE).create("3.wal").pwrite(b"x" * 100, 0)

    assert max(map(len, outcomes(killed, "torn", "3.wal"))) < 100
    assert max(map(len, outcomes(killed, "torn", "1.wal"))) == 100
    assert min(killed.freeze().pending()) < 0 <= max(killed.freeze().pending())


def test_torn_keeps_names(storage, directory):
    directory.create("000001.wal").pwrite(b"x", 0)

    assert after(storage, "torn") == {"000001.wal": b""}


def test_a_torn_tail_keeps_synced_writes(storage, directory):
    file = synced_file(directory, "000001.wal", b"a" * 5000)
    file.pwrite(b"b" * 5000, 5000)
    file.fdatasync()

    assert set(outcomes(storage, "torn", "000001.wal")) == {b"a" * 5000 + b"b" * 5000}


def test_tail_fills_the_unsynced_end_with_zeros_garbage_or_what_another_file_has_there(storage, directory):
    storage.plant("/db/000001.wal", b"o" * 2000)
    file = synced_file(directory, "000002.wal", b"s" * 500)
    file.pwrite(b"n" * 1000, 500)
    found = outcomes(storage, "tail", "000002.wal")

    assert all(content[:500] == b"s" * 500 and len(content) <= 1500 for content in found)
    assert b"s" * 500 + bytes(1000) in found
    assert b"s" * 500 + b"o" * 1000 in found
    assert any(content[500:600] == b"n" * 100 and content[-100:] == bytes(100) for content in found)
    assert any(len(set(content)) > 200 for content in found)
    assert any(500 < len(content) < 1500 for content in found)


def test_tail_keeps_writes_inside_the_synced_length(storage, directory):
    synced_file(directory, "000001.wal", b"old").pwrite(b"N", 1)

    assert set(outcomes(storage, "tail", "000001.wal")) == {b"oNd"}


def test_trash_leaves_each_sector_new_old_or_random(storage, directory):
    file = synced_file(directory, "000001.wal", b"o" * 4096)
    file.pwrite(b"n" * 1536, 512)
    found = outcomes(storage, "trash", "000001.wal")

    assert all(content[:512] == b"o" * 512 and content[2048:] == b"o" * 2048 for content in found)
    kinds = set()
    for content in found:
        for start in (512, 1024, 1536):
            sector = content[start : start + 512]
            kinds.add({b"o" * 512: "old", b"n" * 512: "new"}.get(sector, "random"))
    assert kinds == {"old", "new", "random"}
    assert any(content[512:1024] == b"o" * 512 and content[1024:1536] == b"n" * 512 for content in found)


def test_a_mode_that_rolls_dice_asks_for_them_and_an_unknown_one_is_refused(storage):
    with pytest.raises(ValueError, match="needs a random"):
        storage.crash("reorder")
    with pytest.raises(KeyError):
        storage.crash("no such mode", random.Random(0))


def test_one_pending_call_can_be_lost_alone(storage, directory):
    file = directory.create("000001.wal")
    created = storage.count - 1
    file.pwrite(b"one", 0)
    file.pwrite(b"two", 3)
    image = storage.freeze()

    assert image.pending() == [created, created + 1, created + 2]
    assert ["create", "pwrite", "pwrite"] == [storage.calls[index][0] for index in image.pending()]
    assert image.crash_without(()).contents("/db") == {"000001.wal": b"onetwo"}
    assert image.crash_without({created}).contents("/db") == {}
    assert image.crash_without({created + 1}).contents("/db") == {"000001.wal": b"\0\0\0two"}


# Images


def test_an_image_keeps_its_moment(storage, directory):
    file = synced_file(directory, "000001.wal", b"one")
    file.pwrite(b"two", 3)
    image = storage.freeze()
    file.pwrite(b"three", 6)
    file.fdatasync()
    file.truncate(0)
    directory.unlink("000001.wal")
    directory.create("000002.wal")
    directory.sync()
    storage.plant("/db/000001.wal", b"rot")
    storage.erase("/db/000002.wal")

    assert image.crash("kill").contents("/db") == {"000001.wal": b"onetwo"}
    assert image.crash("strict").contents("/db") == {"000001.wal": b"one"}


def test_a_hook_before_each_call_sees_the_disk_as_the_call_before_left_it(storage, directory):
    seen = []
    storage.on_call = lambda index, operation, path: seen.append(
        (index, operation, path, storage.freeze().crash("kill").contents("/db"))
    )
    first = storage.count
    file = directory.create("1.wal")
    file.pwrite(b"x", 0)
    directory.unlink("1.wal")

    assert seen == [
        (first, "create", "/db/1.wal", {}),
        (first + 1, "pwrite", "/db/1.wal", {"1.wal": b""}),
        (first + 2, "unlink", "/db/1.wal", {"1.wal": b"x"}),
    ]


def test_what_a_hook_raises_comes_out_of_a_call_without_effect(storage, directory):
    def stop(index, operation, path):
        raise KeyboardInterrupt

    storage.on_call = stop
    with pytest.raises(KeyboardInterrupt):
        directory.create("1.wal")
    assert storage.contents("/db") == {}


def test_everything_follows_from_the_seed():
    def story(seed):
        storage = CrashStorage(seed)
        storage.plant("/db/000000.wal", storage.urandom(100))
        random_changes(storage, random.Random(seed))
        crashed = storage.crash("trash", random.Random(seed))
        return storage.contents("/db"), crashed.contents("/db"), crashed.urandom(8), storage.calls

    assert story(1) == story(1)
    assert story(1) != story(2)


def test_randomness_does_not_repeat_in_a_later_life():
    storage = CrashStorage()
    given = {storage.urandom(8)}
    for _ in range(5):
        storage.kind("/db")
        storage = storage.crash("kill")
        given.add(storage.urandom(8))

    assert len(given) == 6


def test_time_passes_only_when_it_is_told_to():
    storage = CrashStorage()
    assert storage.monotonic() == storage.monotonic()
    start = storage.monotonic()
    storage.sleep(2)
    storage.advance(0.5)

    assert storage.monotonic() == start + 2.5 == storage.crash("kill").monotonic()


def test_each_life_is_another_process_on_another_disk(storage, directory):
    crashed = storage.crash("kill")

    assert storage.pid() != crashed.pid()
    assert directory.identity() != crashed.directory("/db", MODE).identity()
    assert directory.identity() == storage.directory("/db", MODE).identity()


# Locks and open files


def test_a_lock_ends_with_its_file_and_with_the_process(storage, directory):
    held = directory.lock("LOCK", b"first")
    assert directory.lock("LOCK", b"second") is None
    assert storage.directory("/db", MODE).lock("LOCK", b"third") is None
    assert directory.peek("LOCK") == b"first"
    assert storage.crash("kill").directory("/db", MODE).lock("LOCK", b"next life") is not None

    held.close()
    held.close()
    again = directory.lock("LOCK", b"fourth")
    assert again is not None
    del again
    assert directory.lock("LOCK", b"fifth") is not None


def test_a_lock_that_failed_is_not_held(storage, directory):
    storage.fault(storage.count, errno.ENOSPC, "after")
    with pytest.raises(error) as caught:
        directory.lock("LOCK", b"first")

    assert caught.value.errno == errno.ENOSPC
    assert directory.lock("LOCK", b"second") is not None


def test_a_lock_belongs_to_the_file_not_to_the_name(storage, directory):
    held = directory.lock("LOCK", b"first")
    directory.unlink("LOCK")

    assert directory.lock("LOCK", b"second") is not None
    assert held.size() == 5


def test_an_unlinked_file_stays_usable_until_it_is_closed(storage, directory):
    file = synced_file(directory, "000001.wal", b"hello")
    directory.unlink("000001.wal")
    directory.sync()
    file.pwrite(b"!", 5)
    file.fdatasync()

    assert file.pread(10, 0) == b"hello!"
    assert after(storage, "kill") == after(storage, "strict") == {}


def test_files_no_name_leads_to_are_forgotten(storage, directory):
    for number in range(20):
        synced_file(directory, f"{number:06d}.wal", b"hello")
        directory.unlink(f"{number:06d}.wal")
        directory.sync()

    assert len(storage.disk.nodes) == 2  # the root and /db


# Faults


def test_every_method_that_can_fail_is_numbered():
    methods = {name for protocol in (Storage, Directory, File) for name in vars(protocol) if name[0] != "_"}

    cannot_fail = {
        "close",
        "pid",
        "monotonic",
        "sleep",
        "urandom",
        "start_process",
        "start_thread",
        "has_lost_lock",
    }
    assert methods - cannot_fail == WRITES | SYNCS | UNLINKS | READS
    storage = CrashStorage()
    storage.mkdir("/db", 0o777)
    directory = storage.directory("/db", MODE)
    with_arguments = {
        "create": ("1.wal",),
        "lock": ("LOCK", b""),
        "open": ("1.wal",),
        "peek": ("1.wal",),
        "length": ("1.wal",),
        "link": ("1.wal", storage.directory("/", MODE)),
        "unlink": ("1.wal",),
    }
    for name, arguments in with_arguments.items():
        getattr(directory, name)(*arguments)
    for name in ("listdir", "sync", "identity", "why_not_mapped"):
        getattr(directory, name)()
    file = directory.create("2.wal")
    file.pwrite(b"x", 0)
    file.pread(1, 0)
    file.truncate(0)
    for name in ("fdatasync", "fsync", "size"):
        getattr(file, name)()
    file.map(64)
    file.pwrite(b"x", 0)
    file.unmap(1)
    directory.take_mode(storage.directory("/", MODE), itself=True)
    storage.kind("/db")
    storage.is_link("/db")
    storage.sync_parent("/db")
    storage.unlink("/db/2.wal")
    storage.mkdir("/empty", 0o777)
    storage.rmdir("/empty")

    assert WRITES | STORES | SYNCS | UNLINKS | READS == {operation for operation, _ in storage.calls}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_a_fault_strikes_one_call_before_it_has_any_effect(storage, directory, code):
    file = directory.create("1.wal")
    storage.fault(storage.count, code)
    with pytest.raises(error) as caught:
        file.pwrite(b"x", 0)

    assert (code, "/db/1.wal") == (caught.value.errno, caught.value.filename)
    assert storage.hits == [(storage.count - 1, "pwrite", "/db/1.wal")]
    assert file.size() == 0
    assert file.pwrite(b"x", 0) == 1


def test_a_missing_name_by_fault_is_the_error_a_missing_name_is(storage, directory):
    directory.create("1.wal")
    storage.fault(storage.count, errno.ENOENT)
    with pytest.raises(NotFoundError):
        directory.open("1.wal")


def use_everything(storage, directory):
    """Return every call once, as (name, function), on files that are there."""
    for name in ("1.wal", "LOCK", "3.wal"):
        storage.plant(f"/db/{name}", b"hello")
    file = directory.lock("LOCK", b"")
    file.pwrite(b"hello", 0)
    storage.mkdir("/copy", 0o777)
    copy = storage.directory("/copy", MODE)
    storage.mkdir("/empty", 0o777)
    mapped = directory.create("mapped")
    mapped.map(64)
    return [
        ("kind", lambda: storage.kind("/db")),
        ("is_link", lambda: storage.is_link("/db")),
        ("rmdir", lambda: storage.rmdir("/empty")),
        ("take_mode", lambda: directory.take_mode(copy, itself=True)),
        ("mkdir", lambda: storage.mkdir("/new", 0o777)),
        ("directory", lambda: storage.directory("/db", MODE)),
        ("sync_parent", lambda: storage.sync_parent("/db")),
        ("create", lambda: directory.create("2.wal")),
        ("open", lambda: directory.open("1.wal")),
        ("lock", lambda: directory.lock("LOCK2", b"")),
        ("link", lambda: directory.link("1.wal", copy)),
        ("listdir", directory.listdir),
        ("length", lambda: directory.length("1.wal")),
        ("sync", directory.sync),
        ("identity", directory.identity),
        ("why_not_mapped", directory.why_not_mapped),
        ("map", lambda: mapped.map(64)),
        ("unmap", lambda: mapped.unmap(3)),
        ("pread", lambda: file.pread(1, 0)),
        ("pwrite", lambda: file.pwrite(b"x", 0)),
        ("truncate", lambda: file.truncate(0)),
        ("fdatasync", file.fdatasync),
        ("fsync", file.fsync),
        ("size", file.size),
        ("unlink", lambda: directory.unlink("1.wal")),
        ("unlink", lambda: storage.unlink("/db/3.wal")),
    ]


@pytest.mark.parametrize("kind", ["before", "after", "partial", "clean", "reverted"])
def test_every_call_can_fail(storage, directory, kind):
    for name, call in use_everything(storage, directory):
        storage.fault(storage.count, errno.EIO, kind)
        with pytest.raises(error) as caught:
            call()
        assert (caught.value.errno, storage.hits[-1][1]) == (errno.EIO, name)
        storage.heal()
        if not (kind == "after" and name in ("mkdir", "rmdir", "create", "link", "unlink")):
            call()


def test_a_peek_swallows_its_fault_as_it_does_every_error(storage, directory):
    directory.create("1.wal").pwrite(b"x", 0)
    storage.fault(storage.count, errno.EIO)

    assert directory.peek("1.wal") == b""
    assert directory.peek("1.wal") == b"x"


def test_a_call_can_fail_after_it_took_effect(storage, directory):
    storage.fault(storage.count, errno.EIO, "after")
    with pytest.raises(error):
        directory.create("1.wal")
    file = directory.open("1.wal")
    storage.fault(storage.count, errno.EIO, "after")
    with pytest.raises(error):
        directory.sync()

    assert after(storage, "strict") == {"1.wal": b""}
    assert file.size() == 0


@pytest.mark.parametrize("kind", ["partial", "short"])
def test_a_write_can_stop_halfway(storage, directory, kind):
    file = directory.create("1.wal")
    storage.fault(storage.count, errno.ENOSPC, kind)
    if kind == "short":
        assert file.pwrite(b"123456", 0) == 3
    else:
        with pytest.raises(error):
            file.pwrite(b"123456", 0)

    assert file.pread(10, 0) == b"123"


def test_a_full_disk_writes_short_first_and_then_nothing_but_still_unlinks_and_reads(storage, directory):
    file = directory.create("1.wal")
    storage.fault(storage.count, errno.ENOSPC, "short", sticky=True)
    assert file.pwrite(b"123456", 0) == 3
    for call in (
        lambda: file.pwrite(b"456", 3),
        lambda: directory.create("2.wal"),
        lambda: file.truncate(99),
    ):
        with pytest.raises(error) as caught:
            call()
        assert caught.value.errno == errno.ENOSPC
    file.fdatasync()
    assert file.pread(10, 0) == b"123"
    directory.unlink("1.wal")

    storage.heal()
    directory.create("2.wal")
    assert storage.contents("/db") == {"2.wal": b""}


def test_a_fault_can_name_the_operations_that_fail_from_then_on(storage, directory):
    directory.create("1.wal")
    storage.fault(storage.count, errno.EMFILE, later={"open", "create"})
    with pytest.raises(error):
        directory.listdir()
    directory.listdir()
    for call in (lambda: directory.open("1.wal"), lambda: directory.create("2.wal")):
        with pytest.raises(error) as caught:
            call()
        assert caught.value.errno == errno.EMFILE


def test_a_sync_that_failed_before_it_began_can_be_repeated(storage, directory):
    file = synced_file(directory, "1.wal", b"")
    file.pwrite(b"x", 0)
    storage.fault(storage.count, errno.EIO)
    with pytest.raises(error):
        file.fdatasync()
    assert after(storage, "strict") == {"1.wal": b""}

    file.fdatasync()
    assert after(storage, "strict") == {"1.wal": b"x"}


def test_a_failed_sync_leaves_pages_clean_and_no_later_sync_covers_them(storage, directory):
    """What Linux does: the second fsync succeeds, and the bytes are not on the disk."""
    file = synced_file(directory, "1.wal", b"")
    file.pwrite(b"lost", 0)
    storage.fault(storage.count, errno.EIO, "clean")
    with pytest.raises(error):
        file.fdatasync()
    file.fdatasync()
    assert file.pread(10, 0) == b"lost"
    assert after(storage, "kill") == {"1.wal": b"lost"}
    assert after(storage, "strict") == {"1.wal": b""}

    file.pwrite(b"kept", 4)
    file.fdatasync()
    assert file.pread(10, 0) == b"lostkept"
    assert after(storage, "strict") == {"1.wal": b"\0\0\0\0kept"}
    assert {b"lostkept", b"\0\0\0\0kept"} == set(outcomes(storage, "reorder", "1.wal"))
    file.pwrite(b"LOST", 0)  # writing it again makes it dirty again
    file.fdatasync()
    assert after(storage, "strict") == {"1.wal": b"LOSTkept"}


def test_clean_pages_stay_clean_for_the_next_process(storage, directory):
    file = synced_file(directory, "1.wal", b"")
    file.pwrite(b"lost", 0)
    storage.fault(storage.count, errno.EIO, "clean")
    with pytest.raises(error):
        file.fdatasync()
    killed = storage.crash("kill")
    killed.directory("/db", MODE).open("1.wal").fdatasync()

    assert killed.contents("/db") == {"1.wal": b"lost"}
    assert after(killed, "strict") == {"1.wal": b""}


def test_a_later_durable_write_is_not_undone_by_an_older_one_that_was_given_up(storage, directory):
    file = synced_file(directory, "1.wal", b"")
    file.pwrite(b"oldold", 0)
    storage.fault(storage.count, errno.EIO, "clean")
    with pytest.raises(error):
        file.fdatasync()
    file.pwrite(b"new", 0)
    file.fdatasync()

    assert {b"newold", b"new"} == set(outcomes(storage, "reorder", "1.wal"))


def test_a_sync_can_report_its_failure_one_sync_late(storage, directory):
    file = synced_file(directory, "1.wal", b"")
    file.pwrite(b"lost", 0)
    storage.fault(storage.count, errno.EIO, "late")
    file.fdatasync()
    assert after(storage, "strict") == {"1.wal": b""}

    file.pwrite(b"lost too", 4)
    with pytest.raises(error) as caught:
        directory.open("1.wal").fsync()
    assert caught.value.errno == errno.EIO
    file.fdatasync()
    assert after(storage, "strict") == {"1.wal": b""}


def test_a_failed_sync_can_take_the_changes_out_of_view(storage, directory):
    file = synced_file(directory, "1.wal", b"old")
    file.pwrite(b"newer", 0)
    storage.fault(storage.count, errno.EIO, "reverted")
    with pytest.raises(error):
        file.fdatasync()

    assert file.pread(10, 0) == b"old"
    file.fdatasync()
    assert after(storage, "strict") == {"1.wal": b"old"}


def test_a_sync_can_fail_halfway(storage, directory):
    file = synced_file(directory, "1.wal", b"")
    file.pwrite(b"one", 0)
    file.pwrite(b"two", 3)
    storage.fault(storage.count, errno.EIO, "partial")
    with pytest.raises(error):
        file.fdatasync()
    assert after(storage, "strict") == {"1.wal": b"one"}

    file.fdatasync()
    assert after(storage, "strict") == {"1.wal": b"onetwo"}


@pytest.mark.parametrize("kind", ["clean", "reverted", "late"])
def test_the_sync_of_a_directory_fails_in_the_same_ways(storage, directory, kind):
    synced_file(directory, "1.wal", b"")
    directory.unlink("1.wal")
    directory.create("2.wal")
    storage.fault(storage.count, errno.EIO, kind)
    if kind == "late":
        directory.sync()
    with pytest.raises(error):
        directory.sync()
    directory.sync()
    assert set(directory.listdir()) == ({"1.wal"} if kind == "reverted" else {"2.wal"})
    assert after(storage, "strict") == {"1.wal": b""}

    directory.create("3.wal")
    directory.sync()
    assert after(storage, "strict") == {"1.wal": b"", "3.wal": b""}


def test_syncs_can_fail_from_now_on(storage, directory):
    file = synced_file(directory, "1.wal", b"")
    storage.fault(storage.count + 1, errno.EIO, "clean", sticky=True)
    for at, letter in enumerate(b"abc"):
        file.pwrite(bytes([letter]), at)
        with pytest.raises(error):
            file.fdatasync()
    with pytest.raises(error):
        directory.sync()

    assert file.pread(10, 0) == b"abc"
    assert after(storage, "strict") == {"1.wal": b""}


@pytest.mark.parametrize(("kind", "left"), [("before", b""), ("partial", b"123"), ("after", b"123456")])
def test_a_process_that_dies_at_a_call_does_nothing_afterwards(storage, directory, kind, left):
    file = directory.create("1.wal")
    held = directory.lock("LOCK", b"")
    storage.fault(storage.count, None, kind)
    with pytest.raises(Killed):
        file.pwrite(b"123456", 0)
    for call in (
        lambda: file.pwrite(b"x", 0),
        file.fdatasync,
        lambda: directory.unlink("1.wal"),
        directory.sync,
    ):
        with pytest.raises(Killed):
            call()
    file.close()
    held.close()

    assert storage.dead
    assert after(storage, "kill") == {"1.wal": left, "LOCK": b""}


def test_a_process_can_die_in_every_call(storage, directory):
    for name, call in use_everything(storage, directory):
        storage.fault(storage.count, None)
        with pytest.raises(Killed):
            call()
        assert storage.hits[-1][1] == name
        storage.heal()
        storage.dead = False


def test_a_fault_of_an_unknown_kind_is_refused(storage):
    with pytest.raises(ValueError, match="kind='sometimes'"):
        storage.fault(0, errno.EIO, "sometimes")


# Planting


def test_planted_files_are_durable_with_their_directories():
    storage = CrashStorage()
    storage.plant("/a/b/000001.sst", b"hello")

    assert storage.freeze().pending() == []
    assert storage.crash("strict").contents("/a/b") == {"000001.sst": b"hello"}
    assert storage.count == 0


def test_planting_over_a_file_damages_it_in_place(storage, directory):
    file = synced_file(directory, "000001.sst", b"hello")
    file.pwrite(b"more", 5)
    storage.plant("/db/000001.sst", b"rot")

    assert file.pread(10, 0) == b"rot"
    assert after(storage, "strict") == after(storage, "kill") == {"000001.sst": b"rot"}


def test_planting_and_erasing_change_no_image(storage, directory):
    synced_file(directory, "000001.sst", b"hello")
    image = storage.freeze()
    storage.plant("/db/000002.sst", b"new")
    storage.plant("/db/000001.sst", b"rot")
    storage.erase("/db/000001.sst")

    assert image.crash("strict").contents("/db") == {"000001.sst": b"hello"}


def test_an_erased_name_stays_away(storage, directory):
    file = synced_file(directory, "000001.sst", b"hello")
    storage.erase("/db/000001.sst")

    assert after(storage, "strict") == after(storage, "kill") == {}
    assert file.pread(10, 0) == b"hello"


# Threads


def test_threads_may_use_one_storage_at_once(storage, directory):
    failures = []

    def work(number):
        try:
            file = directory.create(f"{number:06d}.wal")
            for at in range(300):
                file.pwrite(b"%d" % number, at)
                if at % 50 == 0:
                    file.fdatasync()
                    directory.sync()
                    storage.crash("strict").contents("/db")
        except BaseException as exc:
            failures.append(exc)

    in_threads(work, range(4))

    assert failures == []
    assert storage.contents("/db") == {f"{number:06d}.wal": b"%d" % number * 300 for number in range(4)}
    assert len({*storage.freeze().pending()}) == len(storage.freeze().pending())


# Mapped files


def mapped_file(directory, length=200):
    file = directory.create("000001.wal")
    file.map(length)
    return file


def test_a_file_that_is_mapped_has_its_whole_length_once_that_was_synced(storage, directory):
    file = mapped_file(directory)
    directory.sync()
    assert {b"", bytes(200)} <= set(outcomes(storage, "reorder", "000001.wal"))
    assert after(storage, "strict") == {"000001.wal": b""}

    file.fdatasync()
    assert after(storage, "strict") == {"000001.wal": bytes(200)}


def test_stores_survive_a_kill_and_a_power_loss_keeps_any_blocks_of_them(storage, directory):
    file = mapped_file(directory)
    file.fdatasync()
    directory.sync()
    for number in range(3):
        file.pwrite(b"%d" % number * 64, 64 * number)
    found = outcomes(storage, "reorder", "000001.wal")

    stored = b"0" * 64 + b"1" * 64 + b"2" * 64 + bytes(8)
    assert after(storage, "kill") == {"000001.wal": stored}
    assert bytes(64) + b"1" * 64 + bytes(72) in found  # neither the one before nor the one behind
    assert {200} == {len(data) for data in found}
    assert ["store"] * 3 == [operation for operation, _ in storage.calls][-3:]
    file.fdatasync()
    assert after(storage, "strict") == {"000001.wal": stored}


def test_a_process_killed_in_a_store_has_stored_any_pieces_of_it(storage, directory):
    file = mapped_file(directory)
    storage.fault(storage.count, None, "partial")
    with pytest.raises(Killed):
        file.pwrite(b"x" * 160, 10)
    data = storage.crash("kill").contents("/db")["000001.wal"]

    assert (b"\0" * 10, b"\0" * 30) == (data[:10], data[170:])
    pieces = {data[start : start + 16] for start in range(10, 170, 16)}
    assert {b"x" * 16, bytes(16)} == pieces


def test_a_store_does_not_fail_where_a_write_would(storage, directory):
    file = mapped_file(directory)
    storage.fault(storage.count, errno.EIO, sticky=True)
    assert 1 == file.pwrite(b"x", 0)
    storage.fault(storage.count, errno.ENOSPC, later=WRITES | STORES)
    with pytest.raises(error):
        directory.listdir()

    assert (1, b"xy") == (file.pwrite(b"y", 1), file.pread(2, 0))


def test_what_would_be_a_sigbus_is_noticed(storage, directory):
    file = mapped_file(directory)
    with pytest.raises(AssertionError, match="beyond the mapping"):
        file.pwrite(b"xx", 199)
    with pytest.raises(AssertionError, match="cut while it is mapped"):
        file.truncate(10)
    storage.plant("/db/000001.wal", b"cut by somebody else")
    with pytest.raises(AssertionError, match="SIGBUS at 21 of 20"):
        file.pwrite(b"x", 20)


def test_half_a_file_may_be_allocated_when_the_disk_is_full(storage, directory):
    file = directory.create("000001.wal")
    storage.fault(storage.count, errno.ENOSPC, "partial")
    with pytest.raises(error):
        file.map(200)
    file.pwrite(b"x", 0)

    assert ("pwrite", 100) == (storage.calls[-1][0], file.size())


def test_a_file_that_is_not_mapped_any_more_is_written_like_any_other(storage, directory):
    file = mapped_file(directory)
    file.pwrite(b"hello", 0)
    file.unmap(5)
    file.unmap(3)  # nothing: it is not mapped
    file.pwrite(b" world", 5)

    assert {"000001.wal": b"hello world"} == storage.contents("/db")
    assert ["map", "store", "unmap", "pwrite"] == [operation for operation, _ in storage.calls][-4:]
