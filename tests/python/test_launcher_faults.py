"""Launchers written in Python that misbehave on purpose: each of their launches ends once, with the reason."""

import asyncio
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from launching import CLEAN, Followed, Supervising, Where, exit_told_once, only_exit, parent_of, spawn
from procession.actor import ActorError, endpoint, this_host
from procession.errors import LaunchFailed, SupervisionError
from procession.launch import ProcExitResult, ProcLauncher, supervise

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

GONE_SECONDS = 1.0
LAUNCHER_LOST = ("send to spawner failed: ", "exit port closed (spawner crashed or forgot to send)")


class Scripted(ProcLauncher):
    """Does what its params say, in `launch`."""

    def __init__(self, params=None):
        super().__init__(params)
        self.ports = {}
        self.asked = []

    async def launch(self, exit_port, proc_id, opts):
        how = self.params["how"]
        if how == "never answers":
            self.ports[proc_id] = exit_port
        elif how == "answers twice":
            exit_port.send(ProcExitResult(7, None, False, None, ["the first"]))
            exit_port.send(ProcExitResult(8, None, False, None, ["the second"]))
        elif how == "raises":
            raise self.params.get("error") or OSError("no such image")
        elif how == "raises after answering":
            exit_port.send(CLEAN)
            raise OSError("too late")
        elif how == "sends an exception":
            exit_port.exception(self.params.get("error") or OSError("not today"))
        elif how == "drops the port":
            return
        elif how == "dies":
            os._exit(9)
        elif how == "leaves":
            sys.exit(1)
        elif how == "hangs":
            await asyncio.Event().wait()
        elif how == "answers from a thread":
            threading.Thread(target=exit_port.send, args=(CLEAN,)).start()
        else:
            exit_port.send(how)

    async def terminate(self, proc_id, timeout_secs):
        self.asked.append(("terminate", timeout_secs))
        if self.params.get("terminate") == "raises":
            raise PermissionError("not mine")

    async def kill(self, proc_id):
        self.asked.append(("kill",))
        port = self.ports.pop(proc_id, None)
        if port is not None:
            port.send(ProcExitResult(None, 9, False, None, []))

    @endpoint
    async def get_asked(self):
        return self.asked


def scripted(spawned, how, procs=None, **params):
    return spawned(Scripted, {"how": how, **params}, procs=procs)


@pytest.mark.fault("F57")
def test_one_that_never_answers_is_asked_to_kill_when_it_is_time(spawned):
    launcher = scripted(spawned, "never answers")
    followed = Followed(launcher, "true")
    followed.procs.terminate(0.2).get(20)
    (one,) = followed.exits()
    assert (one.kind, one.signal) == ("signaled", 9)
    assert launcher.get_asked.call_one().get(10) == [("terminate", pytest.approx(0.2)), ("kill",)]


@pytest.mark.fault("F40")
def test_one_that_answers_twice_is_believed_once_and_lives(spawned, capfd):
    launcher = scripted(spawned, "answers twice")
    for _ in range(2):
        one = exit_told_once(launcher)
        assert (one.exit_code, one.stderr_tail) == (7, ["the first"])
    assert launcher.get_asked.call_one().get(10) == []
    said = capfd.readouterr().err
    assert said.count("launch raised after it had answered:") == 2
    assert said.count("AlreadyReported") == 2


@pytest.mark.fault("F50")
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raises", "spawner raised: no such image"),
        ("sends an exception", "spawner raised: not today"),
        ("drops the port", "exit port closed (spawner crashed or forgot to send)"),
    ],
)
def test_one_that_fails_costs_that_launch_only(spawned, how, reason):
    launcher = scripted(spawned, how)
    for _ in range(2):
        one = exit_told_once(launcher)
        assert (one.kind, one.shell_code) == ("failed", 125)
        assert reason in one.failed_reason
    assert launcher.get_asked.call_one().get(10) is not None


def test_initialized_says_why_a_launch_failed(spawned):
    procs = spawn(scripted(spawned, "raises"))
    with pytest.raises(LaunchFailed, match="no such image"):
        procs.initialized.get(20)


def test_raising_after_the_answer_changes_nothing(spawned, capfd):
    launcher = scripted(spawned, "raises after answering")
    assert exit_told_once(launcher).ok
    assert launcher.get_asked.call_one().get(10) == []
    assert "launch raised after it had answered" in capfd.readouterr().err


