"""The procs behind a mesh: slots that are launched, again and again if need be, and ids of procs that belong to others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from procession import _native
from procession._runtime import runtime
from procession.errors import AlreadyExists, Unsupported

if TYPE_CHECKING:
    from procession._native import Launcher, ProcHandle, Subscription
    from procession._shape import Region


class Procs(Protocol):
    """What a mesh needs of its procs; ranks are those of the mesh that was spawned."""

    def proc_id(self, rank: int) -> str: ...
    def handle(self, rank: int) -> ProcHandle: ...


class Slot(NamedTuple):
    """One place of a mesh, and how its proc is launched."""

    name: str
    rank: int
    options: dict[str, Any]
    """The arguments of ProcSpec that stay the same over all launches."""


_lock = threading.Lock()
_last: dict[str, ProcHandle] = {}
"""The last launch of each slot name of this client."""


class OwnedProcs:
    """Procs that this process has launched."""

    def __init__(
        self,
        slots: Sequence[Slot],
        launcher: Callable[[], Launcher | None],
        follower: Subscription | None = None,
    ) -> None:
        self._slots = slots
        self._launcher = launcher
        self._handles = self._launch(slots, follower)

    def proc_id(self, rank: int) -> str:
        return self._handles[rank].proc_id

    def handle(self, rank: int) -> ProcHandle:
        return self._handles[rank]

    def respawn(self, ranks: Sequence[int]) -> list[ProcHandle]:
        """New incarnations of these ranks, which all have to be at their end."""
        handles = self._launch([self._slots[rank] for rank in ranks])
        for rank, handle in zip(ranks, handles, strict=True):
            self._handles[rank] = handle
        return handles

    def _launch(self, slots: Sequence[Slot], follower: Subscription | None = None) -> list[ProcHandle]:
        launcher = self._launcher()
        with _lock:
            specs = []
            for slot in slots:
                last = _last.get(slot.name)
                if last is not None and last.exit() is None:
                    raise AlreadyExists(slot.name, last.incarnation)
                incarnation = 1 if last is None else last.incarnation + 1
                spec = _native.ProcSpec(name=slot.name, rank=slot.rank, incarnation=incarnation, **slot.options)
                specs.append(spec)
            handles = runtime().spawn_procs(specs, launcher, follower)
            _last.update((handle.name, handle) for handle in handles)
        return handles


class OtherProcs:
    """Procs known by their ids: this process itself, or what came with a message."""

    def __init__(self, region: Region, ids: Sequence[str]) -> None:
        self._region = region
        self._ids = ids

    def proc_id(self, rank: int) -> str:
        return self._ids[self._region.rank_of(rank)]

    def handle(self, rank: int) -> NoReturn:
        raise Unsupported(
            f"{self.proc_id(rank)} was launched by another process: its life can be asked for and ended only where it was "
            "spawned; actors can be spawned on it from here"
        )
