"""The same work on lsmdbm and on every peer that is installed: `python -m benchmarks --help`.

    data         entries that follow from their number: the same for every peer
    adapters     one small class per peer, all with the same few methods
    phases       what is timed: functions of an adapter, a directory and entries
    workloads    the table of what is run: name, phase, what it starts from
    runner       each phase in a process of its own, peers side by side, medians
    results      what comes out, as JSON; ratios between peers and between files
    report       Markdown: tables, the bars
    plots        SVG
    simulator    what each policy of compaction costs up to 10^9 entries, without writing any
    dictionaries what dictionaries save and cost
    sql          lsmdbm.dbapi beside sqlite3

Nothing here is imported by lsmdbm or ships in its wheel.  How to run it: docs/benchmarks.md.
"""
