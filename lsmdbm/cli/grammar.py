"""Grammar: all verbs with their parameters, from which both front ends are made.

Rules
  1. A verb is named as `module:function` and imported when it is called: `get` loads no more than it needs.
  2. Parameters reach the function as keywords, under `dest`, all of them.

Thread safety: constants.  Spec: docs/cli.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from lsmdbm.cli.formats import DUMPS, FORMATS
from lsmdbm.cli.output import Output

SHELLS = ("bash", "zsh", "fish")
BACKENDS = ("dbm.dumb", "dbm.gnu", "dbm.ndbm", "dbm.sqlite3")


@dataclass(frozen=True)
class Parameter:
    """One argument, or one option if the name begins with `--`."""

    name: str
    dest: str
    help: str
    kind: type = str
    default: Any = None
    is_flag: bool = False
    choices: tuple[str, ...] = ()
    is_many: bool = False  # one or more, as a list
    is_optional: bool = False
    is_path: bool = False

    @property
    def is_option(self) -> bool:
        """Whether it is an option."""
        return self.name.startswith("--")


@dataclass(frozen=True)
class Verb:
    """One verb."""

    name: str
    work: str
    help: str
    parameters: tuple[Parameter, ...]
    details: str = ""

    @property
    def text(self) -> str:
        """What help on the verb says of it."""
        text = f"{self.help[:1].upper()}{self.help[1:]}."
        return f"{text} {self.details}" if self.details else text

    def call(self, output: Output, values: Mapping[str, Any]) -> int:
        """Do it, and return the exit code."""
        module, _, function = self.work.partition(":")
        work: Callable[..., int] = getattr(import_module(f"lsmdbm.cli.{module}"), function)
        return work(output, **values)


def version() -> str:
    """Return the version of lsmdbm."""
    found: str = sys.modules["lsmdbm"].__version__  # importing it here would go up
    return found


def _flag(name: str, dest: str, text: str) -> Parameter:
    return Parameter(name, dest, text, is_flag=True, default=False)


DB = Parameter("DB", "db", "directory of the database", is_path=True)
FILE = Parameter("FILE", "file", "a file of a database", is_path=True)
KEY = Parameter("KEY", "key", "key, as UTF-8 text unless --hex or --repr says otherwise")
FORMS = (
    _flag("--hex", "is_hex", "keys and values on the command line are hex digits"),
    _flag("--repr", "is_repr", r"keys and values on the command line are as Python shows bytes, a\x00 say"),
)
PART = (
    Parameter("--start", "start", "begin at this key"),
    Parameter("--stop", "stop", "end before this key"),
    Parameter("--prefix", "prefix", "only keys that begin with this"),
)
TIMEOUT = Parameter(
    "--timeout", "timeout", "seconds to wait for another process that writes", kind=float, default=5.0
)
JSON = _flag("--json", "as_json", "a JSON document instead of text")


VERBS = (
    Verb(
        "get",
        "entries:get",
        "write the value of a key",
        (
            *(DB, KEY),
            Parameter(
                "--format",
                "form",
                "of the value; by default raw, and text on a terminal",
                choices=FORMATS[:-1],
            ),
            *FORMS,
        ),
    ),
    Verb(
        "put",
        "entries:put",
        "set a key",
        (
            *(DB, KEY),
            Parameter("VALUE", "value", "its value; - takes it from stdin, byte for byte"),
            _flag("--create", "creates", "make the database if there is none"),
            *(*FORMS, TIMEOUT),
        ),
    ),
    Verb(
        "del",
        "entries:delete",
        "delete keys",
        (DB, Parameter("KEY", "keys", "keys to delete", is_many=True), *FORMS, TIMEOUT),
    ),
    Verb(
        "scan",
        "entries:scan",
        "write entries in the order of their keys",
        (
            *(DB, *PART),
            _flag("--reverse", "reverse", "last key first"),
            Parameter("--limit", "limit", "no more entries than this", kind=int),
            _flag("--keys-only", "keys_only", "no values; they are not read either"),
            Parameter("--format", "form", "of the entries", choices=FORMATS, default="text"),
            *FORMS,
        ),
    ),
    Verb("count", "entries:count", "count keys", (DB, *PART, *FORMS)),
    Verb(
        "dump",
        "entries:dump",
        "write all entries so that load can read them",
        (
            *(DB, *PART),
            Parameter("--format", "form", "of the entries", choices=DUMPS, default="jsonl"),
            *FORMS,
        ),
    ),
    Verb(
        "load",
        "entries:load",
        "set the entries that stand in a file, or come from stdin",
        (
            DB,
            Parameter(
                "FILE", "file", "what dump wrote; - or nothing for stdin", is_optional=True, is_path=True
            ),
            Parameter(
                "--format",
                "form",
                "of the file; by default csv if its name says so, else jsonl",
                choices=DUMPS,
            ),
            TIMEOUT,
        ),
        "The database is made if there is none; what it holds stays, but for the keys in the file.",
    ),
    Verb(
        "import",
        "care:import_",
        "copy another dbm into a new database",
        (Parameter("SOURCE", "source", "a database of any dbm module", is_path=True), DB),
    ),
    Verb(
        "export",
        "care:export",
        "copy a database into a new one of another dbm",
        (
            DB,
            Parameter("DESTINATION", "destination", "the new database", is_path=True),
            Parameter("--backend", "backend", "module of that; by default Python's choice", choices=BACKENDS),
        ),
    ),
    Verb(
        "stats",
        "insides:stats",
        "what a database looks like, in figures",
        (DB, JSON, _flag("--openmetrics", "as_openmetrics", "in the text format of OpenMetrics")),
    ),
    Verb(
        "tree",
        "insides:tree",
        "draw the levels: tables, key ranges, sizes, filters",
        (DB, _flag("--tables", "lists_tables", "list every table too"), JSON),
    ),
    Verb(
        "table",
        "files:table",
        "what a table file says",
        (
            FILE,
            _flag("--blocks", "lists_blocks", "list its blocks"),
            _flag("--keys", "lists_keys", "list its keys, deleted ones with a -"),
            _flag("--check", "checks", "read and check all of it"),
            JSON,
        ),
    ),
    Verb(
        "log",
        "files:log",
        "what a log file says",
        (FILE, _flag("--records", "lists_records", "list its records, with keys and without values"), JSON),
    ),
    Verb("manifest", "files:manifest", "what a manifest file says", (FILE, JSON)),
    Verb("verify", "care:verify", "check every byte of a database", (DB, JSON)),
    Verb(
        "repair",
        "care:repair",
        "save what can be read of a damaged database into a new one",
        (DB, Parameter("DESTINATION", "destination", "the new database", is_path=True), JSON),
        "The damaged database is only read.",
    ),
    Verb(
        "backup",
        "care:backup",
        "make a second database of this moment",
        (DB, Parameter("DESTINATION", "destination", "the new database", is_path=True)),
    ),
    Verb("compact", "care:compact", "merge all tables into one level", (DB, TIMEOUT)),
    Verb(
        "destroy",
        "care:destroy",
        "remove a database",
        (DB, _flag("--yes", "yes", "do not ask")),
    ),
    Verb(
        "whichdb",
        "care:whichdb",
        "say which dbm module a database belongs to",
        (Parameter("PATH", "files", "databases of any kind", is_many=True, is_path=True),),
    ),
    Verb(
        "sql",
        "sql:sql",
        "ask in SQL; needs the extra lsmdbm[sql]",
        (
            DB,
            Parameter("STATEMENT", "statement", "what to ask; nothing for a prompt", is_optional=True),
            _flag("--write", "writes", "let statements change the database"),
            Parameter("--format", "form", "of the rows", choices=("table", "jsonl", "csv"), default="table"),
            TIMEOUT,
        ),
    ),
    Verb(
        "shell",
        "shell:shell",
        "a prompt for all verbs over one database",
        (DB,),
    ),
    Verb(
        "bench",
        "bench:bench",
        "measure a temporary database on this machine",
        (
            Parameter("--entries", "entries", "how many to put", kind=int, default=100_000),
            Parameter("--value-bytes", "value_bytes", "length of a value", kind=int, default=100),
            Parameter("--directory", "directory", "where; by default that of temporary files", is_path=True),
            JSON,
        ),
    ),
    Verb(
        "completion",
        "completion:completion",
        "write the script that makes a shell complete",
        (Parameter("SHELL", "shell", "which shell", choices=SHELLS),),
    ),
)
BY_NAME = {verb.name: verb for verb in VERBS}
