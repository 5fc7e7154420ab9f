"""Search the standard library: every source file of this Python, and where each word in it stands.

    python examples/search_source.py                      build ./stdlib-index, answer two sample queries
    python examples/search_source.py nlargest heapify     the index is there: answer at once
    python examples/search_source.py --prefix mutablem    every word that begins so
    python examples/search_source.py --source src --index my-index word

The keys are made so that every question is one sorted range:

    doc/PATH             the file, as it is
    meta/complete        written last: without it, the building was cut off
    meta/source          what the index is of; written first
    word/WORD NUL PATH   numbers of the lines of PATH that hold WORD, which is in lower case

A word is the range with the prefix `word/WORD NUL`; all words that begin alike are the range with the prefix
`word/BEGINNING`, grouped by word, and by file within a word.

A file's document is written after its postings.  Whatever cuts a program off, what is left is a prefix of
what was written: where the document is, its postings are too.  So building again goes on with the files that
have no document yet.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import lsmdbm

WORD = re.compile(r"[^\W\d]\w+")  # a name of two characters or more
LONGEST_WORD = 64  # longer ones are data, not names
SAMPLE_WORD, SAMPLE_PREFIX = "nlargest", "mutablem"
INSTALLED = {"site-packages", "dist-packages"}  # below the standard library, and no part of it

Posting = tuple[bytes, list[int]]  # path of a file, numbers of lines in it


class Problem(Exception):
    """Something the user can do something about."""


# -- building ---------------------------------------------------------------------------------------


def source_files(source: Path, limit: int | None) -> list[Path]:
    found = (path for path in source.rglob("*.py") if not INSTALLED & {*path.parts} and path.is_file())
    files = sorted(found)[:limit]
    if not files:
        raise Problem(f"{source}: no Python files there")
    return files


def lines_by_word(text: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, line in enumerate(text.lower().split("\n"), 1):
        for word in set(WORD.findall(line)):
            if len(word) <= LONGEST_WORD:
                found.setdefault(word, []).append(number)
    return found


def entries_of(name: bytes, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what one file adds to the index, its document last."""
    for word, numbers in lines_by_word(data.decode("utf-8", "replace")).items():
        yield b"word/" + word.encode() + b"\0" + name, " ".join(map(str, numbers)).encode()
    yield b"doc/" + name, data


def build(db: lsmdbm.Database, source: Path, files: list[Path]) -> None:
    """Index the files that are not indexed yet, then mark the index complete."""
    indexed = {key.removeprefix(b"doc/") for key in db.range(prefix="doc/")}
    if indexed:
        tell(f"the last run was cut off behind {len(indexed):,} files; going on")
    progress = Progress(len(files))
    for path in files:
        name = os.fsencode(path.relative_to(source).as_posix())
        if name not in indexed:
            data = path.read_bytes()
            added = list(entries_of(name, data))
            db.update(added)
            progress.input_bytes += len(data)
            progress.entries += len(added)
        progress.files += 1
        progress.show(is_last=path is files[-1])
    print("As it was written:")
    show_tree(db.stats())
    db.compact()  # from here on the index is only read
    print(f"After compact(), {progress.seconds:.1f} s after the start:")
    show_tree(db.stats())
    db["meta/complete"] = "yes"


class Progress:
    """A line on stderr: again and again on a terminal, now and then elsewhere."""

    def __init__(self, total_files: int) -> None:
        self.total_files = total_files
        self.files = self.input_bytes = self.entries = 0
        self.is_terminal = sys.stderr.isatty()
        self.started = self.due = time.monotonic()
        self.width = 0

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 1e-6)

    def show(self, *, is_last: bool = False) -> None:
        now = time.monotonic()
        if now < self.due and not is_last:
            return
        self.due = now + (0.1 if self.is_terminal else 2.0)
        line = (
            f"{self.files:,}/{self.total_files:,} files, {megabytes(self.input_bytes)},"
            f" {self.entries:,} entries, {self.entries / self.seconds:,.0f} entries/s"
        )
        if self.is_terminal:
            end = "\n" if is_last else ""
            print("\r" + line.ljust(self.width), end=end, file=sys.stderr, flush=True)
            self.width = len(line)
        else:
            print(line, file=sys.stderr, flush=True)


def show_tree(stats: lsmdbm.Stats) -> None:
    print(f"  {'level':>8} {'tables':>7} {'entries':>9} {'unpacked':>9} {'on disk':>9} {'ratio':>6}")
    if stats.memtable_entries:
        print(f"  {'memory':>8} {'':>7} {stats.memtable_entries:>9,} {megabytes(stats.memtable_bytes):>9}")
    for level in stats.levels:
        if level.tables:
            print(
                f"  {level.level:>8} {level.tables:>7} {level.entries:>9,} {megabytes(level.raw_bytes):>9}"
                f" {megabytes(level.file_bytes):>9} {level.raw_bytes / level.file_bytes:>6.2f}"
            )