def test_an_answer_may_come_from_any_thread(spawned):
    assert exit_told_once(scripted(spawned, "answers from a thread")).ok


@pytest.mark.fault("F53")
def test_one_that_dies_resolves_its_launches():
    with this_host().spawn_procs(name="dying") as home:
        launcher = home.spawn("dying", Scripted, {"how": "dies"})
        launcher.initialized.get(30)
        one = exit_told_once(launcher)
        assert (one.kind, "LauncherLost: proc dying-0" in one.failed_reason) == ("failed", True)
        assert home.wait(20).get().item().exit_code == 9


@pytest.mark.fault("F53")
def test_one_that_exits_its_interpreter_ends_and_resolves_its_launches(spawned, capfd):
    launcher = scripted(spawned, "leaves")
    one = exit_told_once(launcher)
    assert (one.kind, one.failed_reason) == ("failed", "spawner raised: 1")
    one = exit_told_once(launcher)
    assert one.kind == "failed"
    # Which of the two depends on whether the launcher was still on its way out.
    assert one.failed_reason.startswith(LAUNCHER_LOST)
    with pytest.raises(SupervisionError):
        launcher.get_asked.call_one().get(10)


@pytest.mark.fault("F51")
def test_a_launch_that_awaits_the_life_of_its_proc_does_not_hold_up_the_others(spawned):
    launcher = scripted(spawned, "hangs")
    both = Followed(launcher, "true"), Followed(launcher, "true")
    for one in both:
        one.procs.initialized.get(20)
    both[0].procs.kill().get(20)
    assert launcher.get_asked.call_one().get(10) == [("kill",)]
    launcher.stop().get(10)
    for one in both:
        assert [one.kind for one in one.exits()] == ["failed"]


@pytest.mark.fault("F57")
def test_a_terminate_that_raises_says_so_and_the_kill_follows(spawned):
    launcher = scripted(spawned, "never answers", terminate="raises")
    procs = spawn(launcher, "true")
    procs.initialized.get(20)
    with pytest.raises(RuntimeError, match="not mine"):
        procs.terminate(0.1).get(20)
    assert only_exit(procs).signal == 9


@pytest.mark.fault("F43")
@pytest.mark.parametrize(
    ("answer", "attribute"),
    [
        (None, "exit_code"),
        (ProcExitResult("0", None, False, None, []), "exit_code"),
        (ProcExitResult(True, None, False, None, []), "exit_code"),
        (ProcExitResult(-9, None, False, None, []), "exit_code"),
        (ProcExitResult(256, None, False, None, []), "exit_code"),
        (ProcExitResult(None, "9", False, None, []), "signal"),
        (ProcExitResult(0, None, None, None, []), "core_dumped"),
        (ProcExitResult(0, None, False, 3, []), "failed_reason"),
        (ProcExitResult(0, None, False, None, None), "stderr_tail"),
        (ProcExitResult(0, None, False, None, [b"x"]), "stderr_tail"),
    ],
)
def test_an_answer_that_is_none_names_the_attribute(spawned, answer, attribute, capfd):
    launcher = scripted(spawned, answer)
    one = exit_told_once(launcher)
    assert one.kind == "failed"
    assert one.failed_reason.startswith("failed to decode exit result: ")
    assert attribute in one.failed_reason
    assert launcher.get_asked.call_one().get(10) is not None


EXIT = {"exit_code": 3, "signal": None, "core_dumped": False, "failed_reason": None, "stderr_tail": ["last"]}


def test_whatever_has_the_five_attributes_is_an_answer(spawned):
    one = exit_told_once(scripted(spawned, SimpleNamespace(**EXIT)))
    assert (one.kind, one.exit_code, one.stderr_tail) == ("exited", 3, ["last"])


@pytest.mark.fault("F43")
@pytest.mark.parametrize("attribute", list(EXIT))
def test_an_answer_without_one_of_the_five_attributes_names_it(spawned, attribute, capfd):
    rest = {name: value for name, value in EXIT.items() if name != attribute}
    launcher = scripted(spawned, SimpleNamespace(**rest))
    one = exit_told_once(launcher)
    assert one.kind == "failed"
    assert one.failed_reason.startswith(f"failed to decode exit result: attribute {attribute} is missing")
    assert launcher.get_asked.call_one().get(10) is not None
    assert f"TypeError: attribute {attribute} is missing" in capfd.readouterr().err, "who sent it is told too"


class Wordless(Exception):
    def __str__(self):
        raise ValueError("no words")

    def __repr__(self):
        return "what its repr says"


