"""Who is running: the actor, and the rank that the current message has in the mesh it was sent to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from procession import _native, _pickle
from procession._runtime import runtime
from procession._shape import Extent, Point, Region

if TYPE_CHECKING:
    from procession._failure import MeshFailure
    from procession._native import Caller, Inbox
    from procession._owned import Owned
    from procession._proc_mesh import ProcMesh


STOP = "__stop__"
"""The message that an actor stops at; it comes in line with the others, and its port closes when the actor has ended."""

WAKE = "__wake__"
"""The message that has an actor look what there is for it beside its messages."""

CLIENT = "client"
"""Stands for the class of an actor, whose names always have a module in front."""


class Creator(NamedTuple):
    """Who spawned an actor, for actors anywhere."""

    name: str
    class_name: str
    rank: Point
    actor_id: str
    creator: Creator | None
    """Who spawned that one; None for the client."""

    @property
    def proc(self) -> ProcMesh:
        """The proc that it lives in, as a mesh of one."""
        from procession._proc_mesh import ProcMesh
        from procession._procs import OtherProcs

        whole = Region.dense(Extent([], []))
        return ProcMesh("proc_of_creator", OtherProcs(whole, [self.proc_id]), whole)

    @property
    def proc_id(self) -> str:
        """The id of its proc."""
        return self.actor_id.rpartition("/")[0]

    @property
    def is_client(self) -> bool:
        """Whether it is no actor: what it spawned belongs to its process."""
        return self.class_name == CLIENT

    def __repr__(self) -> str:
        return f"<{self.class_name} {self.name}{self.rank if self.rank else ''}>"


class Instance:
    """The running actor, as it sees itself."""

    __slots__ = (
        "_inbox",
        "aborted",
        "actor_id",
        "base_rank",
        "class_name",
        "creator",
        "name",
        "owned",
        "rank",
        "region",
        "supervise",
    )

    def __init__(self, actor_id: str, name: str, class_name: str, region: Region, base_rank: int, inbox: Inbox | None):
        self.actor_id = actor_id
        self.name = name
        """The name of its mesh."""
        self.class_name = class_name
        self.region = region
        self.base_rank = base_rank
        self.rank = Point(region.rank_of(base_rank), region.extent)
        """Its place in the mesh that it was spawned in."""
        self._inbox = inbox
        self.owned: list[Owned] = []
        """What it has spawned, and what therefore ends with it."""
        self.supervise: Callable[[MeshFailure], None] | None = None
        """Tells it of a failure of one of its meshes, from any thread; None once it has ended."""
        self.creator: Creator | None = None
        """Who spawned it; None for the client."""
        self.aborted: str | None = None
        """Why it is to end with a failure, once it was asked to."""

    def as_creator(self) -> Creator:
        """What the actors that it spawns know of it."""
        return Creator(self.name, self.class_name, self.rank, self.actor_id, self.creator)

    @property
    def proc_id(self) -> str:
        return runtime().proc_id

    @property
    def proc(self) -> ProcMesh:
        """The proc that it lives in, as a mesh of one."""
        from procession._host_mesh import this_proc

        return this_proc()

    @property
    def proc_mesh(self) -> ProcMesh:
        """The mesh of procs that it was spawned on, which its own is a part of; of the client, its own process.

        Who spawned it is asked, and waited for, also on an event loop. SupervisionError when that has ended, or a process
        that knows it no more.
        """
        from procession._agent import spawned_on

        return self.proc if self.class_name == CLIENT else spawned_on(self)

    def abort(self, reason: str | None = None) -> None:
        """Ends the actor with a failure, of which its owner is told, when the endpoint that runs has returned, or awaits
        something. From any of its threads and tasks.

        What waits for it is not handled any more. Nothing happens when it has ended already.
        """
        if self.class_name == CLIENT:
            raise RuntimeError("the client is not an actor that could fail: raise, or call sys.exit()")
        if self._inbox is None or self.aborted is not None:
            return
        self.aborted = "it gave no reason" if reason is None else str(reason)
        self.wake()

    kill = abort

    def wake(self) -> None:
        """Has it look what there is for it beside its messages. From any thread."""
        inbox = self._inbox
        if inbox is not None:
            inbox.attend()
        payload, moved = _pickle.dumps(None)
        _native.call([_native.ActorRef(self.actor_id)], WAKE, _native.ONE_WAY, payload, moved, None)

    def stop(self, reason: str | None = None) -> None:
        """Ends the actor after the messages that have come until now. From any of its threads and tasks.

        Nothing happens when it has ended already.
        """
        if self.class_name == CLIENT:
            raise RuntimeError("the client is not an actor that could be stopped: see shutdown_context()")
        if self._inbox is None:
            return  # it has ended
        payload, moved = _pickle.dumps(reason or "stopped by itself")
        own = _native.ActorRef(self.actor_id)
        _native.call([own], STOP, _native.ONE_WAY, payload, moved, self._inbox)

    def __repr__(self) -> str:
        return f"<{self.class_name} {self.name}{self.rank if self.rank else ''}>"


class Context:
    """What `context()` gives."""

    __slots__ = ("_caller", "_message_region", "actor_instance")

    def __init__(
        self,
        actor_instance: Instance,
        caller: Caller | None = None,
        message_region: tuple[Any, ...] | None = None,
    ) -> None:
        self.actor_instance = actor_instance
        self._caller = caller
        self._message_region = message_region

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more for the answer to the message that is handled: its caller has cancelled the
        call, or the deadline has passed. What an endpoint returns then is dropped. False outside of one, and once it
        has passed its response port on."""
        return self._caller is not None and self._caller.cancelled

    @property
    def message_rank(self) -> Point:
        """This actor's place in the mesh, or slice of one, that the message was sent to."""
        if self._message_region is None:
            return self.actor_instance.rank
        return Point(self.rank_number(), Region(*self._message_region).extent)

    def rank_number(self) -> int:
        """As `message_rank`, its number alone."""
        if self._message_region is None:
            return self.actor_instance.rank.rank
        return Region(*self._message_region).rank_of(self.actor_instance.base_rank)


_current: ContextVar[Context | None] = ContextVar("procession", default=None)
enter = _current.set


def context() -> Context:
    """The running actor and its message; outside of an actor, the client."""
    return _current.get() or _client()


def _client() -> Context:
    whole = Region.dense(Extent([], []))
    return Context(Instance(f"{runtime().proc_id}/client", CLIENT, CLIENT, whole, 0, None))


def current_instance() -> Instance | None:
    """The running actor; None outside of one."""
    current = _current.get()
    return None if current is None else current.actor_instance


@contextmanager
def outside_of_actors() -> Iterator[None]:
    """What is spawned meanwhile belongs to the process."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def sender() -> Inbox | None:
    """The running actor, to send in its name."""
    current = _current.get()
    return None if current is None else current.actor_instance._inbox


def current_rank() -> Point:
    """The point of `context().message_rank`."""
    return context().message_rank


def current_size() -> dict[str, int]:
    """The sizes of the mesh, or slice, that the message was sent to."""
    return dict(current_rank().extent)


def current_actor_name() -> str:
    """The id of the running actor."""
    return context().actor_instance.actor_id
