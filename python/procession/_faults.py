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
from procession._failure import Ending, MeshFailure
from procession._watcher import watcher
from procession.errors import NotFound, SupervisionError, Unsupported

if TYPE_CHECKING:
    from procession._actor_mesh import ActorMesh
    from procession._native import Replies
    from procession._proc_mesh import ProcMesh
    from procession._procs import Procs

WATCH = "watch"
"""The verb of an agent for an actor that is about to be spawned; answered with its `Ending`, or None for a regular one."""
WATCH_AGAIN = "watch_again"
"""The same for one that is there."""
WATCH_FOUND = "watch_found"
"""The same for one that an earlier client has spawned."""

# How often is looked for the exit of a proc whose connection is gone already.
LOOK = 0.02


class Unwatched:
    """In place of a watch, for what belongs to nobody: whoever uses it finds out by itself how it fares."""

    owner_id = None

    def ended(self, rank: int, how: Ending | None) -> None: ...
    def elsewhere(self, ranks: Sequence[int]) -> None: ...
    def abandon(self) -> None: ...


class Watch:
    """Of all actors of one mesh, for who spawned it. Each fails once at most."""

    def __init__(
        self,
        mesh: ActorMesh[Any],
        agent: str,
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
        self._agent = agent
        self._procs = procs
        self._bases = bases
        """Of each rank, the rank that it has among the procs."""
        self._owner = None if found else current_instance()
        self._left = len(bases)
        self._abandoned = False
        self._counting = Lock()
        if self._owner is not None:
            _owned.add_to(self._owner, mesh)

    @property
    def owner_id(self) -> str | None:
        """The actor that spawned the mesh; None for the process itself."""
        return None if self._owner is None else self._owner.actor_id

    def ended(self, rank: int, how: Ending | None) -> None:
        """The actor of that rank has ended; `how` is None for a regular end."""
        self._is_over()
        if how is not None:
            self._report(
                rank, "actor", how.message, exception_type=how.exception_type, traceback=how.traceback, cause=how.cause
            )

    def elsewhere(self, ranks: Sequence[int]) -> None:
        """Watches those that are about to be spawned in other processes."""
        self._ask(WATCH, ranks)

    def found(self, ranks: Sequence[int]) -> None:
        """Watches those that are there."""
        for rank in ranks:  # those of one mesh may have names of their own
            self._ask(WATCH_FOUND, [rank])

    def abandon(self) -> None:
        """They were not spawned after all."""
        self._abandoned = True
        self._left = 0
        self._is_over()

    def _ask(self, verb: str, ranks: Sequence[int]) -> None:
        payload, moved = _pickle.dumps(None)
        name = self._mesh._refs[ranks[0]].actor_id.rpartition("/")[2]
        ids = self._procs.proc_ids([self._bases[rank] for rank in ranks])
        agents = [_native.ActorRef(f"{proc_id}/{self._agent}") for proc_id in ids]
        replies = _native.call(agents, f"{verb}:{name}", _native.RETURNS, payload, moved, None)
        self._wait_for(replies, ranks, 0)

    def _wait_for(self, replies: Replies, ranks: Sequence[int], place: int) -> None:
        if place < len(ranks):
            watcher.when_done(replies.nth_done(place), partial(self._take, replies, ranks, place))

    def _take(self, replies: Replies, ranks: Sequence[int], place: int) -> None:
        at = replies.nth(place)
        answer = None if at is None else replies.take(at)
        self._wait_for(replies, ranks, place + 1)
        if at is None or answer is None or self._abandoned:
            return
        if answer.outcome == _native.CLOSED:
            self._proc_gone(ranks[at], self._procs.proc_id(self._bases[ranks[at]]), answer.text)
        else:
            self.ended(ranks[at], _answer.take(answer))

    def _proc_gone(self, rank: int, proc_id: str, text: str) -> None:
        from procession._exits import exit_from

        base = self._bases[rank]
        try:
            ((exits, _),) = self._procs.histories([base])
            (standing,) = self._procs.standing([base])
        except (
            Unsupported,
            NotFound,
            ConnectionError,
            SupervisionError,
            TimeoutError,
        ):  # who knows is gone, or unknown
            self._is_over()
            self._report(rank, "proc", text)
            return
        given = next((one for one in reversed(exits) if one["proc_id"] == proc_id), None)
        if given is None:  # it follows at once, unless the proc ends in good order and takes its time
            watcher.later(LOOK, partial(self._proc_gone, rank, proc_id, text))
        elif self._procs.builds_actors_again() and not standing.is_over:
            self._ask(WATCH_AGAIN, [rank])
        else:
            self._is_over()
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
        elif self._owner.supervise is not None:
            self._owner.supervise(failure)
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
