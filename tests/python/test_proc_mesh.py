"""What a mesh of procs tells and promises, beyond the lives of its procs."""

import asyncio
import os
import re
import sys
from datetime import datetime
from pathlib import Path

import pytest

from launching import Supervising, ends_once_it_is_watched, tells_exits
from procession._runtime import runtime
from procession.actor import Actor, endpoint, this_host
from procession.errors import AlreadyExists, LaunchFailed, Unsupported, WrongContext
from procession.launch import Capabilities, DialBack, ProcExitResult, supervise

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


def sh(command, **kwargs):
    """A mesh of one program that knows nothing of us."""
    return this_host().spawn_procs(bootstrap_command=["/bin/sh", "-c", command], readiness="none", **kwargs)


class Plain(Supervising):
    capabilities = Capabilities(stdio=False)


class Where(Actor):
    @endpoint
    def where(self):
        return os.getcwd()


def test_a_request_says_who_asked_when_and_why():
    before = datetime.now().astimezone()
    with sh("sleep 1000") as procs:
        procs.stop("it took too long").get(20)
    requested = procs.exits().item().requested
    by, when, why = re.fullmatch(r"(\w+) at (\S+): (.*)", requested).groups()
    assert (by, why) == ("stop", "it took too long")
    # Given in milliseconds, so that it can look a little earlier than it was.
    assert before.timestamp() - 0.001 <= datetime.fromisoformat(when).timestamp() <= datetime.now().timestamp()


def test_asking_again_and_again_whether_they_ended_costs_nothing():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def ask(times):
        for _ in range(times):
            with pytest.raises(TimeoutError):
                procs.wait(0).get()
            assert not procs.initialized.done()

    # It never calls back, so that neither comes.
    procs = this_host().spawn_procs(bootstrap_command=["sleep", "1000"])
    ask(2000)
    before = resident()
    ask(20_000)
    assert resident() - before < 4 << 20
    procs.kill().get(20)
    procs.wait(20).get()


def test_a_mesh_that_is_initialized_says_so_at_once():
    with this_host().spawn_procs(per_host={"x": 2}) as procs:
        procs.initialized.get(30)
        assert procs.initialized.done()
        assert procs.initialized.get(0) is True
        assert procs.slice(x=1).initialized.done()
    failed = sh("exit 0", name="over").initialized
    with pytest.raises(LaunchFailed):
        this_host().spawn_procs(bootstrap_command=["/no/such/program"]).initialized.get(20)
    failed.get(20)


def test_events_are_those_from_the_call_on(tmp_path):
    async def follow():
        procs = sh(f"read go < {tmp_path}/gate; exit 3")
        await asyncio.to_thread(procs.initialized.get, 20)
        events = procs.events()  # nobody waits for it yet
        (tmp_path / "gate").write_text("go\n")
        await procs.wait(20)
        return [event.kind async for event in events]

    os.mkfifo(tmp_path / "gate")
    assert asyncio.run(follow()) == ["status", "exit"]


def test_a_name_that_is_taken_is_refused_before_its_launcher_is_started():
    with sh("sleep 1000", name="used"):
        before = runtime().live()
        with pytest.raises(AlreadyExists, match=r"'used-0' is alive \(incarnation 1\)"):
            sh("true", name="used", launcher=type("Unused", (Plain,), {}))
        assert runtime().live() == before
    with sh("true", name="used") as procs:
        assert procs.wait(20).get().item().incarnation == 2


