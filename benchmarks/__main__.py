"""Compare lsmdbm with every other store that is installed here.

    python -m benchmarks run results.json            everything, 100,000 entries
    python -m benchmarks run results.json --entries 1000000 --only fillrandom,readrandom --peers plyvel,lmdb
    python -m benchmarks run results.json --only '' --growth 10000,100000,1000000
    python -m benchmarks compare before.json after.json
    python -m benchmarks plot results.json --to plots
    python -m benchmarks report results.json

`run` shows on stderr what it does, and writes the JSON file and the same as Markdown beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import plots, report, runner
from benchmarks.adapters import ADAPTERS, OURS, installed
from benchmarks.results import Results, about, versions
from benchmarks.workloads import WORKLOADS, Settings
from benchmarks.workloads import growth as growth_names


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    try:
        options.do(options)
    except (OSError, ValueError) as exc:
        sys.exit(f"benchmarks: {exc}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    default = {field.name: field.default for field in fields(Settings)}

    run = commands.add_parser("run", help="measure")
    run.set_defaults(do=do_run)
    run.add_argument("results", type=Path, help="JSON file to write")
    run.add_argument("--entries", type=positive, default=default["entries"], help="default: %(default)s")
    run.add_argument("--reads", type=positive, default=default["reads"], help="at most; default: %(default)s")
    run.add_argument("--seed", type=int, default=default["seed"], help="default: %(default)s")
    run.add_argument("--repeat", type=positive, default=3, help="runs; default: %(default)s")
    run.add_argument(
        "--limit", type=float, default=default["limit"], help="seconds a phase may take; default: %(default)s"
    )
    run.add_argument(
        "--only",
        type=listed,
        default=["*"],
        help="workloads, comma-separated; * and ? match; '' for none but growth",
    )
    run.add_argument(
        "--peers", type=listed, default=[*ADAPTERS], help="comma-separated; lsmdbm always is one"
    )
    run.add_argument(
        "--growth",
        type=listed,
        default=[],
        help="numbers of entries, comma-separated: what a put, a get and a byte cost as the number grows",
    )
    run.add_argument("--in", dest="place", help="directory for the stores; default: that of temporary files")

    compare = commands.add_parser("compare", help="the ratios between two files")
    compare.set_defaults(do=do_compare)
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.add_argument("--peer", default=OURS, help="default: %(default)s")

    plot = commands.add_parser("plot", help="SVG files")
    plot.set_defaults(do=do_plot)
    plot.add_argument("results", type=Path)
    plot.add_argument("--to", type=Path, default=Path(), help="directory; default: the current one")

    written = commands.add_parser("report", help="Markdown")
    written.set_defaults(do=do_report)
    written.add_argument("results", type=Path)
    written.add_argument("--level", type=positive, default=2, help="of the headings; default: %(default)s")

    phase = commands.add_parser("phase", help="for `run` alone: one phase in this process")
    phase.set_defaults(do=do_phase)
    phase.add_argument("asked", type=json.loads)
    return top


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def chosen(patterns: list[str], sizes: list[str]) -> list[str]:
    """Return the names of workloads that match.

    Raises:
        ValueError: a pattern matches none; a size is no number of entries.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in WORKLOADS):
            raise ValueError(f"no workload {pattern!r}; there are {', '.join(WORKLOADS)}")
    names = [name for name in WORKLOADS if any(fnmatchcase(name, pattern) for pattern in patterns)]
    for size in sizes:
        if not size.isdecimal() or int(size) == 0:
            raise ValueError(f"no number of entries: {size!r}")
    return names + growth_names([*map(int, sizes)])


def peers_of(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return which of these peers to run, lsmdbm first, and why not the others.

    Raises:
        ValueError: there is no such peer.
    """
    for name in names:
        if name not in ADAPTERS:
            raise ValueError(f"no peer {name!r}; there are {', '.join(ADAPTERS)}")
    here, reasons = installed()
    asked = {OURS, *names}
    return [name for name in here if name in asked], {
        name: reason for name, reason in reasons.items() if name in asked
    }


def do_run(options: argparse.Namespace) -> None:
    names = chosen(options.only, options.growth)
    peers, skipped = peers_of(options.peers)
    for name, reason in skipped.items():
        show(f"skipped: {name} ({reason})\n")
    settings = Settings(options.entries, options.reads, options.seed, options.limit)
    run = runner.Run(names, peers, options.repeat, settings, options.place)
    facts = about(
        entries=options.entries,
        reads=options.reads,
        seed=options.seed,
        repeat=options.repeat,
        limit=options.limit,
    )
    results = Results(facts, versions(peers), skipped)
    try:
        runner.execute(run, results, lambda: results.save(options.results), show)
    finally:
        results.save(options.results)
        options.results.with_suffix(".md").write_text(report.markdown(results), "ascii")


def do_compare(options: argparse.Namespace) -> None:
    before, after = Results.load(options.before), Results.load(options.after)
    print(report.comparison(before, after, options.peer), end="")


def do_plot(options: argparse.Namespace) -> None:
    for path in plots.draw(Results.load(options.results), options.to):
        print(path)


def do_report(options: argparse.Namespace) -> None:
    print(report.markdown(Results.load(options.results), options.level), end="")


def do_phase(options: argparse.Namespace) -> None:
    print(json.dumps(runner.perform(options.asked)))


def show(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
