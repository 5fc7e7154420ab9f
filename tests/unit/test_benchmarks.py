"""Figures, order of running, tables of the benchmarks: what they say follows from what was measured."""

import random
import re
from collections import Counter

import pytest

from support.benches import (
    ROOT,
    adapters,
    bars,
    bulk,
    data,
    eviction,
    figures,
    plots,
    report,
    results,
    runner,
    simulator,
    workloads,
)


def test_percentiles_are_of_the_sorted_figures_in_microseconds():
    seconds = [number / 1e6 for number in range(1001)]
    random.Random(1).shuffle(seconds)

    expected = {"p50": 500, "p99": 990, "p99.9": 999, "max": 1000}
    assert expected == pytest.approx(figures.percentiles(seconds))
    assert {f"get_{name}": value for name, value in expected.items()} == pytest.approx(
        figures.percentiles(seconds, "get_")
    )
    assert {} == figures.percentiles([])


def test_medians_are_over_the_runs_that_have_a_figure():
    runs = [{"us": 3.0, "mib": 8.0}, {"us": 1.0}, {"us": 20.0}]

    assert {"us": 3.0, "mib": 8.0} == figures.medians(runs)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"), [(3.0, 2.0, 1.5), (None, 2.0, None), (3.0, None, None), (3.0, 0.0, None)]
)
def test_ratio_is_ours_as_a_multiple_of_theirs(ours, theirs, expected):
    assert expected == figures.ratio(ours, theirs)


def test_drift_compares_the_last_tenth_with_the_first():
    assert 3.0 == figures.drift([2.0] * 10 + [1.0] * 80 + [6.0] * 10)
    assert 1.0 == figures.drift([5.0])


def test_zipfian_ranks_come_up_as_often_as_they_should():
    zipfian = figures.Zipfian(1000, random.Random(5))
    counts = Counter(zipfian.rank() for _ in range(20_000))
    zeta = sum(rank**-0.99 for rank in range(1, 1001))

    assert counts.keys() <= {*range(1000)}
    for rank in (0, 1, 9):
        assert 20_000 / zeta / (rank + 1) ** 0.99 == pytest.approx(counts[rank], rel=0.25)
    strewn = Counter(zipfian.scrambled() for _ in range(5000))
    assert figures.fnv(0) % 1000 == strewn.most_common(1)[0][0]


def test_zipfian_of_few_stays_among_them():
    for count in (1, 2, 3):
        zipfian = figures.Zipfian(count, random.Random(5))
        assert {zipfian.rank() for _ in range(1000)} <= {*range(count)}


@pytest.mark.parametrize("kind", ["random", "sequential", "small", "large", "urls", "json"])
def test_entries_follow_from_number_and_seed(kind):
    ours, same, other = (data.Data(kind, 100, seed) for seed in (3, 3, 4))
    numbers = range(ours.entries)

    keys, values = ([*map(made, numbers)] for made in (ours.key, ours.value))
    assert (keys, values) == ([*map(same.key, numbers)], [*map(same.value, numbers)])
    assert len(keys) == len({*keys})
    assert not {*keys} & {*map(ours.absent, numbers)}
    assert kind == "sequential" or keys != [*map(other.key, numbers)]
    assert [ours.value(number, 1) for number in numbers] != values
    made = [pair for lump in ours.lumps(numbers, size=7) for pair in zip(*lump, strict=True)]
    assert [*zip(keys, values, strict=True)] == made


def test_sizes_of_entries_are_as_promised():
    sizes = {kind: len(data.Data(kind, 10, 1).value(3)) for kind in ("random", "small", "large")}

    assert {"random": 100, "small": 8, "large": 100_000} == sizes
    assert 16 == len(data.Data("random", 10, 1).key(3))
    assert 116 == data.Data("random", 10, 1).raw_bytes()


def test_what_a_workload_starts_from_comes_first_and_once():
    names = [each.name for each in runner.in_order(["readrandom.compacted", "readseq", "fillrandom"])]

    assert ["fillrandom", "compact", "readrandom.compacted", "readseq"] == names


def test_every_workload_starts_from_files_of_the_same_entries():
    for workload in workloads.WORKLOADS.values():
        if workload.start:
            start = workloads.find(workload.start)
            assert (start.data, start.entries) == (workload.data, workload.entries), workload.name
            assert start.needs in ("", workload.needs)


