"""A client and its procs with a network between them that breaks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from networks import cable

if shutil.which("ip") is None:
    pytest.skip("capability: iproute2", allow_module_level=True)

# What each client below begins with. Its procs run in the other namespace and are launched from there.
FAR = """
import json, os, sys, threading, time
from networks import Cable
from launching import Supervising
from procession import hosts_from_launcher
from procession.actor import Actor, endpoint, this_host, this_proc
from procession.launch import DialBack, supervise
import procession.actor

cable = Cable(*sys.argv[1:3])
procession.actor.unhandled_fault_hook = lambda failure: None

class Far(Supervising):
    dial_back = DialBack.network(bind=f"{Cable.HERE}:0")

    async def launch(self, exit_port, proc_id, opts):
        argv = ["ip", "netns", "exec", cable.there, *opts.argv]
        process = self.running[proc_id] = await supervise(opts, argv=argv)
        self.report(proc_id, handle=f"process {process.pid}")
        exit_port.send(await process.wait())

class Counter(Actor):
    def __init__(self):
        self.seen = []

    @endpoint
    def add(self, n, payload=b""):
        self.seen.append(n)
        return n

    @endpoint
    def all(self):
        return self.seen

    @endpoint
    def pid(self):
        return os.getpid()

def status(procs):
    return next(iter(procs.statuses().values())).status

def until(what, test, seconds=30):
    start = time.monotonic()
    while not test():
        assert time.monotonic() - start < seconds, what
        time.sleep(0.005)
    return time.monotonic() - start

def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False

paths = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
launcher = this_proc().spawn("far", Far)

def far(**more):
    procs = this_host().spawn_procs(launcher=launcher, env=paths, **more)
    procs.initialized.get(30)
    return procs, procs.spawn("counter", Counter)
"""


@pytest.fixture
def client(tmp_path):
    """Runs what a client does in the near namespace, and gives what it prints as JSON."""

    def run(source: str) -> dict:
        path = tmp_path / "client.py"
        path.write_text(FAR + source)
        with cable() as it:
            command = ["ip", "netns", "exec", it.here, sys.executable, path, it.here, it.there, tmp_path]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
            done = subprocess.run(command, capture_output=True, text=True, timeout=55, env=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout.splitlines()[-1])

    return run


def breaks(how: str) -> tuple[str, str]:
    """What breaks the network, and what heals it."""
    return {
        "unplugged": ("cable.unplug()", "cable.plug()"),
        "deaf host": ("cable.drop(cable.here)", "cable.let_pass(cable.here)"),
        "deaf proc": ("cable.drop(cable.there)", "cable.let_pass(cable.there)"),
        "both deaf": (
            "cable.drop(cable.here); cable.drop(cable.there)",
            "cable.let_pass(cable.here); cable.let_pass(cable.there)",
        ),
    }[how]


def needs(how: str) -> None:
    if "deaf" in how and shutil.which("nft") is None:
        pytest.skip("capability: nftables")


@pytest.mark.fault("F98")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("how", ["unplugged", "deaf host", "deaf proc", "both deaf"])
def test_a_partition_that_heals_within_the_lease_is_the_same_session(client, how, busy):
    needs(how)
    broken, healed = breaks(how)
    seen = client(f"""
busy = {busy}
procs, counter = far(lease=40)
pid = counter.pid.call_one().get(30)
asked = [counter.add.call_one(n) for n in range(50)]
{broken}
if busy:
    asked += [counter.add.call_one(n, bytes(20_000)) for n in range(50, 100)]
noticed = until("it is noticed", lambda: status(procs) == "unknown")
asked += [counter.add.call_one(n) for n in range(len(asked), 200)]
{healed}
until("it is known again", lambda: status(procs) == "ready")
answers = [one.get(30) for one in asked]
print(json.dumps({{
    "noticed": noticed, "answers": answers, "seen": counter.all.call_one().get(30),
    "same": counter.pid.call_one().get(30) == pid, "status": status(procs),
}}))
procs.stop().get(30)
""")
    assert seen["answers"] == seen["seen"] == list(range(200))
    assert seen["same"]
    assert seen["status"] == "ready"
    # Three seconds are promised, on a machine that has time.
    assert seen["noticed"] < 10


@pytest.mark.fault("F98")
@pytest.mark.parametrize("how", ["unplugged", "deaf proc"])
def test_after_the_lease_both_sides_agree_that_the_session_has_ended(client, how):
    needs(how)
    broken, healed = breaks(how)
    seen = client(f"""