# -- asking -----------------------------------------------------------------------------------------


def postings(db: lsmdbm.Database, prefix: str) -> Iterator[Posting]:
    """Yield where the words are whose keys begin so, in the order of the keys."""
    for key, value in db.range(prefix=prefix).items():
        yield key.partition(b"\0")[2], [int(number) for number in value.split()]


def answer(db: lsmdbm.Database, title: str, found: Iterable[Posting], most: int) -> None:
    """Print the lines of the postings like grep does, `most` of them at most; 0 for all."""
    started = time.perf_counter()
    places = list(dict.fromkeys((name, number) for name, numbers in found for number in numbers))
    shown = places[: most or None]
    lines: dict[bytes, list[bytes]] = {}
    for name, _ in shown:
        if name not in lines:
            lines[name] = db[b"doc/" + name].split(b"\n")
    seconds = time.perf_counter() - started
    files = len({name for name, _ in places})
    print(f"\n{title}: {len(places):,} lines in {files:,} files, {1000 * seconds:.1f} ms")
    for name, number in shown:
        text = lines[name][number - 1].decode("utf-8", "replace").strip()
        print(f"{os.fsdecode(name)}:{number}: {text}")
    if len(shown) < len(places):
        print(f"... and {len(places) - len(shown):,} more; --max 0 shows them all")


# -- the program ------------------------------------------------------------------------------------


def description(source: Path, limit: int | None) -> str:
    return ascii(str(source)) if limit is None else f"the first {limit} files of {ascii(str(source))}"


def prepare(arguments: argparse.Namespace) -> None:
    """See to it that the index is there and complete."""
    source = (arguments.source or Path(sysconfig.get_path("stdlib"))).resolve()
    wanted = description(source, arguments.limit)
    path = arguments.index
    held = None if arguments.rebuild else complete_index(path)
    if held is not None:
        if held != wanted and (arguments.source or arguments.limit):
            raise Problem(f"{path} is an index of {held}: name another --index, or say --rebuild")
        return
    files = source_files(source, arguments.limit)
    with lsmdbm.open(path, "c") as db:
        if db and "meta/source" not in db:
            raise Problem(f"{path} is a database of something else; it stays as it is")
        if arguments.rebuild or db.get("meta/source") != wanted.encode():
            db.clear()
        tell(f"building {path} from {wanted}")
        db["meta/source"] = wanted
        build(db, source, files)


def complete_index(path: str) -> str | None:
    """Return what the index at `path` is of; None if there is none, or only a part of one."""
    try:
        with lsmdbm.open(path) as db:
            return db["meta/source"].decode() if "meta/complete" in db else None
    except lsmdbm.NotFoundError:
        return None


def tell(text: str) -> None:
    print(f"search_source: {text}", file=sys.stderr, flush=True)


def megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Search the source of the standard library.")
    add = parser.add_argument
    add("words", nargs="*", metavar="word", help="look up a word, in any case")
    add("--prefix", action="append", default=[], metavar="BEGINNING", help="look up all words that begin so")
    add("--index", default="stdlib-index", metavar="PATH", help="where the index is (%(default)s)")
    add("--rebuild", action="store_true", help="build it anew")
    add("--source", type=Path, metavar="DIR", help="index this instead of the standard library")
    add("--limit", type=count, metavar="N", help="index only so many files")
    add("--max", type=count, default=10, metavar="N", help="lines shown per query (%(default)s), 0 for all")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    prepare(arguments)
    started = time.perf_counter()
    with lsmdbm.open(arguments.index) as db:
        seconds = time.perf_counter() - started
        print(f"{arguments.index}: {db['meta/source'].decode()}, opened in {1000 * seconds:.1f} ms")
        words, prefixes = arguments.words, arguments.prefix
        if not words and not prefixes:
            words, prefixes = [SAMPLE_WORD], [SAMPLE_PREFIX]
        for word in words:
            answer(db, word, postings(db, f"word/{word.lower()}\0"), arguments.max)
        for prefix in prefixes:
            answer(db, f"{prefix}...", postings(db, f"word/{prefix.lower()}"), arguments.max)


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        tell("interrupted; if the index was being built, the next run goes on from here")
    except (Problem, OSError) as problem:  # lsmdbm.error is an OSError
        tell(str(problem))
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
