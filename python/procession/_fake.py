"""A launcher of procs that are no processes, and the clock that they live by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from procession import _native, _validate
from procession._combinators import MadeHere
from procession._runtime import runtime

if TYPE_CHECKING:
    from types import TracebackType

    from procession._future import Future
    from procession._native import Launcher
    from procession._procs import Slot

_Step = tuple[str, float, float, str]


@dataclass(frozen=True)
class Boots:
    """It becomes ready, `after` seconds."""

    after: float = 0.0

    def _step(self) -> _Step:
        return "boots", self.after, 0.0, ""


@dataclass(frozen=True)
class Prints:
    """It writes `text`, to stdout or stderr; lines end where the text says so."""

    text: str
    after: float = 0.0
    to_stderr: bool = False

    def _step(self) -> _Step:
        return "prints", self.after, float(self.to_stderr), self.text


@dataclass(frozen=True)
class Progresses:
    """Its launcher tells how far its launch is, which restarts its ready deadline."""

    text: str
    after: float = 0.0

    def _step(self) -> _Step:
        return "progresses", self.after, 0.0, self.text


@dataclass(frozen=True)
class FailsToLaunch:
    """Its launch fails, for the reason `why`. Only as the first step."""

    why: str
    after: float = 0.0

    def _step(self) -> _Step:
        return "fails_to_launch", self.after, 0.0, self.why


@dataclass(frozen=True)
class Unreachable:
    """Its launcher cannot ask about it for `seconds`, nor stop it: it is unknown. Later steps come after that."""

    seconds: float
    why: str = "the engine does not answer"
    after: float = 0.0

    def _step(self) -> _Step:
        return "unreachable", self.after, self.seconds, self.why


@dataclass(frozen=True)
class Exits:
    """It returns `code`, from 0 to 255."""

    code: int
    after: float = 0.0

    def _step(self) -> _Step:
        return "exits", self.after, float(self.code), ""


@dataclass(frozen=True)
class Signaled:
    """That signal ends it."""

    signal: int
    after: float = 0.0

    def _step(self) -> _Step:
        return "signaled", self.after, float(self.signal), ""


@dataclass(frozen=True)
class Oom:
    """The kernel kills it for want of memory: SIGKILL, and `oom` of its exit is True."""

    after: float = 0.0

    def _step(self) -> _Step:
        return "oom", self.after, 0.0, ""


@dataclass(frozen=True)
class WhenTerminated:
    """What SIGTERM does, wherever this stands in a script: `Exits(0, after=2.0)` and the like, or None for nothing at all.

    Without it a proc ends by the signal, at once.
    """

    end: Exits | Signaled | Oom | None


Step = Boots | Prints | Progresses | FailsToLaunch | Unreachable | Exits | Signaled | Oom | WhenTerminated
Script = Sequence[Step]
"""What one launch does; each step comes `after` seconds after the one before it. A proc that has no end lives until it is stopped."""


class FakeLauncher(MadeHere):
    """Launches procs that are no processes, and do what a script says: ready, output, ends, what is unreachable.

    script: what procs do, by rank or by name: a list of steps, or a list of such lists, one for each launch and the last for all
        later ones. Or a function that is asked for each proc of a spawn, with its name and rank, and gives either.
    default: the same for all that `script` says nothing of; without it they boot at once.

    All else is the host's own: statuses, events, deadlines, stops, restarts, exits. In `virtual_time` minutes of theirs take
    no time. They host no actors, and calls to actors there wait for ever.
    """

    def __init__(
        self,
        script: Mapping[int | str, Any] | Callable[[str, int], Any] | None = None,
        default: Any = (Boots(),),
    ) -> None:
        if script is not None and not callable(script) and not isinstance(script, Mapping):
            raise TypeError(f"script = {script!r}: has to be a dict by rank or name, or a function of name and rank")
        self._script = script
        self._default = default
        _lives("default", default)
        if isinstance(script, Mapping):
            for key, value in script.items():
                _lives(f"script[{key!r}]", value)
        self._fake = _native.FakeLauncher()

    def launches(self, name: str) -> int:
        """How many launches of the proc of that name were asked for, `"workers-3"`."""
        return self._fake.launches(name)

    def native(self) -> Launcher:
        return self._fake.launcher()

    def check(self, slots: Sequence[Slot]) -> None:
        """Looks up what each of them is to do."""
        for slot in slots:
            self._fake.plays(slot.name, _lives(f"the script of {slot.name}", self._planned(slot)))

    def _planned(self, slot: Slot) -> Any:
        script = self._script
        if script is None:
            return self._default
        by_rank = script if callable(script) else lambda name, rank: script.get(name, script.get(rank))
        found = by_rank(slot.name, slot.rank)
        return self._default if found is None else found

    def __repr__(self) -> str:
        return "testing.FakeLauncher(...)"


def _lives(field: str, value: Any) -> list[tuple[list[_Step], _Step | None]]:
    """One script or several, as the native launcher takes them."""
    if not isinstance(value, Sequence):
        raise TypeError(f"{field} = {value!r}: has to be a list of steps, or of one such list for each launch")
    scripts = list(value) if value and all(isinstance(one, Sequence) for one in value) else [value]
    return [_one(field, script) for script in scripts]


def _one(field: str, script: Script) -> tuple[list[_Step], _Step | None]:
    steps, terminated = [], None
    for number, step in enumerate(script):
        if not isinstance(step, Step):
            raise TypeError(
                f"{field}: {step!r} is no step of a script; take Boots, Exits and the others of procession.testing"
            )
        if isinstance(step, WhenTerminated):
            terminated = ("ignores", 0.0, 0.0, "") if step.end is None else _checked(field, step.end)
            continue
        if isinstance(step, FailsToLaunch) and number > 0:
            _validate.refuse(field, step, "only the first step of a script can be that the launch fails")
        steps.append(_checked(field, step))
    return steps, terminated


def _checked(field: str, step: Any) -> _Step:
    _validate.seconds(f"{field}: after", step.after)
    if isinstance(step, Exits):
        _validate.count(f"{field}: code", step.code, most=255)
    if isinstance(step, Signaled):
        _validate.count(f"{field}: signal", step.signal, least=1, most=64)
    if isinstance(step, Unreachable):
        _validate.seconds(f"{field}: seconds", step.seconds)
    made: _Step = step._step()
    return made


class VirtualTime:
    """The clock of this process's host, which does not go by itself; see `virtual_time`."""

    def __init__(self) -> None:
        self._time: _native.VirtualTime | None = None
        self._elapsed = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds that have passed since it began, until it ended."""
        return self._elapsed if self._time is None else self._time.elapsed()

    def advance(self, seconds: float) -> Future[None]:
        """Lets so many seconds pass, with all that is due in them, one after the other; done then."""
        from procession._future import when_done

        if self._time is None:
            raise RuntimeError(
                "virtual time has not begun, or has ended; advance it inside of `with testing.virtual_time() as time:`"
            )
        waiter = self._time.advance(_validate.seconds("seconds", seconds))
        return when_done(waiter, waiter.result)

    def __enter__(self) -> Self:
        runtime()
        self._time = _native.VirtualTime()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._time is not None:
            self._elapsed = self._time.elapsed()
            time, self._time = self._time, None
            time.end().wait(None)


def virtual_time() -> VirtualTime:
    """Stops the clock that this process's host goes by, for a test: `with virtual_time() as time: ...`.

    Deadlines, stops, back-off and limits of restarts, and the times in statuses and exits go by it. It passes while this thread waits
    for something of this package (`.get()`, `wait`), in leaps to whatever is due next, and with `time.advance(seconds)`; in between
    it stands still. Timeouts of waits (`.get(timeout=30)`) are seconds of the wall clock, as ever. Only to launch by a `FakeLauncher`
    or a `Replay`: a process has a time of its own, and what is started or stopped meanwhile is given up after moments.

    What was launched in it and lives at its end is killed. InvalidArgument where a proc is being started or stopped when it begins,
    RuntimeError where it has begun already.
    """
    return VirtualTime()
