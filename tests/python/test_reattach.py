"""A client of a directory is killed, and the next one goes on with its procs: with the actors in them, and their restart policy."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from launching import gone, until

PRELUDE = """
import json, os, signal, sys, time
import procession.actor
from procession import Actor, Restart, endpoint, reattach, this_host
from procession.errors import NotFound

procession.actor.unhandled_fault_hook = lambda failure: None

class Counter(Actor):
    def __init__(self): self.n = 0
    @endpoint
    def add(self):
        self.n += 1
        print("now", self.n, flush=True)
        return os.getpid(), self.n
    @endpoint
    def fail(self): raise RuntimeError("on purpose")
    @endpoint
    def ask(self, other):
        print("asks", flush=True)
        try: return other.wait.call_one().get()
        except Exception as error:
            print("told:", error, flush=True)
            raise
    @endpoint
    def wait(self):
        print("waits", flush=True)
        open(os.environ["GATE"]).read()

class Boss(Actor):
    def __supervise__(self, failure): return True  # of what it has launched, which ends with the client
    @endpoint
    def hire(self):
        procs = this_host().spawn_procs({"x": 1})
        self.hired = procs, procs.spawn("counter", Counter)
        return self.hired[1].add.call_one().get(20)[0]
    @endpoint
    def look(self):
        try: return str(self.hired[0].statuses())
        except Exception as error: return f"{type(error).__name__}: {error}"

def tell(**facts):
    print(json.dumps(facts), flush=True)

directory, gate = sys.argv[1:]
log_dir = directory + "/out"
def spawn(name, sizes={"p": 2}, **options):
    return this_host().spawn_procs(
        sizes, name=name, on_owner_loss="detach", log_dir=log_dir, env={"GATE": gate}, **options)
def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)
def wrote(file, word):
    path = f"{log_dir}/{file}"
    return os.path.exists(path) and word in open(path).read()
