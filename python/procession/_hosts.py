"""Hosts on other machines: each is a proc that launches there in our name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from procession import _validate, config
from procession._host_mesh import PROC_ARGS, Environment, HostMesh, this_host, unlike_others
from procession._hosted import HostedProcs
from procession._proc_mesh import ProcMesh
from procession._shape import Region

if TYPE_CHECKING:
    from procession._worker_launcher import WorkerLauncher
    from procession.launch import BootstrapCommand

_meshes = count(1)


def hosts_from_launcher(
    launcher: Any,
    hosts: Mapping[str, int] | int = 1,
    *,
    name: str | None = None,
    python_executable: str | os.PathLike[str] | None = None,
    env: Environment | None = None,
    ready_timeout: float = config.READY_TIMEOUT,
    ack_timeout: float = config.ACK_TIMEOUT,
    unknown_budget: float = config.UNKNOWN_BUDGET,
    lease: float = config.LEASE,
) -> HostMesh:
    """Hosts that `launcher` starts where it launches to, and returns at once; `initialized` tells when they are there.

    Each is a process of this package on its machine: what is spawned on these hosts is launched there, by the native
    launcher unless `spawn_procs` is given another, and ends with it. It needs procession of the same version there, and a
    way back to this client as any proc of the launcher does (`DialBack.network`).

    launcher: also a list of launchers, as of several machines: one host from each, and `hosts` is left out.
    hosts: their number, or their shape: `{"racks": 2, "hosts": 4}`. A number is `{"hosts": n}`.
    python_executable: the interpreter to start there; None is the one that the launcher knows of, or else the path of this one.
    env: what is added to the environment of each.
    lease: seconds that a host may be without a connection before it has ended, and all procs on it are killed.
    """
    if isinstance(launcher, Sequence):
        if hosts != 1 or not launcher:
            _validate.refuse("hosts", hosts, "there is one for each launcher of the list: leave it out, and give some")
        options = {"env": env, "ready_timeout": ready_timeout, "ack_timeout": ack_timeout}
        options |= {"unknown_budget": unknown_budget, "lease": lease}
        procs = _one_on_each(launcher, name, python_executable, **options)
        return HostMesh(procs._region, hosts=procs)
    sizes = {"hosts": hosts} if isinstance(hosts, int) else dict(hosts)
    procs = this_host().spawn_procs(
        sizes,
        name=name,
        bootstrap_command=_command(python_executable or _interpreter(launcher)),
        launcher=launcher,
        env=env,
        ready_timeout=ready_timeout,
        ack_timeout=ack_timeout,
        unknown_budget=unknown_budget,
        lease=lease,
        stop_grace=config.HOST_STOP_GRACE,
    )
    return HostMesh(Region.dense(procs.extent), hosts=procs)


def hosts_on_workers(workers: Sequence[WorkerLauncher], name: str | None) -> HostMesh:
    """One host on each."""
    hosts = _one_on_each(workers, name, None)
    return HostMesh(hosts._region, hosts=hosts, workers=workers)


def _one_on_each(
    launchers: Sequence[Any], name: str | None, python: str | os.PathLike[str] | None, **options: Any
) -> ProcMesh:
    name = unlike_others("hosts", next(_meshes)) if name is None else _validate.name("name", name)
    each = [
        this_host().spawn_procs(
            name=f"{name}-{place}",
            bootstrap_command=_command(python or _interpreter(launcher)),
            launcher=launcher,
            stop_grace=config.HOST_STOP_GRACE,
            **options,
        )
        for place, launcher in enumerate(launchers)
    ]
    together = HostedProcs(this_host(), [procs._procs for procs in each], 1, time.time())
    return ProcMesh(name, together, Region.dense({"hosts": len(launchers)}))


def _interpreter(launcher: object) -> str | None:
    """What the launcher knows of where it launches."""
    from procession._engines import EngineLauncher
    from procession._worker_launcher import WorkerLauncher

    return launcher.interpreter if isinstance(launcher, WorkerLauncher | EngineLauncher) else None


def _command(interpreter: str | os.PathLike[str] | None) -> BootstrapCommand:
    from procession.launch import BootstrapCommand

    program = sys.executable if interpreter is None else os.fspath(interpreter)
    _validate.program("python_executable", program, None)
    return BootstrapCommand(program, arg0=program, args=(*PROC_ARGS, config.HOST_ARG))
