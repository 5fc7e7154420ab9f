"""Tree: what is live, and how that changes - seal, flush, compact, install, collect.

    void      a range deletion: seal, and begin a memtable that hides what is older
    seal      the active memtable becomes the newest sealed one; small ones are folded together
    flush     seal, end the log, write the sealed memtables into level 0, make holes in the tables where they
              have ranges, install, forget the logs
    compact   merge the tables of a plan, install, retire the inputs
    ingest    flush, write the entries of other tables into new ones, install
    install   one new manifest; then the view moves over; then what nobody needs is unlinked

Rules
  1. `view` is replaced, never changed.  It moves over in one assignment, which comes last.
  2. A result that is installed twice, because the first time was interrupted behind its commit point, does
     no harm: what is in the view already is left alone.
  3. A log is forgotten, or kept for those who follow, when an installed manifest holds its last sequence, a
     table when an installed manifest no longer names it and no view needs it.  What a manifest says of the
     newest write in tables and of the number of keys is taken from the view that its tables are taken from:
     an interruption may come between an install and the view's moving over.
  4. An ingest takes a sequence of its own, which no log has.  It is the one install that changes what reads
     find.  Cut off, it is over with the next write, sync or close, and what reads have found since stays: the
     state of the view is installed under a higher number, and only then do tables go that are not in it.
  5. Ranges become holes of tables with the flush that makes their deletion durable, and not before: else a
     crash could leave a deletion without the writes that came before it.

Thread safety: under the lock of the store; `view` may be read by any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, cast

from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.intervals import Intervals, united
from lsmdbm._engine import fifo
from lsmdbm._engine.background import Background, Job
from lsmdbm._engine.count import Count, after_flush, after_ingest
from lsmdbm._engine.ingest import Source, placed, spans
from lsmdbm._engine.install import Installer
from lsmdbm._engine.jobs import Workshop, adopt, finished
from lsmdbm._engine.keeping import KeptLogs
from lsmdbm._engine.memtable import Memtable, fold_newest, sources
from lsmdbm._engine.names import MANIFEST, TABLE, WAL, file_name, numbers, parse, unlink_all
from lsmdbm._engine.plan import Plan
from lsmdbm._engine.recovery import Recovered
from lsmdbm._engine.stats import Totals, gather
from lsmdbm._engine.version import Version, voided
from lsmdbm._engine.view import GoneView, View
from lsmdbm._engine.wal import Wal
from lsmdbm._format.manifest import Manifest, TableMeta
from lsmdbm._format.table_writer import Origin

if TYPE_CHECKING:
    from lsmdbm._engine.figures import Stats

STALL_MEMTABLES = 4  # so many memtables of unflushed writes are taken while flushes fail
WORTH_REMEMBERING = 4096  # keys in tables: to count so many again takes about as long as an install


class Tree:
    """The memtables and tables of one database, open for writing.

    Args:
        workshop: what jobs work with.
        wal: the log; it is rotated and trimmed here, and written by the writer.
        recovered: what the files hold.
    """

    def __init__(self, workshop: Workshop, wal: Wal, recovered: Recovered) -> None:
        self._workshop = workshop
        self._wal = wal
        self._installer = Installer(workshop.directory, workshop.counter, recovered.manifest)
        self._ingested: list[TableMeta] = []  # complete, and may be named by a manifest; not settled yet
        self._totals = Totals()
        self._kept = KeptLogs(workshop.directory, workshop.options.log_keep_bytes)
        self.count = Count(recovered.table_keys)
        self.background = Background(
            workshop, lambda: self.view.version, self._install_flush, self._install_compaction
        )
        sealed = () if recovered.memtable.is_empty else (recovered.memtable,)
        version = workshop.tables.track(recovered.version)
        active = Memtable(recovered.next_seq)
        self.view = View(active, sealed, version, workshop.tables, recovered.table_keys)

    @property
    def manifest(self) -> Manifest:
        """What was installed last."""
        return self._installer.current

    # -- memory -------------------------------------------------------------------------------------

    def seal(self) -> View:
        """Return a view whose active memtable is empty.  O(1), but for folding small memtables."""
        view = self.view
        active = view.active
        if not active.is_empty:
            active.last_seq = self._wal.seq - 1
            flushing = self.background.flushing
            sealed = fold_newest((active, *view.sealed), len(flushing.memtables) if flushing else 0)
            view = self.view = view.with_active(Memtable(self._wal.seq), sealed)
        return view

    def pin(self) -> View:
        """Return a view that nothing changes any more.

        Its active memtable is one of its own: into the one of `seal`, still empty, the next write goes.
        """
        view = self.seal()
        return view.with_active(Memtable(view.active.first_seq), view.sealed)

    def void(
        self, ranges: Intervals, keys: Sequence[bytes] = (), values: Sequence[bytes | None] = ()
    ) -> None:
        """Do to memory what a range deletion does, and set keys after it; both show at once.

        `wal.seq` is its own sequence.  O(1), but for folding small memtables.  Done twice, as healing may do
        it, it only seals what it did before.
        """
        if self.view.active.entries:
            self.seal()
        view = self.view
        before = view.active
        entries = dict(zip(keys, values, strict=True))
        active = Memtable(before.first_seq, entries, united(before.ranges, ranges))
        active.deletes, active.charge = None in values, before.charge
        self.view = view.with_active(active, view.sealed)

    def forget_everything(self) -> None:
        """Do to memory what a clear() does; `wal.seq` is the sequence of the clear itself."""
        version = self._workshop.tables.track(Version())
        self.view = View(Memtable(self._wal.seq + 1), (), version, self._workshop.tables, 0)

    def unflushed_bytes(self) -> int:
        """Return what is in memory and not being flushed yet, in bytes of log."""
        flushing = self.background.flushing
        sealed = self.view.sealed
        waiting = sealed[: len(sealed) - len(flushing.memtables)] if flushing else sealed
        return self.view.active.charge + sum(memtable.charge for memtable in waiting)

    def is_stalled(self) -> bool:
        """Return whether flushes fail and memory is full."""
        in_memory = self.view.active.charge + sum(memtable.charge for memtable in self.view.sealed)
        limit = STALL_MEMTABLES * self._workshop.options.memtable_bytes
        return self.background.trouble is not None and in_memory > limit

    def let_go(self, *why: str) -> None:
        """Answer ClosedError to every read from now on."""
        self.view = cast(View, GoneView(*why))

    # -- jobs ---------------------------------------------------------------------------------------

    def pay(self, written_bytes: int) -> None:
        """Work off what so many bytes of new log owe."""
        limit = self._workshop.options.memtable_bytes
        is_manual = self._workshop.options.background == "manual"
        if not is_manual and self.unflushed_bytes() >= limit:
            self.background.wait_for_flush()
            self.start_flush()
        elif self._wal.is_full():
            self._wal.rotate()
        if not is_manual:
            self.background.advance(written_bytes, limit - self.unflushed_bytes())

    def start_flush(self) -> bool:
        """Begin to flush all there is in memory, after the flush under way; False if there is nothing."""
        if self.background.flushing is not None:
            self.background.work(self.background.flushing)
        view = self.seal()
        if not view.sealed:
            return False
        self._wal.rotate()
        self.background.start_flush(view.sealed, self.count.survey(view))
        return True

    def start_compaction(self) -> bool:
        """Begin to compact everything into one level; False if that is so already."""
        return self.background.start_compaction_of_everything()

    def drop_oldest(self, over: Set[int]) -> int:
        """Drop the oldest tables, as long as they are among those; return how many bytes they had."""
        plan = fifo.pick_over(self.view.version, over)
        if plan is None:
            return 0
        self.background.drop_tables(plan)
        return sum(meta.file_bytes for meta in plan.inputs)

    def flush_now(self) -> None:
        """Flush and install in one go, even if there is nothing but an old state to get rid of."""
        self.background.drop_all()
        if self.start_flush():
            job: Job | None = self.background.flushing
            if job is not None:
                self.background.work(job)
        else:
            self.install_empty_memory()

    # -- installs -----------------------------------------------------------------------------------

    def _install_flush(self, memtables: tuple[Memtable, ...], metas: list[TableMeta]) -> None:
        sealed = self.view.sealed
        if sealed[-len(memtables) :] != memtables:  # rule 2
            return
        version = self.view.version.void(sources(memtables)[1]).replace((), {0: metas})  # rule 5
        remaining = sealed[: -len(memtables)]
        table_keys = after_flush(self.view, memtables)

        def move_over() -> None:
            tables = self._workshop.tables
            self.view = self.view.with_version(tables.track(version), remaining, table_keys)

        self._install(version, memtables[0].last_seq, table_keys, move_over)
        self._totals.add_flush(metas)

    def _install_compaction(self, plan: Plan, metas: list[TableMeta]) -> None:
        if not {meta.number for meta in plan.inputs} & {meta.number for meta in self.view.version}:  # rule 2
            self._retire_unused(metas, self.view.version)
            return
        fresh = voided(tuple(metas), self.view.version.voided_since(plan.inputs))
        version = self.view.version.replace(plan.inputs, {plan.level: fresh}, is_drop=plan.is_drop)
        table_keys = None if plan.is_drop else self.view.table_keys

        def move_over() -> None:
            view = self.view
            tracked = self._workshop.tables.track(version)
            sealed = self._uncounted(view.sealed) if plan.is_drop else view.sealed
            self.view = view.with_version(tracked, sealed, table_keys)
            self._retire_unused(metas, tracked)

        self._install(version, self.view.flushed_seq, table_keys, move_over)
        self._totals.add_compaction(plan, metas)

    def _retire_unused(self, outputs: Sequence[TableMeta], version: Version) -> None:
        """See to the tables of a compaction or an ingest that are not live after all."""
        live = {meta.number for meta in version}
        self._workshop.tables.retire(meta for meta in outputs if meta.number not in live)

    def _uncounted(self, sealed: tuple[Memtable, ...]) -> tuple[Memtable, ...]:
        """Return sealed memtables for what is below them now; views of before keep those they have."""
        fresh = tuple(memtable.uncounted() for memtable in sealed)
        flushing = self.background.flushing
        if flushing is not None:  # interrupted from here on, its outputs are left alone (rule 2)
            flushing.memtables = fresh[-len(flushing.memtables) :]
        return fresh

    def install_empty_memory(self) -> None:
        """Install that all there is stands in tables.  Requires empty memtables."""
        self._wal.rotate()
        self._install(self.view.version, self._wal.seq - 1, self.view.table_keys, lambda: None)

    def _install(
        self, version: Version, last_seq: int, live_count: int | None, move_over: Callable[[], None]
    ) -> None:
        before = self._installer.current
        state = before._replace(
            levels=version.levels,
            last_seq=last_seq,
            min_wal=self._wal.min_wal(last_seq),
            live_count=live_count,
            shape=self._workshop.options.shape(),
            prev_log=self._kept.newest(self._wal.flushed(last_seq), before.prev_log),
        )
        tables = self._workshop.tables
        kept = {meta.number for meta in version} | self.background.unfinished

        def follow() -> None:
            move_over()
            tables.retire(meta for meta in before.tables() if meta.number not in kept)

        if self._kept.are_wanted:
            self._wal.sync_flushed(last_seq)
        try:
            self._installer.install(state, follow)
        except error:  # which says what became of it
            raise
        except BaseException:
            if self._installer.are_names_in_doubt:
                self.background.drop_all()
                self._wal.doubt_names()
            raise
        self._kept.add(self._wal.forget(last_seq))
        unlink_all(self._workshop.directory, [file_name(number, WAL) for number in self._kept.surplus()])
        tables.collect()

    # -- ingest -------------------------------------------------------------------------------------

    def ingest(self, sources: Sequence[Source]) -> None:
        """Make the entries of other tables, given oldest first, newer than all there is; in one install.

        Raises:
            CorruptionError: one of the tables is damaged by now; nothing has changed.
            error: the system refuses something; nothing has changed.
        """
        while self.start_flush():
            self.background.work(cast(Job, self.background.flushing))
        self._wal.check_sequences()
        self._wal.rotate()
        seq = self._wal.seq
        steps = adopt(spans(sources), self.view.version, Origin(0, seq, seq), self._workshop)
        self._ingested = finished(steps)
        if not self._ingested:  # there were but deletions of what was not there
            return
        try:
            self._install_ingested(seq)
        except FailedError:
            raise
        except error:
            self.settle_ingest()  # at once, if that is possible: so much is promised of what raised
            raise
        self._ingested = []
        self.background.reconsider()

    def _install_ingested(self, seq: int) -> None:
        metas, view, tables = self._ingested, self.view, self._workshop.tables
        compacting = self.background.compacting
        plan = compacting.plan if compacting is not None else None
        version = view.version.replace((), placed(metas, view.version, self._workshop.limits, plan))
        table_keys = after_ingest(view, metas)

        def move_over() -> None:
            self._wal.skip()
            self.view = View(Memtable(seq + 1), (), tables.track(version), tables, table_keys)

        self._install(version, seq, table_keys, move_over)

    @property
    def is_unsettled(self) -> bool:
        """Whether an ingest was cut off, so that nobody knows which state the next opening would find."""
        return bool(self._ingested)

    def settle_ingest(self) -> None:
        """End an ingest that was cut off.  Interrupted or failed, it is done again."""  # rule 4
        if not self._ingested:
            return
        view = self.view
        self.view = view.with_active(Memtable(self._wal.seq), ())  # its sequence may have been taken
        self.install_empty_memory()
        self._retire_unused(self._ingested, view.version)
        self._workshop.tables.collect()
        self._ingested = []

    # -- counting -----------------------------------------------------------------------------------

    def learn_count(self, view: View, table_keys: int, total: int) -> None:
        """Take note of what a census of a view found, which may be an older one."""
        self.count.asked(total)
        now = self.view
        if view.flushed_seq == now.flushed_seq and view.version.drops == now.version.drops:
            self.view = self.view.with_table_keys(table_keys)

    def remember_count(self) -> None:
        """Install how many keys the tables hold, if that was counted at a cost that an install pays back."""
        view = self.view
        if self._installer.current.live_count is None and (view.table_keys or 0) >= WORTH_REMEMBERING:
            self._install(view.version, view.flushed_seq, view.table_keys, lambda: None)

    # -- files --------------------------------------------------------------------------------------

    def has_much_on_disk(self) -> bool:
        """Return whether a clear() leaves so much behind that it should be given back at once."""
        limit = self._workshop.options.memtable_bytes
        return (
            bool(self._installer.current.levels) or self._wal.log_count() > 1 or self._wal.position[0] > limit
        )

    def collect_garbage(self) -> None:
        """Unlink the files of ours that the live set does not need."""
        manifest = self._installer.current
        needed = {file_name(manifest.number, MANIFEST)}
        needed |= {file_name(meta.number, TABLE) for meta in manifest.tables()}
        needed |= {file_name(number, TABLE) for number in self._workshop.tables.retired}  # left to collect()
        needed |= {file_name(number, TABLE) for number in self.background.unfinished}
        needed |= {file_name(meta.number, TABLE) for meta in self._ingested}
        needed |= {file_name(log.number, WAL) for log in self._wal.older}
        self._installer.forget_older()
        directory = self._workshop.directory
        names = directory.listdir()
        self._kept.find(numbers(names, WAL), manifest)
        self._kept.surplus()
        needed |= {file_name(number, WAL) for number in self._kept}
        unlink_all(directory, [name for name in names if parse(name) and name not in needed])

    def stats(self, failure: BaseException | None, snapshots: int) -> Stats:
        """Return the figures of this moment."""
        self._totals.written_bytes = self._wal.written_bytes
        self._totals.delegated = self.background.delegated
        self._totals.slice_seconds, self._totals.stall_seconds = self.background.seconds
        self._totals.stalls = self.background.stalls
        trouble = failure or self.background.trouble
        return gather(self.view, self._wal.log_count(), self._totals, trouble, snapshots)
