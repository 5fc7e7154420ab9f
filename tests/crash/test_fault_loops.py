"""Every call of the storage fails, each in its turn and in every way it can, once or from then on.

What must hold then is in support/faults.py.  Which lines call the storage is read off the source, so that
a new one is not left out.
"""

import ast
import errno
import importlib.util
import random
from pathlib import Path

import pytest

from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._engine import appender
from lsmdbm._engine.mapped import DISK_FULL
from support.budgets import Budget
from support.faults import SCENARIOS, Fault, Trial, faults, is_of_a_flush_at_close
from support.workload import LEVELS

FIGURES = {"small": 120, "default": 600, "crash": 12_000, "long": 200_000}
OF_A_TRIAL = {"small": 30}  # faults; the larger budgets take all
PACKAGE = Path(importlib.util.find_spec("lsmdbm").origin).parent
OWNERS = {
    "file",
    "directory",
    "storage",
}  # what Files, Directories and Storages are called; but for an underscore
NEVER_FAIL = {
    "close",
    "has_lost_lock",
    "monotonic",
    "pid",
    "sleep",
    "start_process",
    "start_thread",
    "urandom",
}
CALLS = {
    name for kind in (File, Directory, Storage) for name in vars(kind) if not name.startswith("_")
} - NEVER_FAIL
NO_TRIAL = {  # function and call that no trial comes to
    ("_write", "unlink"),  # of a manifest over 64 MiB
    ("_stored_apart", "pread"),  # of a table whose blocks do not touch, which no writer makes
    ("read_dictionary", "pread"),  # the tables of a trial are too small to have one
    *(("_whole", "pread"), ("_whole", "size")),  # of a kept log that a loss of power has torn, header or rest
}
APART = {"anatomy", "backup", "check", "destination", "removal"}  # which no open database needs
APART |= {"findings", "remains", "repair", "salvage", "seniority"}
APART |= {"delegate", "worker"}  # there is no other process on a disk in memory: see unit/test_delegate.py
APART |= {"loading"}  # which makes a new one
SOURCES = sorted(
    path
    for layer in ("_engine", "_format")
    for path in (PACKAGE / layer).glob("*.py")
    if path.stem not in APART
)
NOT_OURS = {  # owner and name of what is called the same
    *(("counter", "create"), ("_counter", "create"), ("cache", "peek"), ("_cache", "peek")),
    *(("readers", "peek"), ("target", "sync"), ("_store", "sync"), ("_store", "length"), ("_now", "length")),
    ("mapper", "map"),
}
HARMLESS = {  # why a fault may go by without a word
    "the rest of a short write is written": lambda fault, site: fault.kind == "short",
    "the file is never synced again, and nobody can know": lambda fault, site: fault.kind == "late",
    "the keys are counted when len() is asked for": lambda fault, site: "_survey" in site.callers,
    "what cannot be read is not recognised": lambda fault, site: site.module == "lsmdbm._engine.recognition",
    "whose lock it is, is told in a message only": lambda fault, site: site.operation == "peek",
    "garbage stays until the next opening": lambda fault, site: (
        site.operation == "unlink" and {"abandon", "collect", "unlink_all"} & set(site.callers)
    ),
    "tables that are open are closed, then it is tried again": lambda fault, site: (
        site.operation in ("open", "create") and fault.errno == errno.EMFILE
    ),
    "a log without a mark is suspect, no more": lambda fault, site: (
        {"_mark", "_mark_ended"} & set(site.callers) and fault.errno in DISK_FULL
    ),
    "what a full disk has no room for is held on to, up to a bound, and written later": lambda fault, site: (
        "_drain_if_there_is_room" in site.callers and fault.errno in DISK_FULL
    ),
    "a log that cannot be mapped is written by system calls": lambda fault, site: (
        site.operation == "map" and fault.errno not in DISK_FULL
    ),
    "room behind the last record holds zeros, which end a log as well": lambda fault, site: (
        site.operation == "unmap"
    ),
    "half a record is invalid, and the next one goes over it": lambda fault, site: (
        site.operation == "truncate"
    ),
    "a job is dropped, and done again in the same call": lambda fault, site: (
        "in_background" in site.callers and not fault.is_sticky and not site.operation.endswith("sync")
    ),
    "the log has what a flush at close could not write": lambda fault, site: is_of_a_flush_at_close(site),
    "a log that is gone ends the chain of those who follow": lambda fault, site: (
        site.operation == "open" and fault.kind == "after" and "_links" in site.callers
    ),
    "the directory is there": lambda fault, site: site.operation == "mkdir" and fault.kind == "after",
}


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    monkeypatch.setattr(appender, "MAX_LOG_BYTES", 700)


