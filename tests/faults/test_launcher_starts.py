"""Launchers that start something else than they were asked for, or do it the naive way."""

import asyncio
import os
import re
import signal
import time

import pytest

from launching import Followed, Supervising, exit_told_once, gone, notes, only_exit, spawn, tells_exits, until
from procession.actor import endpoint
from procession.errors import LaunchFailed
from procession.launch import BOOTSTRAP_ENV, Capabilities, ProcExitResult, supervise

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

FLOOD = "head -c 10000000 /dev/zero >&2; exit 3"


class Naive(Supervising):
    """As one writes it at first: with a pipe that nobody reads."""

    async def launch(self, exit_port, proc_id, opts):
        process = await asyncio.create_subprocess_exec(
            *opts.argv, env=opts.environment(), stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        self.running[proc_id] = process
        self.report(proc_id, pid=process.pid)
        code = await process.wait()
        exit_port.send(ProcExitResult(max(code, 0), -code if code < 0 else None, False, None, []))

    async def kill(self, proc_id):
        os.killpg(self.running[proc_id].pid, signal.SIGKILL)

    async def __cleanup__(self, exc):
        for process in self.running.values():
            process._transport.close()


@pytest.mark.fault("F56")
def test_supervise_reads_what_nobody_else_does(spawned):
    assert exit_told_once(spawned(Supervising), FLOOD).exit_code == 3


@pytest.mark.fault("F56")
def test_a_launcher_that_reads_no_pipe_and_so_never_learns_of_the_end_is_passed_by(spawned):
    # A grandchild outside of the group keeps the pipe open, so that the naive wait goes on after the end.
    procs = spawn(spawned(Naive), FLOOD)
    until(lambda: procs.statuses().item().pid is not None)
    procs.kill().get(20)
    killed = time.monotonic()
    one = only_exit(procs)
    assert time.monotonic() - killed < 5
    assert one.signal == 9 if tells_exits() else one.kind in ("signaled", "lost")


class Twice(Supervising):
    """Starts every program twice; the exit is that of whichever ends last."""

    async def launch(self, exit_port, proc_id, opts):
        self.one_ended = asyncio.Event()
        both = [await supervise(opts) for _ in range(2)]
        self.pids = [process.pid for process in both]
        ends = [asyncio.ensure_future(process.wait()) for process in both]
        self.running[proc_id] = both
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        (self.first,) = done
        self.one_ended.set()
        results = await asyncio.gather(*ends)
        exit_port.send(next(result for result in results if result is not self.first.result()))

    async def terminate(self, proc_id, timeout_secs):
        for process in self.running[proc_id]:
            await process.terminate(timeout_secs)

    async def kill(self, proc_id):
        for process in self.running[proc_id]:
            await process.kill()

    @endpoint
    async def started(self):
        return self.pids

    @endpoint
    async def refused(self):
        await self.one_ended.wait()
        return self.first.result()


@pytest.mark.fault("F59")
def test_of_two_processes_with_one_token_one_gets_in_and_the_other_is_gone(spawned):
    launcher = spawned(Twice)
    followed = Followed(launcher)
    followed.procs.initialized.get(30)
    inside = followed.procs.statuses().item().pid
    pids = launcher.started.call_one().get(10)
    (outside,) = set(pids) - {inside}
    until(lambda: gone(outside))
    refused = launcher.refused.call_one().get(10)
    assert refused.exit_code == 1
    assert "cannot reach the host" in "\n".join(refused.stderr_tail)
    assert not gone(inside)
    followed.procs.stop().get(20)
    followed.exits()
    assert [event["kind"] for event in followed.told].count("ready") == 1


class Editing(Supervising):
    """Drops or edits what it was given, as its params say."""

    async def launch(self, exit_port, proc_id, opts):
        process = self.running[proc_id] = await self.params["start"](opts)
        exit_port.send(await process.wait())


async def without_bootstrap(opts):
    env = opts.environment()
    del env[BOOTSTRAP_ENV]
    return await supervise(opts, env=env)


async def with_a_bootstrap_cut_short(opts):
    return await supervise(opts, env={**opts.environment(), BOOTSTRAP_ENV: opts.bootstrap_payload[:-40]})


async def another_program(opts):
    return await supervise(opts, argv=["sleep", "1000"])


async def without_args(opts):
    return await supervise(opts, argv=[opts.program])


@pytest.mark.fault("F61")
@pytest.mark.parametrize(
    ("start", "code", "said"),
    [
        (without_bootstrap, 2, f"{BOOTSTRAP_ENV} is not set: this is started by a launcher only"),
        (with_a_bootstrap_cut_short, 1, "cannot reach the host"),
        (without_args, 0, ""),
    ],
)
def test_a_proc_whose_environment_or_args_were_dropped_ends_and_says_what_it_lacked(spawned, start, code, said):
    procs = spawn(spawned(Editing, {"start": start}))
    one = only_exit(procs)
    assert (one.kind, one.exit_code) == ("exited", code)
    assert said in "\n".join(one.stderr_tail)
    assert re.match(r"boot failed \((running|importing): ended before it was ready\)", one.verdict), one.verdict


@pytest.mark.fault("F61")
def test_a_program_that_never_calls_back_is_a_ready_timeout_with_a_hint_and_is_cleaned_up(spawned):
    procs = spawn(spawned(Editing, {"start": another_program}), ready_timeout=0.3, stop_grace=0.5)
    with pytest.raises(
        LaunchFailed,
        match=r"ReadyTimeout: not ready within 300ms; check that its launcher hands on .*PROCESSION_BOOTSTRAP",
    ):
        procs.initialized.get(20)
    one = only_exit(procs)
    assert (one.kind, one.signal, "ready deadline" in one.requested) == ("signaled", 15, True)


class Promising(Supervising):
    """Says that it reports pids."""

    capabilities = Capabilities(pid=True)

    async def launch(self, exit_port, proc_id, opts):
        process = await supervise(opts)
        if "REPORT" in opts.env:
            self.report(proc_id, pid=process.pid)
        exit_port.send(await process.wait())


@pytest.mark.parametrize(("env", "expected"), [({}, 1), ({"REPORT": "1"}, 0)])
def test_a_pid_that_was_promised_and_never_reported_is_noted(spawned, env, expected):
    followed = Followed(spawned(Promising), "exit 0", env=env)
    followed.exits()
    assert len([note for note in notes(followed) if "capability pid" in note]) == expected
