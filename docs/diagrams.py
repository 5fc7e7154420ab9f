"""Draws the pictures of docs/architecture.md: who imports whom, and the way of the data.

    python docs/diagrams.py [DIRECTORY]     docs/diagrams if none is given

The imports are read from the sources.  The ways are written down below, as messages from module to module.
tests/architecture/test_diagrams.py checks that what they call exists, and that the committed pictures are
those that this program draws.
"""

from __future__ import annotations

import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {  # name: prefix of its modules, colour; the lowest first
    "words": ("lsmdbm._base.", "#8d6e63"),
    "bytes": ("lsmdbm._format.", "#2e7d32"),
    "events": ("lsmdbm._engine.", "#1565c0"),
    "faces": ("lsmdbm.", "#ad1457"),
}
FONT = "font-family='ui-monospace, monospace'"

# A message: from a module, to a module, what is called there, and what for.  "you" is whoever calls lsmdbm,
# "disk" is the files.  What is called is `function`, `Class`, `Class.method`, or "".
Message = tuple[str, str, str, str]
WAYS: dict[str, list[Message]] = {
    "put": [
        ("you", "database", "Database.__setitem__", "bytes, checked"),
        ("database", "store", "Store.put", "takes the lock"),
        ("store", "writer", "Writer.put", ""),
        ("writer", "appender", "Appender.put", "which is made at the first write"),
        ("appender", "records", "encode_put", "header, checksum, key, value"),
        ("appender", "disk", "", "one pwrite: 000017.wal"),
        ("writer", "memtable", "Memtable", "an entry of the dict `entries`"),
        ("writer", "appender", "Appender.advance", "the write counts"),
        ("writer", "tree", "Tree.pay", "every 16 KiB or so: a slice of a job"),
        ("store", "durability", "Durability.sync_written", "at `full`; without the lock"),
    ],
    "get": [
        ("you", "database", "Database.__getitem__", ""),
        ("database", "reading", "Reading.get", "no lock: one load of the view"),
        ("reading", "view", "View.get", "one moment, whatever comes"),
        ("view", "memtable", "Memtable", "`entries` of each, newest first"),
        ("view", "lookup", "Lookup.get", "tables whose bounds hold the key"),
        ("lookup", "bloom", "pattern", "for the filters of all but the oldest"),
        ("lookup", "table_reader", "TableReader.get", "which block? bisect"),
        ("table_reader", "lru", "LRU.get", "the block, if it is cached"),
        ("table_reader", "bloom", "Bloom.may_contain", "if not: the filter"),
        ("table_reader", "disk", "", "then one pread: 000018.sst"),
        ("table_reader", "envelope", "check", "the checksum, before anything else"),
        ("table_reader", "envelope", "expand", "zstd"),
        ("table_reader", "block", "Block.get", "one search of the key column"),
    ],
    "scan": [
        ("you", "ranges", "Range.items", "reads nothing yet"),
        ("ranges", "database", "Database._chunks", ""),
        ("database", "reading", "Reading.chunks", "takes the lock, for a moment"),
        ("reading", "tree", "Tree.pin", "seals the active memtable"),
        ("reading", "view", "View.merged", "a stream of chunks, without the lock"),
        ("view", "memtable", "sources", "sorted once, clipped to the range"),
        ("view", "table_reader", "TableReader.chunks", "one stream for each run of tables"),
        ("table_reader", "disk", "", "blocks, some at a time"),
        ("view", "merge", "merge", "window by window, the newest wins"),
        ("reading", "merge", "visible", "deletions are left out"),
        ("ranges", "you", "", "entries, out of chunks"),
    ],
    "flush": [
        ("writer", "tree", "Tree.start_flush", "from Tree.pay, at memtable_bytes"),
        ("tree", "wal", "Wal.rotate", "the next write begins another log"),
        ("tree", "background", "Background.start_flush", "the sealed memtables"),
        ("background", "jobs", "flush", "a generator: a step at a time"),
        ("jobs", "table_writer", "TableWriter.add", "chunks to blocks"),
        ("table_writer", "envelope", "compress_all", "many blocks by one call"),
        ("table_writer", "disk", "", "000018.sst, written and synced"),
        ("background", "tree", "Tree._install_flush", "when all steps are done"),
        ("tree", "install", "Installer.install", "steps 2 to 6"),
        ("install", "disk", "", "000019.man, synced: committed"),
        ("install", "view", "View.with_version", "reads move over"),
        ("tree", "wal", "Wal.forget", "logs that are not needed"),
        ("tree", "disk", "", "unlinks them"),
    ],
    "recovery": [
        ("you", "database", "open", "flag, options"),
        ("database", "sharing", "acquire", "is it open here already?"),
        ("sharing", "disk", "", "LOCK, with flock"),
        ("sharing", "recovery", "recover", "which only reads"),
        ("recovery", "manifest", "decode", "the highest whole one: tables, logs"),
        ("recovery", "log_reader", "in_order", "log after log, to the first bad byte"),
        ("recovery", "memtable", "Memtable.update", "what tables do not hold yet"),
        ("recovery", "log_reader", "promises", "was more promised? then it is damage"),
        ("sharing", "store", "Store", "with the first view"),
    ],
}


