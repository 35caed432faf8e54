"""The procs of a mesh that lies on several hosts: of each host it is known what was launched together there."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeVar, cast

from procession._future import Future, _deadline_in, gather
from procession._merged import AnyOf, MergedEvents, NoEvents, UntilLost
from procession._procs import HostOrigins, Standing, Streams
from procession._shape import Region, row_major
from procession.errors import LaunchFailed, SupervisionError, Unsupported

if TYPE_CHECKING:
    from procession._host_mesh import HostMesh
    from procession._native import Buffer, PortRef, Waiter
    from procession._proc_mesh import ProcMesh
    from procession._procs import Events, Procs

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E", bound="dict[str, Any] | None")


class Part(NamedTuple):
    """What one host has of some ranks."""

    procs: Procs
    ranks: list[int]
    """Its ranks there."""
    places: list[int]
    """Where they are among those that were asked for."""


class HostedProcs:
    """As `OwnedProcs`, of several hosts, each of which has the same number of them: `procs[i]` is what the i-th has.

    Of a host that is gone nobody can be asked any more: its procs are lost, and that is their exit.
    """

    def __init__(self, hosts: HostMesh, procs: Sequence[Procs], per_host: int, since: float) -> None:
        self.hosts = hosts
        self._procs = procs
        self._per_host = per_host
        self._since = since
        """When they were launched, seconds since the epoch."""
        self._exits: dict[str, dict[str, Any]] = {}
        """By proc id, as they were told here once: nothing else is told later."""
        self._ends: list[Future[list[dict[str, Any]]]] = []
        """By rank, where each host tells the end of each proc as soon as it comes: before its own, if need be."""

    def follow_ends(self) -> None:
        """So that an end before that of its host is known after it; for who has launched them."""
        for part in self._parts(range(len(self._procs) * self._per_host)):
            self._ends.extend(part.procs.ended([rank], list, None) for rank in part.ranks)

    def _parts(self, ranks: Sequence[int]) -> Iterator[Part]:
        by_host: dict[int, Part] = {}
        for place, rank in enumerate(ranks):
            host, local = divmod(rank, self._per_host)
            part = by_host.setdefault(host, Part(self._procs[host], [], []))
            part.ranks.append(local)
            part.places.append(place)
        yield from by_host.values()

    def _collect(
        self, ranks: Sequence[int], ask: Callable[[Procs, list[int]], Sequence[T]], lost: Callable[[int, str, str], T]
    ) -> list[T]:
        """What each host says of its own, and `lost(rank, proc_id, reason)` for those of one that is gone."""
        found: dict[int, T] = {}
        for part in self._parts(ranks):
            try:
                answers = ask(part.procs, part.ranks)
            except SupervisionError as error:
                ids = part.procs.proc_ids(part.ranks)
                answers = [lost(ranks[place], id_, str(error)) for place, id_ in zip(part.places, ids, strict=True)]
            found.update(zip(part.places, answers, strict=True))
        return [found[place] for place in range(len(ranks))]

    def hosts_of(self, region: Region) -> HostMesh:
        """Those on which the procs of `region` are."""
        hosts = self.hosts._own_region
        apart = dict(zip(hosts.labels, zip(row_major(hosts.sizes), hosts.strides, strict=True), strict=True))
        first, base = region.offset // self._per_host, hosts.offset
        for dense, stride in apart.values():
            place, first = divmod(first, dense)
            base += place * stride
        labels, sizes, strides = [], [], []
        for label, size, stride in zip(region.labels, region.sizes, region.strides, strict=True):
            if label in apart and stride % self._per_host == 0:
                dense, own = apart[label]
                labels.append(label)
                sizes.append(size)
                strides.append(stride // self._per_host // dense * own)
        found = self.hosts._with_region(Region(tuple(labels), tuple(sizes), tuple(strides), base))
        wanted = {list(hosts.base_ranks())[rank // self._per_host] for rank in region.base_ranks()}
        if wanted != set(found._own_region.base_ranks()):
            rule = "ask the mesh from before it was flattened, split or renamed"
            raise Unsupported(f"the hosts of a mesh of {region.extent!r} are not told by its dimensions: {rule}")
        return found

    def proc_id(self, rank: int) -> str:
        return self.proc_ids([rank])[0]

    def proc_ids(self, ranks: Sequence[int]) -> list[str]:
        return self._collect(ranks, lambda procs, local: procs.proc_ids(local), _unexpected)

    def standing(self, ranks: Sequence[int]) -> list[Standing]:
        def lost(rank: int, proc_id: str, reason: str) -> Standing:
            return Standing(proc_id, _name(proc_id), self._lost_exit(rank, proc_id, reason)["kind"], True, True)

        return self._collect(ranks, lambda procs, local: procs.standing(local), lost)

    def statuses(self, ranks: Sequence[int]) -> list[dict[str, Any]]:
        return self._collect(ranks, lambda procs, local: procs.statuses(local), self._lost_status)

    def exits(self, ranks: Sequence[int]) -> list[dict[str, Any] | None]:
        return self._remembered(ranks, self._collect(ranks, lambda procs, local: procs.exits(local), self._lost_exit))

    def histories(self, ranks: Sequence[int]) -> list[tuple[list[dict[str, Any]], int]]:
        def lost(rank: int, proc_id: str, reason: str) -> tuple[list[dict[str, Any]], int]:
            return [self._lost_exit(rank, proc_id, reason)], 0

        return self._collect(ranks, lambda procs, local: procs.histories(local), lost)

    def ready(self, ranks: Sequence[int]) -> Future[Literal[True]]:
        parts = list(self._parts(ranks))
        each = [part.procs.ready(part.ranks) for part in parts]

        def finish() -> Literal[True]:
            settled = [(part, one) for part, one in zip(parts, each, strict=True) if one._next_waiter() is None]
            for part, one in settled:
                try:
                    one.get()
                except LaunchFailed as error:
                    raise LaunchFailed(error.proc_id, part.places[error.rank], error.reason) from None
                except SupervisionError as error:
                    proc_id = part.procs.proc_ids(part.ranks)[0]
                    raise LaunchFailed(proc_id, part.places[0], str(error)) from None
            return True

        def pending() -> Waiter | None:
            waiters = [one._next_waiter() for one in each]
            if any(waiter is None and one.exception() for waiter, one in zip(waiters, each, strict=True)):
                return None  # the others may take their time
            left = [waiter for waiter in waiters if waiter is not None]
            return cast("Waiter", AnyOf(left)) if left else None

        return Future._of(pending, finish)

    def ended(
        self, ranks: Sequence[int], finish: Callable[[list[dict[str, Any]]], R], timeout: float | None
    ) -> Future[R]:
        each = {id(part.procs): part.procs.ended(part.ranks, list, None) for part in self._parts(ranks)}
        all_ended = gather(list(each.values()), lambda: None)
        if timeout is not None and not all_ended.done() and all(one.is_over for one in self.standing(ranks)):
            timeout = None  # they have ended, and their exits are on the way

        def collect() -> R:
            all_ended.get()
            exits = self._collect(ranks, lambda procs, _: each[id(procs)].get(), self._lost_exit)
            return finish(self._remembered(ranks, exits))

        return Future._of(all_ended._next_waiter, collect, _deadline_in(timeout))

    def stop(self, ranks: Sequence[int], reason: str) -> Future[None]:
        return self._each(ranks, lambda procs, local: procs.stop(local, reason))

    def terminate(self, ranks: Sequence[int], timeout: float) -> Future[None]:
        return self._each(ranks, lambda procs, local: procs.terminate(local, timeout))

    def kill(self, ranks: Sequence[int]) -> Future[None]:
        return self._each(ranks, lambda procs, local: procs.kill(local))

    def _each(self, ranks: Sequence[int], ask: Callable[[Procs, list[int]], Future[None]]) -> Future[None]:
        each = [ask(part.procs, part.ranks) for part in self._parts(ranks)]

        def finish() -> None:
            for one in each:
                error = one.exception()
                if error is not None and not isinstance(error, SupervisionError):  # what is gone has ended
                    raise error

        return gather(each, finish)

    def respawn(self, ranks: Sequence[int]) -> None:
        for part in self._parts(ranks):
            part.procs.respawn(part.ranks)

    def subscribe(self, ranks: Sequence[int], *, output: bool, lifecycle: bool) -> Events:
        merged: list[Events] = []
        for part in self._parts(ranks):
            own = [ranks[place] for place in part.places]
            lost = partial(self._lost_events, part, own) if lifecycle else _nothing
            events: Events
            try:
                events = part.procs.subscribe(part.ranks, output=output, lifecycle=lifecycle)
            except SupervisionError as error:
                events = NoEvents(lost(str(error), ()))
            merged.append(UntilLost(events, lost, self._note_end))
        return MergedEvents(merged)

    def subscribe_with_past(self, ranks: Sequence[int], lines: int | None) -> tuple[Events, Streams]:
        merged: list[Events] = []

        def ask(procs: Procs, local: list[int]) -> Streams:
            events, past = procs.subscribe_with_past(local, lines)
            merged.append(UntilLost(events, _nothing, self._note_end))
            return past

        past = self._collect(ranks, ask, _silent)
        return MergedEvents(merged), past

    def tails(self, ranks: Sequence[int], lines: int | None) -> Streams:
        return self._collect(ranks, lambda procs, local: procs.tails(local, lines), _silent)

    def check_output(self) -> None:
        for procs in self._procs:
            procs.check_output()

    def launcher_process(self) -> ProcMesh:
        if len(self._procs) > 1:
            raise Unsupported("each host has a launcher process of its own: slice the mesh to one host first")
        return self._procs[0].launcher_process()

    def builds_actors_again(self) -> bool:
        return self._procs[0].builds_actors_again()

    def spawn_actors(
        self,
        ranks: Sequence[int],
        agent: str,
        verb: str,
        payload: Sequence[Buffer],
        moved: Sequence[PortRef],
        opens: str,
    ) -> Future[None]:
        each = [part.procs.spawn_actors(part.ranks, agent, verb, payload, moved, opens) for part in self._parts(ranks)]

        def finish() -> None:
            for one in each:
                one.get()

        return gather(each, finish)

    def origin(self) -> HostOrigins:
        origins = [procs.origin() for procs in self._procs]
        return HostOrigins(self.hosts, origins, self._per_host, self._since)

    def _lost_status(self, rank: int, proc_id: str, reason: str) -> dict[str, Any]:
        exit_ = self._lost_exit(rank, proc_id, reason)
        return {
            "status": exit_["kind"],
            "pid": exit_.get("pid"),
            "handle": None,
            "progress": None,
            "launcher": exit_.get("launcher", ""),
            "started_at": exit_["started_at"],
            "running_at": None,
            "ready_at": exit_["ready_at"],
            "ended_at": exit_["ended_at"],
        }

    def _lost_events(self, part: Part, ranks: Sequence[int], reason: str, told: Container[str]) -> list[dict[str, Any]]:
        events = []
        for rank, proc_id in zip(ranks, part.procs.proc_ids(part.ranks), strict=True):
            if proc_id in told:
                continue
            exit_ = self._lost_exit(rank, proc_id, reason)
            about = {key: exit_[key] for key in ("proc_id", "name", "rank", "incarnation")}
            events.append({**about, "kind": "exit", "at": exit_["ended_at"], "exit": exit_})
        return events

    def _note_end(self, event: dict[str, Any]) -> None:
        """Which whoever follows has seen, so that nobody is told anything else, also when the host is lost right then."""
        self._exits.setdefault(event["proc_id"], {**event["exit"], "rank": event["rank"]})

    def _remembered(self, ranks: Sequence[int], exits: Sequence[E]) -> list[E]:
        kept: list[Any] = []
        for rank, one in zip(ranks, exits, strict=True):
            if one is None:
                kept.append(None)
                continue
            # What was launched one by one is of rank 0 to its host.
            own = one if one["rank"] == rank else {**one, "rank": rank}
            kept.append(self._exits.setdefault(own["proc_id"], own))
        return kept

    def _lost_exit(self, rank: int, proc_id: str, reason: str) -> dict[str, Any]:
        if proc_id in self._exits:  # it had ended before
            return self._exits[proc_id]
        told = self._ends[rank] if self._ends else None
        if told is not None and told.done() and told.exception() is None:
            (exit_,) = told.get()
            return self._exits.setdefault(exit_["proc_id"], exit_)
        self._exits[proc_id] = {
            "proc_id": proc_id,
            "name": _name(proc_id),
            "rank": rank,
            "incarnation": 1,
            "launch_id": proc_id.rpartition("@")[0].rpartition(".")[2],
            "kind": "lost",
            "exit_code": None,
            "signal": None,
            "core_dumped": False,
            "failed_reason": reason,
            "stderr_tail": [],
            "stdout_tail": [],
            "oom": None,
            "requested": None,
            "started_at": self._since,
            "ready_at": None,
            "ended_at": time.time(),
            "verdict": f"host lost: {reason}",
        }
        return self._exits[proc_id]


def _name(proc_id: str) -> str:
    return proc_id.rpartition("@")[0].rpartition(".")[0]


def _nothing(reason: str, told: Container[str]) -> list[dict[str, Any]]:
    return []


def _silent(rank: int, proc_id: str, reason: str) -> Sequence[Sequence[str]]:
    return [], []


def _unexpected(rank: int, proc_id: str, reason: str) -> NoReturn:
    raise SupervisionError(reason)
