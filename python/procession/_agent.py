"""The actors of this process: who builds them, and on which thread."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from procession import _answer, _native, _pickle
from procession._actor import Actor, check_class
from procession._context import Instance, sender
from procession._future import Future, when_done
from procession._runtime import at_shutdown, runtime
from procession._serve import ActorServer
from procession._shape import Region

if TYPE_CHECKING:
    from procession._native import Inbox, Message, PortRef

AGENT = "agent"


class LocalActor:
    """One actor of this process."""

    def __init__(self, server: ActorServer, name: str) -> None:
        self.name = name
        self._server = server
        self._ended = threading.Event()

    def run(self) -> None:
        """Serves the actor on this thread until it has ended."""
        try:
            self._server.run()
        finally:
            _actors.pop(self.name, None)
            self._ended.set()

    def start(self) -> None:
        """Serves it on a thread of its own, which never holds up the end of the interpreter."""
        threading.Thread(target=self.run, name=f"procession {self.name}", daemon=True).start()

    def wait(self, seconds: float | None) -> bool:
        return self._ended.wait(seconds)


_actors: dict[str, LocalActor] = {}


def create(
    actor_name: str,
    mesh_name: str,
    cls: type[Actor],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    region: Region,
    started: PortRef,
) -> LocalActor:
    """An actor of this process that is not running yet; its inbox takes messages from now on."""
    check_class(cls)
    node = runtime()
    instance_id = f"{node.proc_id}/{actor_name}"
    inbox = node.register_actor(actor_name)
    kind = f"{cls.__module__}.{cls.__qualname__}"
    instance = Instance(instance_id, mesh_name, kind, region, node.rank, inbox)
    server = _server_class(cls)(cls, lambda: cls(*args, **kwargs), instance, inbox, lambda error: _tell(started, error))
    actor = _actors[actor_name] = LocalActor(server, actor_name)
    return actor


def host_object(inbox: Inbox, actor: Actor) -> None:
    """Serves an actor that exists already, on a thread of its own. For programs that embed the interpreter."""
    cls = type(actor)
    name = inbox.actor_id.rpartition("/")[2]
    instance = Instance(inbox.actor_id, name, f"{cls.__module__}.{cls.__qualname__}", Region.dense({}), 0, inbox)
    server = _server_class(cls)(cls, lambda: actor, instance, inbox, lambda error: None)
    local = _actors[name] = LocalActor(server, name)
    local.start()


def _server_class(cls: type[Actor]) -> type[ActorServer]:
    if getattr(cls, "_is_launcher", False):
        from procession._launcher_serve import LauncherServer

        return LauncherServer
    return ActorServer


def _tell(port: PortRef, error: BaseException | None = None) -> None:
    with suppress(ConnectionError, RuntimeError):  # whoever asked is gone
        if error is None:
            _answer.send_value(port, None)
        else:
            _answer.send_exception(port, error)


def unique_name(name: str) -> str:
    """A name that no other actor of any proc has, so that meshes of one name can live side by side."""
    return f"{name[:100]}-{os.urandom(4).hex()}"


def spawn_here(
    actor_name: str, mesh_name: str, cls: type[Actor], args: Any, kwargs: Any, region: Region
) -> Future[None]:
    """Starts an actor in this process; the future is done when its `__init__` has finished."""
    port, answered = _once()
    create(actor_name, mesh_name, cls, args, kwargs, region, port).start()
    return answered


def spawn_elsewhere(
    proc_ids: list[str], actor_name: str, mesh_name: str, cls: type[Actor], args: Any, kwargs: Any, region: Region
) -> Future[None]:
    """As `spawn_here`, on other procs; the future raises the first failure."""
    payload, moved = _pickle.dumps((cls, args, kwargs, mesh_name, region))
    agents = [_native.ActorRef(f"{proc_id}/{AGENT}") for proc_id in proc_ids]
    replies = _native.call(agents, f"spawn:{actor_name}", _native.RETURNS, payload, moved, sender(), opens=actor_name)

    def finish() -> None:
        for rank in range(len(agents)):
            answer = replies.take(rank)
            if answer is not None:
                _answer.take(answer)

    return when_done(replies.all_done(), finish)


def _once() -> tuple[PortRef, Future[None]]:
    port, receiver = runtime().open_once_port()

    def finish() -> None:
        answer = receiver.try_recv()
        if answer is not None:
            _answer.take(answer)

    return port, when_done(receiver.waiter(), finish)


class Agent:
    """Starts the actors that other processes want in this one."""

    def __init__(self) -> None:
        self._inbox = runtime().register_actor(AGENT)

    def first_actor(self) -> LocalActor | None:
        """Serves until an actor was asked for, which is to run on the thread that called this; None at the stop."""
        while (message := self._inbox.next(None)) is not None:
            actor = self._handle(message)
            if actor is not None:
                return actor
        return None

    def serve(self) -> None:
        """Serves until the inbox is closed, with a thread for each actor."""
        while (actor := self.first_actor()) is not None:
            actor.start()
        self._inbox.end(None)

    def _handle(self, message: Message) -> LocalActor | None:
        """An actor that was asked for, or None."""
        port = message.reply_port
        verb, _, actor_name = message.method.partition(":")
        if verb != "spawn" or port is None:
            return None
        try:
            return self._create(message, actor_name, port)
        except Exception as error:
            _tell(port, error)
            return None

    def _create(self, message: Message, actor_name: str, port: PortRef) -> LocalActor:
        try:
            with message.claims():
                cls, args, kwargs, mesh_name, region = _pickle.loads(message.payload)
            return create(actor_name, mesh_name, cls, args, kwargs, region, port)
        except Exception as error:
            # Calls may have been sent to it already; they get this as their answer.
            with suppress(ValueError):
                runtime().register_actor(actor_name).end(
                    f"actor {actor_name} was not created: {_answer.summary(error)}"
                )
            raise


_serving = threading.Lock()
_served = False


def serve_agent() -> None:
    """Lets other processes start actors in this client; called when they are about to learn of it."""
    global _served
    with _serving:
        if not _served and runtime().is_client:
            threading.Thread(target=Agent().serve, name="procession agent", daemon=True).start()
            _served = True


def wait_for_all(seconds: float | None) -> None:
    """Until every actor of this process has ended, `seconds` at most."""
    until = None if seconds is None else time.monotonic() + seconds
    for actor in list(_actors.values()):
        actor.wait(None if until is None else max(0.0, until - time.monotonic()))


at_shutdown(wait_for_all)