@pytest.mark.parametrize("name", ["fill", "growth", "growth.", "growth.0", "growth.x", "100", "100.read"])
def test_unknown_workload_is_refused(name):
    with pytest.raises(KeyError):
        workloads.find(name)


class Phases:
    """In place of runner.phase: notes what was run, and where; fails, or is cut, as it is told."""

    def __init__(self, **endings):
        self.endings = endings
        self.seen = []

    def __call__(self, name, peer, directory, settings):
        self.seen.append((name, peer))
        ending = self.endings.get(name)
        if ending == "fails":
            raise runner.PhaseError("it broke")
        with open(f"{directory}/{name}", "x") as file:
            file.write(peer)
        return {"us": float(len(self.seen)), **({"cut": 1} if ending == "is cut" else {})}


def run(monkeypatch, tmp_path, names, peers, repeat=1, **endings):
    phases = Phases(**endings)
    monkeypatch.setattr(runner, "phase", phases)
    found = results.Results({}, dict.fromkeys(peers, "1"), {})
    asked = runner.Run(names, peers, repeat, workloads.Settings(), str(tmp_path))
    shown = []
    runner.execute(asked, found, lambda: None, shown.append)
    assert [] == [*tmp_path.iterdir()]
    return phases.seen, found, "".join(shown)


def test_peers_take_turns_and_each_repetition_begins_with_another(monkeypatch, tmp_path):
    seen, found, shown = run(monkeypatch, tmp_path, ["fillseq", "fillrandom"], ["lsmdbm", "dict"], repeat=2)

    first = [("fillseq", "lsmdbm"), ("fillseq", "dict"), ("fillrandom", "lsmdbm"), ("fillrandom", "dict")]
    second = [("fillseq", "dict"), ("fillseq", "lsmdbm"), ("fillrandom", "dict"), ("fillrandom", "lsmdbm")]
    assert first + second == seen
    assert [{"us": 1.0}, {"us": 6.0}] == found.cell("fillseq", "lsmdbm").runs
    assert shown.startswith("[1/8] fillseq, lsmdbm: 1.000 us\n[2/8] fillseq, dict: 2.000 us\n")


def test_a_workload_that_changes_files_works_on_a_copy(monkeypatch, tmp_path):
    # Each phase makes a file under its own name, and fails if it is there: a read would meet the overwrite's.
    names = ["overwrite", "deleterandom", "compact", "readseq.compacted"]
    seen, found, _ = run(monkeypatch, tmp_path, names, ["lsmdbm"])

    assert ["fillrandom", *names] == [name for name, _ in seen]
    assert all(cell.runs for cell in found.cells.values())


def test_a_phase_that_fails_takes_with_it_only_what_starts_from_it(monkeypatch, tmp_path):
    names = ["fillrandom", "readseq", "compact", "readseq.compacted", "fillseq"]
    seen, found, _ = run(monkeypatch, tmp_path, names, ["lsmdbm"], fillrandom="fails")

    assert [("fillrandom", "lsmdbm"), ("fillseq", "lsmdbm")] == seen
    errors = {workload: cell.error for (workload, _), cell in found.cells.items()}
    assert "it broke" == errors["fillrandom"]
    assert "fillrandom: it broke" == errors["readseq"]
    assert "fillrandom: it broke" == errors["readseq.compacted"]
    assert "" == errors["fillseq"]


def test_nothing_starts_from_a_fill_that_was_cut(monkeypatch, tmp_path):
    seen, found, _ = run(monkeypatch, tmp_path, ["readseq"], ["lsmdbm"], fillrandom="is cut")

    assert [("fillrandom", "lsmdbm")] == seen
    assert "fillrandom was cut short" == found.cell("readseq", "lsmdbm").error


def test_what_a_peer_cannot_do_is_no_error(monkeypatch, tmp_path):
    seen, found, _ = run(monkeypatch, tmp_path, ["queue"], ["lsmdbm", "dict"])

    assert [("queue", "lsmdbm")] == seen
    assert "" == found.cell("queue", "dict").error


def test_a_phase_in_another_process_tells_why_it_ended(tmp_path):
    with pytest.raises(runner.PhaseError, match="KeyError: 'no such workload'"):
        runner.phase("no such workload", "dict", str(tmp_path), workloads.Settings())


