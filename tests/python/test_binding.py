"""Procs that are bound to processors, and to memory of nodes."""

import os
import threading
from pathlib import Path

import pytest

from capabilities import need
from launching import Supervising, only_exit, spawn
from procession import this_host
from procession.actor import Actor, endpoint
from procession.errors import InvalidArgument, Unsupported
from procession.launch import Capabilities

NODES = Path("/sys/devices/system/node")


class Binding(Supervising):
    """Does what `supervise` can do."""

    capabilities = Capabilities(command_attributes=True, proc_bind=True)


BOTH = pytest.mark.parametrize("launcher", [None, Binding], ids=["native", "supervise"])
SHOW = "grep Cpus_allowed_list /proc/self/status"


def available():
    """The processors that a child of this process can be bound to."""
    found = []

    def look():
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        found.extend(sorted(os.sched_getaffinity(0)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found


def processors(end):
    assert (end.exit_code, end.failed_reason) == (0, None), end
    return end.stdout_tail[0].split()[1]


@BOTH
def test_each_proc_and_what_it_starts_run_where_its_entry_says(launcher):
    first, last = available()[0], available()[-1]
    bindings = [{"cpus": str(first)}, {"physcpubind": str(last), "cpus": "all"}, {}]
    with spawn(launcher, f"({SHOW})", per_host={"p": 3}, proc_bind=bindings) as procs:
        ends = procs.wait(20).get().values()
        assert [processors(end) for end in ends][:2] == [str(first), str(last)]
    own = Path("/proc/self/status").read_text().partition("Cpus_allowed_list:")[2].split()[0]
    assert processors(procs.exits().get(2)) == own


@BOTH
def test_a_proc_is_bound_to_the_processors_and_to_the_memory_of_a_node(launcher):
    need("bind-processors", "bind-memory")
    script = f"{SHOW}; cat /proc/self/numa_maps"
    end = only_exit(spawn(launcher, script, proc_bind=[{"cpunodebind": "0", "membind": "0"}]))
    there = {one for one in available() if (NODES / f"node0/cpu{one}").exists()}
    spans = (part.partition("-") for part in processors(end).split(","))
    assert {n for low, _, high in spans for n in range(int(low), int(high or low) + 1)} == there
    if len(end.stdout_tail) > 1:
        assert all(" bind:0 " in f"{line} " or " bind=static:0 " in f"{line} " for line in end.stdout_tail[1:])


class Launching(Actor):
    @endpoint
    def launch(self, processor):
        with this_host().spawn_procs(proc_bind=[{"cpus": str(processor)}], preload=["this_is_missing"]) as broken:
            failure = str(broken.initialized.exception(30))
        with this_host().spawn_procs(proc_bind=[{"cpus": str(processor)}], preload=["wave"]) as procs:
            return failure, procs.spawn("here", Here).processors.call_one().get(30)


def test_a_proc_that_a_proc_launches_is_bound_and_imports_first():
    last = available()[-1]
    with this_host().spawn_procs() as procs:
        failure, processors = procs.spawn("launching", Launching).launch.call_one(last).get(60)
    assert "the import of this_is_missing, which is to be preloaded, failed" in failure
    assert processors == [last]


class Here(Actor):
    @endpoint
    def processors(self):
        return sorted(os.sched_getaffinity(0))


def test_a_proc_that_is_launched_again_is_bound_again():
    first = available()[0]
    with this_host().spawn_procs(proc_bind=[{"cpus": str(first)}]) as procs:
        procs.initialized.get(30)
        procs.kill().get()
        procs.wait(20).get()
        procs.respawn().get(30)
        assert procs.spawn("here", Here).processors.call_one().get(20) == [first]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], r"proc_bind = a list of 0: has to have 1"),
        ([{}, {}], r"proc_bind = a list of 2: has to have 1"),
        ("0", "has to be a list with a dict for each proc"),
        ([0], r"proc_bind\[0\] = 0: has to be a dict"),
        ([{"cpu": "0"}], "known are cpunodebind, membind, physcpubind, cpus"),
        ([{"cpus": 0}], r'proc_bind\[0\]\["cpus"\] = 0: has to be a str'),
        ([{"cpus": "first"}], r'proc_bind\["cpus"\] = "first": has to be a list of numbers'),
        ([{"cpus": "8191"}], "processor 8191 is not available here"),
        ([{"cpus": "1-0"}], "has to be a list of numbers"),
        ([{"membind": "8000"}], "proc_bind"),
        ([{"cpunodebind": "8000"}], "proc_bind"),
    ],
)
def test_what_cannot_be_bound_to_is_refused_before_anything_starts(given, words):
    with pytest.raises(InvalidArgument, match=words):
        this_host().spawn_procs(proc_bind=given)


def test_a_launcher_that_does_not_say_that_it_binds_is_not_asked_to():
    with pytest.raises(Unsupported, match=r"proc_bind: Supervising does not honour it.*proc_bind=True"):
        spawn(Supervising, "true", proc_bind=[{"cpus": str(available()[0])}])
    with spawn(Supervising, "true", proc_bind=[{}]) as procs:
        assert only_exit(procs).exit_code == 0