meshes, exits = reattach(directory)
"""


class Clients:
    """One client of a directory after the other; each runs to its end, or kills itself."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp())  # the folders of tests are too deep for sockets
        self.directory = self.folder / "d"
        self.gate = self.folder / "gate"
        os.mkfifo(self.gate)
        self.pids = set()

    def run(self, script, code=0):
        """Gives what the script told last."""
        # The classes of actors are found under the same name by all of them.
        (self.folder / "client.py").write_text(PRELUDE + textwrap.dedent(script))
        command = [sys.executable, str(self.folder / "client.py"), str(self.directory), str(self.gate)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None

    def killed(self, script):
        return self.run(textwrap.dedent(script) + "os.kill(os.getpid(), signal.SIGKILL)\n", -signal.SIGKILL)

    def output(self, name):
        return (self.directory / "out" / f"{name}.out").read_text().splitlines()


@pytest.fixture
def clients():
    clients = Clients()
    yield clients
    clients.run("for mesh in meshes.values(): mesh.kill().get(); mesh.wait().get(30)")
    subprocess.run(["rm", "-r", clients.folder], check=True)


def test_a_proc_that_outlives_its_client_launches_through_the_next_one_and_what_it_had_launched_is_gone(clients):
    before = clients.killed("""
        tell(pid=spawn("c", {"p": 1}).spawn("boss", Boss).slice(p=0).hire.call_one().get(30))
    """)
    until(lambda: gone(before["pid"]))
    after = clients.run("""
        boss = meshes["c"].find("boss", Boss).get(20).slice(p=0)
        looked = boss.look.call_one().get(20)
        tell(looked=looked, pid=boss.hire.call_one().get(30), now=boss.look.call_one().get(20))
    """)
    assert after["looked"].startswith("SupervisionError: ")
    assert "ready" in after["now"]
    until(lambda: gone(after["pid"]))


def test_the_next_client_finds_the_actors_as_they_were(clients):
    before = clients.killed("""
        procs = spawn("c")
        counters = procs.spawn("counter", Counter)
        tell(first=[list(one) for one in counters.add.call().get().values()])
    """)
    after = clients.run("""
        procs = meshes["c"]
        counters = procs.find("counter", Counter).get(20)
        procs.initialized.get(20)
        second = [list(one) for one in counters.add.call().get().values()]
        statuses = procs.statuses().values()
        try: procs.find("nobody", Counter).get(20)
        except NotFound as error: missing = str(error)
        tell(
            second=second,
            sizes=procs.extent.sizes,
            ready=[one.status for one in statuses],
            boots=[one.boot["interpreter"] for one in statuses],
            missing=missing,
            tail=list(procs.logs(tail=1)),
        )
    """)
    assert before["first"] == [[pid, 1] for pid, _ in before["first"]]
    assert after["second"] == [[pid, 2] for pid, _ in before["first"]]
    assert (after["sizes"], after["ready"]) == ([2], ["ready", "ready"])
    assert all(after["boots"]), "how long the boot took is known from then"
    assert "ranks [0, 1] of" in after["missing"]
    assert [clients.output(f"c-{rank}.1") for rank in range(2)] == [["now 1", "now 2"]] * 2


def test_who_waited_for_another_proc_when_the_client_was_killed_is_told_so(clients):
    clients.killed("""
        procs = spawn("c")
        counters = procs.spawn("counter", Counter)
        counters.initialized.get()
        counters.slice(p=0).ask.call_one(counters.slice(p=1))
        until(lambda: wrote("c-1.1.out", "waits"))
    """)
    until(lambda: any(line.startswith("told: ") for line in clients.output("c-0.1")))
    told = clients.output("c-0.1")[-1]
    assert "HostGone" in told, told
    with open(clients.gate, "w"):  # the one that waits goes on, and its answer is nobody's
        pass
    after = clients.run("""
        counters = meshes["c"].find("counter", Counter).get(20)
        tell(counts=[one[1] for one in counters.add.call().get(20).values()])
    """)
    assert after["counts"] == [1, 1]


def test_a_proc_that_died_meanwhile_has_its_exit_and_the_actor_that_failed_is_told_of(clients):
    before = clients.killed("""
        procs = spawn("c", {"p": 3})
        counters = procs.spawn("counter", Counter)
        tell(pids=[one[0] for one in counters.add.call().get().values()])
    """)
    dead, *living = before["pids"]
    os.kill(dead, signal.SIGSEGV)
    until(lambda: gone(dead))
    after = clients.run("""
        procs = meshes["c"]
        exit = procs.slice(p=0).wait(20).get().item()
        try: procs.find("counter", Counter).get(20)
        except Exception as error: refused = str(error)
        rest = procs.slice(p=slice(1, 3)).find("counter", Counter).get(20)
        tell(
            exit=[exit.kind, exit.signal, exit.stdout_tail, exit.pid, exit.certificate.boot.dial is not None],
            first=exit.certificate.stdout_head,
            flight=exit.certificate.flight is not None,
            refused=refused,
            rest=[one[0] for one in rest.add.call().get(20).values()],
        )
    """)
    assert after["exit"] == ["signaled", signal.SIGSEGV, ["now 1"], dead, True]
    assert (after["first"], after["flight"]) == (["now 1"], True)
    assert "SIGSEGV" in after["refused"]
    assert after["rest"] == living


def test_a_restart_policy_goes_on_under_the_next_client_and_a_stop_is_final(clients):
    before = clients.killed("""
        procs = spawn("c", {"p": 3}, restart="always")
        procs.initialized.get()
        procs.slice(p=2).stop().get()
        tell(pids=[one.pid for one in procs.statuses().values()][:2])
    """)
    dead, living = before["pids"]
    os.kill(dead, signal.SIGKILL)
    until(lambda: gone(dead))
    after = clients.run("""
        procs = meshes["c"]
        two = procs.slice(p=slice(0, 2))
        def again():
            states = [one.status for one in two.statuses().values()]
            return states == ["ready", "ready"] and procs.history().item(p=0).exits
        until(again)
        stopped = procs.slice(p=2).wait(20).get().item()
        tell(
            pids=[one.pid for one in two.statuses().values()],
            ended=[len(one.exits) for one in procs.history().values()],
            stopped=stopped.verdict,
            history=[exit.signal for exit in list(procs.history().values())[0].exits],
        )
        procs.stop().get()
    """)
    assert after["pids"][1] == living
    assert after["pids"][0] != dead
    assert after["ended"] == [1, 0, 1]
    assert (after["history"], after["stopped"][:13]) == ([signal.SIGKILL], "stopped by us")
    assert clients.run("tell(meshes=list(meshes), exits=len(exits))") == {"meshes": [], "exits": 4}


def test_a_client_that_ends_by_itself_leaves_them_too_and_one_that_comes_too_late_is_told_so(clients):
    clients.run("""
        procs = spawn("c")
        procs.initialized.get()
    """)
    after = clients.run("""
        try: reattach(directory)
        except RuntimeError as error: late = str(error)
        meshes["c"].initialized.get(20)
        tell(status=[one.status for one in meshes["c"].statuses().values()], late=late)
    """)
    assert after["status"] == ["ready", "ready"]
    assert "runtime already" in after["late"]


def test_a_program_may_say_to_the_next_client_that_it_is_ready(clients):
    program = """
        import os, socket
        print("begun", flush=True)
        open(os.environ["GATE"]).read()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
        print("said", flush=True)
        open(os.environ["GATE"]).read()
    """
    clients.killed(f"""
        procs = spawn("c", {{"p": 1}}, readiness="none", bootstrap_command=[sys.executable, "-c", {textwrap.dedent(program)!r}])
        until(lambda: wrote("c-0.1.out", "begun"))
    """)
    after = clients.run("""
        procs = meshes["c"]
        procs.initialized.get(20)
        with open(gate, "w"): pass
        until(lambda: procs.statuses().item(p=0).status == "ready")
        tell(ready=procs.statuses().item(p=0).ready_at is not None)
    """)
    assert after["ready"]


def test_an_end_before_a_stop_was_asked_for_is_no_end_by_us_and_a_proc_that_was_ready_did_not_fail_to_boot(clients):
    before = clients.killed("""
        procs = spawn("c")
        procs.initialized.get()
        tell(pids=[one.pid for one in procs.statuses().values()])
    """)
    for pid in before["pids"]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in before["pids"]))
    after = clients.run("""
        tell(meshes=list(meshes), verdicts=[exit.verdict for exit in exits],
             unseen=[exit.certificate.missing for exit in exits])
    """)
    assert after["meshes"] == [], "nothing of it lives any more"
    assert after["verdicts"] == ["killed: signal 9 (SIGKILL), not requested by us"] * 2
    assert not any("dial" in one for ones in after["unseen"] for one in ones)


