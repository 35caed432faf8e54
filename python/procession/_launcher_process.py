"""The process that a launcher class has to itself: started for its first launch, and again when it has ended."""

from __future__ import annotations

import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from procession import _pickle
from procession._context import outside_of_actors
from procession._procs import launching

if TYPE_CHECKING:
    from procession._actor_mesh import ActorMesh
    from procession._host_mesh import HostMesh
    from procession._proc_mesh import ProcMesh
    from procession._procs import Events
    from procession.launch import ProcLauncher

_names = count(1)


class LauncherProcess:
    """One for each launcher class and host; the process behind it changes."""

    def __init__(self, cls: type[ProcLauncher], on: HostMesh | None) -> None:
        self._cls = cls
        self._on = on
        self._lost: deque[float] = deque()
        """When processes were found to have ended, on the monotonic clock, within `restart_seconds`."""
        self._last_end = ""
        self._described: dict[str, Any] | None = None
        self.refusal: str | None = None
        """Why it was not started again."""
        self.procs: ProcMesh
        self.mesh: ActorMesh[Any]
        self._life: Events

    def described(self) -> dict[str, Any]:
        """The launcher for the next launch; one that refuses it when the process has ended too often."""
        from procession._launcher import describe

        if self._described is not None:
            if self._is_usable():
                return self._described
            self._described = None
        cls, now = self._cls, time.monotonic()
        while self._lost and self._lost[0] < now - cls.restart_seconds:
            self._lost.popleft()
        self.refusal = None
        if len(self._lost) > cls.max_restarts:
            self.refusal = (
                f"RestartLimit: its process has ended {len(self._lost)} times within {cls.restart_seconds:g} s, the last "
                f"time so: {self._last_end}; mend it, or raise {cls.__qualname__}.max_restarts"
            )
            return describe(self.mesh, own_proc=True, refusal=self.refusal)
        self._start()
        self._described = describe(self.mesh, own_proc=True)
        return self._described

    def _start(self) -> None:
        from procession._host_mesh import this_host, unlike_others

        _pickle.dumps(self._cls)  # what cannot be sent there is refused before anything is started
        name = _slug(self._cls.__name__)
        # It serves the whole process, and is not its that happens to launch first.
        with outside_of_actors():
            host = self._on or this_host()
            self.procs = host.spawn_procs(name=unlike_others(f"launcher-{name}", next(_names)))
            self._life = self.procs._procs.subscribe([0], output=False, lifecycle=True)
            spawned: Any = self.procs._spawn(name, self._cls, (), {}, is_watched=False)
            self.mesh = spawned

    def _is_usable(self) -> bool:
        """Whether process and actor live, as far as is known. What lives of them otherwise is stopped."""
        ended = self.procs.exits().item()
        if ended is not None:
            self._note_end(ended.verdict)
            return False
        built = self.mesh.initialized
        if built.done() and built.exception() is not None:
            self.procs.stop("its launcher could not be built")
            return False
        actor_id = self.mesh._refs[0].actor_id
        for event in self._life.drain():
            if event["kind"] == "actor_ended" and event["actor"] == actor_id:
                self.procs.stop("its launcher has ended")
                self._note_end(event["failure"] or f"actor {actor_id} was stopped")
                return False
        return True

    def _note_end(self, how: str) -> None:
        self._lost.append(time.monotonic())
        self._last_end = how


_all: dict[tuple[type, str | None], LauncherProcess] = {}


def launcher_of(cls: type[ProcLauncher], on: HostMesh | None = None) -> dict[str, Any]:
    """For the next launch through that class, as plain data: on the host of this process, or on that one."""
    key = cls, None if on is None else on._nodes()[0]
    with launching:
        return _all.setdefault(key, LauncherProcess(cls, on)).described()


def process_of(cls: type[ProcLauncher]) -> LauncherProcess | None:
    """On the host of this process; None before its first launch there."""
    return _all.get((cls, None))


def _slug(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in text)[:60].strip("-") or "launcher"
