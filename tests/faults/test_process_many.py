"""Launches in a row, many of them: nothing grows, and the last is as fast as the first."""

import json
import os

import pytest

# The whole row are ten thousand.
LAUNCHES = int(os.environ.get("PROCESSION_SOAK_LAUNCHES", "500"))
# What an allocator keeps for itself comes and goes.
SLACK_KIB = 512

CLIENT = """
import gc, json, os, sys, time
from procession.actor import this_host

def memory_kib():
    gc.collect()
    (line,) = [line for line in open("/proc/self/smaps_rollup") if line.startswith("Private_Dirty:")]
    return int(line.split()[1])

def one():
    asked = time.monotonic()
    procs = this_host().spawn_procs(bootstrap_command=["/bin/true"], readiness="none")
    (exit,) = procs.wait(30).get().values()
    assert exit.exit_code == 0, exit
    return time.monotonic() - asked

for _ in range(200):
    one()
holds = lambda: (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")))
memory, before = memory_kib(), holds()
seconds = [one() for _ in range(int(sys.argv[1]))]
deadline = time.monotonic() + 20
while any(now > then for now, then in zip(holds(), before)) and time.monotonic() < deadline:
    time.sleep(0.05)
print(json.dumps({"grown_kib": memory_kib() - memory, "before": before, "after": holds(), "seconds": seconds}))
"""


@pytest.mark.fault("F38")
@pytest.mark.timeout(90 + LAUNCHES)
def test_launches_in_a_row_cost_no_memory_that_stays_no_descriptor_and_no_time(script):
    told = json.loads(script(CLIENT, str(LAUNCHES), timeout=60 + LAUNCHES).stdout)
    assert told["grown_kib"] <= LAUNCHES + SLACK_KIB, told["grown_kib"]
    assert all(now <= then for now, then in zip(told["after"], told["before"], strict=True)), told["after"]
    fifth = LAUNCHES // 5
    first, last = (sorted(told["seconds"][part])[int(fifth * 0.99)] for part in (slice(fifth), slice(-fifth, None)))
    assert last < 10 * first, (first, last)
