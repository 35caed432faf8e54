"""Procs on other machines that are served there; the machine is this one, in another process."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launching import gone, only_exit, spawn, until
from procession import actor, hosts_from_launcher
from procession.actor import Actor, endpoint, this_host
from procession.errors import InvalidArgument, LauncherUnavailable, LaunchFailed, Unsupported
from procession.launchers import WorkerLauncher, connect_all
from workers import PROCESSION, make_key, serving

_tags = itertools.count()
PATHS = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
"""Another machine has no path of this one; this one has."""
CLIENT = """
import sys
from procession.actor import this_host
from procession.launchers import WorkerLauncher

launcher = WorkerLauncher(sys.argv[1], key=sys.argv[2], lease=1)
run = ["/bin/sh", "-c", f"setsid sleep {sys.argv[3]} & echo $$; exec sleep {sys.argv[3]}"]
procs = this_host().spawn_procs({"n": 2}, launcher=launcher, bootstrap_command=run, readiness="none")
procs.initialized.get(30)
print("launched", flush=True)
sys.stdin.read()
"""


class Place(Actor):
    @endpoint
    def where(self):
        return os.getppid(), os.environ.get("PROCESSION_SESSION_KEY_FILE")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def worker(key):
    with serving(key, "--lease", "1") as worker:
        yield worker


@pytest.fixture(scope="module")
def launcher(worker, key):
    launcher = WorkerLauncher(worker.address, key=key)
    # The client waits for procs that reach back at an address which it listens at until it ends.
    with spawn(launcher) as procs:
        procs.initialized.get(30)
    yield launcher
    launcher.close().get(10)


@pytest.fixture
def connect(key):
    """Launchers for workers, which are disconnected at the end."""
    made = []

    def make(worker, **kwargs):
        made.append(WorkerLauncher(worker if isinstance(worker, str) else worker.address, **({"key": key} | kwargs)))
        return made[-1]

    yield make
    for launcher in made:
        launcher.close().get(10)


@pytest.fixture
def tag():
    """How long programs sleep, by which those of this test are found."""
    return f"{86_400 + os.getpid()}.{next(_tags)}"


def running(tag):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"sleep") and tag.encode() in words and not gone(int(entry.name)):
                found.append(int(entry.name))
    return found


def sleeper(tag):
    """A tree of four, of which one has left it."""
    return f"setsid sh -c 'sleep {tag} & sleep {tag}' & sleep {tag} & echo here; exec sleep {tag}"


def launched(launcher, tag, **kwargs):
    procs = spawn(launcher, sleeper(tag), **kwargs)
    procs.initialized.get(20)
    until(lambda: len(running(tag)) == 4 * len(procs), "all of the trees run")
    return procs


def test_actors_live_there_and_answer(launcher, worker):
    with this_host().spawn_procs({"n": 2}, launcher=launcher, env=PATHS) as procs:
        place = procs.spawn("place", Place)
        places = list(place.where.call().get(30).values())
        assert len({parent for parent, _ in places}) == 1
        assert not {os.getpid(), worker.pid} & {parent for parent, _ in places}
        assert [told for _, told in places] == [None, None]


def test_how_a_program_ended_comes_back_with_the_last_it_said(launcher, worker):
    exit = only_exit(spawn(launcher, "echo out; printf 'one\ntwo' >&2; exit 3"))
    assert (exit.exit_code, exit.stdout_tail, exit.stderr_tail) == (3, ["out"], ["one", "two"])
    assert exit.launcher == f"worker@{worker.address}"
    assert only_exit(spawn(launcher, "kill -SEGV $$")).signal == signal.SIGSEGV
    refused = only_exit(this_host().spawn_procs(launcher=launcher, bootstrap_command=["/no/such"], readiness="none"))
    assert worker.address in refused.failed_reason
    assert "/no/such" in refused.failed_reason


def test_output_can_be_followed_as_it_comes(launcher):
    procs = spawn(launcher, "for i in 1 2 3; do echo line $i; done; sleep 600")
    try:
        lines = iter(procs.logs(follow=True))
        assert [next(lines) for _ in range(3)] == ["[0] line 1", "[0] line 2", "[0] line 3"]
    finally:
        procs.kill().get(10)


def test_a_process_of_there_has_no_number_here(launcher, worker, tag):
    procs = launched(launcher, tag)
    status = procs.statuses().item()
    assert status.pid is None
    assert status.handle.startswith(f"{worker.address} pid ")
    assert int(status.handle.rpartition(" ")[2]) in running(tag)
    procs.kill().get(10)


def test_a_stop_and_a_kill_take_the_whole_tree(launcher, tag):
    procs = launched(launcher, tag, per_host={"n": 2})
    procs.slice(n=0).kill().get(10)
    assert len(running(tag)) == 4
    procs.stop().get(20)
    until(lambda: not running(tag), "nothing is left of the other one")
    assert [exit.signal for exit in procs.wait(5).get().values()] == [signal.SIGKILL, signal.SIGTERM]


def test_what_fails_there_is_launched_again_there(launcher, tmp_path):
    program = f"echo run >> {tmp_path}/runs; [ $(wc -l < {tmp_path}/runs) = 3 ]"
    exit = only_exit(spawn(launcher, program, restart="on_failure"))
    assert (exit.exit_code, exit.incarnation) == (0, 3)


def test_the_key_is_in_nothing_that_is_launched(launcher, worker, key, tag):
    procs = launched(launcher, tag)
    text = key.read_text().strip()
    for pid in [worker.pid, *running(tag)]:
        for what in ("environ", "cmdline"):
            assert text not in Path(f"/proc/{pid}/{what}").read_text(errors="replace")
    assert text not in f"{launcher!r} {procs!r} {worker.said()}"
    procs.kill().get(10)


NESTED = """
from procession.actor import Actor, endpoint, this_host
from procession.launchers import WorkerLauncher

