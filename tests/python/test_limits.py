"""Limits on what a proc uses together with all that it starts, and kills of whole groups."""

import sys
from pathlib import Path

import pytest

from capabilities import empty_groups_of_this_process, group_below_own, group_of, need
from launching import gone, only_exit, until
from procession.actor import Actor, endpoint, this_host
from procession.errors import InvalidArgument

PATIENCE = 30


class Echo(Actor):
    @endpoint
    def echo(self, value):
        return value


def run(command, **kwargs):
    return this_host().spawn_procs(bootstrap_command=command, readiness="none", **kwargs)


def python(source):
    return [sys.executable, "-S", "-c", source]


@pytest.fixture(autouse=True)
def no_group_left():
    yield
    until(lambda: not empty_groups_of_this_process(), "its control groups are removed")


# --- F36: memory


HOG = "pieces = []\nwhile True: pieces.append(b'x' * (1 << 20))"


@pytest.mark.fault("F36")
@pytest.mark.parametrize("attempt", range(5))
def test_a_leader_that_is_killed_for_want_of_memory_is_reported_as_that(attempt):
    need("memory-limit", "oom-facts")
    end = only_exit(run(python(HOG), resources={"memory": "64M"}))
    assert (end.kind, end.signal, end.oom, end.requested) == ("signaled", 9, True, None)
    assert end.verdict.startswith("out of memory: "), end.verdict


@pytest.mark.fault("F36")
@pytest.mark.parametrize("attempt", range(5))
def test_a_grandchild_that_is_killed_for_want_of_memory_shows_though_the_leader_exits_with_0(attempt):
    need("memory-limit", "oom-facts")
    source = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {HOG!r}])"
    end = only_exit(run(python(source), resources={"memory": "64M"}))
    assert (end.kind, end.exit_code, end.oom) == ("exited", 0, True)
    assert end.verdict.startswith("out of memory: "), end.verdict


def test_what_stays_within_its_memory_has_not_run_out_of_it():
    need("memory-limit", "oom-facts")
    end = only_exit(run(["/bin/sh", "-c", "exit 3"], resources={"memory": 64 << 20}))
    assert (end.exit_code, end.oom, end.verdict) == (3, False, "app error: exit code 3")


def test_without_a_limit_nobody_claims_that_memory_ran_out():
    end = only_exit(run(["/bin/sh", "-c", "kill -9 $$"]))
    assert end.signal == 9
    assert end.oom is not True
    assert "memory" not in end.verdict


# --- pids and cpu


@pytest.mark.fault("F7")
def test_a_launch_that_meets_a_limit_on_processes_fails_retryably_and_touches_no_other(script, tmp_path):
    need("pids-limit")
    with group_below_own("pids", "limit-test") as group:
        done = script(AT_THE_LIMIT, str(group))
    assert done.stdout.splitlines() == ["failed True True", "running", "exited 0"]


AT_THE_LIMIT = """
import sys
from pathlib import Path
from procession.actor import this_host

group = Path(sys.argv[1])
(group / "cgroup.procs").write_text("0")  # this process, before it has started another

def run(name, *command):
    return this_host().spawn_procs(name=name, bootstrap_command=command, readiness="none")

living = run("living", "sleep", "1000")
living.initialized.get(20)
assert run("before", "true").wait(20).get().item().exit_code == 0
(group / "pids.max").write_text("1")  # fewer than there are: what lives stays, and nothing is added
end = run("refused", "true").wait(20).get().item()
print(end.kind, "errno 11" in end.failed_reason, "try again" in end.failed_reason)
print(living.statuses().item())
(group / "pids.max").write_text("max")
end = run("retried", "true").wait(20).get().item()
print(end.kind, end.exit_code)
living.kill().get(20)
living.wait(20).get()
"""


FORK_BOMB = """
import os, pathlib, sys, time
while True:
    try:
        os.fork()
    except OSError:
        pathlib.Path(sys.argv[1]).touch()
        time.sleep(0.01)
"""


