"""The launcher through `ssh` against real sshds: three machines, each a network namespace with a name of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from here import Here

import procession.actor
from launching import gone, until
from procession import hosts_from_launcher
from procession.actor import this_host
from procession.errors import InvalidArgument, LauncherUnavailable, SupervisionError
from procession.launchers import Ssh, by_name

HOME = Path(os.environ["SSH_CONFIG"]).with_name("home")
AGENT = [sys.executable, "-m", "procession", "agent", "--stdio"]
"""Of this interpreter, which has procession installed."""


@pytest.fixture(autouse=True)
def _deaths_are_expected(monkeypatch):
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", lambda failure: None, raising=False)


@pytest.fixture
def links():
    """Cuts the way to a machine; afterwards all are whole."""

    def link(host, state):
        subprocess.run(["ip", "link", "set", f"to-{host}", state], check=True)

    yield link
    for host in ("n1", "n2", "n3"):
        link(host, "up")


def ssh(host, **more):
    return Ssh(host, **({"agent": AGENT} | more))


def spawn(count, launcher, **more):
    return this_host().spawn_procs({"workers": count}, launcher=launcher, **more)


def ssh_processes():
    """The pids of the ssh that this process has started."""
    found = subprocess.run(["pgrep", "-x", "-P", str(os.getpid()), "ssh"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def test_procs_of_one_machine_share_one_connection_and_payloads_of_any_size_go_through_it():
    with spawn(4, ssh("n1")) as procs:
        here = procs.spawn("here", Here)
        assert {host for host, _ in here.where.call().get(50).values()} == {"n1"}
        assert len({pid for _, pid in here.where.call().get(50).values()}) == 4
        assert list(here.length.call(b"x" * 5_000_000).get(50).values()) == [5_000_000] * 4
        assert len(ssh_processes()) == 1
        assert {status.handle.startswith("ssh n1 pid ") for status in procs.statuses().values()} == {True}
    assert [(exit.kind, exit.exit_code, exit.launcher) for exit in procs.exits().values()] == [("exited", 0, "ssh")] * 4


def test_procs_of_different_machines_call_each_other():
    meshes = [spawn(1, ssh(host)) for host in ("n1", "n2", "n3")]
    actors = [mesh.spawn("here", Here) for mesh in meshes]
    for actor in actors:
        others = [other for other in actors if other is not actor]
        found = [actor.wheres_of.call_one(other).get(50) for other in others]
        assert found == [[f"n{number}"] for number in (1, 2, 3) if actors[number - 1] is not actor]
    for mesh in meshes:
        mesh.stop().get(30)


def test_hosts_on_several_machines_are_one_mesh():
    hosts = hosts_from_launcher([ssh("n1"), ssh("n2"), ssh("n3")])
    procs = hosts.spawn_procs({"gpus": 2})
    found = [host for host, _ in procs.spawn("here", Here).where.call().get(60).values()]
    assert found == ["n1", "n1", "n2", "n2", "n3", "n3"]
    hosts.stop().get(60)


def test_where_procession_is_missing_it_is_copied_once():
    bare = os.path.realpath(sys.executable)
    assert subprocess.run([bare, "-S", "-c", "import procession"], capture_output=True).returncode != 0
    copies = HOME / ".cache" / "procession"
    found = []
    for _ in range(2):
        with spawn(1, Ssh("n2", python=bare)) as procs:
            [(interpreter, path)] = procs.spawn("here", Here).interpreter.call().get(60).values()
            assert interpreter == bare
            [copy] = [copy for copy in copies.iterdir() if copy.name.startswith("procession-")]
            assert path == str(copy)
            found.append((copy, copy.stat().st_ino))
    assert found[0] == found[1]
    assert sorted(part.name for part in found[0][0].iterdir()) == ["cloudpickle", "procession"]


def test_a_program_is_run_there_from_the_command_line():
    command = [sys.executable, "-m", "procession", "run", "--launcher", "ssh:n3", "-n", "2", "hostname"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("n3") == 2, done.stdout


def test_a_machine_that_cannot_be_reached_is_unreachable_and_goes_on_when_it_is_back(links):
    with spawn(1, ssh("n1")) as procs:
        here = procs.spawn("here", Here)
        here.where.call().get(50)
        links("n1", "down")
        until(lambda: [one.status for one in procs.statuses().values()] == ["unknown"], "nothing is known of it")
        call = here.where.call()
        links("n1", "up")
        assert [host for host, _ in call.get(50).values()] == ["n1"]
        until(lambda: [one.status for one in procs.statuses().values()] == ["ready"], "it is back")


def test_a_machine_that_stays_away_loses_its_procs_and_ends_them_itself(links):
    with spawn(1, ssh("n2", agent=[*AGENT, "--lease", "4"], lease=4.0)) as procs:
        here = procs.spawn("here", Here)
        [(_, pid)] = here.where.call().get(50).values()
        links("n2", "down")
        call = here.where.call()
        with pytest.raises(SupervisionError, match="it has not answered for 4s"):
            call.get(50)
        until(lambda: gone(pid), "it ended by itself")
        [exit] = procs.wait(timeout=30).get().values()
        assert exit.kind == "lost"
        links("n2", "up")


def test_with_its_ssh_all_that_was_launched_ends_and_the_next_launch_connects_again():
    launcher = ssh("n3")
    procs = spawn(2, launcher)
    pids = [pid for _, pid in procs.spawn("here", Here).where.call().get(50).values()]
    [connection] = ssh_processes()
    os.kill(connection, 9)
    exits = list(procs.wait(timeout=30).get().values())
    assert [exit.kind for exit in exits] == ["lost", "lost"]
    assert "the command ended with signal: 9" in exits[0].failed_reason
    for pid in pids:
        until(lambda pid=pid: gone(pid), "it ended with its connection")
    with spawn(1, launcher) as again:
        assert [host for host, _ in again.spawn("here", Here).where.call().get(50).values()] == ["n3"]


@pytest.mark.parametrize(
    ("launcher", "said"),
    [
        (Ssh("nowhere.invalid"), "ssh nowhere.invalid: .*Could not resolve hostname"),
        (Ssh("n1", python="/no/such/python"), "/no/such/python"),
        (Ssh("n1", options=["-o", "PreferredAuthentications=password"]), "Permission denied"),
        (Ssh("n1", ssh="/no/such/ssh"), "/no/such/ssh cannot be started: No such file"),
        (Ssh("n1", agent=["echo", "hello"]), "what came instead is .hello."),
    ],
)
def test_what_goes_wrong_on_the_way_is_told_in_the_words_of_ssh(launcher, said):
    with pytest.raises(LauncherUnavailable, match=said):
        launcher.connect()


def test_what_is_no_destination_is_refused_before_anything_starts():
    with pytest.raises(InvalidArgument, match="host"):
        by_name("ssh:-oProxyCommand=touch").connect()
    assert ssh_processes() == []


def test_the_doctor_says_what_works_on_another_machine():
    command = [sys.executable, "-m", "procession", "doctor", "--launcher", "ssh:n2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert {name for name, fact in found.items() if not fact["holds"]} <= {"gpus"}
    assert found["place"]["detail"].startswith("machine n2, ")
    assert found["reaches back"]["detail"].startswith("through 127.0.0.1:")
