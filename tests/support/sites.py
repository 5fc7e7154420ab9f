"""Steps of the engine that can be taken out, one at a time, to see whether a test notices.

    site = Site("bytes of tables", "_engine.jobs", "_Outputs._finish_table", "file.fsync()")
    with removed(site): ...             the code of the function is replaced, and put back at the end

Rules
  1. A site is found by its text, as `ast.unparse` gives it: a statement or an expression of one function.
     The engine knows nothing of this.
  2. The function object stays the same, so that whoever imported it runs the changed code too.
  3. `steps` finds in the source what must be a site: syncs, truncations, comparisons of checksums.

Thread safety: none.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, NamedTuple

SYNCS = {"fdatasync", "fsync", "sync_parent", "truncate", "unmap"}
DIRECTORIES = {"directory", "_directory"}  # whose sync() is one of the storage


class Site(NamedTuple):
    """One step: where it is, and what stands there instead when it is out."""

    name: str
    module: str  # below lsmdbm
    function: str
    text: str
    instead: str = "pass"
    place: int = 0  # among the same texts in the function


def unparsed(node: ast.AST) -> str:
    """Return the text of a node, the same on every Python: 3.10 writes `lambda : x`."""
    return ast.unparse(node).replace("lambda :", "lambda:")


class _Swap(ast.NodeTransformer):
    def __init__(self, site: Site) -> None:
        self.site = site
        self.seen = 0
        (wanted,) = ast.parse(site.text).body
        self._kinds = (type(wanted), type(wanted.value)) if isinstance(wanted, ast.Expr) else (type(wanted),)

    def generic_visit(self, node: ast.AST) -> Any:
        if type(node) not in self._kinds or unparsed(node) != self.site.text:
            return super().generic_visit(node)
        self.seen += 1
        if self.seen - 1 != self.site.place:
            return node
        body = ast.parse(self.site.instead).body
        if isinstance(node, ast.stmt):
            return body
        (first,) = body
        return first.value if isinstance(first, ast.Expr) else first


@functools.cache
def source(module: str) -> str:
    """Return the source of a module below lsmdbm."""
    return inspect.getsource(importlib.import_module(f"lsmdbm.{module}"))


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Yield every function that is not inside another one, with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node


@functools.cache
def _functions_of(module: str) -> dict[str, ast.stmt]:
    return dict(functions(ast.parse(source(module))))


def changed_code(site: Site) -> CodeType:
    """Return the code of the function without the step.

    Raises:
        LookupError: the text is not there, or more than once and no place is given.
    """
    whole = _functions_of(site.module).get(site.function)
    if whole is None:
        raise LookupError(f"{site.module}: there is no {site.function}")
    found = copy.deepcopy(whole)
    swap = _Swap(site)
    swap.generic_visit(found)
    if swap.seen <= site.place:
        raise LookupError(f"{site.module}, {site.function}: {swap.seen} times {site.text!r}")
    for name in reversed(site.function.split(".")[:-1]):  # nothing but the function and its classes
        found = ast.ClassDef(name, bases=[], keywords=[], body=[found], decorator_list=[], type_params=[])
    tree = ast.Module([*ast.parse("from __future__ import annotations").body, found], type_ignores=[])
    code = compile(ast.fix_missing_locations(tree), f"<{site.name}>", "exec", dont_inherit=True)
    for name in site.function.split("."):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
    return code


def function(site: Site) -> FunctionType:
    """Return the function that a site is in."""
    found: Any = importlib.import_module(f"lsmdbm.{site.module}")
    for name in site.function.split("."):
        found = inspect.getattr_static(found, name)
    for attribute in ("fget", "__func__", "__wrapped__"):
        found = getattr(found, attribute, None) or found
    if not isinstance(found, FunctionType):
        raise TypeError(f"{site.function} is no function")
    return found


@contextmanager
def removed(site: Site) -> Iterator[None]:
    """Take a step out."""
    target = function(site)
    whole = target.__code__
    target.__code__ = changed_code(site)
    try:
        yield
    finally:
        target.__code__ = whole


def steps(module: str) -> Counter[tuple[str, str]]:
    """Return function and text of every sync, truncation and comparison of a checksum in a module."""
    found: Counter[tuple[str, str]] = Counter()
    for name, node in _functions_of(module).items():
        found.update((name, ast.unparse(step)) for step in ast.walk(node) if is_step(step))
    return found


def steps_in(text: str) -> Iterator[str]:
    """Yield the steps in a piece of source."""
    return (unparsed(node) for node in ast.walk(ast.parse(text)) if is_step(node))


def is_step(node: ast.AST) -> bool:
    """Return whether this is something that has to be a site, or part of one."""
    if isinstance(node, ast.Attribute):
        if node.attr != "sync":
            return node.attr in SYNCS
        return ast.unparse(node.value).rpartition(".")[2] in DIRECTORIES
    if isinstance(node, ast.Compare):
        return "crc" in unparsed(node).replace("CRC_BYTES", "")
    return False
