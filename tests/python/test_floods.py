"""Output beyond what anybody wants to read: it costs bounded memory, and what is not passed on is counted."""

import os
import re
import signal
import time

import pytest

from launching import exit_told_once, only_exit, spawn
from procession.launch import ProcExitResult, ProcLauncher

# 1024 is what the matrix asks for; a soak sets it.
MIB = int(os.environ.get("SOAK_STDERR_MIB", "256"))
LINES = 1_000_000

GROWTH = """
    import sys
    from procession.actor import this_host

    def memory(field):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(field)) << 10

    files = {"log_dir": sys.argv[2], "log_max_bytes": 8 << 20, "log_keep": 1} if len(sys.argv) > 2 else {}

    def run_on_stderr(size):
        command = ["/bin/sh", "-c", f"exec head -c {size} /dev/zero >&2"]
        return this_host().spawn_procs(bootstrap_command=command, readiness="none", **files).wait(50).get().item()

    run_on_stderr(1 << 20)
    before = memory("VmRSS")
    one = run_on_stderr(int(sys.argv[1]) << 20)
    assert one.exit_code == 0 and one.log_dropped_bytes == 0, one
    assert len(one.stderr_tail) == 1 and one.stderr_tail[0].endswith("[…cut]")
    print(memory("VmHWM") - before)
"""


@pytest.mark.fault("F65")
@pytest.mark.parametrize("files", [False, True])
def test_output_without_a_line_end_costs_bounded_memory_and_is_marked_as_cut(script, tmp_path, files):
    grown = int(script(GROWTH, str(MIB), *[str(tmp_path / "logs")] * files).stdout)
    assert grown <= 16 << 20
    if files:
        sizes = [path.stat().st_size for path in (tmp_path / "logs").iterdir() if ".err" in path.name]
        assert sorted(sizes) == [1 << 20, 8 << 20, 8 << 20]


@pytest.mark.fault("F66")
def test_what_a_follower_does_not_keep_up_with_is_counted_exactly_and_holds_up_nobody(tmp_path):
    gate = tmp_path / "gate"
    command = f"while [ ! -e {gate} ]; do sleep 0.01; done; yes | head -n {LINES}"
    with spawn(None, "sleep 1000") as other, spawn(None, command, log_dir=tmp_path / "logs") as procs:
        lines = procs.logs(follow=True)
        gate.touch()
        other.initialized.get(30)
        os.kill(other.statuses().item().pid, signal.SIGKILL)
        assert other.wait(30).get().item().signal == signal.SIGKILL
        one = only_exit(procs)
        assert os.path.getsize(one.stdout_path) == 2 * LINES
        seen = dropped = 0
        for line in lines:
            gap = re.fullmatch(r"\[0\] … (\d+) lines of stdout were not kept up with", line)
            dropped += int(gap[1]) if gap else 0
            seen += line == "[0] y"
    assert dropped > 0
    assert seen + dropped == LINES


TAILS = {
    "many": lambda: [f"line {number}" for number in range(1_000_000)],
    "long": lambda: ["x" * (100 << 20)],
    "odd": lambda: ["lone \ud800 surrogate", "NUL \0", "\x1b[31mred", "two\nlines"],
    "wide": lambda: ["y" * 4000] * 10_000,
}


class WithTail(ProcLauncher):
    """Reports the tail that its environment names."""

    def launch(self, exit_port, proc_id, opts):
        exit_port.send(ProcExitResult(7, None, False, None, TAILS[opts.env["TAIL"]]()))

    def terminate(self, proc_id, timeout_secs): ...
    def kill(self, proc_id): ...