def test_a_relative_directory_is_entered_once(tmp_path, monkeypatch):
    (tmp_path / "data" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with this_host().spawn_procs(cwd="data") as procs:
        assert procs.spawn("where", Where).where.call_one().get(30) == str(tmp_path / "data")


def test_a_with_block_that_would_stop_an_event_loop_is_refused_before_it_begins():
    async def enter():
        began = False
        procs = sh("sleep 1000")
        with pytest.raises(WrongContext, match="use `async with`"), procs:
            began = True
        async with procs:
            return began

    assert asyncio.run(enter()) is False


def test_output_that_a_launcher_does_not_hand_over_cannot_be_asked_for():
    with (
        sh("true", launcher=Plain) as procs,
        pytest.raises(Unsupported, match=r"Plain does not hand over .*stdio=True"),
    ):
        procs.logs()


def test_a_way_back_that_does_not_exist_is_refused_at_once():
    stdio = type("Stdio", (Plain,), {"dial_back": DialBack.stdio()})
    with pytest.raises(Unsupported, match=r"DialBack\.stdio\(\).*use DialBack\.network"):
        sh("true", launcher=stdio)


@pytest.mark.parametrize(
    ("level", "shown", "hidden"),
    [
        (None, "early exit: process ", None),
        ("error", "", "WARN"),
        ("loud", 'PROCESSION_LOG = "loud": use off, error, warn', None),
    ],
)
def test_how_much_the_runtime_tells_is_a_choice(script, level, shown, hidden):
    source = """
    from procession.actor import this_host
    from procession.launch import ProcLauncher, supervise, ProcExitResult

    class Hasty(ProcLauncher):
        async def launch(self, exit_port, proc_id, opts):
            process = await supervise(opts)
            self.report(proc_id, pid=process.pid)
            exit_port.send(ProcExitResult(0, None, False, None, []))

        async def terminate(self, proc_id, timeout_secs): ...
        async def kill(self, proc_id): ...

    procs = this_host().spawn_procs(bootstrap_command=["sleep", "1000"], readiness="none", launcher=Hasty)
    procs.wait(20).get()
    """
    done = script(source, env={} if level is None else {"PROCESSION_LOG": level})
    assert shown in done.stderr
    assert hidden is None or hidden not in done.stderr


def test_the_default_program_is_this_interpreter():
    class Tell(Actor):
        @endpoint
        def tell(self):
            return sys.executable

    with this_host().spawn_procs() as procs:
        assert procs.spawn("tell", Tell).tell.call_one().get(30) == os.path.abspath(sys.executable)


def test_whoever_follows_hears_of_procs_that_are_launched_again():
    async def follow():
        procs = sh("echo up; exec sleep 1000", per_host={"w": 2})
        logs, events = procs.logs(follow=True), procs.events()
        lines = aiter(logs)
        assert {await anext(lines) for _ in range(2)} == {"[0] up", "[1] up"}
        await procs.slice(w=0).kill()
        await procs.slice(w=0).wait(20)
        await procs.respawn([0])
        assert await anext(lines) == "[0] up"
        await procs.stop()
        assert [line async for line in lines] == []
        return [(event.rank, event.incarnation, event.detail["exit"]) async for event in events if event.kind == "exit"]

    exits = asyncio.run(follow())
    assert sorted((rank, incarnation) for rank, incarnation, _ in exits) == [(0, 1), (0, 2), (1, 1)]
    assert all("stop at" in one.requested or "kill at" in one.requested for _, _, one in exits)


@pytest.mark.parametrize(("command", "exit_code", "number"), [("exit 3", 3, None), ("kill -9 $$", None, 9)])
def test_the_exit_of_a_proc_whose_launcher_is_slow_to_report_is_what_the_kernel_tells(
    tmp_path, command, exit_code, number
):
    os.mkfifo(tmp_path / "tidied")

    class Slow(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            process = self.running[proc_id] = await supervise(opts)
            self.report(proc_id, pid=process.pid)
            result = await process.wait()
            await asyncio.to_thread((tmp_path / "tidied").read_text)
            exit_port.send(result)

    one = ends_once_it_is_watched(command, Slow, tmp_path / "gate").wait(20).get().item()
    (tmp_path / "tidied").write_text("now\n")
    if tells_exits():
        assert (one.exit_code, one.signal) == (exit_code, number)
    else:
        assert one.kind == "lost"


@pytest.mark.fault("F42")
def test_a_launcher_that_tells_something_else_than_the_kernel_is_not_believed(tmp_path, capfd):
    class Liar(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            process = self.running[proc_id] = await supervise(opts)
            self.report(proc_id, pid=process.pid)
            await process.wait()
            exit_port.send(ProcExitResult(0, None, False, None, ["all is well"]))

    one = ends_once_it_is_watched("kill -9 $$", Liar, tmp_path / "gate").wait(20).get().item()
    assert one.stderr_tail == ["all is well"]
    if tells_exits():
        assert one.signal == 9
        assert (
            "contradiction: the launcher reported exit code 0; the operating system says signal 9"
            in capfd.readouterr().err
        )
    else:
        assert one.exit_code == 0
