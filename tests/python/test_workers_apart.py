"""A worker behind a network of its own, which breaks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from networks import Cable, cable
from workers import make_key, serving

if shutil.which("ip") is None:
    pytest.skip("capability: iproute2", allow_module_level=True)

# What each client below begins with, in the near namespace.
NEAR = """
import json, os, sys, time
from launching import gone, until
from networks import Cable
from procession.actor import Actor, endpoint, this_host
from procession.launchers import WorkerLauncher
import procession.actor

cable = Cable(*sys.argv[1:3])
procession.actor.unhandled_fault_hook = lambda failure: None
launcher = WorkerLauncher(sys.argv[3], key=sys.argv[4], lease=float(sys.argv[5]))
paths = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}

class Counter(Actor):
    def __init__(self):
        self.seen = []

    @endpoint
    def add(self, n):
        self.seen.append(n)
        return n, os.getpid(), sorted(os.listdir("/sys/class/net"))

    @endpoint
    def all(self):
        return self.seen

def status(procs):
    return next(iter(procs.statuses().values())).status

def program():
    run = ["/bin/sh", "-c", "echo $$; sleep 300 & exec sleep 300"]
    procs = this_host().spawn_procs(launcher=launcher, bootstrap_command=run, readiness="none")
    lines = iter(procs.logs(follow=True))
    return procs, int(next(lines).split()[1])
"""


@pytest.fixture
def client(tmp_path):
    """Runs what a client does in the near namespace, with a worker in the far one, and gives what it prints as JSON."""

    def run(source: str, lease: float) -> dict:
        path = tmp_path / "client.py"
        path.write_text(NEAR + source)
        far = f"{Cable.THERE}:7000"
        with (
            cable() as it,
            serving(
                make_key(tmp_path), "--lease", str(lease), listen=far, before=("ip", "netns", "exec", it.there)
            ) as worker,
        ):
            assert worker.address == far
            command = ["ip", "netns", "exec", it.here, sys.executable, path, it.here, it.there, far]
            command += [tmp_path / "key", str(lease)]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
            done = subprocess.run(command, capture_output=True, text=True, timeout=55, env=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout.splitlines()[-1])

    return run


def test_procs_live_on_the_other_side_and_their_actors_answer(client):
    seen = client(
        """
with this_host().spawn_procs(launcher=launcher, env=paths) as procs:
    counter = procs.spawn("counter", Counter)
    answers = [counter.add.call_one(n) for n in range(50)]
    answers = [one.get(30) for one in answers]
    print(json.dumps({"answers": [n for n, _, _ in answers], "net": answers[0][2], "handle": procs.statuses().item().handle}))
""",
        lease=30,
    )
    assert seen["answers"] == list(range(50))
    assert "cable" in seen["net"]
    assert seen["handle"].startswith(f"{Cable.THERE}:7000 pid ")


def test_after_the_lease_nothing_survives_there_and_all_is_lost_here(client):
    seen = client(
        """
with_actors = this_host().spawn_procs(launcher=launcher, env=paths, lease=2)
counter = with_actors.spawn("counter", Counter)
pid = counter.add.call_one(0).get(30)[1]
procs, other = program()
cable.unplug()
until(lambda: status(procs) == "unknown", "it is noticed")
lost = counter.add.call_one(1)
until(lambda: gone(pid) and gone(other), "the worker has ended all")
exits = [each.wait(40).get().item() for each in (procs, with_actors)]
try:
    lost.get(30)
except Exception as error:
    why = str(error)
cable.plug()
# It serves on.
again = this_host().spawn_procs(launcher=launcher, bootstrap_command=["/bin/sh", "-c", "exit 3"], readiness="none")
print(json.dumps({"kinds": [one.kind for one in exits], "verdict": exits[0].verdict, "why": why,
                  "again": again.wait(30).get().item().exit_code}))
""",
        lease=3,
    )
    assert seen["kinds"][0] == "lost"
    assert seen["kinds"][1] in ("lost", "signaled")
    assert f"host lost: the connection to worker {Cable.THERE}:7000 has ended" in seen["verdict"]
    assert seen["why"]
    assert seen["again"] == 3


def test_a_network_that_heals_within_the_lease_costs_nothing(client):
    seen = client(
        """
with_actors = this_host().spawn_procs(launcher=launcher, env=paths, lease=40)
counter = with_actors.spawn("counter", Counter)
pid = counter.add.call_one(0).get(30)[1]
procs, other = program()
cable.unplug()
until(lambda: status(procs) == status(with_actors) == "unknown", "it is noticed")
asked = [counter.add.call_one(n) for n in range(1, 9)]
killed = procs.kill()
cable.plug()
until(lambda: status(with_actors) == "ready", "it is known again")
answers = [one.get(30) for one in asked]
exit = procs.wait(30).get().item()
print(json.dumps({"same": answers[0][1] == pid, "seen": counter.all.call_one().get(30), "signal": exit.signal, "gone": gone(other)}))
with_actors.stop().get(30)
""",
        lease=40,
    )
    assert seen == {"same": True, "seen": list(range(9)), "signal": 9, "gone": True}
