"""Controllers: actors of the client that are found by name, from every actor that it has spawned."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

from procession import _native, _pickle
from procession._actor import Actor, check_class, endpoint
from procession._actor_mesh import ActorMesh
from procession._agent import host_object, serve_agent
from procession._context import context, sender
from procession._faults import AGENT
from procession._runtime import runtime
from procession._shape import Region

if TYPE_CHECKING:
    from procession._failure import MeshFailure
    from procession._future import Future

T = TypeVar("T", bound=Actor)

NAME = "controllers"


class Controllers(Actor):
    """Holds the controllers. It never waits for one, so that a controller may ask for others while it is built."""

    def __init__(self) -> None:
        self._meshes: dict[str, Actor] = {}
        self._failed: dict[str, str] = {}

    @endpoint
    def get_or_spawn(self, name: str, cls: type[Actor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Actor:
        from procession._host_mesh import this_proc

        if name in self._failed:
            raise ValueError(
                f"controller {name!r} has failed, and there is no other of that name:\n{self._failed[name]}"
            )
        if name not in self._meshes:
            self._meshes[name] = this_proc().spawn(name, cls, *args, **kwargs)
        return self._meshes[name]

    def __supervise__(self, failure: MeshFailure) -> bool:
        self._failed.setdefault(failure.mesh_name, failure.report())
        return True  # who calls it, or asks for it again, hears of its end


_serving = threading.Lock()
_served_by: str | None = None


def serve() -> None:
    """Has the controllers of this process held; called where the client's agent or the client itself is asked for one."""
    global _served_by
    own = runtime().proc_id
    with _serving:
        if _served_by != own:
            # Calls may be in its inbox already, so nothing that it is built from can come in a message.
            host_object(runtime().register_actor(NAME), Controllers())
            _served_by = own


def get_or_spawn_controller(name: str, Class: type[T], *args: Any, **kwargs: Any) -> Future[T]:
    """The actor of that name in the client's process, which is built with these arguments when there is none yet.

    Everybody gets the same one: the client, and every actor that it, or an actor of its, has spawned. The future does not
    wait for `__init__`; calls do, and raise SupervisionError with the reason where it has failed. ActorError, in the
    future, where it cannot be spawned, and where it has failed.
    """
    check_class(Class)
    home = _home()
    if home == runtime().proc_id:
        serve()
    else:
        # Sent ahead on the same connection: the inbox is open when the call comes, and the actor built soon.
        agent = _native.ActorRef(f"{home}/{AGENT}")
        payload, moved = _pickle.dumps(None)
        _native.call([agent], NAME, _native.RETURNS, payload, moved, sender(), opens=NAME)
    whole = Region.dense({})
    controllers = ActorMesh(Controllers, NAME, (_native.ActorRef(f"{home}/{NAME}"),), whole)
    held = cast(Controllers, controllers)
    return cast("Future[T]", held.get_or_spawn.call_one(name, Class, args, kwargs))


def _home() -> str:
    """The client at whose wish the running actor exists; this process, where none runs."""
    node = runtime()
    if node.is_client:
        serve_agent()
        return node.proc_id
    one = context().actor_instance.as_creator()
    while one.creator is not None:
        one = one.creator
    return one.proc_id
