"""What launchers report, and do not report: the exit is right, or says what was wrong with the report."""

import dataclasses
import io
import mmap
import os
import sys
import time

import numpy as np
import pytest

from launching import CLEAN, Followed, Supervising, exit_told_once, gone, notes, spawn, tells_exits, until
from procession.actor import Actor, Port, endpoint
from procession.launch import ProcExitResult, supervise

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

SEEN_SECONDS = 1.0


class Says(Supervising):
    """Runs the program, reports its pid, and then does with the exit port what its params say."""

    async def launch(self, exit_port, proc_id, opts):
        process = self.running[proc_id] = await supervise(opts)
        if self.params.get("pid", True):
            self.report(proc_id, pid=process.pid)
        await self.params["how"](self, exit_port, process)


async def forgets(launcher, exit_port, process):
    launcher.kept = exit_port
    await process.wait()


async def reports_early(launcher, exit_port, process):
    exit_port.send(CLEAN)
    await process.wait()


async def lies(launcher, exit_port, process):
    await process.wait()
    exit_port.send(CLEAN)


def says(spawned, how, **params):
    return spawned(Says, {"how": how, **params})


class Answering(Supervising):
    """Starts nothing; it answers with what its params hold, or with what that gives when it is called."""

    async def launch(self, exit_port, proc_id, opts):
        answer = self.params["answer"]
        exit_port.send(answer() if callable(answer) else answer)


def answering(spawned, answer):
    return spawned(Answering, {"answer": answer})


def result(**changes):
    return dataclasses.replace(CLEAN, **changes)


def followed_once_watched(launcher, command, folder):
    """A proc that goes on to the command when its process is known to the host."""
    gate = folder / "gate"
    os.mkfifo(gate)
    followed = Followed(launcher, f"read line < {gate}; {command}")
    until(lambda: followed.procs.statuses().item().pid is not None)
    gate.write_text("go\n")
    return followed


@pytest.mark.fault("F39")
def test_the_kernels_word_wins_where_the_launcher_that_named_the_process_forgets_to_report(spawned, capfd, tmp_path):
    followed = followed_once_watched(says(spawned, forgets), "exit 7", tmp_path)
    (one,) = followed.exits()
    if tells_exits():
        assert (one.kind, one.exit_code) == ("exited", 7)
    else:
        assert (one.kind, one.failed_reason.partition(":")[0]) == ("lost", "NoExitReport")
    assert [note for note in notes(followed) if note.startswith('NoExitReport: launcher "says" ')]
    told = next(line for line in capfd.readouterr().err.splitlines() if "NoExitReport" in line)
    assert one.proc_id in told
    assert '"says"' in told


@pytest.mark.fault("F39")
def test_the_exit_of_a_forgotten_proc_comes_soon_after_its_end(spawned):
    launcher = says(spawned, forgets)
    waits = []
    for _ in range(5):
        procs = spawn(launcher, "exec sleep 1000")
        until(lambda procs=procs: procs.statuses().item().pid is not None)
        killed = time.monotonic()
        procs.kill().get(20)
        procs.wait(20).get()
        waits.append(time.monotonic() - killed)
    assert sorted(waits)[2] < SEEN_SECONDS


