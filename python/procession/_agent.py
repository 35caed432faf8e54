"""The actors of this process: who builds them, and on which thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from procession import _answer, _native, _pickle, _sources
from procession._actor import Actor, check_class
from procession._context import Creator, Instance, context, sender
from procession._failure import Ending, ending_of, packed
from procession._faults import AGENT, WATCH, WATCH_AGAIN, WATCH_FOUND, WATCH_OWNER, Watch
from procession._future import Future, when_done
from procession._owners import belongs_to
from procession._runtime import at_shutdown, runtime
from procession._serve import ActorServer
from procession._shape import Region
from procession.errors import InvalidArgument, SupervisionError

if TYPE_CHECKING:
    from procession._native import Inbox, Message, PortRef
    from procession._proc_mesh import ProcMesh
    from procession._procs import Procs

SPAWNED_ON = "spawned_on"
"""The verb for who has spawned an actor; answered with the mesh of procs that it is on."""
INIT = "__init__"


class LocalActor:
    """One actor of this process."""

    def __init__(self, server: ActorServer, name: str, mesh_name: str, ended: Callable[[Ending | None], None]) -> None:
        self.name = name
        self.mesh_name = mesh_name
        self._server = server
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._watchers: list[Callable[[Ending | None], None]] = [ended]
        self._ending: Ending | None = None

    def run(self) -> None:
        """Serves the actor on this thread until it has ended."""
        try:
            self._ending = self._server.run()
        finally:
            self._over()

    def watch(self, ended: Callable[[Ending | None], None]) -> None:
        """Calls `ended` once it has ended, with None where that was regular."""
        with self._lock:
            if not self._ended.is_set():
                self._watchers.append(ended)
                return
        ended(self._ending)

    def _over(self) -> None:
        _actors.pop(self.name, None)
        with self._lock:
            self._ended.set()
            watchers, self._watchers = self._watchers, []
        for ended in watchers:
            ended(self._ending)

    def start(self) -> None:
        """Serves it on a thread of its own, which never holds up the end of the interpreter.

        RuntimeError where there can be no more threads; whoever waits for the actor has been told then.
        """
        try:
            threading.Thread(target=self.run, name=f"procession {self.name}", daemon=True).start()
        except RuntimeError as error:
            self._ending = self._server.cannot_run(error)
            self._over()
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
    ended: Callable[[Ending | None], None],
    creator: Creator | None = None,
) -> LocalActor:
    """An actor of this process that is not running yet."""
    instance = Instance(inbox.actor_id, mesh_name, f"{cls.__module__}.{cls.__qualname__}", region, rank, inbox)
    instance.creator = creator
    server = _server_class(cls)(cls, build, instance, inbox, started)
    name = inbox.actor_id.rpartition("/")[2]
    actor = _actors[name] = LocalActor(server, name, mesh_name, ended)
    return actor


def host_object(inbox: Inbox, actor: Actor) -> None:
    """Serves an actor that exists already, on a thread of its own."""
    name = inbox.actor_id.rpartition("/")[2]
    _host(inbox, name, type(actor), lambda: actor, Region.dense({}), 0, _nobody, _nobody).start()


def _nobody(_: object) -> None:
    """Is told."""


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
    actor_name: str,
    mesh_name: str,
    cls: type[Actor],
    args: Any,
    kwargs: Any,
    region: Region,
    ended: Callable[[Ending | None], None],
) -> Future[None]:
    """Starts an actor in this process; the future is done when its `__init__` has finished, `ended` is called at its end.

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
        creator = context().actor_instance.as_creator()
        actor = _host(inbox, mesh_name, cls, build, region, node.rank, partial(_tell, port), ended, creator)
    with suppress(RuntimeError):  # the future tells
        actor.start()
    return answered


