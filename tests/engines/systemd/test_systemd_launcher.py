"""The launcher for systemd against real managers: every proc is a transient unit."""

import json
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from probe import Owner, Probe

from capabilities import need, python_of_others
from cut import way
from managers import environment_files, shown, systemctl, units
from procession.actor import SupervisionError, this_host
from procession.errors import InvalidArgument, LauncherUnavailable
from procession.launch import BootstrapCommand
from procession.launchers import Systemd

GROUPS = Path("/sys/fs/cgroup")
HEARS_OF_OOM = (GROUPS / "cgroup.controllers").exists()
BOTH = pytest.mark.parametrize("bus", ["user", "system"])


@pytest.fixture(scope="module", autouse=True)
def what_stays():
    """The host's port for procs of other users, and the connection for all launches by actors: they live as long as it does."""
    the_exit(spawn(bus="system", user=65534, bootstrap_command=["/bin/true"], cwd="/"))
    with this_host().spawn_procs(per_host={"owner": 1}) as owners:
        owners.spawn("owner", Owner, Systemd(), Probe).launch.call_one().get(timeout=50)


@pytest.fixture
def open_directory():
    """One that other users can enter."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def spawn(count: int = 1, bus: str = "user", launcher: Systemd | None = None, **more):
    return this_host().spawn_procs(per_host={"workers": count}, launcher=launcher or Systemd(bus), **more)


def program(code: str, **more):
    """One program that does not call back."""
    return spawn(bootstrap_command=["/bin/sh", "-c", code], readiness="none", **more)


def the_exit(procs):
    [(_, exit)] = procs.wait(timeout=30).get().items()
    return exit


def lines_of(procs, count: int) -> list[str]:
    lines = iter(procs.logs(follow=True))
    return [next(lines).partition("] ")[2] for _ in range(count)]


@BOTH
def test_actors_in_units_are_reached(bus):
    with spawn(3, bus) as procs:
        probes = procs.spawn("probes", Probe)
        places = [place for _, place in probes.place.call().get(timeout=50).items()]
        assert [rank for rank, _, _ in places] == [0, 1, 2]
        assert {network for _, _, network in places} == {os.readlink("/proc/self/ns/net")}
        assert sorted(units(bus)) == sorted(status.handle for _, status in procs.statuses().items())
        labels = dict(line.split("=") for line in shown(units(bus)[0], "LogExtraFields", bus).split())
        assert list(labels) == [
            f"PROCESSION_{name}" for name in ("PROC", "SESSION", "INCARNATION", "OWNER", "PROCESS", "LEASE")
        ]
    exits = [exit for _, exit in procs.exits().items()]
    assert labels["PROCESSION_PROC"] in {exit.proc_id for exit in exits}
    assert [(exit.kind, exit.exit_code) for exit in exits] == [("exited", 0)] * 3


def test_a_program_is_run_in_a_unit_from_the_command_line():
    command = [sys.executable, "-m", "procession", "run", "--launcher", "systemd", "-n", "2", "--"]
    done = subprocess.run(
        [*command, "sh", "-c", "cat /proc/self/cgroup | grep -c procession-; exit 3"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 3, done.stderr
    assert sorted(line[:4] for line in done.stdout.splitlines()) == ["[0] ", "[1] "]
    assert all(int(line[4:]) > 0 for line in done.stdout.splitlines())


def test_a_manager_says_what_it_is():
    assert Systemd("user").probe().startswith("systemd 2")
    assert Systemd("user").probe().endswith(f" of user {os.getuid()}")
    assert Systemd("system").probe().endswith(" of the system")
    listed = subprocess.run(
        [sys.executable, "-m", "procession", "launchers"], capture_output=True, text=True, timeout=50
    )
    for name in ("user", "system"):
        assert [line.split()[2] for line in listed.stdout.splitlines() if f"systemd:{name} " in line] == ["ok"]


@BOTH
@pytest.mark.parametrize("code", [0, 7, 143, 255])
def test_the_exact_code_and_the_last_words_come_back(bus, code):
    exit = the_exit(program(f"echo out; echo last words >&2; exit {code}", bus=bus))
    assert (exit.kind, exit.exit_code, exit.requested) == ("exited", code, None)
    assert (exit.stdout_tail, exit.stderr_tail) == (["out"], ["last words"])
    assert exit.started_at <= exit.ended_at


@pytest.mark.parametrize("number", [6, 9, 15])
def test_a_signal_comes_back(number):
    with spawn() as procs:
        with pytest.raises(SupervisionError):
            procs.spawn("probes", Probe).signal.call(number).get(timeout=50)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.requested) == ("signaled", number, None)
    assert exit.stderr_tail[-1] == "last words"


@BOTH
def test_a_unit_over_its_memory_is_killed_and_told_as_far_as_the_manager_knows(bus):
    with spawn(bus=bus, resources={"memory": 96 << 20}) as procs:
        procs.spawn("probes", Probe).fill_memory.broadcast()
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.oom) == ("signaled", 9, True if HEARS_OF_OOM else None)
    assert "memory" in exit.verdict or not HEARS_OF_OOM


def test_limits_are_those_of_the_control_group():
    procs = program("echo up; sleep 60", bus="system", resources={"memory": 64 << 20, "pids": 9, "cpu": 0.5})
    assert lines_of(procs, 1) == ["up"]
    [unit] = units("system")
    group = shown(unit, "ControlGroup", "system")
    names = {"memory": "memory.limit_in_bytes", "pids": "pids.max", "cpu": "cpu.cfs_quota_us"}
    if HEARS_OF_OOM:
        found = [(GROUPS / group[1:] / name).read_text() for name in ("memory.max", "pids.max", "cpu.max")]
    else:
        found = [(GROUPS / controller / group[1:] / name).read_text() for controller, name in names.items()]
    assert [text.split()[0] for text in found] == [str(64 << 20), "9", "50000"]
    procs.kill().get(timeout=30)
    the_exit(procs)


OF_ANOTHER_USER = """
import sys
sys.path.insert(0, sys.argv[1])
from procession.actor import this_host
from procession.errors import InvalidArgument
from procession.launchers import Systemd
launcher = Systemd("unix:path=/run/user/65534/bus")
given = {"launcher": launcher, "bootstrap_command": ["/bin/sh", "-c", "id -u; exit 4"], "readiness": "none"}
procs = this_host().spawn_procs({"w": 1}, **given)
[(_, exit)] = procs.wait(timeout=30).get().items()
print(exit.exit_code, exit.stdout_tail)
for name, given["resources"] in {"memory": {"memory": "64M"}, "pids": {"pids": 9}, "cpu": {"cpu": 0.5}}.items():
    try:
        this_host().spawn_procs({"w": 1}, **given)
    except InvalidArgument as error:
        print(error.field)
