"""Every error that this package raises on purpose. Each says what was wrong, with which value, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from procession._cancelled import CallCancelled

__all__ = [
    "ActorAborted",
    "ActorError",
    "AlreadyExists",
    "CallCancelled",
    "CallTimeout",
    "InvalidArgument",
    "LaunchFailed",
    "LauncherLost",
    "LauncherUnavailable",
    "LimitExceeded",
    "NotFound",
    "NotPicklable",
    "RemoteException",
    "SourceChanged",
    "SupervisionError",
    "Unreachable",
    "Unsupported",
    "VersionMismatch",
    "WrongContext",
]


class InvalidArgument(ValueError):
    """An argument that was refused before anything started."""

    def __init__(self, field: str, value: str, rule: str) -> None:
        super().__init__(field, value, rule)
        self.field = field
        """The argument as the caller spells it: `name`, `env["A=B"]`, `args[3]`."""
        self.value = value
        """A short summary of what was given; never a value of the environment."""
        self.rule = rule
        """What it has to be."""

    def __str__(self) -> str:
        return f"{self.field} = {self.value}: {self.rule}"


class LimitExceeded(InvalidArgument):
    """A number above what is supported."""


class ActorAborted(RuntimeError):
    """What an actor has ended with that called `abort` of its instance; its text is the reason."""


class AlreadyExists(RuntimeError):
    """A live proc has that name."""

    def __init__(self, name: str, incarnation: int) -> None:
        super().__init__(name, incarnation)
        self.name = name
        self.incarnation = incarnation

    def __str__(self) -> str:
        return f"proc {self.name!r} is alive (incarnation {self.incarnation}): stop it first, or take another name"


class Unsupported(NotImplementedError):
    """Something that this version cannot do. Nothing that is asked for is ignored in silence."""


class NotPicklable(TypeError):
    """A value that cannot be sent to another process."""


class WrongContext(RuntimeError):
    """A call that blocks, where blocking would stop an event loop; or one that needs an event loop, without one."""


class NotFound(LookupError):
    """Nothing of that name is known."""


class LaunchFailed(RuntimeError):
    """A proc that ended, or missed its deadline, before it was ready."""

    def __init__(self, proc_id: str, rank: int, reason: str) -> None:
        super().__init__(proc_id, rank, reason)
        self.proc_id = proc_id
        self.rank = rank
        self.reason = reason

    def __str__(self) -> str:
        return f"rank {self.rank}: {self.reason}"


class LauncherUnavailable(RuntimeError):
    """A launcher that could not be started, with the traceback of why."""


class LauncherLost(RuntimeError):
    """A launcher that ended before it had done what it was asked. What it had launched ends too: see the exits."""


class Unreachable(RuntimeError):
    """What a proc runs on cannot be asked, for the reason given: `Launcher.wait` raises it, and its proc is unknown, never dead."""


class SourceChanged(RuntimeError):
    """The module of an actor's class, or of one that it derives from, is another file where the actor should live than where it was spawned."""

    def __init__(self, module: str, theirs: str, ours: str) -> None:
        super().__init__(module, theirs, ours)
        self.module = module
        self.theirs = theirs
        """What the process that spawns has imported."""
        self.ours = ours
        """What the proc has."""

    def __str__(self) -> str:
        return (
            f"module {self.module} is not the one that the caller has: it has imported {self.theirs}; this proc has imported "
            f"{self.ours}. Start the caller anew, or launch procs anew after importlib.reload there, so that both run the "
            "same; PROCESSION_CHANGED_SOURCES=warn in the caller's environment makes this a line on the proc's stderr"
        )


class VersionMismatch(RuntimeError):
    """Two parts that were made for different versions of this package, and cannot work together."""


class CallTimeout(TimeoutError):
    """Some actors had not answered at the deadline that `endpoint.options(timeout=…)` set. Their part is cancelled."""

    def __init__(self, endpoint: str, seconds: float, ranks: list[int], actors: int) -> None:
        who = "" if actors == 1 else f" by {_ranks(ranks)} of {actors}"
        super().__init__(
            f"{endpoint}() was not answered{who} within {seconds:g} s, and is cancelled: give it more time by "
            "options(timeout=…), or see what the actor is busy with"
        )
        self.endpoint = endpoint
        """As `mesh.method`."""
        self.seconds = seconds
        self.ranks = ranks
        """Who has not answered, by rank in the mesh that was called."""
        self.actors = actors
        """How many were called."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.endpoint, self.seconds, self.ranks, self.actors)


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:10])) + (", …" if len(ranks) > 10 else "")
    return f"rank {shown}" if len(ranks) == 1 else f"{len(ranks)} ranks ({shown})"


def __getattr__(name: str) -> Any:
    if name != "CallCancelled":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from procession._cancelled import CallCancelled

    return CallCancelled


class SupervisionError(RuntimeError):
    """Nobody can answer any more: the actor, its proc or the connection to it is gone, or the answer was dropped."""

    endpoint: str | None = None
    """The endpoint that was called, as `mesh.method`; None for a port."""


class RemoteException(Exception):
    """Stands for an exception whose own type could not be rebuilt here."""

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        """The qualified name of its type."""
        self.text = text
        """Its message."""

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


class ActorError(Exception):
    """An exception that an endpoint raised. The actor lives on, unless it raised SystemExit or its like.

    What is no Exception ends the actor: a note at `exception` says so, and later calls raise SupervisionError.
    `exception` is the original, with its causes, contexts, notes and, of a group, its parts; whatever of these cannot be
    rebuilt here has a `RemoteException` in its place, with a note that says why. It is `__cause__` too. Another note at
    the error says which rank raised it, on which host.
    """

    def __init__(
        self,
        exception: BaseException,
        message: str = "A remote actor call has failed.",
        remote_traceback: str | None = None,
    ) -> None:
        if remote_traceback is None:
            from traceback import format_exception

            remote_traceback = "".join(format_exception(exception))
        super().__init__(exception, message, remote_traceback)
        self.exception = exception
        self.message = message
        self.remote_traceback = remote_traceback
        """The traceback where it was raised."""
        self.__cause__ = exception

    @property
    def exception_formatted(self) -> str:
        """`remote_traceback`, headed so that it is not taken for one of here."""
        return self.remote_traceback.replace(
            "Traceback (most recent call last):", "Traceback of where the remote call failed (most recent call last):"
        )

    def __str__(self) -> str:
        return f"{self.message}\n{self.exception_formatted}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.exception, self.message, self.remote_traceback)