class Unspeakable(Wordless):
    __repr__ = Wordless.__str__


@pytest.mark.parametrize("how", ["raises", "sends an exception"])
@pytest.mark.parametrize(
    ("error", "text"),
    [(Wordless(), "what its repr says"), (Unspeakable(), "<error formatting exception>")],
    ids=["only str fails", "repr fails too"],
)
def test_an_exception_that_has_no_text_still_ends_its_launch(spawned, how, error, text):
    launcher = scripted(spawned, how, error=error)
    one = exit_told_once(launcher)
    assert (one.kind, one.failed_reason) == ("failed", f"spawner raised: {text}")
    assert launcher.get_asked.call_one().get(10) is not None


@pytest.mark.fault("F45")
@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (ProcExitResult(3, 9, False, "why not", []), "failed", None),
        (ProcExitResult(3, 9, True, None, []), "signaled", None),
        (ProcExitResult(3, None, False, None, ["a", "b\ud800"]), "exited", 3),
    ],
)
def test_reason_goes_before_signal_and_that_before_code(spawned, answer, kind, code):
    one = only_exit(spawn(scripted(spawned, answer), "true"))
    assert one.kind == kind
    assert code is None or one.exit_code == code


@pytest.mark.fault("F45")
def test_an_unknown_code_stays_unknown(spawned):
    one = only_exit(spawn(scripted(spawned, ProcExitResult(None, None, False, None, [])), "true"))
    assert (one.kind, one.exit_code in (None, -1), one.shell_code) == ("exited", True, 125)


def test_users_can_call_a_launcher_too(spawned):
    launcher = scripted(spawned, "never answers", terminate="raises")
    assert launcher.kill.call_one("nobody").get(10) is None
    with pytest.raises(ActorError, match="not mine"):
        launcher.terminate.call_one("nobody", 1.0).get(10)


@pytest.mark.fault("F63")
def test_a_launcher_class_that_cannot_be_built_fails_its_launches(tmp_path):
    class Broken(Supervising):
        def __init__(self):
            if (tmp_path / "broken").exists():
                raise OSError("no daemon answers")
            super().__init__()

    (tmp_path / "broken").touch()
    one = only_exit(spawn(Broken, "true"))
    assert one.kind == "failed"
    assert "OSError: no daemon answers" in one.failed_reason
    assert "OSError: no daemon answers" in one.verdict
    (tmp_path / "broken").unlink()
    assert only_exit(spawn(Broken, "true")).ok


@pytest.mark.fault("F53")
def test_a_launcher_class_that_dies_while_it_is_built_says_how():
    class Dying(Supervising):
        def __init__(self):
            print("these are its last words", file=sys.stderr, flush=True)
            os._exit(3)

    one = only_exit(spawn(Dying, "true"))
    assert one.kind == "failed"
    assert "exit code 3" in one.failed_reason
    assert "these are its last words" in one.failed_reason


class Stuck(Supervising):
    """It blocks its event loop for good once it is told to."""

    async def launch(self, exit_port, proc_id, opts):
        if "STUCK" in opts.env:
            threading.Event().wait()
        await super().launch(exit_port, proc_id, opts)


@pytest.mark.fault("F51")
def test_a_launcher_class_that_hangs_is_ended_with_what_it_should_have_killed():
    procs = spawn(Stuck, "true", env={"STUCK": "1"}, stop_grace=0.1)
    procs.initialized.get(20)  # the launch has begun
    procs.stop("enough").get(20)
    (one,) = procs.exits().values()
    assert one.kind == "failed"
    assert one.failed_reason.startswith("exit port closed (spawner crashed or forgot to send): LauncherLost: proc ")
    assert "did not answer when asked to kill" in one.verdict
    assert one.requested is not None
    assert only_exit(spawn(Stuck, "exit 4")).exit_code == 4


@pytest.mark.fault("F51")
def test_a_launcher_class_that_hangs_is_spared_while_it_has_procs_that_are_wanted():
    wanted = spawn(Stuck, "echo up; exec sleep 1000")
    assert next(iter(wanted.logs(follow=True))) == "[0] up"
    stuck = spawn(Stuck, "true", env={"STUCK": "1"}, stop_grace=0.1)
    stuck.initialized.get(20)
    with pytest.raises(RuntimeError, match="did not answer"):
        stuck.kill().get(20)
    assert wanted.statuses().item().status == "running"
    # This one's process is known, so that it can be killed without the launcher; with it goes what has spared that.
    wanted.kill().get(20)
    assert only_exit(wanted).kind in ("signaled", "lost")  # kernels before 6.15 tell how it ended to its parent only
    one = only_exit(stuck)
    assert one.kind == "failed"
    assert "did not answer when asked to kill" in one.verdict


