"""What an actor has spawned ends with it: the meshes in `Instance.owned`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from procession._future import Future, gather

if TYPE_CHECKING:
    from procession._context import Instance
    from procession._proc_mesh import ProcMesh


class Owned(Protocol):
    """Anything that an actor can own."""

    def stop(self, reason: str) -> Future[None]:
        """Done when it has ended."""


LOOK_EVERY = 16
"""How many things an actor owns more before is looked for those that have ended."""


def add_to(instance: Instance, mesh: ProcMesh) -> None:
    """From now on the procs end with the actor; at once, where it has ended already."""
    if instance._inbox is None:
        mesh.stop(f"its owner, actor {instance.actor_id}, ended")
        return
    if len(instance.owned) % LOOK_EVERY == LOOK_EVERY - 1:
        instance.owned = [one for one in instance.owned if not _is_over(one)]
    instance.owned.append(mesh)


def _is_over(one: Owned) -> bool:
    from procession._proc_mesh import ProcMesh

    return isinstance(one, ProcMesh) and all(standing.is_over for standing in one._procs.standing(one._bases()))


def stop_all(instance: Instance) -> Future[None]:
    """Stops what the actor owns, which has ended when this is done. What cannot be stopped is left to its host."""
    owned, instance.owned = instance.owned, []
    asked = []
    for one in reversed(owned):  # what was spawned later may need what was spawned before
        with suppress(Exception):
            asked.append(one.stop(f"its owner, actor {instance.actor_id}, ended"))

    return gather(asked, lambda: None)
