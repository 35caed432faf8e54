"""The built-in launcher for Docker against a real engine: every proc is a container on the bridge network."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from probe import Owner, Probe

import procession.actor
from cut import way
from procession.actor import SupervisionError, this_host
from procession.errors import InvalidArgument, LauncherUnavailable
from procession.launchers import Docker, Podman


@pytest.fixture(autouse=True)
def _deaths_are_expected(monkeypatch):
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", lambda failure: None, raising=False)


IS_PODMAN = "podman" in os.environ["DOCKER_HOST"] if "DOCKER_HOST" in os.environ else False


def docker(**more) -> Docker:
    given = {"image": os.environ["DOCKER_IMAGE"], "pull": "never", **more}
    return Podman(**{"host": os.environ["DOCKER_HOST"], **given}) if IS_PODMAN else Docker(**given)


def spawn(count: int = 1, launcher: Docker | None = None, **more):
    return this_host().spawn_procs(per_host={"workers": count}, launcher=launcher or docker(), **more)


def program(code: str, **more):
    """One program that does not call back."""
    return spawn(bootstrap_command=["python3", "-c", code], readiness="none", **more)


def the_exit(procs):
    [(_, exit)] = procs.wait(timeout=50).get().items()
    return exit


def test_actors_in_containers_are_reached_over_the_bridge(engine):
    with spawn(3) as procs:
        places = [place for _, place in procs.spawn("probes", Probe).place.call().get(timeout=50).items()]
        assert [rank for rank, _, _ in places] == [0, 1, 2]
        assert os.readlink("/proc/self/ns/net") not in {namespace for _, _, namespace in places}
        assert len({namespace for _, _, namespace in places}) == 3
        statuses = [status for _, status in procs.statuses().items()]
        assert {c["Name"].lstrip("/") for c in engine.containers()} == {status.handle for status in statuses}
        labels = [c["Config"]["Labels"] for c in engine.containers()]
        assert all(len(label["procession.incarnation"]) == 32 for label in labels)
        assert {label["procession.process"].split(":")[2] for label in labels} == {str(os.getpid())}
    exits = [exit for _, exit in procs.exits().items()]
    assert {exit.proc_id for exit in exits} == {label["procession.proc"] for label in labels}
    assert [(exit.kind, exit.exit_code) for exit in exits] == [("exited", 0)] * 3


def test_a_proc_runs_the_interpreter_of_its_image_in_the_directory_of_its_image(engine):
    with spawn(fork_server=False) as procs:
        procs.initialized.get(timeout=50)
        [container] = engine.containers()
    assert container["Config"]["Entrypoint"] == ["python3"]
    assert container["Config"]["WorkingDir"] in ("", "/")


def test_a_program_is_run_in_a_container_from_the_command_line(engine):
    name = "podman" if IS_PODMAN else "docker"
    command = [
        sys.executable,
        "-m",
        "procession",
        "run",
        "--launcher",
        f"{name}:{os.environ['DOCKER_IMAGE']}",
        "-n",
        "2",
    ]
    command += ["--", "python3", "-c", "import os, sys; print('in', os.path.exists('/.dockerenv')); sys.exit(3)"]
    environ = {**os.environ, "PODMAN_HOST": os.environ["DOCKER_HOST"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environ)
    assert done.returncode == 3, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"[{rank}] in {not IS_PODMAN}" for rank in (0, 1)]


def test_the_engine_says_what_it_is(engine):
    assert docker().probe().startswith("Podman " if IS_PODMAN else "Docker ")


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_exit_code_and_the_last_words_come_back(engine, code):
    source = f"import sys; print('out'); print('last words', file=sys.stderr); sys.exit({code})"
    exit = the_exit(program(source))
    assert (exit.kind, exit.exit_code, exit.requested) == ("exited", code, None)
    assert (exit.stdout_tail, exit.stderr_tail) == (["out"], ["last words"])


@pytest.mark.parametrize("number", [6, 9, 15])
def test_a_signal_inside_a_container_comes_back(engine, number):
    with spawn() as procs:
        with pytest.raises(SupervisionError):
            procs.spawn("probes", Probe).signal.call(number).get(timeout=50)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.requested) == ("signaled", number, None)
    assert exit.stderr_tail[-1] == "last words"


def test_a_container_over_its_memory_is_reported_as_that(engine):
    with spawn(resources={"memory": 96 << 20}) as procs:
        procs.spawn("probes", Probe).fill_memory.broadcast()
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.oom) == ("signaled", 9, None if IS_PODMAN else True)
    assert ("memory" in exit.verdict) is not IS_PODMAN


@pytest.fixture
def open_directory():
    """One that other users can enter."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_what_is_asked_of_a_container_is_asked_of_the_engine(engine, open_directory):
    (open_directory / "shared").write_text("from outside")
    launcher = docker(
        volumes=[f"{open_directory}:/outside:ro"],
        tmpfs={"/scratch": "size=16m"},
        labels={"team": "one"},
        extra_hosts=["elsewhere:192.0.2.7"],
        patch={"HostConfig": {"ReadonlyRootfs": True}},
    )
    source = "import os, time; print(open('/outside/shared').read(), os.getcwd(), os.getgid(), os.environ['A'], flush=True)\nwhile not os.path.exists('/outside/end'): time.sleep(0.02)"
    procs = program(
        source,
        launcher=launcher,
        resources={"cpu": 0.5, "pids": 64},
        user=(0, 1234),
        rlimits={"nofile": 256, "nproc": 32768},  # without nproc Podman would raise it, which not every machine lets it
        cwd="/scratch",
        env={"A": "b c"},
    )
    assert next(iter(procs.logs(follow=True))).endswith("from outside /scratch 1234 b c")
    [container] = engine.containers()
    (open_directory / "end").touch()
    exit = the_exit(procs)
    assert exit.stdout_tail == ["from outside /scratch 1234 b c"], exit
    host = container["HostConfig"]
    assert (host["NanoCpus"], host["PidsLimit"], host["ReadonlyRootfs"]) == (500_000_000, 64, True)
    assert container["Config"]["Labels"]["team"] == "one"


