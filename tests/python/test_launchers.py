"""Launchers written in Python: well behaved, and misbehaving on purpose."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from procession import launchers
from procession.actor import Actor, ActorError, current_rank, endpoint, this_host
from procession.errors import InvalidArgument, LaunchFailed, Unsupported
from procession.launch import Capabilities, LogWriter, ProcExitResult, ProcLauncher, supervise

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

CLEAN = ProcExitResult(0, None, False, None, [])


class Supervising(ProcLauncher):
    """As short as a launcher gets."""

    capabilities = Capabilities(command_attributes=True)

    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}

    async def launch(self, exit_port, proc_id, opts):
        process = self.running[proc_id] = await supervise(opts)
        self.report(proc_id, pid=process.pid, handle=f"process {process.pid}")
        exit_port.send(await process.wait())

    async def terminate(self, proc_id, timeout_secs):
        await self.running[proc_id].terminate(timeout_secs)

    async def kill(self, proc_id):
        await self.running[proc_id].kill()

    @endpoint
    async def known(self):
        return list(self.running), os.getpid()


class Blocking(ProcLauncher):
    """Its methods are plain ones that block, as those of most client libraries."""

    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}
        self.changed = threading.Condition()

    def launch(self, exit_port, proc_id, opts):
        process = subprocess.Popen(opts.argv, env=opts.environment(), start_new_session=True)
        with self.changed:
            self.running[proc_id] = process
            self.changed.notify_all()
        code = process.wait()
        exit_port.send(ProcExitResult(code if code >= 0 else None, -code if code < 0 else None, False, None, []))

    def terminate(self, proc_id, timeout_secs):
        self._signal(proc_id, signal.SIGTERM)

    def kill(self, proc_id):
        self._signal(proc_id, signal.SIGKILL)

    def _signal(self, proc_id, number):
        with self.changed:  # its launch has begun, and may not have come far
            self.changed.wait_for(lambda: proc_id in self.running)
        os.killpg(self.running[proc_id].pid, number)


class Where(Actor):
    @endpoint
    def where(self):
        return current_rank().rank, os.getpid(), os.getppid()

    @endpoint
    def say(self, text):
        print(text, flush=True)


def spawn(launcher, command=None, **kwargs):
    """A mesh through a launcher; of a program that never calls back, when there is a command."""
    if command is not None:
        kwargs |= {"bootstrap_command": ["/bin/sh", "-c", command], "readiness": "none"}
    return this_host().spawn_procs(launcher=launcher, **kwargs)


def only_exit(procs):
    return procs.wait(20).get().item()


@pytest.fixture(params=[Supervising, Blocking])
def launcher(request, spawned):
    """A launcher actor in this process."""
    return spawned(request.param)


def test_a_launcher_actor_really_launches(launcher):
    with spawn(launcher, per_host={"x": 3}) as procs:
        places = list(procs.spawn("where", Where).where.call().get(30).values())
        assert [rank for rank, _, _ in places] == [0, 1, 2]
        assert len({pid for _, pid, _ in places} | {os.getpid()}) == 4
    assert [(one.kind, one.exit_code) for one in procs.exits().values()] == [("exited", 0)] * 3


@pytest.mark.parametrize(
    ("command", "kind", "code", "number"),
    [("exit 0", "exited", 0, None), ("exit 42", "exited", 42, None), ("kill -11 $$", "signaled", None, 11)],
)
def test_exits_come_through_it(launcher, command, kind, code, number):
    one = only_exit(spawn(launcher, command))
    assert (one.kind, one.exit_code, one.signal) == (kind, code, number)
    assert one.launcher == launcher._name


def test_terminate_and_kill_go_through_it(launcher):
    for end, number in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        procs = spawn(launcher, "exec sleep 60")
        procs.initialized.get(20)
        getattr(procs, end)().get(20)
        one = only_exit(procs)
        assert (one.signal, end in one.requested) == (number, True)


def test_it_reports_pid_handle_and_output(spawned):
    with spawn(spawned(Supervising)) as procs:
        where = procs.spawn("where", Where)
        _, pid, parent = where.where.call_one().get(30)
        status = procs.statuses().item()
        assert (status.pid, status.handle, status.status, parent) == (pid, f"process {pid}", "ready", os.getpid())
        where.say.call_one("through the channel").get(10)
        assert next(iter(procs.logs(follow=True))) == "[0] through the channel"
    one = only_exit(spawn(spawned(Supervising), "echo last words >&2; exit 3"))
    assert (one.exit_code, one.stderr_tail) == (3, ["last words"])


def test_a_launcher_class_gets_a_process_of_its_own_and_is_used_again():
    with spawn(Supervising) as first, spawn(Supervising) as second:
        places = [procs.spawn("where", Where).where.call_one().get(40) for procs in (first, second)]
        assert places[0][2] == places[1][2] != os.getpid()


def test_several_launchers_live_side_by_side(spawned):
    with spawn(spawned(Supervising)) as one, spawn(launchers.native()) as other:
        for procs in (one, other):
            procs.initialized.get(30)
        assert [procs.statuses().item().launcher for procs in (one, other)] == ["supervising", "native"]


def test_attributes_of_the_command_are_honoured_or_refused(spawned, tmp_path):
    able, unable = spawned(Supervising), spawned(Blocking)
    procs = spawn(able, 'echo "$PWD|$HOME|$A" >&2', cwd=tmp_path, clear_env=True, env={"A": "1"})
    assert only_exit(procs).stderr_tail == [f"{tmp_path}||1"]
    for asked in ({"clear_env": True}, {"env": {"A": None}}, {"cwd": tmp_path}):
        with pytest.raises(Unsupported, match="does not honour it"):
            spawn(unable, "true", **asked)
    with spawn(unable, cwd=tmp_path) as procs:
        procs.initialized.get(30)


def test_a_path_that_is_no_text_is_refused_before_anything_is_sent(spawned):
    with pytest.raises(InvalidArgument, match="valid UTF-8"):
        this_host().spawn_procs(bootstrap_command=[os.fsdecode(b"/tmp/\xff")], launcher=spawned(Supervising))


@pytest.mark.parametrize("launcher", ["native", 3, Where, Supervising()])
def test_what_is_no_launcher_is_refused(launcher):
    with pytest.raises(TypeError, match="launcher"):
        this_host().spawn_procs(launcher=launcher)


def test_actors_that_are_no_launcher_or_several_are_refused(spawned, four):
    with pytest.raises(TypeError, match=r"subclass of procession\.launch\.ProcLauncher"):
        this_host().spawn_procs(launcher=spawned(Where))
    with pytest.raises(InvalidArgument, match="these are 4: slice it"):
        this_host().spawn_procs(launcher=spawned(Supervising, procs=four))


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
            raise OSError("no such image")
        elif how == "raises after answering":
            exit_port.send(CLEAN)
            raise OSError("too late")
        elif how == "sends an exception":
            exit_port.exception(OSError("not today"))
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


def test_one_that_never_answers_is_asked_to_kill_when_it_is_time(spawned):
    launcher = scripted(spawned, "never answers")
    procs = spawn(launcher, "true")
    procs.terminate(0.2).get(20)
    one = only_exit(procs)
    assert (one.kind, one.signal) == ("signaled", 9)
    assert launcher.get_asked.call_one().get(10) == [("terminate", pytest.approx(0.2)), ("kill",)]


def test_one_that_answers_twice_is_believed_once_and_lives(spawned, capfd):
    launcher = scripted(spawned, "answers twice")
    for _ in range(2):
        one = only_exit(spawn(launcher, "true"))
        assert (one.exit_code, one.stderr_tail) == (7, ["the first"])


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
        one = only_exit(spawn(launcher, "true"))
        assert (one.kind, one.shell_code) == ("failed", 125)
        assert reason in one.failed_reason
    assert launcher.get_asked.call_one().get(10) is not None


def test_initialized_says_why_a_launch_failed(spawned):
    procs = spawn(scripted(spawned, "raises"))
    with pytest.raises(LaunchFailed, match="no such image"):
        procs.initialized.get(20)


def test_raising_after_the_answer_changes_nothing(spawned, capfd):
    launcher = scripted(spawned, "raises after answering")
    assert only_exit(spawn(launcher, "true")).ok
    assert launcher.get_asked.call_one().get(10) == []
    assert "launch raised after it had answered" in capfd.readouterr().err


def test_an_answer_may_come_from_any_thread(spawned):
    assert only_exit(spawn(scripted(spawned, "answers from a thread"), "true")).ok


def test_one_that_dies_resolves_its_launches():
    with this_host().spawn_procs(name="dying") as home:
        launcher = home.spawn("dying", Scripted, {"how": "dies"})
        launcher.initialized.get(30)
        one = only_exit(spawn(launcher, "true"))
        assert (one.kind, "exit port closed" in one.failed_reason) == ("failed", True)
        assert home.wait(20).get().item().exit_code == 9


def test_one_that_exits_its_interpreter_ends_and_resolves_its_launches(spawned, capfd):
    launcher = scripted(spawned, "leaves")
    one = only_exit(spawn(launcher, "true"))
    assert one.kind == "failed"


def test_a_launch_that_awaits_the_life_of_its_proc_does_not_hold_up_the_others(spawned):
    launcher = scripted(spawned, "hangs")
    first, second = spawn(launcher, "true"), spawn(launcher, "true")
    for procs in (first, second):
        procs.initialized.get(20)
    first.kill().get(20)
    assert launcher.get_asked.call_one().get(10) == [("kill",)]
    launcher.stop().get(10)
    for procs in (first, second):
        assert only_exit(procs).kind == "failed"


def test_a_terminate_that_raises_says_so_and_the_kill_follows(spawned):
    launcher = scripted(spawned, "never answers", terminate="raises")
    procs = spawn(launcher, "true")
    procs.initialized.get(20)
    with pytest.raises(RuntimeError, match="not mine"):
        procs.terminate(0.1).get(20)
    assert only_exit(procs).signal == 9


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
    one = only_exit(spawn(launcher, "true"))
    assert one.kind == "failed"
    assert one.failed_reason.startswith("failed to decode exit result: ")
    assert attribute in one.failed_reason
    assert launcher.get_asked.call_one().get(10) is not None


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


def test_an_unknown_code_stays_unknown(spawned):
    one = only_exit(spawn(scripted(spawned, ProcExitResult(None, None, False, None, [])), "true"))
    assert (one.kind, one.exit_code in (None, -1), one.shell_code) == ("exited", True, 125)


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


def test_users_can_call_a_launcher_too(spawned):
    launcher = scripted(spawned, "never answers", terminate="raises")
    assert launcher.kill.call_one("nobody").get(10) is None
    with pytest.raises(ActorError, match="not mine"):
        launcher.terminate.call_one("nobody", 1.0).get(10)


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


def test_a_launcher_class_that_hangs_is_ended_with_what_it_should_have_killed():
    procs = spawn(Stuck, "true", env={"STUCK": "1"}, stop_grace=0.1)
    procs.initialized.get(20)  # the launch has begun
    procs.stop("enough").get(20)
    (one,) = procs.exits().values()
    assert one.kind == "failed"
    assert one.failed_reason.startswith("exit port closed (spawner crashed or forgot to send): proc ")
    assert "did not answer when asked to kill" in one.verdict
    assert one.requested is not None
    assert only_exit(spawn(Stuck, "exit 4")).exit_code == 4


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
    assert only_exit(wanted).kind == "lost"
    one = only_exit(stuck)
    assert one.kind == "failed"
    assert "did not answer when asked to kill" in one.verdict


def test_output_can_be_fed_by_hand(spawned):
    class Feeding(Scripted):
        async def launch(self, exit_port, proc_id, opts):
            log = LogWriter(opts.log_channel)
            log.stdout(b"one\ntw")
            log.stdout(b"o\n")
            log.stderr(b"\xff three\n")
            log.stdout(b"")
            self.ports[proc_id] = exit_port

    with spawn(spawned(Feeding), "true") as procs:
        lines = iter(procs.logs(follow=True))
        seen = {next(lines) for _ in range(3)}
    assert seen == {"[0] one", "[0] two", "[0] \N{REPLACEMENT CHARACTER} three"}


def test_every_launch_goes_through_the_launcher_and_fails_when_it_cannot_be_reached(spawned):
    launcher = scripted(spawned, "answers twice")
    launcher.stop().get(10)
    one = only_exit(spawn(launcher, "true"))
    assert one.kind == "failed"
    # Which of the two depends on whether the launcher was still on its way out.
    lost = ("send to spawner failed: ", "exit port closed (spawner crashed or forgot to send)")
    assert one.failed_reason is not None
    assert one.failed_reason.startswith(lost)


def test_a_proc_is_a_child_of_its_launcher_and_not_of_the_client():
    with this_host().spawn_procs(per_host={"workers": 2}, launcher=Supervising) as procs:
        procs.initialized.get(30)
        parents = {parent_of(status.pid) for _, status in procs.statuses().items()}
    (launcher,) = parents
    assert launcher != os.getpid()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
