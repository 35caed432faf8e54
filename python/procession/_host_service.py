"""What a host does for its procs: it launches in their name, and tells and ends what it has launched.

It answers calls of plain data, at the node of the host. One thread serves all of them: what takes its time is a future
here, and is answered when it is done.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from procession import _answer, _native, _plain, _validate
from procession._future import Future, finish_of, when_done
from procession._launcher import KnownLauncher
from procession._port import Port
from procession._procs import OwnedProcs, Slot, check_names, launch
from procession._restart import Restart
from procession._runtime import runtime
from procession._zygote import close as close_zygote
from procession.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from procession._native import Message, PortReceiver, PortRef, Replies, Subscription

HOST = "host"
"""The name that it has among the actors of its node."""
ENDED_KEPT = 500
"""How many groups are still known when all of their procs have ended: each costs some 15 KiB."""
LAST_ANSWERS = 2.0
"""Seconds for the answers to those who wait for the end of procs, when all have ended."""
NAME_PATIENCE = 15.0
"""Seconds for procs whose owner has ended to end too, before their name is refused to somebody else."""


class Groups:
    """What was launched together and is known to other processes, by its key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[OwnedProcs, str | None]] = {}
        self._keys = count(1)
        self._look_at = ENDED_KEPT

    def key_of(self, procs: OwnedProcs, owner: str | None = None) -> str:
        """From now on they are known."""
        with self._lock:
            if procs.key not in self._known:
                procs.key = procs.key or f"group-{next(self._keys)}"
                self._known[procs.key] = procs, owner
                self._forget_some()
            return procs.key

    def _forget_some(self) -> None:
        if len(self._known) <= self._look_at:
            return
        over = [key for key, (procs, _) in self._known.items() if procs.are_over()]
        for key in over[: max(0, len(over) - ENDED_KEPT)]:
            del self._known[key]
        self._look_at = len(self._known) + max(ENDED_KEPT, len(self._known)) // 4

    def get(self, key: str) -> OwnedProcs:
        with self._lock:
            if key not in self._known:
                rule = f"the host keeps the last {ENDED_KEPT} groups that have ended; ask earlier"
                raise NotFound(f"{key}: the host knows nothing of these procs any more: {rule}")
            return self._known[key][0]

    def orphans(self, names: Iterable[str]) -> list[OwnedProcs]:
        """Those with one of these names that live and whose owner does not."""
        wanted = set(names)
        with self._lock:
            owned = [(procs, owner) for procs, owner in self._known.values() if owner is not None]
        return [
            procs
            for procs, owner in owned
            if not runtime().lives(owner) and wanted & procs.names() and not procs.are_over()
        ]


groups = Groups()


class Call(NamedTuple):
    """A call that is not answered yet."""

    future: Future[Any]
    port: PortRef


class Lease(NamedTuple):
    """What somebody who follows procs holds for as long as he does."""

    name: str
    receiver: PortReceiver


class Handover(NamedTuple):
    """Procs whose spawner has not said yet that it knows of them."""

    procs: OwnedProcs
    receiver: PortReceiver


