"""Launchers that are where another one leads to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launching import gone, until
from procession import launchers
from procession.actor import Actor, endpoint, this_host
from procession.errors import InvalidArgument, LauncherUnavailable
from procession.launchers import Chain, Command, Docker, Ssh, Throttle, Vm, native

AGENT = [sys.executable, "-m", "procession", "agent", "--stdio"]


def command(line):
    # What is launched there finds the modules of these tests, as it would on a machine that has them.
    return Command(line, agent=AGENT, env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


@pytest.fixture
def chain():
    launcher = Chain(command("env FIRST=1 {argv}"), command("env SECOND=2 {argv}"))
    yield launcher
    launcher.close().get(30)


def spawn(launcher, count=1, **more):
    return this_host().spawn_procs({"workers": count}, launcher=launcher, **more)


def shell(text):
    return {"bootstrap_command": ["sh", "-c", text], "readiness": "none"}


class There(Actor):
    @endpoint
    def variables(self):
        return os.environ.get("FIRST"), os.environ.get("SECOND")

    @endpoint
    def length(self, data):
        return len(data)

    @endpoint
    def lengths_of(self, others, data):
        return sorted(others.length.call(data).get(30).values())


def test_actors_run_behind_both_and_call_each_other(chain):
    with spawn(Throttle(chain, at_once=2), 3) as procs:
        there = procs.spawn("there", There)
        assert list(there.variables.call().get(50).values()) == [("1", "2")] * 3
        assert there.slice(workers=0).lengths_of.call_one(there.slice(workers=1), b"x" * 300_000).get(50) == [300_000]
        assert {status.launcher for status in procs.statuses().values()} == {"throttle(command/command)"}
    assert [(exit.kind, exit.exit_code) for exit in procs.exits().values()] == [("exited", 0)] * 3


def test_exits_output_and_kills_are_those_of_the_program(chain):
    text = "trap 'exit 7' TERM; seq 20000; echo $FIRST$SECOND >&2; read forever || sleep 100 & wait"
    with spawn(chain, 2, **shell(text)) as procs:
        until(lambda: all(tail == ["12"] for tail in tails(procs, "stderr")), "both have written")
        assert all(tail[-1] == "20000" for tail in tails(procs, "stdout"))
        procs.slice(workers=0).terminate(20.0).get(30)
        procs.slice(workers=1).kill().get(30)
        ends = list(procs.wait(timeout=50).get().values())
    assert [(end.kind, end.exit_code, end.signal) for end in ends] == [("exited", 7, None), ("signaled", None, 9)]


def tails(procs, stream):
    return [tail[stream == "stderr"] for tail in procs._procs.tails(range(2), None)]


def test_what_cannot_be_started_there_is_told_in_its_own_words(chain):
    procs = spawn(chain, bootstrap_command=["/no/such/program"], readiness="none")
    [end] = procs.wait(timeout=50).get().values()
    assert end.kind == "failed"
    assert "/no/such/program" in end.verdict, end.verdict


def test_when_the_first_command_ends_all_is_ended_there_and_lost_here(chain):
    procs = spawn(chain, 2, **shell("echo $$; sleep 600"))
    until(lambda: all(tails(procs, "stdout")), "both have written")
    pids = [int(tail[0]) for tail in tails(procs, "stdout")]
    [agent] = agents()
    os.kill(agent, signal.SIGKILL)
    ends = list(procs.wait(timeout=50).get().values())
    assert {end.kind for end in ends} == {"lost"}
    assert all("host lost: the connection to env FIRST=1 … has ended" in end.verdict for end in ends)
    until(lambda: all(gone(pid) for pid in pids), "both are gone")
    with spawn(chain, **shell("exit 3")) as again:
        assert [end.exit_code for end in again.wait(timeout=50).get().values()] == [3]


def agents():
    """What this process runs as its first commands."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
    environments = {int(pid): Path(f"/proc/{pid}/environ") for pid in found}
    return [pid for pid, path in environments.items() if path.exists() and b"FIRST=1" in path.read_bytes()]


def test_a_launcher_that_cannot_be_used_there_is_named_with_the_place_and_the_reason():
    unreachable = Chain(command("env FIRST=1 {argv}"), Docker("trainer:7", host="unix:///no/such/socket"))
    with pytest.raises(LauncherUnavailable) as raised:
        unreachable.connect()
    for word in ("the launcher docker cannot be used at env FIRST=1 …", "/no/such/socket"):
        assert word in str(raised.value)
    nobody = Chain(command("false {argv}"), Docker("trainer:7"))
    with pytest.raises(LauncherUnavailable, match=r"no agent answers at false ….*exit status: 1"):
        nobody.connect()


def test_it_passes_on_what_is_asked_of_a_launcher_beside_launches(chain):
    assert chain.probe().endswith("at env SECOND=2 … at env FIRST=1 …")
    assert chain.list() == []
    shown = chain.dry_run(["sh", "-c", "exit 5"], readiness="none", env={"TOKEN": "canary"})
    assert shown.startswith('"env" "SECOND=2"')
    assert "exit 5" in shown
    assert "canary" not in shown


def test_three_are_a_chain_too():
    launcher = Chain(*(command(f"env NUMBER{n}={n} {{argv}}") for n in range(3)))
    with spawn(launcher, **shell("exit $((NUMBER1 + NUMBER2))")) as procs:
        assert [end.exit_code for end in procs.wait(timeout=50).get().values()] == [3]
        assert {status.launcher for status in procs.statuses().values()} == {"command/command/command"}
    launcher.close().get(30)


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ([], "give two at least"),
        ([Ssh("a")], "give two at least"),
        ([Ssh("a"), native()], "has to be a launcher for a substrate"),
        ([Ssh("a"), Throttle(Docker("b"), at_once=1)], "what goes around launchers goes around the chain"),
        ([Docker("b"), Ssh("a")], "leads to no other machine"),
        ([Vm("root.img"), Docker("b")], "leads to no other machine"),
        ([Chain(Ssh("a"), Ssh("b")), Docker("b")], "leads to no other machine"),
    ],
)
def test_what_is_no_chain_is_refused(parts, rule):
    with pytest.raises(InvalidArgument, match=rule):
        Chain(*parts)


def test_a_file_of_toml_has_its_parts_in_their_order(tmp_path):
    file = tmp_path / "far.toml"
    file.write_text(
        'launcher = "chain"\n[[of]]\nlauncher = "ssh"\nhost = "node7"\n[[of]]\nlauncher = "docker"\nimage = "a"\n'
    )
    launcher = launchers.from_file(file)
    assert repr(launcher) == repr(Chain(Ssh("node7"), Docker("a")))
    assert launcher.described()["engine"] == "ssh"
