"""The actor API: actors, endpoints, meshes, futures and ports."""

from __future__ import annotations

from procession._actor import Actor, concurrent_endpoint, endpoint
from procession._actor_mesh import ActorMesh
from procession._context import Context, context, current_actor_name, current_rank, current_size
from procession._controllers import get_or_spawn_controller
from procession._endpoint import Accumulator, Endpoint, as_endpoint, send
from procession._failure import MeshFailure, unhandled_fault_hook
from procession._future import Future
from procession._host_mesh import HostMesh, default_bootstrap_cmd, this_host, this_proc
from procession._port import Channel, Port, PortReceiver
from procession._proc_mesh import ProcMesh
from procession._returns_future import returns_future
from procession._runtime import shutdown_context
from procession._shape import Extent, Point
from procession._value_mesh import ValueMesh
from procession._worker_loops import (
    ChannelTransport,
    attach,
    attach_to_workers,
    enable_transport,
    run_worker_loop_forever,
    run_worker_loop_until_shutdown,
    start_worker_loop_forever,
)
from procession.errors import ActorError, SupervisionError

__all__ = [
    "Accumulator",
    "Actor",
    "ActorError",
    "ActorMesh",
    "Channel",
    "ChannelTransport",
    "Context",
    "Endpoint",
    "Extent",
    "Future",
    "HostMesh",
    "MeshFailure",
    "Point",
    "Port",
    "PortReceiver",
    "ProcMesh",
    "SupervisionError",
    "ValueMesh",
    "as_endpoint",
    "attach",
    "attach_to_workers",
    "concurrent_endpoint",
    "context",
    "current_actor_name",
    "current_rank",
    "current_size",
    "default_bootstrap_cmd",
    "enable_transport",
    "endpoint",
    "get_or_spawn_controller",
    "returns_future",
    "run_worker_loop_forever",
    "run_worker_loop_until_shutdown",
    "send",
    "shutdown_context",
    "start_worker_loop_forever",
    "this_host",
    "this_proc",
    "unhandled_fault_hook",
]