def module_imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Return who imports which modules of lsmdbm, in functions and for types too."""
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (root / "lsmdbm").rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [each if each in files else str(node.module) for each in targets]
            else:
                continue
            found[name] |= {target for target in targets if target in files and target != name}
    laws = {prefix.rstrip(".") for prefix, _ in LAYERS.values()} - {"lsmdbm"}
    return {name: targets - laws for name, targets in found.items() if name not in laws}


def layer_of(module: str) -> str:
    return next((name for name, (prefix, _) in LAYERS.items() if module.startswith(prefix)), "faces")


def in_order(imported: dict[str, set[str]]) -> list[str]:
    """Return the modules so that each comes after all it imports: by layer, then by depth, then by name.

    Raises:
        ValueError: there is no such order.
    """
    depth: dict[str, int] = {}

    def measure(name: str, above: tuple[str, ...] = ()) -> int:
        if name in above:
            raise ValueError(f"a circle of imports: {', '.join((*above, name))}")
        if name not in depth:
            depth[name] = 1 + max((measure(each, (*above, name)) for each in imported[name]), default=0)
        return depth[name]

    ranks = [*LAYERS]
    return sorted(imported, key=lambda name: (ranks.index(layer_of(name)), measure(name), name))


def picture(width: int, height: int, title: str, parts: list[str]) -> str:
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
        f"viewBox='0 0 {width} {height}' role='img' aria-label='{escape(title)}'>\n"
        f"<title>{escape(title)}</title>\n"
        f"<rect width='{width}' height='{height}' rx='8' fill='#ffffff'/>\n"
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def text(x: float, y: float, words: str, *, size: int = 11, fill: str = "#222222", more: str = "") -> str:
    return f"<text x='{x:g}' y='{y:g}' font-size='{size}' fill='{fill}' {FONT} {more}>{escape(words)}</text>"


def draw_imports(imported: dict[str, set[str]]) -> str:
    """Draw the graph as a table: a row for each module, a dot in the column of each that it imports.

    Imports that point down are dots left of the diagonal, so a dot right of it would be a fault.
    """
    order = in_order(imported)
    step, left, top = 11, 150, 20
    size = step * len(order)
    parts = []
    for name, (_, colour) in LAYERS.items():
        rows = [row for row, module in enumerate(order) if layer_of(module) == name]
        low, high = top + step * rows[0], top + step * (rows[-1] + 1)
        edge = left + step * rows[0]
        for x, width in ((left, size), (edge, high - low)):
            parts.append(
                f"<rect x='{x}' y='{low}' width='{width}' height='{high - low}' fill='{colour}'"
                " fill-opacity='0.08'/>"
            )
        parts.append(text(left + size + 8, (low + high) / 2, name, size=13, fill=colour))
    column = {module: number for number, module in enumerate(order)}
    for row, module in enumerate(order):
        y = top + step * row + step / 2
        colour = LAYERS[layer_of(module)][1]
        short = module.removeprefix(LAYERS[layer_of(module)][0])
        parts.append(text(left - 6, y + 3, short, size=9, fill=colour, more="text-anchor='end'"))
        x = left + step * row + step / 2
        parts.append(f"<rect x='{x - 3:g}' y='{y - 3:g}' width='6' height='6' fill='{colour}'/>")
        for target in sorted(imported[module], key=order.index):
            of_target = LAYERS[layer_of(target)][1]
            x = left + step * column[target] + step / 2
            parts.append(
                f"<circle cx='{x:g}' cy='{y:g}' r='3' fill='{of_target}'>"
                f"<title>{module} imports {target}</title></circle>"
            )
    return picture(left + size + 70, top + size + 16, "Which module of lsmdbm imports which", parts)


def homes() -> dict[str, str]:
    """Return the full names of modules by their last part."""
    found: dict[str, str] = {}
    for prefix, _ in LAYERS.values():
        for path in sorted((ROOT / prefix.replace(".", "/")).glob("*.py")):
            found.setdefault(path.stem, prefix + path.stem)
    return found


def draw_way(name: str, messages: list[Message]) -> str:
    """Draw messages from top to bottom, between modules side by side, in the colours of their layers."""
    modules = homes()
    actors = [*dict.fromkeys(actor for message in messages for actor in message[:2] if actor != "disk")]
    actors += ["disk"] if any("disk" in message[:2] for message in messages) else []
    wide, tall, left, top = 122, 34, 74, 56
    place = {actor: left + wide * number for number, actor in enumerate(actors)}
    bottom = top + tall * len(messages)
    parts = [
        "<defs><marker id='to' viewBox='0 0 8 8' refX='8' refY='4' markerWidth='7' markerHeight='7' "
        "orient='auto-start-reverse'><path d='M0 0 L8 4 L0 8 z' fill='#444444'/></marker></defs>"
    ]
    for actor, x in place.items():
        colour = LAYERS[layer_of(modules[actor])][1] if actor in modules else "#555555"
        parts.append(
            f"<line x1='{x}' y1='36' x2='{x}' y2='{bottom}' stroke='{colour}' stroke-opacity='0.35'/>"
            f"<rect x='{x - 52}' y='14' width='104' height='22' rx='4' fill='{colour}'/>"
        )
        parts.append(text(x, 29, actor, fill="#ffffff", more="text-anchor='middle'"))
    for number, (source, target, called, words) in enumerate(messages, 1):
        y = top + tall * number - 12
        start, stop = place[source], place[target]
        parts.append(
            f"<line x1='{start}' y1='{y}' x2='{stop}' y2='{y}' stroke='#444444' marker-end='url(#to)'/>"
        )
        span = 6.7 * len(f"{number}. {called} {words}")  # of the text, about
        x = max(8.0, min(min(start, stop) + 8, place[actors[-1]] + 66 - span))
        parts.append(
            f"<text x='{x:g}' y='{y - 5}' font-size='11' {FONT} fill='#222222' paint-order='stroke'"
            f" stroke='#ffffff' stroke-width='4'>{number}. <tspan font-weight='bold'>{escape(called)}</tspan>"
            f" {escape(words)}</text>"
        )
    return picture(place[actors[-1]] + 74, bottom + 12, f"The way of the data: {name}", parts)


def draw_all(root: Path = ROOT) -> dict[str, str]:
    """Return all pictures by the names of their files."""
    drawn = {f"{name}.svg": draw_way(name, messages) for name, messages in WAYS.items()}
    return {"imports.svg": draw_imports(module_imports(root)), **drawn}


def main(directory: str | Path) -> None:
    for name, picture_text in draw_all().items():
        Path(directory, name).write_text(picture_text, "ascii")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs/diagrams")
