"""Who is told when an actor fails: the actor that spawned it, or the hook of the process that did.

Whoever spawns a mesh watches it: the process of each of its actors holds a once port, answers it when the actor has
ended, and says how; when the process ends first, the port closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from procession import _answer, _native, _owned, _pickle, _runtime
from procession._context import current_instance
from procession._failure import Ending, MeshFailure, ending_of, unpacked
from procession._watcher import watcher
from procession.errors import NotFound, SupervisionError, Unsupported

if TYPE_CHECKING:
    from procession._actor_mesh import ActorMesh
    from procession._native import Replies
    from procession._proc_mesh import ProcMesh
    from procession._procs import Procs

AGENT = "agent"
"""The actor of each process that spawns others there, and is asked about them."""
WATCH = "watch"
"""Its verb for an actor that is about to be spawned; answered with its `Ending`, packed, or None for a regular one."""
WATCH_AGAIN = "watch_again"
"""The same for one that is there."""
WATCH_FOUND = "watch_found"
"""The same for one that an earlier client has spawned."""
WATCH_OWNER = "watch_owner"
"""The same for one that others belong to, who are told nothing of how it ended."""

# How often is looked for the exit of a proc whose connection is gone already.
LOOK = 0.02

GONE = (Unsupported, NotFound, ConnectionError, SupervisionError, TimeoutError)
"""What is raised where nobody can say any more how a proc fares."""


class Unwatched:
    """In place of a watch, for what belongs to nobody: whoever uses it finds out by itself how it fares."""

    def ended(self, rank: int, how: Ending | None) -> None: ...
    def elsewhere(self, ranks: Sequence[int]) -> None: ...
    def spawned(self) -> None: ...
    def abandon(self) -> None: ...


class Watch:
    """Of all actors of one mesh, for who spawned it. Each fails once at most."""

    def __init__(
        self,
        mesh: ActorMesh[Any],
        procs: Procs,
        bases: Sequence[int],
        on: ProcMesh,
        *,
        found: bool = False,
    ) -> None:
        """`found`: an earlier client has spawned them, and so they belong to this one, whoever looks for them."""
        self._mesh = mesh
        self.on = on
        """The mesh of procs that they are spawned on."""
        self._procs = procs
        self._bases = bases
        """Of each rank, the rank that it has among the procs."""
        self._owner = None if found else current_instance()
        self._left = len(bases)
        self._abandoned = False
        self._counting = Lock()

    def ended(self, rank: int, how: Ending | None) -> None:
        """The actor of that rank has ended; `how` is None for a regular end."""
        self._is_over()
        if how is not None:
            self._report(
                rank, "actor", how.message, exception_type=how.exception_type, traceback=how.traceback, cause=how.cause
            )

    def elsewhere(self, ranks: Sequence[int]) -> None:
        """Watches those that are about to be spawned in other processes."""
        self._ask(WATCH, ranks, [self._mesh._refs[rank].actor_id.rpartition("/")[0] for rank in ranks])

    def spawned(self) -> None:
        """From now on they end with their owner."""
        if self._owner is not None:
            _owned.add_to(self._owner, self._mesh)
            if self._left <= 0:  # whoever counts the last one down after this look takes it out itself
                _owned.take_from(self._owner, self._mesh)

    def found(self, ranks: Sequence[int]) -> None:
        """Watches those that are there."""
        for rank in ranks:  # those of one mesh may have names of their own
            self._ask(WATCH_FOUND, [rank], [self._mesh._refs[rank].actor_id.rpartition("/")[0]])

    def abandon(self) -> None:
        """They were not spawned after all."""
        self._abandoned = True
        self._left = 0
        self._is_over()

    def _ask(self, verb: str, ranks: Sequence[int], ids: Sequence[str]) -> None:
        """These procs. By the time that one is gone another may have been launched in its place, which is not meant."""
        payload, moved = _pickle.dumps(None)
        name = self._mesh._refs[ranks[0]].actor_id.rpartition("/")[2]
        agents = [_native.ActorRef(f"{proc_id}/{AGENT}") for proc_id in ids]
        replies = _native.call(agents, f"{verb}:{name}", _native.RETURNS, payload, moved, None)
        self._wait_for(replies, list(zip(ranks, ids, strict=True)), 0)

    def _wait_for(self, replies: Replies, asked: Sequence[tuple[int, str]], place: int) -> None:
        if place < len(asked):
            watcher.when_done(replies.nth_done(place), partial(self._take, replies, asked, place))

    def _take(self, replies: Replies, asked: Sequence[tuple[int, str]], place: int) -> None:
        at = replies.nth(place)
        answer = None if at is None else replies.take(at)
        self._wait_for(replies, asked, place + 1)
        if at is None or answer is None or self._abandoned:
            return
        rank, proc_id = asked[at]
        if answer.outcome == _native.CLOSED:
            self._proc_gone(rank, proc_id, answer.text)
            return
        try:
            given = _answer.take(answer)
            how = None if given is None else unpacked(given)
        except Exception as error:  # whatever it is: that it has ended is certain
            how = ending_of(error)
        self.ended(rank, how)

    def _proc_gone(self, rank: int, proc_id: str, text: str) -> None:
        from procession._exits import exit_from

        base = self._bases[rank]
        try:
            (standing,) = self._procs.standing([base])
            ((exits, _),) = self._procs.histories([base])
            given = next((one for one in reversed(exits) if one["proc_id"] == proc_id), None)
            if given is None and standing.proc_id == proc_id:
                # It follows at once, unless the proc ends in good order and takes its time.
                watcher.later(LOOK, partial(self._proc_gone, rank, proc_id, text))
                return
            if self._procs.builds_actors_again():
                if not standing.is_over:
                    self._ask(WATCH_AGAIN, [rank], [standing.proc_id])
                    return
                given = exits[-1]
        except GONE:
            given = None
        self._is_over()
        if given is None:  # who knows is gone, or has forgotten it
            self._report(rank, "proc", text)
            return
        exit = exit_from(given)
        if exit.requested is None:
            self._report(rank, "proc", f"its proc has ended: {exit.verdict}", exit=exit)

    def _is_over(self) -> None:
        with self._counting:
            self._left -= 1
            if self._left <= 0 and self._owner is not None:
                _owned.take_from(self._owner, self._mesh)

    def _report(self, rank: int, kind: Literal["actor", "proc"], message: str, **more: Any) -> None:
        failure = MeshFailure(self._mesh, self._mesh._name, rank, kind, message, **more)
        if self._owner is None:
            _at_the_root(failure)
        elif (supervise := self._owner.supervise) is not None:
            supervise(failure)
        # Else the owner has ended, and with it ends all that it has spawned.


def _at_the_root(failure: MeshFailure) -> None:
    if _runtime.is_ending():
        return
    from procession import actor
    from procession._process_end import end_process

    try:
        actor.unhandled_fault_hook(failure)
    except BaseException as error:
        end_process(failure, error)
