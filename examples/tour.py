"""lsmdbm in twenty lines.  Creates or empties ./fruit.lsm."""

import lsmdbm

with lsmdbm.open("fruit.lsm", "n") as db:  # a directory; "n" begins with an empty one
    db["apple"] = "red"  # str goes in as UTF-8
    db[b"banana"] = b"yellow"
    db.update({"blueberry": "blue", "cherry": "dark red", "grape": "green"})
    print(db["apple"], db.get("durian"), "grape" in db, len(db))  # bytes come out
    for key, value in db.range("b", "c").items():  # sorted: "b" <= key < "c"
        print(key, value)
    print(list(db.range(prefix="bl")), list(reversed(db))[:2])
    db["apple"] = "green"
    del db["cherry"]

with lsmdbm.open("fruit.lsm") as db:  # "r" is the default
    print(db.firstkey(), db.nextkey("banana"), db.range("b").last())
    print(dict(db.items()))
    stats = db.stats()
    print(stats.memtable_entries, "entries from the log,", stats.tables, "tables")