def test_a_mesh_of_which_one_lives_has_the_exits_of_the_others_at_once_and_a_stop_changes_none(clients):
    before = clients.killed("""
        procs = spawn("c")
        procs.initialized.get()
        tell(pids=[one.pid for one in procs.statuses().values()])
    """)
    os.kill(before["pids"][0], signal.SIGKILL)
    until(lambda: gone(before["pids"][0]))
    after = clients.run("""
        procs = meshes["c"]
        known = [None if exit is None else exit.verdict for exit in procs.exits().values()]
        procs.stop().get(30)
        tell(known=known, later=[exit.verdict for exit in procs.wait(30).get().values()])
    """)
    assert after["known"] == ["killed: signal 9 (SIGKILL), not requested by us", None]
    assert after["later"][0] == after["known"][0]
    assert after["later"][1].startswith("stopped by us")


def test_later_launches_of_a_slot_that_was_taken_over_are_their_own(clients):
    clients.killed("""
        procs = spawn("c", {"p": 1}, restart="always")
        procs.initialized.get()
    """)
    after = clients.run("""
        procs = meshes["c"]
        procs.initialized.get(20)
        first = procs.statuses().item(p=0)
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: procs.statuses().item(p=0).status == "ready" and procs.history().item(p=0).exits)
        second = procs.statuses().item(p=0)
        counter = procs.spawn("counter", Counter)
        counter.add.call_one().get(20)
        os.kill(second.pid, signal.SIGKILL)
        until(lambda: len(procs.history().item(p=0).exits) == 2)
        exit = procs.history().item(p=0).exits[1]
        tell(later=second.started_at > first.started_at, flight=exit.certificate.flight is not None)
        procs.stop().get(20)
    """)
    assert after == {"later": True, "flight": True}


