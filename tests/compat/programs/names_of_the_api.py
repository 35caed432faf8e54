"""Every public name of the actor API can be imported."""

import monarch.actor

from facts import fact

DIFFERENT = {
    "ProcId": [True, False, "ids are plain str here"],
    "Uid": [True, False, "ids are plain str here"],
    "config": [
        True,
        False,
        "its settings are those of another runtime; those of this one are arguments of spawn_procs and procession.config",
    ],
    "debug_controller": [True, False, "there is no remote debugger"],
    "get_meter": [True, False, "telemetry is out of scope"],
    "span": [True, False, "telemetry is out of scope"],
    "traced": [True, False, "telemetry is out of scope"],
}

NAMES = [
    "Accumulator",
    "Actor",
    "ActorError",
    "current_actor_name",
    "as_endpoint",
    "current_rank",
    "current_size",
    "concurrent_endpoint",
    "endpoint",
    "Future",
    "returns_future",
    "Point",
    "ProcMesh",
    "ProcId",
    "Channel",
    "send",
    "shutdown_context",
    "ValueMesh",
    "debug_controller",
    "get_or_spawn_controller",
    "this_host",
    "this_proc",
    "default_bootstrap_cmd",
    "HostMesh",
    "context",
    "Port",
    "PortReceiver",
    "Endpoint",
    "Extent",
    "run_worker_loop_forever",
    "run_worker_loop_until_shutdown",
    "start_worker_loop_forever",
    "attach_to_workers",
    "attach",
    "enable_transport",
    "Context",
    "ChannelTransport",
    "config",
    "get_meter",
    "span",
    "traced",
    "Uid",
]

if __name__ == "__main__":
    for name in NAMES:
        fact(name, hasattr(monarch.actor, name))
