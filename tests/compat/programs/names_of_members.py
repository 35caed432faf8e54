"""Every public member of the API's classes is there, as programs would ask for it."""

from monarch.actor import Actor, Channel, Endpoint, Extent, Future, ValueMesh, context, endpoint, this_host

from facts import fact

DIFFERENT = {
    "Creator.proc_mesh": [True, False, "its procs are named where it lives; proc is the one that it lives in"],
    "Endpoint.rref": [True, False, "the tensor engine is out of scope"],
    "Extent.from_bytes": [True, False, "belongs to the inside of the reference; pickling a value does it"],
    "Extent.region": [True, False, "regions are the inside of meshes here; slices of a mesh give what they are for"],
    "HostMesh.is_fake_in_process": [True, False, "there are no hosts that only seem to be some"],
    "HostMesh.region": [True, False, "regions are the inside of meshes here; slices of a mesh give what they are for"],
    "HostMesh.shutdown": [True, False, "procs.stop() ends some, shutdown_context() all of them"],
    "HostMesh.stop": [True, False, "procs.stop() ends some, shutdown_context() all of them"],
    "HostMesh.stream_logs": [True, False, "output is asked for of the procs: logs, logging_option, log_dir"],
    "HostMesh.sync_workspace": [True, False, "workspaces are out of scope"],
    "Instance.set_system": [True, False, "belongs to the inside of the reference"],
    "Instance.spawn_tensor_engine": [True, False, "the tensor engine is out of scope"],
    "Point.from_bytes": [True, False, "belongs to the inside of the reference; pickling a value does it"],
    "Port.return_undeliverable": [True, False, "who sends to what is gone is told at once, with a ConnectionError"],
    "ProcMesh.activate": [True, False, "the tensor engine is out of scope"],
    "ProcMesh.from_host_mesh": [True, False, "belongs to the inside of the reference: spawn_procs makes meshes"],
    "ProcMesh.rank_tensor": [True, False, "the tensor engine is out of scope"],
    "ProcMesh.rank_tensors": [True, False, "the tensor engine is out of scope"],
    "ProcMesh.sync_workspace": [True, False, "workspaces are out of scope"],
    "ProcMesh.to_table": [True, False, "the tensor engine is out of scope"],
    "ValueMesh.from_indexed": [True, False, "belongs to the inside of the reference; pickling a value does it"],
}

MESH = ("extent", "flatten", "rename", "size", "sizes", "slice", "split")
MEMBERS = {
    "ActorMesh": (*MESH, "initialized", "stop"),
    "Context": ("actor_instance", "message_rank"),
    "Creator": ("class_name", "creator", "name", "proc", "proc_mesh", "rank"),
    "Endpoint": ("broadcast", "call", "call_one", "choose", "rref", "stream"),
    "Extent": ("from_bytes", "keys", "labels", "nelements", "region", "sizes"),
    "Future": ("as_asyncio", "exception", "get", "result"),
    "HostMesh": (
        *MESH,
        "initialized",
        "is_fake_in_process",
        "region",
        "shutdown",
        "spawn_procs",
        "stop",
        "stream_logs",
        "sync_workspace",
        "with_python_executable",
    ),
    "Instance": (
        "abort",
        "actor_id",
        "class_name",
        "creator",
        "kill",
        "name",
        "proc",
        "proc_id",
        "proc_mesh",
        "rank",
        "set_system",
        "spawn_tensor_engine",
        "stop",
    ),
    "Point": ("extent", "from_bytes", "get", "items", "keys", "rank", "size", "values"),
    "Port": ("exception", "return_undeliverable", "send"),
    "PortReceiver": ("ranked", "recv"),
    "ProcMesh": (
        *MESH,
        "activate",
        "from_host_mesh",
        "host_mesh",
        "initialized",
        "logging_option",
        "rank_tensor",
        "rank_tensors",
        "spawn",
        "stop",
        "sync_workspace",
        "to_table",
    ),
    "ValueMesh": (*MESH, "from_indexed", "get", "item", "items", "values"),
}


class Plain(Actor):
    @endpoint
    def get(self) -> list[str]:
        creator = context().actor_instance.creator
        return [name for name in dir(creator) if getattr(creator, name, self) is not self]


if __name__ == "__main__":
    host = this_host()
    procs = host.spawn_procs(per_host={"gpus": 1})
    plain = procs.spawn("plain", Plain)
    values = plain.get.call().get()
    point, _ = next(iter(values.items()))
    port, receiver = Channel.open()
    there = {
        "ActorMesh": dir(type(plain)),
        "Context": dir(context()),
        "Creator": values.item(gpus=0),
        "Endpoint": [*dir(Endpoint), *dir(plain.get)],
        "Extent": dir(Extent),
        "Future": dir(Future),
        "HostMesh": dir(type(host)),
        "Instance": dir(context().actor_instance),
        "Point": dir(point),
        "Port": dir(port),
        "PortReceiver": dir(receiver),
        "ProcMesh": dir(type(procs)),
        "ValueMesh": dir(ValueMesh),
    }
    for owner, names in MEMBERS.items():
        for name in names:
            fact(f"{owner}.{name}", name in there[owner])
