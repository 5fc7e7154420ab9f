"""Draw the terminal pictures of the pages: run the command, and have rich write down what it shows.

python docs/pictures.py [DIRECTORY]         by default docs/pictures
"""

import io
import os
import random
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

import lsmdbm
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


def picture(path, title):
    """Return what `lsmdbm tree` shows of a database, as SVG."""
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="standard",
        highlight=False,
    )
    output = FancyOutput(io.BytesIO(), io.StringIO(), is_terminal=True)
    output.console = console
    tree(output, db=path, lists_tables=False, as_json=False)
    return WEB_FONTS.sub("", console.export_svg(title=title, unique_id="lsmdbm"))


def main(directory):
    """Draw all of them into a directory."""
    directory.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)  # the name of the database is in the picture
        example("visitors")
        svg = picture("visitors", "lsmdbm tree visitors")
    (directory / "tree.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "pictures").resolve())
