"""The order of tables without a manifest, and what of a log counts.  Whole repairs: tests/behaviour."""

import pytest

from lsmdbm._engine import seniority
from lsmdbm._engine.findings import Findings
from lsmdbm._engine.remains import _salvage_logs
from lsmdbm._engine.seniority import Relic, _is_newer, _newest_first, runs_of
from lsmdbm._format.records import LogHeader, encode_put
from lsmdbm._format.table_writer import Origin
from support.crash_storage import CrashStorage
from support.engine import PATH, new_directory
from support.stage import table_meta


def table(number, level, seqs, keys="az", inputs=()):
    """A table by its number, the level it was written for, its sequences, its bounds, and its inputs."""
    smallest, largest = keys.encode()[:1], keys.encode()[1:]
    return Relic(number, table_meta(number, smallest, largest), Origin(level, *seqs, tuple(inputs)))


def order(*tables):
    work = Findings(None, [])
    work.directory = type("Directory", (), {"path": "/db"})
    ordered = [table.number for table in _newest_first(list(tables), work)]
    return ordered, len(work.doubts)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ([], ([], 0)),
        ([table(1, 0, (1, 10)), table(2, 0, (11, 20))], ([2, 1], 0)),  # level 0: by sequence
        ([table(9, 1, (1, 20)), table(8, 0, (21, 30))], ([8, 9], 0)),  # above: newer
        ([table(1, 0, (1, 10)), table(5, 1, (11, 30))], ([5, 1], 0)),  # moved down since: sequences tell
        ([table(1, 0, (1, 10), "ac"), table(5, 1, (5, 30), "df")], ([1, 5], 0)),  # no key in common
        ([table(4, 1, (1, 20)), table(6, 2, (1, 15))], ([4, 6], 1)),  # a guess
        ([table(1, 0, (1, 10)), table(2, 0, (11, 20)), table(3, 1, (1, 20), inputs=[1, 2])], ([3, 2, 1], 0)),
    ],
)
def test_newest_first(tables, expected, reverse):
    assert expected == order(*(tables[::-1] if reverse else tables))


def test_an_output_stands_before_its_inputs_whatever_the_levels_say():
    upper, lower = table(1, 0, (1, 10)), table(3, 1, (1, 10), inputs=[1])

    assert (False, False) == _is_newer(upper, lower)
    assert (True, False) == _is_newer(lower, upper)


def test_a_circle_of_guesses_ends():
    """a above b by level, b above c by sequence, c above a by input: no order keeps all three."""
    a, b, c = table(1, 0, (5, 10)), table(2, 1, (8, 20)), table(3, 2, (1, 7), inputs=[1])
    ordered, _ = order(a, b, c)

    assert [1, 2, 3] == sorted(ordered)


def test_runs_are_neighbours_without_a_common_key_in_key_order():
    tables = [
        table(1, 0, (50, 60), "az"),
        table(2, 1, (1, 40), "mp"),
        table(3, 1, (1, 40), "ac"),
        table(4, 2, (1, 30), "cd"),
        table(5, 2, (1, 30), "ef"),
        Relic(6, None, Origin(16, 0, 0)),
    ]

    assert [[1], [3, 2], [4, 5], [6]] == [[table.number for table in run] for run in runs_of(tables)]


# What of the logs counts where recovery refuses them


class Logs:
    """Logs made by hand in an empty directory."""

    def __init__(self):
        self.storage = CrashStorage()
        self.directory = new_directory(self.storage)

    def add(self, number, first_seq, *writes, prev=0, prev_end=0):
        """Add a log whose records have the sequences from `first_seq` on; None is one that was damaged."""
        header = LogHeader(number, number, first_seq, prev, prev_end, first_seq - 1)
        data = header.encode()
        for seq, write in enumerate(writes, first_seq):
            record = encode_put(header.seed, seq, 0, *(write or (b"?", b"?")))
            data += record if write else bytes([record[0] ^ 1]) + record[1:]
        self.storage.plant(f"{PATH}/{number:06d}.wal", data)
        return len(data)

    def read(self, held):
        work = Findings(self.directory, sorted(self.directory.listdir()))
        memtable, last_seq, cleared = _salvage_logs(None, held, work)
        assert 0 == cleared
        return memtable.entries, last_seq, work


