"""The verb completion: a script with which a shell completes verbs, options, files and keys.

Rules
  1. A key may hold whatever a shell would run.  zsh and fish quote what they are offered; bash does not, and
     the script that click has for it neither.  So there is one of ours.

Thread safety: one thread at a time.
"""

from __future__ import annotations

from lsmdbm.cli.offers import VARIABLE
from lsmdbm.cli.outcome import FINE, USAGE, Refused
from lsmdbm.cli.output import Output

# Within quotes that are open readline quotes, which it does to names of files alone; elsewhere printf.
BASH = r"""
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        plain)
            if [[ ${COMP_WORDS[COMP_CWORD]} == [\'\"]* ]]; then
                compopt -o filenames
            else
                printf -v value %%q "$value"
            fi
            COMPREPLY+=("$value")
            ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


def completion(output: Output, *, shell: str) -> int:
    """Write the script for a shell."""
    try:
        from click.shell_completion import get_completion_class

        from lsmdbm.cli.clicked import group
    except ImportError:
        raise Refused("completion needs click: pip install 'lsmdbm[cli]'", USAGE) from None
    kind = get_completion_class(shell)
    if kind is None:
        raise Refused(f"click knows no completion for {shell}", USAGE)
    if shell == "bash":
        kind = type("Bash", (kind,), {"source_template": BASH})
    output.say(kind(group(), {}, "lsmdbm", VARIABLE).source())
    return FINE
