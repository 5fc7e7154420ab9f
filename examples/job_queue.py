"""A queue of jobs that loses none: by priority, by several threads, and through the death of the program.

    python job_queue.py [DATABASE]          ./jobs.lsm if none is given; jobs left there are done first

    ready/PRIORITY/NUMBER       a job that waits; the smallest key is the next one
    taken/DEADLINE/NUMBER       a job that somebody does, with its priority
    number                      that of the last job

A job is taken in a transaction, so two workers never have the same one.  What a dead worker had is ready
again past its deadline.  So no job is lost, but one may be done twice: see to it that this does no harm.
"""

import json
import sys
import threading
import time

import lsmdbm


class Queue:
    """Jobs, as whatever JSON can hold."""

    def __init__(self, db: lsmdbm.Database, patience: float = 60.0) -> None:
        self.db = db
        self.patience = patience  # seconds a worker may take

    def put(self, job: object, priority: int = 5) -> None:
        """Add a job; the smallest priority is done first, and of the same one the oldest job."""
        number = self.db.increment("number")
        self.db[f"ready/{priority}/{number:012}"] = json.dumps(job)

    def take(self, now: float | None = None) -> tuple[bytes, object] | None:
        """Return the next job, and the key to `finish` it by; None if there is nothing to do."""
        now = time.time() if now is None else now
        return self.db.run(lambda tx: self._take(tx, int(now)), attempts=1000)

    def _take(self, tx: lsmdbm.Transaction, now: int) -> tuple[bytes, object] | None:
        overdue = tx.range("taken/", f"taken/{now:012}")
        for name, value in overdue.items():
            priority, job = json.loads(value)
            tx[f"ready/{priority}/{name[-12:].decode()}"] = json.dumps(job)
            del tx[name]
        first = tx.range(prefix="ready/").first()
        if first is None:
            return None
        _, priority, number = first[0].decode().split("/")
        taken = f"taken/{now + int(self.patience):012}/{number}"
        job = json.loads(first[1])
        tx[taken] = json.dumps([int(priority), job])
        del tx[first[0]]
        return taken.encode(), job

    def finish(self, taken: bytes) -> bool:
        """Say that a job is done; False if that took so long that somebody else has it by now."""
        return self.db.pop(taken, None) is not None


def work(queue: Queue, done: list[object]) -> None:
    while (found := queue.take()) is not None:
        taken, job = found
        done.append(job)  # here it would be done
        queue.finish(taken)


def main(path: str) -> None:
    with lsmdbm.open(path, "c") as db:
        queue = Queue(db)
        print(len(db.range(prefix="ready/")), "jobs are left from the last time")
        for number in range(100):
            queue.put({"resize": f"picture {number}"}, priority=5)
        queue.put("tell the boss", priority=1)
        done: list[object] = []
        taken, job = queue.take() or (b"", None)
        print("first comes", json.dumps(job))
        queue.finish(taken)
        threads = [threading.Thread(target=work, args=(queue, done)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"then {len(done)} others, by four threads; {len(db.range('ready/', 'taken0'))} left")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "jobs.lsm")
