"""`rename` of a dimension that is not there."""

from monarch.actor import this_host

from facts import raises

if __name__ == "__main__":
    with raises("rename"):
        this_host().spawn_procs(per_host={"a": 2}).rename(z="x")
