"""Meshes of procs: spawn actors on them, watch them, stop them, launch them again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from procession import _native, _validate
from procession._actor import Actor, check_class
from procession._actor_mesh import ActorMesh
from procession._future import Future, gather, refuse_on_event_loop, wait_for, when_all, when_done
from procession._procs import OtherProcs, OwnedProcs, Procs
from procession._runtime import runtime
from procession._shape import Mesh, Region
from procession._value_mesh import ValueMesh
from procession.errors import InvalidArgument, LaunchFailed, LimitExceeded, NotFound, Unsupported

if TYPE_CHECKING:
    from procession._exits import History, ProcEvent, ProcExit, ProcStatus
    from procession._host_mesh import HostMesh
    from procession._logs import Logs
    from procession._native import ProcHandle, Subscription, Waiter

T = TypeVar("T", bound=Actor)


class ProcMesh(Mesh):
    """Launched processes that host actors. Every slice is one too, and shares the procs.

    As a context manager, sync or async, it stops its procs at the end.
    """

    def __init__(self, name: str, procs: Procs, region: Region, *, hosts_actors: bool = True) -> None:
        self._name = name
        self._procs = procs
        self._own_region = region
        self._hosts_actors = hosts_actors

    # Actors

    def spawn(self, name: str, Class: type[T], *args: Any, **kwargs: Any) -> T:
        """Starts one actor on each proc and returns at once; `initialized` of what it gives tells when they are built.

        Calls can be sent right away. What is given is an `ActorMesh`, typed as the actor class for its endpoints.
        """
        _validate.name("name", name)
        check_class(Class)
        self._check_hosts_actors()
        return self._spawn(name, Class, args, kwargs)

    def _spawn(self, name: str, Class: type[T], args: Any, kwargs: Any, is_watched: bool = True) -> T:
        from procession._agent import AGENT, spawn_elsewhere, spawn_here, unique_name
        from procession._faults import Unwatched, Watch

        actor_name = unique_name(name)
        region = self._own_region
        ids = [self._procs.proc_id(base) for base in region.base_ranks()]
        own_id = runtime().proc_id
        started: list[Future[None]] = []
        elsewhere = [rank for rank, proc_id in enumerate(ids) if proc_id != own_id]

        def finish() -> None:
            for future in started:
                future.get()

        refs = tuple(_native.ActorRef(f"{proc_id}/{actor_name}") for proc_id in ids)
        mesh = ActorMesh(Class, name, refs, region, None, gather(started, finish))
        watch = Watch(mesh, AGENT, self._procs, region.base_ranks()) if is_watched else Unwatched()
        try:
            if own_id in ids:
                ended = partial(watch.ended, ids.index(own_id))
                started.append(spawn_here(actor_name, name, Class, args, kwargs, region, ended))
            if elsewhere:
                handles = self._handles() if self._procs.builds_actors_again() else None
                others = [ids[rank] for rank in elsewhere]
                watched = partial(watch.elsewhere, elsewhere)
                started.append(
                    spawn_elsewhere(
                        others, actor_name, name, Class, args, kwargs, region, watch.owner_id, watched, handles
                    )
                )
        except BaseException:
            watch.abandon()
            raise
        return cast(T, mesh)

    def find(self, name: str, Class: type[T]) -> Future[T]:
        """The actors that were spawned on these procs under that name, on each the latest where there are several.

        It waits for the procs: also for one that looks for this client after a `reattach`. LookupError (`NotFound`) where
        a proc has none, as after its restart: spawn one there, and ask again. SupervisionError where a proc has ended.
        """
        from procession._agent import find_elsewhere

        _validate.name("name", name)
        check_class(Class)
        self._check_hosts_actors()
        region = self._own_region
        ids = [self._procs.proc_id(base) for base in region.base_ranks()]
        asked = find_elsewhere(ids, name)

        def finish() -> T:
            found = asked.get()
            without = [rank for rank, actors in enumerate(found) if not actors]
            if without:
                rule = "spawn them there, and ask again"
                raise NotFound(f"{name}: ranks {without} of {self!r} have no actors of that name; {rule}")
            refs = tuple(_native.ActorRef(f"{one}/{actors[-1]}") for one, actors in zip(ids, found, strict=True))
            return cast(T, ActorMesh(Class, name, refs, region))

        return gather([asked], finish)

    def _check_hosts_actors(self) -> None:
        if not self._hosts_actors:
            raise Unsupported(f'{self!r} was spawned with readiness="none": its procs host no actors')

    @property
    def initialized(self) -> Future[Literal[True]]:
        """Done when every proc has called back; raises LaunchFailed as soon as one cannot any more."""
        return _all_ready(range(len(self)), self._handles())

    # Their lives

    def statuses(self) -> ValueMesh[ProcStatus]:
        """Where each launch stands, now."""
        from procession._exits import status_from

        return ValueMesh(self.extent, [status_from(handle.status()) for handle in self._handles()])

    def exits(self) -> ValueMesh[ProcExit | None]:
        """How the last launch of each ended, None where it lives; returned at once."""
        return ValueMesh(self.extent, [_exit_of(handle) for handle in self._handles()])

    def wait(self, timeout: float | None = None) -> Future[ValueMesh[ProcExit]]:
        """How every proc ended for good; TimeoutError, and nothing else, when some still live after `timeout` seconds.

        One that its restart policy launches again has not.
        """
        handles = self._handles()

        def finish() -> ValueMesh[ProcExit]:
            return ValueMesh(self.extent, [cast("ProcExit", _exit_of(handle)) for handle in handles])

        return when_all([handle.ended() for handle in handles], finish, _validate.wait_seconds("timeout", timeout))

    def history(self) -> ValueMesh[History]:
        """How all launches of each rank have ended so far, its earlier incarnations included."""
        from procession._exits import History, exit_from

        def history_of(handle: ProcHandle) -> History:
            exits, dropped = handle.history()
            return History([exit_from(given) for given in exits], dropped)

        return ValueMesh(self.extent, [history_of(handle) for handle in self._handles()])

    def why(self, rank: int = 0) -> str:
        """Why the proc of that rank ended, for people: verdict, timeline, evidence, lines, how its siblings fared.

        Of one that has not ended it says that.
        """
        from procession._records import Case, all_names, launcher_of
        from procession._why import explained

        handles = self._handles()
        place = _validate.count("rank", rank, most=len(handles) - 1)
        exits = [_exit_of(handle) for handle in handles]
        one = exits[place]
        if one is None:
            return f"{handles[place].name} has not ended: it is {handles[place].status()['status']}"
        siblings = tuple(Case(other) for other in exits if other is not None and other is not one)
        try:
            launcher = launcher_of(one, all_names())
        except NotFound:
            launcher = None
        return explained(Case(one, siblings=siblings, launcher=launcher))

    def terminate(self, timeout: float = 10.0) -> Future[None]:
        """Asks every proc's tree to end, and kills what is left after `timeout` seconds; done once all were asked."""
        seconds = _validate.seconds("timeout", timeout)
        return _each([handle.terminate(seconds, "ProcMesh.terminate") for handle in self._handles()])

    def kill(self) -> Future[None]:
        """Ends every proc's tree; done once all launchers were asked.

        Raises, as `terminate` does, LauncherLost where a launcher ended over it, RuntimeError where it could not be asked.
        """
        return _each([handle.kill("ProcMesh.kill") for handle in self._handles()])

    def stop(self, reason: str | None = None) -> Future[None]:
        """Lets actors clean up and procs end by themselves, then terminates, then kills; done when all have ended."""
        why = "stopped by client" if reason is None else _validate.text("reason", reason)
        return _each([handle.stop(why, None) for handle in self._handles()])

    def respawn(self, ranks: Sequence[int] | None = None) -> Future[None]:
        """Launches ended procs again in their places, all of them or those of `ranks`; done when they have called back.

        They get a new incarnation. Actors are not carried over, unless `restart` says so: spawn them again. Those that their
        restart policy launches again are none of them.
        """
        bases = self._own_region.base_ranks()
        if ranks is None:
            chosen = [base for base in bases if self._procs.handle(base).ended().done()]
        else:
            chosen = [bases[_rank(rank, len(bases))] for rank in ranks]
        for base in chosen:
            handle = self._procs.handle(base)
            if not handle.ended().done():
                rank = self._own_region.rank_of(base)
                rule = f"{handle.proc_id} is alive: stop or kill it, and wait for it, first"
                if handle.exit() is not None:
                    rule = f"{handle.proc_id} has ended, and its restart policy launches it again"
                raise InvalidArgument("ranks", str(rank), rule)
        if len(set(chosen)) < len(chosen):
            raise InvalidArgument("ranks", str(list(ranks or ())), "name each rank once")
        if not isinstance(self._procs, OwnedProcs):
            raise Unsupported("procs can be launched again only where they were spawned")
        ready = _all_ready([self._own_region.rank_of(base) for base in chosen], self._procs.respawn(chosen))
        return gather([ready], lambda: _discard(ready.get()))

    def events(self) -> AsyncIterator[ProcEvent]:
        """What happens to the procs from this call on, in order; ends when all have ended.

        A proc that is launched again while others live is followed too.
        """
        return _events(_native.subscribe(self._handles(), output=False, lifecycle=True))

    def logs(self, tail: int | None = None, follow: bool = False, *, fold: bool = False) -> Logs:
        """Lines of output, each with its rank in front: `for line in procs.logs(tail=10)`, or `async for`.

        First what is kept of the past (of each proc and stream the last `tail` lines; None: all that are kept in memory),
        then, with `follow`, what comes, until all procs have ended, of those too that are launched again meanwhile. Nobody
        waits for a reader that is slow: lines that are missing are counted in their place. Of procs with a `log_dir`, `tail` reaches as far back as their files do (16 MiB
        at most), which is further than memory does.

        fold: what comes is shown once when several procs write the same line within 100 ms, `[0-3] line`, or
            `[0,2] line (×2)`.
        """
        from procession._logs import Logs

        self._procs.check_output()
        lines = None if tail is None else _validate.count("tail", tail)
        return Logs(self._handles(), lines, follow, fold)

    def launcher_logs(self, tail: int | None = None, follow: bool = False) -> Logs:
        """As `logs`, of what the launcher of these procs writes itself: a launcher class, which has a process of its own.

        With `follow` it goes on until that process has ended.
        """
        if not isinstance(self._procs, OwnedProcs):
            raise Unsupported("the output of a launcher can be read only where its procs were spawned")
        return self._procs.launcher_process().logs(tail, follow)

    # The mesh

    @property
    def host_mesh(self) -> HostMesh:
        """The hosts that the procs were launched on."""
        from procession._host_mesh import this_host

        return this_host()

    def __enter__(self) -> Self:
        refuse_on_event_loop("with", "use `async with`")
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop("end of its with block").get()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop("end of its with block")

    def _handles(self) -> list[ProcHandle]:
        return [self._procs.handle(base) for base in self._own_region.base_ranks()]

    @property
    def _region(self) -> Region:
        return self._own_region

    def _with_region(self, region: Region) -> Self:
        return type(self)(self._name, self._procs, region, hosts_actors=self._hosts_actors)

    def __repr__(self) -> str:
        return f"<ProcMesh {self._name}, {self.extent!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from procession._agent import serve_agent

        ids = [self._procs.proc_id(base) for base in self._own_region.base_ranks()]
        if runtime().proc_id in ids:
            serve_agent()
        return _received, (self._name, self._own_region, ids, self._hosts_actors)


