"""Launchers by name: the built-in ones, entry points of installed distributions, and classes in modules."""

import json
import os
import socket
import subprocess
import sys

import pytest

from launching import only_exit, spawn
from procession import _launcher_names, launchers
from procession.errors import InvalidArgument
from procession.launchers import LauncherInfo, NativeLauncher
from workers import make_key, serving

MODULE = """
import asyncio

from procession.launch import Launcher, Unreachable, supervise
from procession.launchers import Zygote

print("it talks while it is imported")

class Mine(Launcher):
    feeds_output = True

    async def launch(self, spec, ctx):
        return await supervise(spec)

    async def wait(self, handle):
        return await handle.wait()

    async def signal(self, handle, signal):
        await handle.kill()

class Half(Launcher):
    async def launch(self, spec, ctx): ...

class Answering(Mine):
    async def probe(self):
        return "a daemon of version 3"

class Mute(Mine):
    async def probe(self):
        raise Unreachable("no daemon listens")

class Hanging(Mine):
    async def probe(self):
        await asyncio.Event().wait()

configured = Zygote(None)
"""
ENTRY_POINTS = """
[procession.launchers]
mine = mine_launchers:Mine
configured = mine_launchers:configured
half = mine_launchers:Half
missing = no_such_module_of_ours:Mine
nameless = mine_launchers:Nobody
leaving = leaving_launchers:Mine
native = mine_launchers:Mine
answering = mine_launchers:Answering
mute = mine_launchers:Mute
hanging = mine_launchers:Hanging
"""


def distribution(folder, name, entry_points):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    (tmp_path / "mine_launchers.py").write_text(MODULE)
    (tmp_path / "leaving_launchers.py").write_text("import sys\nsys.exit('it wants to leave')\n")
    distribution(tmp_path, "mine", ENTRY_POINTS)
    distribution(tmp_path, "other", "[procession.launchers]\nmine = mine_launchers:Half\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("mine_launchers", "leaving_launchers"):
        sys.modules.pop(name, None)


OK = {"configured": "", "mine": "", "answering": "a daemon of version 3"}
"""What those that can be used say."""
REASONS = {
    "hanging": "its probe has got no answer within 0.2 s",
    "half": "TypeError: Half does not define signal, wait: an abstract class cannot be spawned",
    "leaving": "SystemExit: it wants to leave",
    "missing": "ModuleNotFoundError: No module named 'no_such_module_of_ours'",
    "mute": "no daemon listens",
    "nameless": "AttributeError: module 'mine_launchers' has no attribute 'Nobody'",
    "native": "a built-in launcher has that name; mine_launchers:Mine can be used as it is",
}
"""Why the others cannot be."""


def test_the_built_in_ones_are_always_there():
    native, worker = launchers.available()[:2]
    assert native == LauncherInfo("native", "built-in", "ok", "")
    assert (worker.name, worker.kind) == ("worker:HOST:PORT", "built-in")


def test_a_worker_can_be_named_where_there_is_a_session_key(monkeypatch):
    for name in ("PROCESSION_SESSION_KEY", "PROCESSION_SESSION_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    worker = launchers.available()[1]
    assert worker.status == "unavailable"
    assert "make one with `procession key FILE`" in worker.reason
    monkeypatch.setenv("PROCESSION_SESSION_KEY", "0" * 64)
    assert launchers.available()[1].status == "ok"


def test_an_engine_is_there_where_something_listens(tmp_path, monkeypatch):
    path = tmp_path / "engine.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    docker = next(one for one in launchers.available() if one.name == "docker:IMAGE")
    assert docker.status == "unavailable"
    assert f"nothing listens at unix://{path} (No such file or directory)" in docker.reason
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        docker = next(one for one in launchers.available() if one.name == "docker:IMAGE")
    assert (docker.status, docker.reason) == ("ok", f"at unix://{path}")


@pytest.mark.parametrize(("name", "variable"), [("user", "SESSION"), ("system", "SYSTEM")])
def test_systemd_is_there_where_its_bus_is(tmp_path, monkeypatch, name, variable):
    path = tmp_path / "bus"
    monkeypatch.setenv(f"DBUS_{variable}_BUS_ADDRESS", f"unix:path={path},guid=0")
    systemd = next(one for one in launchers.available() if one.name == f"systemd:{name}")
    assert systemd.status == "unavailable"
    assert f"nothing listens at unix:path={path}" in systemd.reason
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        systemd = next(one for one in launchers.available() if one.name == f"systemd:{name}")
    assert systemd.status == "ok"


def test_each_entry_point_is_listed_and_those_that_cannot_be_used_break_no_other(installed, monkeypatch):
    monkeypatch.setattr(_launcher_names, "PROBE_SECONDS", 0.2)
    infos = [one for one in launchers.available() if one.kind == "entry point"]
    assert [one.name for one in infos] == sorted([*OK, *REASONS, "mine"])
    assert [(one.name, one.reason) for one in infos if one.status == "ok"] == sorted(OK.items())
    again, *unavailable = sorted((one for one in infos if one.status != "ok"), key=lambda one: one.name != "mine")
    assert "another entry point has that name; mine_launchers:Half" in again.reason
    assert {one.name: one.reason for one in unavailable} == REASONS


@pytest.mark.asyncio
async def test_they_can_be_listed_on_an_event_loop(installed, monkeypatch):
    monkeypatch.setattr(_launcher_names, "PROBE_SECONDS", 0.2)
    assert "a daemon of version 3" in {one.reason for one in launchers.available()}


def test_a_name_gives_what_a_spawn_takes(installed):
    assert isinstance(launchers.by_name("native"), NativeLauncher)
    assert repr(launchers.by_name("worker:10.0.0.2:7000")) == "launchers.WorkerLauncher('10.0.0.2:7000')"
    assert launchers.by_name("docker:image:7").config["image"] == "image:7"
    assert launchers.by_name("podman:image").config["host"] == "unix:///run/podman/podman.sock"
    for name, bus in {
        "systemd": "user",
        "systemd:system": "system",
        "systemd:unix:path=/bus": "unix:path=/bus",
    }.items():
        assert launchers.by_name(name).config["bus"] == bus
    assert "partition" not in launchers.by_name("slurm").config
    assert launchers.by_name("slurm:gpu").config["partition"] == "gpu"
    assert launchers.by_name("vm:/images/root.img").config["image"] == "/images/root.img"
    mine = launchers.by_name("mine_launchers:Mine")
    configured = sys.modules["mine_launchers"].configured
    assert launchers.by_name("configured") is launchers.by_name("mine_launchers:configured") is configured
    assert mine.__name__ == "Mine"
    assert only_exit(spawn(launchers.by_name("mine_launchers:Mine"), "exit 5")).exit_code == 5


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        (
            "docker_",
            InvalidArgument,
            'name = "docker_": has to be native, worker:HOST:PORT, docker:IMAGE, podman:IMAGE, ssh:HOST, command:LINE, kubernetes:IMAGE, slurm:PARTITION, vm:IMAGE, systemd:user, systemd:system, answering, configured, half, hanging',
        ),
        ("", InvalidArgument, "or module:Class"),
        ("worker", InvalidArgument, "has to be native, worker:HOST:PORT"),
        ("docker", InvalidArgument, "docker:IMAGE"),
        ("systemd:session", InvalidArgument, 'bus = "session"'),
        (":Class", InvalidArgument, "or module:Class"),
        (3, InvalidArgument, "has to be a str"),
        ("missing", InvalidArgument, "it cannot be imported: ModuleNotFoundError"),
        ("leaving", InvalidArgument, "it cannot be imported: SystemExit: it wants to leave"),
        ("leaving_launchers:X", InvalidArgument, "it cannot be imported: SystemExit: it wants to leave"),
        ("mine_launchers:Nobody", InvalidArgument, "has no attribute 'Nobody'"),
        ("half", TypeError, "Half does not define signal, wait"),
        ("json:dumps", TypeError, "has to be None, a spawned launcher actor"),
    ],
)
def test_a_name_of_none_says_what_is_wrong_with_it(installed, name, error, words):
    with pytest.raises(error) as raised:
        launchers.by_name(name)
    assert words in str(raised.value)


