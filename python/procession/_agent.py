"""The actors of this process: who builds them, and on which thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from procession import _answer, _native, _pickle
from procession._actor import Actor, check_class
from procession._context import Instance, sender
from procession._future import Future, when_done
from procession._runtime import at_shutdown, runtime
from procession._serve import ActorServer
from procession._shape import Region
from procession.errors import InvalidArgument

if TYPE_CHECKING:
    from procession._native import Inbox, Message, PortRef
    from procession._procs import Procs

AGENT = "agent"
INIT = "__init__"


class LocalActor:
    """One actor of this process."""

    def __init__(self, server: ActorServer, name: str, mesh_name: str) -> None:
        self.name = name
        self.mesh_name = mesh_name
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
        """Serves it on a thread of its own, which never holds up the end of the interpreter.

        RuntimeError where there can be no more threads; whoever waits for the actor has been told then.
        """
        try:
            threading.Thread(target=self.run, name=f"procession {self.name}", daemon=True).start()
        except RuntimeError as error:
            _actors.pop(self.name, None)
            self._server.cannot_run(error)
            self._ended.set()
            raise

    def wait(self, seconds: float | None) -> bool:
        return self._ended.wait(seconds)


_actors: dict[str, LocalActor] = {}


def _host(
    inbox: Inbox,
    mesh_name: str,
    cls: type[Actor],
    build: Callable[[], Actor],
    region: Region,
    rank: int,
    started: Callable[[BaseException | None], None],
) -> LocalActor:
    """An actor of this process that is not running yet."""
    instance = Instance(inbox.actor_id, mesh_name, f"{cls.__module__}.{cls.__qualname__}", region, rank, inbox)
    server = _server_class(cls)(cls, build, instance, inbox, started)
    name = inbox.actor_id.rpartition("/")[2]
    actor = _actors[name] = LocalActor(server, name, mesh_name)
    return actor


def host_object(inbox: Inbox, actor: Actor) -> None:
    """Serves an actor that exists already, on a thread of its own. For programs that embed the interpreter."""
    name = inbox.actor_id.rpartition("/")[2]
    _host(inbox, name, type(actor), lambda: actor, Region.dense({}), 0, lambda error: None).start()


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
    """Starts an actor in this process; the future is done when its `__init__` has finished.

    Its arguments come in a message to itself, so that it shares nothing with who spawns it, and owns the ports in them.
    """
    payload, moved = _pickle.dumps((args, kwargs), here=True)
    port, answered = _once()
    node = runtime()
    inbox = node.register_actor(actor_name)

    def build() -> Actor:
        message = inbox.next(None)
        if message is None:
            raise RuntimeError(f"actor {inbox.actor_id} was stopped before it was built")
        with message.claims():
            args, kwargs = _pickle.loads(message.payload)
        return cls(*args, **kwargs)

    with _ended_by_failure(inbox):
        _native.call([_native.ActorRef(inbox.actor_id)], INIT, _native.ONE_WAY, payload, moved, sender())
        actor = _host(inbox, mesh_name, cls, build, region, node.rank, partial(_tell, port))
    with suppress(RuntimeError):  # the future tells
        actor.start()
    return answered


@contextmanager
def _ended_by_failure(inbox: Inbox) -> Iterator[None]:
    """Calls may have been sent to the inbox already; when its actor cannot be made, they get the reason as their answer."""
    try:
        yield
    except Exception as error:
        inbox.end_uncreated(f"{_answer.summary(error)}\n{_answer.format_error(error)}")
        raise


def spawn_elsewhere(
    proc_ids: list[str],
    actor_name: str,
    mesh_name: str,
    cls: type[Actor],
    args: Any,
    kwargs: Any,
    region: Region,
    again: tuple[Procs, Sequence[int]] | None = None,
) -> Future[None]:
    """As `spawn_here`, on other procs; the future raises the first failure.

    Where `again` says of which procs they are, and which ranks among them, each further incarnation gets the actor too.
    """
    payload, moved = _pickle.dumps((cls, args, kwargs, mesh_name, region))
    verb = f"spawn:{actor_name}"
    if again is None:
        agents = [_native.ActorRef(f"{proc_id}/{AGENT}") for proc_id in proc_ids]
        replies = _native.call(agents, verb, _native.RETURNS, payload, moved, sender(), opens=actor_name)
    elif moved and any(port.once for port in moved):
        rule = 'actors="respawn" builds an actor with the same arguments again, and a once port is used up by the first; pass a port'
        raise InvalidArgument("args", "a once port", rule)
    else:
        procs, ranks = again
        return procs.spawn_actors(ranks, AGENT, verb, payload, moved, actor_name)

    def finish() -> None:
        for rank in range(len(proc_ids)):
            answer = replies.take(rank)
            if answer is not None:
                _answer.take(answer)

    return when_done(replies.all_done(), finish)


def find_elsewhere(proc_ids: list[str], mesh_name: str) -> Future[list[list[str]]]:
    """The names of the actors of that mesh's name in each proc, in the order in which they were built."""
    payload, moved = _pickle.dumps(None)
    agents = [_native.ActorRef(f"{proc_id}/{AGENT}") for proc_id in proc_ids]
    replies = _native.call(agents, f"find:{mesh_name}", _native.RETURNS, payload, moved, sender())

    def finish() -> list[list[str]]:
        answers = [replies.take(rank) for rank in range(len(proc_ids))]
        return [_answer.take(answer) for answer in answers if answer is not None]

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
            del message  # it may have brought much, and the wait for the next may be long
        return None

    def serve(self) -> None:
        """Serves until the inbox is closed, with a thread for each actor."""
        while (actor := self.first_actor()) is not None:
            with suppress(RuntimeError):  # who asked for the actor was told
                actor.start()
        self._inbox.end(None)

    def _handle(self, message: Message) -> LocalActor | None:
        """An actor that was asked for, or None."""
        port = message.reply_port
        verb, _, name = message.method.partition(":")
        if port is None:
            return None
        try:
            if verb == "spawn":
                return self._create(message, name, port)
            _answer.send_value(port, [actor.name for actor in list(_actors.values()) if actor.mesh_name == name])
            return None
        except Exception as error:
            _tell(port, error)
            return None

    def _create(self, message: Message, actor_name: str, port: PortRef) -> LocalActor:
        node = runtime()
        inbox = node.register_actor(actor_name)
        with _ended_by_failure(inbox):
            with message.claims(inbox):
                cls, args, kwargs, mesh_name, region = _pickle.loads(message.payload)
            check_class(cls)
            return _host(inbox, mesh_name, cls, lambda: cls(*args, **kwargs), region, node.rank, partial(_tell, port))


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
