"""Slices that would hold nothing, or go backwards."""

from monarch.actor import Extent, this_host

from facts import raises

if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 3})
    with raises("an empty range"):
        procs.slice(gpus=slice(2, 2))
    with raises("a range beyond the end"):
        procs.slice(gpus=slice(5, 9))
    with raises("a negative step"):
        procs.slice(gpus=slice(2, 0, -1))
    with raises("neither index nor slice"):
        procs.slice(gpus="a")
    Extent([], [])