@pytest.mark.fault("F11")
def test_a_fork_bomb_meets_its_limit_dies_as_a_whole_and_hinders_nobody(tmp_path):
    need("pids-limit")
    full = tmp_path / "full"
    with this_host().spawn_procs() as beside:
        echo = beside.spawn("echo", Echo)
        assert echo.echo.call_one(1).get(PATIENCE) == 1
        bomb = run([*python(FORK_BOMB), str(full)], resources={"pids": 400})
        until(full.exists, "the limit is met")
        group = group_of(bomb.statuses().item().pid, "pids")
        assert int((group / "pids.max").read_text()) == 400
        assert echo.echo.call_one(2).get(PATIENCE) == 2
        bomb.kill().get(PATIENCE)
        assert only_exit(bomb).signal == 9
        until(lambda: not group.exists(), "nothing of it is left")
        assert echo.echo.call_one(3).get(PATIENCE) == 3


def test_a_share_of_processors_is_set_on_the_group():
    need("cpu-limit")
    procs = run(["sleep", "1000"], resources={"cpu": 0.5})
    procs.initialized.get(PATIENCE)
    group = group_of(procs.statuses().item().pid, "cpu")
    try:
        assert (group / "cpu.cfs_quota_us").read_text() == "50000\n"
    finally:
        procs.kill().get(PATIENCE)
        only_exit(procs)


# --- kills


@pytest.mark.fault("F15")
def test_a_frozen_group_is_killed():
    need("cgroup2", "group-kill")
    procs = run(["sleep", "1000"])
    procs.initialized.get(PATIENCE)
    group = group_of(procs.statuses().item().pid)
    (group / "cgroup.freeze").write_text("1")
    until(lambda: "frozen 1" in (group / "cgroup.events").read_text())
    procs.kill().get(PATIENCE)
    assert only_exit(procs).signal == 9


DAEMON = "(setsid env -i /bin/sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' &)"


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_a_daemon_that_left_its_session_its_parents_and_its_environment_goes_with_its_proc(tmp_path, how):
    need("cgroup2")
    told = tmp_path / "pid"
    rest = "exec sleep 1000" if how == "killed" else f"while ! test -e {told}; do sleep 0.01; done"
    with this_host().spawn_procs() as beside:  # which keeps the keeper from taking all that nobody owns
        beside.initialized.get(PATIENCE)
        procs = run(["/bin/sh", "-c", f"{DAEMON.format(told)}; {rest}"])
        until(told.exists)
        daemon = int(told.read_text())
        if how == "killed":
            assert not gone(daemon)
            procs.kill().get(PATIENCE)
        only_exit(procs)
        until(lambda: gone(daemon), "the daemon is dead")


@pytest.mark.parametrize("members", [100, 400])
def test_a_kill_means_the_whole_tree(tmp_path, members):
    count = tmp_path / "count"
    script = f"for n in $(seq {members - 1}); do sleep 1000 & done; touch {count}; exec sleep 1000"
    procs = run(["/bin/sh", "-c", script])
    until(count.exists)
    leader = procs.statuses().item().pid
    tree = [leader, *map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())]
    assert len(tree) >= members
    procs.kill().get(PATIENCE)
    assert only_exit(procs).signal == 9
    until(lambda: all(gone(pid) for pid in tree), "all are dead")


# --- arguments


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ([], "has to be a dict"),
        ({"cpus": 1}, "known are memory, pids, cpu"),
        ({"memory": 0}, "at least 1M"),
        ({"memory": -1}, "at least 0"),
        ({"memory": True}, "has to be an int"),
        ({"memory": 1.5}, "has to be an int"),
        ({"memory": "64 MB"}, '"64M"'),
        ({"memory": "-64M"}, '"64M"'),
        ({"memory": "9999999T"}, "at most"),
        ({"memory": 2**63}, "at most"),
        ({"pids": 0}, "at least 1"),
        ({"pids": "10"}, "has to be an int"),
        ({"pids": 2**64}, "at most"),
        ({"cpu": 0}, "0.01"),
        ({"cpu": 0.001}, "0.01"),
        ({"cpu": -1}, "number of processors"),
        ({"cpu": float("nan")}, "number of processors"),
        ({"cpu": float("inf")}, "number of processors"),
        ({"cpu": "1"}, "number of processors"),
        ({"cpu": True}, "number of processors"),
    ],
)
def test_resources_that_mean_nothing_are_refused_before_anything_starts(resources, words):
    with pytest.raises(InvalidArgument, match="resources") as error:
        run(["true"], resources=resources)
    assert words in str(error.value)