@pytest.fixture
def measured():
    """A few figures of three peers."""
    about = {
        "date": "2026-01-02", "python": "3.11.0", "system": "Linux", "machine": "x86_64",
        "cores": 2, "load": 0.5, "entries": 1000, "reads": 100, "seed": 1, "repeat": 3,
    }  # fmt: skip
    found = results.Results(
        about, {"lsmdbm": "0.1", "plyvel": "1.5", "dict": "-"}, {"dbm.gnu": "No module named '_gdbm'"}
    )
    for workload, peer, runs in [
        ("fillrandom", "lsmdbm", [{"us": 4.0, "bytes": 80.0}, {"us": 5.0, "bytes": 80.0}, {"us": 9.0}]),
        ("fillrandom", "plyvel", [{"us": 2.0, "bytes": 100.0, "cut": 1.0}]),
        ("fill10", "lsmdbm", [{"us": 70.0}]),
        ("queue", "lsmdbm", [{"us": 30.0, "pop_us": 10.0}]),
        ("open", "lsmdbm", [{"ms": 3.0, "drift": 1.5}]),
        ("open", "plyvel", [{"ms": 6.0, "drift": 3.0}]),
        ("growth.1000", "lsmdbm", [{"us": 4.0}]),
        ("growth.100000", "lsmdbm", [{"us": 5.0}]),
        ("growth.1000000", "lsmdbm", [{"us": 15.0}]),
    ]:
        found.cell(workload, peer).runs.extend(runs)
    for workload in ("queue", "seekrandom"):
        found.cell(workload, "plyvel").error = "it | broke"
    found.cell("queue", "dict")
    return found


def test_results_come_back_from_their_file(measured, tmp_path):
    measured.save(tmp_path / "out.json")

    assert measured == results.Results.load(tmp_path / "out.json")
    assert ["out.json"] == [path.name for path in tmp_path.iterdir()]


def test_report_says_what_was_measured(measured):
    text = report.markdown(measured)

    assert text.startswith(
        "2026-01-02, CPython 3.11.0, Linux x86_64, 2 cores, load 0.5 at the start; 1,000 entries,"
        " at most 100 reads, seed 1, medians of 3 runs.\n\nPeers: lsmdbm 0.1, plyvel 1.5, dict -.\n\n"
        "Skipped: dbm.gnu (No module named '_gdbm').\n\n## Bars\n"
    )
    assert (
        "## Microseconds an operation\n\n"
        "|  | lsmdbm | plyvel | dict |\n| --- | --- | --- | --- |\n"
        "| fillrandom | 5 | 2* (2.50x) | - |\n"
        "| queue | 30 | failed | - |\n\n"
        "## Bytes on disk an entry\n\n"
        "|  | lsmdbm | plyvel | dict |\n| --- | --- | --- | --- |\n"
        "| fillrandom | 80 | 100* (0.80x) | - |\n\n"
        "## Queue: "
    ) in text
    assert "| 1,000,000 entries | 15 | - | - |\n" in text
    assert "| open | 3 | 6 (0.50x) | - |\n| open: last tenth to first | 1.5 | 3 | - |\n" in text
    assert "| 70 |" not in text  # of a workload that is only there for others to start from
    assert text.endswith(
        "## Failures\n\n| peer | reason | workloads |\n| --- | --- | --- |\n"
        "| plyvel | it \\| broke | queue, seekrandom |\n"
    )


def test_bars_are_met_missed_or_not_measured(measured):
    found = {(each.bar.workload, each.bar.peer, each.bar.ours): each for each in bars.outcomes(measured)}

    missed = found["fillrandom", "plyvel", "lsmdbm"]
    assert (5.0, 2.0, 2.5, False) == (missed.ours, missed.peer, missed.reached, missed.is_met)
    assert found["fillrandom", "plyvel", "lsmdbm-process"].is_met is None
    assert found["fillrandom", "dbm.gnu", "lsmdbm"].is_met is None
    assert 3.0 == found["growth", "", "lsmdbm"].reached
    measured.cell("fillrandom", "plyvel").runs[0]["us"] = 2.5
    assert bars.outcomes(measured)[0].is_met
    table = report.bars(bars.outcomes(measured))
    assert "| fillrandom | <= 2x plyvel's | 5 us | 2.5 | 2.00x | yes |\n" in table
    assert "| growth | put <= 2.5 | 3 times the cost at 10^5 | - |  | no |\n" in table


def test_every_bar_names_a_workload_and_peers_that_there_are():
    for bar in bars.BARS:
        assert bar.workload in {*workloads.WORKLOADS, "growth"}
        assert bar.other in {*workloads.WORKLOADS, ""}
        assert {bar.peer or bar.ours, bar.ours} <= adapters.ADAPTERS.keys()


