"""What the owner of a mesh of actors is told when one of them fails."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from procession.errors import NotPicklable

if TYPE_CHECKING:
    from procession._exits import ProcExit
    from procession._shape import Point


class Ending(NamedTuple):
    """How an actor failed, as it travels to those who watch it."""

    exception_type: str
    """With its module in front."""
    message: str
    traceback: str
    cause: MeshFailure | None
    """What it was told of its own meshes and did not handle."""


def packed(how: Ending) -> tuple[str, str, str, bytes | None, str]:
    """As it travels. Its cause goes as a pickle of its own, and as a text for where that cannot be made or read."""
    from procession import _pickle

    cause = how.cause
    if cause is None:
        return how.exception_type, how.message, how.traceback, None, ""
    whole = None
    with suppress(NotPicklable):  # a class that only its own process has
        whole = _pickle.dumps_whole(cause)
    return how.exception_type, how.message, how.traceback, whole, cause.report()


def unpacked(given: tuple[str, str, str, bytes | None, str]) -> Ending:
    """The inverse of `packed`; without the cause, and with its report at the end of the traceback, where it cannot be had."""
    from procession import _pickle

    exception_type, message, traceback, whole, report = given
    cause = None
    if whole is not None:
        with suppress(Exception):  # whatever its class raises while it is imported
            cause = _pickle.loads_whole(whole)
    if cause is None and report:
        traceback += _because(report)
    return Ending(exception_type, message, traceback, cause)


def _because(report: str) -> str:
    lines = ["That was because it did not handle another failure:", *(f"  {line}" for line in report.splitlines())]
    return "\n".join(lines)


def ending_of(error: BaseException, cause: MeshFailure | None = None) -> Ending:
    """What is told of an actor that ended with `error`."""
    from procession._answer import format_error, summary

    kind = type(error)
    return Ending(f"{kind.__module__}.{kind.__qualname__}", summary(error), format_error(error), cause)


class MeshFailure:
    """One actor of a mesh that failed, by itself or with its proc. `str()` is one line, `report()` says all."""

    def __init__(
        self,
        mesh: Any,
        mesh_name: str,
        rank: int,
        kind: Literal["actor", "proc"],
        message: str,
        *,
        exception_type: str | None = None,
        traceback: str = "",
        exit: ProcExit | None = None,
        cause: MeshFailure | None = None,
    ) -> None:
        self.mesh = mesh
        """The `ActorMesh` as it was spawned. Slices of it without the rank that failed go on."""
        self.mesh_name = mesh_name
        """The name that it was spawned with."""
        self.rank = rank
        """Which one: its rank in `mesh`."""
        self.kind = kind
        """Whether the actor failed, or its proc ended."""
        self.message = message
        """Why, in one sentence."""
        self.exception_type = exception_type
        """Of a failed actor, the type of what it raised, with its module: `builtins.ValueError`."""
        self.traceback = traceback
        """Of a failed actor, where it raised that."""
        self.exit = exit
        """Of an ended proc, how it did, as far as that is known here."""
        self.cause = cause
        """Of an actor that failed because it did not handle a failure: that one."""

    @property
    def actor_id(self) -> str:
        """The id of the actor that failed."""
        return str(self.mesh._refs[self.rank].actor_id)

    @property
    def proc_id(self) -> str:
        """The id of its proc."""
        return self.actor_id.rpartition("/")[0]

    @property
    def point(self) -> Point:
        """Its place in `mesh`."""
        from procession._shape import Point

        return Point(self.rank, self.mesh.extent)

    @property
    def exit_kind(self) -> str | None:
        """Of an ended proc: "exited", "signaled", "failed" or "lost"."""
        return None if self.exit is None else self.exit.kind

    @property
    def exit_code(self) -> int | None:
        """Of an ended proc, the code that it exited with."""
        return None if self.exit is None else self.exit.exit_code

    @property
    def signal(self) -> int | None:
        """Of an ended proc, the number of the signal that ended it."""
        return None if self.exit is None else self.exit.signal

    @property
    def verdict(self) -> str | None:
        """Of an ended proc, why it ended."""
        return None if self.exit is None else self.exit.verdict

    def report(self) -> str:
        """All that is known, for people, on several lines."""
        lines = [str(self)]
        lines += [f"  {line}" for line in self.traceback.splitlines()]
        if self.exit is not None:
            lines += [f"  stderr: {line}" for line in self.exit.stderr_tail[-20:]]
        if self.cause is not None:
            lines.append(_because(self.cause.report()))
        return "\n".join(lines)

    def __str__(self) -> str:
        place = f"{self.mesh._class.__qualname__} {self.mesh_name}{self.point if self.point else ''}"
        return f"actor {place} ({self.actor_id}) has failed: {self.message}"

    def __repr__(self) -> str:
        return f"<MeshFailure of {self.mesh_name}, rank {self.rank}: {self.message}>"


def unhandled_fault_hook(failure: MeshFailure) -> None:
    """Called for each failure that no actor has handled, in the process that spawned the mesh; this one ends the process.

    Replace it to decide otherwise: `procession.actor.unhandled_fault_hook = my_hook`. What returns has handled the
    failure. What raises ends the process: the failure's report goes to stderr, the main thread gets a KeyboardInterrupt,
    exit handlers run, and the exit code is 1, or that of the SystemExit that was raised. A launched proc, whose main thread is an
    actor's, ends at once. In a notebook, or at a prompt, what runs there at that moment is interrupted, and no more.
    """
    sys.exit(1)
