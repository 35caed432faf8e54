"""Endpoints that are called like something that every mesh has."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


def spawn_with(name: str) -> None:
    cls = type("Named", (Actor,), {name: endpoint(lambda self: 1)})
    this_host().spawn_procs().spawn("named", cls)


if __name__ == "__main__":
    for name in ("size", "stop", "slice", "flatten", "initialized", "rename"):
        with raises(name):
            spawn_with(name)
    for name in ("name", "logger", "get", "call", "items"):
        with raises(name):
            spawn_with(name)
    fact("done", True)
