"""The launcher for virtual machines, with real ones: every proc boots a kernel of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from guest import Guest

import procession.actor
from launching import until
from procession.actor import this_host
from procession.errors import InvalidArgument, LauncherUnavailable, SupervisionError
from procession.launchers import Vm

IMAGE = os.environ["VM_IMAGE"]
pytestmark = pytest.mark.timeout(600)
BOOT = 240
"""Seconds that a guest may take here until its proc answers."""


def machines(state):
    """The pids of those QEMUs that have their sockets below `state`, and the directories of guests there."""
    pids = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"qemu" in words[0] and any(str(state).encode() in word for word in words):
            pids.append(int(cmdline.parent.name))
    return pids, sorted(path.name for path in Path(state).glob("*/"))


@pytest.fixture(autouse=True)
def _deaths_are_expected(monkeypatch):
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", lambda failure: None, raising=False)


@pytest.fixture(scope="module")
def state():
    with tempfile.TemporaryDirectory(prefix="vm") as path:
        yield path


@pytest.fixture
def vm(state):
    """Guests without KVM, which not every machine has; afterwards none is left, and nothing of them."""
    launcher = Vm(IMAGE, accel="tcg", state_dir=state, options=["-m", "384M"])
    yield launcher
    until(lambda: machines(state) == ([], []), "nothing is left", seconds=20)


def spawn(launcher, count=1, **more):
    return this_host().spawn_procs({"workers": count}, launcher=launcher, **{"ready_timeout": BOOT, **more})


def program(launcher, code, **more):
    command = ["python3", "-c", code]
    return spawn(launcher, bootstrap_command=command, readiness="none", ready_timeout=30, **more)


def the_exit(procs, seconds=BOOT):
    [exit] = procs.wait().get(seconds).values()
    return exit


def test_two_procs_run_below_kernels_of_their_own_and_calls_reach_them_without_any_network(vm, state):
    with spawn(vm, 2) as procs:
        guests = procs.spawn("guest", Guest)
        found = list(guests.kernel.call().get(BOOT).values())
        assert os.uname().release not in {release for release, _ in found}
        assert list(guests.cards.call().get(60).values()) == [["lo"]] * 2
        payload = os.urandom(2_000_000)
        assert list(guests.echo.call(payload).get(120).values()) == [payload] * 2
        pids, names = machines(state)
        assert (len(pids), len(names)) == (2, 2)
        assert sorted(status.handle for status in procs.statuses().values()) == names
        assert {(found.running, found.left_over) for found in vm.list()} == {(True, False)}
    assert [(exit.kind, exit.exit_code, exit.launcher) for exit in procs.exits().values()] == [("exited", 0, "vm")] * 2


def test_a_program_ends_as_it_ends_with_its_output_apart(vm):
    code = "import sys, os; print(os.environ['WORD'], os.getcwd()); print('err', file=sys.stderr); sys.exit(7)"
    with tempfile.TemporaryDirectory() as logs:
        procs = program(vm, code, env={"WORD": "out"}, cwd="/usr", log_dir=logs)
        exit = the_exit(procs)
        assert (exit.kind, exit.exit_code, exit.oom) == ("exited", 7, False)
        written = {path.name.rpartition(".")[2]: path.read_text() for path in Path(logs).rglob("*") if path.is_file()}
        assert sorted(written.values()) == ["err\n", "out /usr\n"]


def test_what_has_no_more_memory_than_it_may_is_told_as_such_and_its_guest_has_more(vm):
    limits = {"memory": "96M", "cpu": 1.5}
    with spawn(Vm(**{**vm.config, "memory": 128 << 20, "options": []}), resources=limits) as procs:
        guest = procs.spawn("guest", Guest)
        total, limit = guest.memory.call_one().get(BOOT)
        assert limit == str(96 << 20)
        assert 256 < total <= 96 + 256
        assert guest.processors.call_one().get(60) == 2
        with pytest.raises(SupervisionError):
            guest.exhaust.call_one().get(BOOT)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.oom) == ("signaled", 9, True)


def test_a_kernel_that_panics_is_told_as_such(vm):
    with spawn(vm) as procs:
        guest = procs.spawn("guest", Guest)
        guest.kernel.call_one().get(BOOT)
        guest.panic.call_one().get(60)
        exit = the_exit(procs)
    assert exit.kind == "lost"
    assert exit.failed_reason.endswith("the guest's kernel has panicked: not syncing: sysrq triggered crash")


def test_a_guest_that_is_stopped_is_unknown_and_a_kill_ends_it(vm, state):
    with spawn(vm) as procs:
        procs.spawn("guest", Guest).kernel.call_one().get(BOOT)
        [pid], _ = machines(state)
        os.kill(pid, signal.SIGSTOP)
        until(
            lambda: [one.status for one in procs.statuses().values()] == ["unknown"], "it does not answer", seconds=60
        )
        procs.kill().get(60)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal) == ("signaled", 9)


def test_a_terminate_reaches_the_proc_in_its_guest_and_a_kill_a_guest_that_boots(vm, state):
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(5)); print('armed', flush=True); time.sleep(600)"
    with tempfile.TemporaryDirectory() as logs:
        procs = program(vm, code, log_dir=logs, stop_grace=60)
        armed = lambda: any("armed" in path.read_text() for path in Path(logs).rglob("*") if path.is_file())  # noqa: E731
        until(armed, "it waits for a signal", seconds=BOOT)
        procs.stop().get(60)
        assert the_exit(procs).exit_code == 5
    booting = program(vm, "pass")
    until(lambda: any("boots" in (one.progress or "") for one in booting.statuses().values()), "it boots")
    until(lambda: machines(state)[0], "its machine runs")
    began = time.monotonic()
    booting.kill().get(60)
    exit = the_exit(booting)
    assert (exit.kind, "cancelled before it was started" in exit.failed_reason) == ("failed", True)
    assert time.monotonic() - began < 30


CLIENT = """
import sys
from procession.actor import this_host
from procession.launchers import Vm

