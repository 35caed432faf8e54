"""Launchers made of launchers, and one that is a recording."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from procession import _native, _validate
from procession.errors import Unsupported

if TYPE_CHECKING:
    from procession._host_mesh import HostMesh
    from procession._launcher import AnyLauncher
    from procession._native import Launcher
    from procession._proc_mesh import ProcMesh
    from procession._procs import Slot


class MadeHere:
    """A launcher that this process makes itself, of others or of nothing."""

    without_output: str | None = None
    """Who does not hand over the output of procs; None: it is handed over."""
    starts_a_process: bool = False
    """Whether it has a process to itself, which its first launch starts."""

    def native(self) -> Launcher | None:
        raise NotImplementedError

    def described(self, on: HostMesh | None = None) -> dict[str, Any] | None:
        """What a host has to know of it, as plain data."""
        raise Unsupported(f"{self!r} launches for the client that has made it, and for no other process")

    def process(self) -> ProcMesh:
        raise Unsupported(f"{self!r} has no process of its own whose output could be read")

    def check(self, slots: Sequence[Slot]) -> None:
        """Refuses what it cannot do."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{self!r} belongs to the process that has made it; make one where it is needed")


class Combination(MadeHere):
    """What the launchers have in common that are made of others, each anything that `spawn_procs(launcher=...)` takes.

    What it does for a proc it does in the host, beside the launchers that it is made of, which get all that is asked of that
    proc. One object is one launcher, however often it is used: what it counts, it counts over all of its spawns from one process.
    """

    kind: ClassVar[str]

    def __init__(self, parts: Sequence[Any], given: dict[str, Any]) -> None:
        from procession._launcher import resolve

        self.parts: list[AnyLauncher] = [resolve(part) for part in parts]
        self._given = given
        self._lock = threading.Lock()
        self._made: tuple[list[int | None], Launcher] | None = None

        self.without_output = next((part.without_output for part in self.parts if part.without_output), None)
        self.starts_a_process = any(part.starts_a_process for part in self.parts)

    def native(self) -> Launcher:
        parts = [part.native() for part in self.parts]
        # That of a launcher class is another one when its process is another one.
        known = [None if part is None else part.identity for part in parts]
        with self._lock:
            if self._made is None or self._made[0] != known:
                self._made = known, _make(self.kind, parts, self._given)
            return self._made[1]

    def described(self, on: HostMesh | None = None) -> dict[str, Any]:
        """What a host has to know of it, as plain data."""
        return {"combined": self.kind, "of": [part.described(on) for part in self.parts], "given": dict(self._given)}

    def process(self) -> ProcMesh:
        """That of the only one of them that has one."""
        with_process = [part for part in self.parts if part.starts_a_process]
        if len(with_process) != 1:
            raise Unsupported(f"{self!r} has no process of its own; read what the launchers write that it is made of")
        return with_process[0].process()

    def check(self, slots: Sequence[Slot]) -> None:
        """Refuses what one of them would refuse."""
        from procession._zygote import Zygote

        for part in self.parts:
            if isinstance(part, Zygote) and part.fit_for(slots) is not part:
                rule = "what a fork cannot be given goes around a Zygote, which nothing that is made of one can do"
                raise Unsupported(f"{self!r}: {rule}; combine the launcher that the Zygote starts its process by")
            part.check(slots)

    def dry_run(self, bootstrap_command: Any = None, **options: Any) -> str:
        """What it would ask for to launch a proc with these arguments of `spawn_procs`; see `launchers.dry_run`."""
        from procession._dry_run import dry_run

        return dry_run(self, bootstrap_command, **options)

    def leaves(self) -> list[AnyLauncher]:
        """The launchers that it is made of in the end."""
        return [leaf for part in self.parts for leaf in leaves_of(part)]

    def __repr__(self) -> str:
        given = [repr(part) for part in self.parts]
        given += [f"{name}={value!r}" for name, value in self._given.items()]
        return f"launchers.{type(self).__name__}({', '.join(given)})"


def leaves_of(launcher: AnyLauncher) -> list[AnyLauncher]:
    """Itself, or what it is made of."""
    return launcher.leaves() if isinstance(launcher, Combination) else [launcher]


class Throttle(Combination):
    """Bounds how many launches of `launcher` go on at the same time, and how many begin in a second.

    launcher: anything that `spawn_procs(launcher=...)` takes.
    at_once: how many; None for any number. A launch goes on until the launcher has answered it, and where that tells when a proc
        was started, such as Docker, until then.
    per_second: how many begin in a second, evenly spread; None for as many as come.

    The others wait in their order, and are never started when they are stopped before. What waits has the `ack_timeout` of
    its spawn to be launched: raise that for large fleets.
    """

    kind = "throttle"

    def __init__(self, launcher: Any, *, at_once: int | None = None, per_second: float | None = None) -> None:
        if at_once is None and per_second is None:
            _validate.refuse(
                "at_once", at_once, "give at_once, per_second, or both: without, there is nothing to bound"
            )
        if at_once is not None:
            _validate.count("at_once", at_once, least=1)
        if per_second is not None:
            rule = "has to be a number of launches above 0, such as 20.0"
            per_second = _validate.number("per_second", per_second, rule)
            if not 0 < per_second < math.inf:
                _validate.refuse("per_second", per_second, rule)
        super().__init__([launcher], {"at_once": at_once, "per_second": per_second})


