"""The procs behind a mesh: slots that are launched, again and again if need be, and ids of procs that belong to others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Protocol, TypeVar

from procession import _native
from procession._future import Future, when_all, when_done
from procession._runtime import runtime
from procession.errors import AlreadyExists, LaunchFailed, Unsupported

if TYPE_CHECKING:
    from procession._host_mesh import HostMesh
    from procession._launcher import AnyLauncher
    from procession._native import Buffer, PortRef, ProcHandle, Replies, Subscription, Waiter
    from procession._proc_mesh import ProcMesh
    from procession._restart import Restart
    from procession._shape import Region

R = TypeVar("R")
Streams = Sequence[Sequence[Sequence[str]]]
"""Of each proc the lines of stdout, and those of stderr."""


class Standing(NamedTuple):
    """Where a slot stands, as far as it matters for what can be done with it."""

    proc_id: str
    name: str
    status: str
    has_exit: bool
    """Its last launch has ended."""
    is_over: bool
    """Nothing launches it again by itself either."""


class Events(Protocol):
    """What happens to some procs, as `_native.Subscription` gives it."""

    def next(self, timeout: float | None) -> dict[str, Any] | None: ...
    def drain(self) -> list[dict[str, Any]]: ...
    def waiter(self) -> Waiter: ...
    @property
    def ended(self) -> bool: ...


class Origin(NamedTuple):
    """By what another process finds these procs again."""

    host: str
    """The node of the host that launched them."""
    key: str
    """What they are called there."""
    without_output: str | None
    """Who does not hand over what they write."""


class HostOrigins(NamedTuple):
    """The same of procs on several hosts."""

    hosts: HostMesh
    origins: Sequence[Origin | HostOrigins | None]
    """By host."""
    per_host: int
    since: float
    """When they were launched, seconds since the epoch."""


class Procs(Protocol):
    """What a mesh needs of its procs; ranks are those of the mesh that was spawned. What is given is in their order.

    What is data is as `_native.ProcHandle` has it, and plain.
    """

    def proc_id(self, rank: int) -> str:
        """Of its last launch."""

    def proc_ids(self, ranks: Sequence[int]) -> list[str]: ...
    def standing(self, ranks: Sequence[int]) -> list[Standing]: ...
    def statuses(self, ranks: Sequence[int]) -> list[dict[str, Any]]: ...
    def exits(self, ranks: Sequence[int]) -> list[dict[str, Any] | None]: ...
    def histories(self, ranks: Sequence[int]) -> list[tuple[list[dict[str, Any]], int]]: ...
    def ready(self, ranks: Sequence[int]) -> Future[Literal[True]]:
        """Done when all have called back; raises LaunchFailed as soon as one cannot any more: its `rank` is the place
        among these."""

    def ended(
        self, ranks: Sequence[int], finish: Callable[[list[dict[str, Any]]], R], timeout: float | None
    ) -> Future[R]:
        """What `finish` makes of their exits when all have ended for good; TimeoutError after `timeout` seconds."""

    def stop(self, ranks: Sequence[int], reason: str) -> Future[None]: ...
    def terminate(self, ranks: Sequence[int], timeout: float) -> Future[None]: ...
    def kill(self, ranks: Sequence[int]) -> Future[None]: ...
    def respawn(self, ranks: Sequence[int]) -> None:
        """New incarnations of these ranks, which all have to be at their end."""

    def subscribe(self, ranks: Sequence[int], *, output: bool, lifecycle: bool) -> Events: ...
    def subscribe_with_past(self, ranks: Sequence[int], lines: int | None) -> tuple[Events, Streams]:
        """Output, and what is kept of before."""

    def tails(self, ranks: Sequence[int], lines: int | None) -> Streams: ...
    def check_output(self) -> None:
        """Raises Unsupported where nobody hands over what the procs write."""

    def launcher_process(self) -> ProcMesh:
        """Where their launcher runs; Unsupported when it has no process to itself."""

    def builds_actors_again(self) -> bool:
        """Whether each further incarnation gets the actors of the earlier ones."""

    def spawn_actors(
        self,
        ranks: Sequence[int],
        agent: str,
        verb: str,
        payload: Sequence[Buffer],
        moved: Sequence[PortRef],
        opens: str,
    ) -> Future[None]:
        """Where they are built again: as `_native.spawn_actors`; raises the first failure."""

    def origin(self) -> Origin | HostOrigins | None:
        """None where others know them by their ids alone."""


class Slot(NamedTuple):
    """One place of a mesh, and how its proc is launched."""

    name: str
    rank: int
    options: dict[str, Any]
    """The arguments of ProcSpec that stay the same over all launches."""

    def spec(self) -> _native.ProcSpec:
        return _native.ProcSpec(name=self.name, rank=self.rank, **self.options)


launching = threading.RLock()  # a launcher that is launched for a launch is launched inside of it
"""Held from the look at which names are free until they are taken, and while the process of a launcher is started."""


class OwnedProcs:
    """Procs that the host of this process has launched, or taken over."""

    def __init__(self, launcher: AnyLauncher, handles: Sequence[ProcHandle], builds_actors_again: bool = False) -> None:
        self.launcher = launcher
        self._handles = handles
        self._builds_actors_again = builds_actors_again
        self.key: str | None = None
        """What other processes know them by, once one does."""

    def handles(self, ranks: Sequence[int]) -> list[ProcHandle]:
        return [self._handles[rank] for rank in ranks]

    def every(self) -> range:
        """All ranks that there are."""
        return range(len(self._handles))

    def are_over(self) -> bool:
        """Whether all have ended for good."""
        return all(handle.ended().done() for handle in self._handles)

    def names(self) -> set[str]:
        return {handle.name for handle in self._handles}

    def proc_id(self, rank: int) -> str:
        return self._handles[rank].proc_id

    def proc_ids(self, ranks: Sequence[int]) -> list[str]:
        return [self._handles[rank].proc_id for rank in ranks]

    def standing(self, ranks: Sequence[int]) -> list[Standing]:
        return [
            Standing(one.proc_id, one.name, one.status()["status"], one.exit() is not None, one.ended().done())
            for one in self.handles(ranks)
        ]

    def statuses(self, ranks: Sequence[int]) -> list[dict[str, Any]]:
        return [handle.status() for handle in self.handles(ranks)]

    def exits(self, ranks: Sequence[int]) -> list[dict[str, Any] | None]:
        return [handle.exit() for handle in self.handles(ranks)]

    def histories(self, ranks: Sequence[int]) -> list[tuple[list[dict[str, Any]], int]]:
        return [handle.history() for handle in self.handles(ranks)]

    def ready(self, ranks: Sequence[int]) -> Future[Literal[True]]:
        handles = self.handles(ranks)
        each = [handle.ready() for handle in handles]
        together = _native.all_ready(handles)

        def finish() -> Literal[True]:
            try:
                together.result()
            except RuntimeError as error:
                reason = str(error)
                place = next((place for place, ready in enumerate(each) if _failed_with(ready, reason)), 0)
                raise LaunchFailed(handles[place].proc_id, place, reason) from None
            return True

        return when_done(together, finish)

    def ended(
        self, ranks: Sequence[int], finish: Callable[[list[dict[str, Any]]], R], timeout: float | None
    ) -> Future[R]:
        waiters = [handle.ended() for handle in self.handles(ranks)]
        return when_all(waiters, lambda: finish([waiter.result() for waiter in waiters]), timeout)

    def stop(self, ranks: Sequence[int], reason: str) -> Future[None]:
        return _each([handle.stop(reason, None) for handle in self.handles(ranks)])

    def terminate(self, ranks: Sequence[int], timeout: float) -> Future[None]:
        return _each([handle.terminate(timeout, "ProcMesh.terminate") for handle in self.handles(ranks)])

    def kill(self, ranks: Sequence[int]) -> Future[None]:
        return _each([handle.kill("ProcMesh.kill") for handle in self.handles(ranks)])

    def respawn(self, ranks: Sequence[int]) -> None:
        handles = self.handles(ranks)
        with launching:
            check_names([handle.name for handle in handles])
            launcher = self.launcher.native()
            for handle in handles:
                handle.respawn(launcher)

    def subscribe(self, ranks: Sequence[int], *, output: bool, lifecycle: bool) -> Subscription:
        return _native.subscribe(self.handles(ranks), output=output, lifecycle=lifecycle)

    def subscribe_with_past(self, ranks: Sequence[int], lines: int | None) -> tuple[Subscription, Streams]:
        return _native.subscribe_with_past(self.handles(ranks), lines)

    def tails(self, ranks: Sequence[int], lines: int | None) -> Streams:
        return [
            [handle.output_tail(stream, lines) for stream in ("stdout", "stderr")] for handle in self.handles(ranks)
        ]

    def check_output(self) -> None:
        check_output(self.launcher)

    def launcher_process(self) -> ProcMesh:
        return self.launcher.process()

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
        from procession import _answer
        from procession._context import sender

        replies = self.openings(ranks, agent, verb, payload, moved, sender(), opens)

        def finish() -> None:
            for place in range(len(replies)):
                answer = replies.take(place)
                if answer is not None:
                    _answer.take(answer)

        return when_done(replies.all_done(), finish)

    def openings(
        self,
        ranks: Sequence[int],
        agent: str,
        verb: str,
        payload: Sequence[Buffer],
        moved: Sequence[PortRef],
        sender: _native.Inbox | None,
        opens: str,
    ) -> Replies:
        return _native.spawn_actors(self.handles(ranks), agent, verb, payload, moved, sender, opens)

    def origin(self) -> Origin:
        from procession._host_service import groups

        return Origin(runtime().proc_id, groups.key_of(self), self.launcher.without_output)


def launch(
    slots: Sequence[Slot],
    launcher: AnyLauncher,
    restart: Restart | None = None,
    follower: Subscription | None = None,
    owner: tuple[str, str] | None = None,
) -> OwnedProcs:
    """Launches one proc for each slot; with an `owner`, the id of a proc and who in it, for that one."""
    with launching:
        check_names([slot.name for slot in slots])
        specs = [slot.spec() for slot in slots]
        policy = None if restart is None else restart.native()
        handles = runtime().spawn_procs(specs, launcher.native(), follower, policy, owner)
    return OwnedProcs(launcher, handles, restart is not None and restart.actors == "respawn")


def check_names(names: Sequence[str]) -> None:
    """Raises AlreadyExists where a proc of one of these names lives on this host."""
    live = runtime().live()
    for name in names:
        if name in live:
            raise AlreadyExists(name, live[name])


def check_output(launcher: AnyLauncher) -> None:
    """Raises Unsupported where nobody hands over what the procs of `launcher` write."""
    check_hands_over(launcher.without_output)


def check_hands_over(without_output: str | None) -> None:
    """Raises Unsupported where a launcher of that name does not hand over what its procs write."""
    if without_output is not None:
        raise Unsupported(
            f"launcher {without_output} does not hand over the output of its procs; if it feeds the log channel, "
            "say so with capabilities = Capabilities(stdio=True)"
        )


def _each(waiters: list[Waiter]) -> Future[None]:
    """Done when all are; then raises the first thing that went wrong."""

    def finish() -> None:
        for waiter in waiters:
            waiter.result()

    return when_all(waiters, finish)


def _failed_with(waiter: Waiter, reason: str) -> bool:
    if waiter.done():
        try:
            waiter.result()
        except RuntimeError as error:
            return str(error) == reason
    return False


class OtherProcs:
    """Procs known by their ids alone: this process itself, and what no host knows any more."""

    def __init__(self, region: Region, ids: Sequence[str]) -> None:
        self._region = region
        self._ids = ids

    def proc_id(self, rank: int) -> str:
        return self._ids[self._region.rank_of(rank)]

    def proc_ids(self, ranks: Sequence[int]) -> list[str]:
        return [self.proc_id(rank) for rank in ranks]

    def builds_actors_again(self) -> bool:
        return False

    def origin(self) -> None:
        return None

    def check_output(self) -> None:
        self._refuse()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise Unsupported(
            f"{self._ids[0]} was launched by another process: its life can be asked for and ended only through the mesh that "
            "it was spawned in; actors can be spawned on it from here"
        )

    standing = statuses = exits = histories = ready = ended = stop = terminate = kill = respawn = _refuse
    subscribe = subscribe_with_past = tails = launcher_process = spawn_actors = _refuse