image, state = sys.argv[1:]
launcher = Vm(image, accel="tcg", state_dir=state)
procs = this_host().spawn_procs({"w": 1}, launcher=launcher, readiness="none", bootstrap_command=["python3", "-c", "import time; time.sleep(900)"])
procs.wait().get()
"""


def test_a_client_that_is_killed_leaves_no_machine_and_what_it_leaves_is_taken_away(vm, state):
    client = subprocess.Popen([sys.executable, "-c", CLIENT, IMAGE, state])
    try:
        until(lambda: machines(state)[0], "its machine runs", seconds=60)
    finally:
        client.kill()
        client.wait()
    until(lambda: not machines(state)[0], "its machine is gone")
    [left] = vm.list()
    assert (left.running, left.left_over) == (False, True)
    vm.remove(left.handle)
    assert vm.list() == []
    with pytest.raises(LauncherUnavailable):
        vm.remove(left.handle)


def test_a_machine_of_a_session_that_lives_is_removed_by_its_handle(vm, state):
    procs = program(vm, "import time; time.sleep(900)")
    until(lambda: machines(state)[0], "its machine runs", seconds=60)
    until(lambda: [found.running for found in vm.list()] == [True], "it is seen to run")
    Vm(IMAGE, state_dir=state).remove(vm.list()[0].handle)
    assert the_exit(procs).kind in ("failed", "lost")


def test_what_cannot_be_had_says_so(vm, tmp_path):
    empty = tmp_path / "empty.img"
    empty.write_bytes(b"\0" * (1 << 20))
    exit = the_exit(program(Vm(empty, accel="tcg", state_dir=vm.config["state_dir"]), "pass"))
    assert exit.kind == "failed"
    assert "the image cannot be mounted as ext4" in exit.failed_reason
    exit = the_exit(program(Vm(IMAGE, accel="tcg", agent=["nobody"], state_dir=vm.config["state_dir"]), "pass"))
    assert "the agent, nobody, cannot be started in the image" in exit.failed_reason
    exit = the_exit(
        program(Vm(IMAGE, options=["-cpu", "no-such"], accel="tcg", state_dir=vm.config["state_dir"]), "pass")
    )
    assert "no-such" in exit.failed_reason
    for wrong, rule in {"image": "/no/such/image", "kernel": "/no/such/kernel", "modules": str(tmp_path)}.items():
        with pytest.raises(InvalidArgument, match=wrong):
            Vm(**{"image": IMAGE, wrong: rule}).connect()
    with pytest.raises(LauncherUnavailable, match="install QEMU"):
        Vm(IMAGE, qemu="no-such-qemu").connect()
    with pytest.raises(InvalidArgument, match='pass "auto", "kvm" or "tcg"'):
        Vm(IMAGE, accel="hvf")


def test_a_guest_has_a_network_where_it_is_asked_for_and_its_image_is_never_written(vm):
    before = Path(IMAGE).stat().st_mtime_ns
    with spawn(Vm(**{**vm.config, "network": "user"})) as procs:
        guest = procs.spawn("guest", Guest)
        assert guest.cards.call_one().get(BOOT) == ["eth0", "lo"]
        assert guest.write.call_one("/srv-of-a-guest").get(60)
    assert Path(IMAGE).stat().st_mtime_ns == before


def test_where_it_is_not_known_whether_kvm_works_it_is_tried_and_noted(vm, state):
    launcher = Vm(IMAGE, state_dir=state)
    assert the_exit(program(launcher, "print('it ran')")).exit_code == 0
    probe = launcher.probe()
    assert "QEMU emulator version" in probe
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        [works] = json.loads(Path(state, "accelerators.json").read_text()).values()
        assert ("KVM," if works else "TCG,") in probe


def test_it_is_had_from_the_command_line_by_its_name(state):
    environ = {**os.environ, "HOME": state}
    command = [
        sys.executable,
        "-m",
        "procession",
        "run",
        "--launcher",
        f"vm:{IMAGE}",
        "python3",
        "-c",
        "print('in a guest')",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOOT, env=environ)
    assert done.returncode == 0, done.stderr
    assert "[0] in a guest" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "procession", "gc", "--launcher", "vm"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
