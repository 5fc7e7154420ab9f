"""EVENTS: which file, when it is synced, what is live.  Packs no bytes.

Files, in import order: names, memtable, merge, version, lookup, tables, view, count, dead, moment,
validation, draft, plan, figures, stats, install, mapped, log, appender, wal, keeping, leveled, tiered, fifo,
picker, samples, jobs, delegate, ingest, background, recovery, feed, tree, reader, syncer, group, writer,
durability, reading, store, worker, recognition, sharing, check, anatomy, removal, destination, backup,
findings, seniority, remains, repair, building, loading.
"""