def test_procs_without_actors_are_not_asked_for_any(clients):
    clients.killed("""
        spawn("c", {"p": 1}, readiness="none", bootstrap_command=["sleep", "1000"]).initialized.get()
    """)
    after = clients.run("""
        try: meshes["c"].find("counter", Counter)
        except Exception as error: tell(refused=str(error))
    """)
    assert 'readiness="none"' in after["refused"]


def test_actors_that_the_next_client_finds_are_watched_by_it_and_each_failure_is_told_once(clients):
    before = clients.killed("""
        procs = spawn("c", {"p": 3})
        counters = procs.spawn("counter", Counter)
        tell(pids=[one[0] for one in counters.add.call().get().values()])
    """)
    after = clients.run("""
        import queue
        told = queue.SimpleQueue()
        procession.actor.unhandled_fault_hook = told.put
        procs = meshes["c"]
        first = procs.find("counter", Counter).get(20)
        again = procs.slice(p=slice(0, 2)).find("counter", Counter).get(20)
        again.slice(p=1).fail.broadcast()
        actor = told.get(timeout=20)
        os.kill(first.slice(p=0).add.call_one().get(20)[0], signal.SIGKILL)
        proc = told.get(timeout=20)
        first.slice(p=2).stop().get(20)
        procs.slice(p=2).stop().get(20)
        tell(
            actor=[actor.mesh_name, actor.rank, actor.message],
            proc=[proc.mesh_name, proc.rank, proc.signal, proc.exit.name],
            more=told.empty(),
        )
    """)
    assert len(before["pids"]) == 3
    assert after["actor"][:2] == ["counter", 1]
    assert "on purpose" in after["actor"][2]
    assert after["proc"] == ["counter", 0, signal.SIGKILL, "c-0"]
    assert after["more"]


def test_a_failure_of_a_found_actor_ends_the_next_client_unless_it_says_otherwise(clients):
    clients.killed("""
        spawn("c", {"p": 1}).spawn("counter", Counter).add.call().get()
    """)
    clients.run(
        """
        procession.actor.unhandled_fault_hook = sys.modules["procession._failure"].unhandled_fault_hook
        counter = meshes["c"].find("counter", Counter).get(20).slice(p=0)
        counter.fail.broadcast()
        signal.pause()
        """,
        code=1,
    )


def test_actors_that_are_found_by_an_actor_of_the_next_client_do_not_end_with_it(clients):
    clients.killed("""
        spawn("c", {"p": 1}).spawn("counter", Counter).add.call().get()
    """)
    after = clients.run("""
        from procession import this_proc
        class Finder(Actor):
            @endpoint
            def add(self):
                return meshes["c"].find("counter", Counter).get(20).slice(p=0).add.call_one().get(20)[1]
        finder = this_proc().spawn("finder", Finder)
        second = finder.add.call_one().get(20)
        finder.stop().get(20)
        tell(counts=[second, meshes["c"].find("counter", Counter).get(20).slice(p=0).add.call_one().get(20)[1]])
    """)
    assert after["counts"] == [2, 3]
