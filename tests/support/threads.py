"""The same work in several threads at once.

Thread safety: none needed; each call has threads of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any


def in_threads(work: Callable[[Any], object], arguments: Iterable[object]) -> None:
    """Have a thread for each argument do the work, and wait for all of them."""
    threads = [threading.Thread(target=work, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
