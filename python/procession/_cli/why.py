"""`procession why`: how a proc ended, also after the program that launched it has."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from procession._cli.command import add_command, moment
from procession.errors import NotFound

if TYPE_CHECKING:
    from procession._records import Case, Name

EPILOG = """\
Every host keeps records of its ended procs in $PROCESSION_STATE_DIR, else $XDG_STATE_HOME/procession, else
~/.local/state/procession: the last 500 ends that something went wrong with, and the last 500 of the others. They hold no
value of any environment variable and no argument of any program. PROCESSION_STATE_DIR= (empty) keeps none.

exit codes: 0 when an end was shown, 1 when none fits, 2 when several do or for an error of usage
"""


def add_to(commands: Any) -> None:
    description = "Tells why a proc ended: the last failure of the last run, or the one that is named."
    parser = add_command(commands, "why", why, "tell why a proc ended", description=description, epilog=EPILOG)
    parser.add_argument("proc", nargs="?", help="a name, a proc id, a launch id, or the beginning of one")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def why(options: argparse.Namespace) -> int:
    from procession import _records

    try:
        case = _records.last_failure() if options.proc is None else _records.find(options.proc)
    except NotFound as error:
        return _refuse(str(error), 1)
    except _records.Ambiguous as error:
        return _refuse("\n".join([f"{error}; name one:", *map(_candidate, error.names)]), 2)
    if options.json:
        import json

        print(json.dumps(as_dict(case)))
    else:
        from procession._why import explained

        print(explained(case))
    return 0


def as_dict(case: Case) -> dict[str, Any]:
    """The end with its certificate, what is kept beside it, its siblings in short, its launcher's end, what is left."""
    from procession._why import left_behind

    return {
        "exit": case.exit.as_dict(),
        "beside": _beside(case),
        "siblings": [sibling.exit.as_dict() for sibling in case.siblings],
        "launcher": None if case.launcher is None else case.launcher.exit.as_dict(),
        "left_behind": left_behind(case),
    }


def _beside(case: Case) -> dict[str, Any] | None:
    """Marks of values can be compared by the records of one host alone: outside of them the names are all that counts."""
    return None if case.beside is None else {**case.beside, "env": sorted(case.beside["env"])}


def _candidate(name: Name) -> str:
    return f"  {name.proc}  {name.launch_id}  ended {moment(name.ended_ms / 1000)}{'' if name.failed else ', nothing went wrong'}"


def _refuse(text: str, code: int) -> int:
    print(f"procession why: {text}", file=sys.stderr)
    return code
