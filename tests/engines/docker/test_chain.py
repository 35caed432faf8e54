"""Containers of an engine on another machine, where ssh leads; and containers that are kept warm."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from probe import Probe

import procession.actor
from launching import until
from procession.actor import this_host
from procession.errors import InvalidArgument, LauncherUnavailable
from procession.launchers import Chain, Command, Docker, Podman, Pool, Ssh

IS_PODMAN = "podman" in os.environ.get("DOCKER_HOST", "")
AGENT = [
    "env",
    f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}",
    sys.executable,
    "-m",
    "procession",
    "agent",
    "--stdio",
]
"""Of this interpreter, which has procession installed, or finds it as this process does."""


@pytest.fixture(autouse=True)
def _deaths_are_expected(monkeypatch):
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", lambda failure: None, raising=False)


def docker(**more):
    given = {"image": os.environ["DOCKER_IMAGE"], "pull": "never", "host": os.environ.get("DOCKER_HOST"), **more}
    return Podman(**given) if IS_PODMAN else Docker(**given)


@pytest.fixture(scope="module", autouse=True)
def sshd(tmp_path_factory):
    """What to give `ssh` so that it reaches a machine where an engine is: this one, by an sshd of its own on the loopback."""
    if os.environ.get("CI") is None and os.environ.get("DOCKER_HOST") is None:
        yield None  # only in the place of a private engine, engines/docker.sh, is an sshd started
        return
    if not os.path.exists("/usr/sbin/sshd"):
        yield None  # apt-get install openssh-server
        return
    work = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"HostKey": work / "host", "AuthorizedKeysFile": work / "user.pub", "ListenAddress": f"127.0.0.1:{port}"}
    settings |= {"UsePAM": "no", "StrictModes": "no", "PidFile": "none", "PermitRootLogin": "yes"}
    words = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    os.makedirs("/run/sshd", exist_ok=True)
    daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *words], stderr=subprocess.DEVNULL)

    def answers():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, "an sshd")
        known = f"UserKnownHostsFile={work / 'known'}"
        yield ["-p", str(port), "-i", str(work / "user"), "-o", known, "-o", "StrictHostKeyChecking=accept-new"]
    finally:
        daemon.terminate()
        daemon.wait()


@contextmanager
def closed(launcher):
    try:
        yield launcher
    finally:
        launcher.close().get(30)


@pytest.fixture(params=["ssh", "command"])
def far(request, sshd):
    """Launchers that lead there."""
    if request.param == "command":
        return Command("{argv}", agent=AGENT)
    if sshd is None:
        pytest.skip("there is no sshd, or no place for one: engines/docker.sh, apt-get install openssh-server")
    return Ssh("127.0.0.1", options=sshd, agent=AGENT)


def spawn(launcher, count=1, **more):
    return this_host().spawn_procs({"workers": count}, launcher=launcher, **more)


@pytest.fixture(scope="module", autouse=True)
def _a_host_that_listens():
    """It goes on listening for containers, and for what is led to it: from before what each test is compared with."""
    for launcher in (docker(), Command("{argv}", agent=AGENT)):
        spawn(launcher, **shell("pass")).wait(timeout=50).get()
        if isinstance(launcher, Command):
            launcher.close().get(30)


def shell(text, **more):
    return {"bootstrap_command": ["python3", "-c", text], "readiness": "none", **more}


def test_actors_in_containers_there_reach_their_host_through_ssh(engine, far):
    with closed(Chain(far, docker())) as chain, spawn(chain, 2) as procs:
        places = list(procs.spawn("probes", Probe).place.call().get(timeout=50).values())
        assert [rank for rank, _, _ in places] == [0, 1]
        assert os.readlink("/proc/self/ns/net") not in {namespace for _, _, namespace in places}
        handles = {status.handle for status in procs.statuses().values()}
        assert {container["Name"].lstrip("/") for container in engine.containers()} == handles
        assert {owned.handle for owned in chain.list()} == handles
        procs.stop().get(timeout=50)
    assert [(exit.kind, exit.exit_code) for exit in procs.exits().values()] == [("exited", 0)] * 2


def test_exits_memory_and_output_are_the_engines_word(engine, far):
    with closed(Chain(far, docker())) as chain:
        text = "import sys; [print(n) for n in range(9999)]; print('last', file=sys.stderr); sys.exit(7)"
        [end] = spawn(chain, **shell(text)).wait(timeout=50).get().values()
        assert (end.exit_code, end.stdout_tail[-1], end.stderr_tail) == (7, "9998", ["last"])
        with spawn(chain, **shell("import time; print('up', flush=True); time.sleep(600)")) as procs:
            until(lambda: procs._procs.tails([0], None)[0][0], "its output")
            procs.kill().get(50)
            [end] = procs.wait(timeout=50).get().values()
        assert (end.kind, end.signal) == ("signaled", 9)
        limited = shell("bytearray(500 << 20)", resources={"memory": "64M"})
        [end] = spawn(chain, **limited).wait(timeout=50).get().values()
        assert (end.signal, end.oom) == (9, None if IS_PODMAN else True)
        with pytest.raises(InvalidArgument, match="proc_bind"):
            spawn(chain, **shell("pass", proc_bind=[{"cpus": "0"}]))


def test_what_the_engine_there_refuses_is_told_in_its_words(engine, far):
    with closed(Chain(far, docker(image="no-such:image"))) as chain:
        [end] = spawn(chain, **shell("pass")).wait(timeout=50).get().values()
        assert end.kind == "failed"
        assert "no-such:image" in end.verdict, end.verdict
    with pytest.raises(LauncherUnavailable, match="the launcher docker cannot be used at"):
        Chain(far, docker(host="unix:///no/such/socket")).connect()


def test_with_the_connection_its_containers_end(engine, far):
    with closed(Chain(far, docker())) as chain:
        procs = spawn(chain, **shell("import time; print('up', flush=True); time.sleep(600)"))
        until(lambda: procs._procs.tails([0], None)[0][0], "its output")
    [end] = procs.wait(timeout=50).get().values()
    assert end.kind == "lost"
    until(lambda: engine.containers() == [], "the end of the container", 50)


@pytest.mark.parametrize("kind", ["chain", "pool"])
def test_containers_there_and_those_that_were_kept_warm_keep_the_promises_of_launchers(engine, kind):
    from procession._conformance import conform

    with closed(Chain(Command("{argv}", agent=AGENT), docker()) if kind == "chain" else Pool(docker(), size=2)) as one:
        rows = [(row.name, row.outcome, row.why) for row in conform(one, only=("exit.*", "stop.*"), jobs=4)]
    assert [row for row in rows if row[1] == "failed"] == []
    assert len([row for row in rows if row[1] == "passed"]) > 20


def test_it_shows_what_the_engine_there_would_be_asked_for(engine, far):
    with closed(Chain(far, docker(patch={"HostConfig": {"CapAdd": ["SYS_PTRACE"]}}))) as chain:
        shown = chain.dry_run(["true"], readiness="none", env={"TOKEN": "canary"})
        assert '"SYS_PTRACE"' in shown
        assert "TOKEN=..." in shown
        assert "canary" not in shown
        assert shown.count('"procession.proc":') == 1
