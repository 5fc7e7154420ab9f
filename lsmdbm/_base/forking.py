"""Forking: what a fork has to wait for, and who is told of one.

The child of a fork has one thread.  A module that another thread was in the middle of importing stays half
imported there, its lock held by nobody, and whoever asks for it, the end of the interpreter included, waits
for ever.

Rules
  1. What a thread of the program imports late, in the middle of a put say, it imports under `importing`.
  2. A fork waits for `importing`, so that the child finds such a module imported or not begun.

Thread safety: every function may be called from any thread.
"""

from __future__ import annotations

import _thread  # `import lsmdbm` imports this module and no other: threading takes longer
import os

TYPE_CHECKING = False  # nor typing
if TYPE_CHECKING:
    from collections.abc import Callable

importing = _thread.RLock()  # another one: a signal handler may fork, or a module that is being imported


def on_fork(callback: Callable[[], None]) -> None:
    """Have `callback` called in every child that is forked through Python."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


if hasattr(os, "register_at_fork"):
    # In the child it is released, too: its one thread is the one that took it.
    os.register_at_fork(
        before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release
    )
