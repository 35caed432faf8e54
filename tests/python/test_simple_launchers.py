"""Launchers of which the author has written what is about one proc, and `Launcher` does the rest."""

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

import pytest

from launching import Followed, Where, exit_told_once, gone, only_exit, spawn, until
from procession import _one_launch, launchers
from procession.actor import endpoint
from procession.launch import Capabilities, Launcher, ProcExitResult, Supervised, Unreachable, supervise
from procession.launchers import Zygote

PAGE = Path(__file__).parents[2] / "docs/writing-launchers.md"

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Processes(Launcher):
    """Its substrate are processes, each of which leads a session of its own; its handle is the pid."""

    def __init__(self, params=None):
        super().__init__(params)
        self.running = {}
        self.ids = {}
        self.calls = []

    async def launch(self, spec, ctx):
        self.calls.append("launch")
        process = await asyncio.create_subprocess_exec(
            *spec.argv, env=spec.environment(), stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        self.running[process.pid] = process
        self.ids[ctx.proc_id] = process.pid
        return process.pid

    async def wait(self, handle):
        code = await self.running[handle].wait()
        return code if code >= 0 else ProcExitResult(None, -code, False, None, [])

    async def signal(self, handle, signal):
        self.calls.append(int(signal))
        with suppress(ProcessLookupError):
            os.killpg(handle, signal)

    async def destroy(self, handle):
        self.calls.append("destroy")
        await self.running[handle].wait()

    @endpoint
    async def get_calls(self):
        return self.calls

    @endpoint
    async def get_pids(self):
        return list(self.running)


class Told(Processes):
    """It hands over what its procs write."""

    async def logs(self, handle, out):
        async def copy(stream, write):
            while data := await stream.read(4096):
                write(data)

        process = self.running[handle]
        await asyncio.gather(copy(process.stdout, out.stdout), copy(process.stderr, out.stderr))


def calls(launcher):
    return launcher.get_calls.call_one().get(10)


@pytest.mark.parametrize("own_process", [False, True])
def test_actors_live_in_what_it_has_launched(spawned, own_process):
    with spawn(Told if own_process else spawned(Told), per_host={"x": 3}) as procs:
        where = procs.spawn("where", Where)
        places = list(where.where.call().get(40).values())
        assert [rank for rank, _, _ in places] == [0, 1, 2]
        handles = [status.handle for status in procs.statuses().values()]
        assert handles == [str(pid) for _, pid, _ in places]
        assert {parent == os.getpid() for _, _, parent in places} == {not own_process}
        where.slice(x=1).say.call_one("through the channel").get(10)
        assert next(iter(procs.logs(follow=True))) == "[1] through the channel"
    assert [(one.kind, one.exit_code) for one in procs.exits().values()] == [("exited", 0)] * 3


@pytest.mark.parametrize(
    ("command", "kind", "code", "number"),
    [("exit 0", "exited", 0, None), ("exit 42", "exited", 42, None), ("kill -11 $$", "signaled", None, 11)],
)
def test_what_wait_gives_is_the_exit(spawned, command, kind, code, number):
    launcher = spawned(Told)
    one = exit_told_once(launcher, f"echo first >&2; printf 'last words' >&2; {command}")
    assert (one.kind, one.exit_code, one.signal, one.stderr_tail) == (kind, code, number, ["first", "last words"])
    assert calls(launcher) == ["launch", "destroy"]


class Answering(Processes):
    async def wait(self, handle):
        await super().wait(handle)
        return self.params["answer"]


@pytest.mark.parametrize("answer", [-1, 256, True, None, "0"])
def test_an_answer_that_is_none_is_refused_as_everywhere(spawned, answer, capfd):
    launcher = spawned(Answering, {"answer": answer})
    one = exit_told_once(launcher)
    assert one.kind == "failed"
    assert one.failed_reason.startswith("failed to decode exit result: ")
    assert "exit_code" in one.failed_reason
    assert calls(launcher)[-1] == "destroy"


def test_a_tail_of_its_own_comes_behind_what_logs_has_given(spawned):
    class Knowing(Told):
        async def wait(self, handle):
            await super().wait(handle)
            return ProcExitResult(3, None, False, None, ["out of memory"])

    assert exit_told_once(spawned(Knowing), "echo said >&2").stderr_tail == ["said", "out of memory"]


def test_the_tail_is_as_long_as_was_asked_for(spawned):
    one = exit_told_once(spawned(Told), "seq 1 50 >&2", tail_lines=2)
    assert one.stderr_tail == ["49", "50"]


class Failing(Processes):
    """Raises where its params say."""

    async def fail(self, where):
        how = self.params.get(where)
        if how == "cancels":
            raise asyncio.CancelledError
        if how is not None:
            raise OSError(how)

    async def launch(self, spec, ctx):
        await self.fail("before")
        pid = await super().launch(spec, ctx)
        await self.fail("launch")
        return pid

    async def wait(self, handle):
        await self.fail("wait")
        return await super().wait(handle)

    async def signal(self, handle, signal):
        await super().signal(handle, signal)
        await self.fail(f"signal {int(signal)}")


class Recovering(Failing):
    async def list(self):
        return self.ids

    async def destroy(self, handle):
        await super().destroy(handle)
        self.ids = {proc_id: pid for proc_id, pid in self.ids.items() if pid != handle}


@pytest.mark.parametrize(
    ("where", "words", "reason"),
    [
        ("before", "no such image", "no such image"),
        ("before", "cancels", "it was cancelled, by something that it awaits"),
    ],
)
def test_a_launch_that_raises_is_a_failure_in_its_words(spawned, where, words, reason):
    launcher = spawned(Failing, {where: words})
    one = exit_told_once(launcher)
    assert one.kind == "failed"
    assert one.failed_reason.startswith(f"spawner raised: {reason}")
    assert calls(launcher) == []


@pytest.mark.parametrize("words", ["no start", "cancels"])
def test_what_a_failed_launch_has_left_is_found_and_ended(spawned, words):
    launcher = spawned(Recovering, {"launch": words})
    one = exit_told_once(launcher, "exec sleep 1000")
    assert one.kind == "failed"
    assert calls(launcher) == ["launch", 9, "destroy"]
    (pid,) = launcher.get_pids.call_one().get(10)
    until(lambda: gone(pid))


@pytest.mark.parametrize(
    ("words", "reason"), [("the daemon makes no sense", "the daemon makes no sense"), ("cancels", "it was cancelled")]
)
def test_a_wait_that_raises_is_a_failure_and_its_proc_is_killed(spawned, words, reason):
    launcher = spawned(Failing, {"wait": words})
    one = exit_told_once(launcher, "exec sleep 1000")
    assert one.kind == "failed"
    assert reason in one.failed_reason
    assert calls(launcher) == ["launch", 9, "destroy"]
    (pid,) = launcher.get_pids.call_one().get(10)
    until(lambda: gone(pid))


def test_a_launch_without_a_handle_is_a_failure_that_says_so(spawned):
    class Forgetful(Recovering):
        async def launch(self, spec, ctx):
            await super().launch(spec, ctx)

    launcher = spawned(Forgetful)
    one = exit_told_once(launcher, "exec sleep 1000")
    assert "launch gave None: return the handle" in one.failed_reason
    assert calls(launcher) == ["launch", 9, "destroy"]


def test_a_signal_that_raises_is_told_to_whoever_asked(spawned):
    launcher = spawned(Failing, {"signal 15": "not mine"})
    procs = spawn(launcher, "trap '' TERM; while :; do sleep 1000; done")
    procs.initialized.get(20)
    until(lambda: procs.statuses().item().handle is not None)
    with pytest.raises(RuntimeError, match="not mine"):
        procs.terminate(0.1).get(20)
    assert only_exit(procs).signal == 9


class Gated(Processes):
    """Its launches begin and are through when it is told so."""

    def __init__(self, params=None):
        super().__init__(params)
        self.gate = asyncio.Event()
        self.begun = 0
        self.most = self.now = 0
        self.cancelled = 0

    async def launch(self, spec, ctx):
        self.proc_id = ctx.proc_id
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        ctx.progress("pulled 3 of 7")
        if self.params.get("gives up"):
            await ctx.cancelled.wait()
            raise RuntimeError("not started, since nobody wants it")
        await self.gate.wait()
        self.cancelled += ctx.cancelled.is_set()
        self.now -= 1
        return await super().launch(spec, ctx)

    @endpoint
    async def open(self):
        self.gate.set()

    @endpoint
    async def last(self):
        return self.proc_id

    @endpoint
    async def counts(self):
        return self.begun, self.most, self.cancelled


def counts(launcher):
    return launcher.counts.call_one().get(10)


@pytest.mark.parametrize(
    ("asked", "delivered"), [(["terminate"], 15), (["kill"], 9), (["terminate", "kill"], 9), (["kill", "terminate"], 9)]
)
def test_who_asks_before_there_is_a_handle_is_heard_once_there_is(spawned, asked, delivered):
    launcher = spawned(Gated)
    followed = Followed(launcher, "exec sleep 1000")
    procs = followed.procs
    until(lambda: procs.statuses().item().progress == "pulled 3 of 7")
    proc_id = launcher.last.call_one().get(10)
    for how in asked:  # as the host asks
        arguments = [proc_id, 60.0] if how == "terminate" else [proc_id]
        getattr(launcher, how).call_one(*arguments).get(10)
    assert calls(launcher) == []
    launcher.open.call_one().get(10)
    (one,) = followed.exits()
    assert (one.kind, one.signal) == ("signaled", delivered)
    assert calls(launcher) == ["launch", delivered, "destroy"]
    assert counts(launcher)[2] == 1


def test_a_stop_before_the_start_goes_the_whole_way(spawned):
    launcher = spawned(Gated)
    procs = spawn(launcher, "exec sleep 1000", stop_grace=5.0)
    until(lambda: counts(launcher)[0] == 1)
    stopped = procs.stop("not wanted")
    until(lambda: launcher.counts.call_one().get(10) and procs.statuses().item().status == "stopping")
    launcher.open.call_one().get(10)
    stopped.get(20)
    one = only_exit(procs)
    assert one.kind == "signaled"
    assert "not wanted" in one.requested


def test_a_launch_may_give_up_when_nobody_wants_it_any_more(spawned):
    launcher = spawned(Gated, {"gives up": True})
    followed = Followed(launcher)
    until(lambda: counts(launcher)[0] == 1)
    followed.procs.kill().get(20)
    (one,) = followed.exits()
    assert (one.kind, one.failed_reason) == ("failed", "spawner raised: not started, since nobody wants it")
    assert "kill" in one.requested
    assert calls(launcher) == []


def test_twenty_at_once_are_launched_as_many_at_a_time_as_it_says(spawned):
    launcher = spawned(Gated)
    with spawn(launcher, per_host={"x": 20}) as procs:
        until(lambda: counts(launcher)[0] == 16)
        until(lambda: [one.progress for one in procs.statuses().values()].count("waits for its turn") == 4)
        launcher.open.call_one().get(10)
        places = list(procs.spawn("where", Where).where.call().get(50).values())
        assert len({pid for _, pid, _ in places}) == 20
    assert counts(launcher) == (20, 16, 0)
    assert [(one.kind, one.exit_code) for one in procs.exits().values()] == [("exited", 0)] * 20
    assert sorted(map(str, calls(launcher))) == sorted(["launch"] * 20 + ["destroy"] * 20)


def test_one_that_waits_for_its_turn_is_never_launched_when_it_is_not_wanted(spawned):
    class One(Gated):
        launches_at_once = 1

    launcher = spawned(One)
    first = Followed(launcher, "exec sleep 1000")
    until(lambda: counts(launcher)[0] == 1)
    second = Followed(launcher, "exec sleep 1000")
    until(lambda: second.procs.statuses().item().progress == "waits for its turn")
    second.procs.kill().get(20)
    (one,) = second.exits()
    assert (one.kind, one.failed_reason) == ("failed", "cancelled before start: it was waiting for its turn")
    third = Followed(launcher, "exit 5")
    launcher.open.call_one().get(10)
    assert [one.exit_code for one in third.exits()] == [5], "its slot is free again"
    first.procs.kill().get(20)
    assert [one.signal for one in first.exits()] == [9]
    assert counts(launcher)[0] == 2


def destroying(spawned, how):
    class Destroying(Processes):
        async def destroy(self, handle):
            await super().destroy(handle)
            await how(self.calls.count("destroy"))

    return spawned(Destroying)


@pytest.mark.parametrize(("failures", "tries"), [(2, 3), (99, 4)])
def test_a_destroy_that_raises_is_tried_again_and_costs_no_exit(spawned, failures, tries, capfd):
    async def how(count):
        if count <= failures:
            raise OSError("it is busy")

    launcher = destroying(spawned, how)
    assert exit_told_once(launcher, "exit 3").exit_code == 3
    assert calls(launcher) == ["launch"] + ["destroy"] * tries
    assert ("destroy has failed 4 times; look for it by hand: OSError: it is busy" in capfd.readouterr().err) == (
        failures > tries
    )


def test_a_destroy_that_takes_long_goes_on_after_the_exit(spawned, monkeypatch, capfd):
    monkeypatch.setattr(_one_launch, "CLEAR_SECONDS", 0.2)
    through = asyncio.Event()

    async def how(count):
        await through.wait()
        done.append(count)

    done = []
    launcher = destroying(spawned, how)
    assert exit_told_once(launcher, "exit 3").exit_code == 3
    assert "destroy takes longer than 0.2 s" in capfd.readouterr().err
    assert done == []
    through.set()
    until(lambda: calls(launcher) and done == [1])


class Mute(Processes):
    """What it runs on does not answer for as long as there is no file."""

    async def wait(self, handle):
        if not os.path.exists(self.params["file"]):
            raise Unreachable("no daemon listens")
        return await super().wait(handle)


class Probed(Mute):
    async def probe(self):
        self.calls.append("probe")
        if not os.path.exists(self.params["file"]):
            raise ConnectionError("refused")
        return "a daemon"


@pytest.mark.parametrize("kind", [Mute, Probed])
def test_what_cannot_be_asked_is_unknown_until_it_answers(spawned, kind, tmp_path):
    launcher = spawned(kind, {"file": str(tmp_path / "up")})
    followed = Followed(launcher, "exec sleep 1000")
    until(lambda: followed.procs.statuses().item().status == "unknown")
    (tmp_path / "up").touch()
    until(lambda: followed.procs.statuses().item().status == "running")
    followed.procs.kill().get(20)
    (one,) = followed.exits()
    assert (one.kind, one.signal) == ("signaled", 9)
    assert ("probe" in calls(launcher)) == (kind is Probed)


def test_an_end_that_comes_while_nothing_answered_is_known_afterwards(spawned, tmp_path):
    launcher = spawned(Mute, {"file": str(tmp_path / "up")})
    followed = Followed(launcher, "exit 6")
    until(lambda: followed.procs.statuses().item().status == "unknown")
    (tmp_path / "up").touch()
    assert [(one.kind, one.exit_code) for one in followed.exits()] == [("exited", 6)]


def test_what_is_never_heard_of_again_is_lost_with_the_reason(spawned, tmp_path):
    launcher = spawned(Probed, {"file": str(tmp_path / "up")})
    one = exit_told_once(launcher, "exec sleep 1000", unknown_budget=0.7)
    assert one.kind == "lost"
    assert "ConnectionError: refused" in one.failed_reason
    (pid,) = launcher.get_pids.call_one().get(10)
    until(lambda: gone(pid), "what is lost is killed, as far as it can be")
    (tmp_path / "up").touch()
    until(lambda: calls(launcher)[-1] == "destroy")


def test_output_that_does_not_end_holds_no_exit_up(spawned, monkeypatch):
    monkeypatch.setattr(_one_launch, "DRAIN_SECONDS", 0.1)

    class Endless(Told):
        async def logs(self, handle, out):
            try:
                await super().logs(handle, out)
                await asyncio.Event().wait()
            finally:
                self.calls.append("logs cancelled")

    launcher = spawned(Endless)
    one = exit_told_once(launcher, "echo said >&2; exit 3")
    assert (one.exit_code, one.stderr_tail) == (3, ["said"])
    assert calls(launcher) == ["launch", "logs cancelled", "destroy"]


def test_output_that_cannot_be_read_costs_no_exit(spawned, capfd):
    class Unread(Processes):
        async def logs(self, handle, out):
            raise OSError("no such stream")

    assert exit_told_once(spawned(Unread), "exit 3").exit_code == 3
    assert "its output is no longer read: logs raised OSError: no such stream" in capfd.readouterr().err


def test_a_command_may_say_what_a_proc_writes(spawned, tmp_path):
    class Filed(Processes):
        async def logs(self, handle, out):
            log = f"trap 'exit 0' TERM; echo from the log; echo its last >&2; exec cat {tmp_path}/gate"
            await out.run(["/bin/sh", "-c", log])

    os.mkfifo(tmp_path / "gate")
    procs = spawn(spawned(Filed), f"exec 3<> {tmp_path}/gate; exec sleep 1000")
    assert next(iter(procs.logs(follow=True))) == "[0] from the log"
    procs.kill().get(20)
    one = only_exit(procs)
    assert (one.signal, one.stderr_tail) == (9, ["its last"])


class Handed(Launcher):
    """As short as one gets: `supervise` does the rest."""

    feeds_output = True

    async def launch(self, spec, ctx):
        process = await supervise(spec)
        self.report(ctx.proc_id, pid=process.pid)
        return process

    async def wait(self, handle):
        return await handle.wait()

    async def signal(self, handle, signal):
        await (handle.kill() if signal == 9 else handle.terminate(60.0))


def test_its_handle_may_be_anything(spawned):
    procs = spawn(spawned(Handed), "echo out; echo err >&2; exec sleep 1000")
    lines = iter(procs.logs(follow=True))
    assert {next(lines) for _ in range(2)} == {"[0] out", "[0] err"}
    assert Supervised.__name__ in until(lambda: procs.statuses().item().handle)
    procs.terminate().get(20)
    one = only_exit(procs)
    assert (one.signal, one.stderr_tail) == (15, ["err"])


def test_when_the_launcher_ends_nothing_of_its_procs_stays(spawned):
    noted = []

    class Noting(Processes):
        async def destroy(self, handle):
            await super().destroy(handle)
            noted.append(handle)

    launcher = spawned(Noting)
    followed = Followed(launcher, "exec sleep 1000", per_host={"x": 2})
    until(lambda: all(status.handle for status in followed.procs.statuses().values()))
    pids = launcher.get_pids.call_one().get(10)
    launcher.stop().get(20)
    assert [one.kind for one in followed.exits()] == ["failed"] * 2
    assert sorted(noted) == sorted(pids)
    until(lambda: all(map(gone, pids)))


def test_what_another_process_has_launched_can_be_ended_by_who_recovers_it(spawned):
    class Knowing(Processes):
        async def recover(self, proc_id):
            return 1234567 if proc_id == "known" else None

        async def signal(self, handle, signal):
            self.calls.append((handle, int(signal)))

    launcher = spawned(Knowing)
    launcher.terminate.call_one("known", 1.0).get(10)
    launcher.kill.call_one("known").get(10)
    launcher.kill.call_one("not known").get(10)
    assert calls(launcher) == [(1234567, 15), (1234567, 9)]


def test_it_claims_what_its_author_has_written():
    def claims(cls):
        return cls.capabilities.stdio, cls.capabilities.tail, cls.capabilities.pid

    class Able(Told):
        capabilities = Capabilities(pid=True)

    class Claiming(Processes):
        capabilities = Capabilities(pid=True, stdio=True, tail=True)

    assert [claims(cls) for cls in (Processes, Told, Handed, Able, Claiming)] == [
        (False, False, False),
        (True, True, False),
        (True, True, False),
        (True, True, True),
        (False, False, True),
    ]


def test_what_it_does_not_hand_over_is_refused(spawned):
    with spawn(spawned(Processes)) as procs:
        procs.initialized.get(30)
        with pytest.raises(NotImplementedError, match="Processes"):
            next(iter(procs.logs(follow=True)))
    with pytest.raises(NotImplementedError, match="clear_env"):
        spawn(spawned(Processes), "true", clear_env=True)


def test_the_three_have_to_be_written():
    class Half(Launcher):
        async def launch(self, spec, ctx):
            return 1

    with pytest.raises(TypeError, match="Half does not define signal, wait"):
        spawn(Half, "true")


@pytest.mark.parametrize(
    ("name", "method", "words"),
    [
        ("kill", lambda: None, r"kill: write signal\(handle, signal\)"),
        ("terminate", lambda: None, r"terminate: write signal\(handle, signal\)"),
        ("wait", lambda self, handle: 0, "wait has to be `async def`"),
        ("launch", Processes.get_calls, "launch: leave @endpoint out"),
    ],
)
def test_what_could_not_be_called_is_refused_when_the_class_is_made(name, method, words):
    with pytest.raises(TypeError, match=words):
        type("Wrong", (Launcher,), {name: method})


def test_other_arguments_are_refused_when_the_class_is_made():
    with pytest.raises(TypeError, match=r"launch\(self, exit_port, proc_id, opts\) cannot be called as .*spec, ctx\)"):

        class Old(Launcher):
            async def launch(self, exit_port, proc_id, opts): ...

    with pytest.raises(ValueError, match="launches_at_once = 0"):

        class None_(Processes):
            launches_at_once = 0


def test_a_class_may_build_upon_another_and_forget_what_that_does_when_it_is_made(spawned):
    class Named(Handed):
        def __init__(self, params=None):
            self.prefix = "named"

        async def launch(self, spec, ctx):
            ctx.progress(f"{self.prefix} {ctx.name}")
            return await super().launch(spec, ctx)

    procs = spawn(spawned(Named), "exit 4")
    one = only_exit(procs)
    assert one.exit_code == 4
    progress = procs.statuses().item().progress
    assert progress.startswith("named ")
    assert progress.removeprefix("named ").replace("-", "").isalnum()


def test_a_class_of_the_main_script_is_one_too(script):
    source = """
    from procession.actor import this_host
    from procession.launch import Launcher, supervise

    class Mine(Launcher):
        feeds_output = True

        async def launch(self, spec, ctx):
            return await supervise(spec, argv=["nice", "-n", "5", *spec.argv])

        async def wait(self, handle):
            return await handle.wait()

        async def signal(self, handle, signal):
            await (handle.kill() if signal == 9 else handle.terminate(60.0))

    if __name__ == "__main__":
        procs = this_host().spawn_procs(
            per_host={"x": 2}, launcher=Mine, readiness="none", bootstrap_command=["sh", "-c", "nice; exit 3"]
        )
        for line in procs.logs(follow=True):
            print(line)
        print([one.exit_code for one in procs.wait(30).get().values()])
    """
    lines = script(source).stdout.splitlines()
    assert sorted(lines[:2]) == ["[0] 5", "[1] 5"]
    assert lines[2] == "[3, 3]"


class Untidy(Handed):
    async def destroy(self, handle):
        raise OSError("it is busy")


def test_a_class_warns_where_what_it_writes_is_read():
    launchers.register(Untidy).get(30)
    procs = spawn(Untidy, "exit 3")
    assert only_exit(procs).exit_code == 3
    said = next(iter(procs.launcher_logs(follow=True)))
    assert "destroy has failed 4 times; look for it by hand: OSError: it is busy" in said


def test_it_launches_for_a_zygote_too():
    zygote = Zygote(Handed)
    with spawn(zygote, per_host={"x": 2}) as procs:
        parents = {parent for _, _, parent in procs.spawn("where", Where).where.call().get(40).values()}
    assert len(parents) == 1
    zygote.close().get(20)


def test_the_program_of_its_page_does_what_it_says(script, tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert script(program, cwd=tmp_path).stdout == "[3, 3]\n"
    assert [path.read_text() for path in tmp_path.glob("*.log")] == ["to the file\n"] * 2