@pytest.mark.fault("F40")
@pytest.mark.parametrize("second", [CLEAN, result(exit_code=8)], ids=["the same", "another"])
def test_a_second_report_is_refused_and_counted(spawned, second):
    class Twice(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            exit_port.send(CLEAN)
            try:
                exit_port.send(second)
            except RuntimeError as error:
                self.refused = str(error)

        @endpoint
        async def how_refused(self):
            return self.refused

    launcher = spawned(Twice)
    procs = spawn(launcher, "true")
    assert procs.wait(20).get().item().exit_code == 0
    until(lambda: procs.statuses().item().late_reports == 1)
    assert launcher.how_refused.call_one().get(10).startswith("AlreadyReported")
    assert procs.exits().item().exit_code == 0


@pytest.mark.fault("F40")
def test_a_second_report_from_another_process_is_counted_too():
    class Thrice(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            exit_port.exception(OSError("first"))
            for report in (lambda: exit_port.send(CLEAN), lambda: exit_port.exception(OSError("third"))):
                with pytest.raises(RuntimeError, match="AlreadyReported"):
                    report()

    procs = spawn(Thrice, "true")
    assert procs.wait(30).get().item().failed_reason == "spawner raised: first"
    until(lambda: procs.statuses().item().late_reports == 2)


@pytest.mark.fault("F41")
def test_a_report_that_comes_before_the_end_ends_the_tree(spawned):
    launcher = says(spawned, reports_early)
    # Its grandchild leaves the session, and would stay.
    followed = Followed(launcher, "setsid sleep 1000 & exec sleep 1000")
    (one,) = followed.exits()
    assert (one.kind, one.exit_code) == ("exited", 0)
    assert any(note.startswith(f"early exit: process {one.pid} still lived") for note in notes(followed))
    until(lambda: gone(one.pid), seconds=SEEN_SECONDS)


@pytest.mark.fault("F41")
def test_a_report_before_the_end_of_a_proc_that_called_back_ends_it_though_its_pid_was_not_reported(spawned):
    async def once_ready(launcher, exit_port, process):
        launcher.port = exit_port

    class Hasty(Says):
        @endpoint
        async def report_now(self):
            self.port.send(CLEAN)

    launcher = spawned(Hasty, {"how": once_ready, "pid": False})
    followed = Followed(launcher)
    followed.procs.initialized.get(30)
    pid = followed.procs.statuses().item().pid
    launcher.report_now.call_one().get(10)
    (one,) = followed.exits()
    assert (one.exit_code, one.pid) == (0, pid)
    assert any("early exit" in note for note in notes(followed))
    until(lambda: gone(pid), seconds=SEEN_SECONDS)


@pytest.mark.fault("F42")
def test_the_kernel_is_believed_where_the_launcher_reports_another_end(spawned, tmp_path):
    followed = followed_once_watched(says(spawned, lies), "kill -9 $$", tmp_path)
    (one,) = followed.exits()
    if tells_exits():
        assert (one.kind, one.signal) == ("signaled", 9)
        wanted = "contradiction: the launcher reported exit code 0; the operating system says signal 9"
        assert any(note.startswith(wanted) for note in notes(followed))
    else:
        assert one.exit_code == 0


class Code(int):
    """What is an int by inheritance is one."""


class Index:
    def __index__(self):
        return 0


WRONG = [
    ({"exit_code": "0"}, "exit_code must be an int or None, not str"),
    ({"exit_code": 0.0}, "exit_code must be an int or None, not float"),
    ({"exit_code": True}, "exit_code must be an int or None, not bool"),
    ({"exit_code": [0]}, "exit_code must be an int or None, not list"),
    ({"exit_code": {}}, "exit_code must be an int or None, not dict"),
    ({"exit_code": b"0"}, "exit_code must be an int or None, not bytes"),
    ({"exit_code": np.int64(0)}, "exit_code must be an int or None, not int64"),
    ({"exit_code": Index()}, "exit_code must be an int or None, not Index"),
    ({"exit_code": 2**40}, "exit_code must be 0 to 255, not 1099511627776"),
    ({"exit_code": 2**80}, "exit_code must be 0 to 255, not a number beyond 64 bits"),
    ({"exit_code": -1}, "exit_code must be 0 to 255, not -1; for a proc that a signal ended use signal="),
    ({"exit_code": 256}, "exit_code must be 0 to 255, not 256"),
    ({"signal": "SIGKILL"}, "signal must be an int or None, not str"),
    ({"signal": 9.0}, "signal must be an int or None, not float"),
    ({"signal": False}, "signal must be an int or None, not bool"),
    ({"signal": np.int32(9)}, "signal must be an int or None, not int32"),
    ({"signal": 0}, "signal must be 1 to 64 or None, not 0"),
    ({"signal": -9}, "signal must be 1 to 64 or None, not -9"),
    ({"signal": 2**40}, "signal must be 1 to 64 or None, not 1099511627776"),
    ({"core_dumped": None}, "core_dumped must be a bool, not NoneType"),
    ({"core_dumped": 0}, "core_dumped must be a bool, not int"),
    ({"core_dumped": "no"}, "core_dumped must be a bool, not str"),
    ({"core_dumped": np.False_}, "core_dumped must be a bool, not bool"),
    ({"failed_reason": 3}, "failed_reason must be a str or None, not int"),
    ({"failed_reason": b"x"}, "failed_reason must be a str or None, not bytes"),
    ({"failed_reason": OSError("x")}, "failed_reason must be a str or None, not OSError"),
    ({"stderr_tail": None}, "stderr_tail must be a list of str, not NoneType"),
    ({"stderr_tail": "boom"}, "stderr_tail must be a list of str, not str"),
    ({"stderr_tail": ("boom",)}, "stderr_tail must be a list of str, not tuple"),
    ({"stderr_tail": ["a", b"b"]}, "stderr_tail[1] must be a str, not bytes"),
    ({"stderr_tail": ["a", None]}, "stderr_tail[1] must be a str, not NoneType"),
]


@pytest.mark.fault("F43")
@pytest.mark.parametrize(("changes", "why"), WRONG, ids=[why for _, why in WRONG])
def test_a_report_of_a_wrong_type_fails_the_launch_naming_field_and_type(spawned, changes, why, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    one = exit_told_once(answering(spawned, result(**changes)))
    assert (one.kind, one.exit_code) == ("failed", None)
    assert one.failed_reason.startswith(f"failed to decode exit result: {why}")
    until(lambda: f"TypeError: {why}" in said.getvalue())  # who sent it is told too


@pytest.mark.fault("F43")
def test_what_is_an_int_by_inheritance_is_an_exit_code(spawned):
    assert exit_told_once(answering(spawned, result(exit_code=Code(3)))).exit_code == 3


@pytest.mark.fault("F45")
@pytest.mark.parametrize(
    ("changes", "kind", "facts"),
    [
        ({"exit_code": 3, "signal": 9}, ("signaled", None, 9), "exit_code 3, signal 9"),
        ({"exit_code": None}, ("exited", -1, None), "exit_code None, signal None"),
        ({"exit_code": 3, "failed_reason": "no disk"}, ("failed", None, None), 'failed_reason "no disk"'),
    ],
)
def test_an_ambiguous_report_is_decided_by_priority_and_its_facts_are_kept(spawned, changes, kind, facts):
    followed = Followed(answering(spawned, result(**changes)), "true")
    (one,) = followed.exits()
    assert (one.kind, one.exit_code, one.signal) == kind
    (note,) = [note for note in notes(followed) if note.startswith("ambiguous exit")]
    assert facts in note


LIMIT, TOTAL, CUT = 4096, 1 << 20, " […cut]"


@pytest.mark.fault("F46")
@pytest.mark.parametrize("own_process", [False, True], ids=["in the client", "in its own process"])
@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (
            lambda: [str(n) for n in range(1_000_000)],
            lambda lines: lines == [str(n) for n in range(999_900, 1_000_000)],
        ),
        (lambda: ["x" * (100 << 20)], lambda lines: lines == ["x" * LIMIT + CUT]),
        (lambda: ["y" * 100_000] * 400, lambda lines: lines == ["y" * LIMIT + CUT] * 100),
        (
            lambda: ["a\ud800b"],
            lambda lines: lines[0][0] + lines[0][-1] == "ab" and "\N{REPLACEMENT CHARACTER}" in lines[0],
        ),
        (lambda: ["n\0l", "\x1b[31mred", "two\nlines"], lambda lines: lines == ["n\0l", "\x1b[31mred", "two\nlines"]),
    ],
    ids=["a million lines", "one of 100 MiB", "more than 1 MiB", "a lone surrogate", "control characters"],
)
def test_a_tail_of_any_kind_costs_no_exit_code_and_is_cut_to_bounds(spawned, own_process, tail, kept):
    class Tailing(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            exit_port.send(ProcExitResult(42, None, False, None, tail()))

    one = exit_told_once(Tailing if own_process else spawned(Tailing))
    assert (one.kind, one.exit_code) == ("exited", 42)
    assert len(one.stderr_tail) <= 100
    assert sum(len(line.encode()) for line in one.stderr_tail) <= TOTAL
    assert kept(one.stderr_tail), [line[:100] for line in one.stderr_tail[:3]]


@pytest.mark.fault("F47")
def test_a_report_of_10_mib_that_is_no_report_fails_the_launch():
    class Big(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            exit_port._ref.send([bytes(10 << 20)], [], None)

    one = exit_told_once(Big)
    assert one.kind == "failed"
    assert "a pickle came from another process" in one.failed_reason


@pytest.mark.fault("F47")
def test_a_report_beyond_the_limit_of_a_frame_is_refused_before_memory_is_taken_and_the_launcher_told():
    class Huge(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            with mmap.mmap(-1, (1 << 30) + 1) as huge:  # no page of it is ever touched
                view = memoryview(huge)
                try:
                    exit_port._ref.send([view], [], None)
                finally:
                    view.release()

        @endpoint
        async def most_memory(self):
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    procs = spawn(Huge, "true")
    one = procs.wait(30).get().item()
    assert one.kind == "failed"
    assert "LimitExceeded: a message of 1073741825 bytes is over the limit of 1073741824" in one.failed_reason
    assert "ValueError: LimitExceeded" in "\n".join(one.stderr_tail), "the launcher was told, in its launch"
    from procession._launcher_process import process_of

    assert process_of(Huge).mesh.most_memory.call_one().get(10) < 512 << 10


@pytest.mark.fault("F47")
def test_a_reason_of_10_mib_is_cut(spawned):
    one = exit_told_once(answering(spawned, result(failed_reason="z" * (10 << 20))))
    assert one.kind == "failed"
    assert len(one.failed_reason) < (64 << 10) + 100
    assert len(one.verdict) < (64 << 10) + 200


class Keeper(Actor):
    """Somebody else who answers for a launcher."""

    @endpoint
    def answer(self, port: Port, result):
        port.send(result)


def test_bad_input_an_exit_port_that_was_sent_on_takes_one_answer_from_who_has_it(spawned, four):
    class SendsOn(Supervising):
        async def launch(self, exit_port, proc_id, opts):
            self.params["keeper"].answer.broadcast(exit_port, result(exit_code=5))
            try:
                exit_port.send(result(exit_code=6))
            except RuntimeError as error:
                self.refused = str(error)

        @endpoint
        async def how_refused(self):
            return self.refused

    keeper = spawned(Keeper, procs=four.slice(gpus=0))
    launcher = spawned(SendsOn, {"keeper": keeper})
    one = exit_told_once(launcher)
    # It is a pickle there, made by an actor that is no launcher, and exits are not unpickled.
    assert (one.kind == "failed" and "a pickle came from another process" in one.failed_reason) or one.exit_code == 5
    assert launcher.how_refused.call_one().get(10).startswith("AlreadyMoved")
