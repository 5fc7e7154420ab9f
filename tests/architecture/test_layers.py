"""The import direction of lsmdbm, executable.  The laws it keeps: docs/architecture.md."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = {  # lowest layer first; inside a layer, lowest module first
    "lsmdbm._base.": "public errors ending forking leftovers options chunk intervals process storage paths"
    " os_file os_storage lru",
    "lsmdbm._format.": "coding columns records log_reader manifest bloom envelope block dictionaries footer"
    " table_writer messages table_parts table_reader table_check salvage position",
    "lsmdbm._engine.": "names memtable merge version lookup tables view count dead moment validation draft"
    " plan figures stats install mapped log appender wal keeping leveled tiered fifo picker samples jobs"
    " delegate ingest background recovery feed tree reader syncer group writer durability reading store"
    " worker recognition sharing check anatomy removal destination backup findings seniority remains repair"
    " building loading",
    "lsmdbm.": "coercion ranges source retries coding decoded_range decoded decoded_handle text snapshot"
    " transaction batch changes handle database tally writeback shelve registration migration maintenance"
    " bulk aio.lane aio.stream aio.reads aio.snapshot aio.batch aio.transaction aio.handle aio.database aio"
    " cache.keys cache.entries cache.lifetimes cache.space cache.aging cache.flights cache.memo cache.figures"
    " cache.holding cache.mapping cache.cache cache"
    " dbapi.errors dbapi.types dbapi.session"
    " dbapi.bounds dbapi.tokens dbapi.asking dbapi.codecs dbapi.values dbapi.kv dbapi.statements dbapi.schema"
    " dbapi.shaping dbapi.catalogue dbapi.spans dbapi.access dbapi.layout dbapi.rows dbapi.tables dbapi.ddl"
    " dbapi.cursor dbapi.connection dbapi"
    " cli.escapes cli.outcome cli.formats cli.output cli.fancy cli.standard cli.opening cli.entries"
    " cli.metrics cli.drawing cli.files cli.insides cli.care cli.bench cli.grammar cli.plain cli.offers"
    " cli.prompt cli.shell cli.sql cli.clicked cli.completion cli.entry cli",
}
ORDER = [layer + name for layer, names in LAYERS.items() for name in names.split()]
RANK = {name: rank for rank, name in enumerate([*ORDER, "lsmdbm", "lsmdbm.__main__"])}
HOMES = {  # imported module: prefix of the modules that may import it; () is nobody
    "mmh3": "lsmdbm._format.bloom",
    "zstandard": ("lsmdbm._format.envelope", "lsmdbm._format.dictionaries"),
    "zlib": "lsmdbm._format.",
    "sortedcontainers": "lsmdbm._engine.memtable",
    "apsw": "lsmdbm.dbapi",
    "asyncio": "lsmdbm.aio",
    "concurrent": ("lsmdbm.aio.", "lsmdbm.bulk", "lsmdbm._engine.loading"),
    "dbm": ("lsmdbm.registration", "lsmdbm.migration"),
    "argparse": "lsmdbm.cli.plain",
    "click": ("lsmdbm.cli.clicked", "lsmdbm.cli.completion"),
    "prompt_toolkit": "lsmdbm.cli.prompt",
    "rich": "lsmdbm.cli.fancy",
    "struct": ("lsmdbm._format.", "lsmdbm.dbapi.values"),
    "pickle": ("lsmdbm.shelve", "lsmdbm.dbapi.codecs"),
    "shelve": "lsmdbm.shelve",
    "os": (
        "lsmdbm._base.os_",
        "lsmdbm._base.paths",
        "lsmdbm._base.forking",
        "lsmdbm._base.process",
        "lsmdbm.cli.",
    ),
    "select": "lsmdbm._base.process",
    "socket": "lsmdbm._base.process",
    "subprocess": "lsmdbm._base.process",
    "multiprocessing": (),
    "fcntl": "lsmdbm._base.os_file",
    "time": ("lsmdbm._base.os_storage", "lsmdbm.cache.cache", "lsmdbm.cli."),
    "mmap": "lsmdbm._base.os_file",
    "tempfile": "lsmdbm.cli.bench",
}


def parse_all(root):
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text("utf-8")
        )
        for path in (root / "lsmdbm").rglob("*.py")
    }


@functools.cache
def ours():
    return parse_all(ROOT)


def imports(sources):
    for name, tree in sources.items():
        for node in ast.walk(tree):  # function bodies and TYPE_CHECKING blocks included
            if isinstance(node, ast.Import):
                yield from ((name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                stem = "." * node.level + (node.module or "")
                yield from ((name, f"{stem}.{alias.name}") for alias in node.names)


def is_allowed(name, target):
    if target.startswith("."):
        return False  # a relative import hides its layer
    if target.partition(".")[0] == "lsmdbm":
        owner = target if target in RANK else target.rpartition(".")[0]
        return RANK.get(owner, len(RANK)) < RANK.get(name, 0)
    return name.startswith(HOMES.get(target.partition(".")[0], ""))


def misplaced(root):
    """Modules on disk without a place in LAYERS, and places without a module."""
    packages = {layer.removesuffix(".") for layer in LAYERS}
    return sorted({*RANK, *packages} ^ set(parse_all(root)))


def forbidden(root):
    return sorted(found for found in imports(parse_all(root)) if not is_allowed(*found))


def test_every_module_has_its_place():
    assert [] == misplaced(ROOT)


@pytest.mark.parametrize("layer", ["lsmdbm._base.", "lsmdbm._format.", "lsmdbm._engine."])
def test_a_layer_says_which_files_it_has_in_their_order(layer):
    law = ast.get_docstring(ours()[layer.removesuffix(".")])
    files = law.partition("Files, in import order: ")[2].partition(".")[0]

    assert LAYERS[layer].split() == files.replace(",", "").split()


def test_imports_point_down_or_left_and_dependencies_stay_home():
    assert [] == forbidden(ROOT)


ABSENT = {"open", "os.fdopen", "os.rename", "os.renames", "os.replace", "io.open"}  # see docs/architecture.md
MOUNT_TABLE = ("lsmdbm._base.os_storage", "open(MOUNTS, encoding='utf-8', errors='replace')")  # none of ours


def absent_calls(sources):
    """Calls below the faces that rename a file, or make a Python file object."""
    layers = tuple(layer for layer in LAYERS if layer.startswith("lsmdbm._"))
    return [
        (name, ast.unparse(node))
        for name, tree in sources.items()
        if name.startswith(layers)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ABSENT
    ]


def test_no_file_is_renamed_and_none_of_ours_is_a_file_object_of_python():
    planted = {"lsmdbm._engine.install": ast.parse("os.replace(a, b)\nopen(path).read()\nself.open(path)")}

    assert [MOUNT_TABLE] == absent_calls(ours())
    assert ["os.replace(a, b)", "open(path)"] == sorted(
        (text for _, text in absent_calls(planted)), reverse=True
    )


@pytest.fixture
def tree(tmp_path):
    """A source tree with every module LAYERS names, each importing all it may: the module before it."""
    packages = [f"{layer}__init__" for layer in LAYERS]
    for name in [*packages, *ORDER]:
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for lower, upper in zip(ORDER, ORDER[1:], strict=False):
        package, _, module = lower.rpartition(".")
        source = f"import ast, {lower}\nfrom {package} import {module}\nfrom {lower} import name\n"
        (tmp_path / (upper.replace(".", "/") + ".py")).write_text(source)
    (tmp_path / "lsmdbm/_format/envelope.py").write_text("import zlib, zstandard\nfrom struct import pack\n")
    (tmp_path / "lsmdbm/__init__.py").write_text("from lsmdbm.database import open\n")
    (tmp_path / "lsmdbm/__main__.py").write_text("from lsmdbm.cli.plain import main\n")
    return tmp_path


def test_guard_accepts_a_tree_without_faults(tree):
    assert [] == misplaced(tree)
    assert [] == forbidden(tree)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_base/errors", "import os"),
        ("_base/options", "import os.path"),
        ("_base/chunk", "from lsmdbm._base.storage import Storage"),
        ("_base/chunk", "from lsmdbm._base import storage"),
        ("_base/lru", "import lsmdbm._format.coding"),
        ("_base/lru", "import lsmdbm"),
        ("_base/lru", "import struct"),
        ("_base/__init__", "from lsmdbm._base import errors"),
        ("_format/coding", "from .records import read"),
        ("_format/table_reader", "from . import block"),
        ("_format/block", "import zstandard"),
        ("_format/block", "def late():\n    from lsmdbm._engine import store"),
        ("_format/block", "if TYPE_CHECKING:\n    from lsmdbm._engine.store import Store"),
        ("_engine/wal", "from struct import unpack"),
        ("_engine/wal", "from os import fsync"),
        ("_engine/picker", "import time"),
        ("_engine/store", "from lsmdbm import database"),
        ("_engine/store", "from lsmdbm import open"),
        ("_engine/store", "from lsmdbm._engine import unheard_of"),
        ("database", "from lsmdbm.database import Database"),
        ("database", "import tempfile"),
        ("database", "import asyncio"),
        ("cli/entries", "import click"),
        ("cli/output", "from rich.table import Table"),
        ("cli/plain", "from lsmdbm import __version__"),
        ("maintenance", "from lsmdbm.cli.output import Output"),
        ("_engine/store", "from concurrent.futures import ThreadPoolExecutor"),
    ],
)
def test_guard_finds_a_planted_import(tree, module, source):
    path = tree / "lsmdbm" / f"{module}.py"
    path.write_text(source)

    assert ["lsmdbm." + module.replace("/", ".").removesuffix(".__init__")] == [
        name for name, _ in forbidden(tree)
    ]


def test_guard_finds_a_module_without_a_place_and_a_place_without_a_module(tree):
    (tree / "lsmdbm/_base/helpers.py").touch()
    (tree / "lsmdbm/_engine/store.py").unlink()

    assert ["lsmdbm._base.helpers", "lsmdbm._engine.store"] == misplaced(tree)
