"""Places that are kept warm, each for one proc."""

import os
import signal
import sys
from pathlib import Path

import pytest

from launching import Supervising, until
from procession.actor import Actor, endpoint, this_host
from procession.errors import LauncherUnavailable, Unsupported
from procession.launchers import Command, Pool, Throttle

AGENT = [sys.executable, "-m", "procession", "agent", "--stdio"]


@pytest.fixture(scope="module", autouse=True)
def _a_host_that_listens():
    """It goes on listening for what is led to it: from before what each test is compared with."""
    launcher = Command("{argv}", agent=AGENT)
    spawn(launcher, **shell("exit 0")).wait(timeout=50).get()
    launcher.close().get(30)


@pytest.fixture(params=["class", "command"])
def pool(request):
    # What is launched there finds the modules of these tests, as it would on a machine that has them.
    command = Command("env PLACE=1 {argv}", agent=AGENT, env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    launcher = Pool(Supervising if request.param == "class" else command, size=2)
    yield launcher
    launcher.close().get(30)
    command.close().get(30)


def spawn(launcher, count=1, **more):
    return this_host().spawn_procs({"workers": count}, launcher=launcher, **more)


def shell(text):
    return {"bootstrap_command": ["sh", "-c", text], "readiness": "none"}


def place_of(procs):
    """The procs that these were launched in."""
    return [exit.certificate.launched_in for exit in procs.exits().values()]


class There(Actor):
    @endpoint
    def parents(self):
        return os.getpid(), os.getppid()

    @endpoint
    def pids_of(self, others):
        return sorted(pid for pid, _ in others.parents.call().get(30).values())


def test_each_proc_has_a_place_of_its_own_and_more_than_wait_are_started(pool):
    pool.warm().get(50)
    with spawn(Throttle(pool, at_once=8), 5) as procs:
        there = procs.spawn("there", There)
        found = list(there.parents.call().get(50).values())
        assert there.slice(workers=0).pids_of.call_one(there.slice(workers=1)).get(50) == [found[1][0]]
        assert len({parent for _, parent in found}) == 5
        procs.stop().get(50)
        exits = list(procs.exits().values())
    assert [(exit.kind, exit.exit_code) for exit in exits] == [("exited", 0)] * 5
    assert len(set(place_of(procs))) == 5


def test_exits_are_the_programs_own_and_each_place_serves_once(pool):
    seen = set()
    for text, end in (("exit 7", (7, None)), ("kill -9 $$", (None, 9)), ("echo $0 out; exit 0", (0, None))):
        procs = spawn(pool, **shell(text))
        [exit] = procs.wait(timeout=50).get().values()
        assert (exit.exit_code, exit.signal) == end
        seen.update(place_of(procs))
    assert len(seen) == 3
    assert exit.stdout_tail == ["sh out"]


def test_environment_directory_and_arguments_are_those_of_the_proc(pool, tmp_path):
    procs = spawn(pool, **shell('echo "$PWD $WORD"'), cwd=tmp_path, env={"WORD": "said"})
    [exit] = procs.wait(timeout=50).get().values()
    assert exit.stdout_tail == [f"{tmp_path} said"]
    procs = spawn(pool, bootstrap_command=["/no/such/program"], readiness="none")
    [exit] = procs.wait(timeout=50).get().values()
    assert exit.kind == "failed"
    assert "/no/such/program" in exit.verdict


def test_a_kill_takes_the_whole_tree_and_the_place(pool):
    procs = spawn(pool, 2, **shell("echo $PPID; sleep 600 & sleep 600"))
    until(lambda: all(tail[0] for tail in procs._procs.tails(range(2), None)), "both write")
    procs.kill().get(50)
    assert [exit.signal for exit in procs.wait(timeout=50).get().values()] == [9, 9]
    procs.kill().get(50)  # of what has ended this is fine


def test_when_its_place_ends_a_proc_is_lost_with_the_reason_and_the_next_has_another(pool):
    with spawn(pool) as procs:
        [(_, place)] = procs.spawn("there", There).parents.call().get(50).values()
        os.kill(zygote_above(place), signal.SIGKILL)
        [exit] = procs.wait(timeout=50).get().values()
    assert exit.kind == "lost"
    assert "its zygote" in exit.verdict, exit.verdict
    [exit] = spawn(pool, **shell("exit 3")).wait(timeout=50).get().values()
    assert exit.exit_code == 3


def zygote_above(keeper):
    """The parent of the keeper, or of its guard."""
    pid = keeper
    while b"--zygote" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def test_what_a_place_would_have_had_to_be_started_with_is_refused(pool):
    with pytest.raises(Unsupported, match="give it to the launcher that the Pool goes around"):
        spawn(pool, resources={"memory": "64M"})
    with pytest.raises(Unsupported, match="there is no dry run of a Pool"):
        Throttle(pool, at_once=1).dry_run(["true"], readiness="none")


def test_a_launcher_that_cannot_start_a_place_fails_its_launches():
    command = Command("env PLACE=1 {argv}", agent=[*AGENT[:-1], "--no-such"])
    pool = Pool(command, size=1)
    with pytest.raises(LauncherUnavailable, match="no agent answers"):
        pool.warm()


def test_over_the_native_launcher_there_is_nothing_to_keep_warm():
    pool = Pool(None, size=2)
    pool.warm().get(10)
    [exit] = spawn(pool, **shell("exit 5")).wait(timeout=50).get().values()
    assert (exit.exit_code, exit.launcher) == (5, "native")


def test_its_places_keep_the_promises_of_launchers(pool):
    from procession import _native

    if "conformance" not in _native.features():
        pytest.skip("this build has no conformance kit")
    from procession._conformance import conform

    rows = [(one.name, one.outcome, one.why) for one in conform(pool, only=("exit.*", "output.*"), jobs=4)]
    assert [row for row in rows if row[1] == "failed"] == []
    assert len([row for row in rows if row[1] == "passed"]) > 20
