"""`procession gc`: takes away what sessions have left that are dead."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from procession._cli.command import add_command
from procession._engines import EngineLauncher
from procession._found import Owned
from procession.errors import LauncherUnavailable

EPILOG = """\
What hosts of this machine have left that were killed is ended; and what stands on a substrate that can be asked here: containers,
pods, units, jobs, virtual machines. What belongs to a session that lives is never touched. Whether one lives that was begun on another machine, or
before this one was started again, cannot be known here: what it has left is counted, and taken away with --session.
exit codes: 0 when all was taken away (or with --dry-run would be), 1 when something could not be
"""


def add_to(commands: Any) -> None:
    summary = "take away what dead sessions have left, on this machine and wherever they have launched"
    parser = add_command(commands, "gc", _gc, summary, epilog=EPILOG)
    parser.add_argument("--dry-run", action="store_true", help="only show it")
    parser.add_argument(
        "--launcher",
        action="append",
        metavar="NAME",
        help=f"only there: {', '.join(SUBSTRATES)} (default: wherever something answers)",
    )
    parser.add_argument(
        "--session",
        action="append",
        default=[],
        metavar="ID",
        help="also what that one has left, where it cannot be known whether it lives",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _made(name: str, *arguments: str) -> Callable[[], EngineLauncher]:
    def make() -> EngineLauncher:
        from procession import launchers

        launcher: EngineLauncher = getattr(launchers, name)(*arguments)
        return launcher

    return make


SECONDS = 20.0
"""For what dead hosts have left to end."""
SUBSTRATES: dict[str, Callable[[], EngineLauncher]] = {
    "docker": _made("Docker", "none"),  # of which nothing is launched
    "podman": _made("Podman", "none"),
    "kubernetes": _made("Kubernetes", "none"),
    "slurm": _made("Slurm"),
    "systemd:user": _made("Systemd", "user"),
    "systemd:system": _made("Systemd", "system"),
    "vm": _made("Vm", os.devnull),  # those below ~/.procession/vm
}
"""What can be asked for all that is of procession there; `native` is this machine itself."""


def _gc(options: argparse.Namespace) -> int:
    names = options.launcher or ["native", *SUBSTRATES]
    for name in names:
        if name not in ("native", *SUBSTRATES):
            options.parser.error(f"--launcher = {name}: give native, {', '.join(SUBSTRATES)}")
    failed = False
    for name in names:
        try:
            ended = _native(options) if name == "native" else _substrate(name, options)
        except LauncherUnavailable as error:
            if options.launcher:
                print(f"procession: {name}: {error}", file=sys.stderr)
                failed = True
            continue
        failed |= not ended
    return int(failed)


def _native(options: argparse.Namespace) -> bool:
    from procession import _native

    hosts = _native.dead_hosts()
    if hosts and not options.dry_run:
        from procession._runtime import runtime

        runtime()  # a host that starts ends what dead ones have left
    left = {host["run_dir"] for host in hosts}
    until = 0.0 if options.dry_run else time.monotonic() + SECONDS
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = {host["run_dir"] for host in _native.dead_hosts()}
    for host in hosts:
        what = ", ".join(f"process {process['pid']} {process['command']}" for process in host["processes"])
        _show(options, "native", str(host["run_dir"]), what or "no process", removed=host["run_dir"] not in left)
    return options.dry_run or not left


def _substrate(name: str, options: argparse.Namespace) -> bool:
    launcher = SUBSTRATES[name]()
    found = launcher.list()
    mine = [one for one in found if one.left_over or _is_named(one, options.session)]
    others = [one for one in found if one.left_over is None and one not in mine]
    well = True
    for one in mine:
        removed = False
        if not options.dry_run:
            try:
                launcher.remove(one.handle)
                removed = True
            except (LauncherUnavailable, TimeoutError) as error:
                well = False
                print(f"procession: {name}: {one.handle}: {error}", file=sys.stderr)
        what = f"{one.labels['procession.proc']} of {one.labels['procession.owner']}"
        _show(options, name, one.handle, what, removed=removed)
    if others:
        sessions = ", ".join(sorted({one.labels["procession.session"] for one in others}))
        print(f"{name}: {len(others)} of sessions that may live elsewhere: {sessions}", file=sys.stderr)
    return well


def _is_named(one: Owned, sessions: list[str]) -> bool:
    return one.left_over is None and one.labels["procession.session"] in sessions


def _show(options: argparse.Namespace, launcher: str, handle: str, what: str, *, removed: bool) -> None:
    if options.json:
        print(json.dumps({"launcher": launcher, "handle": handle, "what": what, "removed": removed}))
    else:
        print(f"{'removed' if removed else 'left'}  {launcher}  {handle}  {what}")
