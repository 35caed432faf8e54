"""Sizes of meshes of hosts, procs and actors."""

from monarch.actor import Actor, endpoint, this_host, this_proc

from facts import raises, tried

DIFFERENT = {
    "one proc, empty shape": [{}, "raises ValueError", "an empty shape is refused: leave per_host out"],
}


class Idle(Actor):
    @endpoint
    def nothing(self) -> None: ...


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"rows": 2, "columns": 2})
    actors = procs.spawn("idle", Idle)
    for name, mesh in {"procs": procs, "actors": actors}.items():
        tried(f"{name}: sizes", lambda mesh=mesh: mesh.sizes)
        tried(f"{name}: extent", lambda mesh=mesh: dict(mesh.extent))
        tried(
            f"{name}: size",
            lambda mesh=mesh: [mesh.size(), mesh.size("rows"), mesh.size(["rows", "columns"]), len(mesh)],
        )
        with raises(f"{name}: unknown dimension"):
            mesh.size("x")
    tried("this_host", lambda: [this_host().sizes, this_host().size()])
    tried("this_proc", lambda: [this_proc().sizes, this_proc().size()])
    tried("one proc", lambda: this_host().spawn_procs().sizes)
    tried("one proc, empty shape", lambda: this_host().spawn_procs(per_host={}).sizes)