OLD, NEW, MORE = (b"a", b"old"), (b"a", b"new"), (b"b", b"more")


def test_records_that_lead_beyond_what_tables_hold_count_from_the_first_one_on():
    logs = Logs()
    end = logs.add(5, 1, OLD, NEW)
    logs.add(6, 3, MORE, prev=5, prev_end=end)
    entries, last_seq, work = logs.read(held=2)

    assert ({b"a": b"new", b"b": b"more"}, 3, [], [], 3) == (
        entries,
        last_seq,
        work.losses,
        work.doubts,
        work.records,
    )


def test_records_of_a_log_that_ends_below_what_tables_hold_do_not_count():
    """Tables hold them, and what replaced them."""
    logs = Logs()
    logs.add(5, 1, OLD)

    assert ({}, 2) == logs.read(held=2)[:2]
    assert ({b"a": b"old"}, 1) == logs.read(held=1)[:2]  # the same in both


def test_records_before_a_gap_below_what_tables_hold_do_not_count():
    logs = Logs()
    logs.add(5, 1, OLD)
    logs.add(9, 3, MORE)
    entries, last_seq, work = logs.read(held=2)

    assert ({b"b": b"more"}, 3, []) == (entries, last_seq, work.doubts)


def test_records_behind_a_gap_count_and_are_a_doubt():
    logs = Logs()
    logs.add(5, 1, NEW, None, MORE)
    entries, last_seq, work = logs.read(held=0)

    assert ({b"a": b"new", b"b": b"more"}, 3) == (entries, last_seq)
    assert ["records before this one are lost; what follows is applied without them"] == [
        doubt.what for doubt in work.doubts
    ]
    assert [f"{PATH}/000005.wal"] == [loss.path for loss in work.losses]


def test_records_missing_in_front_of_all_logs_are_a_doubt():
    logs = Logs()
    logs.add(5, 4, NEW)

    assert [1, 0] == [len(logs.read(held)[2].doubts) for held in (2, 3)]


def test_zeros_behind_the_last_record_are_no_loss():
    """A mapped log is allocated ahead of what is written."""
    logs = Logs()
    logs.add(1, 1, OLD, MORE)
    name = f"{PATH}/000001.wal"
    data = logs.storage.contents(PATH)["000001.wal"]
    for tail, losses in ((b"", 0), (bytes(500), 0), (bytes(500) + b"x", 1)):
        logs.storage.plant(name, data + tail)
        entries, _, work = logs.read(held=0)
        assert (dict([OLD, MORE]), losses) == (entries, len(work.losses))


def test_what_a_later_log_did_not_go_on_from_does_not_count():
    logs = Logs()
    end = logs.add(5, 1, NEW)
    logs.add(5, 1, NEW, OLD)  # the second was not seen by the opening that made log 6
    logs.add(6, 2, MORE, prev=5, prev_end=end)

    assert ({b"a": b"new", b"b": b"more"}, 2) == logs.read(held=0)[:2]


def test_a_log_that_was_given_up_does_not_count():
    """Its predecessor was lost with the power; a later log has given its sequences anew."""
    logs = Logs()
    end = logs.add(5, 1, NEW)
    logs.add(8, 3, OLD, OLD, OLD, prev=7, prev_end=100)
    logs.add(12, 2, MORE, MORE, prev=5, prev_end=end)

    assert ({b"a": b"new", b"b": b"more"}, 3) == logs.read(held=0)[:2]


def test_a_planted_fault_in_the_order_is_found(monkeypatch):
    monkeypatch.setattr(seniority, "_is_newer", lambda upper, lower: (True, False))
    tables = [table(1, 0, (1, 10)), table(5, 1, (11, 30))]

    assert [1, 5] == order(*tables)[0]  # what test_newest_first expects the other way round
