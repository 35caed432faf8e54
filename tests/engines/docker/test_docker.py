"""The example launcher for Docker against a real engine: every proc is a container on the bridge network."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from probe import Probe

import procession.actor
from docker_launcher import DockerLauncher, exit_of
from procession.actor import SupervisionError, this_host, this_proc


@pytest.fixture(autouse=True)
def _deaths_are_expected(monkeypatch):
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", lambda failure: None, raising=False)


@contextmanager
def launcher(**params):
    mesh = this_proc().spawn("docker", DockerLauncher, params)
    yield mesh
    mesh.stop().get(timeout=30)


def spawn(count: int = 1, launcher=DockerLauncher, **more):
    return this_host().spawn_procs(per_host={"workers": count}, launcher=launcher, **more)


def the_exit(procs):
    [(_, exit)] = procs.wait(timeout=30).get().items()
    return exit


def test_actors_in_containers_are_reached_over_the_bridge(engine):
    with spawn(3) as procs:
        places = [place for _, place in procs.spawn("probes", Probe).place.call().get(timeout=30).items()]
        assert [rank for rank, _, _ in places] == [0, 1, 2]
        assert len({host for _, host, _ in places}) == 3
        assert os.readlink("/proc/self/ns/net") not in {namespace for _, _, namespace in places}
        assert len({namespace for _, _, namespace in places}) == 3
        labels = {c["Config"]["Labels"]["procession.proc"] for c in engine.containers()}
        statuses = [status for _, status in procs.statuses().items()]
        assert {c["Name"].lstrip("/") for c in engine.containers()} == {status.handle for status in statuses}
    exits = [exit for _, exit in procs.exits().items()]
    assert {exit.proc_id for exit in exits} == labels
    assert [exit.exit_code for exit in exits] == [0, 0, 0]
    assert all(exit.requested for exit in exits)


@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_of_a_container_comes_back(engine, code):
    with spawn() as procs:
        procs.spawn("probes", Probe).end.broadcast(code)
        exit = the_exit(procs)
    assert (exit.kind, exit.exit_code, exit.requested) == ("exited", code, None)
    assert exit.stderr_tail[-1] == "last words"


@pytest.mark.parametrize("number", [6, 9, 15])
def test_a_signal_inside_a_container_comes_back_with_the_last_words(engine, number):
    with spawn() as procs:
        with pytest.raises(SupervisionError):
            procs.spawn("probes", Probe).signal.call(number).get(timeout=30)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.requested) == ("signaled", number, None)
    assert exit.stderr_tail[-1] == "last words"


def test_a_container_over_its_memory_is_reported_as_that(engine):
    with launcher(flags=["--memory", "96m", "--memory-swap", "96m"]) as docker, spawn(launcher=docker) as procs:
        procs.spawn("probes", Probe).fill_memory.broadcast()
        exit = the_exit(procs)
    assert (exit.kind, exit.signal) == ("signaled", 9)
    assert "out of memory" in exit.stderr_tail[-1]


def test_more_containers_than_the_launcher_has_threads_can_be_killed(engine):
    with spawn(12) as procs:
        procs.initialized.get(timeout=50)
        procs.kill().get(timeout=30)
        exits = [exit for _, exit in procs.wait(timeout=30).get().items()]
    assert [(exit.kind, exit.signal) for exit in exits] == [("signaled", 9)] * 12


def test_kill_takes_the_container_and_says_who_asked(engine):
    with spawn() as procs:
        procs.initialized.get(timeout=30)
        procs.kill().get(timeout=30)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal) == ("signaled", 9)
    assert "kill" in exit.requested


def test_terminate_reaches_the_container(engine):
    with spawn() as procs:
        procs.initialized.get(timeout=30)
        procs.terminate(20).get(timeout=30)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal) == ("signaled", 15)


def test_a_missing_image_is_a_failed_launch_in_dockers_words(engine):
    with launcher(image="no-such-image:0") as docker, spawn(launcher=docker) as procs:
        with pytest.raises(Exception, match="no-such-image"):
            procs.initialized.get(timeout=30)
        exit = the_exit(procs)
    assert exit.kind == "failed"
    assert "no-such-image" in exit.failed_reason


def test_no_value_of_the_environment_is_in_an_argument_list(engine, tmp_path, monkeypatch):
    real = next(p for p in map(Path, os.environ["PATH"].split(":")) if (p / "docker").exists()) / "docker"
    (tmp_path / "docker").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/arguments\nexec {real} "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with launcher() as docker, spawn(launcher=docker, env={"CANARY": "value of the canary"}) as procs:
        probe = procs.spawn("probes", Probe)
        inside = probe.environment.call_one().get(timeout=30)
        [container] = engine.containers()
    given = dict(variable.split("=", 1) for variable in container["Config"]["Env"])
    arguments = (tmp_path / "arguments").read_text()
    assert inside["CANARY"] == given["CANARY"] == "value of the canary"
    assert "PROCESSION_BOOTSTRAP" not in inside
    assert "PROCESSION_BOOTSTRAP" in arguments
    for value in (given["PROCESSION_BOOTSTRAP"], given["CANARY"]):
        assert value not in arguments


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"ExitCode": 0, "OOMKilled": False, "Error": ""}, (0, None, None, [])),
        ({"ExitCode": 3, "OOMKilled": False, "Error": ""}, (3, None, None, [])),
        ({"ExitCode": 137, "OOMKilled": False, "Error": ""}, (None, 9, None, [])),
        ({"ExitCode": 255, "OOMKilled": False, "Error": ""}, (255, None, None, [])),
        (
            {"ExitCode": 0, "OOMKilled": True, "Error": ""},
            (0, None, None, ["out of memory: the container reached its limit"]),
        ),
        ({"ExitCode": 127, "OOMKilled": False, "Error": "no such program"}, (127, None, "no such program", [])),
        (
            {"ExitCode": 137, "OOMKilled": True, "Error": ""},
            (None, 9, None, ["out of memory: the container reached its limit"]),
        ),
    ],
)
def test_what_docker_says_is_read_as_an_exit(state, expected):
    exit = exit_of(state, [])
    assert (exit.exit_code, exit.signal, exit.failed_reason, exit.stderr_tail) == expected
