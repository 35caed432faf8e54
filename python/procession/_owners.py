"""Actors of this process whose owners live in others: they end with them."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from procession import _native, _pickle
from procession._context import STOP
from procession._faults import AGENT, WATCH_OWNER
from procession._runtime import runtime
from procession._watcher import watcher

if TYPE_CHECKING:
    from procession._agent import LocalActor
    from procession._failure import Ending
    from procession._native import Replies

_lock = threading.Lock()
_owned: dict[str, set[LocalActor]] = {}
"""By the owner, which is watched once, however many actors it spawns here."""


def belongs_to(owner_id: str, actor: LocalActor) -> None:
    """Stops the actor when the one that spawned it has ended, or its process has."""
    proc_id, _, name = owner_id.rpartition("/")
    if proc_id == runtime().proc_id:
        return  # which stops what it owns itself
    with _lock:
        is_watched = owner_id in _owned
        _owned.setdefault(owner_id, set()).add(actor)
    actor.watch(partial(_ended, owner_id, actor))
    if not is_watched:
        payload, moved = _pickle.dumps(None)
        agent = [_native.ActorRef(f"{proc_id}/{AGENT}")]
        replies = _native.call(agent, f"{WATCH_OWNER}:{name}", _native.RETURNS, payload, moved, None)
        watcher.when_done(replies.all_done(), partial(_stop_all, owner_id, replies))


def _ended(owner_id: str, actor: LocalActor, _: Ending | None) -> None:
    with _lock:
        _owned.get(owner_id, set()).discard(actor)


def _stop_all(owner_id: str, _: Replies) -> None:  # who drops the replies waits for none
    with _lock:
        actors = _owned.pop(owner_id)
    for actor in actors:
        payload, moved = _pickle.dumps(f"its owner, actor {owner_id}, has ended")
        ref = _native.ActorRef(f"{runtime().proc_id}/{actor.name}")
        _native.call([ref], STOP, _native.ONE_WAY, payload, moved, None)