procs, counter = far(lease=2)
pid = counter.pid.call_one().get(30)
{broken}
lost = counter.add.call_one(1)
until("the proc has ended itself", lambda: gone(pid))
[exit] = procs.wait(30).get().values()
{healed}
try:
    lost.get(30)
except Exception as error:
    why = str(error)
print(json.dumps({{"exit": [exit.kind, exit.signal], "why": why}}))
""")
    assert seen["exit"] == ["signaled", 9]
    assert seen["why"]


@pytest.mark.fault("F99")
def test_a_proc_that_is_killed_behind_a_broken_network_leaves_no_connection(client):
    seen = client("""
import signal
procs, counter = far(lease=1)
pid = counter.pid.call_one().get(30)

def connections():
    table = open("/proc/self/net/tcp").read().splitlines()[1:]
    return sum(line.split()[3] == "01" for line in table)

def sockets():
    return sum(os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") for fd in os.listdir("/proc/self/fd")
               if os.path.islink(f"/proc/self/fd/{fd}"))

before = connections(), sockets()
cable.unplug()
os.kill(pid, signal.SIGKILL)
[exit] = procs.wait(30).get().values()
took = until("the connection is gone", lambda: connections() == 0)
until("its descriptors are freed", lambda: sockets() < before[1])
print(json.dumps({"before": before[0], "exit": [exit.kind, exit.signal], "took": took}))
""")
    assert seen["before"] == 1
    assert seen["exit"] == ["signaled", 9]
    assert seen["took"] < 10


HOSTS = """
class Caller(Actor):
    @endpoint
    def call(self, counters, n):
        return list(counters.add.call(n).get(30).values())

def far_hosts(**more):
    hosts = hosts_from_launcher(launcher, 2, env=paths, **more)
    hosts.initialized.get(30)
    procs = hosts.spawn_procs({"gpus": 2})
    procs.initialized.get(30)
    return hosts, procs, procs.spawn("counters", Counter)

def standing(hosts):
    return {status.status for status in hosts._hosts.statuses().values()}
"""


@pytest.mark.fault("F98")
def test_hosts_in_another_network_are_the_same_when_a_partition_heals_within_the_lease(client):
    seen = client(
        HOSTS
        + """
hosts, procs, counters = far_hosts(lease=40)
pids = list(counters.pid.call().get(30).values())
with this_host().spawn_procs() as near:
    caller = near.spawn("caller", Caller)
    asked = [caller.call.call_one(counters, n) for n in range(20)]
    cable.unplug()
    until("it is noticed", lambda: standing(hosts) == {"unknown"})
    asked += [caller.call.call_one(counters, n) for n in range(20, 40)]
    cable.plug()
    until("they are known again", lambda: standing(hosts) == {"ready"})
    answers = [one.get(30) for one in asked]
    asker = procs.slice(hosts=1, gpus=0).spawn("caller", Caller)
    back = asker.call.call_one(near.spawn("counters", Counter), 7).get(30)
    print(json.dumps({
        "answers": answers, "seen": list(counters.all.call().get(30).values()), "back": back,
        "same": list(counters.pid.call().get(30).values()) == pids,
        "statuses": [status.status for status in procs.statuses().values()],
    }))
hosts.stop().get(30)
"""
    )
    assert seen["answers"] == [[n] * 4 for n in range(40)]
    assert seen["seen"] == [list(range(40))] * 4
    assert seen["back"] == [7]
    assert seen["same"]
    assert seen["statuses"] == ["ready"] * 4


@pytest.mark.fault("F98")
@pytest.mark.parametrize("how", ["unplugged", "deaf proc"])
def test_when_the_lease_of_a_host_is_over_its_procs_are_lost_and_gone(client, how):
    needs(how)
    broken, healed = breaks(how)
    seen = client(
        HOSTS
        + f"""
hosts, procs, counters = far_hosts(lease=2)
them = list(counters.pid.call().get(30).values())
them += [status.pid for status in hosts._hosts.statuses().values() if status.pid]
{broken}
lost = counters.add.call(1)
for pid in them:
    until("it has ended itself", lambda: gone(pid))
exits = procs.wait(30).get().values()
{healed}
try:
    lost.get(30)
except Exception as error:
    why = str(error)
print(json.dumps({{
    "exits": [[exit.kind, exit.rank, exit.verdict] for exit in exits], "why": why, "hosts": [exit.kind for exit in hosts.exits().values()],
}}))
"""
    )
    assert [(kind, rank) for kind, rank, _ in seen["exits"]] == [("lost", rank) for rank in range(4)]
    assert all(verdict.startswith("host lost: ") for _, _, verdict in seen["exits"])
    assert "lost" in seen["why"].lower()
    assert seen["hosts"] == ["signaled", "signaled"]


# A launcher in a proc on the far side, which notes each call with its effect, and may be made to wait before it answers.
LAUNCHER = """
import asyncio
folder = sys.argv[3]