class Place(Actor):
    @endpoint
    def launch(self, **kwargs):
        run = ["/bin/sh", "-c", "exit 5"]
        launcher = WorkerLauncher({address!r}, **kwargs)
        procs = this_host().spawn_procs(launcher=launcher, bootstrap_command=run, readiness="none")
        return procs.wait(20).get().item().exit_code

if __name__ == "__main__":
    with this_host().spawn_procs() as procs:
        place = procs.spawn("place", Place)
        print(place.launch.call_one().get(30))
        try:
            place.launch.call_one(key=bytes(32)).get(30)
        except Exception as error:
            print(error.exception)
"""


def test_procs_launch_through_the_host_which_has_the_key(worker, key, script):
    done = script(NESTED.format(address=worker.address), env={"PROCESSION_SESSION_KEY_FILE": str(key)})
    code, refusal = done.stdout.splitlines()
    assert code == "5"
    assert "the host connects for its procs" in refusal


def test_a_worker_can_carry_a_host_whose_procs_end_with_it(worker, launcher, connect, tag):
    link = connect(worker)
    hosts = hosts_from_launcher(link, 1, env=PATHS)
    with hosts.spawn_procs({"n": 2}, env=PATHS) as procs:
        parents = {parent for parent, _ in procs.spawn("place", Place).where.call().get(30).values()}
        assert len(parents) == 1
        assert worker.pid not in parents
    sleepers = hosts.spawn_procs(bootstrap_command=["/bin/sh", "-c", sleeper(tag)], readiness="none")
    sleepers.initialized.get(20)
    until(lambda: len(running(tag)) == 4, "the tree runs")
    link.close().get(10)
    [exit] = sleepers.wait(20).get().values()
    assert exit.kind == "lost"
    until(lambda: not running(tag), "nothing is left of what it launched")


def test_clients_are_served_independently_and_what_one_leaves_that_is_killed_is_ended(
    worker, launcher, key, tag, tmp_path
):
    mine = launched(launcher, tag)
    theirs = f"{tag}9"
    source = tmp_path / "client.py"
    source.write_text(CLIENT)
    command = [sys.executable, source, worker.address, key, theirs]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "launched\n"
        until(lambda: len(running(theirs)) == 4, "both of theirs")
        client.kill()
    until(lambda: not running(theirs), "what it had launched is gone")
    assert len(running(tag)) == 4
    assert only_exit(spawn(launcher, "exit 6")).exit_code == 6
    mine.kill().get(10)


def test_a_client_that_ends_well_waits_for_nothing_and_leaves_nothing(worker, key, tag, tmp_path):
    source = tmp_path / "client.py"
    source.write_text(CLIENT)
    command = [sys.executable, source, worker.address, key, tag]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "launched\n", "")
    assert not running(tag)


def test_a_worker_that_is_killed_leaves_nothing_and_its_procs_are_lost(key, connect, tag):
    with serving(key) as worker:
        procs = launched(connect(worker), tag, per_host={"n": 2})
        worker.send(signal.SIGKILL)
        for exit in procs.wait(20).get().values():
            assert exit.kind == "lost"
            assert f"host lost: the connection to worker {worker.address} has ended" in exit.verdict
        until(lambda: not running(tag), "its keeper has ended all")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_ends_what_it_launched_first(key, connect, tag, number):
    with serving(key) as worker:
        launcher = connect(worker)
        procs = launched(launcher, tag)
        worker.send(number)
        assert worker.wait() == 0
        assert not running(tag)
        assert only_exit(procs).signal == signal.SIGKILL
        assert worker.said() == ""
    # The next launch dials again.
    exit = only_exit(spawn(launcher, "true"))
    assert f"worker {worker.address} cannot be reached" in exit.failed_reason


def test_a_worker_that_is_started_again_is_found_again(key, connect):
    with serving(key) as worker:
        launcher = connect(worker).connect()
        worker.send(signal.SIGTERM)
        worker.wait()
        with serving(key, listen=worker.address):
            assert only_exit(spawn(launcher, "exit 7")).exit_code == 7


def test_another_key_opens_nothing(worker, tmp_path):
    other = WorkerLauncher(worker.address, key=make_key(tmp_path))
    ran = tmp_path / "ran"
    with pytest.raises(LauncherUnavailable, match=rf"{worker.address}.*the same session key"):
        spawn(other, f"touch {ran}")
    with pytest.raises(LauncherUnavailable, match="the same session key"):
        other.connect()
    assert not ran.exists()


@pytest.mark.parametrize("garbage", [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", bytes([22, 3, 1, 2, 0, 1]), bytes(70_000)])
def test_whatever_else_comes_to_the_port_is_dropped(worker, launcher, garbage):
    host, port = worker.address.split(":")
    with socket.create_connection((host, int(port)), 10) as stranger:
        try:
            stranger.sendall(garbage)
            stranger.shutdown(socket.SHUT_WR)
            assert len(stranger.recv(4096)) < 64  # an alert of TLS at most
        except OSError:  # it has hung up already
            pass
    assert only_exit(spawn(launcher, "exit 8")).exit_code == 8


def test_all_of_several_workers_are_reached_or_none(worker, key):
    with serving(key) as other:
        first, second = connect_all([worker.address, f"tcp://{other.address}"], key)
        assert [only_exit(spawn(one, f"exit {code}")).exit_code for one, code in ((first, 3), (second, 4))] == [3, 4]
        for one in (first, second):
            one.close().get(10)
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    nobody = [f"127.0.0.1:{one.getsockname()[1]}" for one in free]
    free[0].close()  # the other one listens, and never says a word
    with pytest.raises(LauncherUnavailable) as found:
        connect_all([worker.address, *nobody, "worker.invalid:1"], key, timeout=2)
    free[1].close()
    text = str(found.value)
    assert text.startswith("3 of 4 workers cannot be reached: ")
    assert f"worker {nobody[0]} cannot be reached" in text
    assert f"worker {nobody[1]} cannot be reached" in text
    assert "worker.invalid:1" in text
    assert worker.address not in text
    assert connect_all([], key) == []


def test_without_a_key_there_is_an_error_that_says_how_to_make_one(worker, monkeypatch):
    for name in ("PROCESSION_SESSION_KEY", "PROCESSION_SESSION_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidArgument, match="procession key FILE"):
        WorkerLauncher(worker.address).connect()
    for loop in (actor.run_worker_loop_forever, actor.run_worker_loop_until_shutdown, actor.start_worker_loop_forever):
        with pytest.raises(InvalidArgument, match=r"^private_key = None: .*procession key FILE"):
            loop(ca="trust_all_connections", address="127.0.0.1:0")


def test_a_key_is_taken_from_where_it_is_told_to_be_and_from_nowhere_else(worker, key, connect, monkeypatch, tmp_path):
    text = key.read_text().strip()
    for given in (key, str(key), text.encode(), bytes.fromhex(text)):
        connect(worker, key=given).connect()
    monkeypatch.setenv("PROCESSION_SESSION_KEY", text)
    connect(worker, key=None).connect()
    monkeypatch.setenv("PROCESSION_SESSION_KEY", text[1:])
    with pytest.raises(InvalidArgument, match="PROCESSION_SESSION_KEY is no session key") as found:
        WorkerLauncher(worker.address).connect()
    assert text[1:] not in str(found.value)
    shown = tmp_path / "shown"
    shown.write_text(text)
    shown.chmod(0o644)
    with pytest.raises(InvalidArgument, match=r"can be read by others: its mode is 0644; run chmod 600"):
        WorkerLauncher(worker.address, key=shown)
    for bad in (b"short", tmp_path / "missing", tmp_path, ""):
        with pytest.raises(InvalidArgument, match=r"^key = "):
            WorkerLauncher(worker.address, key=bad)


def test_what_is_no_address_is_refused(key):
    with pytest.raises(ValueError, match="host"):
        WorkerLauncher("127.0.0.1:1", key=key, bind="host")
    for bad in ("", "host", "h:x", "udp://h:1"):
        with pytest.raises(LauncherUnavailable, match="is not an address"):
            WorkerLauncher(bad, key=key).connect()
        with pytest.raises(InvalidArgument, match=r"^address = "):
            actor.start_worker_loop_forever(private_key=key, ca="trust_all_connections", address=bad)


def test_procs_there_cannot_outlive_this_client(launcher, tmp_path):
    with pytest.raises(InvalidArgument, match="on_owner_loss"):
        spawn(launcher, "true", on_owner_loss="detach", log_dir=tmp_path)


def test_where_procs_reach_back_can_be_said(worker, launcher, connect):
    lost = connect(worker, advertise="127.0.0.1:1")
    with pytest.raises(LaunchFailed):
        spawn(lost).initialized.get(40)
    with spawn(connect(worker, bind="127.0.0.1:0", advertise="localhost")) as procs:
        procs.initialized.get(30)


LOOP = """
import sys
from procession.actor import {loop}

