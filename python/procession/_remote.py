"""Procs that the host of another process has launched, as they are seen from here: everything is asked of that host."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from procession import _answer, _native, _plain, config
from procession._context import sender
from procession._future import Future, _deadline_in, gather, on_event_loop, when_done
from procession._procs import HostOrigins, Origin, OtherProcs, Standing, Streams, check_hands_over
from procession._runtime import runtime
from procession.errors import ActorError, NotFound, SupervisionError, Unsupported

if TYPE_CHECKING:
    from procession._host_mesh import HostMesh
    from procession._launcher import AnyLauncher
    from procession._native import Buffer, PortRef, Replies, Waiter
    from procession._port import Port
    from procession._proc_mesh import ProcMesh
    from procession._procs import Procs, Slot
    from procession._restart import Restart
    from procession._shape import Region

R = TypeVar("R")

LONG = 1.0
"""Seconds that an event loop may wait for a host before it is worth a word."""

FORGET_AT = 64
"""How many waits may be known before those that are over are looked for."""


class HostRef:
    """A host, by its node."""

    def __init__(self, node: str) -> None:
        from procession._host_service import HOST

        self.node = node
        self._service = _native.ActorRef(f"{node}/{HOST}")

    def send(self, verb: str, *args: Any, segments: Sequence[Buffer] = ()) -> Replies:
        payload = [_plain.dumps(args), *segments]
        return _native.call([self._service], verb, _native.RETURNS, payload, [], sender())

    def ask(self, verb: str, *args: Any, segments: Sequence[Buffer] = ()) -> Any:
        """The answer. It is waited for here and now, also on an event loop, since a host answers this at once; a loop that
        was held up for longer than that is warned of."""
        return self.asked(verb, *args, segments=segments)()

    def asked(self, verb: str, *args: Any, segments: Sequence[Buffer] = ()) -> Callable[[], Any]:
        """Asks, and gives what waits for the answer: so that several hosts answer at the same time."""
        replies = self.send(verb, *args, segments=segments)

        def answer() -> Any:
            began = time.monotonic()
            is_there = replies.one_done(0).wait(config.HOST_SECONDS)
            _warn_held_up_loop(verb, time.monotonic() - began)
            if not is_there and replies.cancel():
                raise TimeoutError(
                    f"the host {self.node} has not answered {verb} within {config.HOST_SECONDS:g} s: its process is stopped, "
                    "or holds its interpreter; what it has not begun with by then is not done"
                )
            return _taken(replies)

        return answer

    def later(self, verb: str, *args: Any) -> Future[Any]:
        """The answer when there is one."""
        replies = self.send(verb, *args)
        return when_done(replies.one_done(0), lambda: _taken(replies))


def _warn_held_up_loop(verb: str, seconds: float) -> None:
    if seconds > LONG and on_event_loop():
        warnings.warn(
            f"{verb} has held up the event loop of this thread for {seconds:.1f} s, which its host took to answer: where that "
            "matters, ask in another thread, as in `await asyncio.to_thread(procs.statuses)`",
            RuntimeWarning,
            stacklevel=5,
        )


def _taken(replies: Replies) -> Any:
    answer = replies.take(0)
    assert answer is not None, "it is taken once, when it is there"
    try:
        return _answer.take(answer)
    except ActorError as error:
        raise error.exception from None  # as it was raised there: that it was another process is no matter of the caller's


class RemoteProcs:
    """As `OwnedProcs`, of a host that is asked for everything."""

    def __init__(
        self,
        origin: Origin,
        ids: dict[int, str],
        again: bool,
        launcher: AnyLauncher | None = None,
        on: HostMesh | None = None,
    ) -> None:
        self._origin = origin
        self._host = HostRef(origin.host)
        self._ids = ids
        """By rank, as they were known last."""
        self._builds_actors_again = again
        self._launcher = launcher
        """None where they were not spawned by this process."""
        self._on = on
        """Their host, where it is not the one that has launched this process."""
        self._waits: dict[tuple[str, tuple[int, ...]], Future[Any]] = {}
        self._forget_at = FORGET_AT

    def _ask(self, verb: str, ranks: Sequence[int], *args: Any) -> Any:
        return self._host.ask(verb, self._origin.key, list(ranks), *args)

    def _later(self, verb: str, ranks: Sequence[int], *args: Any) -> Future[Any]:
        return self._host.later(verb, self._origin.key, list(ranks), *args)

    def _wait(self, verb: str, ranks: Sequence[int]) -> Future[Any]:
        """One call however often it is asked for, until that is answered: so asking again and again costs nothing there."""
        key = (verb, tuple(ranks))
        known = self._waits.get(key)
        if known is None or known.done():
            if len(self._waits) >= self._forget_at:  # seldom, or each of n would cost a look at all n
                self._waits = {key: wait for key, wait in list(self._waits.items()) if not wait.done()}
                self._forget_at = max(FORGET_AT, 2 * len(self._waits))
            known = self._waits[key] = self._later(verb, ranks)
        return known

    def proc_id(self, rank: int) -> str:
        return self.proc_ids([rank])[0]

    def proc_ids(self, ranks: Sequence[int]) -> list[str]:
        with suppress(NotFound, SupervisionError):  # of procs that outlive their host what was known is right
            self._ids.update(zip(ranks, self._ask("proc_ids", ranks), strict=True))
        return [self._ids[rank] for rank in ranks]

    def standing(self, ranks: Sequence[int]) -> list[Standing]:
        return list(self._ask("standing", ranks))

    def statuses(self, ranks: Sequence[int]) -> list[dict[str, Any]]:
        return list(self._ask("statuses", ranks))

    def exits(self, ranks: Sequence[int]) -> list[dict[str, Any] | None]:
        return list(self._ask("exits", ranks))

    def histories(self, ranks: Sequence[int]) -> list[tuple[list[dict[str, Any]], int]]:
        return list(self._ask("histories", ranks))

    def ready(self, ranks: Sequence[int]) -> Future[Literal[True]]:
        return self._wait("ready", ranks)

    def ended(
        self, ranks: Sequence[int], finish: Callable[[list[dict[str, Any]]], R], timeout: float | None
    ) -> Future[R]:
        all_ended = self._wait("ended", ranks)
        if timeout is not None and not all_ended.done() and all(one.is_over for one in self.standing(ranks)):
            timeout = None  # they have ended, and their exits are on the way
        return Future._of(all_ended._next_waiter, lambda: finish(all_ended.get()), _deadline_in(timeout))

    def stop(self, ranks: Sequence[int], reason: str) -> Future[None]:
        return self._later("stop", ranks, reason)

    def terminate(self, ranks: Sequence[int], timeout: float) -> Future[None]:
        return self._later("terminate", ranks, timeout)

    def kill(self, ranks: Sequence[int]) -> Future[None]:
        return self._later("kill", ranks)

    def respawn(self, ranks: Sequence[int]) -> None:
        launcher = self._launcher
        self._waits.clear()  # those were for the launches before
        described = None if launcher is None else launcher.described(self._on)
        self._ask("respawn", ranks, described, launcher is not None)

    def subscribe(self, ranks: Sequence[int], *, output: bool, lifecycle: bool) -> RemoteEvents:
        return RemoteEvents(self._host, *self._ask("subscribe", ranks, output, lifecycle))

    def subscribe_with_past(self, ranks: Sequence[int], lines: int | None) -> tuple[RemoteEvents, Streams]:
        name, lease, past = self._ask("subscribe_with_past", ranks, lines)
        return RemoteEvents(self._host, name, lease), past

    def tails(self, ranks: Sequence[int], lines: int | None) -> Streams:
        tails: Streams = self._ask("tails", ranks, lines)
        return tails

    def check_output(self) -> None:
        check_hands_over(self._origin.without_output)

    def launcher_process(self) -> ProcMesh:
        if self._launcher is None:
            raise Unsupported("the output of a launcher can be read only where its procs were spawned")
        return self._launcher.process()

    def builds_actors_again(self) -> bool:
        return self._builds_actors_again

    def spawn_actors(
        self,
        ranks: Sequence[int],
        agent: str,
        verb: str,
        payload: Sequence[Buffer],
        moved: Sequence[PortRef],
        opens: str,
    ) -> Future[None]:
        ports = [port.port_id for port in moved]  # for many values each: addresses, which do not move
        args = (self._origin.key, list(ranks), agent, verb, opens, ports)
        opened = self._host.later("opened", self._host.ask("openings", *args, segments=payload))

        def finish() -> None:
            for answer in opened.get():
                if answer is not None:
                    _answer.take(cast(Any, Unread(*answer)))

        return gather([opened], finish)

    def origin(self) -> Origin:
        return self._origin


class Unread:
    """An answer that the host has passed on; as `_native.Answer`."""

    def __init__(self, outcome: int, text: str, payload: list[bytes]) -> None:
        self.outcome = outcome
        self.text = text
        self.payload = payload
        self.rank = None

    def claims(self, holder: object = None) -> Unread:
        return self

    def __enter__(self) -> Unread:
        return self

    def __exit__(self, *exc: object) -> None: ...


class RemoteEvents:
    """A subscription that a host holds: as `_native.Subscription`. What is not read waits there, where it is bounded."""

    def __init__(self, host: HostRef, name: str, lease: Port[None]) -> None:
        self._host = host
        self._name = name
        self._lease = lease
        """The host forgets the subscription when this is gone."""
        self._given: deque[dict[str, Any]] = deque()
        self._is_last = False
        self._call: Replies | None = None
        self._ask_for_more()

    def _ask_for_more(self) -> None:
        self._call = self._host.send("events", self._name)
        self._asked = self._call.one_done(0)

    def _collect(self) -> None:
        if self._call is not None and self._asked.done():
            call, self._call = self._call, None
            events, self._is_last = _taken(call)
            self._given.extend(events)

    def next(self, timeout: float | None) -> dict[str, Any] | None:
        while not self.ended:
            if self._given:
                one = self._given.popleft()
                self._refill()
                return one
            self._refill()  # of one that is read on after its host could not be asked, which is told again then
            if not self._asked.wait(timeout):
                return None
        return None

    def drain(self) -> list[dict[str, Any]]:
        self._collect()
        some = list(self._given)
        self._given.clear()
        self._refill()
        return some

    def _refill(self) -> None:
        if not self._given and not self._is_last and self._call is None:
            self._ask_for_more()

    def waiter(self) -> Waiter:
        return self._asked

    @property
    def ended(self) -> bool:
        self._collect()
        return self._is_last and not self._given


def launch_through_host(
    slots: Sequence[Slot],
    launcher: AnyLauncher,
    restart: Restart | None,
    owner: tuple[str, str] | None,
    on: HostMesh | None = None,
) -> Callable[[], RemoteProcs]:
    """As `launch`, by the host that has launched this process, or by another one: `on` a mesh of it alone.

    It has been asked when this returns; what is given waits for its answer.
    """
    for slot in slots:
        _checked(slot).spec()  # refuses here what would be refused there
    policy = None
    if restart is not None:
        restart.native()
        policy = restart.as_dict()
    host = HostRef(runtime().host_node if on is None else on._nodes()[0])
    if launcher.starts_a_process:
        host.ask("check_names", [slot.name for slot in slots])  # for nothing it is not started
    given = [tuple(slot) for slot in slots]
    is_elsewhere = owner is not None and host.node != runtime().host_node
    args = (given, launcher.described(on), launcher.without_output, policy, owner, is_elsewhere)
    answer = host.asked("spawn", *args)

    def launched() -> RemoteProcs:
        key, ids, taken = answer()
        if is_elsewhere:
            _held.append(taken)
        else:
            taken.send(None)
        origin = Origin(host.node, key, launcher.without_output)
        again = restart is not None and restart.actors == "respawn"
        return RemoteProcs(origin, dict(enumerate(ids)), again, launcher, on)

    return launched


_held: list[Port[None]] = []
"""Of procs on hosts that have not launched this process, and so cannot see its end otherwise: these close with it."""


def _checked(slot: Slot) -> Slot:
    """With some interpreter, where the host has its own."""
    if slot.options["program"] is not None:
        return slot
    return slot._replace(options={**slot.options, "program": os.fsencode(sys.executable), "arg0": sys.executable})


def found_again(region: Region, ids: list[str], origin: Origin | HostOrigins | None, again: bool) -> Procs:
    """The procs of a mesh that came from another process."""
    if origin is None:
        return OtherProcs(region, ids)
    if isinstance(origin, HostOrigins):
        from procession._hosted import HostedProcs

        known = dict(zip(region.base_ranks(), ids, strict=True))
        per_host = origin.per_host
        parts: list[Procs] = []
        for host, one in enumerate(origin.origins):
            assert isinstance(one, Origin), "what a host has launched is known there"
            own = {rank - host * per_host: id_ for rank, id_ in known.items() if rank // per_host == host}
            parts.append(_of_host(one, own, again) or RemoteProcs(one, own, again))
        return HostedProcs(origin.hosts, parts, per_host, origin.since)
    found = _of_host(origin, dict(zip(region.base_ranks(), ids, strict=True)), again)
    return OtherProcs(region, ids) if found is None else found


def _of_host(origin: Origin, ids: dict[int, str], again: bool) -> Procs | None:
    """None for what this process had launched itself, and what has ended long ago."""
    if origin.host != runtime().proc_id:
        return RemoteProcs(origin, ids, again)
    from procession._host_service import groups

    try:
        return groups.get(origin.key)
    except NotFound:
        return None
