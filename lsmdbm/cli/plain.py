"""Plain: the front end over argparse, which needs nothing beyond the standard library.

Thread safety: one thread at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NoReturn

from lsmdbm.cli.grammar import BY_NAME, VERBS, Parameter, Verb, version
from lsmdbm.cli.outcome import FINE, USAGE, Refused, guarded
from lsmdbm.cli.output import Output
from lsmdbm.cli.standard import standard_output

EPILOG = (
    "exit codes: 0 fine, 1 key missing or problem found, 2 usage, 3 failed, 130 interrupted, 141 pipe closed"
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line, as that of verbs is."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        if message.startswith("argument VERB:"):
            message = message.partition(" (choose from")[0]  # all of them: --help has them in lines
        more = f"{self.prog.strip()} --help" if self.prog else "help"  # of the verb shell
        raise Refused(f"{message}; {more} says more", USAGE)

    def print_help(self, file: Any = None) -> None:
        """Write the help; argparse would keep to itself that it did not arrive."""
        print(self.format_help(), end="", file=file)


def parser(verbs: Sequence[Verb] = VERBS, prog: str = "lsmdbm") -> Parser:
    """Return the parser of some verbs."""
    found = Parser(
        prog=prog,
        description="Look into a database of lsmdbm, and care for it.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    if prog:
        found.add_argument("--version", action="version", version=f"{prog} {version()}")
    commands = found.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for verb in verbs:
        command = commands.add_parser(
            verb.name, help=verb.help, description=_percent(verb.text), allow_abbrev=False
        )  # click knows no abbreviations
        for parameter in verb.parameters:
            _add(command, parameter)
    return found


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _add(command: argparse.ArgumentParser, parameter: Parameter) -> None:
    options: dict[str, Any] = {"help": _percent(parameter.help)}
    if parameter.is_flag:
        options["action"] = "store_true"
    else:
        options["type"] = parameter.kind
        options["default"] = parameter.default
        options["choices"] = parameter.choices or None
        options["metavar"] = None if parameter.choices else parameter.name.lstrip("-").upper()
    if parameter.is_option:
        command.add_argument(parameter.name, dest=parameter.dest, **options)
        return
    if parameter.is_many:
        options["nargs"] = "+"
    elif parameter.is_optional:
        options["nargs"] = "?"
    command.add_argument(parameter.dest, **options)


def parsed(
    arguments: Sequence[str], verbs: Sequence[Verb] = VERBS, prog: str = "lsmdbm"
) -> tuple[Verb, dict[str, Any]]:
    """Return the verb and its parameters.

    Raises:
        Refused: they make no sense.
        SystemExit: help was shown.
    """
    verb = next((each for each in verbs if [each.name] == [*arguments[:1]]), None)
    if verb is None:  # help, the version, or nothing that is known
        values = vars(parser(verbs, prog).parse_args(arguments))
        return BY_NAME[values.pop("verb")], values
    options, words = _divided(verb, arguments[1:])
    if {"-h", "--help"} & {*options}:
        parser(verbs, prog).parse_args([verb.name, "--help"])
    command = Parser(prog=f"{prog} {verb.name}".strip(), add_help=False, allow_abbrev=False)
    for parameter in verb.parameters:
        if parameter.is_option:
            _add(command, parameter)
    return BY_NAME[verb.name], {**vars(command.parse_args(options)), **_taken(verb, words, command)}


def _divided(verb: Verb, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options among some words, with their values, and all other words.

    argparse is given options alone: of `load DB --format csv FILE` it would have FILE missing before it has
    seen it, take no `-k` for a value of `--start`, and lose a key that is `--`.
    """
    takes = {each.name for each in verb.parameters if each.is_option and not each.is_flag}
    options: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            others += rest
        elif word in takes:
            options += [f"{word}={value}" for value in islice(rest, 1)] or [word]
        else:
            (options if word.startswith("-") and word != "-" else others).append(word)
    return options, others


def _taken(verb: Verb, words: Sequence[str], command: Parser) -> dict[str, Any]:
    """Return the arguments of a verb that are no options: a word for each, and all that are left for many."""
    values: dict[str, Any] = {}
    missing = []
    rest = list(words)
    for parameter in verb.parameters:
        if parameter.is_option:
            continue
        if not rest and not parameter.is_optional:
            missing.append(parameter.name)
        elif parameter.is_many:
            values[parameter.dest], rest = rest, []
        else:
            values[parameter.dest] = value = rest.pop(0) if rest else parameter.default
            if parameter.choices and value not in parameter.choices:
                command.error(f"{parameter.name}: {value!r} is none of {', '.join(parameter.choices)}")
    if missing:
        command.error(f"the following arguments are required: {', '.join(missing)}")
    if rest:
        command.error(f"unrecognized arguments: {' '.join(rest)}")
    return values


def main(arguments: Sequence[str], output: Callable[[], Output] = standard_output) -> int:
    """Do what the command line says; return the exit code."""

    def work() -> int:
        try:
            verb, values = parsed(arguments)
        except SystemExit:  # from --help and --version, which have written what was asked for
            return FINE
        return verb.call(output(), values)

    return guarded(work)