"""


def test_a_limit_that_the_manager_of_a_user_cannot_hold_is_refused_before_anything_starts(open_directory):
    if HEARS_OF_OOM:
        pytest.skip("with control groups of version 2 a user's manager has controllers")
    python, env = python_of_others(open_directory)
    as_nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
        "XDG_RUNTIME_DIR=/run/user/65534",
    ]
    command = [*as_nobody, "PROCESSION_STATE_DIR=", python, "-c", OF_ANOTHER_USER, env["PYTHONPATH"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd="/")
    assert done.stdout.splitlines()[0] == "4 ['65534']", done.stderr
    assert done.stdout.splitlines()[1:] == [f'resources["{name}"]' for name in ("memory", "pids", "cpu")]


def test_what_is_asked_of_a_unit_is_what_it_has(open_directory):
    launcher = Systemd("system", slice="training.slice", patch={"Nice": 5, "IOWeight": 50, "Description": "patched"})
    procs = program(
        'pwd; printf "%s\\n" "$A"; echo "$0 $B"; ulimit -n; nice; grep -E "NoNewPrivs|CapBnd" /proc/self/status; sleep 60',
        launcher=launcher,
        rlimits={"nofile": 256},
        security={"no_new_privs": True, "drop_capabilities": "all"},
        cwd=str(open_directory),
        env={"A": "b  'c' \"d\" $HOME `e` \\f\tg"},
    )
    pwd, value, words, files, nice, bounding, privileges = lines_of(procs, 7)
    assert (pwd, value) == (str(open_directory), "b  'c' \"d\" $HOME `e` \\f\tg")
    assert (words, files, nice) == ("sh ", "256", "5")
    assert (privileges.split(), bounding.split()) == (["NoNewPrivs:", "1"], ["CapBnd:", "0" * 16])
    [unit] = units("system")
    names = ("Slice", "Nice", "IOWeight", "Description", "Type", "KillMode", "TimeoutStopUSec")
    expected = ["training.slice", "5", "50", "patched", "exec", "control-group", "infinity"]
    assert [shown(unit, name, "system") for name in names] == expected
    procs.kill().get(timeout=30)
    the_exit(procs)


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"Nicee": 5}, "has no property of that name"),
        ({"Nice": "low"}, "its type on D-Bus is i"),
        ({"MemoryMax": -1}, "its type on D-Bus is t"),
    ],
)
def test_a_patch_that_is_no_property_fails_the_launch_by_its_name(patch, words):
    exit = the_exit(program("true", launcher=Systemd(patch=patch)))
    assert exit.kind == "failed"
    assert f'patch["{next(iter(patch))}"]' in exit.failed_reason
    assert words in exit.failed_reason


def test_no_value_of_the_environment_can_be_read_by_others():
    with spawn(bus="system", env={"CANARY": "value of the canary"}) as procs:
        inside = procs.spawn("probes", Probe).environment.call_one().get(timeout=50)
        assert inside["CANARY"] == "value of the canary"
        [unit] = units("system")
        everything = systemctl("system", "show", unit) + systemctl("system", "cat", unit)
        assert "value of the canary" not in everything
        assert "PROCESSION_BOOTSTRAP" not in everything
        assert environment_files() == []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert b"value of the canary" not in process.read_bytes()
            except OSError:
                continue


def test_the_file_with_the_environment_is_for_its_user_alone(open_directory):
    # It is there until systemd has begun with the program, which waits for a directory that is a pipe nobody writes to.
    os.mkfifo(open_directory / "env")
    launcher = Systemd(patch={"EnvironmentFiles": [[str(open_directory / "env"), False]]})
    procs = program("true", launcher=launcher)
    end = time.monotonic() + 20
    while not environment_files() and time.monotonic() < end:
        time.sleep(0.01)
    [path] = environment_files()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (open_directory / "env").write_text("")
    assert the_exit(procs).exit_code == 0


def test_a_cleared_environment_has_what_was_given_alone():
    exit = the_exit(program("exec /usr/bin/env", clear_env=True, env={"A": "b", "PATH": "/bin"}))
    names = {line.partition("=")[0] for line in exit.stdout_tail}
    assert {name for name in names if not name.startswith("PROCESSION_")} - {"NOTIFY_SOCKET", "PWD"} == {
        "A",
        "PATH",
    } | (names & {"RANK", "LOCAL_RANK", "WORLD_SIZE", "OLDPWD", "SHLVL", "_"})
    exit = the_exit(program("exec /usr/bin/env", env={"LANG": None}))
    assert not [line for line in exit.stdout_tail if line.startswith("LANG=")]
    assert [line for line in exit.stdout_tail if line.startswith("PATH=")]


def test_terminate_reaches_the_program_and_kill_ends_what_ignores_it():
    procs = program("trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done")
    assert lines_of(procs, 1) == ["up"]
    procs.terminate(30).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.exit_code) == ("exited", 4)
    assert "terminate" in exit.requested
    procs = program("trap '' TERM; echo up; while :; do sleep 0.05; done")
    assert lines_of(procs, 1) == ["up"]
    procs.terminate(0.2).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.signal) == ("signaled", 9)


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:4]
    except OSError:
        return False


def gone(pid: int) -> bool:
    end = time.monotonic() + 10
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(pid)


# One that has left its session, its parents and its environment behind, and ignores SIGTERM.
DAEMON = "setsid env -i /bin/sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & "


@BOTH
def test_a_kill_reaches_what_has_left_its_session(bus):
    procs = program(f"{DAEMON} sleep 60", bus=bus)
    [pid] = map(int, lines_of(procs, 1))
    assert alive(pid)
    procs.kill().get(timeout=30)
    assert (the_exit(procs).signal, gone(pid)) == (9, True)


@BOTH
@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -TERM $$"])
def test_what_is_left_of_a_tree_ends_with_its_leader(bus, end):
    procs = program(f"{DAEMON} sleep 0.2; {end}", bus=bus)
    [pid] = map(int, lines_of(procs, 1))
    exit = the_exit(procs)
    assert (exit.exit_code, exit.signal) == {"exit 0": (0, None), "exit 3": (3, None)}.get(end, (None, 15))
    assert gone(pid)


def test_twenty_units_are_killed_at_once():
    with spawn(20) as procs:
        procs.initialized.get(timeout=55)
        procs.kill().get(timeout=30)
        exits = [exit for _, exit in procs.wait(timeout=50).get().items()]
    assert [(exit.kind, exit.signal) for exit in exits] == [("signaled", 9)] * 20


def test_a_kill_that_comes_before_the_unit_is_there_ends_it():
    procs = program("sleep 60")
    procs.kill().get(timeout=30)
    exit = the_exit(procs)
    assert "kill" in exit.requested
    assert (exit.kind, exit.signal) == ("signaled", 9) or "before it was started" in exit.verdict


def test_where_no_bus_answers_there_is_no_launcher_and_the_reason_has_the_address():
    with pytest.raises(LauncherUnavailable, match='no systemd answers on bus "unix:path=/nowhere"'):
        Systemd("unix:path=/nowhere").connect()


def test_a_user_of_whom_no_bus_is_known_is_told_where_one_was_looked_for(monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus")
        with pytest.raises(LauncherUnavailable, match="/nowhere/bus"):
            Systemd().connect()


@pytest.mark.parametrize("code", [0, 6])
def test_a_bus_that_is_cut_makes_a_proc_unknown_and_its_end_comes_when_it_is_mended(open_directory, code):
    bus = os.environ["DBUS_SESSION_BUS_ADDRESS"].removeprefix("unix:path=")
    with way(open_directory / "bus", bus) as to_bus:
        launcher = Systemd(f"unix:path={to_bus.path}")
        wait = f"while [ ! -e {open_directory}/end ]; do sleep 0.02; done"
        procs = program(f"echo first; {wait}; echo last; exit {code}", launcher=launcher)
        lines = iter(procs.logs(follow=True))
        assert next(lines).endswith("first")
        to_bus.cut()
        next(status for status in watched(procs) if status == "unknown")
        assert procs.exits().item(workers=0) is None
        (open_directory / "end").touch()
        assert next(lines).endswith("last")
        to_bus.mend()
        exit = the_exit(procs)
    assert (exit.kind, exit.exit_code, exit.stdout_tail) == ("exited", code, ["first", "last"])


def test_a_launch_while_the_bus_is_cut_fails_at_once_and_the_next_when_it_is_mended_does_not(open_directory):
    bus = os.environ["DBUS_SESSION_BUS_ADDRESS"].removeprefix("unix:path=")
    with way(open_directory / "bus", bus) as to_bus:
        launcher = Systemd(f"unix:path={to_bus.path}").connect()
        to_bus.cut()
        exit = the_exit(program("true", launcher=launcher))
        assert exit.kind == "failed"
        assert "the bus of systemd does not answer" in exit.failed_reason
        to_bus.mend()
        assert the_exit(program("exit 5", launcher=launcher)).exit_code == 5


def watched(procs):
    """The statuses of a proc, as they come."""
    while True:
        yield procs.statuses().item(workers=0).status
        time.sleep(0.02)


def test_a_launcher_has_one_connection_and_one_subscription_however_many_procs_it_has():
    launcher = Systemd("user").connect()
    sockets = open_sockets()
    with spawn(5, launcher=launcher, bootstrap_command=["/bin/sleep", "60"], readiness="none") as procs:
        while len(units()) < 5:
            time.sleep(0.02)
        assert open_sockets() == sockets
        procs.kill().get(timeout=30)


def open_sockets() -> int:
    """How many connections there are to the bus."""
    listed = subprocess.run(["busctl", "--user", "--json=short", "list"], check=True, capture_output=True, text=True)
    return sum(one["pid"] == os.getpid() for one in json.loads(listed.stdout) if one["name"].startswith(":"))


@BOTH
@pytest.mark.parametrize("path", ["/no/such/program", "no-such-program", "/"])
def test_a_program_that_is_not_there_fails_the_launch_in_the_words_of_systemd(bus, path):
    exit = the_exit(spawn(bus=bus, bootstrap_command=[path], readiness="none"))
    assert exit.kind == "failed"
    assert f'could not execute "{path}": its unit ended with status 203/EXEC' in exit.failed_reason


def test_a_directory_that_is_not_there_fails_the_launch():
    exit = the_exit(program("true", cwd="/no/such/directory"))
    assert exit.kind == "failed"
    assert "200/CHDIR" in exit.failed_reason


def test_a_slice_that_systemd_does_not_take_fails_the_launch_in_its_words():
    exit = the_exit(program("true", launcher=Systemd(slice="a--b.slice")))
    assert exit.kind == "failed"
    assert "a--b.slice" in exit.failed_reason


def test_units_of_an_actor_end_with_it():
    with this_host().spawn_procs(per_host={"owner": 1}) as owners:
        owner = owners.spawn("owner", Owner, Systemd(), Probe)
        assert owner.launch.call_one().get(timeout=50) == 2
        assert len(units()) == 2
        owner.stop().get(timeout=50)
        assert units() == []


def test_another_user_has_its_number_and_its_groups():
    user = {"bus": "system", "user": (65534, 65534)}
    exit = the_exit(program("id -u; id -g; id -G", cwd="/", **user))
    assert exit.stdout_tail == ["65534", "65534", "65534"]
    with pytest.raises(InvalidArgument, match="user"):
        program("true", user=(65534, 65534))


def test_a_proc_of_another_user_calls_back(open_directory):
    need("change-user")
    python, env = python_of_others(open_directory)
    code = f"import sys; sys.path.insert(0, {env['PYTHONPATH']!r}); from procession._proc_main import main; sys.exit(main())"
    command = BootstrapCommand(python, args=["-c", code])
    with spawn(bus="system", user=65534, bootstrap_command=command, cwd="/") as procs:
        assert procs.spawn("probes", Probe).environment.call_one().get(timeout=50)["USER"] == "nobody"


def test_a_user_that_systemd_does_not_know_fails_the_launch():
    exit = the_exit(program("true", bus="system", user=(54321, 54321)))
    assert exit.kind == "failed"
    assert "217/USER" in exit.failed_reason


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("bus", {"bus": "session"}),
        ("slice", {"slice": "training"}),
        ("launches_at_once", {"launches_at_once": 0}),
        ("patch", {"patch": ["Nice"]}),
    ],
)
def test_what_is_no_configuration_is_refused_before_anything_starts(field, more):
    with pytest.raises(InvalidArgument) as refused:
        Systemd(**more).connect()
    assert refused.value.field == field


def test_what_units_cannot_do_is_refused():
    with pytest.raises(InvalidArgument, match="proc_bind"):
        spawn(proc_bind=[{"cpus": "0"}])
    exit = the_exit(program("true", security={"seccomp": b"\x06\x00\x00\x00\x00\x00\xff\x7f"}))
    assert exit.kind == "failed"
    assert "SystemCallFilter" in exit.failed_reason
    exit = the_exit(program("true", env={"A.B": "c"}))
    assert exit.kind == "failed"
    assert "A.B" in exit.failed_reason


def found(launcher: Systemd) -> list:
    waiter = launcher._connected().list()
    assert waiter.wait(20)
    return waiter.result()


def test_what_a_client_that_was_killed_has_left_is_found_by_its_labels_and_removed():
    source = (
        "from procession.actor import this_host\nfrom procession.launchers import Systemd\n"
        "command = ['/bin/sh', '-c', 'echo up; trap \"\" TERM; while :; do sleep 0.05; done']\n"
        "procs = this_host().spawn_procs({'w': 1}, launcher=Systemd(), bootstrap_command=command, readiness='none')\n"
        "print(next(iter(procs.logs(follow=True))), flush=True)\ninput()\n"
    )
    client = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline().endswith("up\n")
    launcher = Systemd()
    [(handle, running, left_over, labels)] = found(launcher)
    assert (handle, running, left_over) == (units()[0], True, False)
    assert labels["procession.process"].split(":")[2] == str(client.pid)
    client.kill()
    client.communicate()
    [(again, _, left_over, same)] = found(launcher)
    assert (again, left_over, same) == (handle, True, labels)
    launcher.remove(handle)
    assert (found(launcher), units()) == ([], [])
