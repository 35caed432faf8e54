"""Programs that end, however they do: the kind, the words, the time, and what they leave."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from launching import Followed, Supervising, gone, only_exit, process_state, spawn, until
from procession.actor import this_host
from procession.errors import LaunchFailed
from procession.launch import BootstrapCommand

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

BOTH = pytest.mark.parametrize("launcher", [None, Supervising], ids=["native", "supervise"])
# Those that stop, continue or are ignored by default do not kill.
KILLING = [
    number
    for number in map(int, signal.Signals)
    if number < 32 and signal.Signals(number).name not in ("SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH")
]  # fmt: skip


def sh(launcher, command, **kwargs):
    return spawn(launcher, command, **kwargs)


def by_rank(commands, launcher=None, **kwargs):
    """A mesh of which each rank runs a script of its own."""

    def command(point):
        return BootstrapCommand("/bin/sh", args=["-c", commands[point.rank]])

    return this_host().spawn_procs({"x": len(commands)}, bootstrap_command=command, launcher=launcher, **kwargs)


@pytest.mark.fault("F2")
@BOTH
def test_a_program_that_ends_before_it_calls_back_fails_at_once_with_its_code_and_its_last_words(launcher):
    codes = [0, 1, 42, 255]
    for code in codes:
        procs = by_rank([f"echo last words >&2; exit {code}"], launcher)
        with pytest.raises(LaunchFailed, match="last words"):
            procs.initialized.get(20)
        failed = time.time()
        (one,) = procs.wait(20).get().values()
        assert (one.kind, one.exit_code, one.stderr_tail, one.ready_at) == ("exited", code, ["last words"], None)
        assert failed - one.ended_at < 1.0


@pytest.mark.fault("F3")
@BOTH
def test_every_signal_that_kills_is_named_and_no_core_is_made_up(launcher):
    assert len(KILLING) == 23
    procs = by_rank([f"ulimit -c 0; kill -{number} $$" for number in KILLING], launcher, readiness="none")
    exits = list(procs.wait(40).get().values())
    found = [(one.kind, one.signal, one.exit_code, one.core_dumped) for one in exits]
    assert found == [("signaled", number, None, False) for number in KILLING]


@pytest.mark.fault("F5")
def test_what_cannot_be_executed_fails_for_both_ways_of_starting_in_the_same_words(tmp_path):
    def file(name, content, mode):
        path = tmp_path / name
        path.write_text(content)
        path.chmod(mode)
        return path

    cases = [
        (tmp_path / "missing", "ENOENT", "does not exist"),
        (tmp_path, "EACCES", "is a directory"),
        (file("plain", "#!/bin/sh\n", 0o644), "EACCES", "not executable"),
        (file("orphan", "#!/no/such/interpreter\n", 0o755), "ENOENT", "/no/such/interpreter"),
        (file("no-line", f"touch {tmp_path}/it-ran\n", 0o755), "ENOEXEC", "#!"),
    ]
    for program, name, words in cases:
        number = getattr(errno, name)
        told = []
        for launcher in (None, Supervising):
            procs = this_host().spawn_procs(bootstrap_command=[str(program)], readiness="none", launcher=launcher)
            one = only_exit(procs)
            assert (one.kind, procs.statuses().item().pid) == ("failed", None)
            told.append(one.failed_reason)
        native, supervised = told
        assert words in native
        assert f"errno {number}" in native
        assert words in supervised
        assert f"Errno {number}" in supervised
    assert not (tmp_path / "it-ran").exists()


DAEMON = """
import os, sys
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 1000)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
import signal
signal.pause()
"""


@pytest.mark.fault("F9")
@BOTH
def test_a_kill_takes_a_daemon_along_and_is_told_at_once(launcher, tmp_path):
    pid_file, script = tmp_path / "pid", tmp_path / "daemon.py"
    script.write_text(DAEMON)
    procs = sh(launcher, f"{sys.executable} {script} {pid_file} & exec sleep 1000")
    until(pid_file.exists)
    daemon, leader = int(pid_file.read_text()), procs.statuses().item().pid
    asked = time.monotonic()
    procs.kill().get(20)
    one = only_exit(procs)
    assert time.monotonic() - asked < 3.0
    assert one.signal == signal.SIGKILL
    until(lambda: gone(daemon) and gone(leader), seconds=10)


@pytest.mark.fault("F12")
@BOTH
def test_who_ignores_sigterm_is_killed_when_the_time_is_over_and_not_much_later(launcher, tmp_path):
    ready = tmp_path / "ready"
    procs = sh(launcher, f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done")
    until(ready.exists)
    asked = time.monotonic()
    procs.terminate(0.5).get(20)
    one = only_exit(procs)
    assert 0.5 <= time.monotonic() - asked < 1.5
    assert (one.signal, "terminate" in one.requested) == (signal.SIGKILL, True)


def is_pending(pid, number):
    fields = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)) >> (number - 1) & 1)


@pytest.mark.fault("F14")
@BOTH
def test_a_sigterm_waits_with_a_stopped_process_and_the_sigkill_ends_it(launcher):
    procs = sh(launcher, "exec sleep 1000")
    procs.initialized.get(20)
    until(lambda: procs.statuses().item().pid is not None)
    pid = procs.statuses().item().pid
    until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep"))
    os.kill(pid, signal.SIGSTOP)
    until(lambda: process_state(pid) == "T", "it is stopped")
    asked = time.monotonic()
    ended = procs.terminate(1.0)
    until(lambda: is_pending(pid, signal.SIGTERM))
    ended.get(20)
    one = only_exit(procs)
    assert one.signal == signal.SIGKILL
    assert 1.0 <= time.monotonic() - asked < 11.0


# The kernel shows a process as a zombie once its first thread has ended, whatever the others do.
LEADERLESS = """
import ctypes, os, pathlib, sys, threading, time
def work():
    state = lambda: pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[0]
    while state() != "Z":
        time.sleep(0.01)
    pathlib.Path(sys.argv[1]).touch()
    if os.read(0, 1):
        os._exit(5)
    threading.Event().wait()
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall(60, 0)
"""


@pytest.mark.fault("F17")
@pytest.mark.parametrize("end", ["exit", "kill", "terminate"])
@BOTH
def test_a_process_whose_first_thread_has_ended_lives_and_can_be_killed(launcher, end, tmp_path):
    gate, alone, script = tmp_path / "gate", tmp_path / "alone", tmp_path / "program.py"
    os.mkfifo(gate)
    script.write_text(LEADERLESS)
    procs = sh(launcher, f"exec {sys.executable} {script} {alone} < {gate}")
    opened = os.open(gate, os.O_WRONLY)
    try:
        until(alone.exists)
        pid = procs.statuses().item().pid
        with pytest.raises(TimeoutError):
            procs.wait(1.0).get()
        assert procs.statuses().item().status == "running"
        if end == "exit":
            os.write(opened, b"x")
        else:
            getattr(procs, end)().get(20)
        one = only_exit(procs)
        number = {"exit": None, "kill": signal.SIGKILL, "terminate": signal.SIGTERM}[end]
        assert (one.exit_code, one.signal) == (5 if end == "exit" else None, number)
        until(lambda: not os.path.exists(f"/proc/{pid}"))
    finally:
        os.close(opened)


THIEF = """
import asyncio, os, threading, time
from procession.actor import this_host, this_proc
from procession.launch import supervise

