"""README and docs/ say what is so: their examples run, and their tables agree with the code.

What runs: ```pycon blocks, as one doctest per page, and ```python blocks, one program each.  The languages in
SHOWN are for test_blocks.py; any other one is an error, so that no example escapes by its label.
"""

import _thread
import ast
import doctest
import importlib
import inspect
import pickle
import re
import shutil
import subprocess
import sys
import threading
import traceback

import pytest

import lsmdbm
from lsmdbm._base.options import DEFAULTS
from lsmdbm._engine import sharing
from support import sql
from support.pages import FENCE, PAGES, ROOT, blocks

SQL = "sql.md"  # its examples need apsw
SHOWN = {"text", "console", "py", "{include}", "{toctree}", "{eval-rst}"}

ids = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def rows(page, heading):
    """The cells of the table below a heading, its own heading left out."""
    section = page.read_text("ascii").split(f"\n{heading}\n")[1].partition("\n#")[0]
    table = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in table[2:]]


def failures(code, name):
    """What is wrong with the doctest examples in `code`, "" if nothing is."""
    test = doctest.DocTestParser().get_doctest(code, {}, name, name, 0)
    report = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    return "".join(report)


@ids
def test_page_is_ascii(page):
    assert page.read_bytes().isascii()


@ids
def test_page_has_no_block_in_an_unknown_language(page):
    assert set() == {language for _, language, _ in FENCE.findall(page.read_text("ascii"))} - SHOWN - {
        "pycon",
        "python",
    }


@ids
def test_examples_of_page_run(page, tmp_path, monkeypatch):
    if page.name == SQL:
        sql.module()  # skips
    monkeypatch.chdir(tmp_path)

    assert "" == failures("\n".join(blocks(page, "pycon")), page.name)


@ids
def test_programs_of_page_run(page, tmp_path):
    for code in blocks(page, "python"):
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True)
        assert (0, b"") == (done.returncode, done.stderr)


def test_guide_has_examples_and_readme_a_program():
    assert len(blocks(ROOT / "docs/guide.md", "pycon")) > 10
    assert len(blocks(ROOT / "README.md", "python")) == 1


@pytest.mark.parametrize("code", [">>> 1 + 1\n3\n", ">>> 1 / 0\n", ">>> [\n"])
def test_wrong_example_is_found(code):
    try:
        found = failures(code, "planted")
    except ValueError as exc:
        found = str(exc)
    assert found


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("ascii")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_runs_the_tests_as_ci_does():
    ci = (ROOT / ".ci/run").read_text("ascii")
    command = re.search(r'bin/tox" (run-parallel.*?) \|\|', ci)[1]

    assert f"$ pip install tox && tox {command}\n" in (ROOT / "README.md").read_text("ascii")


def test_readme_runs_an_example_that_is_there():
    text = (ROOT / "README.md").read_text("ascii")
    programs = re.findall(r"python (examples/\S+\.py)", text)

    assert programs
    assert all((ROOT / program).is_file() for program in programs)


def test_guide_lists_every_option_with_its_default():
    expected = [*DEFAULTS.items()]
    found = rows(ROOT / "docs/guide.md", "## Options")

    assert expected == [(name.strip("`"), eval(default.strip("`"))) for name, default, _ in found]
    shape = [name.strip("`") for name, _, meaning in found if meaning.endswith("remembered")]
    assert sorted(shape) == sorted(lsmdbm.Options().shape())


def test_guide_lists_every_error_with_what_else_it_is():
    errors = {
        name: kind
        for name in lsmdbm.__all__
        if isinstance(kind := getattr(lsmdbm, name), type) and issubclass(kind, Exception)
    }
    listed = {name.strip("`"): also.strip("`") for name, also, _ in rows(ROOT / "docs/guide.md", "## Errors")}

    assert {
        name: ", ".join(base.__name__ for base in kind.__bases__ if base is not lsmdbm.error)
        for name, kind in errors.items()
    } == listed


def test_reference_has_every_public_name():
    text = (ROOT / "docs/api.md").read_text("ascii")
    documented = re.findall(r":: lsmdbm\.(?!dbapi\b)(\w+)", text)  # which has its own test, where apsw is

    assert sorted(lsmdbm.__all__) == sorted(documented)
    assert f':: lsmdbm.open_flags\n   :type: str\n   :value: "{lsmdbm.open_flags}"\n' in text


