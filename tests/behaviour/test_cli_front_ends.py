"""The two front ends, which say the same; what is missing, what is completed, and what docs/cli.md shows."""

import fnmatch
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm.cli import metrics, outcome, plain
from lsmdbm.cli.grammar import BY_NAME, FILE, SHELLS, VERBS
from support.commands import (
    FRONTS,
    HAS_CLICK,
    STYLES,
    Terminal,
    call,
    command,
    environment,
    hiding,
    on_terminal,
    run,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/cli.md"
with_click = pytest.mark.skipif(not HAS_CLICK, reason="the extra cli is not installed")
verbs = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
fronts = pytest.mark.parametrize("front", FRONTS)


@pytest.fixture
def fruit(path):
    with lsmdbm.open(path, "c") as db:
        db.update({"apple": "red", "apricot": "orange", "a b": "", "banana\x00": "yellow"})
    return path


def words_for(verb, chosen):
    """A command line with the arguments of a verb, and those options."""
    words = [verb.name]
    for parameter in verb.parameters:
        value = {int: "7", float: "2.5"}.get(parameter.kind, "text")
        value = parameter.choices[-1] if parameter.choices else value
        if parameter.is_flag:
            words += [parameter.name] if parameter in chosen else []
        elif parameter.is_option:
            words += [parameter.name, value] if parameter in chosen else []
        elif not parameter.is_optional or parameter in chosen:
            words += [value, "-"] if parameter.is_many else [value]
    return words


@with_click
@verbs
def test_both_front_ends_understand_the_same(verb):
    from lsmdbm.cli.clicked import group

    optional = [each for each in verb.parameters if each.is_option or each.is_optional]
    for chosen in ([], optional, *([each] for each in optional)):
        words = words_for(verb, chosen)
        found = group().main(words, prog_name="lsmdbm", standalone_mode=False)
        assert plain.parsed(words) == found
        assert len(chosen) == sum(found[1][each.dest] != each.default for each in optional)


@with_click
@verbs
def test_both_front_ends_take_options_anywhere_and_any_word_for_a_value(verb):
    """argparse had `load DB --format csv FILE` fail, and `--start -k`; of a key `--` it made a list."""
    from lsmdbm.cli.clicked import group

    words = words_for(verb, [each for each in verb.parameters if not each.is_option])[1:]
    options = [
        word
        for each in verb.parameters
        if each.is_option
        for word in ([each.name] if each.is_flag else [each.name, (*each.choices, "-1")[0]])
    ]
    lines = [[*words[:place], *options, *words[place:]] for place in range(len(words) + 1)]
    if words and verb.name != "completion":  # which takes the name of a shell
        lines.append([*options, "--", *("--" for _ in words)])
    for line in lines:
        found = group().main([verb.name, *line], prog_name="lsmdbm", standalone_mode=False)
        assert plain.parsed([verb.name, *line]) == found


@verbs
def test_every_verb_is_a_function_of_its_parameters(verb):
    module, _, name = verb.work.partition(":")
    found = inspect.signature(getattr(importlib.import_module(f"lsmdbm.cli.{module}"), name)).parameters
    keywords = [each.name for each in found.values() if each.kind is inspect.Parameter.KEYWORD_ONLY]

    assert sorted(each.dest for each in verb.parameters) == sorted(keywords)


@fronts
@verbs
def test_every_verb_explains_itself(verb, front):
    found = call(verb.name, "--help", front=front)

    assert (0, "") == (found.code, found.err)
    assert verb.text in " ".join(found.text.split())
    for parameter in verb.parameters:
        if parameter.is_option:
            assert parameter.name in found.text


@fronts
@pytest.mark.parametrize("words", [[], *([verb.name] for verb in VERBS)])
def test_help_is_asked_for_in_two_ways_and_fits_a_terminal(words, front, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = call(*words, "-h", front=front)

    assert (0, "") == (found.code, found.err)
    assert call(*words, "--help", front=front).lines == found.lines
    assert [] == [line for line in found.lines if len(line) > 80]


@fronts
def test_usage_shows_what_may_be_left_out_and_what_may_be_many(front):
    assert "DB [FILE]" in call("load", "--help", front=front).text
    assert re.search(r"DB KEY( \[KEY )?\.\.\.", call("del", "--help", front=front).text)


@fronts
def test_the_command_explains_itself_and_tells_its_version(front):
    found = call("--help", front=front)
    assert all(re.search(rf"^ +{verb.name}\b", found.text, re.MULTILINE) for verb in VERBS)
    assert "130 interrupted" in " ".join(found.text.split())
    assert f"lsmdbm {lsmdbm.__version__}\n" == call("--version", front=front).text


@fronts
@pytest.mark.parametrize(
    "words",
    [
        *([], ["nonsense"], ["scan"], ["scan", "db", "--nonsense"], ["scan", "db", "more"]),
        *(["scan", "db", "--limit", "many"], ["scan", "db", "--format", "xml"], ["get", "db"], ["del", "db"]),
        *(["completion", "powershell"], ["put", "db", "key"], ["--nonsense"], ["scan", "db", "--limit"]),
        *(["scan\x1b[2J"], ["scan", "db", "--lim", "1"]),  # argparse would take what is cut short
    ],
)
def test_a_command_line_without_sense_is_one_line(words, front):
    found = call(*words, front=front)

    assert (2, b"") == (found.code, found.out)
    assert re.fullmatch(r"lsmdbm: [^\n]*--help says more\n", found.err)
    assert found.err[:-1].isprintable()


@fronts
def test_a_mistake_of_ours_is_one_line_too_and_can_be_traced(front, monkeypatch, fruit):
    def broken(*_, **__):
        raise RuntimeError("not\x1b[2J foreseen")

    monkeypatch.setattr("lsmdbm.cli.entries.get", broken)
    monkeypatch.delenv("LSMDBM_TRACEBACK", raising=False)
    found = call("get", fruit, "apple", front=front)
    assert (3, "lsmdbm: RuntimeError: not\\x1b[2J foreseen\n") == (found.code, found.err)

    monkeypatch.setenv("LSMDBM_TRACEBACK", "1")
    assert "Traceback" in call("get", fruit, "apple", front=front).err


# Installed, and with less than everything


def test_the_package_installs_the_command():
    text = (ROOT / "pyproject.toml").read_text("ascii")

    assert '\n[project.scripts]\nlsmdbm = "lsmdbm.cli.entry:main"\n' in text


def test_the_command_and_the_module_do_the_same(fruit):
    for words in (["scan", fruit], ["get", fruit, "apple"], ["get", fruit, "no"], ["verify", fruit]):
        assert run(*words) == run(*words, module=True)


def test_without_click_and_rich_the_command_does_all_the_same(fruit, tmp_path):
    hidden = hiding(tmp_path, "click", "rich", "prompt_toolkit")
    for words in (["scan", fruit], ["get", fruit, "no"], ["tree", fruit], ["count", fruit, "--prefix", "ap"]):
        assert run(*words) == run(*words, **hidden)
    found = run("scan", **hidden)
    assert (2, "lsmdbm: the following arguments are required: DB; lsmdbm scan --help says more\n") == (
        found.code,
        found.err,
    )
    found = run("completion", "bash", **hidden)
    assert (2, "lsmdbm: completion needs click: pip install 'lsmdbm[cli]'\n") == (found.code, found.err)
    code, terminal = on_terminal("tree", fruit, **hidden)
    assert (0, []) == (code, STYLES.findall(terminal.shown.replace(b"\r", b"")))


def modules_of(program, *arguments):
    """The modules that are there when a program has run."""
    words = [sys.executable, "-c", f"{program}\nimport sys\nprint('', *sys.modules)", *arguments]
    done = subprocess.run(words, capture_output=True, env=environment(), check=True, text=True)
    return set(done.stdout.split()) - {"red"}


def test_the_module_imports_nothing_beyond_the_standard_library_and_no_verb_it_does_not_do(fruit):
    program = "import sys; from lsmdbm.cli.plain import main; main(sys.argv[1:])"
    names = modules_of(program, "get", fruit, "apple") - modules_of("")

    assert {"lsmdbm.cli.entries", "argparse"} <= names
    assert set() == names & {
        f"lsmdbm.cli.{name}" for name in ("files", "insides", "care", "fancy", "clicked", "shell")
    }
    tops = {name.partition(".")[0].lstrip("_") for name in names}
    assert {"lsmdbm", "mmh3", "zstandard"} == tops - set(sys.stdlib_module_names) - {
        name.lstrip("_") for name in sys.stdlib_module_names
    } - {"cffi_backend"}


def test_sql_says_what_to_install(fruit, tmp_path):
    hidden = hiding(tmp_path, "apsw")
    found = run("sql", fruit, "SELECT 1", **hidden)

    assert (2, "lsmdbm: sql needs apsw: pip install 'lsmdbm[sql]'\n") == (found.code, found.err)


# Completion


def completed(line, *, cwd=None):
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    env = environment(COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), _LSMDBM_COMPLETE="bash_complete")
    done = subprocess.run([command()], capture_output=True, text=True, env=env, cwd=cwd, check=True)
    return list(filter(None, done.stdout.splitlines()))


@with_click
def test_verbs_options_choices_paths_and_keys_are_completed(fruit):
    assert ["plain,scan"] == completed("lsmdbm sc")
    assert ["plain,--limit"] == completed("lsmdbm scan db --li")
    assert ["plain,jsonl"] == completed("lsmdbm scan db --format js")
    assert ["file,d"] == completed("lsmdbm scan d")
    assert ["plain,apple", "plain,apricot"] == completed(f"lsmdbm get {fruit} ap")
    assert [] == completed(f"lsmdbm get {fruit} ba")  # no shell could take it as it is
    assert [] == completed(f"lsmdbm get {fruit}/absent a")


@with_click
@pytest.mark.parametrize("shell", SHELLS)
def test_completion_writes_what_a_shell_understands(shell):
    found = run("completion", shell)

    assert (0, "") == (found.code, found.err)
    assert "_LSMDBM_COMPLETE" in found.text
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n", "/dev/stdin"], input=found.out, capture_output=True)
        assert (0, b"") == (checked.returncode, checked.stderr)


@with_click
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_with_the_script(fruit):
    program = (
        'eval "$(lsmdbm completion bash)"\n'
        f'COMP_WORDS=(lsmdbm get "{fruit}" apr); COMP_CWORD=3\n'
        '_lsmdbm_completion lsmdbm apr "{}"; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=environment())

    assert ("apricot\n", "") == (done.stdout, done.stderr)


@with_click
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(("typed", "shown"), [(r"\`", r"\`touch\ made\`"), ("'ju", r"'just '\''so'\'''")])
def test_bash_quotes_a_key_that_it_completes(typed, shown, path, tmp_path):
    """With the script of click a space divided a key, and bash ran what stood in backquotes."""
    with lsmdbm.open(path, "n") as db:
        db.update(dict.fromkeys(["`touch made`", "just 'so'"], "found"))
    bash = ["bash", "--norc", "--noprofile", "-i"]
    with Terminal(words=bash, cwd=tmp_path, HISTFILE="", INPUTRC="/dev/null") as terminal:
        terminal.send('eval "$(lsmdbm completion bash)"; set +H; echo be"gin"\n')
        terminal.expect("begin\r\n")
        terminal.send(f"lsmdbm get {path} {typed}\t")
        terminal.expect(shown)
        terminal.send("; exit\n")
        terminal.expect("found")
        terminal.end()
    assert not (tmp_path / "made").exists()


# The page


def blocks():
    return re.findall(r"^```console\n(.*?)^```$", PAGE.read_text("ascii"), re.MULTILINE | re.DOTALL)


def steps(text):
    """The commands of console blocks, and what they show."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield line, shown


def agrees(expected, shown):
    """Whether lines are as expected; "..." stands for a part of a line or, alone, for any number of lines."""
    lines = [re.sub(r"(\\ ){2,}", r"\\ +", re.escape(line)) for line in expected.splitlines()]
    pattern = "".join(
        r"(?:.*\n)*" if line == r"\.\.\." else line.replace(r"\.\.\.", ".*") + r"\n" for line in lines
    )
    return re.fullmatch(pattern, shown) is not None


def test_every_console_block_of_the_page_shows_what_happens(tmp_path):
    count = 0
    for line, expected in steps("".join(blocks())):
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        shown = done.stdout.decode()
        assert agrees(expected, shown), f"{line}\n{shown}"
        count += 1
    assert count > 25


def test_a_wrong_line_of_the_page_is_found():
    assert agrees("a ...B  c\n...\nlast\n", "a 12.5 kB    c\nmore\nand more\nlast\n")
    assert not agrees("a ...B\n", "a 12.5 kB\nmore\n")
    assert not agrees("a ...B\n", "a 12.5 k\n")
    assert not agrees("3\n", "2\n")
    assert not agrees("", "a\n")


def rows(heading):
    section = PAGE.read_text("ascii").split(f"\n## {heading}\n")[1].partition("\n## ")[0]
    return [re.split(r" *\| *", line.strip("| ")) for line in re.findall(r"^\| .*$", section, re.MULTILINE)][
        2:
    ]


def test_the_page_lists_every_verb_with_its_arguments_and_every_exit_code():
    listed = {row[0].strip("`").split(" ")[0]: row for row in rows("Verbs")}
    assert [verb.name for verb in VERBS] == list(listed) or {*BY_NAME} == {*listed}
    for name, (usage, meaning) in listed.items():
        arguments = [each.name for each in BY_NAME[name].parameters if not each.is_option]
        assert arguments == [word.strip("`[]").removesuffix("...") for word in usage.split(" ")[1:]]
        for option in re.findall(r"--[a-z-]+", meaning):
            assert option in {each.name for each in BY_NAME[name].parameters}, name
    codes = [outcome.FINE, outcome.FOUND, outcome.USAGE, outcome.FAILED]
    assert [*codes, outcome.INTERRUPTED, outcome.CLOSED_PIPE] == [int(row[0]) for row in rows("Exit codes")]


def test_the_pictures_are_what_the_command_shows(tmp_path):
    pytest.importorskip("rich", reason="the extra cli is not installed")
    done = subprocess.run(
        [sys.executable, ROOT / "docs/pictures.py", tmp_path],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (0, "") == (done.returncode, done.stderr)

    def words(svg):  # sizes differ with the version of zstd, and speed with the machine
        text = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
        return re.sub(r"[\d.,]+|[#=\[\]|]+|&#\d+;|[\u2501\u2578\u257a]+|[kM](?=B)", "", text).split()

    for name, said in (("tree.svg", "amplification"), ("progress.svg", "left")):
        drawn, kept = ((place / name).read_text("utf-8") for place in (tmp_path, ROOT / "docs/pictures"))
        assert said in kept
        assert words(kept) == words(drawn)
        assert "@font-face" not in kept


def test_the_function_that_the_page_names_gives_the_same_lines(fruit):
    with lsmdbm.open(fruit) as db:
        assert call("stats", fruit, "--openmetrics").lines == list(metrics.openmetrics(db.stats(), fruit))


def test_verbs_of_files_are_those_that_take_a_file():
    assert ["table", "log", "manifest"] == [verb.name for verb in VERBS if FILE in verb.parameters]
    assert fnmatch.fnmatch(command(), "*/lsmdbm")
