"""What witnesses say about the end of a launch: frozen records, as plain as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, Literal

Rung = Literal["agent", "terminate", "kill"]
VERDICTS = Literal[
    "clean",
    "app error",
    "crash",
    "killed",
    "out of memory",
    "stopped",
    "boot failed",
    "preempted",
    "time limit",
    "requeued",
    "evicted",
    "deleted",
    "launcher failed",
    "host lost",
    "unknown",
]
CLASSES = Literal["clean", "app", "oom", "stopped", "boot", "evicted", "launcher", "lost"]


@dataclass(frozen=True)
class Witness:
    """What one of those who saw something says. `at` is in seconds since the epoch."""

    source: str
    """The kernel (as parent, by pidfd), a control group, the launcher, the connection, the proc, or the host."""
    at: float
    says: str


@dataclass(frozen=True)
class StopIntent:
    """A request of ours to end the proc."""

    by: str
    at: float
    why: str
    rung: Rung
    """Where on the ladder it began."""


@dataclass(frozen=True)
class BootTiming:
    """Seconds that each phase of a boot took; None for one that is not over, or that nobody measured."""

    queue: float | None = None
    """From the request until the launcher was asked."""
    exec: float | None = None
    """Until the program ran, as far as the launcher tells."""
    interpreter: float | None = None
    """Until the first line of our runtime in it."""
    imports: float | None = None
    """Until the runtime was loaded; None for programs that have it built in."""
    dial: float | None = None
    """Until the handshake with the host was done."""
    ready: float | None = None
    """Until the proc was set up and had called back."""

    @property
    def total(self) -> float | None:
        """All of them; None before readiness."""
        known = [took for took in asdict(self).values() if took is not None]
        return None if self.ready is None else sum(known)


@dataclass(frozen=True)
class Handling:
    """A message in the hands of an actor."""

    actor: str
    endpoint: str
    sender: str
    number: int
    """Among all messages of the proc, from 1 on."""
    since: float


@dataclass(frozen=True)
class FlightRecord:
    """What a proc had noted about itself until its end. It was written by the proc: claims, not facts."""

    version: str = ""
    pid: int = 0
    booting: tuple[str, float] | None = None
    """The phase of its boot, and since when; None once it was ready."""
    messages: int = 0
    """How many messages its actors had begun to handle."""
    in_progress: tuple[Handling, ...] = ()
    last_done: Handling | None = None
    unnoted: int = 0
    """How many more were in progress than could be noted."""
    said: tuple[tuple[float, str], ...] = ()
    """The last things that the runtime in it said, each with its time."""
    rss: tuple[tuple[float, int], ...] = ()
    """Resident memory in bytes, sampled while messages are handled."""
    torn: int = 0
    """Entries that it was in the middle of writing, or left garbled."""


@dataclass(frozen=True)
class ActorFailed:
    """An actor of the proc that ended by a failure."""

    actor: str
    at: float
    failure: str


@dataclass(frozen=True)
class Certificate:
    """Why a launch ended, and who says so. Times are seconds since the epoch."""

    verdict: VERDICTS = "unknown"
    class_: CLASSES = "lost"
    """Whom it is to be laid to; `class` in `as_dict`."""
    phase: str | None = None
    """Of a boot that failed: how far it had come."""
    evidence: tuple[Witness, ...] = ()
    """In the order in which it was heard."""
    missing: tuple[str, ...] = ()
    """What nobody has seen, the most important first."""
    contradictions: tuple[str, ...] = ()
    """Where witnesses disagree, and who is believed."""
    stops: tuple[StopIntent, ...] = ()
    more_stops: int = 0
    """How many more requests to stop there were than are kept."""
    rungs: tuple[tuple[Rung, float], ...] = ()
    """When each rung of the ladder was first reached."""
    boot: BootTiming = field(default_factory=BootTiming)
    flight: FlightRecord | None = None
    """None when there was nothing to read; `missing` says why."""
    actors_failed: tuple[ActorFailed, ...] = ()
    stdout_head: tuple[str, ...] = ()
    stderr_head: tuple[str, ...] = ()
    launched_in: str | None = None
    """The proc that its launcher has to itself."""

    def as_dict(self) -> dict[str, Any]:
        """Dicts, lists, strings, numbers and None only, as JSON has them."""
        plain: dict[str, Any] = _plain(asdict(self))
        return {key.rstrip("_"): value for key, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


@cache
def names_of(kind: type) -> frozenset[str]:
    """The names of its fields, asked for once: who waits for an exit waits until it is built."""
    return frozenset(one.name for one in fields(kind))


def _made(kind: type, given: Mapping[str, Any]) -> Any:
    """Of the fields that it knows; a newer runtime may give more."""
    names = names_of(kind)
    return kind(**(given if names.issuperset(given) else {key: given[key] for key in names if key in given}))


def boot_from(given: Mapping[str, Any]) -> BootTiming:
    made: BootTiming = _made(BootTiming, given)
    return made


_MANY = (("evidence", Witness), ("stops", StopIntent), ("actors_failed", ActorFailed))
_TEXTS = ("missing", "contradictions", "stdout_head", "stderr_head", "rungs")


def certificate_from(given: Mapping[str, Any]) -> Certificate:
    known = dict(given)
    known["class_"] = known.pop("class")
    for name, kind in _MANY:
        known[name] = tuple([_made(kind, one) for one in known[name]])
    for name in _TEXTS:
        known[name] = tuple(known[name])
    known["boot"] = boot_from(known["boot"])
    if known["flight"] is not None:
        known["flight"] = _flight(known["flight"])
    made: Certificate = _made(Certificate, known)
    return made


def _flight(given: Mapping[str, Any]) -> FlightRecord:
    last = given["last_done"]
    known = {
        **given,
        "in_progress": tuple(_made(Handling, one) for one in given["in_progress"]),
        "last_done": None if last is None else _made(Handling, last),
        "said": tuple(given["said"]),
        "rss": tuple(given["rss"]),
    }
    made: FlightRecord = _made(FlightRecord, known)
    return made