@contextmanager
def _ended_by_failure(inbox: Inbox) -> Iterator[None]:
    """Calls may have been sent to the inbox already; when its actor cannot be made, they get the reason as their answer."""
    try:
        yield
    except BaseException as error:
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
    watched: Callable[[], None],
    again: tuple[Procs, Sequence[int]] | None = None,
) -> Future[None]:
    """As `spawn_here`, on other procs; the future raises the first failure.

    They end with the running actor. `watched` is called when it is certain that they are asked, and before they are. Where
    `again` says of which procs they are, and which ranks among them, each further incarnation gets the actor too.
    """
    serve_agent()  # which is asked when the owner has ended, and for controllers
    creator = context().actor_instance.as_creator()
    stamped = _sources.stamped(cls, strict=again is None)
    payload, moved = _pickle.dumps((stamped, args, kwargs, mesh_name, region, creator))
    verb = f"spawn:{actor_name}"
    if again is None:
        watched()
        agents = [_native.ActorRef(f"{proc_id}/{AGENT}") for proc_id in proc_ids]
        replies = _native.call(agents, verb, _native.RETURNS, payload, moved, sender(), opens=actor_name)
    elif moved and any(port.once for port in moved):
        rule = 'actors="respawn" builds an actor with the same arguments again, and a once port is used up by the first; pass a port'
        raise InvalidArgument("args", "a once port", rule)
    else:
        watched()
        procs, ranks = again
        return procs.spawn_actors(ranks, AGENT, verb, payload, moved, actor_name)

    def finish() -> None:
        for rank in range(len(proc_ids)):
            answer = replies.take(rank)
            if answer is not None:
                _answer.take(answer)

    return when_done(replies.all_done(), finish)


_spawned: WeakValueDictionary[str, Watch] = WeakValueDictionary()


def note_spawned(actor_name: str, watch: Watch) -> None:
    """Other processes may ask for the procs of that mesh, for as long as one of its actors lives."""
    _spawned[actor_name] = watch


def spawned_on(instance: Instance) -> ProcMesh:
    """The mesh of procs that the actor of this process was spawned on."""
    name, creator = instance.actor_id.rpartition("/")[2], instance.creator
    if creator is None:
        return instance.proc
    if creator.proc_id == runtime().proc_id:
        return _procs_of(name)
    payload, moved = _pickle.dumps(None)
    agent = [_native.ActorRef(f"{creator.proc_id}/{AGENT}")]
    replies = _native.call(agent, f"{SPAWNED_ON}:{name}", _native.RETURNS, payload, moved, sender())
    replies.all_done().wait(None)
    answer = replies.take(0)
    if answer is None:
        raise SupervisionError(f"who has spawned actor {instance.actor_id} was not heard")
    return cast("ProcMesh", _answer.take(answer))


def _procs_of(actor_name: str) -> ProcMesh:
    watch = _spawned.get(actor_name)
    if watch is None:
        raise SupervisionError(f"actors {actor_name} are not known any more to the process that spawned them")
    return watch.on


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
        self._watched: dict[str, PortRef] = {}
        """Who will be told of the end of actors that are about to be spawned."""

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
        wait_for_all(None)  # who watches them is told of their ends, and not of this one
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
            if verb == WATCH and name not in _actors:
                self._watched[name] = port
            elif verb in IF_MISSING:
                _watch(name, port, IF_MISSING[verb])
            elif verb == SPAWNED_ON:
                _answer.send_value(port, _procs_of(name))
            elif verb == "controllers":
                from procession._controllers import serve

                serve()
                _tell(port)
            else:
                _answer.send_value(port, [actor.name for actor in list(_actors.values()) if actor.mesh_name == name])
            return None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module that exits when it is imported costs its own actors and no others
            _tell(port, error)
            return None

    def _create(self, message: Message, actor_name: str, port: PortRef) -> LocalActor:
        node = runtime()
        watcher = self._watched.pop(actor_name, None)
        ended = _nobody if watcher is None else partial(_tell_end, watcher)
        inbox = node.register_actor(actor_name)
        try:
            with _ended_by_failure(inbox):
                with message.claims(inbox):
                    cls, args, kwargs, mesh_name, region, creator = _pickle.loads(message.payload)
                check_class(cls)
                started = partial(_tell, port)
                build = partial(cls, *args, **kwargs)
                actor = _host(inbox, mesh_name, cls, build, region, node.rank, started, ended, creator)
        except BaseException as error:
            ended(ending_of(error))
            raise
        if not creator.is_client:
            belongs_to(creator.actor_id, actor)
        return actor


NOT_BUILT = Ending("LookupError", "it was not built again", "", None)
IF_MISSING = {
    WATCH: NOT_BUILT,
    WATCH_AGAIN: NOT_BUILT,
    WATCH_FOUND: Ending("LookupError", "it has ended just after it was found", "", None),
    WATCH_OWNER: None,
}


def _watch(name: str, port: PortRef, otherwise: Ending | None) -> None:
    actor = _actors.get(name)
    if actor is None:
        _tell_end(port, otherwise)
    else:
        actor.watch(partial(_tell_end, port))


def _tell_end(port: PortRef, how: Ending | None) -> None:
    with suppress(ConnectionError, RuntimeError):  # whoever watches is gone
        _answer.send_value(port, None if how is None else packed(how))


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