def unkept(page, tests):
    """What is wrong with the tables: cells without a promise, promises without a test, tests without one."""
    section = page.split("\n## The promise\n")[1].partition("\n## ")[0]
    promise, kept = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    cells = [
        cell
        for line in promise.splitlines()[2:]
        for cell in line.strip("|").split(" | ")[-2:]
        if cell.strip()
    ]
    found = re.findall(r"^\| (P\d+) \|.*\| `(\w+)` \|$", kept, re.MULTILINE)
    named = {number for cell in cells for number in re.findall(r"\((P\d+)\)", cell)}
    return [
        *(cell for cell in cells if not re.search(r"\(P\d+\)", cell)),
        *(named - dict(found).keys()),
        *({test for _, test in found} ^ tests),
        *([] if [f"P{n}" for n in range(1, len(found) + 1)] == [number for number, _ in found] else found),
    ]


def test_every_promise_of_durability_has_its_test():
    page = (ROOT / "docs/durability.md").read_text("ascii")
    module = (ROOT / "tests/crash/test_promise.py").read_text("ascii")
    tests = set(re.findall(r"^def (test_\w+)", module, re.MULTILINE))

    assert 19 == len(tests)
    assert [] == unkept(page, tests)
    assert ["test_gone"] == unkept(page, {*tests, "test_gone"})
    assert ["test_full_power_loss_keeps_all"] == unkept(page, tests - {"test_full_power_loss_keeps_all"})
    assert ["everything that returned"] == [each.strip() for each in unkept(page.replace(" (P8)", ""), tests)]
    assert unkept(page.replace("| P18 |", "| P20 |"), tests)


def codemap():
    return [name.strip("`") for name, _ in rows(ROOT / "docs/architecture.md", "## Codemap")]


def modules(root):
    """Every module that holds code: the __init__ of a private layer holds its law and nothing else."""
    found = (path.relative_to(root).as_posix() for path in (root / "lsmdbm").rglob("*.py"))
    return {name for name in found if not re.search(r"/_\w+/__init__\.py$", name)}


def test_codemap_lists_every_module_once():
    assert sorted(modules(ROOT)) == sorted(codemap())


def test_codemap_misses_a_planted_module_and_a_removed_one(tmp_path):
    shutil.copytree(ROOT / "lsmdbm", tmp_path / "lsmdbm", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "lsmdbm/_base/planted.py").touch()
    (tmp_path / "lsmdbm/_engine/store.py").unlink()

    assert {"lsmdbm/_base/planted.py", "lsmdbm/_engine/store.py"} == modules(tmp_path) ^ set(codemap())


HERE_TOO = {  # in the last column of the glossary, and in use here for something else
    *("cursor", "dump", "event", "offset", "page", "segment", "slice", "task", "thread", "token"),
}


def misnamed(page, source):
    """What the glossary says is in the code and is not, and what it says is not and is."""
    words, text = {*re.findall(r"\w+", source)}, source.lower()
    lower = {*re.findall(r"\w+", text)}
    spelled = {re.sub(r"\(.*\)|\[.*\]", "", name) for name in re.findall(r"`([^`]+)`", page)}
    last = [line.split("|")[4].strip() for line in page.splitlines() if line.startswith("|")]
    others = {word for cell in last for word in cell.split(", ")} - {"", "Not", "---"} - HERE_TOO
    return (
        {name for name in spelled if not {*re.findall(r"\w+", name)} <= words},
        {word for word in others if (word.lower() in text if " " in word else word.lower() in lower)},
    )


def test_the_glossary_names_what_is_in_the_code_and_not_what_is_not():
    page = (ROOT / "docs/glossary.md").read_text("ascii")
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "lsmdbm").rglob("*.py"))
    planted = page.replace("`Memtable`", "`Memtabel`").replace("memdb", "memdb, sealed, file name")

    assert (set(), set()) == misnamed(page, source)
    assert ({"Memtabel"}, {"sealed", "file name"}) == misnamed(planted, source)


