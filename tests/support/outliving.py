"""Clients of one directory, one after the other, whose procs are launched by an engine and outlive them."""

import json
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

PRELUDE = """
import json, os, signal, sys, time
import procession.actor
from procession import Actor, Restart, endpoint, reattach, this_host
from procession.launchers import Docker, Podman, Slurm, Systemd

procession.actor.unhandled_fault_hook = lambda failure: None
directory, log_dir = sys.argv[1], sys.argv[1] + "/out"

class Counter(Actor):
    def __init__(self): self.n = 0
    @endpoint
    def add(self):
        self.n += 1
        print("now", self.n, flush=True)
        return os.getpid(), self.n
    @endpoint
    def end(self, code): os._exit(code)

def launcher(): return LAUNCHER
def spawn(name, sizes, **options):
    return this_host().spawn_procs(
        sizes, name=name, launcher=launcher(), on_owner_loss="detach", log_dir=log_dir, **options)
def tell(**facts): print(json.dumps(facts), flush=True)
def until(true, seconds=40):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
def wrote(file, word):
    path = f"{log_dir}/{file}"
    return os.path.exists(path) and word in open(path).read()
"""


class Outliving:
    """`launcher` is the text that makes the launcher in a client. `with` it: at the end nothing is left."""

    def __init__(self, launcher: str) -> None:
        self.launcher = launcher
        self.folder = Path(tempfile.mkdtemp())  # the folders of tests are too deep for sockets
        self.directory = self.folder / "d"

    def __enter__(self) -> "Outliving":
        return self

    def __exit__(self, *_: object) -> None:
        self.run("for mesh in meshes.values(): mesh.kill().get(); mesh.wait().get(30)")
        subprocess.run(["rm", "-r", self.folder], check=True)

    def run(self, script: str, code: int = 0, reattaches: bool = True) -> dict:
        """Gives what the script told last."""
        prelude = PRELUDE.replace("LAUNCHER", self.launcher)
        script = ("meshes, exits = reattach(directory)\n" if reattaches else "") + textwrap.dedent(script)
        # The classes of actors are found under the same name by all of them.
        (self.folder / "client.py").write_text(prelude + script)
        command = [sys.executable, str(self.folder / "client.py"), str(self.directory)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}

    def killed(self, script: str) -> dict:
        """The same of a client that is killed at the end of it."""
        return self.run(textwrap.dedent(script) + "os.kill(os.getpid(), signal.SIGKILL)\n", -signal.SIGKILL)

    def output(self, name: str) -> str:
        return (self.directory / "out" / f"{name}.out").read_text()


def the_next_client_finds_the_actors_as_they_were(launcher: str) -> None:
    with Outliving(launcher) as clients:
        before = clients.killed("""
            counters = spawn("c", {"p": 2}).spawn("counter", Counter)
            tell(first=[list(one) for one in counters.add.call().get(40).values()])
        """)
        for n in (2, 3):
            after = clients.killed("""
                procs = meshes["c"]
                counters = procs.find("counter", Counter).get(30)
                procs.initialized.get(30)
                again = [list(one) for one in counters.add.call().get(30).values()]
                tell(again=again, launchers=[one.launcher for one in procs.statuses().values()],
                     handles=[one.handle for one in procs.statuses().values()])
            """)
            assert after["again"] == [[pid, n] for pid, _ in before["first"]]
            assert all(after["handles"])
        ended = clients.run("""
            procs = meshes["c"]
            procs.find("counter", Counter).get(30).slice(p=0).end.broadcast(7)
            first = procs.slice(p=0).wait(30).get().item()
            procs.stop().get(30)
            second = procs.slice(p=1).wait(30).get().item()
            tell(first=[first.kind, first.exit_code, first.stdout_tail], second=second.verdict)
        """)
        assert ended["first"] == ["exited", 7, ["now 1", "now 2", "now 3"]]
        assert ended["second"].startswith("stopped by us")
        assert [clients.output(f"c-{rank}.1") for rank in range(2)] == ["now 1\nnow 2\nnow 3\n"] * 2


def the_exit_and_output_of_what_ended_between_two_clients_are_known(launcher: str, python: str) -> None:
    code = "import time; print('first', flush=True); time.sleep(1); print('last', flush=True); raise SystemExit(7)"
    with Outliving(launcher) as clients:
        clients.killed(f"""
            spawn("t", {{"p": 1}}, readiness="none", bootstrap_command=[{python!r}, "-c", {code!r}])
            until(lambda: wrote("t-0.1.out", "first"))
            tell()
        """)
        after = clients.run("""
            exits = list(exits)
            for mesh in meshes.values(): exits += mesh.wait(40).get().values()
            tell(exits=[[one.kind, one.exit_code, one.launcher, one.stdout_tail] for one in exits])
        """)
        [[kind, exit_code, _, tail]] = after["exits"]
        assert (kind, exit_code, tail) == ("exited", 7, ["first", "last"])
        assert clients.output("t-0.1") == "first\nlast\n"
