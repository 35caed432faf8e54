"""Records of ended procs, which every host of this user keeps: found by name, by id, or as the last failure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from procession import _native
from procession._exits import ProcExit, exit_from
from procession.errors import NotFound

LARGEST = 16 << 20
"""No record is as large as this."""


class Name(NamedTuple):
    """What the name of a record's file says."""

    path: Path
    failed: bool
    ended_ms: int
    launch_id: str
    proc: str


@dataclass(frozen=True)
class Case:
    """An end, what is kept beside it, and whom it can be compared with."""

    exit: ProcExit
    beside: Mapping[str, Any] | None = None
    """`host`, `machine`, `program`, `cwd`, `env` (marks of values by name), `core`, `run_dir` and more."""
    siblings: tuple[Case, ...] = ()
    """The other procs of its mesh, each in its last incarnation."""
    launcher: Case | None = None
    """The end of the proc that its launcher had to itself."""


class Ambiguous(Exception):
    """Several fit: `names` are the candidates, the newest first."""

    def __init__(self, what: str, names: list[Name]) -> None:
        super().__init__(f"{what!r} fits {len(names)} ended procs")
        self.names = names


def all_names() -> list[Name]:
    """The newest first."""
    folder = _native.records_dir()
    if folder is None:
        raise NotFound("no records are kept: PROCESSION_STATE_DIR is empty, or neither it nor HOME names a directory")
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NotFound(f"the records cannot be read: {error}; PROCESSION_STATE_DIR names their directory") from None
    found = (_parsed(Path(folder), entry) for entry in entries)
    return sorted((one for one in found if one is not None), key=lambda one: one.ended_ms, reverse=True)


def _parsed(folder: Path, entry: str) -> Name | None:
    kind, _, rest = entry.partition("-")
    ended, _, rest = rest.partition("-")
    launch, _, proc = rest.partition("-")
    if kind not in ("c", "f") or not ended.isdigit() or not proc:
        return None
    return Name(folder / entry, kind == "f", int(ended), launch, proc)


def read(name: Name) -> Case | None:
    """None for what was taken away meanwhile, or cannot be read."""
    try:
        with open(name.path, "rb") as file:
            given = _native.read_record(file.read(LARGEST))
    except (OSError, ValueError):
        return None
    return Case(exit_from(given.pop("exit")), given)


def last_failure() -> Case:
    """The last failure of the last run."""
    names = all_names()
    last = next(_read_all(names), None)
    if last is None:
        raise NotFound("no proc has ended yet that was recorded")
    run = _host(last)
    for case in _read_all([name for name in names if name.failed]):
        if _host(case) == run:
            return complete(case, names)
    raise NotFound(f"nothing went wrong in the last run ({run}); name one of its procs to see how that ended")


def find(what: str) -> Case:
    """By name (the last one of that name), proc id, launch id, or a prefix of one of these that fits one only."""
    names = all_names()
    launch = what.rpartition("@")[0].rpartition(".")[2] if "@" in what else what
    fitting = [name for name in names if launch == name.launch_id] or [name for name in names if what == name.proc][:1]
    if not fitting:
        fitting = [name for name in names if name.proc.startswith(what) or name.launch_id.startswith(what)]
        by_id = bool(fitting) and fitting[0].launch_id.startswith(what)
        latest = {name.launch_id if by_id else name.proc: name for name in reversed(fitting)}
        if len(latest) > 1:
            raise Ambiguous(what, sorted(latest.values(), key=lambda one: one.ended_ms, reverse=True))
    case = next(_read_all(fitting), None)
    if case is None:
        raise NotFound(f"no ended proc that was recorded fits {what!r}")
    return complete(case, names)


def complete(case: Case, names: list[Name] | None = None) -> Case:
    """With its siblings, and the end of its launcher's proc, as far as they were recorded."""
    names = all_names() if names is None else names
    mesh = mesh_of(case.exit)
    latest: dict[int, Case] = {}
    # What ended long before belongs to another run: a host's ids are in the records only.
    for other in _read_all([name for name in names if name.proc.rpartition("-")[0] == mesh]):
        if _host(other) == _host(case) and other.exit.rank != case.exit.rank:
            latest.setdefault(other.exit.rank, other)
    siblings = tuple(latest[rank] for rank in sorted(latest))
    return replace(case, siblings=siblings, launcher=launcher_of(case.exit, names))


def launcher_of(one: ProcExit, names: list[Name]) -> Case | None:
    """The end of the proc that its launcher had to itself, if that was recorded."""
    if one.certificate.launched_in is None:
        return None
    launch = one.certificate.launched_in.rpartition("@")[0].rpartition(".")[2]
    return next(_read_all([name for name in names if name.launch_id == launch]), None)


def mesh_of(one: ProcExit) -> str:
    """The name of its mesh."""
    return one.name.removesuffix(f"-{one.rank}")


def _host(case: Case) -> str:
    return case.exit.proc_id.rpartition("@")[2]


def _read_all(names: list[Name]) -> Iterator[Case]:
    return (case for case in map(read, names) if case is not None)
