"""Being found by dbm: is_database(), whichdb(), register(), unregister().

Every test has a copy of `dbm` of its own, freshly imported, which has opened nothing yet.
"""

import functools
import importlib
import inspect
import os
import pathlib
import shelve
import subprocess
import sys
import threading
import types

import pytest

import lsmdbm
from lsmdbm import registration

pytestmark = pytest.mark.usefixtures("no_syncs")

POSIX = os.name == "posix"


def is_importable(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


KINDS = [name for name in ("dbm.sqlite3", "dbm.gnu", "dbm.ndbm", "dbm.dumb") if is_importable(name)]
STOCK = {name: importlib.import_module(name) for name in KINDS}
MODES = {
    "unregistered": lambda: None,
    "registered": lsmdbm.register,
    "the default": lambda: lsmdbm.register(default=True),
    "unregistered again": lambda: (lsmdbm.register(default=True), lsmdbm.unregister()),
}


@pytest.fixture(autouse=True)
def dbm(monkeypatch):
    """A fresh copy of dbm, the one that `import dbm` gives during the test."""
    for name in [name for name in sys.modules if name == "dbm" or name.startswith("dbm.")]:
        monkeypatch.delitem(sys.modules, name)
    fresh = importlib.import_module("dbm")
    yield fresh
    lsmdbm.unregister()
    for name in [name for name in sys.modules if name == "dbm" or name.startswith("dbm.")]:
        monkeypatch.delitem(sys.modules, name)  # after which monkeypatch puts the old ones back


@pytest.fixture
def ours(path):
    """The path of a database with one entry."""
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
    return path


def state_of(path):
    """All that is at a path: nothing, the bytes of a file, or a directory by name."""
    if os.path.isdir(path):
        return {name: state_of(os.path.join(path, name)) for name in os.listdir(path)}
    if not os.path.isfile(path):
        return os.path.lexists(path)
    with open(path, "rb") as file:
        return file.read()


def open_descriptors():
    return os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else None


def content(db):
    """The entries of any dbm; it is closed then."""
    with db:
        return {key: db[key] for key in db.keys()}  # noqa: SIM118 - gnu and ndbm are no iterables


# -- is_database ------------------------------------------------------------------------------------


def write(path, data=b"some text"):
    with open(path, "wb") as file:
        file.write(data)


def make(path, *names, data=b""):
    os.mkdir(path)
    for name in names:
        write(os.path.join(path, name), data)


def keep(path, *suffixes):
    """Make a database with a file of every kind, and leave those with these suffixes."""
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
        db.flush()
        db["b"] = "2"
    for name in os.listdir(path):
        if not name.endswith(suffixes):
            os.unlink(os.path.join(path, name))


def damage(path, start):
    """Overwrite every file of a database from this offset on."""
    keep(path, "man", "wal", "sst")
    for name in os.listdir(path):
        with open(os.path.join(path, name), "r+b") as file:
            file.seek(start)
            file.write(b"\xff" * 1000)


def loop(path):
    os.symlink(path + "2", path)
    os.symlink(path, path + "2")


def link(path):
    keep(path + " target", "")
    os.symlink(path + " target", path)


def fifos(path):
    os.mkdir(path)
    for name in ("000001.man", "000002.wal", "000003.sst"):
        os.mkfifo(os.path.join(path, name))


def directories(path):
    for name in ("000001.man", "000002.wal"):
        os.makedirs(os.path.join(path, name))


def links_inside(path):
    keep(path + " target", "man")
    os.mkdir(path)
    os.symlink(next(pathlib.Path(path + " target").iterdir()), os.path.join(path, "000001.man"))


PLACES = {  # what makes it, whether it is a database
    "nothing": (lambda path: None, False),
    "database": (lambda path: keep(path, ""), True),
    "link to a database": (link, True),
    "link to nothing": (lambda path: os.symlink(path + "2", path), False),
    "links in a circle": (loop, False),
    "manifest alone": (lambda path: keep(path, "man"), True),
    "log alone": (lambda path: keep(path, "wal"), True),
    "table alone": (lambda path: keep(path, "sst"), True),
    "damaged behind the magics": (lambda path: damage(path, 4), True),
    "damaged from the first byte": (lambda path: damage(path, 0), False),
    "LOCK alone": (lambda path: make(path, "LOCK"), False),
    "empty directory": (make, False),
    "empty files": (lambda path: make(path, "000001.man", "000002.wal"), False),
    "other directory": (lambda path: make(path, "notes.txt", "000012.sst", data=b"some text"), False),
    "directories with our names": (directories, False),
    "links with our names": (links_inside, False),
    "empty file": (lambda path: write(path, b""), False),
    "file": (write, False),
    "file with our magic": (lambda path: write(path, b"LSMM"), False),
    "SQLite": (lambda path: write(path, b"SQLite format 3\0"), False),
}
if hasattr(os, "mkfifo"):
    PLACES |= {"FIFO": (os.mkfifo, False), "FIFOs with our names": (fifos, False)}


@pytest.mark.parametrize("place", PLACES)
def test_is_database_tells_ours_by_content_and_leaves_no_trace(path, place):
    create, expected = PLACES[place]
    create(path)
    before, descriptors = state_of(path), open_descriptors()

    assert expected == lsmdbm.is_database(path)
    assert before == state_of(path)
    assert descriptors == open_descriptors()


@pytest.mark.parametrize("place", PLACES)
def test_whichdb_asks_is_database_first_and_then_dbm(dbm, path, place):
    create, is_ours = PLACES[place]
    create(path)

    if "FIFO" != place:  # which the stock function would wait on
        assert ("lsmdbm" if is_ours else dbm.whichdb(path)) == lsmdbm.whichdb(path)


@pytest.mark.skipif(not POSIX or os.geteuid() == 0, reason="permissions do not bind this user")
@pytest.mark.parametrize("bits", [0, 0o300, 0o600])
def test_what_may_not_be_read_is_no_database(ours, bits):
    os.chmod(ours, bits)
    try:
        assert not lsmdbm.is_database(ours)
    finally:
        os.chmod(ours, 0o700)


@pytest.mark.parametrize(
    "name", ["", b"", "a\0b", b"a\0b", "x" * 5000, "db/000001.man", "\ud800", "absent/db"]
)
def test_a_name_that_leads_nowhere_is_no_database(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)

    assert False is lsmdbm.is_database(name)


@pytest.mark.parametrize("wrong", [None, 1, 1.5, True, ["db"], object()], ids=repr)
@pytest.mark.parametrize("function", [lsmdbm.is_database, lsmdbm.whichdb])
def test_what_is_no_path_is_a_type_error(function, wrong):
    with pytest.raises(TypeError, match="expected str, bytes or os.PathLike object, not"):
        function(wrong)


@pytest.mark.parametrize("name", ["a\0b", b"a\0b"])
def test_whichdb_of_a_name_with_nul_is_the_value_error_of_dbm(dbm, name):
    for whichdb in (dbm.whichdb, lsmdbm.whichdb):
        with pytest.raises(ValueError, match="null"):
            whichdb(name if sys.version_info >= (3, 11) or whichdb is lsmdbm.whichdb else "a\0b")


@pytest.mark.parametrize("convert", [str, os.fsencode, pathlib.Path])
def test_every_kind_of_path_is_understood_on_every_python(tmp_path, ours, convert):
    write(tmp_path / "file")

    assert lsmdbm.is_database(convert(ours))
    assert ["lsmdbm", None, ""] == [
        lsmdbm.whichdb(convert(tmp_path / name)) for name in ("db", "absent", "file")
    ]


def test_a_database_in_use_is_recognised_and_not_disturbed(path):
    with lsmdbm.open(path, "c") as db:
        assert lsmdbm.is_database(path)
        db["a"] = "1"
        assert lsmdbm.is_database(path)
        with pytest.raises(lsmdbm.ReadOnlyError), lsmdbm.open(path) as reader:
            reader["a"] = "2"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_whichdb_names_the_other_kinds_as_dbm_does(dbm, path, kind, mode):
    STOCK[kind].open(path, "c").close()
    MODES[mode]()

    assert kind == dbm.whichdb(path) == lsmdbm.whichdb(path)
    assert not lsmdbm.is_database(path)


# -- what stock dbm does ----------------------------------------------------------------------------

DEFAULTS = [name for name in ("dbm.dumb", "dbm.sqlite3") if name in KINDS]


@pytest.fixture(params=DEFAULTS)
def default(dbm, request):
    """The module that dbm takes for new databases, once for each row of the table."""
    dbm._names.insert(0, request.param)
    return request.param


@pytest.mark.parametrize("mode", ["unregistered", "unregistered again"])
@pytest.mark.parametrize("flag", "rwcn")
def test_stock_dbm_does_not_know_us(dbm, ours, default, flag, mode):
    before = state_of(ours)
    MODES[mode]()

    assert dbm.whichdb(ours) is None
    if flag in "rw":
        with pytest.raises(dbm.error[0], match="doesn't exist"):
            dbm.open(ours, flag)
    elif default == "dbm.dumb":
        dbm.open(ours, flag).close()
    else:
        expected = "unable to open database file" if flag == "c" else "Is a directory"
        with pytest.raises(dbm.error, match=expected):
            dbm.open(ours, flag)
    made = ["db", "db.dat", "db.dir"] if default == "dbm.dumb" and flag in "cn" else ["db"]
    assert made == sorted(os.listdir(os.path.dirname(ours)))
    assert before == state_of(ours)


# -- register ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["registered", "the default"])
@pytest.mark.parametrize("flag", ["r", "w", "c", "rs", "wf", "cfsu"])
def test_dbm_opens_ours_with_every_flag_that_looks_first(dbm, ours, default, flag, mode):
    MODES[mode]()

    assert "lsmdbm" == dbm.whichdb(ours)
    with dbm.open(ours, flag) as db:
        assert isinstance(db, lsmdbm.Database)
        assert {b"a": b"1"} == dict(db)
        if flag[0] != "r":
            db["b"] = "2"
    with dbm.open(ours) as db:
        assert (b"2" if flag[0] != "r" else None) == db.get("b")
        with pytest.raises(dbm.error):
            db["c"] = "3"
    assert ["db"] == os.listdir(os.path.dirname(ours))


@pytest.mark.parametrize("mode", ["registered", "the default"])
@pytest.mark.parametrize("flag", "rwc")
def test_shelve_opens_ours(path, default, flag, mode):
    with shelve.Shelf(lsmdbm.open(path, "c")) as shelf:
        shelf["a"] = [1]
    MODES[mode]()

    with shelve.open(path, flag) as shelf:
        assert isinstance(shelf.dict, lsmdbm.Database)
        assert {"a": [1]} == dict(shelf)
    assert ["db"] == os.listdir(os.path.dirname(path))


def test_flag_n_does_not_look_and_stays_as_it_is_without_default(dbm, ours):
    dbm._names.insert(0, "dbm.dumb")
    lsmdbm.register()
    dbm.open(ours, "n").close()

    assert ["db", "db.dat", "db.dir"] == sorted(os.listdir(os.path.dirname(ours)))
    assert "lsmdbm" == dbm.whichdb(ours)


def test_ours_comes_before_what_stock_dbm_put_beside_it(dbm, ours):
    STOCK["dbm.dumb"].open(ours, "c").close()
    assert "dbm.dumb" == dbm.whichdb(ours)
    lsmdbm.register()

    with dbm.open(ours, "c") as db:
        assert {b"a": b"1"} == dict(db)


@pytest.mark.parametrize("flag", ["c", "n"])
def test_new_databases_are_ours_only_by_default_true(dbm, path, default, flag):
    lsmdbm.register()
    dbm.open(path, flag).close()
    assert (default, False) == (dbm.whichdb(path), lsmdbm.is_database(path))
    lsmdbm.register(default=True)
    dbm.open(path + "2", flag).close()
    assert ("lsmdbm", True) == (dbm.whichdb(path + "2"), lsmdbm.is_database(path + "2"))
    with shelve.open(path + "3", flag) as shelf:
        assert isinstance(shelf.dict, lsmdbm.Database)


def test_flag_n_empties_ours_where_we_are_the_default(dbm, ours):
    lsmdbm.register(default=True)

    with dbm.open(ours, "n") as db:
        assert {} == dict(db)


@pytest.mark.skipif(not POSIX, reason="permission bits are a POSIX thing")
def test_the_mode_is_passed_on(dbm, path):
    lsmdbm.register(default=True)
    dbm.open(path, "c", 0o600).close()

    assert {0o600} == {entry.stat().st_mode & 0o777 for entry in os.scandir(path)}


@pytest.mark.parametrize("mode", ["registered", "the default"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", "rwc")
@pytest.mark.parametrize("is_used_before", [False, True])
def test_databases_of_other_kinds_go_on_working(dbm, path, kind, flag, mode, is_used_before):
    with STOCK[kind].open(path, "c") as db:
        db[b"a"] = b"1"
    if is_used_before:
        assert {b"a": b"1"} == content(dbm.open(path, flag))
    for step in (mode, mode, "unregistered again"):
        MODES[step]()
        with dbm.open(path, flag) as db:
            assert kind == type(db).__module__.replace("_gdbm", "dbm.gnu").replace("_dbm", "dbm.ndbm")
            if flag != "r":
                db[b"b"] = b"2"
        assert {b"a": b"1", **({} if flag == "r" else {b"b": b"2"})} == content(dbm.open(path))


def test_a_damaged_database_is_named_as_that_and_not_guessed_at(dbm, path):
    damage(path, 4)
    lsmdbm.register()

    for flag in "rwc":
        with pytest.raises(dbm.error) as caught:
            dbm.open(path, flag)
        assert isinstance(caught.value, lsmdbm.CorruptionError)
    assert ["db"] == os.listdir(os.path.dirname(path))


@pytest.mark.parametrize("place", ["nothing", "LOCK alone", "empty directory"])
def test_what_is_not_born_counts_as_nothing_there(dbm, path, place):
    PLACES[place][0](path)
    lsmdbm.register(default=True)

    for flag in "rw":
        with pytest.raises(dbm.error[0], match="doesn't exist"):
            dbm.open(path, flag)
    with dbm.open(path, "c") as db:
        assert {} == dict(db)
    assert lsmdbm.is_database(path)


def test_an_unknown_file_is_refused_in_the_words_of_dbm(dbm, path):
    write(path)
    lsmdbm.register(default=True)

    for flag in "rwc":
        with pytest.raises(dbm.error[0], match="could not be determined"):
            dbm.open(path, flag)
    assert b"some text" == state_of(path)


def test_register_without_default_touches_nothing_but_the_entry_and_whichdb(dbm):
    before = {**vars(dbm), "_names": [*dbm._names], "_modules": {**dbm._modules}}
    lsmdbm.register()

    assert {"whichdb", "_modules"} == {name for name, value in vars(dbm).items() if before.get(name) != value}
    assert {"lsmdbm": lsmdbm} == dbm._modules
    assert dbm._defaultmod is None


def test_register_with_default_loads_the_stock_modules_first(dbm):
    names = [*dbm._names]
    lsmdbm.register(default=True)

    assert names == dbm._names
    assert {*KINDS, "lsmdbm"} == set(dbm._modules)
    assert dbm._defaultmod is lsmdbm


def test_register_with_default_does_without_any_stock_module(dbm, path):
    dbm._names[:] = ["dbm.absent"]
    lsmdbm.register(default=True)
    with dbm.open(path, "c") as db:
        assert isinstance(db, lsmdbm.Database)
    lsmdbm.unregister()

    with pytest.raises(ImportError, match="no dbm clone found"):
        dbm.open(path, "c")


def test_the_link_looks_like_the_function_it_stands_for(dbm):
    stock = dbm.whichdb
    lsmdbm.register()
    link = dbm.whichdb

    assert stock is not link
    assert (stock.__name__, stock.__doc__, stock.__module__) == (link.__name__, link.__doc__, link.__module__)
    assert inspect.signature(stock) == inspect.signature(link)
    assert inspect.isfunction(link)
    assert link(filename="absent") is None


def test_the_replaced_function_gets_the_very_argument(dbm, tmp_path):
    seen = []
    dbm.whichdb = lambda filename: seen.append(filename) or "answer"
    lsmdbm.register()

    for argument in (str(tmp_path), os.fsencode(tmp_path), tmp_path, "a\0b", None, 7, object()):
        assert "answer" == dbm.whichdb(argument)
        assert argument is seen[-1]


def test_stock_errors_for_what_is_no_path_stay(dbm):
    with pytest.raises(TypeError) as stock:
        dbm.whichdb(7)
    lsmdbm.register()

    with pytest.raises(TypeError) as caught:
        dbm.whichdb(7)
    assert str(stock.value) == str(caught.value)


def test_open_imported_earlier_is_served_and_whichdb_imported_earlier_is_not(dbm, ours):
    open_earlier, whichdb_earlier = dbm.open, dbm.whichdb
    lsmdbm.register()

    with open_earlier(ours, "r") as db:
        assert isinstance(db, lsmdbm.Database)
    assert whichdb_earlier(ours) is None


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_registering_twice_wraps_once_and_never_takes_the_default_back(dbm, first, second):
    stock = dbm.whichdb
    lsmdbm.register(default=first)
    link = dbm.whichdb
    lsmdbm.register(default=second)

    assert link is dbm.whichdb
    assert (first or second) == (dbm._defaultmod is lsmdbm)
    lsmdbm.unregister()
    assert stock is dbm.whichdb
    assert dbm._defaultmod is not lsmdbm
    assert "lsmdbm" not in dbm._modules


def fresh_by_hand(monkeypatch):
    monkeypatch.delitem(sys.modules, "dbm")
    return importlib.import_module("dbm")


def fresh_by_test_support(monkeypatch):
    helper = pytest.importorskip("test.support.import_helper", reason="this Python has no test package")
    fresh = helper.import_fresh_module("dbm")
    monkeypatch.setitem(sys.modules, "dbm", fresh)
    return fresh


def fresh_by_reload(monkeypatch):
    return importlib.reload(sys.modules["dbm"])


@pytest.mark.parametrize("renew", [fresh_by_hand, fresh_by_test_support, fresh_by_reload])
def test_a_fresh_dbm_is_stock_until_the_next_register(ours, monkeypatch, renew):
    lsmdbm.register(default=True)
    fresh = renew(monkeypatch)
    assert (None, None, {}) == (fresh.whichdb(ours), fresh._defaultmod, fresh._modules)
    lsmdbm.register(default=True)
    link = fresh.whichdb
    lsmdbm.register(default=True)

    assert link is fresh.whichdb
    with fresh.open(ours, "r") as db:
        assert isinstance(db, lsmdbm.Database)
    assert fresh._defaultmod is lsmdbm
    lsmdbm.unregister()
    assert fresh.whichdb(ours) is None
    assert KINDS[0] == fresh._defaultmod.__name__


# -- unregister -------------------------------------------------------------------------------------


@pytest.mark.parametrize("default", [False, True])
@pytest.mark.parametrize("is_used_before", [False, True])
def test_unregister_leaves_dbm_as_it_was(dbm, path, default, is_used_before):
    if is_used_before:
        dbm.open(path, "c").close()
    before = {**vars(dbm), "_modules": {**dbm._modules}}
    lsmdbm.register(default=default)
    lsmdbm.register(default=default)
    lsmdbm.unregister()

    if default and not is_used_before:  # what the first dbm.open() would have done
        before |= {
            "_modules": {name: sys.modules[name] for name in KINDS},
            "_defaultmod": sys.modules[KINDS[0]],
        }
        before |= {name.rpartition(".")[2]: sys.modules[name] for name in KINDS}
    assert before == vars(dbm)


def test_unregister_of_what_is_not_registered_does_nothing(dbm, monkeypatch):
    before = dict(vars(dbm))
    lsmdbm.unregister()
    assert before == vars(dbm)
    monkeypatch.delitem(sys.modules, "dbm")
    lsmdbm.unregister()
    assert "dbm" not in sys.modules


def test_a_default_that_somebody_chose_after_us_stays(dbm):
    lsmdbm.register(default=True)
    chosen = dbm._defaultmod = types.ModuleType("dbm.theirs")
    lsmdbm.unregister()

    assert chosen is dbm._defaultmod
    lsmdbm.register()
    dbm._defaultmod = lsmdbm  # by hand: not ours to take back
    lsmdbm.unregister()
    assert dbm._defaultmod is lsmdbm


def wrap_plainly(function):
    return lambda filename: function(filename)


def wrap_with_functools(function):
    @functools.wraps(function)
    def whichdb(filename):
        return function(filename)

    return whichdb


@pytest.mark.parametrize("wrap", [wrap_plainly, wrap_with_functools])
@pytest.mark.parametrize("again", [False, True])
def test_unregister_keeps_the_function_of_somebody_who_wrapped_ours(dbm, ours, wrap, again):
    stock = dbm.whichdb
    lsmdbm.register()
    theirs = dbm.whichdb = wrap(dbm.whichdb)
    if again:
        lsmdbm.register(default=True)
    assert "lsmdbm" == dbm.whichdb(ours)
    lsmdbm.unregister()

    assert theirs is dbm.whichdb
    assert theirs(ours) is stock(ours) is None
    with pytest.raises(dbm.error[0], match="doesn't exist"):
        dbm.open(ours, "r")
    lsmdbm.register()
    assert "lsmdbm" == dbm.whichdb(ours)
    with dbm.open(ours, "r") as db:
        assert isinstance(db, lsmdbm.Database)


def test_register_sees_its_link_below_a_wrapper_that_names_what_it_wraps(dbm):
    lsmdbm.register()
    theirs = dbm.whichdb = wrap_with_functools(dbm.whichdb)
    lsmdbm.register()

    assert theirs is dbm.whichdb


def test_a_function_that_replaced_ours_is_wrapped_and_put_back(dbm, ours):
    lsmdbm.register()
    theirs = dbm.whichdb = lambda filename: "dbm.theirs"
    lsmdbm.register()

    assert ["lsmdbm", "dbm.theirs"] == [dbm.whichdb(ours), dbm.whichdb("absent")]
    lsmdbm.unregister()
    assert theirs is dbm.whichdb


# -- processes and threads --------------------------------------------------------------------------


def run(program, directory):
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(lsmdbm.__file__))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=directory, env=environment, capture_output=True
    )
    assert (0, b"") == (done.returncode, done.stderr)
    return done.stdout.decode().split()


def test_importing_lsmdbm_and_asking_it_imports_no_dbm_and_little_else(tmp_path):
    program = "import sys, lsmdbm; lsmdbm.is_database('x'); lsmdbm.unregister(); print(*sys.modules)"
    loaded = run(program, tmp_path)

    later = {"lsmdbm.text", "lsmdbm.maintenance", "lsmdbm.migration", "lsmdbm._engine.findings"}
    assert "lsmdbm.registration" in loaded
    assert set() == later.intersection(loaded)
    assert set() == {"dbm", "shelve", "pickle", "importlib.metadata", "asyncio", "sqlite3"}.intersection(
        loaded
    )


def test_every_public_name_is_there_when_it_is_asked_for(tmp_path):
    program = "import lsmdbm; print(*(name for name in lsmdbm.__all__ if getattr(lsmdbm, name) is None))"
    assert [] == run(program, tmp_path)
    assert ["True"] == run("from lsmdbm import *; print(callable(verify))", tmp_path)


def test_registration_ends_with_the_process(tmp_path, ours):
    program = f"import dbm, lsmdbm; lsmdbm.register(); print(dbm.whichdb({ours!r}))"
    assert ["lsmdbm"] == run(program, tmp_path)

    assert ["None"] == run(program.replace("lsmdbm.register()", "pass"), tmp_path)


def test_threads_that_register_at_once_wrap_once(dbm, monkeypatch):
    """A link over a link stays behind when unregister() takes the outer one."""
    stock, barrier = dbm.whichdb, threading.Barrier(8)
    look = registration._has_link
    monkeypatch.setattr(registration, "_has_link", lambda function: (look(function), pause.wait(0.001))[0])
    pause = threading.Event()  # never set: it hands over to the others between looking and linking

    def register_all(default):
        barrier.wait()
        lsmdbm.register(default=default)

    threads = [threading.Thread(target=register_all, args=(number % 2 > 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dbm._defaultmod is lsmdbm
    assert {*KINDS, "lsmdbm"} == set(dbm._modules)
    lsmdbm.unregister()
    assert stock is dbm.whichdb
    assert KINDS[0] == dbm._defaultmod.__name__


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_can_register_though_a_thread_of_its_parent_was_at_it(tmp_path):
    program = """
import os, signal, threading, warnings
import lsmdbm
from lsmdbm import registration
warnings.simplefilter("ignore")  # forking with threads is what this is about
taken, done = threading.Event(), threading.Event()
def hold():
    with registration._lock:
        taken.set()
        done.wait()
threading.Thread(target=hold).start()
taken.wait()
child = os.fork()
if not child:
    signal.alarm(20)  # instead of waiting for ever
    lsmdbm.register()
    lsmdbm.unregister()
    os._exit(7)
_, status = os.waitpid(child, 0)
done.set()
print(os.waitstatus_to_exitcode(status))
"""
    assert ["7"] == run(program, tmp_path)


def test_open_flags_are_those_of_gdbm_without_m():
    assert "rwcnfsu" == lsmdbm.open_flags
    assert "lsmdbm" == lsmdbm.__name__
    assert not hasattr(lsmdbm, "library")
    assert issubclass(lsmdbm.error, OSError)


@pytest.mark.parametrize("flag", ["rf", "rs", "ru", "rfsu"])
def test_every_flag_that_open_flags_allows_is_taken(ours, flag):
    assert set(flag) <= set(lsmdbm.open_flags)
    with lsmdbm.open(ours, flag) as db:
        assert {b"a": b"1"} == dict(db)