def static_sites(paths):
    """Return module and line of everything in lsmdbm that names a call of the storage."""
    found = {}
    for path in paths:
        module = ".".join(("lsmdbm", *path.relative_to(PACKAGE).with_suffix("").parts))
        tree = ast.parse(path.read_text("utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {id(node): function.name for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in CALLS and owner(node) in OWNERS:
                if (inside.get(id(node)), node.attr) not in NO_TRIAL:
                    found[module, node.lineno, node.attr] = ast.unparse(node)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "write_all":
                found[module, node.lineno, "pwrite"] = ast.unparse(node)
    return found


def owner(node):
    return ast.unparse(node.value).rpartition(".")[2].lstrip("_")


def test_nothing_else_is_called_like_a_call_of_the_storage():
    """A File under another name would escape the walk."""
    strange = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            pair = ast.unparse(node.func.value).rpartition(".")[2], node.func.attr
            if pair[1] in CALLS and pair[0].lstrip("_") not in OWNERS and pair not in NOT_OURS:
                strange.add(f"{path.name}: {ast.unparse(node)}")

    assert set() == strange


def told_or_harmless(trial):
    """Return why the faults that struck did no harm, "told" if they were told of."""
    if trial.is_noticed or not trial.storage.hits:
        return "told"
    reasons = [
        next((reason for reason, holds in HARMLESS.items() if holds(fault, site)), None)
        for fault, site in zip(trial.faults, trial.struck, strict=False)
    ]
    assert None not in reasons, f"{trial.name}: nobody heard of {trial.faults} at {trial.struck}"
    return reasons[-1]


def key(site):
    return site.module, site.line, "pwrite" if site.operation == "store" else site.operation


def ways(sites, index):
    return list(faults(index, sites[index].operation))


class Loops:
    """Runs trials with faults, and sees to it that no site is left out.

    Attributes:
        unseen: the sites that were not struck yet.
    """

    def __init__(self, reach):
        self.reach = reach
        self.expected = static_sites(SOURCES)
        self.unseen = {}
        self.strange = set()  # struck, though the source does not show that it calls the storage

    def strike(self, trial, *struck):
        """Run a trial with faults; then strike what nobody reaches unless something fails before."""
        trial.follows = bool(self.unseen) and len(struck) == 1
        trial.run(*struck)
        for site in trial.struck:
            self.unseen.pop(key(site), None)
            if site.module:  # else the trial made the call itself
                self.strange |= {key(site)} - self.expected.keys()
        self.reach.count()
        self.reach.count(told_or_harmless(trial))
        led_to = trial.sites
        for index in sorted(led_to):
            if trial.follows and key(led_to[index]) in self.unseen:
                self.strike(trial, struck[0], ways(led_to, index)[0])

    def every_site(self, seed):
        """Strike each site, in one scenario or another: first those that any scenario reaches by itself."""
        self.unseen = dict(self.expected)
        names = [f"T5 sites {seed}-{number}" for number in range(4 * len(SCENARIOS))]
        trials = [
            Trial(name, SCENARIOS[number % len(SCENARIOS)], LEVELS[number % len(LEVELS)])
            for number, name in enumerate(names)
        ]
        for strike in (self.strike_reached, self.strike_led_to):
            for trial in trials:
                if self.unseen:
                    strike(trial, random.Random(trial.name))

    def strike_reached(self, trial, rng):
        """Strike the sites that were not struck yet."""
        trial.run()
        sites = trial.sites
        for index in rng.sample(sorted(sites), len(sites)):
            if key(sites[index]) in self.unseen:
                self.strike(trial, ways(sites, index)[0])

    def strike_led_to(self, trial, rng):
        """Strike each site in each way, for what that leads to."""
        trial.run()
        sites = trial.sites
        tried = set()  # site, who asked, kind and errno
        for index in rng.sample(sorted(sites), len(sites)):
            for fault in ways(sites, index):
                way = key(sites[index]), sites[index].callers[:3], fault.kind, fault.errno
                if self.unseen and not fault.is_sticky and way not in tried:
                    tried.add(way)
                    self.strike(trial, fault)

    def every_call(self, trial, rng, most=None):
        """Let each call of a trial fail in each way, in an order that gives all a chance if time is short.

        Args:
            most: how many faults are enough; None for all.
        """
        trial.run()
        sites = trial.sites
        loop = [fault for index in sites for fault in ways(sites, index)]
        for fault in rng.sample(loop, len(loop))[:most]:
            if self.reach.is_over():
                return
            self.strike(trial, fault)
        self.reach.count("whole loops", int(most is None))


def test_every_call_may_fail_and_nothing_is_lost(seed, budget):
    """In the small budget some calls of some trials; in the others no site is left out."""
    with Budget("T5", **FIGURES, unit="faults") as reach:
        loops = Loops(reach)
        if budget != "small":
            loops.every_site(seed)
        for case in reach:
            loops.every_call(Trial(case), random.Random(case), OF_A_TRIAL.get(budget))

    assert {} == loops.unseen
    assert set() == loops.strange


def test_a_sync_of_the_directory_whose_failure_a_signal_took_along_is_in_doubt():
    """What was new in the directory may never become durable then, and the next sync says success."""
    trial = Trial("T5 names in doubt", "fresh", "process")
    trial.run()
    sites = trial.sites
    for index in [index for index, site in sites.items() if site.operation == "sync"]:
        trial.run(Fault(index, errno.EINTR, "clean", is_sticky=False))
