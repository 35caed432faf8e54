"""What a launcher says while its procs live: that it cannot ask about them, and what it prints itself."""

import time

import pytest

from launching import Followed, Supervising, gone, notes, only_exit, spawn, until
from procession.actor import endpoint, this_host
from procession.errors import InvalidArgument, Unsupported
from procession.launch import ProcExitResult, ProcLauncher

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Remote(ProcLauncher):
    """One whose procs run behind a control plane, which the test takes away and brings back."""

    def __init__(self, params=None):
        super().__init__(params)
        self.ports, self.killed = {}, []

    async def launch(self, exit_port, proc_id, opts):
        self.ports[proc_id] = exit_port

    async def terminate(self, proc_id, timeout_secs): ...

    async def kill(self, proc_id):
        self.killed.append(proc_id)
        self.ports.pop(proc_id).send(ProcExitResult(None, 9, False, None, []))

    @endpoint
    async def cannot_ask(self, why):
        for proc_id in self.ports:
            self.report(proc_id, unreachable=why)

    @endpoint
    async def can_ask_again(self):
        for proc_id in self.ports:
            self.report(proc_id)

    @endpoint
    async def end(self, code):
        for proc_id in list(self.ports):
            self.ports.pop(proc_id).send(ProcExitResult(code, None, False, None, []))

    @endpoint
    async def get_killed(self):
        return self.killed


def status_is(procs, wanted):
    until(lambda: procs.statuses().item().status == wanted)


@pytest.mark.parametrize("own_process", [False, True], ids=["in the client", "in its own process"])
def test_a_proc_that_its_launcher_cannot_ask_about_is_unknown_and_known_again_later(spawned, own_process, four):
    launcher = spawned(Remote, procs=four.slice(gpus=0) if own_process else None)
    followed = Followed(launcher, "true")
    followed.procs.initialized.get(20)
    for _ in range(2):
        launcher.cannot_ask.call_one("the daemon does not answer").get(10)
        status_is(followed.procs, "unknown")
        launcher.can_ask_again.call_one().get(10)
        status_is(followed.procs, "running")
    launcher.cannot_ask.call_one("the daemon does not answer").get(10)
    status_is(followed.procs, "unknown")
    launcher.end.call_one(4).get(10)
    (one,) = followed.exits()
    assert (one.kind, one.exit_code) == ("exited", 4), "an exit is an exit, whoever was not asked"
    statuses = [event["status"] for event in followed.told if event["kind"] == "status"]
    assert statuses == ["starting", "running", "unknown", "running", "unknown", "running", "unknown", "exited"]
    assert notes(followed).count("unreachable: the daemon does not answer") == 3


def test_a_proc_that_stays_unknown_for_its_budget_is_lost_and_killed_once_that_can_be_done(spawned):
    launcher = spawned(Remote)
    procs = spawn(launcher, "true", unknown_budget=0.4)
    procs.initialized.get(20)
    begun = time.monotonic()
    launcher.cannot_ask.call_one("the control plane is mute").get(10)
    one = only_exit(procs)
    assert time.monotonic() - begun >= 0.3
    assert (one.kind, one.failed_reason) == ("lost", "not heard of for 400ms: the control plane is mute")
    assert one.verdict == "lost: not heard of for 400ms: the control plane is mute"
    until(lambda: launcher.get_killed.call_one().get(10) == [one.proc_id])
    assert procs.statuses().item().status == "lost"


def test_a_stop_of_an_unknown_proc_goes_on_as_for_any_other(spawned):
    launcher = spawned(Remote)
    procs = spawn(launcher, "true")
    procs.initialized.get(20)
    launcher.cannot_ask.call_one("mute").get(10)
    status_is(procs, "unknown")
    procs.terminate(0.1).get(20)
    one = only_exit(procs)
    assert (one.signal, "terminate" in one.requested) == (9, True)


def test_what_is_said_along_with_unreachable_is_refused():
    launcher = Remote()
    for given in ({"pid": 4}, {"handle": "x"}, {"progress": "y"}):
        with pytest.raises(InvalidArgument, match="report nothing else along with it"):
            launcher.report("nobody", unreachable="mute", **given)
    with pytest.raises(InvalidArgument, match="has to be a str"):
        launcher.report("nobody", unreachable=3)


@pytest.mark.parametrize("budget", [-1, float("nan"), "60", True, None])
def test_bad_input_a_budget_has_to_be_a_time(budget):
    with pytest.raises(InvalidArgument, match="unknown_budget"):
        this_host().spawn_procs(unknown_budget=budget)


class Talking(Supervising):
    async def launch(self, exit_port, proc_id, opts):
        print("the launcher launches", flush=True)
        await super().launch(exit_port, proc_id, opts)


def test_what_a_launcher_class_prints_can_be_read_while_it_lives():
    procs = spawn(Talking, "echo the program; exec sleep 1000")
    assert next(iter(procs.launcher_logs(follow=True))) == "[0] the launcher launches"
    assert next(iter(procs.logs(follow=True))) == "[0] the program"
    until(lambda: list(procs.launcher_logs(tail=1)) == ["[0] the launcher launches"])
    procs.kill().get(20)
    pid = only_exit(procs).pid
    until(lambda: gone(pid))


def test_a_launcher_without_a_process_to_itself_has_no_output_of_its_own(spawned):
    with spawn(spawned(Talking), "exec sleep 1000") as procs, spawn(None, "exec sleep 1000", name="native") as native:
        with pytest.raises(Unsupported, match=r"actor that was spawned by hand.*logs\(\)"):
            procs.launcher_logs()
        with pytest.raises(Unsupported, match="native launcher has no process of its own"):
            native.launcher_logs()
        procs.initialized.get(20)