def test_every_launch_goes_through_the_launcher_and_fails_when_it_cannot_be_reached(spawned):
    launcher = scripted(spawned, "answers twice")
    launcher.stop().get(10)
    one = exit_told_once(launcher)
    assert one.kind == "failed"
    # Which of the two depends on whether the launcher was still on its way out.
    assert one.failed_reason.startswith(LAUNCHER_LOST)


def pid_of_launcher(procs):
    procs.initialized.get(30)
    (launcher,) = {parent_of(status.pid) for status in procs.statuses().values()}
    assert launcher != os.getpid()
    return launcher


@pytest.mark.fault("F53")
def test_a_launcher_class_that_is_killed_ends_its_procs_once_each_and_the_next_spawn_gets_a_new_one():
    followed = Followed(Supervising, per_host={"x": 3})
    launcher = pid_of_launcher(followed.procs)
    pids = [status.pid for status in followed.procs.statuses().values()]
    os.kill(launcher, signal.SIGKILL)
    for one, pid in zip(followed.exits(), pids, strict=True):
        assert (one.pid, one.ok, one.requested) == (pid, False, None)
    deadline = time.monotonic() + GONE_SECONDS
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline
    with spawn(Supervising, per_host={"x": 2}) as procs:
        assert pid_of_launcher(procs) != launcher
        assert len(procs.spawn("where", Where).where.call().get(30)) == 2


@pytest.mark.fault("F51")
def test_a_launch_that_is_never_acknowledged_fails_in_time_and_what_comes_of_it_later_is_killed():
    with spawn(Supervising, per_host={"x": 1}) as procs:
        launcher = pid_of_launcher(procs)
        os.kill(launcher, signal.SIGSTOP)
        try:
            one = exit_told_once(Supervising, "exec sleep 1000", ack_timeout=0.5)
        finally:
            os.kill(launcher, signal.SIGCONT)
        assert one.kind == "failed"
        assert "did not acknowledge the launch within 500ms" in one.failed_reason
        assert exit_told_once(Supervising, "exit 4").exit_code == 4
        assert pid_of_launcher(procs) == launcher, "it was spared"


class Recording(ProcLauncher):
    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}
        self.calls = []

    async def launch(self, exit_port, proc_id, opts):
        self.calls.append((proc_id, "launch"))
        self.running[proc_id] = process = await supervise(opts)
        exit_port.send(await process.wait())

    async def terminate(self, proc_id, timeout_secs):
        self.calls.append((proc_id, "terminate"))

    async def kill(self, proc_id):
        self.calls.append((proc_id, "kill"))
        while proc_id not in self.running:
            await asyncio.sleep(0)
        await self.running[proc_id].kill()

    @endpoint
    async def get_calls(self):
        return self.calls


def test_a_kill_right_after_the_spawn_reaches_a_launcher_after_the_launch_or_neither_does(spawned):
    launcher = spawned(Recording)
    ended = []
    for _ in range(50):
        followed = Followed(launcher, "exec sleep 1000")
        followed.procs.kill().get(20)
        ended += followed.exits()
    calls = launcher.get_calls.call_one().get(10)
    for one in ended:
        told = [call for proc_id, call in calls if proc_id == one.proc_id]
        assert told[:1] in ([], ["launch"])
        assert (one.kind == "signaled" and one.signal == 9) if told else "cancelled before start" in one.failed_reason
        assert "kill" in one.requested


class Exhausted(ProcLauncher):
    def launch(self, exit_port, proc_id, opts):
        next(iter(()))

    def terminate(self, proc_id, timeout_secs):
        next(iter(()))

    def kill(self, proc_id):
        next(iter(()))


def test_a_method_in_a_thread_that_runs_out_of_something_fails_as_with_any_exception(spawned):
    launcher = spawned(Exhausted)
    one = only_exit(spawn(launcher, "true"))
    assert "Exhausted.launch raised StopIteration" in one.failed_reason
    for call in (launcher.kill.call_one("nobody"), launcher.terminate.call_one("nobody", 1.0)):
        with pytest.raises(ActorError, match="raised StopIteration"):
            call.get(10)