@pytest.mark.fault("F46")
@pytest.mark.parametrize("tail", list(TAILS))
def test_no_tail_costs_the_exit_code_or_more_than_a_tail_may(tail):
    one = exit_told_once(WithTail, env={"TAIL": tail})
    assert one.exit_code == 7
    assert 0 < sum(len(line.encode()) for line in one.stderr_tail) <= (1 << 20) + 10_000
    assert all(len(line.encode()) <= 4096 + len(" […cut]".encode()) for line in one.stderr_tail)
    if tail == "many":
        assert one.stderr_tail[-1] == "line 999999"
        assert len(one.stderr_tail) <= 10_000
    if tail == "odd":
        assert len(one.stderr_tail) == 4
        assert one.stderr_tail[1:3] == ["NUL \0", "\x1b[31mred"]


@pytest.mark.fault("F69")
def test_odd_bytes_are_lines_for_people_and_raw_in_the_file(tmp_path):
    # A character cut in two by a pause, a BOM, a CR alone and one before its LF, NUL, an escape, what is no UTF-8.
    pieces = [b"\xef\xbb\xbfbom\n", b"\xf0\x9f", b"\x8c\x8d\n", b"a\rb\r\n", b"n\0l\n", b"\x1b[1mbold\n", b"\xff\xfe"]
    octal = ["".join(f"\\{byte:03o}" for byte in piece) for piece in pieces]
    # Each is read alone: what has been read is in the file.
    sizes = [sum(map(len, pieces[: n + 1])) for n in range(len(pieces))]
    read = f"until [ $(cat {tmp_path}/logs/*.out | wc -c) = {{}} ]; do sleep 0.01; done"
    command = "; ".join(f"printf '{piece}'; {read.format(size)}" for piece, size in zip(octal, sizes, strict=True))
    one = only_exit(spawn(None, command, log_dir=tmp_path / "logs"))
    with open(one.stdout_path, "rb") as file:
        assert file.read() == b"".join(pieces)
    assert one.stdout_tail == ["\ufeffbom", "\U0001f30d", "a\rb", "n\0l", "\x1b[1mbold", "\ufffd\ufffd"]


@pytest.mark.fault("F71")
def test_an_ordinary_user_with_small_pipes_is_told_the_sysctl_and_loses_nothing(script, tmp_path):
    if os.getuid() != 0:
        pytest.skip("capability: change-user")
    (tmp_path / "run").mkdir(mode=0o777)
    os.chmod(tmp_path, 0o711)
    source = """
        import ctypes, fcntl, os, sys
        import procession._exits, procession._host_mesh, procession._logs, procession.launch
        from procession.actor import this_host

        own = os.environ["XDG_RUNTIME_DIR"] = sys.argv[1]
        os.chown(own, 61234, 61234)
        os.setgroups([])
        os.setresgid(61234, 61234, 61234)
        os.setresuid(61234, 61234, 61234)
        os.chdir("/")
        ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: else /proc/self is root's
        pipes, small = [], False
        while not small:
            pipes.append(os.pipe())
            try:
                fcntl.fcntl(pipes[-1][0], fcntl.F_SETPIPE_SZ, 1 << 20)
            except PermissionError:
                pass
            small = fcntl.fcntl(pipes[-1][0], fcntl.F_GETPIPE_SZ) < 65536
        command = ["/bin/sh", "-c", "seq 1 20000"]
        with this_host().spawn_procs(per_host={"x": 40}, bootstrap_command=command, readiness="none") as procs:
            ends = [one for _, one in procs.wait(50).get().items()]
        assert all(one.exit_code == 0 and one.stdout_tail[-1] == "20000" for one in ends), ends
        print(fcntl.fcntl(pipes[-1][0], fcntl.F_GETPIPE_SZ))
    """
    os.chmod(tmp_path / "run", 0o777)
    done = script(source, str(tmp_path / "run"))
    assert int(done.stdout) < 65536
    assert done.stderr.count("fs.pipe-user-pages-soft") == 1


def test_exits_are_seen_while_nobody_reads_what_another_proc_writes():
    with spawn(None, "yes") as writer:
        unread = writer.logs(follow=True)
        deadline = time.monotonic() + 50
        for _ in range(20):
            assert only_exit(spawn(None, "exit 3")).exit_code == 3
        assert time.monotonic() < deadline
        assert next(iter(unread)) == "[0] y"
