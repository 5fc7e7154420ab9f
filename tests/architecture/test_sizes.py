"""How long a module and a function may be: what does not fit does two things."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES, BODY_LINES = 400, 40
EXCEPTIONS = {}  # module: why it is one all the same


def body_lines(function):
    """How many lines a function has from its first statement on, docstring and signature left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def too_long(root):
    """Modules of the package that are too long, and functions, with their lines."""
    found = {}
    for path in (root / "lsmdbm").rglob("*.py"):
        source, name = path.read_text("utf-8"), path.relative_to(root / "lsmdbm").as_posix()
        if len(source.splitlines()) > MODULE_LINES:
            found[name] = len(source.splitlines())
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and body_lines(node) > BODY_LINES:
                found[f"{name}: {node.name}"] = body_lines(node)
    return found


def test_modules_and_functions_are_no_longer_than_they_may_be():
    assert {*EXCEPTIONS} == {*too_long(ROOT)}, too_long(ROOT)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("pass\n" * 400, {}),
        ("pass\n" * 401, {"planted.py": 401}),
        ("def f():\n" + "    pass\n" * 40, {}),
        ("def f():\n" + "    pass\n" * 41, {"planted.py: f": 41}),
        ("async def f():\n" + "    pass\n" * 41, {"planted.py: f": 41}),
        ("class C:\n    def f(self):\n" + "        pass\n" * 41, {"planted.py: f": 41}),
        ("def f(\n" + "\n" * 50 + '):\n    """One.' + "\n" * 50 + '    """\n' + "    pass\n" * 40, {}),
        ('def f():\n    """All there is.' + "\n" * 50 + '    """\n', {}),
    ],
)
def test_what_is_too_long_is_found(tmp_path, source, expected):
    (tmp_path / "lsmdbm").mkdir()
    (tmp_path / "lsmdbm/planted.py").write_text(source)

    assert expected == too_long(tmp_path)