ARCHITECTURE = ROOT / "docs/architecture.md"
NOT_REENTRANT = {"threading.Lock", "threading.Condition", "_thread.allocate_lock"}
KEEPS_APART = NOT_REENTRANT | {"threading.RLock", "threading.local"}
KEEPS_APART |= {"_thread.RLock", "queue.SimpleQueue", "ThreadPoolExecutor"}


def keeping_apart(root):
    """The modules that make something to keep threads apart with, and what that is."""
    found = {}
    for path in (root / "lsmdbm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            made = [node.func] if isinstance(node, ast.Call) else getattr(node, "bases", [])
            kinds = KEEPS_APART & {ast.unparse(each).partition("[")[0] for each in made}
            if kinds:
                found.setdefault(path.relative_to(root).as_posix(), set()).update(kinds)
    return found


def test_every_lock_stands_in_the_table_of_locks_and_is_reentrant(tmp_path):
    listed = {name.strip("`") for name, _, _ in rows(ARCHITECTURE, "## Where locks stand")}
    (tmp_path / "lsmdbm").mkdir()
    planted = {
        "a": "import threading\nx = threading.RLock()",
        "b": "import queue\nx = queue.SimpleQueue[int]()",
        "c": "import _thread\nx = _thread.RLock()",
    }
    for name, source in planted.items():
        (tmp_path / f"lsmdbm/{name}.py").write_text(source)

    found = keeping_apart(ROOT)
    assert listed == found.keys()
    assert set() == set().union(*found.values()) & NOT_REENTRANT
    assert {"lsmdbm/a.py", "lsmdbm/b.py", "lsmdbm/c.py"} == keeping_apart(tmp_path).keys()


HELD = threading.local()  # .locks: the watched locks that a thread holds, the newest last


class Watched:
    """A lock that notes under which other ones it was taken.

    Args:
        module: that made it, as the table of locks has it.
        under: takes (module of a lock that was held, module of the one that was taken under it).
    """

    def __init__(self, module, under):
        self.module, self._under = module, under
        self._lock = _thread.RLock()
        self._is_owned = self._lock._is_owned

    def acquire(self, blocking=True, timeout=-1):
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            held = HELD.__dict__.setdefault("locks", [])
            self._under.update((other.module, self.module) for other in held if other is not self)
            held.append(self)
        return taken

    def release(self):
        HELD.locks.remove(self)
        self._lock.release()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


@pytest.fixture
def under(monkeypatch):
    """Which locks of ours are taken under which others from now on."""
    found = set()

    def watched():
        path = sys._getframe(1).f_globals.get("__name__", "").replace(".", "/") + ".py"
        return Watched(path, found) if path.startswith("lsmdbm/") else _thread.RLock()

    monkeypatch.setattr(threading, "RLock", watched)
    monkeypatch.setattr(sharing, "_registry_lock", Watched("lsmdbm/_engine/sharing.py", found))
    return found


def use_all_that_locks(path):
    options = {
        "memtable_bytes": 4096,
        "durability": "interval",
        "cache_bytes": 4096,
        "log_keep_bytes": 1 << 20,
    }
    with lsmdbm.open(path, "c", **options) as first:
        first["key"] = "value"
    with lsmdbm.open(path, "r") as reader, lsmdbm.open(path, "w", **options) as db:
        for number in range(300):
            db[f"{number:04}"] = bytes(40)
        snapshot = db.snapshot()
        db.delete_range("0100", "0200")
        assert 200 < len(snapshot) == sum(1 for _ in snapshot.items())
        snapshot.close()
        for call in (lambda: db.pop("0000"), lambda: db.increment("number"), lambda: db.get_many(["0001"])):
            call()
        with db.transaction() as change:
            change["0003"] = change["0004"]
        for call in (db.sync, db.flush, db.compact, db.stats, db.range("0001").first, db.__len__):
            call()
        assert [] == list(db.changes(db.position()))
        reader.refresh()
        assert dict(db.items()) == dict(reader.items())
        with reader.snapshot() as moment:
            assert len(db) == len(moment)
        assert [] == list(reader.changes(reader.position()))


def test_no_lock_is_taken_under_one_that_stands_below_it(tmp_path, under):
    order = [name.strip("`") for name, _, _ in rows(ARCHITECTURE, "## Where locks stand")]
    use_all_that_locks(tmp_path / "db")

    assert [] == [(held, taken) for held, taken in under if order.index(held) >= order.index(taken)]
    assert ("lsmdbm/_engine/durability.py", "lsmdbm/_engine/writer.py") in under
    assert {name for pair in under for name in pair} >= {
        f"lsmdbm/{name}.py"
        for name in ("_engine/sharing", "_engine/reader", "_engine/moment", "_engine/memtable", "_base/lru")
    }


def astray(section):
    """What a tour names and what is not there: names in code, of the modules that its lines link to."""
    found, linked = [], []
    for line in section.splitlines():
        if not line.startswith(" "):
            linked = []  # another step
        for text, target, name in re.findall(r"\[`([^`]+)`\]\(([^)]+)\)|`([A-Za-z_.]+)`", line):
            if target:
                linked.append(importlib.import_module("lsmdbm." + text[:-3].replace("/", ".")))
                if target != f"../lsmdbm/{text}":
                    found.append(target)
            elif not any(_reaches(module, name) for module in linked):
                found.append(name)
    return [*found, *re.findall(r"(?i)\bline \d+|#L\d+|\.py:\d+", section)]


def _reaches(place, name):
    try:
        for part in name.split("."):
            place = getattr(place, part)
    except AttributeError:
        return False
    return True


def test_the_tour_names_what_is_there_and_no_lines():
    section = ARCHITECTURE.read_text("ascii").split("\n## Reading the source\n")[1]
    modules = re.findall(r"\]\(\.\./lsmdbm/(\S+)\.py\)", section)
    planted = [
        ("`Store.put`", "`Store.putt`", ["Store.putt"]),
        ("../lsmdbm/_engine/view.py", "../lsmdbm/view.py", ["../lsmdbm/view.py"]),
        ("`merge` is", "`merge` (merge.py:62) is", [".py:62"]),
    ]

    assert len(modules) > 15
    assert [] == astray(section)
    for old, new, expected in planted:
        assert old in section
        assert expected == astray(section.replace(old, new))


PUBLIC_CLASSES = {
    f"{package.__name__}.{name}": kind
    for package in (lsmdbm, lsmdbm.aio)
    for name in package.__all__
    if isinstance(kind := getattr(package, name), type)
}


@pytest.mark.parametrize("name", PUBLIC_CLASSES)
def test_tools_are_shown_the_source_of_a_public_class_or_none(name):
    """They were shown lines of lsmdbm/__init__.py, or failed: see lsmdbm/_base/public.py, rule 1."""
    kind = PUBLIC_CLASSES[name]
    try:
        source = inspect.getsource(kind)
    except OSError:
        assert kind.__module__ == name.rpartition(".")[0]  # which is not where the lines are
    else:
        assert re.match(rf"(@.*\n)*class {kind.__name__}\b", source)


def renamed_in_their_body(root):
    """The classes that say in their body of which module they are."""
    return {
        node.name
        for path in (root / "lsmdbm").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.Assign) and "__module__" in map(ast.unparse, each.targets)
    }


def test_no_class_says_in_its_body_of_which_module_it_is(tmp_path):
    """On a Python before 3.13 nothing else would notice."""
    (tmp_path / "lsmdbm").mkdir()
    (tmp_path / "lsmdbm/planted.py").write_text('class Planted:\n    __module__ = "lsmdbm"\n', "ascii")

    assert set() == renamed_in_their_body(ROOT)
    assert {"Planted"} == renamed_in_their_body(tmp_path)


def test_a_public_class_is_known_by_its_public_name():
    said = "".join(traceback.format_exception_only(lsmdbm.NotFoundError.at("words")))

    assert said.startswith("lsmdbm.NotFoundError: ")
    assert pickle.loads(pickle.dumps(lsmdbm.Database)) is lsmdbm.Database
    assert "lsmdbm.Database" == f"{lsmdbm.Database.__module__}.{lsmdbm.Database.__qualname__}"
    assert inspect.getsource(lsmdbm.Database.close).startswith("    def close(self)")
