"""What an actor has spawned ends with it: the meshes in `Instance.owned`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from procession._future import Future, gather
from procession.errors import NotFound, SupervisionError

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
    """From now on the mesh ends with the actor; at once, where that has ended already. From any thread of the actor's."""
    if len(instance.owned) % LOOK_EVERY == LOOK_EVERY - 1:
        for one in [one for one in instance.owned if _is_over(one)]:
            take_from(instance, one)
    instance.owned.append(mesh)
    if instance._inbox is None:  # else the actor's end is still to come, and finds it
        take_from(instance, mesh)
        mesh.stop(_reason(instance))


def take_from(instance: Instance, mesh: Owned) -> None:
    """The mesh has ended."""
    with suppress(ValueError):  # the actor has ended too
        instance.owned.remove(mesh)


def _is_over(one: Owned) -> bool:
    from procession._proc_mesh import ProcMesh

    if not isinstance(one, ProcMesh):
        return False  # it is taken from its owner when it ends
    try:
        return all(standing.is_over for standing in one._procs.standing(one._bases()))
    except NotFound:  # its host has forgotten it
        return True
    except (ConnectionError, SupervisionError, TimeoutError):  # who spawns another mesh has not asked for this
        return False


def _reason(instance: Instance) -> str:
    return f"its owner, actor {instance.actor_id}, ended"


def stop_all(instance: Instance) -> tuple[Future[None], Future[None]]:
    """Stops what the actor owns: done when its actors, and its procs, have ended. What cannot be stopped is left to its host."""
    from procession._proc_mesh import ProcMesh

    actors: list[Future[None]] = []
    procs: list[Future[None]] = []
    for _ in range(len(instance.owned)):
        with suppress(Exception):
            one = instance.owned.pop()  # what was spawned later may need what was spawned before
            stopped = one.stop(_reason(instance))
            (procs if isinstance(one, ProcMesh) else actors).append(stopped)
    return gather(actors, lambda: None), gather(procs, lambda: None)
