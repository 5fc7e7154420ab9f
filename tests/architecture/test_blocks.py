"""No block of code in README and docs/ is only looked at.

test_docs.py runs ```pycon and ```python.  Any other block is run, or compared with what is so, by a module of
its own, see RUN_BY; or it is a command, which has to be one that could be run.
"""

import configparser
import re
import shlex
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

import lsmdbm
from support import benches
from support.pages import FENCE, PAGES, ROOT, blocks

RUN_BY = {  # pages whose other blocks a test module of their own runs, or compares with what is so
    "docs/cli.md": "tests/behaviour/test_cli_front_ends.py",
    "docs/clients.md": "tests/support/clients.py",
    "docs/examples.md": "tests/behaviour/test_examples.py",
    "docs/format.md": "tests/architecture/test_format_docs.py",
    "docs/migration.md": "tests/behaviour/test_coming_from.py",
}
OUTPUT = "tests/behaviour/test_examples.py"  # compares what the README says the tour prints
PYTHONS = {f"py3{minor}" for minor in range(10, 15)}
HARMLESS = (["python", "-m", "venv"], [".", ".venv/bin/activate"], ["pytest"], [".ci/run"])
DRAWING = "            db[key] = value "  # how the one of docs/architecture.md begins


def extras(words):
    """The extras of lsmdbm that the arguments of pip ask for."""
    return {
        extra
        for word in words
        for extra in re.findall(r"[\w-]+", (re.findall(r"^\.\[(.*)\]$", word) or [""])[0])
    }


def environments(words):
    return {each for i, word in enumerate(words) if words[i - 1] == "-e" for each in word.split(",")}


def is_good(command):
    """Whether a command could be run, as far as can be told without running it for hours."""
    words = shlex.split(command, comments=True)
    if "&&" in words:
        split = words.index("&&")
        return is_good(shlex.join(words[:split])) and is_good(shlex.join(words[split + 1 :]))
    try:
        if words[:3] == ["python", "-m", "benchmarks"]:
            benches.command.parser().parse_args(words[3:])
        elif words[:3] == ["python", "-m", "benchmarks.simulator"]:
            benches.simulator.parser().parse_args(words[3:])
        elif words == ["python", "-m", "benchmarks.bulk"]:
            return callable(benches.bulk.main)
        elif words[0] == "python" and words[1].startswith("examples/"):
            return (ROOT / words[1]).is_file()
        elif words[:2] == ["pip", "install"]:
            listed = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
            return extras(words) <= set(listed)
        elif words[0] == "tox":
            settings = configparser.ConfigParser(interpolation=None)
            settings.read(ROOT / "tox.ini")
            there = {name.removeprefix("testenv:") for name in settings.sections()}
            return environments(words) <= there | PYTHONS
        else:
            return words[:3] in HARMLESS
    except SystemExit:  # of argparse
        return False
    return True


def unaccounted(text):
    """The blocks of a page's text that nobody runs and that are no commands that could be run."""
    found = []
    for _, language, code in FENCE.findall(text):
        lines = code.replace("\\\n", " ").splitlines()
        commands = [line.removeprefix("$ ") for line in lines if line.startswith(("$ ", "python -m "))]
        if language == "console" or (language == "text" and commands):
            found += [command for command in commands if not is_good(command)] if commands else [code]
        elif language in ("text", "py") and not code.startswith(DRAWING):
            found.append(code)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_of_page_is_run_somewhere_or_a_command_that_could_be(page):
    name = page.relative_to(ROOT).as_posix()
    if name in RUN_BY:
        assert name in (ROOT / RUN_BY[name]).read_text("utf-8")
        return
    here = page.read_text("ascii")
    if page.name == "README.md":
        shown = re.search(r'TOUR = """\\\n(.*?)"""', (ROOT / OUTPUT).read_text("utf-8"), re.DOTALL)[1]
        here = here.replace(f"```text\n{shown}```\n", "")
    if page.name == "bulk.md":  # its Dask example: below
        here = here.replace(dask_example(), "")

    assert [] == unaccounted(here)


def test_every_block_for_a_client_is_run_by_the_tests_of_that_client():
    page = (ROOT / "docs/clients.md").read_text("ascii")
    sections = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    modules = "".join(path.read_text("utf-8") for path in (ROOT / "tests/clients").glob("test_*.py"))

    assert {title for title, section in sections if "```text\n" in section} == {
        *re.findall(r'shown\("([^"]+)"\)', modules)
    }


@pytest.mark.parametrize(
    "block",
    [
        "```text\nx = 1\n```\n",
        "```console\nno command\n```\n",
        "```console\n$ rm -rf /\n```\n",
        "```console\n$ tox run -e py312,lnt\n```\n",
        "```console\n$ pip install '.[dev,abc]' && pytest\n```\n",
        "```console\n$ python examples/gone.py\n```\n",
        "```console\n$ pip install . && python examples/gone.py\n```\n",
        "```text\npython -m benchmarks runn x\n```\n",
        "```text\npython -m benchmarks.simulator \\\n    --streams sidewards\n```\n",
        "```py\nimport plyvel\n```\n",
    ],
)
def test_a_planted_block_that_nobody_runs_is_found(block, capsys):
    assert 1 == len(unaccounted(f"text\n\n{block}\nmore\n"))


def dask_example():
    (code,) = [each for each in blocks(ROOT / "docs/bulk.md", "text") if "dask" in each]
    return f"```text\n{code}```\n"


def test_the_example_for_dask_runs_with_threads_in_the_place_of_a_cluster(tmp_path, monkeypatch):
    class Client:
        def __init__(self, address):
            assert address.startswith("tcp://")

        def get_executor(self):
            return ThreadPoolExecutor(2)

    for name in ("dask", "dask.distributed"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["dask.distributed"].Client = Client
    code = dask_example().partition("\n")[2].removesuffix("```\n")
    code = code.replace("/shared/index", (tmp_path / "index").as_posix())
    exec(code, {"entries": lambda: ((f"{i:04}", "x") for i in range(2000))})

    with lsmdbm.open(tmp_path / "index") as db:
        assert (2000, b"x") == (len(db), db["1999"])
