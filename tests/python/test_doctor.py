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


def test_of_a_launcher_it_says_what_works_there():
    found = json.loads(doctor("--launcher", "native", "--json"))
    works = ["starts", "reaches back", "versions", "place", "limits", "clock", "codes", "kills", "output"]
    assert [name for name, fact in found.items() if fact["holds"] and name != "gpus"] == works
    assert found["reaches back"]["detail"] == "through a unix socket"


def test_what_does_not_work_at_a_launcher_is_told_with_its_cause_and_the_code():
    line = "command:sh -c 'echo no agent here >&2; exit 3 # {argv}'"
    command = [sys.executable, "-m", "procession", "doctor", "--launcher", line]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("no   answers")
    assert "exit status: 3, and had said: no agent here" in first
    unknown = subprocess.run([*command[:-1], "nothing"], capture_output=True, text=True, timeout=50)
    assert unknown.returncode == 2
    assert "--launcher" in unknown.stderr
