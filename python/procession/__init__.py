"""Launches fleets of processes anywhere and never loses track of one.

The paved path, re-exported from `procession.actor` and `procession.launch`; each name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from procession._exits import ProcEvent, ProcExit, ProcStatus
    from procession._native import __version__
    from procession._reattach import Reattached, reattach
    from procession._restart import Restart
    from procession.actor import (
        Actor,
        ActorError,
        ActorMesh,
        Channel,
        Extent,
        Future,
        HostMesh,
        Point,
        Port,
        PortReceiver,
        ProcMesh,
        SupervisionError,
        ValueMesh,
        concurrent_endpoint,
        context,
        current_rank,
        current_size,
        endpoint,
        shutdown_context,
        this_host,
        this_proc,
    )
    from procession.launch import Launcher, LaunchOptions, ProcExitResult, ProcLauncher, supervise

__all__ = [
    "Actor",
    "ActorError",
    "ActorMesh",
    "Channel",
    "Extent",
    "Future",
    "HostMesh",
    "LaunchOptions",
    "Launcher",
    "Point",
    "Port",
    "PortReceiver",
    "ProcEvent",
    "ProcExit",
    "ProcExitResult",
    "ProcLauncher",
    "ProcMesh",
    "ProcStatus",
    "Reattached",
    "Restart",
    "SupervisionError",
    "ValueMesh",
    "__version__",
    "concurrent_endpoint",
    "context",
    "current_rank",
    "current_size",
    "endpoint",
    "hosts_from_launcher",
    "reattach",
    "shutdown_context",
    "supervise",
    "this_host",
    "this_proc",
]

_ELSEWHERE = {
    "LaunchOptions": "launch",
    "Launcher": "launch",
    "ProcEvent": "_exits",
    "ProcExit": "_exits",
    "ProcExitResult": "launch",
    "ProcLauncher": "launch",
    "ProcStatus": "_exits",
    "Reattached": "_reattach",
    "Restart": "_restart",
    "__version__": "_native",
    "hosts_from_launcher": "_hosts",
    "reattach": "_reattach",
    "supervise": "launch",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'actor')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
