"""Phases that read and write: a queue, reader beside writer, writer beside a busy thread, YCSB."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from threading import Event, Thread
from typing import Any

from benchmarks.data import LUMP
from benchmarks.figures import Zipfian, drift, percentiles
from benchmarks.phases.job import Figures, Job, WrongAnswer, clock

SCAN_ENTRIES = 100  # the longest scan of YCSB E
BESIDE_SECONDS = 5.0

Step = tuple[str, bytes, Any]  # what to do, the key, a value or a count


def queue(job: Job) -> Figures:
    """Append at the end; then take all from the front.  Is the last one dearer than the first?"""
    count = min(job.reads, job.data.entries)
    value = job.data.value(0)
    keys = [b"%016d" % number for number in range(count)]
    lumps = [keys[low : low + LUMP] for low in range(0, count, LUMP)]
    figures: Figures = {}
    with job.open() as store:

        def append(keys: list[bytes]) -> None:
            for key in keys:
                store.put(key, value)

        def take(keys: list[bytes]) -> None:
            for key in keys:
                if store.pop_first() != (key, value):
                    raise WrongAnswer(f"{job.adapter.name}: {key!r} did not come in its turn")

        for name, work in (("append", append), ("pop", take)):
            costs: list[float] = []
            for lump in lumps:
                begin = clock()
                work(lump)
                costs.append((clock() - begin) / len(lump))
                if sum(costs) * LUMP > job.limit:
                    figures["cut"] = 1
                    break
            figures[f"{name}_us"] = sum(costs) / len(costs) * 1e6
            figures[f"{name}_drift"] = drift(costs)
    return {**figures, "us": figures["append_us"] + figures["pop_us"], "operations": count}


def read_while_writing(job: Job) -> Figures:
    """Get in one thread while another puts; each call is timed."""
    lumps = [*job.data.lumps(job.data.sample(job.reads, "read"))]
    others = [*job.data.lumps(job.data.shuffled("overwrite")[: job.reads], version=1)]
    over = Event()
    gets, puts = array("d"), array("d")
    wrong: list[BaseException] = []

    def write() -> None:
        try:
            while not over.is_set():
                for keys, values in others:
                    for key, value in zip(keys, values):  # noqa: B905
                        begin = clock()
                        store.put(key, value)
                        puts.append(clock() - begin)
                    if over.is_set():
                        break
        except BaseException as exc:
            wrong.append(exc)

    with job.open() as store:
        writer = Thread(target=write)
        writer.start()
        try:
            end = clock() + min(job.limit, BESIDE_SECONDS)
            for keys, _ in lumps:
                for key in keys:
                    begin = clock()
                    value = store.get(key)
                    gets.append(clock() - begin)
                    if value is None:
                        raise WrongAnswer(f"{job.adapter.name}: {key!r} is missing")
                if clock() > end:
                    break
        finally:
            over.set()
            writer.join()
    if wrong:
        raise wrong[0]
    return {
        "us": sum(gets) / len(gets) * 1e6,
        "put_us": sum(puts) / max(1, len(puts)) * 1e6,
        "operations": len(gets) + len(puts),
        **percentiles(gets, "get_"),
        **percentiles(puts, "put_"),
    }


class Busy:
    """A thread that computes in Python, as long as the body of a `with` goes on."""

    def __init__(self) -> None:
        self._over, self._started = Event(), Event()
        self._thread = Thread(target=self._compute)

    def _compute(self) -> None:
        self._started.set()
        total = 0
        while not self._over.is_set():
            for number in range(1000):
                total += number

    def __enter__(self) -> None:
        self._thread.start()
        self._started.wait()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def beside_busy(job: Job) -> Figures:
    """Put, and get what was put, in one thread: alone, then beside one that computes in Python.

    Whoever gives up the GIL in a call gets it back when the other thread's turn is over, 5 ms later.
    """
    numbers = job.data.sample(job.reads, "busy")
    figures: Figures = {}
    counts: list[int] = []
    limit = min(job.limit, BESIDE_SECONDS)
    with job.open() as store:
        for place, company in (("alone", nullcontext()), ("busy", Busy())):
            lumps = [*job.data.lumps(numbers, version=place == "busy")]
            with company:
                counts.append(_put_for(limit, store.put, lumps, figures, place))
        # The same keys in both: what was put alone and is not in memory any more costs a get more.
        last = [pair for lump in lumps for pair in zip(*lump)][: min(counts)]  # noqa: B905
        for place, company in (("alone", nullcontext()), ("busy", Busy())):
            with company:
                answers = _get_for(limit, store.get, [key for key, _ in last], figures, place)
            if answers != [value for _, value in last[: len(answers)]]:
                raise WrongAnswer(f"{job.adapter.name}: not what was put {place}")
    return {
        **figures,
        "us": figures["put_busy_us"],
        "operations": figures["operations_busy"],
        "put_times": figures["put_busy_us"] / figures["put_alone_us"],
        "get_times": figures["get_busy_us"] / figures["get_alone_us"],
    }


def _put_for(limit: float, put: Any, lumps: Sequence[Any], figures: Figures, place: str) -> int:
    """Put for so many seconds at most, note the cost of one, and return how many there were."""
    begin, count = clock(), 0
    for keys, values in lumps:
        for key, value in zip(keys, values):  # noqa: B905
            put(key, value)
        count += len(keys)
        if clock() > begin + limit:
            break
    figures[f"put_{place}_us"] = (clock() - begin) / count * 1e6
    figures[f"operations_{place}"] = count
    return count


def _get_for(limit: float, get: Any, keys: Sequence[bytes], figures: Figures, place: str) -> list[Any]:
    """Get for so many seconds at most, note the cost of one, and return what was found."""
    begin, answers = clock(), []
    for low in range(0, len(keys), LUMP):
        answers += map(get, keys[low : low + LUMP])
        if clock() > begin + limit:
            break
    figures[f"get_{place}_us"] = (clock() - begin) / len(answers) * 1e6
    return answers


# Workload of YCSB: share of each operation, and how the key of a read is chosen.  Records have 100 bytes here
# and not ten fields of 100.
YCSB: dict[str, tuple[dict[str, float], str]] = {
    "a": ({"read": 0.5, "update": 0.5}, "zipfian"),
    "b": ({"read": 0.95, "update": 0.05}, "zipfian"),
    "c": ({"read": 1.0}, "zipfian"),
    "d": ({"read": 0.95, "insert": 0.05}, "latest"),
    "e": ({"scan": 0.95, "insert": 0.05}, "zipfian"),
    "f": ({"read": 0.5, "modify": 0.5}, "zipfian"),
}


def steps(job: Job, letter: str) -> Iterator[Step]:
    """Yield the operations of one workload, the same for every peer."""
    shares, chosen = YCSB[letter]
    rng = random.Random(f"{job.data.seed} ycsb {letter}")
    popular = Zipfian(job.data.entries, rng)
    count = job.data.entries
    for kind in rng.choices([*shares], [*shares.values()], k=job.reads):
        if kind == "insert":
            yield kind, job.data.key(count), job.data.value(count)
            count += 1
            continue
        number = count - 1 - popular.rank() if chosen == "latest" else popular.scrambled()
        last = rng.randint(1, SCAN_ENTRIES) if kind == "scan" else job.data.value(number, 1)
        yield kind, job.data.key(number), last


def ycsb(job: Job) -> Figures:
    """Work through one core workload of the Yahoo! Cloud Serving Benchmark, by the option `letter`."""
    todo = [*steps(job, job.options["letter"])]
    lumps = [(todo[low : low + LUMP], None) for low in range(0, len(todo), LUMP)]
    missing: list[bytes] = []
    with job.open() as store:
        get, put, seek = store.get, store.put, store.seek

        def modify(key: bytes, value: bytes) -> None:
            if get(key) is None:
                missing.append(key)
            put(key, value)

        def look(key: bytes, _: object) -> None:
            if get(key) is None:
                missing.append(key)

        do: dict[str, Callable[[bytes, Any], object]] = {
            "read": look,
            "update": put,
            "insert": put,
            "modify": modify,
            "scan": seek,
        }

        def work(part: list[Step], _: object) -> None:
            for kind, key, last in part:
                do[kind](key, last)

        figures = job.timed(lumps, work)
    if missing:
        raise WrongAnswer(f"{job.adapter.name}: {missing[0]!r} is missing")
    return {**figures, "per_second": 1e6 / figures["us"]}