class HostService:
    def __init__(self) -> None:
        self._inbox = runtime().register_actor(HOST)
        self._queue = _native.CompletionQueue()
        self._waiting: dict[int, Call | Lease | Handover] = {}
        self._tokens = count()
        self._followed: dict[str, Subscription] = {}
        self._opening: dict[str, Replies] = {}
        self._spawning: set[int] = set()
        """Tokens of spawns that wait for their names."""
        self._ends_at: float | None = None
        """On the monotonic clock: what is settled by then is still answered."""
        self._thread = threading.Thread(target=self.serve, name="procession host", daemon=True)

    def start(self) -> None:
        """RuntimeError where there can be no more threads."""
        self._thread.start()

    def finish(self) -> None:
        """Of a host whose procs have ended: answers those who wait for that, and ends."""
        self._ends_at = time.monotonic() + LAST_ANSWERS
        self._wake()
        self._thread.join(2 * LAST_ANSWERS)

    def _wake(self) -> None:
        payload = _plain.dumps(())
        _native.call([_native.ActorRef(self._inbox.actor_id)], "wake", _native.ONE_WAY, [payload], [], None)

    def serve(self) -> None:
        """Until the inbox is closed."""
        poll = select.poll()
        poll.register(self._inbox.fileno(), select.POLLIN)
        poll.register(self._queue.fileno(), select.POLLIN)
        while not self._inbox.closed and not self._is_finished():
            poll.poll(200 if self._spawning or self._ends_at is not None else None)
            for token in [*self._queue.drain(), *self._spawning]:
                self._guarded(self._happened, token)
            for message in self._inbox.drain():
                self._guarded(self._handle, message)
                del message
            if self._inbox.some_cancelled():
                self._forget(lambda call: call.port.cancelled)
        self._inbox.end(None)

    def _guarded(self, step: Callable[[Any], None], what: Any) -> None:
        try:
            step(what)
        except Exception:  # of one asker; the others are still served
            if not sys.is_finalizing():
                sys.excepthook(*sys.exc_info())

    def _is_finished(self) -> bool:
        if self._ends_at is None:
            return False
        is_awaited = any(isinstance(one, Call) for one in self._waiting.values())
        return not is_awaited or time.monotonic() >= self._ends_at

    def _handle(self, message: Message) -> None:
        port = message.reply_port
        if port is None or message.cancelled:
            return
        try:
            with message.claims():
                arguments = _plain.loads(message.payload)
            operation = getattr(self, f"do_{message.method}", None)
            if operation is None:
                raise NotFound(f"{message.method}: no operation of this host, whose version of procession is another")
            result = operation(*arguments, *message.payload[1:])
        except Exception as error:
            _tell(port, error)
            return
        if isinstance(result, Future):
            self._await(result, port)
        elif isinstance(result, Aside):
            result.start(port)
        else:
            _send(port, result)

    def _await(self, future: Future[Any], port: PortRef) -> None:
        waiter = future._next_waiter()
        if waiter is None:
            error = future.exception()
            if error is None:
                _send(port, future.get())
            else:
                _tell(port, error)
            return
        token = next(self._tokens)
        self._waiting[token] = Call(future, port)
        if isinstance(finish_of(future), Spawn):
            self._spawning.add(token)
        waiter.notify(self._queue, token)

    def _happened(self, token: int) -> None:
        waiting = self._waiting.pop(token, None)
        self._spawning.discard(token)
        if isinstance(waiting, Call) and waiting.port.cancelled:
            return
        if isinstance(waiting, Call):
            self._await(waiting.future, waiting.port)
        elif isinstance(waiting, Lease):
            followed = self._followed.pop(waiting.name, None)
            # Whoever followed has asked for what comes next, as always: on a quiet day that would wait for long.
            self._forget(lambda call: isinstance(more := finish_of(call.future), More) and more.of is followed)
        elif waiting is not None:
            answer = waiting.receiver.try_recv()
            if answer is not None and answer.outcome == _native.CLOSED:
                waiting.procs.stop(waiting.procs.every(), "whoever asked for it has given up")

    def _forget(self, is_needless: Callable[[Call], bool]) -> None:
        for token, waiting in list(self._waiting.items()):
            if isinstance(waiting, Call) and is_needless(waiting):
                del self._waiting[token]
                self._spawning.discard(token)

    # What can be asked for, by its name. Of groups: their key, and ranks.

    def do_check_names(self, names: list[str]) -> None:
        check_names(names)

    def do_spawn(
        self,
        slots: list[tuple[str, int, dict[str, Any]]],
        launcher: dict[str, Any] | None,
        without_output: str | None,
        restart: dict[str, Any] | None,
        owner: tuple[str, str] | None,
        is_elsewhere: bool,
    ) -> Any:
        """Gives the key of the new group, the ids of its procs, and a port to say on that they were taken.

        An owner that `is_elsewhere`, on another host, holds that port instead for as long as they are to live.
        """
        policy = None if restart is None else Restart(**restart)
        procs = [Slot(name, rank, _on_this_machine(options)) for name, rank, options in slots]
        if is_elsewhere:
            owner = None
        spawn = Spawn(self, procs, KnownLauncher(launcher, without_output), policy, owner)
        try:
            return spawn()
        except AlreadyExists:
            left = groups.orphans(name for name, _, _ in slots)
            if not left:
                raise
        # These are being stopped: whoever was launched again in place of their owner uses the same names.
        ends = [procs.ended(procs.every(), len, None) for procs in left]
        until = time.monotonic() + NAME_PATIENCE

        def pending() -> _native.Waiter | None:
            if time.monotonic() >= until:
                return None
            return next((waiter for end in ends if (waiter := end._next_waiter()) is not None), None)

        return Future._of(pending, spawn)

    def hand_over(self, procs: OwnedProcs) -> Port[None]:
        """Where the answer with this port goes nowhere it closes, and nobody is left who could end the procs."""
        port, receiver = runtime().open_once_port()
        token = next(self._tokens)
        self._waiting[token] = Handover(procs, receiver)
        receiver.waiter().notify(self._queue, token)
        return Port(port)

    def do_proc_ids(self, key: str, ranks: list[int]) -> list[str]:
        return groups.get(key).proc_ids(ranks)

    def do_standing(self, key: str, ranks: list[int]) -> Any:
        return groups.get(key).standing(ranks)

    def do_statuses(self, key: str, ranks: list[int]) -> Any:
        return groups.get(key).statuses(ranks)

    def do_exits(self, key: str, ranks: list[int]) -> Any:
        return groups.get(key).exits(ranks)

    def do_histories(self, key: str, ranks: list[int]) -> Any:
        return groups.get(key).histories(ranks)

    def do_ready(self, key: str, ranks: list[int]) -> Future[Any]:
        return groups.get(key).ready(ranks)

    def do_ended(self, key: str, ranks: list[int]) -> Future[Any]:
        return groups.get(key).ended(ranks, list, None)

    def do_stop(self, key: str, ranks: list[int], reason: str) -> Future[None]:
        return groups.get(key).stop(ranks, reason)

    def do_terminate(self, key: str, ranks: list[int], timeout: float) -> Future[None]:
        return groups.get(key).terminate(ranks, timeout)

    def do_kill(self, key: str, ranks: list[int]) -> Future[None]:
        return groups.get(key).kill(ranks)

    def do_respawn(self, key: str, ranks: list[int], launcher: dict[str, Any] | None, is_spawner: bool) -> None:
        procs = groups.get(key)
        if is_spawner:  # a launcher class may have another process by now
            procs.launcher = KnownLauncher(launcher, procs.launcher.without_output)
        procs.respawn(ranks)

    def do_close_zygote(self, name: str) -> Future[None]:
        return close_zygote(name)

    def do_tails(self, key: str, ranks: list[int], lines: int | None) -> Any:
        procs = groups.get(key)
        return procs.tails(ranks, None) if lines is None else Aside(lambda: procs.tails(ranks, lines))

    def do_subscribe(self, key: str, ranks: list[int], output: bool, lifecycle: bool) -> Any:
        return self._follow(groups.get(key).subscribe(ranks, output=output, lifecycle=lifecycle))

    def do_subscribe_with_past(self, key: str, ranks: list[int], lines: int | None) -> Any:
        procs = groups.get(key)

        def follow() -> tuple[Any, ...]:
            subscription, past = procs.subscribe_with_past(ranks, lines)
            return *self._follow(subscription), past

        return follow() if lines is None else Aside(follow)

    def _follow(self, subscription: Subscription) -> tuple[str, Port[None]]:
        """Its name, and a port that closes when nobody follows any more. From any thread."""
        port, receiver = runtime().open_once_port()
        token = next(self._tokens)
        name = f"subscription-{token}"
        self._followed[name] = subscription
        self._waiting[token] = Lease(name, receiver)
        receiver.waiter().notify(self._queue, token)
        return name, Port(port)

    def do_events(self, name: str) -> Future[tuple[list[dict[str, Any]], bool]]:
        """What has happened since, as soon as there is something; and whether that was all."""
        subscription = self._followed.get(name)
        if subscription is None:
            raise NotFound(f"{name}: nobody holds this subscription any more")
        return when_done(subscription.waiter(), More(subscription))

    def do_openings(
        self, key: str, ranks: list[int], agent: str, verb: str, opens: str, ports: list[str], *payload: memoryview
    ) -> str:
        """The agents have been sent it, before anything that the caller sends once it has this name to ask with for more."""
        moved = [_native.claim_port(port, False) for port in ports]
        name = f"opening-{next(self._tokens)}"
        self._opening[name] = groups.get(key).openings(ranks, agent, verb, payload, moved, self._inbox, opens)
        return name

    def do_opened(self, name: str) -> Future[list[tuple[int, str, list[bytes]] | None]]:
        """Gives the answers of the agents, unread."""
        replies = self._opening.pop(name)

        def finish() -> list[tuple[int, str, list[bytes]] | None]:
            answers = [replies.take(place) for place in range(len(replies))]
            return [
                None if one is None else (one.outcome, one.text, [bytes(part) for part in one.payload])
                for one in answers
            ]

        return when_done(replies.all_done(), finish)


