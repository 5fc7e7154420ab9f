"""Draw the terminal pictures of the pages: run the command, and have rich write down what it shows.

python docs/pictures.py [DIRECTORY]         by default docs/pictures
"""

import io
import json
import os
import random
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

import lsmdbm
from lsmdbm.cli.entries import load
from lsmdbm.cli.fancy import FancyOutput
from lsmdbm.cli.insides import tree

WIDTH = 96
WEB_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # a picture should fetch nothing


def example(path):
    """Make a database with something in each level."""
    rng = random.Random(4)
    with lsmdbm.open(path, "n", memtable_bytes=150_000) as db:
        for number in range(60_000):
            user = rng.randrange(200_000)
            db[f"user:{user:06}"] = (
                f'{{"id": {user}, "visits": {number % 97}, "city": "{rng.choice("ABCDE")}"}}'
            )
        for user in range(500):
            db.pop(f"user:{user:06}", None)
        db.delete_range("user:150", "user:153")
        db.flush()


def recorder():
    """Return a console that remembers what it shows."""
    return Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="standard",
        highlight=False,
    )


def drawn(console, title):
    """Return what a console has shown, as SVG."""
    return WEB_FONTS.sub("", console.export_svg(title=title, unique_id="lsmdbm"))


def picture_of_a_tree(path):
    """Return what `lsmdbm tree` shows of a database."""
    output = FancyOutput(io.BytesIO(), io.StringIO(), is_terminal=True)
    output.console = recorder()
    tree(output, db=path, lists_tables=False, as_json=False)
    return drawn(output.console, f"lsmdbm tree {path}")


def picture_of_progress(path, file):
    """Return what `lsmdbm load` shows while it is half way."""
    with open(file, "w", encoding="utf-8") as lines:
        for number in range(30_000):
            print(json.dumps({"key": f"user:{number:06}", "value": "visits" * 12}), file=lines)
    os.environ.update(FORCE_COLOR="1", COLUMNS=str(WIDTH))  # what it writes to is no terminal
    stderr = io.StringIO()
    load(FancyOutput(io.BytesIO(), stderr, shows_progress=True), db=path, file=file, form=None, timeout=5)
    frames = [frame for frame in stderr.getvalue().split("\r") if " left" in frame]
    console = recorder()
    console.print(Text.from_ansi(frames[len(frames) // 2].replace("\x1b[2K", "")))
    return drawn(console, f"lsmdbm load {path} {file}")


def main(directory):
    """Draw all of them into a directory."""
    directory.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)  # the names of the databases are in the pictures
        example("visitors")
        pictures = {
            "tree.svg": picture_of_a_tree("visitors"),
            "progress.svg": picture_of_progress("visits", "visits.jsonl"),
        }
    for name, svg in pictures.items():
        (directory / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "pictures").resolve())