class Retry(Combination):
    """Tries again what `launcher` could not start.

    launcher: anything that `spawn_procs(launcher=...)` takes.
    times: how many further attempts a launch gets.
    pause: seconds before the first of them; each later one waits twice as long as the one before, a minute at most, and up to a
        half of each pause is left to chance, so that a crowd does not come back at the same moment.

    Only what failed before anything was started: what the launcher refuses, and what one that tells when a proc was started
    (such as Docker) says to have failed before it told that. Of a launcher written in Python that is what fails before its
    `launch` runs; what that raises is an exit, since something may have been started. A proc that was started is launched again
    by restart policies alone. Attempts count into the `ack_timeout` of the spawn until the launcher has answered one.
    """

    kind = "retry"

    def __init__(self, launcher: Any, *, times: int = 3, pause: float = 0.5) -> None:
        _validate.count("times", times, most=1000)
        super().__init__([launcher], {"times": times, "pause": _validate.seconds("pause", pause)})


class Fallback(Combination):
    """The first of these launchers that can take a launch takes it; stops go to the one that has the proc.

    launchers: two or more, each anything that `spawn_procs(launcher=...)` takes, in the order in which they are asked.

    One cannot take a launch that it refuses, or that has failed there before anything was started, see `Retry`. All of them have
    to reach back in the same way (`dial_back`), or the spawn raises InvalidArgument: a proc is told how before it is known who takes
    it. What one of them cannot do is refused for all.
    """

    kind = "fallback"

    def __init__(self, *launchers: Any) -> None:
        if len(launchers) < 2:
            _validate.refuse("launchers", launchers, "give two at least: the first, and what stands in for it")
        super().__init__(launchers, {})


class Chaos(Combination):
    """Has launches of `launcher` fail, be late, or end early, on purpose, for tests of what copes with that.

    launcher: anything that `spawn_procs(launcher=...)` takes.
    seed: what happens to a launch depends on this, the name of its proc, and how often one of that name was launched: it is the same
        in each run, whatever else is launched.
    launch_fails: the share of launches that fail, from 0.0 to 1.0.
    exits_early: the share of procs that are killed, from 0.0 to 1.0, at some time within `early_within` seconds of their start.
    delay: seconds that a launch waits at most before it goes on.

    What was injected says so, with the seed: the reason of a launch that fails, and for a proc that was killed the log, and
    the last line of its stderr where the launcher hands that over.
    """

    kind = "chaos"

    def __init__(
        self,
        launcher: Any,
        *,
        seed: int,
        launch_fails: float = 0.0,
        exits_early: float = 0.0,
        early_within: float = 1.0,
        delay: float = 0.0,
    ) -> None:
        given: dict[str, Any] = {"seed": _validate.count("seed", seed, most=2**64 - 1)}
        rule = "has to be a share from 0.0 to 1.0"
        for name, share in {"launch_fails": launch_fails, "exits_early": exits_early}.items():
            given[name] = _validate.number(name, share, rule)
            if not 0.0 <= given[name] <= 1.0:
                _validate.refuse(name, share, rule)
        given["early_within"] = _validate.seconds("early_within", early_within)
        given["delay"] = _validate.seconds("delay", delay)
        super().__init__([launcher], given)


class Record(Combination):
    """Writes down what `launcher` is asked and what it answers, for a `Replay` without it.

    launcher: anything that `spawn_procs(launcher=...)` takes.
    file: a path, which is written anew by the first launch; OSError there where it cannot be.

    It is JSON, an object a line: each launch (its options without the payload, and of its environment the names alone), its
    answer, what was reported, each piece of output and the exit, with the seconds since the launch. Arguments are in it. Output
    that a launcher written in Python feeds to the log channel is not.
    """

    kind = "record"

    def __init__(self, launcher: Any, file: str | os.PathLike[str]) -> None:
        super().__init__([launcher], {"file": _file(file)})


class Replay(Combination):
    """Answers as a launcher did while it was recorded, without that launcher and without any process.

    file: what a `Record` has written. OSError where it cannot be read, ValueError with the line where it is none.

    A launch is the recorded one of the same proc name, the second of a name the second: it is answered, writes, and ends as that
    one did, after the same time. A stop has it end as it did after such a stop then; what was not stopped then ends by the signal,
    at once. A launch that was not recorded fails, and is named. Nothing calls back: spawn with `readiness="none"`.
    """

    kind = "replay"

    def __init__(self, file: str | os.PathLike[str]) -> None:
        super().__init__([], {"file": _file(file)})


def _file(file: str | os.PathLike[str]) -> str:
    # Absolute, because a host that opens it may be elsewhere in the same files.
    return os.path.abspath(_validate.text("file", os.fspath(file)))


def _make(kind: str, parts: Sequence[Launcher | None], given: dict[str, Any]) -> Launcher:
    if kind == "fallback":
        return _native.fallback(list(parts))
    make: dict[str, Callable[..., Launcher]] = {
        "throttle": _native.throttle,
        "retry": _native.retry,
        "chaos": _native.chaos,
        "record": _native.record,
        "replay": _native.replay,
    }
    return make[kind](*parts, **given)


MOST_COMBINATIONS = 64
"""That are remembered; of one that is forgotten, only what it counts is counted anew."""
_known: dict[str, tuple[list[int | None], Launcher]] = {}
_known_lock = threading.Lock()


def combination_from(described: dict[str, Any]) -> Launcher:
    """In the process of a host: the launcher that was described; one for all that describe the same."""
    from procession._launcher import native_from

    parts = [None if part is None else native_from(part) for part in described["of"]]
    ids = [None if part is None else part.identity for part in parts]
    key = json.dumps(described, sort_keys=True)
    with _known_lock:
        found = _known.pop(key, None)
        if found is None or found[0] != ids:
            found = ids, _make(described["combined"], parts, described["given"])
        _known[key] = found  # as the latest
        while len(_known) > MOST_COMBINATIONS:
            del _known[next(iter(_known))]
        return found[1]