{loop}(private_key={key!r}, ca="trust_all_connections", address={address!r})
print("over")
"""


@pytest.fixture
def loop(key, connect, tmp_path):
    """A loop in a process of its own, at a port that was free a moment ago."""
    started = []

    def start(name):
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        source = tmp_path / "loop.py"
        source.write_text(LOOP.format(loop=name, key=key, address=f"tcp://{address}").replace("PosixPath", "str"))
        process = subprocess.Popen([sys.executable, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)

        def reach():
            try:
                return connect(address).connect()
            except LauncherUnavailable:
                return None

        return process, until(reach, "it serves")

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_loop_until_shutdown_ends_when_a_client_asks_for_it(loop, tag):
    process, launcher = loop("run_worker_loop_until_shutdown")
    procs = launched(launcher, tag)
    launcher.shutdown_worker().get(20)
    assert process.communicate(timeout=20) == ("over\n", "")
    assert not running(tag)
    assert only_exit(procs).signal == signal.SIGKILL


def test_a_loop_for_ever_ends_at_ctrl_c_and_not_when_a_client_asks_for_it(loop, tag):
    process, launcher = loop("run_worker_loop_forever")
    launched(launcher, tag)
    with pytest.raises(LauncherUnavailable, match="not started to be ended by clients"):
        launcher.shutdown_worker().get(20)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert said.endswith("KeyboardInterrupt\n")
    assert not running(tag)


def test_a_machine_can_be_served_beside_something_else(script, key):
    source = """
        import socket, sys
        from procession.actor import start_worker_loop_forever, this_host
        from procession.launchers import WorkerLauncher

        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        serving = start_worker_loop_forever(private_key=sys.argv[1].encode(), ca="trust_all_connections", address=address)
        procs = this_host().spawn_procs(
            launcher=WorkerLauncher(address, key=sys.argv[1].encode()),
            bootstrap_command=["/bin/sh", "-c", "exit 9"], readiness="none",
        )
        print(procs.wait(20).get().item().exit_code)
        try:
            serving.get(0)
        except TimeoutError:
            print("serves")
    """
    assert script(source, key.read_text().strip()).stdout == "9\nserves\n"


def test_security_that_nobody_has_is_refused(key):
    for ca in (b"ca", Path("ca.pem")):
        with pytest.raises(Unsupported, match='pass ca="trust_all_connections"'):
            actor.run_worker_loop_forever(private_key=key, ca=ca, address="127.0.0.1:0")


def procession(*args):
    return subprocess.run([*PROCESSION, *args], capture_output=True, text=True, timeout=30)


def test_a_key_is_made_once(tmp_path):
    path = tmp_path / "key"
    assert procession("key", path).stdout == ""
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    refused = procession("key", path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "File exists" in refused.stderr
    assert path.read_text() == text
    shown = procession("key").stdout
    assert len(shown) == len(text) == 65
    assert shown != text


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "give --state DIR or --listen HOST:PORT"),
        (["--state", "d", "--listen", "127.0.0.1:0"], "and not both"),
        (["--state", "d", "--key-file", "k"], "--key-file is for --listen"),
        (["--state", "d", "--lease", "1"], "--lease is for --listen"),
        (["--listen", "127.0.0.1:0", "--key-file", "missing"], '--key-file = "missing"'),
        (["--listen", "127.0.0.1:0", "--lease", "-1"], "--lease = -1"),
    ],
)
def test_what_does_not_go_together_is_refused(args, why):
    done = procession("serve", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr


def test_an_address_that_is_taken_is_an_error_in_one_line(worker, key):
    done = procession("serve", "--listen", worker.address, "--key-file", key)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "in use" in done.stderr