def test_bar_of_opening_leaves_out_what_bare_syncs_cost(measured):
    measured.cell("openput10", "lsmdbm").runs.append({"ms": 1.75, "bare_ms": 0.5})

    [found] = [each for each in bars.outcomes(measured) if each.bar.workload == "openput10"]
    assert (1.25, False) == (found.reached, found.is_met)


def test_comparison_shows_the_second_as_a_multiple_of_the_first(measured):
    after = results.Results({}, {"lsmdbm": "0.2"}, {})
    after.cell("fillrandom", "lsmdbm").runs.append({"us": 2.5})

    assert (
        "| workload | figure | before | after | ratio |\n| --- | --- | --- | --- | --- |\n"
        "| fillrandom | us | 5 | 2.5 | 0.50x |\n"
    ) == report.comparison(measured, after)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "-"), (0.0123, "0.0123"), (5.678, "5.68"), (123.4, "123"), (51234.5, "51,234")],
)
def test_figures_are_shown_with_three_digits(value, expected):
    assert expected == report.number(value)


def test_plots_are_drawn_of_what_there_is_and_the_same_again(measured, tmp_path):
    pytest.importorskip("matplotlib", reason="of the extra bench")
    first, again = (plots.draw(measured, tmp_path / place) for place in ("first", "again"))

    assert ["ratios.svg", "growth.svg"] == [path.name for path in first]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_the_page_lists_every_workload():
    page = (ROOT / "docs/benchmarks.md").read_text("ascii")
    section = page.split("\n## What is measured\n")[1].partition("\n#")[0]
    listed = re.findall(r"^\| (\S+) \| (.*) \|$", section, re.MULTILINE)[2:]

    assert [(each.name, each.title) for each in workloads.WORKLOADS.values()] == listed


@pytest.mark.parametrize("stream", simulator.STREAMS)
def test_the_page_of_policies_says_what_the_simulator_says(stream, capsys):
    """Up to 10^7 entries.  Where a policy decides otherwise than it did, run what the page shows again."""
    page = (ROOT / "docs/policies.md").read_text("ascii")
    (section,) = [part for part in page.split("\n## ") if f"--streams {stream}\n" in part]
    listed = re.findall(r"^\| \w+ \| 10\^[67] .*\|$", section, re.MULTILINE)
    simulator.main(["--entries", "10000000", "--streams", stream])
    said = re.findall(r"^\| \w+ (\| \w+ \| 10.*\|) \d+ s$", capsys.readouterr().out, re.MULTILINE)

    assert 6 == len(listed)
    assert listed == [line.replace("|  |", "| |").replace("|  |", "| |") for line in said]


def test_lru_misses_what_was_used_longest_ago():
    assert 2 / 3 == pytest.approx(eviction.lru([1, 2, 1, 3, 1, 2], 2))
    assert 1 / 3 == pytest.approx(eviction.lru([1, 2, 1, 3, 1, 2], 3))


def test_where_nothing_is_evicted_every_way_misses_the_same(no_syncs):
    head, _, *lines = eviction.table(keys=30, reads=60)
    misses = [re.split(r" *\| *", line)[1:4:2] for line in lines]

    assert 5 * len(eviction.SKEWS) == len(lines)
    assert len(eviction.SKEWS) == len({tuple(each) for each in misses}), head


def test_every_way_of_bulk_building_is_measured_and_keeps_all_entries(no_syncs, monkeypatch, capsys):
    monkeypatch.setattr(bulk, "RUNS", 1)
    monkeypatch.setattr(bulk, "ProcessPoolExecutor", bulk.ThreadPoolExecutor)  # there may be threads to fork
    monkeypatch.setattr(bulk, "seconds", iter((number, 10 * number) for number in range(100)).__next__)
    monkeypatch.setattr("sys.argv", ["benchmarks.bulk", "300"])
    bulk.main()
    head, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]

    assert [f"| {name} | 1.0 | 10.0 | 1.00 |" for name in bulk.WAYS] == rows[1:]

    monkeypatch.setitem(bulk.WAYS, "forgetful", lambda path, entries: bulk.bulk_load(path, [*entries][1:]))
    with pytest.raises(SystemExit, match="forgetful: 299 of 300 entries are there"):
        bulk.main()