class Noting(Supervising):
    dial_back = DialBack.network(bind=f"{Cable.HERE}:0")

    async def note(self, what):
        with open(f"{folder}/calls", "a") as calls:
            print(what, file=calls)
        while os.path.exists(f"{folder}/hold"):
            await asyncio.sleep(0.01)

    async def launch(self, exit_port, proc_id, opts):
        process = self.running[proc_id] = await supervise(opts)
        await self.note("launch")
        self.report(proc_id, handle=f"process {process.pid}")
        exit_port.send(await process.wait())

    async def terminate(self, proc_id, timeout_secs):
        await self.note("terminate")
        await super().terminate(proc_id, timeout_secs)

    async def kill(self, proc_id):
        await self.note("kill")
        await super().kill(proc_id)

def calls():
    try:
        return open(f"{folder}/calls").read().split()
    except FileNotFoundError:
        return []

def hold():
    open(f"{folder}/hold", "w").close()

def release():
    os.unlink(f"{folder}/hold")

base, _ = far(lease=40)
noting = base.spawn("noting", Noting)
noting.known.call_one().get(30)

def start():
    return this_host().spawn_procs(
        launcher=noting, bootstrap_command=["/bin/sh", "-c", "exec sleep 300"], readiness="none", ack_timeout=50,
    )

def lose_the_request(ask):
    cable.unplug()
    asked = ask()
    until("it is noticed", lambda: status(base) == "unknown")
    cable.plug()
    return asked

def lose_the_reply(ask):
    hold()
    before = len(calls())
    asked = ask()
    until("it is asked", lambda: len(calls()) > before)
    cable.unplug()
    release()
    until("it is noticed", lambda: status(base) == "unknown")
    cable.plug()
    return asked
"""


@pytest.mark.fault("F101")
@pytest.mark.parametrize("lost", ["lose_the_request", "lose_the_reply"])
@pytest.mark.parametrize("method", ["launch", "terminate", "kill"])
def test_a_call_of_a_launcher_has_one_effect_when_the_connection_breaks_under_it(client, method, lost):
    seen = client(
        LAUNCHER
        + f"""
method, lost = {method!r}, {lost}
if method == "launch":
    procs = lost(start)
    procs.initialized.get(30)
    procs.kill().get(30)
else:
    procs = start()
    procs.initialized.get(30)
    lost(lambda: getattr(procs, method)()).get(30)
exits = [[exit.kind, exit.signal] for exit in procs.wait(30).get().values()]
print(json.dumps({{"calls": calls(), "exits": exits, "base": status(base)}}))
"""
    )
    assert seen["calls"] == ["launch", "kill" if method == "launch" else method]
    assert seen["exits"] == [["signaled", 15 if method == "terminate" else 9]]
    assert seen["base"] == "ready"


@pytest.mark.fault("F102")
def test_a_client_without_any_network_has_procs_of_its_own_machine_and_says_what_else_it_lacks(client):
    seen = client("""
import subprocess
subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
with this_host().spawn_procs() as procs:
    procs.initialized.get(30)
    counter = procs.spawn("counter", Counter)
    answer = counter.add.call_one(7).get(30)

class Lost(Far):
    dial_back = DialBack.network(bind="192.0.2.1:0")

lost = this_host().spawn_procs(launcher=this_proc().spawn("lost", Lost))
[exit] = lost.wait(30).get().values()
print(json.dumps({"answer": answer, "kind": exit.kind, "why": exit.failed_reason}))
""")
    assert seen["answer"] == 7
    assert seen["kind"] == "failed"
    assert "192.0.2.1:0" in seen["why"]
    assert "cannot listen" in seen["why"]


@pytest.mark.fault("F102")
@pytest.mark.parametrize("bind", ["[::1]:0", "localhost:0"])
def test_addresses_of_either_family_and_names_with_several_are_listened_at(client, bind):
    seen = client(f"""
class Near(Supervising):
    dial_back = DialBack.network(bind={bind!r})

with this_host().spawn_procs(launcher=this_proc().spawn("near", Near), env=paths) as procs:
    procs.initialized.get(30)
    rows = [line.split() for table in ("tcp", "tcp6") for line in open(f"/proc/self/net/{{table}}").read().splitlines()[1:]]
    print(json.dumps([row[1].split(":")[0] for row in rows if row[3] == "0A"]))
""")
    # Loopback of either family, and never every address.
    assert seen in (["0100007F"], ["00000000000000000000000001000000"])
