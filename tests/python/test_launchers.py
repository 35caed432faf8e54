"""Launchers written in Python that do as the contract says."""

import asyncio
import dataclasses
import os
import signal
import socket
import sys
import textwrap
import threading
import time

import pytest

from launching import Blocking, Supervising, Where, exit_told_once, only_exit, parent_of, spawn
from procession import launchers
from procession.actor import Actor, endpoint, this_host
from procession.errors import InvalidArgument, Unsupported
from procession.launch import (
    BOOTSTRAP_ENV,
    LOG_CHANNEL_ENV,
    PROCESS_NAME_ENV,
    Capabilities,
    DialBack,
    LaunchOptions,
    LogWriter,
    ProcExitResult,
)

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


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


def test_a_proc_is_a_child_of_its_launcher_and_not_of_the_client():
    with this_host().spawn_procs(per_host={"workers": 2}, launcher=Supervising) as procs:
        procs.initialized.get(30)
        parents = {parent_of(status.pid) for _, status in procs.statuses().items()}
    (launcher,) = parents
    assert launcher != os.getpid()


class Feeding(Supervising):
    """It reads no output; it says some."""

    async def launch(self, exit_port, proc_id, opts):
        log = LogWriter(opts.log_channel)
        log.stdout(b"one\ntw")
        log.stdout(b"o\n")
        log.stderr(b"\xff three\n")
        log.stdout(b"")
        opts.want_stdio = False
        await super().launch(exit_port, proc_id, opts)


@pytest.mark.parametrize("own_process", [False, True])
def test_output_can_be_fed_by_hand_from_any_process(spawned, own_process):
    with spawn(Feeding if own_process else spawned(Feeding), "exec sleep 60") as procs:
        lines = iter(procs.logs(follow=True))
        seen = {next(lines) for _ in range(3)}
        procs.kill().get(20)
    assert seen == {"[0] one", "[0] two", "[0] \N{REPLACEMENT CHARACTER} three"}


def test_without_a_channel_output_is_dropped():
    log = LogWriter(None)
    assert log.stdout(b"nobody wants it\n") is log.stderr(b"nor this\n") is None


class ByHand(Supervising):
    """It takes nothing but the nine fields of the contract and the exported names, and builds the rest itself."""

    capabilities = Capabilities()

    async def launch(self, exit_port, proc_id, opts):
        payload, name, program, arg0, args, env, want_stdio, tail_lines, log_channel = (
            getattr(opts, field.name) for field in dataclasses.fields(opts)[:9]
        )
        assert dataclasses.replace(opts) == LaunchOptions(
            payload, name, program, arg0, args, env, want_stdio, tail_lines, log_channel
        )
        environment = {"PATH": os.environ["PATH"], **env, BOOTSTRAP_ENV: payload, PROCESS_NAME_ENV: name}
        if log_channel is not None:
            environment[LOG_CHANNEL_ENV] = log_channel
        process = await asyncio.create_subprocess_exec(
            arg0 or program, *args, executable=program, env=environment, start_new_session=True
        )
        self.running[proc_id] = Handmade(process)
        code = await process.wait()
        exit_port.send(ProcExitResult(max(code, 0), -code if code < 0 else None, False, None, []))


class Handmade:
    def __init__(self, process):
        self.process = process

    async def terminate(self, timeout):
        os.killpg(self.process.pid, signal.SIGTERM)

    async def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)


@pytest.mark.fault("F62")
def test_a_launcher_may_build_the_environment_itself(spawned):
    with spawn(spawned(ByHand), per_host={"x": 2}, env={"ASKED": "for"}) as procs:
        places = list(procs.spawn("where", Where).where.call().get(30).values())
        assert [rank for rank, _, _ in places] == [0, 1]
    assert [(one.kind, one.exit_code) for one in procs.exits().values()] == [("exited", 0)] * 2
    assert exit_told_once(spawned(ByHand), "exit 5").exit_code == 5
    assert exit_told_once(spawned(ByHand), "kill -10 $$").signal == 10


class Slow(Supervising):
    """It reports how far it is, from a thread, until that has gone on for long enough; then no more."""

    STEPS, SECONDS = 20, 0.1

    async def launch(self, exit_port, proc_id, opts):
        def pull():
            for step in range(self.STEPS):
                self.report(proc_id, progress=f"pulled {step + 1} of {self.STEPS}")
                time.sleep(self.SECONDS)  # it is time that the deadline is about

        threading.Thread(target=pull).start()
        await super().launch(exit_port, proc_id, opts)


def test_progress_may_be_reported_from_any_thread_and_restarts_the_ready_deadline(spawned):
    deadline = Slow.STEPS * Slow.SECONDS / 2
    procs = spawn(spawned(Slow), bootstrap_command=["sleep", "60"], readiness="call_back", ready_timeout=deadline)
    shown = set()
    while (status := procs.statuses().item()).progress != f"pulled {Slow.STEPS} of {Slow.STEPS}":
        assert status.status in ("starting", "running")
        shown.add(status.progress)
    last = time.time()
    assert len(shown) > Slow.STEPS / 2
    one = only_exit(procs)
    assert "ready deadline" in one.requested
    assert one.ended_at - one.started_at > 2 * deadline
    assert one.ended_at - last > deadline / 2


class OverTcp(Supervising):
    dial_back = DialBack.network(bind="127.0.0.1:0")


@pytest.fixture(scope="module")
def listening():
    """The address that procs reach back to over the network; the client listens there until it ends."""
    with this_host().spawn_procs() as home, spawn(home.spawn("first", OverTcp)) as procs:
        procs.initialized.get(30)


class Connected(Actor):
    @endpoint
    def families(self):
        found = set()
        for fd in os.listdir("/proc/self/fd"):
            try:
                with socket.socket(fileno=os.dup(int(fd))) as one:
                    peer = one.getpeername()
                    if peer:  # a pair within this process has no address
                        found.add((one.family.name, peer[0] if one.family == socket.AF_INET else None))
            except OSError:
                continue  # no socket, or one of ours that is not connected
        return found


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("own_process", [False, True])
def test_procs_reach_back_over_the_network_when_their_launcher_says_so(spawned, own_process):
    launcher = OverTcp if own_process else spawned(OverTcp)
    # They could be on another machine, and so they are not told where modules are here.
    paths = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    with spawn(launcher, per_host={"x": 2}, env=paths) as procs, spawn(None) as others:
        assert procs.initialized.get(30) is True
        for families in procs.spawn("connected", Connected).families.call().get(30).values():
            assert ("AF_INET", "127.0.0.1") in families
            assert not any(family == "AF_UNIX" for family, _ in families)
        families = others.spawn("connected", Connected).families.call_one().get(30)
        assert not any(family == "AF_INET" for family, _ in families)


def test_a_program_may_say_when_it_is_ready_through_a_launcher_too(spawned):
    code = """
    import os, socket, sys
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
    sys.stdin.read()
    """
    one = only_exit(
        spawn(
            spawned(Supervising),
            bootstrap_command=[sys.executable, "-c", textwrap.dedent(code)],
            readiness="none",
        )
    )
    assert (one.exit_code, one.stderr_tail) == (0, [])
    assert one.started_at < one.ready_at < one.ended_at