this_proc()  # starts the runtime

def steal():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)

threading.Thread(target=steal, daemon=True).start()
"""

OF_WHAT_IT_SUPERVISES = """
async def main():
    for _ in range(50):
        result = await (await supervise(argv=["/bin/sh", "-c", "exit 7"])).wait()
        if result.exit_code != 7:
            return result
    return result

result = asyncio.run(main())
print(result.exit_code, result.signal, result.failed_reason)
"""


@pytest.mark.fault("F23")
def test_a_status_that_somebody_else_has_waited_for_is_never_made_up(script):
    done = script(THIEF + OF_WHAT_IT_SUPERVISES)
    assert "waitpid(-1)" in done.stdout, done.stdout


@pytest.mark.fault("F23")
def test_a_client_that_waits_for_whatever_ends_costs_native_procs_nothing(script):
    native = """
procs = this_host().spawn_procs({"x": 20}, bootstrap_command=["sh", "-c", "exit 7"], readiness="none")
print({one.exit_code for one in procs.wait(30).get().values()})
"""
    assert script(THIEF + native).stdout == "{7}\n"


@pytest.mark.fault("F33")
@BOTH
def test_a_hundred_terminates_and_kills_at_once_give_one_exit_and_no_error(launcher):
    followed = Followed(launcher, "trap '' TERM; while :; do sleep 0.05; done")
    followed.procs.initialized.get(20)
    asked = [followed.procs.terminate(1.0) if n % 2 else followed.procs.kill() for n in range(100)]
    for future in asked:
        future.get(20)
    (one,) = followed.exits()
    assert one.kind == "signaled"


@pytest.mark.fault("F34")
def test_of_five_hundred_procs_two_hundred_that_die_in_one_moment_are_all_told_at_once():
    followed = Followed(None, "exec sleep 1000", per_host={"x": 500})
    procs = followed.procs
    procs.initialized.get(60)
    pids = [status.pid for status in procs.statuses().values()][:200]
    killed = time.time()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    exits = list(procs.slice(x=slice(0, 200)).wait(60).get().values())
    assert [one.signal for one in exits] == [signal.SIGKILL] * 200
    delays = sorted(one.ended_at - killed for one in exits)
    assert delays[197] < 10.0, delays[190:]
    procs.stop().get(60)
    assert len(followed.exits()) == 500
