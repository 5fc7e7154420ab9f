"""Lane: calls from an event loop, made in threads.  What the handles of `lsmdbm.aio` stand on.

Rules
  1. Every call is made in a thread of the lane, never in that of the loop.
  2. A call that nobody waits for any more is dropped if it has not begun, and goes on to its end if it has:
     it takes effect wholly or not at all.
  3. A lane of writes has one thread: writes take effect in the order in which they were asked for.
  4. Puts that stand in line behind each other are written together, as one record of the log: what a hop
     between threads costs, or a sync, is paid once for all of them.
  5. Threads begin with the first call, and end with the lane, or with its last reference.

Thread safety: a lane is called from one event loop at a time; all but the calls happens in that thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

GROUP_ENTRIES, GROUP_BYTES = 1000, 256 << 10  # of puts that are written together

Waiter = asyncio.Future[Any]
Job = tuple[Waiter, "Callable[[], Any] | None", bytes, bytes]  # a call; or None, and a key and value to put


class Lane:
    """Calls that are made in threads.

    Args:
        name: of the threads, to be recognised by.
        threads: how many there may be.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Have a call made, whether anybody waits for it or not."""
        return self._executor.submit(function)

    async def call(self, function: Callable[[], T]) -> T:
        """Return what a call returns (rule 2)."""
        made = self._executor.submit(function)
        try:
            return await outcome(made)
        except asyncio.CancelledError:
            made.cancel()  # which it lets happen only if it has not begun
            raise

    def end(self, *, wait: bool = True) -> None:
        """Make no more calls; those that were asked for are still made.

        Args:
            wait: for them, and for the threads to be gone.
        """
        self._executor.shutdown(wait=wait)


class WriteLane(Lane):
    """Calls that are made one after the other, in the order in which they were asked for (rules 3 and 4).

    Args:
        name: of the thread, to be recognised by.
        write: sets many keys, all or nothing.
    """

    def __init__(self, name: str, write: Callable[[dict[bytes, bytes]], None]) -> None:
        super().__init__(name, 1)
        self._write = write
        self._queue: deque[Job] = deque()

    async def call(self, function: Callable[[], T]) -> T:
        """Return what a call returns, which is made after all that were asked for before."""
        result: T = await self._join_queue(function)
        return result

    async def put(self, key: bytes, value: bytes) -> None:
        """Set one key, maybe together with those that others set now."""
        await self._join_queue(None, key, value)

    def _join_queue(
        self, function: Callable[[], object] | None, key: bytes = b"", value: bytes = b""
    ) -> Waiter:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._queue.append((waiter, function, key, value))
        if len(self._queue) == 1:  # else whoever takes those before this one takes this one too
            self._executor.submit(self._work_off)
        return waiter

    def _work_off(self) -> None:
        """Do all that is in the queue, in the thread."""
        group: list[Job] = []
        room = GROUP_BYTES
        while True:
            job = self._queue.popleft() if self._queue else None
            if group and (job is None or job[1] is not None or room <= 0 or len(group) >= GROUP_ENTRIES):
                self._put_together(group)
                group, room = [], GROUP_BYTES
            if job is None:
                return
            waiter, function, key, value = job
            if function is None:
                group.append(job)
                room -= len(key) + len(value)
            elif not waiter.cancelled():  # rule 2
                _settle([waiter], function)

    def _put_together(self, group: list[Job]) -> None:
        wanted = [job for job in group if not job[0].cancelled()]  # rule 2
        changes = {key: value for _, _, key, value in wanted}
        if changes:
            _settle([job[0] for job in wanted], lambda: self._write(changes))


def outcome(made: Future[T]) -> asyncio.Future[T]:
    """Return a future of the running loop that ends as a call does.  Cancelling it leaves the call alone.

    Not asyncio.wrap_future(): that complains in a log if the loop is closed before the call ends.
    """
    waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def tell(made: Future[T]) -> None:
        if not made.cancelled():  # which is done by who waits, or rather does not any more
            failure = made.exception()
            _tell([waiter], made.result() if failure is None else None, failure)

    made.add_done_callback(tell)
    return waiter


def _settle(waiters: list[Waiter], function: Callable[[], object]) -> None:
    """Make a call, and let all those who wait for it know how it ended."""
    _tell(waiters, *_ended(function))


def _ended(function: Callable[[], object]) -> tuple[object, BaseException | None]:
    try:
        return function(), None
    except BaseException as exc:  # whoever waits gets it
        return None, exc


def _tell(waiters: list[Waiter], result: object, failure: BaseException | None) -> None:
    for loop in {waiter.get_loop() for waiter in waiters}:
        mine = [waiter for waiter in waiters if waiter.get_loop() is loop]
        try:
            loop.call_soon_threadsafe(_end, mine, result, failure)
        except RuntimeError:
            pass  # the loop is closed: nobody is left who waits


def _end(waiters: list[Waiter], result: object, failure: BaseException | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue  # it was cancelled
        if failure is None:
            waiter.set_result(result)
        else:
            waiter.set_exception(failure)
