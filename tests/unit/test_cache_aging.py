"""Which entries go soon, and how the bytes of a cache are shared out."""

import pytest

from lsmdbm._engine.version import Version
from lsmdbm.cache.aging import late_stamp
from lsmdbm.cache.space import MAX_BYTES, Space
from support.stage import table_meta


@pytest.mark.parametrize(
    ("room", "share", "late"),
    [
        (400, 0.25, 1),
        (400, 0.5, 2),
        (400, 0.51, 3),
        (400, 1, 4),
        (400, 0, -1),
        (500, 0.2, -1),  # the next table fits in
        (500, 0.25, 1),
        (10_000, 0.25, -1),
        (300, 0.1, 2),  # one goes at once
    ],
)
def test_entries_are_late_whose_tables_go_before_so_much_of_the_room_is_written(room, share, late):
    tables = [table_meta(number, b"a", b"z", file_bytes=100) for number in (4, 3, 2, 1)]

    assert [4, 3, 2, 1] == [meta.last_seq for meta in tables]
    assert late == late_stamp(Version((tuple(tables),)), room, share)
    assert late_stamp(Version(), room, share) == -1


@pytest.mark.parametrize("max_bytes", [1 << 20, 10_000_000, MAX_BYTES, 1 << 40])
def test_tables_get_what_log_flush_and_fold_leave(max_bytes):
    space = Space.of(max_bytes, None)

    assert max_bytes == space.table_bytes + 4 * space.memtable_bytes + max_bytes // 8
    assert 3 * max_bytes // 4 <= space.table_bytes < 7 * max_bytes // 8
    assert 8 << 20 >= space.memtable_bytes
