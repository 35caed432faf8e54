"""The procs behind a mesh: slots that are launched, again and again if need be, and ids of procs that belong to others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from procession import _native
from procession._runtime import runtime
from procession.errors import AlreadyExists, Unsupported

if TYPE_CHECKING:
    from procession._exits import ProcExit
    from procession._launcher import AnyLauncher
    from procession._native import ProcHandle, Subscription
    from procession._proc_mesh import ProcMesh
    from procession._restart import Restart
    from procession._shape import Region


class Lives(Enum):
    """Stands in place of an exit."""

    LIVES = 0


LIVES = Lives.LIVES


class Procs(Protocol):
    """What a mesh needs of its procs; ranks are those of the mesh that was spawned."""

    def proc_id(self, rank: int) -> str: ...
    def handle(self, rank: int) -> ProcHandle: ...
    def check_output(self) -> None:
        """Raises Unsupported where nobody hands over what the procs write."""

    def builds_actors_again(self) -> bool:
        """Whether each further incarnation gets the actors of the earlier ones."""

    def exit_of(self, rank: int, proc_id: str) -> ProcExit | Lives | None:
        """How that incarnation of the rank ended; None where that is not known here."""

    def has_ended(self, rank: int) -> bool:
        """Whether nothing launches it again by itself."""


class Slot(NamedTuple):
    """One place of a mesh, and how its proc is launched."""

    name: str
    rank: int
    options: dict[str, Any]
    """The arguments of ProcSpec that stay the same over all launches."""


launching = threading.RLock()  # a launcher that is launched for a launch is launched inside of it
"""Held from the look at which names are free until they are taken, and while the process of a launcher is started."""


class OwnedProcs:
    """Procs that this process has launched, or taken over."""

    def __init__(self, launcher: AnyLauncher, handles: Sequence[ProcHandle], builds_actors_again: bool = False) -> None:
        self._launcher = launcher
        self._handles = handles
        self._builds_actors_again = builds_actors_again

    def proc_id(self, rank: int) -> str:
        return self._handles[rank].proc_id

    def handle(self, rank: int) -> ProcHandle:
        return self._handles[rank]

    def check_output(self) -> None:
        check_output(self._launcher)

    def builds_actors_again(self) -> bool:
        return self._builds_actors_again

    def exit_of(self, rank: int, proc_id: str) -> ProcExit | Lives | None:
        from procession._exits import exit_from

        exits, _ = self._handles[rank].history()
        return next((exit_from(given) for given in reversed(exits) if given["proc_id"] == proc_id), LIVES)

    def has_ended(self, rank: int) -> bool:
        return self._handles[rank].ended().done()

    def launcher_process(self) -> ProcMesh:
        """Where their launcher runs; Unsupported when it has no process to itself."""
        return self._launcher.process()

    def respawn(self, ranks: Sequence[int]) -> list[ProcHandle]:
        """New incarnations of these ranks, which all have to be at their end."""
        handles = [self._handles[rank] for rank in ranks]
        with launching:
            _check_names([handle.name for handle in handles])
            launcher = self._launcher.native()
            for handle in handles:
                handle.respawn(launcher)
        return handles


def launch(
    slots: Sequence[Slot], launcher: AnyLauncher, restart: Restart | None = None, follower: Subscription | None = None
) -> OwnedProcs:
    """Launches one proc for each slot."""
    with launching:
        _check_names([slot.name for slot in slots])
        specs = [_native.ProcSpec(name=slot.name, rank=slot.rank, **slot.options) for slot in slots]
        policy = None if restart is None else restart.native()
        handles = runtime().spawn_procs(specs, launcher.native(), follower, policy)
    return OwnedProcs(launcher, handles, restart is not None and restart.actors == "respawn")


def _check_names(names: Sequence[str]) -> None:
    live = runtime().live()
    for name in names:
        if name in live:
            raise AlreadyExists(name, live[name])


def check_output(launcher: AnyLauncher) -> None:
    """Raises Unsupported where nobody hands over what the procs of `launcher` write."""
    if launcher.without_output is not None:
        raise Unsupported(
            f"launcher {launcher.without_output} does not hand over the output of its procs; if it feeds the log channel, "
            "say so with capabilities = Capabilities(stdio=True)"
        )


class OtherProcs:
    """Procs known by their ids: this process itself, or what came with a message."""

    def __init__(self, region: Region, ids: Sequence[str]) -> None:
        self._region = region
        self._ids = ids

    def proc_id(self, rank: int) -> str:
        return self._ids[self._region.rank_of(rank)]

    def check_output(self) -> None:
        """That is found out where the procs were spawned."""

    def builds_actors_again(self) -> bool:
        return False  # what is spawned from here is not known where they were launched

    def exit_of(self, rank: int, proc_id: str) -> ProcExit | Lives | None:
        return None

    def has_ended(self, rank: int) -> bool:
        return False

    def handle(self, rank: int) -> NoReturn:
        raise Unsupported(
            f"{self.proc_id(rank)} was launched by another process: its life can be asked for and ended only where it was "
            "spawned; actors can be spawned on it from here"
        )
