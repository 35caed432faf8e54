"""`procession doctor`: what this machine can promise."""

import json
import subprocess
import sys

from procession._native import machine_facts


def doctor(*args):
    command = [sys.executable, "-m", "procession", "doctor", *args]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout


def test_it_says_of_each_capability_whether_it_holds_and_what_that_means():
    # What hosts have left that were killed comes after these.
    lines = [line for line in doctor().splitlines() if line.startswith(("yes ", "no "))]
    shown = {}
    for line in lines:
        holds, name, detail = line.split(None, 2)
        shown[name] = holds
        assert detail
    assert shown == {name: "yes" if holds else "no" for name, holds, _ in machine_facts()}
    assert {"kernel", "cgroup2", "memory-limit", "pids-limit", "oom-facts", "pidfd-status", "netns", "fuse"} <= set(
        shown
    )


def test_its_json_has_the_same_facts():
    given = json.loads(doctor("--json"))
    assert isinstance(given.pop("dead_hosts"), list)  # of this machine, and so of others' tests
    assert [(name, fact["holds"], fact["detail"]) for name, fact in given.items()] == machine_facts()
    assert given["pidfd"]["holds"] is True