def test_terminate_reaches_the_program_and_kill_ends_what_ignores_it(engine):
    source = "import signal, sys; signal.signal(15, lambda *_: sys.exit(4)); print('up', flush=True); signal.pause()"
    procs = program(source)
    assert next(iter(procs.logs(follow=True))).endswith("up")
    procs.terminate(30).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.exit_code) == ("exited", 4)
    assert "terminate" in exit.requested
    procs = program("import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()")
    assert next(iter(procs.logs(follow=True))).endswith("up")
    procs.terminate(0.2).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.signal) == ("signaled", 9)


def test_twenty_containers_are_killed_at_once(engine):
    with spawn(20) as procs:
        procs.initialized.get(timeout=55)
        procs.kill().get(timeout=30)
        exits = [exit for _, exit in procs.wait(timeout=50).get().items()]
    assert [(exit.kind, exit.signal) for exit in exits] == [("signaled", 9)] * 20


def test_a_kill_that_comes_before_the_container_is_there_ends_it(engine):
    procs = program("import time; time.sleep(60)")
    procs.kill().get(timeout=30)
    exit = the_exit(procs)
    assert "kill" in exit.requested
    assert (exit.kind, exit.signal) == ("signaled", 9) or "before it was started" in exit.verdict


def test_where_no_engine_answers_there_is_no_launcher_and_the_reason_has_the_address():
    with pytest.raises(LauncherUnavailable, match="no engine answers at unix:///nowhere"):
        Docker("image", host="unix:///nowhere").connect()


def test_an_engine_that_cannot_be_asked_makes_a_proc_unknown_and_its_end_and_output_come_when_it_can(
    engine, open_directory
):
    source = (
        "import os, time; print('first', flush=True)\n"
        "while not os.path.exists('/outside/end'): time.sleep(0.02)\n"
        "print('last'); raise SystemExit(6)"
    )
    with way(open_directory / "way", os.environ["DOCKER_HOST"].removeprefix("unix://")) as engine_way:
        launcher = docker(host=f"unix://{engine_way.path}", volumes=[f"{open_directory}:/outside"])
        procs = program(source, launcher=launcher)
        lines = iter(procs.logs(follow=True))
        assert next(lines).endswith("first")
        engine_way.cut()
        next(status for status in watched(procs) if status == "unknown")
        assert procs.exits().item(workers=0) is None
        (open_directory / "end").touch()
        engine_way.mend()
        assert next(lines).endswith("last")
        exit = the_exit(procs)
    assert (exit.kind, exit.exit_code, exit.stdout_tail) == ("exited", 6, ["first", "last"])


def watched(procs):
    """The statuses of a proc, as they come."""
    while True:
        yield procs.statuses().item(workers=0).status
        time.sleep(0.02)


