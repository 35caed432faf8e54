"""The hosts of a proc."""

from monarch.actor import HostMesh, ProcMesh, this_host, this_proc

from facts import fact, tried

BETTER = {
    "of several procs": ["raises NotImplementedError", {}, "there for every mesh of procs"],
}

if __name__ == "__main__":
    host = this_host()
    procs = host.spawn_procs(per_host={"gpus": 2})
    fact("types", [isinstance(host, HostMesh), isinstance(procs, ProcMesh), isinstance(this_proc(), ProcMesh)])
    tried("of one proc", lambda: procs.slice(gpus=0).host_mesh.sizes)
    tried("of this proc", lambda: this_proc().host_mesh.sizes)
    tried("of several procs", lambda: procs.host_mesh.sizes)
    tried("more procs there", lambda: procs.slice(gpus=0).host_mesh.spawn_procs().sizes)
