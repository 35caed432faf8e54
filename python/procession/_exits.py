"""What is known about launches: their status while they live, their exit when they have ended, and tables of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from procession._certificate import BootTiming, Certificate, boot_from, certificate_from, names_of

Status = Literal["starting", "running", "ready", "stopping", "unknown", "exited", "signaled", "failed", "lost"]


@dataclass(frozen=True)
class ProcStatus:
    """Where a launch stands. Times are seconds since the epoch, None for what has not happened."""

    status: Status
    pid: int | None
    handle: str | None
    """What the launcher calls it: a container, a unit, a job."""
    progress: str | None
    """The launcher's last word on how far the launch is."""
    launcher: str
    started_at: float
    running_at: float | None
    ready_at: float | None
    ended_at: float | None
    restarts: int = 0
    """How often its restart policy has launched it again."""
    next_launch_at: float | None = None
    """When it is launched again; None where that is not planned, or others have to end first."""
    boot: BootTiming = field(default_factory=BootTiming)
    """How long each phase of its boot took."""
    late_reports: int = 0
    """How often something was said of the end after the exit was settled: a second report, a late one."""
    stdout_path: str | None = None
    """The file that takes all of its stdout, where there is a `log_dir`."""
    stderr_path: str | None = None

    def __str__(self) -> str:
        return self.status


@dataclass(frozen=True)
class ProcExit:
    """The one terminal report of one launch. Times are seconds since the epoch."""

    proc_id: str
    name: str
    rank: int
    incarnation: int
    launch_id: str
    kind: Literal["exited", "signaled", "failed", "lost"]
    exit_code: int | None
    signal: int | None
    core_dumped: bool
    failed_reason: str | None
    """Also for what was lost."""
    stderr_tail: list[str]
    stdout_tail: list[str]
    oom: bool | None
    """Whether the kernel has killed something of it for want of memory, it or what it started; None: nobody could look."""
    requested: str | None
    """Who of us asked for the stop, when and why; None: none of us did."""
    started_at: float
    ready_at: float | None
    ended_at: float
    verdict: str
    """One sentence for people."""
    launcher: str = ""
    pid: int | None = None
    stdout_path: str | None = None
    """The file that has all of its stdout, where there was a `log_dir`."""
    stderr_path: str | None = None
    log_dropped_bytes: int = 0
    """How many bytes of output these files could not take."""
    certificate: Certificate = field(default_factory=Certificate, repr=False)
    """What every witness says about it."""

    @property
    def boot(self) -> BootTiming:
        """How long each phase of its boot took."""
        return self.certificate.boot

    def as_dict(self) -> dict[str, Any]:
        """Dicts, lists, strings, numbers and None only, as JSON has them."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**plain, "certificate": self.certificate.as_dict()}

    def explain(self) -> str:
        """Why it ended, for people: the verdict, what happened when, who says so, and its first and last lines."""
        from procession._records import Case
        from procession._why import explained

        return explained(Case(self))

    @property
    def ok(self) -> bool:
        """Whether it returned 0."""
        return self.kind == "exited" and self.exit_code == 0

    @property
    def shell_code(self) -> int:
        """As a shell would report it: the exit code, 128 + n for signal n, 125 for what could not be run or was lost."""
        if self.kind == "signaled" and self.signal is not None:
            return 128 + self.signal
        if self.kind == "exited" and self.exit_code is not None and self.exit_code >= 0:
            return self.exit_code
        return 125

    def __str__(self) -> str:
        return f"{self.name} (incarnation {self.incarnation}): {self.verdict}"


@dataclass(frozen=True)
class History:
    """How the launches of one rank ended."""

    exits: list[ProcExit]
    """Oldest first: the last 32 at most."""
    dropped: int
    """How many there were before these."""


@dataclass(frozen=True)
class ProcEvent:
    """Something that happened to a launch: a new status, readiness, the end of an actor, a note, the exit; a restart.

    `restarting` has in its detail `next_incarnation`, `after` (seconds), `attempt` and `of` (None when it was asked for by
    hand) and `why`; `restart_limit` has `limit`.
    """

    kind: Literal["status", "ready", "actor_ended", "note", "exit", "restarting", "restart_limit"]
    proc_id: str
    name: str
    rank: int
    incarnation: int
    at: float
    detail: dict[str, Any] = field(default_factory=dict)


def status_from(given: Mapping[str, Any]) -> ProcStatus:
    known = _known(ProcStatus, given)
    if "boot" in known:
        known["boot"] = boot_from(known["boot"])
    return ProcStatus(**known)


def exit_from(given: Mapping[str, Any]) -> ProcExit:
    known = _known(ProcExit, given)
    if known["requested"] is not None:
        known["requested"] = _request(*known["requested"])
    if "certificate" in known:
        known["certificate"] = certificate_from(known["certificate"])
    return ProcExit(**known)


def _request(by: str, at: float, why: str) -> str:
    when = datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
    return f"{by} at {when}" + (f": {why}" if why else "")


def event_from(given: Mapping[str, Any]) -> ProcEvent:
    known = _known(ProcEvent, given)
    detail = {key: value for key, value in given.items() if key not in known}
    if given["kind"] == "exit":
        detail["exit"] = exit_from(given["exit"])
    return ProcEvent(**known, detail=detail)


def _known(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    names = names_of(kind)
    return {key: value for key, value in given.items() if key in names}


COLUMNS = ("rank", "name", "launcher", "inc", "pid", "started", "ready after", "ended", "exit", "verdict")


def exit_table(exits: Iterable[ProcExit]) -> str:
    """One line for each exit, in columns, under a line of headings."""
    return in_columns([COLUMNS, *(_row(one) for one in exits)])


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """One line for each row, its cells below those of the first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _row(one: ProcExit) -> tuple[str, ...]:
    ready = "-" if one.ready_at is None else f"{one.ready_at - one.started_at:.2f} s"
    pid = "-" if one.pid is None else str(one.pid)
    place = (str(one.rank), one.name, one.launcher or "-", str(one.incarnation), pid)
    return (*place, _clock(one.started_at), ready, _clock(one.ended_at), short(one), one.verdict.partition("\n")[0])


def short(one: ProcExit) -> str:
    """The exit in a word or two."""
    if one.kind == "signaled":
        return f"signal {one.signal}{' (core)' if one.core_dumped else ''}"
    if one.kind == "exited":
        return "code unknown" if one.exit_code is None or one.exit_code < 0 else f"code {one.exit_code}"
    return one.kind


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S")
