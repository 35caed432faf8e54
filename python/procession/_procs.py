"""The procs behind a mesh: slots that are launched, again and again if need be, and ids of procs that belong to others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol
from weakref import ReferenceType, ref

from procession import _native
from procession._runtime import runtime
from procession.errors import AlreadyExists, Unsupported

if TYPE_CHECKING:
    from procession._launcher import AnyLauncher
    from procession._native import ProcHandle, Subscription
    from procession._shape import Region


class Procs(Protocol):
    """What a mesh needs of its procs; ranks are those of the mesh that was spawned."""

    def proc_id(self, rank: int) -> str: ...
    def handle(self, rank: int) -> ProcHandle: ...
    def check_output(self) -> None:
        """Raises Unsupported where nobody hands over what the procs write."""

    def followed_by(self, subscription: Subscription, ranks: Sequence[int]) -> None:
        """From now on `subscription` hears of later incarnations of these ranks too."""


class Slot(NamedTuple):
    """One place of a mesh, and how its proc is launched."""

    name: str
    rank: int
    options: dict[str, Any]
    """The arguments of ProcSpec that stay the same over all launches."""


_lock = threading.RLock()  # a launcher that is launched for a launch is launched inside of it
"""Held from the look at which names are free until they are taken."""


class OwnedProcs:
    """Procs that this process has launched."""

    def __init__(
        self,
        slots: Sequence[Slot],
        launcher: AnyLauncher,
        follower: Subscription | None = None,
    ) -> None:
        self._slots = slots
        self._launcher = launcher
        self._followers: list[tuple[ReferenceType[Subscription], frozenset[int]]] = []
        self._handles = self._launch(slots, follower)

    def proc_id(self, rank: int) -> str:
        return self._handles[rank].proc_id

    def handle(self, rank: int) -> ProcHandle:
        return self._handles[rank]

    def check_output(self) -> None:
        check_output(self._launcher)

    def respawn(self, ranks: Sequence[int]) -> list[ProcHandle]:
        """New incarnations of these ranks, which all have to be at their end."""
        handles = self._launch([self._slots[rank] for rank in ranks])
        for rank, handle in zip(ranks, handles, strict=True):
            self._handles[rank] = handle
        for reference, followed in self._followers:
            subscription = reference()
            if subscription is not None:
                subscription.also([self._handles[rank] for rank in ranks if rank in followed])
        return handles

    def followed_by(self, subscription: Subscription, ranks: Sequence[int]) -> None:
        self._followers = [known for known in self._followers if known[0]() is not None]
        self._followers.append((ref(subscription), frozenset(ranks)))

    def _launch(self, slots: Sequence[Slot], follower: Subscription | None = None) -> list[ProcHandle]:
        with _lock:
            live = runtime().live()
            for slot in slots:
                if slot.name in live:
                    raise AlreadyExists(slot.name, live[slot.name])
            launcher = self._launcher.native()
            specs = [_native.ProcSpec(name=slot.name, rank=slot.rank, **slot.options) for slot in slots]
            return runtime().spawn_procs(specs, launcher, follower)


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

    def followed_by(self, subscription: Subscription, ranks: Sequence[int]) -> None:
        """They are launched again elsewhere."""

    def handle(self, rank: int) -> NoReturn:
        raise Unsupported(
            f"{self.proc_id(rank)} was launched by another process: its life can be asked for and ended only where it was "
            "spawned; actors can be spawned on it from here"
        )
