"""`procession conformance`: whether a launcher keeps what launchers promise."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from procession._cli.command import add_command, refuse
from procession.errors import InvalidArgument, LauncherUnavailable, Unsupported

if TYPE_CHECKING:
    from procession._conformance import Checked

EPILOG = """\
Each line: what came out of a check, its name, and how long it took; below one that failed what was expected and seen, and what to look at.
What the launcher does not claim to do is not tried, and no failure. The exit code is 0 when no check has failed, 1 when one has, 2 for an
error of usage, and 125 where the launcher cannot be used.
"""
TYPED = {"only": "--only", "jobs": "--jobs", "patience": "--patience"}


def add_to(commands: Any) -> None:
    summary = "whether a launcher keeps what launchers promise"
    description = "Runs the conformance checks on a launcher, with real procs, which it starts and ends."
    parser = add_command(commands, "conformance", _conformance, summary, description=description, epilog=EPILOG)
    known = "native, docker:IMAGE, kubernetes:IMAGE, systemd, slurm, vm:IMAGE, module:Class, or what `procession launchers` lists"
    parser.add_argument("launcher", metavar="LAUNCHER", help=known)
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="checks of that name, as stop.*; repeatable"
    )
    parser.add_argument(
        "--python", metavar="PROGRAM", help="what runs the programs of checks where procs live; else a shell does"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="checks that run at the same time (default: 1)"
    )
    parser.add_argument(
        "--patience", type=float, default=20.0, metavar="SECONDS", help="for each step of a check (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for each check")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page of all of it, too")


def _conformance(options: argparse.Namespace) -> int:
    from procession._cli.run import UNRUNNABLE, launcher_named
    from procession._conformance import conform, page

    checked: list[Checked] = []
    try:
        launcher = launcher_named(options.launcher)
        more = {"python": options.python, "jobs": options.jobs, "patience": options.patience}
        for one in conform(launcher, only=options.only, **more):
            checked.append(one)
            print(one.row if options.json else _shown(one), flush=True)
    except InvalidArgument as error:
        refuse(options, error, TYPED)
    except (LauncherUnavailable, Unsupported) as error:
        print(error, file=sys.stderr)
        return UNRUNNABLE
    if options.html is not None:
        options.html.write_text(page(options.launcher, checked))
    counts = {word: sum(one.outcome == word for one in checked) for word in ("passed", "failed", "not capable")}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    print(f"{options.launcher}: {summary}", file=sys.stderr)
    return 1 if counts["failed"] else 0


def _shown(one: Checked) -> str:
    line = f"{one.outcome:11}  {one.name}  {one.seconds:.2f} s"
    if one.outcome == "not capable":
        return f"{line}: {one.why}"
    if one.outcome == "failed":
        return f"{line}\n    {one.promise}\n    {one.why}\n    look at: {one.hint}"
    return line
