"""Whether a launcher keeps what launchers promise: a check for each sentence of it, run on real procs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from procession import _native, _validate
from procession._engines import EngineLauncher
from procession._launcher import resolve
from procession._pool import substrates_of
from procession._runtime import runtime
from procession.errors import Unsupported

PATIENCE = 20.0
"""Seconds for each step of a check: only what is broken takes as long."""


@dataclass(frozen=True)
class Checked:
    """One check of a launcher, and what came out of it."""

    name: str
    """`group.a-sentence-with-dashes`; it stays."""
    promise: str
    """What launchers promise, as a sentence."""
    hint: str
    """What to look at in one that fails."""
    outcome: Literal["passed", "failed", "not capable"]
    why: str
    """What was expected and what was seen, or what the launcher does not claim; empty where it passed."""
    seconds: float
    row: str = field(repr=False)
    """All of it, as JSON."""


def check_names(only: Sequence[str] = ()) -> list[str]:
    """The names of all checks, or of those that one of the patterns means, such as `stop.*`. InvalidArgument where one means none."""
    _refuse_without_kit()
    names = [name for name, _ in _native.conformance_checks()]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in names):
            groups = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names))
            _validate.refuse("only", pattern, f"no check is called so; the groups are {groups}")
    return [name for name in names if not only or any(fnmatchcase(name, pattern) for pattern in only)]


def conform(
    launcher: Any = None,
    *,
    only: Sequence[str] = (),
    python: str | None = None,
    jobs: int = 1,
    patience: float = PATIENCE,
) -> Iterator[Checked]:
    """Checks a launcher, and gives what came out of each check, in their order.

    launcher: what `spawn_procs(launcher=...)` takes.
    only: patterns of the names of checks that are to run; none runs all of them.
    python: the interpreter that runs the programs of checks where the procs live, `"python3"`; None takes that of the launcher's
        images, or else the shell.
    jobs: how many checks run at the same time.
    patience: seconds for each step of a check.
    """
    names = check_names(only)
    _validate.count("jobs", jobs, least=1)
    _validate.seconds("patience", patience)
    chosen = resolve(launcher)
    for one in substrates_of(chosen):
        if isinstance(one, EngineLauncher):
            python = python or one.config.get("python")
    runtime()
    native = chosen.native()
    ready = [sys.executable, "-m", "procession._proc_main"]

    def run(name: str) -> Checked:
        row = _native.conform(native, name, python, ready, patience)
        found = json.loads(row)
        outcome = found["outcome"].replace("_", " ")
        return Checked(
            found["name"], found["promise"], found["hint"], outcome, found.get("why", ""), found["seconds"], row
        )

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(run, names)


def page(launcher: str, checked: Sequence[Checked]) -> str:
    """The same as one page of HTML that needs nothing beside it."""
    return _native.conformance_page(launcher, [one.row for one in checked])


def _refuse_without_kit() -> None:
    if "conformance" not in _native.features():
        raise Unsupported("this build has no conformance kit: build it with --features engines")
