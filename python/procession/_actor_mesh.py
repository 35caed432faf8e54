"""Meshes of actors, as the callers see them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from procession import _native, _pickle, _validate
from procession._actor import Actor, EndpointProperty
from procession._context import STOP, sender
from procession._endpoint import Endpoint, NotAnEndpoint, endpoint_of
from procession._future import Future, gather, when_all
from procession._shape import Mesh, Region

if TYPE_CHECKING:
    from procession._native import ActorRef

T = TypeVar("T", bound=Actor)


class ActorMesh(Mesh, Generic[T]):
    """Actors of one class, one on each proc of a mesh. It can be sliced, pickled, and passed to any actor."""

    def __init__(
        self,
        cls: type[T],
        name: str,
        refs: tuple[ActorRef, ...],
        spawned: Region,
        region: Region | None = None,
        started: Future[None] | None = None,
    ) -> None:
        self._class = cls
        self._name = name
        self._refs = refs
        """By rank of this mesh."""
        self._spawned = spawned
        """What `spawn` was called on; ranks of a message are given in relation to it."""
        self._own_region = region or spawned
        self._started = started
        self._turns = count()

    @property
    def initialized(self) -> Future[Literal[True]]:
        """Done when every `__init__` has finished; raises what one of them raised."""
        started = self._started

        def finish() -> Literal[True]:
            if started is not None:
                started.get()
            return True

        return gather([] if started is None else [started], finish)

    def stop(self, reason: str = "stopped by client") -> Future[None]:
        """Stops the actors: they finish what has come, clean up and end. Their procs live on."""
        payload, moved = _pickle.dumps(_validate.text("reason", reason))
        replies = _native.call(self._refs, STOP, _native.RETURNS, payload, moved, sender())
        # Nobody answers: the ports close when the actors have ended, however they did.
        return when_all([replies.one_done(rank) for rank in range(len(replies))], lambda: None)

    @property
    def _region(self) -> Region:
        return self._own_region

    def _with_region(self, region: Region) -> ActorMesh[T]:
        refs = tuple(self._refs[self._own_region.rank_of(base)] for base in region.base_ranks())
        return ActorMesh(self._class, self._name, refs, self._spawned, region, self._started)

    @property
    def _message_region(self) -> tuple[Any, ...] | None:
        return None if self._own_region == self._spawned else self._own_region._key()

    def _next_ref(self) -> ActorRef:
        return self._refs[next(self._turns) % len(self._refs)]

    def __getattr__(self, name: str) -> Endpoint[Any, Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        for base in self._class.__mro__:
            if name in vars(base):
                found = vars(base)[name]
                break
        else:
            raise AttributeError(f"{self._class.__qualname__} has no endpoint {name!r}")
        if isinstance(found, EndpointProperty):
            endpoint = endpoint_of(self, name, found)
            self.__dict__[name] = endpoint  # found without this method from now on
            return endpoint
        if callable(found) and base is not object:
            return NotAnEndpoint(self, name)  # type: ignore[return-value]
        raise AttributeError(f"{name!r} is an attribute of the actors, and a mesh has their endpoints only")

    def __repr__(self) -> str:
        return f"<ActorMesh {self._name} of {self._class.__qualname__}, {self.extent!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorMesh, (self._class, self._name, self._refs, self._spawned, self._own_region)
