"""Clicked: the front end over click, with completion for shells.

Rules
  1. click only says which verb it is, with which parameters.  The work is done behind it: there click would
     take Ctrl-C and closed pipes for its own.

Thread safety: one thread at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from lsmdbm.cli import offers
from lsmdbm.cli.grammar import VERBS, Parameter, Verb, version
from lsmdbm.cli.outcome import FINE, USAGE, Refused, guarded
from lsmdbm.cli.output import Output
from lsmdbm.cli.plain import EPILOG
from lsmdbm.cli.standard import standard_output

Call = tuple[Verb, dict[str, Any]]


def group() -> click.Group:
    """Return the command with all verbs."""
    found = click.Group(
        "lsmdbm",
        help="Look into a database of lsmdbm, and care for it.",
        epilog=EPILOG,
        commands={verb.name: _command(verb) for verb in VERBS},
        no_args_is_help=False,
        context_settings={"help_option_names": ["-h", "--help"]},  # as argparse has it
    )
    return click.version_option(version(), prog_name="lsmdbm", message="%(prog)s %(version)s")(found)


def _command(verb: Verb) -> click.Command:
    def call(**values: Any) -> Call:  # rule 1
        many = {parameter.dest for parameter in verb.parameters if parameter.is_many}
        return verb, {name: list(value) if name in many else value for name, value in values.items()}

    parameters = list(map(_parameter, verb.parameters))
    return click.Command(verb.name, params=parameters, callback=call, help=verb.text, short_help=verb.help)


def _parameter(parameter: Parameter) -> click.Parameter:
    kind: Any = click.Path(readable=False) if parameter.is_path else parameter.kind  # the verb finds out
    if parameter.choices:
        kind = click.Choice(parameter.choices)
    if parameter.is_option:
        shows = parameter.default is not None and not parameter.is_flag
        options: dict[str, Any] = {
            "help": parameter.help,
            "show_default": shows,
            "default": parameter.default,
        }
        names = [parameter.name, parameter.dest]
        if parameter.is_flag:
            return click.Option(names, is_flag=True, **options)
        return click.Option(names, type=kind, **options)
    return click.Argument(
        [parameter.dest],
        type=kind,
        metavar=_metavar(parameter),
        required=not parameter.is_optional,
        nargs=-1 if parameter.is_many else 1,
        shell_complete=_complete_key if parameter.name == "KEY" else None,
    )


def _metavar(parameter: Parameter) -> str:
    if parameter.is_many:
        return f"{parameter.name}..."
    return f"[{parameter.name}]" if parameter.is_optional else parameter.name


def _complete_key(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(key) for key in offers.keys(context.params.get("db") or "", incomplete)]


def main(arguments: Sequence[str], output: Callable[[], Output] = standard_output) -> int:
    """Do what the command line says; return the exit code."""

    def work() -> int:
        streams = sys.stdout, sys.stderr
        try:
            call = group().main(
                list(arguments), prog_name="lsmdbm", complete_var=offers.VARIABLE, standalone_mode=False
            )
        except click.ClickException as exc:
            where = f"{exc.ctx.command_path} " if isinstance(exc, click.UsageError) and exc.ctx else "lsmdbm "
            raise Refused(f"{exc.format_message().rstrip('.')}; {where}--help says more", USAGE) from None
        except SystemExit:
            if sys.stdout is not streams[0]:  # click hides a closed pipe so, and exits with 1
                sys.stdout, sys.stderr = streams
                raise BrokenPipeError from None
            raise
        except click.Abort:
            raise KeyboardInterrupt from None
        if not isinstance(call, tuple):  # help or the version was asked for
            return FINE
        verb: Verb = call[0]
        values: dict[str, Any] = call[1]
        return verb.call(output(), values)

    return guarded(work)
