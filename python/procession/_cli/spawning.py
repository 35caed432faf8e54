"""What the commands that launch procs have in common: restarts and limits."""

from __future__ import annotations

import argparse
from typing import Any

from procession import _validate
from procession._restart import WHEN, Restart

LIMITS = """\
On each process, with all that it starts. What this machine or the launcher cannot do is refused: `procession doctor` tells.
"""
TYPED = {
    "cwd": "--cwd",
    "env": "--env",
    "intensity": "--max-restarts",
    "name": "--name",
    "period": "--within",
    'resources["cpu"]': "--cpu",
    'resources["memory"]': "--memory",
    'resources["pids"]': "--pids",
    "rlimits": "--rlimit",
    "user": "--user",
}
"""What the command line calls the arguments of `spawn_procs`."""


def add_restart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--restart",
        choices=WHEN,
        default="never",
        metavar="WHEN",
        help="run a process again that ends: never, on_failure, always (default: never)",
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        metavar="N",
        help=f"of each process (default: {Restart.intensity})",
    )
    parser.add_argument(
        "--within",
        type=float,
        metavar="S",
        help=f"seconds, for --max-restarts (default: {Restart.period:g})",
    )


def restart_of(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a `Restart`."""
    given = {"intensity": options.max_restarts, "period": options.within}
    numbers = {name: number for name, number in given.items() if number is not None}
    if numbers and options.restart == "never":
        options.parser.error(
            f"{TYPED[next(iter(numbers))]}: say when to restart too, with --restart on_failure or always"
        )
    return {"when": options.restart, **numbers}


def add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits", LIMITS)
    group.add_argument("--memory", metavar="SIZE", help="of memory, in bytes or as 64M, 2G; beyond it the kernel kills")
    group.add_argument("--pids", type=int, metavar="N", help="processes and threads; beyond it forks fail")
    group.add_argument("--cpu", type=float, metavar="N", help="processors, 0.5 is half of one; beyond it it waits")
    group.add_argument("--user", metavar="USER[:GROUP]", help="run as this user, by name or number")
    group.add_argument(
        "--rlimit",
        action="append",
        default=[],
        metavar="NAME=SOFT[:HARD]",
        help="a limit of the kernel on each process, as nofile=1024 or core=0:unlimited; may be repeated",
    )


def limits_of(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `spawn_procs`."""
    return {"resources": _resources(options), "user": _user(options.user), "rlimits": _rlimits(options.rlimit)}


def _resources(options: argparse.Namespace) -> dict[str, Any] | None:
    given = {name: getattr(options, name) for name in ("memory", "pids", "cpu")}
    return {name: limit for name, limit in given.items() if limit is not None} or None


def _user(text: str | None) -> Any:
    """`name`, `1000`, `name:group`, `1000:1000`: names and numbers as they are typed."""
    if text is None:
        return None
    user, colon, group = text.partition(":")
    named = tuple(int(one) if one.isascii() and one.isdigit() else one for one in (user, group))
    return named if colon else named[0]


def _rlimits(words: list[str]) -> dict[str, Any] | None:
    given: dict[str, Any] = {}
    for word in words:
        name, equals, limits = word.partition("=")
        if not equals:
            _validate.refuse("--rlimit", word, "has to be NAME=SOFT or NAME=SOFT:HARD, e.g. nofile=1024")
        pair = tuple(int(one) if one.isascii() and one.isdigit() else one for one in limits.split(":"))
        given[name] = pair[0] if len(pair) == 1 else pair
    return given or None
