"""The pictures of docs/architecture.md show what is so: those in docs/diagrams are drawn from the sources."""

import importlib
import importlib.util
import inspect
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm._base.os_file import OsFile

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/diagrams"


def load():
    spec = importlib.util.spec_from_file_location("diagrams", ROOT / "docs/diagrams.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


diagrams = load()


def test_the_pictures_are_those_that_the_sources_give():
    """If this fails: python docs/diagrams.py, and look at them."""
    committed = {path.name: path.read_text("ascii") for path in PICTURES.iterdir()}

    assert diagrams.draw_all() == committed


def test_every_picture_is_well_formed_and_on_the_page():
    page = (ROOT / "docs/architecture.md").read_text("ascii")

    for name, drawn in diagrams.draw_all().items():
        assert "{http://www.w3.org/2000/svg}svg" == ElementTree.fromstring(drawn).tag
        assert f"](diagrams/{name})" in page


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "lsmdbm", tmp_path / "lsmdbm", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_planted_import_and_a_planted_module_change_the_picture(copy):
    before = diagrams.draw_imports(diagrams.module_imports(copy))
    (copy / "lsmdbm/_engine/planted.py").touch()
    with_module = diagrams.draw_imports(diagrams.module_imports(copy))
    (copy / "lsmdbm/_engine/planted.py").write_text("def f():\n    from lsmdbm._base import errors")
    with_import = diagrams.draw_imports(diagrams.module_imports(copy))

    assert before == (PICTURES / "imports.svg").read_text("ascii")
    assert 3 == len({before, with_module, with_import})
    assert "<title>lsmdbm._engine.planted imports lsmdbm._base.errors</title>" in with_import


def test_a_circle_of_imports_cannot_be_drawn(copy):
    with (copy / "lsmdbm/_base/errors.py").open("a") as file:
        file.write("\nimport lsmdbm._base.storage\n")

    with pytest.raises(ValueError, match=r"a circle of imports: .*lsmdbm._base.storage"):
        diagrams.draw_imports(diagrams.module_imports(copy))


def missing(ways):
    """What the messages call and what is not there."""
    homes = diagrams.homes()
    found = []
    for messages in ways.values():
        for _, target, called, _ in messages:
            if called:
                place = importlib.import_module(homes[target])
                for part in called.split("."):
                    place = getattr(place, part, None)
                if not callable(place):
                    found.append(f"{target}: {called}")
    return found


def test_every_message_calls_something_that_is_there():
    planted = {"planted": [("you", "store", "Store.put", ""), ("you", "store", "Store.putt", "")]}

    assert [] == missing(diagrams.WAYS)
    assert ["store: Store.putt"] == missing(planted)


NO_CALL = "`entries`"  # a dict, which is looked up where it is


def called(target, name):
    """The code that a message runs, None if it calls nothing."""
    if not name or target == "disk":
        return None
    found = importlib.import_module(diagrams.homes()[target])
    for part in name.split("."):
        found = getattr(found, part)
    return (found.__init__ if isinstance(found, type) else found).__code__


class Calls:
    """While it is entered: what this thread calls, and the modules it comes from."""

    def __enter__(self):
        self.found = []
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _note(self, frame, event, arg):
        if event == "call":
            above, modules = frame.f_back, set()
            while above is not None:
                modules.add(above.f_globals.get("__name__"))
                above = above.f_back
            self.found.append((frame.f_code, modules))

    def lacks(self, messages):
        """Return the messages that did not come, or not in their order."""
        calls, lacking = iter(self.found), []
        for source, target, name, words in messages:
            code = None if NO_CALL in words else called(target, name)
            home = diagrams.homes().get(source)
            if code and code.co_flags & inspect.CO_GENERATOR:  # which runs when somebody else asks for more
                home = None
            if code and not any(code is each and home in {None, *modules} for each, modules in calls):
                lacking.append((source, name))
                calls = iter(self.found)
        return lacking


@pytest.fixture
def ways(tmp_path, monkeypatch):
    """The calls of each way, by its name."""
    monkeypatch.setattr(OsFile, "fdatasync", lambda _: None)
    found = {name: Calls() for name in diagrams.WAYS}
    options = {"durability": "full", "memtable_bytes": 1 << 12, "block_bytes": 128}
    with lsmdbm.open(tmp_path / "db", "c", **options) as db:
        for first in range(2):
            db.update((f"{number:04}", bytes(20)) for number in range(first, 100, 2))
            db.flush()
        with found["get"]:
            assert bytes(20) == db["0010"]  # which is in the older table
        with found["put"]:
            for number in range(6):  # the last of which pays
                db[f"{number:04}"] = bytes(20)
        with found["flush"]:
            for number in range(200):
                db[f"{number:04}"] = bytes(20)
        db.update((f"{number:04}", bytes(20)) for number in range(2000))
        del db["0003"]
        with found["scan"]:  # long enough for every generator to be asked several times
            assert 1999 == len(list(db.range("0000", "9000").items()))
    with lsmdbm.open(tmp_path / "db", "w") as db:
        db["last"] = ""
    (log,) = (tmp_path / "db").glob("*.wal")
    log.write_bytes(log.read_bytes() + b"torn")
    with found["recovery"]:
        db = lsmdbm.open(tmp_path / "db", "w")
    db.close()
    return found


def test_each_way_goes_as_its_picture_has_it(ways):
    for name, messages in diagrams.WAYS.items():
        assert [] == ways[name].lacks(messages), name

    assert [("database", "Reading.get")] == ways["put"].lacks([("database", "reading", "Reading.get", "")])
    for way in ("put", "get"):
        assert [] != ways[way].lacks([*reversed(diagrams.WAYS[way])])