def test_a_missing_image_is_a_failed_launch_in_the_engines_words(engine):
    with spawn(launcher=docker(image="no-such-image:0")) as procs:
        with pytest.raises(Exception, match="no-such-image"):
            procs.initialized.get(timeout=30)
        exit = the_exit(procs)
    assert exit.kind == "failed"
    assert "no-such-image" in exit.failed_reason


def test_a_program_that_the_image_does_not_have_fails_and_leaves_no_container(engine):
    command = ["/no/such/program"]
    exit = the_exit(spawn(bootstrap_command=command, readiness="none", launcher=docker(init=False)))
    assert exit.kind == "failed"
    assert "/no/such/program" in exit.failed_reason
    exit = the_exit(spawn(bootstrap_command=command, readiness="none"))  # the engine's init says so itself
    if IS_PODMAN:  # by code 1
        assert exit.kind == "failed"
        assert exit.failed_reason == '"/no/such/program" was not executed: No such file or directory'
    else:
        assert (exit.kind, exit.exit_code) == ("exited", 127)
    assert "No such file" in exit.stderr_tail[-1]


def test_a_container_that_is_kept_can_be_looked_at(engine):
    procs = program("print('kept')", launcher=docker(keep=True))
    the_exit(procs)
    [container] = engine.containers()
    try:
        assert engine.docker("logs", container["Id"]) == "kept"
    finally:
        engine.docker("rm", "--force", container["Id"])


def test_containers_of_an_actor_end_with_it(engine):
    with this_host().spawn_procs(per_host={"owner": 1}) as owners:
        owner = owners.spawn("owner", Owner, docker(), Probe)
        assert owner.launch.call_one().get(timeout=50) == 2
        assert len(engine.containers()) == 2
        owner.stop().get(timeout=50)
        assert engine.containers() == []


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("volumes", {"volumes": "/a:/b"}),
        ("volumes[0]", {"volumes": ["/a"]}),
        ("network", {"network": ""}),
        ("labels", {"labels": {"procession.proc": "x"}}),
        ("pull", {"pull": "sometimes"}),
        ("launches_at_once", {"launches_at_once": 0}),
    ],
)
def test_what_is_no_configuration_is_refused_before_anything_starts(field, more):
    with pytest.raises(InvalidArgument) as refused:
        docker(**more).connect()
    assert refused.value.field == field


def test_what_containers_cannot_do_is_refused(engine):
    with pytest.raises(InvalidArgument, match="proc_bind"):
        spawn(proc_bind=[{"cpus": "0"}])
    exit = the_exit(program("", clear_env=True))
    assert exit.kind == "failed"
    assert "clear_env" in exit.failed_reason


def test_no_secret_of_a_launch_is_in_the_log_or_the_command_line(engine):
    with spawn() as procs:
        procs.initialized.get(timeout=50)
        [container] = engine.containers()
        payload = dict(v.split("=", 1) for v in container["Config"]["Env"])["PROCESSION_BOOTSTRAP"]
        assert payload not in " ".join([*container["Config"]["Cmd"], *container["Config"]["Entrypoint"]])
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert payload.encode() not in process.read_bytes()
            except OSError:
                continue


LEAVER = """
import os, signal, time
from procession.actor import this_host
from procession.launchers import Docker, Podman
launcher = LAUNCHER
procs = this_host().spawn_procs(launcher=launcher, bootstrap_command=["sleep", "300"], readiness="none", name="left")
while procs.statuses().item().handle is None:  # then it is there
    time.sleep(0.02)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_client_has_left_is_shown_by_gc_and_taken_away_and_what_lives_is_not(engine):
    done = subprocess.run([sys.executable, "-c", LEAVER.replace("LAUNCHER", repr(docker()).removeprefix("launchers."))])
    assert done.returncode == -9
    name = "podman" if IS_PODMAN else "docker"
    environment = {**os.environ, "PODMAN_HOST": os.environ.get("DOCKER_HOST", "")}

    def gc(*more):
        command = [sys.executable, "-m", "procession", "gc", "--launcher", name, "--json", *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    with program("import time; time.sleep(300)", name="living") as living:
        living.initialized.get(timeout=50)
        [found] = gc("--dry-run")
        assert found["what"].startswith("left-0.")
        assert not found["removed"]
        assert len(engine.containers()) == 2
        assert gc() == [{**found, "removed": True}]
        [container] = engine.containers()
        assert container["Config"]["Labels"]["procession.proc"].startswith("living-0.")
        assert gc() == []
