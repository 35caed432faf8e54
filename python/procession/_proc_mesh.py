"""Meshes of procs: spawn actors on them, watch them, stop them, launch them again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from procession import _native, _validate
from procession._actor import Actor, check_class
from procession._actor_mesh import ActorMesh
from procession._endpoint import check_construction
from procession._future import Future, gather, refuse_on_event_loop, wait_for
from procession._procs import Procs
from procession._runtime import runtime
from procession._shape import Mesh, Region
from procession._value_mesh import ValueMesh
from procession.errors import InvalidArgument, LaunchFailed, LimitExceeded, NotFound, Unsupported

if TYPE_CHECKING:
    from procession._exits import History, ProcEvent, ProcExit, ProcStatus
    from procession._host_mesh import HostMesh
    from procession._logs import Logs
    from procession._procs import Events, HostOrigins, Origin

T = TypeVar("T", bound=Actor)

_finding = Lock()


class ProcMesh(Mesh):
    """Launched processes that host actors. Every slice is one too, and shares the procs.

    As a context manager, sync or async, it stops its procs at the end.
    """

    def __init__(
        self,
        name: str,
        procs: Procs,
        region: Region,
        *,
        hosts_actors: bool = True,
        taken_over: set[str] | None = None,
    ) -> None:
        self._name = name
        self._procs = procs
        self._own_region = region
        self._hosts_actors = hosts_actors
        self._taken_over = taken_over
        """Of procs that an earlier client has spawned: the ids of the actors there that were found, and are watched."""

    # Actors

    def spawn(self, name: str, Class: type[T], *args: Any, **kwargs: Any) -> T:
        """Starts one actor on each proc and returns at once; `initialized` of what it gives tells when they are built.

        Calls can be sent right away. What is given is an `ActorMesh`, typed as the actor class for its endpoints.
        """
        _validate.name("name", name)
        check_class(Class)
        check_construction(Class, args, kwargs)
        self._check_hosts_actors()
        return self._spawn(name, Class, args, kwargs)

    def _spawn(self, name: str, Class: type[T], args: Any, kwargs: Any, is_watched: bool = True) -> T:
        from procession._agent import note_spawned, spawn_elsewhere, spawn_here, unique_name
        from procession._faults import Unwatched, Watch

        actor_name = unique_name(name)
        region = self._own_region
        bases = region.base_ranks()
        ids = self._procs.proc_ids(bases)
        own_id = runtime().proc_id
        started: list[Future[None]] = []
        elsewhere = [rank for rank, proc_id in enumerate(ids) if proc_id != own_id]

        def finish() -> None:
            for future in started:
                future.get()

        refs = tuple(_native.ActorRef(f"{proc_id}/{actor_name}") for proc_id in ids)
        mesh = ActorMesh(Class, name, refs, region, None, gather(started, finish))
        watch: Watch | Unwatched = Unwatched()
        if is_watched:
            watch = Watch(mesh, self._procs, bases, self)
            note_spawned(actor_name, watch)
        try:
            if own_id in ids:
                ended = partial(watch.ended, ids.index(own_id))
                started.append(spawn_here(actor_name, name, Class, args, kwargs, region, ended))
            if elsewhere:
                again = (self._procs, bases) if self._procs.builds_actors_again() else None
                others = [ids[rank] for rank in elsewhere]
                watched = partial(watch.elsewhere, elsewhere)
                started.append(spawn_elsewhere(others, actor_name, name, Class, args, kwargs, region, watched, again))
        except BaseException:
            watch.abandon()
            raise
        watch.spawned()
        return cast(T, mesh)

    def find(self, name: str, Class: type[T]) -> Future[T]:
        """The actors that were spawned on these procs under that name, on each the latest where there are several.

        It waits for the procs: also for one that looks for this client after a `reattach`. LookupError (`NotFound`) where
        a proc has none, as after its restart: spawn one there, and ask again. SupervisionError where a proc has ended.

        Actors that an earlier client has spawned belong to this one once they are found, which is told when they fail: as of
        those that it spawns itself. Others still belong to who has spawned them.
        """
        from procession._agent import find_elsewhere

        _validate.name("name", name)
        check_class(Class)
        self._check_hosts_actors()
        region = self._own_region
        ids = self._procs.proc_ids(region.base_ranks())
        asked = find_elsewhere(ids, name)

        def finish() -> T:
            found = asked.get()
            without = [rank for rank, actors in enumerate(found) if not actors]
            if without:
                rule = "spawn them there, and ask again"
                raise NotFound(f"{name}: ranks {without} of {self!r} have no actors of that name; {rule}")
            refs = tuple(_native.ActorRef(f"{one}/{actors[-1]}") for one, actors in zip(ids, found, strict=True))
            mesh = ActorMesh(Class, name, refs, region)
            self._watch_found(mesh)
            return cast(T, mesh)

        return gather([asked], finish)

    def _watch_found(self, mesh: ActorMesh[Any]) -> None:
        from procession._faults import Watch

        known = self._taken_over
        if known is None:
            return
        with _finding:
            new = [rank for rank, ref in enumerate(mesh._refs) if ref.actor_id not in known]
            known.update(mesh._refs[rank].actor_id for rank in new)
        Watch(mesh, self._procs, self._own_region.base_ranks(), self, found=True).found(new)

    def _check_hosts_actors(self) -> None:
        if not self._hosts_actors:
            raise Unsupported(f'{self!r} was spawned with readiness="none": its procs host no actors')

    @property
    def initialized(self) -> Future[Literal[True]]:
        """Done when every proc has called back; raises LaunchFailed as soon as one cannot any more."""
        return self._procs.ready(self._bases())

    # Their lives

    def statuses(self) -> ValueMesh[ProcStatus]:
        """Where each launch stands, now."""
        from procession._exits import status_from

        return ValueMesh(self.extent, [status_from(given) for given in self._procs.statuses(self._bases())])

    def exits(self) -> ValueMesh[ProcExit | None]:
        """How the last launch of each ended, None where it lives; returned at once."""
        return ValueMesh(self.extent, self._exits())

    def wait(self, timeout: float | None = None) -> Future[ValueMesh[ProcExit]]:
        """How every proc ended for good; TimeoutError, and nothing else, when some still live after `timeout` seconds.

        One that its restart policy launches again has not.
        """
        from procession._exits import exit_from

        def finish(exits: list[dict[str, Any]]) -> ValueMesh[ProcExit]:
            return ValueMesh(self.extent, [exit_from(given) for given in exits])

        return self._procs.ended(self._bases(), finish, _validate.wait_seconds("timeout", timeout))

    def history(self) -> ValueMesh[History]:
        """How all launches of each rank have ended so far, its earlier incarnations included."""
        from procession._exits import History, exit_from

        given = self._procs.histories(self._bases())
        return ValueMesh(self.extent, [History([exit_from(one) for one in exits], dropped) for exits, dropped in given])

    def why(self, rank: int = 0) -> str:
        """Why the proc of that rank ended, for people: verdict, timeline, evidence, lines, how its siblings fared.

        Of one that has not ended it says that.
        """
        from procession._records import Case, all_names, launcher_of
        from procession._why import explained

        place = _validate.count("rank", rank, most=len(self) - 1)
        exits = self._exits()
        one = exits[place]
        if one is None:
            (standing,) = self._procs.standing([self._bases()[place]])
            return f"{standing.name} has not ended: it is {standing.status}"
        siblings = tuple(Case(other) for other in exits if other is not None and other is not one)
        try:
            launcher = launcher_of(one, all_names())
        except NotFound:
            launcher = None
        return explained(Case(one, siblings=siblings, launcher=launcher))

    def terminate(self, timeout: float = 10.0) -> Future[None]:
        """Asks every proc's tree to end, and kills what is left after `timeout` seconds; done once all were asked."""
        seconds = _validate.seconds("timeout", timeout)
        return self._procs.terminate(self._bases(), seconds)

    def kill(self) -> Future[None]:
        """Ends every proc's tree; done once all launchers were asked.

        Raises, as `terminate` does, LauncherLost where a launcher ended over it, RuntimeError where it could not be asked.
        """
        return self._procs.kill(self._bases())

    def stop(self, reason: str | None = None) -> Future[None]:
        """Lets actors clean up and procs end by themselves, then terminates, then kills; done when all have ended."""
        why = "stopped by client" if reason is None else _validate.text("reason", reason)
        return self._procs.stop(self._bases(), why)

    def respawn(self, ranks: Sequence[int] | None = None) -> Future[None]:
        """Launches ended procs again in their places, all of them or those of `ranks`; done when they have called back.

        They get a new incarnation. Actors are not carried over, unless `restart` says so: spawn them again. Those that their
        restart policy launches again are none of them.
        """
        bases = self._bases()
        places = range(len(bases)) if ranks is None else [_rank(rank, len(bases)) for rank in ranks]
        standing = self._procs.standing([bases[place] for place in places])
        if ranks is None:
            chosen = [place for place, one in zip(places, standing, strict=True) if one.is_over]
        else:
            chosen = list(places)
            for place, one in zip(places, standing, strict=True):
                if not one.is_over:
                    rule = f"{one.proc_id} is alive: stop or kill it, and wait for it, first"
                    if one.has_exit:
                        rule = f"{one.proc_id} has ended, and its restart policy launches it again"
                    raise InvalidArgument("ranks", str(place), rule)
        if len(set(chosen)) < len(chosen):
            raise InvalidArgument("ranks", str(list(ranks or ())), "name each rank once")
        again = [bases[place] for place in chosen]
        self._procs.respawn(again)
        ready = self._procs.ready(again)

        def finish() -> None:
            try:
                ready.get()
            except LaunchFailed as error:
                raise LaunchFailed(error.proc_id, chosen[error.rank], error.reason) from None

        return gather([ready], finish)

    def events(self) -> AsyncIterator[ProcEvent]:
        """What happens to the procs from this call on, in order; ends when all have ended.

        A proc that is launched again while others live is followed too.
        """
        return _events(self._procs.subscribe(self._bases(), output=False, lifecycle=True))

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
        return Logs(self._procs, self._bases(), lines, follow, fold)

    async def logging_option(
        self, stream_to_client: bool = False, aggregate_window_sec: int | None = None, level: int = 20
    ) -> None:
        """Shows on this process's stdout what the procs write, with the rank in front of each line, until they end.

        stream_to_client: whether it is shown; False shows no more of it.
        aggregate_window_sec: a number shows a line once that several procs write together, see `fold` of `logs`.
        level: of the loggers in the procs; only its default is taken, set others there.
        """
        import logging

        from procession._show import show

        stream = _validate.flag("stream_to_client", stream_to_client)
        if aggregate_window_sec is not None:
            _validate.count("aggregate_window_sec", aggregate_window_sec)
            if not stream:
                raise InvalidArgument("aggregate_window_sec", str(aggregate_window_sec), "needs stream_to_client=True")
        if level != logging.INFO:
            raise Unsupported(f"level = {level!r}: set the level of a logger where it is used, such as in bootstrap")
        show(self, stream, aggregate_window_sec is not None)

    def launcher_logs(self, tail: int | None = None, follow: bool = False) -> Logs:
        """As `logs`, of what the launcher of these procs writes itself: a launcher class, which has a process of its own.

        With `follow` it goes on until that process has ended.
        """
        return self._procs.launcher_process().logs(tail, follow)

    # The mesh

    @property
    def host_mesh(self) -> HostMesh:
        """The hosts that the procs were launched on."""
        from procession._host_mesh import this_host
        from procession._hosted import HostedProcs

        procs = self._procs
        return procs.hosts_of(self._own_region) if isinstance(procs, HostedProcs) else this_host()

    def __enter__(self) -> Self:
        refuse_on_event_loop("with", "use `async with`")
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop("end of its with block").get()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop("end of its with block")

    def _bases(self) -> list[int]:
        """The ranks of the mesh that was spawned."""
        return list(self._own_region.base_ranks())

    def _exits(self) -> list[ProcExit | None]:
        from procession._exits import exit_from

        return [None if given is None else exit_from(given) for given in self._procs.exits(self._bases())]

    @property
    def _region(self) -> Region:
        return self._own_region

    def _with_region(self, region: Region) -> Self:
        return type(self)(self._name, self._procs, region, hosts_actors=self._hosts_actors, taken_over=self._taken_over)

    def __repr__(self) -> str:
        return f"<ProcMesh {self._name}, {self.extent!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from procession._agent import serve_agent

        ids = self._procs.proc_ids(self._bases())
        if runtime().proc_id in ids:
            serve_agent()
        again = self._procs.builds_actors_again()
        return _received, (self._name, self._own_region, ids, self._hosts_actors, self._procs.origin(), again)


def _received(
    name: str,
    region: Region,
    ids: list[str],
    hosts_actors: bool,
    origin: Origin | HostOrigins | None,
    again: bool,
) -> ProcMesh:
    from procession._remote import found_again

    return ProcMesh(name, found_again(region, ids, origin, again), region, hosts_actors=hosts_actors)


async def _events(subscription: Events) -> AsyncIterator[ProcEvent]:
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
