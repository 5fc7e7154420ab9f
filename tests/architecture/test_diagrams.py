"""The pictures of docs/architecture.md show what is so: those in docs/diagrams are drawn from the sources."""

import importlib
import importlib.util
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

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