def _received(name: str, region: Region, ids: list[str], hosts_actors: bool) -> ProcMesh:
    return ProcMesh(name, OtherProcs(region, ids), region, hosts_actors=hosts_actors)


async def _events(subscription: Subscription) -> AsyncIterator[ProcEvent]:
    from procession._exits import event_from

    while not subscription.ended:
        await wait_for(subscription.waiter())
        for given in subscription.drain():
            yield event_from(given)


def _rank(given: object, count: int) -> int:
    rank = _validate.count("ranks", given)
    if rank >= count:
        there = "rank 0 only" if count == 1 else f"ranks 0 to {count - 1}"
        raise LimitExceeded("ranks", str(rank), f"this mesh has {there}")
    return rank


def _discard(_: object) -> None:
    return None


def _exit_of(handle: ProcHandle) -> ProcExit | None:
    from procession._exits import exit_from

    given = handle.exit()
    return None if given is None else exit_from(given)


def _each(waiters: list[Waiter]) -> Future[None]:
    """Done when all are; then raises the first thing that went wrong."""

    def finish() -> None:
        for waiter in waiters:
            waiter.result()

    return when_all(waiters, finish)


def _all_ready(ranks: Sequence[int], handles: Sequence[ProcHandle]) -> Future[Literal[True]]:
    """Done when all have called back; raises LaunchFailed as soon as one cannot any more."""

    each = [handle.ready() for handle in handles]
    together = _native.all_ready(handles)

    def finish() -> Literal[True]:
        try:
            together.result()
        except RuntimeError as error:
            reason = str(error)
            place = next((place for place, ready in enumerate(each) if _failed_with(ready, reason)), 0)
            raise LaunchFailed(handles[place].proc_id, ranks[place], reason) from None
        return True

    return when_done(together, finish)


def _failed_with(waiter: Waiter, reason: str) -> bool:
    if waiter.done():
        try:
            waiter.result()
        except RuntimeError as error:
            return str(error) == reason
    return False
