"""What an actor has spawned ends with it: the meshes in `Instance.owned`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from procession._future import Future, gather

if TYPE_CHECKING:
    from procession._context import Instance


class Owned(Protocol):
    """Anything that an actor can own."""

    def stop(self, reason: str) -> Future[None]:
        """Done when it has ended."""


LOOK_EVERY = 16
"""How many things an actor owns more before is looked for those that have ended."""


GRACE = 10.0
"""How long the end of an actor waits for the actors that it has spawned. Procs end within the steps of their stop."""


def add_to(instance: Instance, mesh: Owned) -> None:
    """From now on the mesh ends with the actor; at once, where that has ended already."""
    if instance._inbox is None:
        mesh.stop(f"its owner, actor {instance.actor_id}, ended")
        return
    if len(instance.owned) % LOOK_EVERY == LOOK_EVERY - 1:
        instance.owned = [one for one in instance.owned if not _is_over(one)]
    instance.owned.append(mesh)


def take_from(instance: Instance, mesh: Owned) -> None:
    """The mesh has ended."""
    with suppress(ValueError):  # the actor has ended too
        instance.owned.remove(mesh)


def _is_over(one: Owned) -> bool:
    from procession._proc_mesh import ProcMesh

    return isinstance(one, ProcMesh) and all(standing.is_over for standing in one._procs.standing(one._bases()))


def stop_all(instance: Instance) -> tuple[Future[None], Future[None]]:
    """Stops what the actor owns: done when its actors, and its procs, have ended. What cannot be stopped is left to its host."""
    from procession._proc_mesh import ProcMesh

    owned, instance.owned = instance.owned, []
    actors: list[Future[None]] = []
    procs: list[Future[None]] = []
    for one in reversed(owned):  # what was spawned later may need what was spawned before
        with suppress(Exception):
            stopped = one.stop(f"its owner, actor {instance.actor_id}, ended")
            (procs if isinstance(one, ProcMesh) else actors).append(stopped)
    return gather(actors, lambda: None), gather(procs, lambda: None)
