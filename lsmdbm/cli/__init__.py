"""The `lsmdbm` command: a look into a database, and care for it, from a terminal.

    escapes     bytes as text that may be shown, and back
    outcome     exit codes; an error is one line
    formats     entries as lines, and back
    output      what verbs write to: plain text, or JSON
    fancy       the same with the colours and tables of rich
    standard    which of the two it is
    opening     databases as verbs open them
    entries     verbs: get, put, del, scan, count, dump, load
    metrics     figures for Prometheus and its like
    drawing     the levels of a tree as bars and strips
    files       verbs: table, log, manifest
    insides     verbs: stats, tree
    care        verbs: verify, repair, backup, compact, destroy, import, export, whichdb
    bench       the verb bench
    grammar     all verbs with their parameters
    plain       the front end over argparse
    offers      what a word may become
    prompt      lines that somebody types, with history and completion
    shell       the verb shell
    sql         the verb sql
    clicked     the front end over click
    completion  the verb completion
    entry       which front end it is

Rules
  1. Verbs are functions of an Output and of their parameters.  They know no front end.
  2. A verb that reads opens with flag "r": it takes no lock and creates nothing.
  3. What came out of a database goes to a terminal escaped.  A value is printed only by a verb made for it.
  4. Nothing but click, rich and prompt_toolkit in their own modules goes beyond the standard library.
"""
