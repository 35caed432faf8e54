"""Why a proc ended, as a text for people: what `procession why` and `ProcMesh.why` show."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from procession._exits import short
from procession._records import Case
from procession.config import LAUNCH_ID_ENV

if TYPE_CHECKING:
    from procession._certificate import BootTiming, Handling
    from procession._exits import ProcExit

LAST = 20
"""Lines at the end of a stream that are shown."""
WIDEST = 400
"""Characters of one line."""


def explained(case: Case) -> str:
    """Verdict first, then the timeline, who says what, what it was busy with, its lines, its siblings, what is left."""
    one, certificate = case.exit, case.exit.certificate
    what = f"{certificate.verdict}, while {certificate.phase}" if certificate.phase else certificate.verdict
    lines = [
        f"{one.name} (rank {one.rank}, incarnation {one.incarnation}): {shown(one.verdict)}",
        f"  {what}; {short(one)}; launcher {one.launcher or '-'}; pid {one.pid or '-'}; {one.proc_id}",
        *_section("timeline", _timeline(one)),
        *_section("boot", [_boot(certificate.boot)] if _boot(certificate.boot) else []),
        *_section(
            "evidence", [f"{who.source:<18} {_clock(who.at)}  {shown(who.says)}" for who in certificate.evidence]
        ),
        *_section("not seen", map(shown, certificate.missing)),
        *_section("contradictions", map(shown, certificate.contradictions)),
        *_section("busy with", _busy(one)),
        *_section("memory", _memory(one)),
        *_stream("stderr", certificate.stderr_head, one.stderr_tail),
        *_stream("stdout", certificate.stdout_head, one.stdout_tail),
        *_section("beside its siblings", _differences(case)),
        *_section("left behind", left_behind(case)),
    ]
    if case.launcher is not None:
        lines += _section("its launcher's proc", explained(case.launcher).splitlines())
    return "\n".join(lines)


def shown(text: str) -> str:
    """On one line of a terminal, whatever is in it."""
    cut = text if len(text) <= WIDEST else text[:WIDEST] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    given = list(lines)
    return [title, *(f"  {line}" for line in given)] if given else []


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S.%f")[:-3]


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _timeline(one: ProcExit) -> list[str]:
    certificate, boot = one.certificate, one.certificate.boot
    happened = [(one.started_at, "requested")]
    if boot.queue is not None:
        happened.append((one.started_at + boot.queue, "launcher asked"))
        if boot.exec is not None:
            happened.append((one.started_at + boot.queue + boot.exec, "running"))
    if one.ready_at is not None:
        happened.append((one.ready_at, "ready"))
    flight = certificate.flight
    if flight is not None:
        if flight.booting is not None:
            phase, since = flight.booting
            happened.append((since, f"in phase {phase}, the last one"))
        happened += [(at, f"it said: {shown(text)}") for at, text in flight.said]
        happened += [(one.since, f"message {_message(one)}") for one in flight.in_progress]
        if flight.last_done is not None:
            happened.append((flight.last_done.since, f"message {_message(flight.last_done)}, done with"))
    happened += [
        (failed.at, f"actor {failed.actor} failed: {shown(failed.failure)}") for failed in certificate.actors_failed
    ]
    happened += [
        (stop.at, f"{stop.by} asked for its end: {shown(stop.why) or 'no reason given'}") for stop in certificate.stops
    ]
    asked = {"agent": "its agent was asked to end", "terminate": "terminate asked for", "kill": "kill asked for"}
    happened += [(at, asked[rung]) for rung, at in certificate.rungs]
    if certificate.more_stops:
        happened.append((one.ended_at, f"{certificate.more_stops} more requests to end it are not shown"))
    happened.sort(key=lambda pair: pair[0])
    happened.append((one.ended_at, f"ended: {short(one)}"))
    return [f"{_clock(at)}  {at - one.started_at:+9.3f} s  {text}" for at, text in happened]


def _boot(boot: BootTiming) -> str:
    phases = ("queue", "exec", "interpreter", "imports", "dial", "ready")
    took = [(phase, getattr(boot, phase)) for phase in phases]
    known = ", ".join(f"{phase} {_seconds(seconds)}" for phase, seconds in took if seconds is not None)
    return known if boot.total is None else f"{known}; {_seconds(boot.total)} in all"


def _message(one: Handling) -> str:
    return f"{one.number}: {shown(one.actor)}.{shown(one.endpoint)}, from {shown(one.sender)}"


def _busy(one: ProcExit) -> list[str]:
    flight = one.certificate.flight
    if flight is None:
        return []
    lines = [
        f"message {_message(busy)}, for {_seconds(max(0.0, one.ended_at - busy.since))}" for busy in flight.in_progress
    ]
    if flight.unnoted:
        lines.append(f"{flight.unnoted} more that were not noted")
    if flight.booting is None and not lines:
        lines.append("no message: its actors waited")
    if flight.torn:
        lines.append(f"{flight.torn} entries of the record are garbled: it ended while it wrote them, or worse")
    return lines


def _memory(one: ProcExit) -> list[str]:
    flight = one.certificate.flight
    if flight is None or not flight.rss:
        return []
    sizes = [size for _, size in flight.rss]
    at, last = flight.rss[-1]
    return [
        f"{last / 2**20:.1f} MiB resident {_seconds(max(0.0, one.ended_at - at))} before the end; "
        f"{min(sizes) / 2**20:.1f} to {max(sizes) / 2**20:.1f} MiB in {len(sizes)} samples"
    ]


def _stream(name: str, head: Sequence[str], tail: Sequence[str]) -> list[str]:
    last = tail[-LAST:]
    # A tail that begins where the stream does has its first lines too.
    is_whole = list(tail[: len(head)]) == list(head)
    first = head[: len(tail) - len(last)] if is_whole else head
    return [
        *_section(f"{name}, first lines", map(shown, first)),
        *_section(f"{name}, last lines" if first else name, map(shown, last)),
    ]


def _differences(case: Case) -> list[str]:
    siblings = case.siblings
    if not siblings:
        return []
    one, others = case.exit, [sibling.exit for sibling in siblings]
    everyone = [one, *others]
    counted = Counter(short(other) for other in others)
    lines = [
        f"it: {short(one)}; {len(others)} others: {', '.join(f'{count} x {end}' for end, count in counted.most_common())}",
        f"lived {_seconds(one.ended_at - one.started_at)}; the others "
        f"{_seconds(median(other.ended_at - other.started_at for other in others))} in the median",
        f"{_place(one.started_at, [other.started_at for other in others])} of {len(everyone)} to start, "
        f"{_place(one.ended_at, [other.ended_at for other in others])} to end",
    ]
    beside = [sibling.beside for sibling in siblings if sibling.beside is not None]
    if case.beside is not None and beside:
        own, theirs = case.beside["env"], [sibling["env"] for sibling in beside]
        names = sorted(set(own).union(*theirs))
        unlike = [name for name in names if any(other.get(name) != own.get(name) for other in theirs)]
        # The runtime's own are another in every proc, and say nothing.
        unlike = [name for name in unlike if not name.startswith("PROCESSION_")]
        if unlike:
            lines.append(f"variables that are not the same everywhere (values are not kept): {', '.join(unlike)}")
        machines = {sibling["machine"] for sibling in beside} | {case.beside["machine"]}
        if len(machines) > 1:
            lines.append(f"on {case.beside['machine']}, of {', '.join(sorted(machines))}")
    return [shown(line) for line in lines]


def _place(own: float, others: Sequence[float]) -> str:
    number = 1 + sum(other < own for other in others)
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def left_behind(case: Case) -> list[str]:
    """What of it is still there now: its core, processes that carry its mark, its host's run directory."""
    lines = []
    if case.beside is not None:
        if case.beside["core"]:
            lines.append(f"core: {shown(case.beside['core'])}")
        if not os.path.exists(f"/proc/{case.beside['host_pid']}") and os.path.exists(case.beside["run_dir"]):
            lines.append(f"run directory of its host, which is gone: {case.beside['run_dir']}")
    lines += [f"process {pid}: {shown(name)}" for pid, name in marked(case.exit.launch_id)]
    return lines


def marked(launch_id: str) -> list[tuple[int, str]]:
    """The processes of this machine that carry the mark of a launch, as far as this user may look."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            marks = [one for one in environ if one.startswith(f"{LAUNCH_ID_ENV}=".encode())]
            if any(launch_id.encode() in one.partition(b"=")[2].split(b":") for one in marks):
                found.append((int(entry), Path(f"/proc/{entry}/comm").read_text(errors="replace").strip()))
        except OSError:
            continue  # it has just ended, or is not ours to look at
    return sorted(found)