def procession(*args, folder, **env):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]), **env}
    command = [sys.executable, "-m", "procession", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, env=environ)


def test_the_command_lists_them_as_a_table_and_as_json(installed):
    environ = {"PROCESSION_SESSION_KEY": "0" * 64, "DOCKER_HOST": "unix:///nowhere", "PODMAN_HOST": "unix:///nowhere"}
    done = procession("launchers", folder=installed, **environ)
    assert done.returncode == 0
    rows = done.stdout.splitlines()
    assert rows[0].split() == ["name", "kind", "status", "reason"]
    assert [row.split()[0] for row in rows[1:3]] == ["native", "worker:HOST:PORT"]
    assert "missing" in done.stdout
    assert rows[1].split() == ["native", "built-in", "ok", "-"]
    assert "it talks" not in done.stdout
    done = procession("launchers", "--json", folder=installed, **environ)
    assert done.returncode == 0
    listed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(one) for one in listed] == [["name", "kind", "status", "reason"]] * len(rows[1:])
    of_the_machine = ("ssh:", "command:", "kubernetes:", "slurm:", "vm:", "systemd:")
    found = [one["name"] for one in listed if one["status"] == "ok" and not one["name"].startswith(of_the_machine)]
    assert found == ["native", "worker:HOST:PORT", "answering", "configured", "mine"]


def test_a_run_takes_the_same_names(installed):
    done = procession("run", "--launcher", "mine", "--", "sh", "-c", "echo through mine; exit 8", folder=installed)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (8, "[0] through mine"), done.stderr
    done = procession("run", "--launcher", "missing", "--", "true", folder=installed)
    assert done.returncode == 2
    assert '--launcher = "missing": it cannot be imported: ModuleNotFoundError' in done.stderr


def test_a_run_may_be_on_a_worker(tmp_path):
    key = make_key(tmp_path)
    with serving(key) as worker:
        named = ["run", "--launcher", f"worker:{worker.address}", "--", "sh", "-c", "echo over there; exit 8"]
        done = procession(*named, folder=tmp_path, PROCESSION_SESSION_KEY_FILE=str(key))
    assert (done.returncode, done.stdout) == (8, "[0] over there\n"), done.stderr
    done = procession(*named, folder=tmp_path, PROCESSION_SESSION_KEY_FILE=str(key))
    assert (done.returncode, done.stdout) == (125, "")
    assert f"worker {worker.address} cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
