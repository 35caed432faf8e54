"""Procs that outlive the client which launched them, for the next one."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from procession import _runtime
from procession._exits import ProcExit, exit_from
from procession._launcher import InheritedLauncher
from procession._proc_mesh import ProcMesh
from procession._procs import OwnedProcs
from procession._shape import Extent, Region


class Reattached(NamedTuple):
    """What earlier clients of a directory have left."""

    meshes: dict[str, ProcMesh]
    """By name: those of which a proc lives, or is launched again. Ranks that have ended are in their places."""
    exits: list[ProcExit]
    """How launches ended, oldest first; the last thousand."""


def reattach(directory: str | os.PathLike[str]) -> Reattached:
    """Makes this process the client of `directory`, where procs that outlive it are found again.

    They are those that are spawned with `on_owner_loss="detach"`. However this process ends, they go on; the next one that
    calls this takes them over: it knows how those ended that died meanwhile, and has all of their output. `ProcMesh.find`
    leads to the actors in them, whose state is as it was, and whose failures are told to this process from then on; calls that were under way when the client ended are lost, and
    fail where they were made. Restart policies go on, with their counts and waits from the beginning; that references follow
    (`actors="respawn"`) ends with the client that knew how the actors are made.

    To be called before anything else is done with Procession. RuntimeError: that is too late, another process is the
    client of that directory, it cannot be used, or an engine that has procs of it does not answer.

    directory: made, for this user alone, when it is missing; its path has at most 80 bytes.
    """
    groups, ended = _runtime.start_in(directory)
    meshes = {}
    for handles in groups:
        name, labels, sizes = json.loads(handles[0].mesh)
        procs = OwnedProcs(InheritedLauncher(handles[0].launcher()), handles)
        region = Region.dense(Extent(labels, sizes))
        meshes[name] = ProcMesh(name, procs, region, hosts_actors=handles[0].calls_back, taken_over=set())
    return Reattached(meshes, [exit_from(given) for given in ended])
