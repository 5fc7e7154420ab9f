"""Paths as text: what the caller gave as str, absolute, and taken apart.

Thread safety: pure functions, but for the current directory.
"""

from __future__ import annotations

import os


def path_text(file: object) -> str:
    """Return a path, given as str, bytes or PathLike of either, as str.

    Raises:
        TypeError: it is no path.
        ValueError: it holds a NUL character.
    """
    path = os.fsdecode(os.fspath(file))  # type: ignore[call-overload]  # which raises the TypeError
    if "\0" in path:
        raise ValueError("embedded null character in path")
    return path


def absolute(path: str) -> str:
    """Return a path that means the same wherever the current directory is."""
    return os.path.abspath(path)


def parent_of(path: str) -> str:
    """Return the absolute path of the directory that holds `path`."""
    return os.path.dirname(os.path.abspath(path))


def name_in_parent(path: str) -> str:
    """Return what `path` is called in the directory `parent_of(path)`."""
    return os.path.basename(os.path.abspath(path))