class Spawn:
    """One launch of a group, which may have to be tried again."""

    def __init__(
        self,
        service: HostService,
        slots: Sequence[Slot],
        launcher: KnownLauncher,
        restart: Restart | None,
        owner: tuple[str, str] | None,
    ) -> None:
        self._service, self._slots, self._launcher, self._restart, self._owner = (
            service,
            slots,
            launcher,
            restart,
            owner,
        )

    def __call__(self) -> tuple[str, list[str], Port[None]]:
        procs = launch(self._slots, self._launcher, self._restart, owner=self._owner)
        key = groups.key_of(procs, None if self._owner is None else self._owner[0])
        return key, procs.proc_ids(procs.every()), self._service.hand_over(procs)


class More:
    """What has happened in a subscription since it was asked last."""

    def __init__(self, of: Subscription) -> None:
        self.of = of

    def __call__(self) -> tuple[list[dict[str, Any]], bool]:
        return self.of.drain(), self.of.ended


def _on_this_machine(options: dict[str, Any]) -> dict[str, Any]:
    """With the interpreter of this process where none was asked for, and a directory for output that is there."""
    if options["log"] is not None:
        directory, *rest = options["log"]
        options = {**options, "log": (_validate.log_dir("log_dir", directory), *rest)}
    if options["program"] is None:
        options = {**options, "program": os.fsencode(sys.executable), "arg0": sys.executable}
    return options


class Aside:
    """Work that may wait for a file system, and is done in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work

    def start(self, port: PortRef) -> None:
        threading.Thread(target=self._run, args=(port,), name="procession host aside", daemon=True).start()

    def _run(self, port: PortRef) -> None:
        try:
            result = self._work()
        except Exception as error:
            _tell(port, error)
        else:
            _send(port, result)


def _send(port: PortRef, value: object) -> None:
    try:
        _answer.send_value(port, value)
    except (ConnectionError, RuntimeError):
        return  # whoever asked is gone
    except Exception as error:  # such as an answer over a limit
        _tell(port, error)


def _tell(port: PortRef, error: BaseException) -> None:
    with suppress(ConnectionError, RuntimeError):
        _answer.send_exception(port, error)


def serve() -> HostService:
    """Has the host of this process answer those who ask it."""
    service = HostService()
    service.start()
    return service
