"""The built-in launcher for Slurm against a real one: every proc is a job, or an element of a job array."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from probe import Probe

import procession.actor
from procession import launchers
from procession.actor import SupervisionError, this_host
from procession.errors import InvalidArgument, LauncherUnavailable
from procession.launchers import Slurm

POLL = 0.2


@pytest.fixture(autouse=True)
def _deaths_are_expected(monkeypatch):
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", lambda failure: None, raising=False)


def ask(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout.strip()


class Cluster:
    """The cluster that these tests run against, as an onlooker sees it."""

    def __init__(self, output_dir):
        self.output_dir = output_dir
        self.work = Path(os.environ["SLURM_CONF"]).parent

    def launcher(self, partition="all", **more):
        return Slurm(partition, **{"output_dir": self.output_dir, "poll": POLL, **more})

    def spawn(self, count=1, launcher=None, **more):
        return this_host().spawn_procs({"workers": count}, launcher=launcher or self.launcher(), **more)

    def program(self, script, count=1, **more):
        """Programs that do not call back."""
        return self.spawn(count, bootstrap_command=["/bin/sh", "-c", script], readiness="none", **more)

    def jobs(self):
        """Those that have not ended, by their handles: the state, and the comment."""
        lines = ask("squeue", "--noheader", "--array", "--Format=JobArrayID:.40|,State:.20|,Comment:1024|").splitlines()
        columns = ([column.strip() for column in line.split("|", 2)] for line in lines)
        return {job: (state, comment.rstrip("|").strip()) for job, state, comment in columns}

    def pid(self, daemon):
        """None while it is none."""
        path = self.work / f"{daemon}.pid"
        return int(path.read_text() or 0) or None if path.exists() else None

    @contextmanager
    def without(self, daemon, how=signal.SIGTERM, then=""):
        """One of its daemons is not there meanwhile, and comes back with the options `then`."""
        hold, options, pid = self.work / f"{daemon}.hold", self.work / f"{daemon}.options", self.pid(daemon)
        hold.touch()
        options.write_text(then)
        os.kill(pid, how)
        try:
            until(lambda: not Path(f"/proc/{pid}").exists(), f"{daemon} is gone")
            yield
        finally:
            hold.unlink()
            until(lambda: self.pid(daemon) not in (None, pid), f"{daemon} is back")
            options.unlink()

    def are_idle(self):
        found = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%t"], capture_output=True, text=True)
        return set(found.stdout.split()) == {"idle"}


def until(condition, what, seconds=50):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path / "shared")
    yield cluster
    until(lambda: cluster.jobs() == {}, "nothing is left in the queue", 20)
    until(cluster.are_idle, "all nodes are free")
    assert not cluster.output_dir.exists() or list(cluster.output_dir.iterdir()) == []


def the_exit(procs):
    [(_, exit)] = procs.wait(timeout=55).get().items()
    return exit


def status(procs):
    return procs.statuses().item(workers=0)


def handles(procs):
    return [status.handle for status in procs.statuses().values()]


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """What sbatch is called with, a line for each call."""
    real = next(p for p in map(Path, os.environ["PATH"].split(":")) if (p / "sbatch").exists()) / "sbatch"
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    log.touch()
    (folder / "sbatch").write_text(f'#!/bin/sh\necho "$*" >>{log}\nexec {real} "$@"\n')
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda: log.read_text().splitlines()


def test_procs_that_are_launched_together_are_elements_of_one_array_and_call_back(cluster, calls):
    with cluster.spawn(8) as procs:
        probes = procs.spawn("probes", Probe)
        assert [rank for rank, *_ in probes.place.call().get(timeout=50).values()] == list(range(8))
        until(lambda: all(handles(procs)), "the launcher has seen them run")
        jobs = cluster.jobs()
        assert sorted(handles(procs)) == sorted(jobs)
        assert len({job.split("_")[0] for job in jobs}) == len(calls()) <= 2
        assert "PROCESSION_BOOTSTRAP" not in probes.environment.call().get(timeout=50).item(workers=0)
    assert [(exit.kind, exit.exit_code, exit.oom) for exit in procs.exits().values()] == [("exited", 0, False)] * 8


def test_each_of_an_array_has_its_own_end_output_and_environment(cluster, calls):
    def command(point):
        return ["/bin/sh", "-c", f'echo "out {point.rank} $OWN"; echo err >&2; exit {point.rank}']

    env = lambda point: {"OWN": f"it's {point.rank}"}  # noqa: E731
    procs = cluster.spawn(30, bootstrap_command=command, env=env, readiness="none")
    exits = list(procs.wait(timeout=50).get().values())
    assert [exit.exit_code for exit in exits] == list(range(30))
    assert [exit.stdout_tail for exit in exits] == [[f"out {rank} it's {rank}"] for rank in range(30)]
    assert {tuple(exit.stderr_tail) for exit in exits} == {("err",)}
    assert len(calls()) <= 3


@pytest.mark.parametrize("code", [0, 7, 143, 255])
def test_the_exit_code_and_the_last_words_come_back(cluster, code):
    exit = the_exit(cluster.program(f"echo out; printf 'last words' >&2; exit {code}"))
    assert (exit.kind, exit.exit_code, exit.requested) == ("exited", code, None)
    assert (exit.stdout_tail, exit.stderr_tail) == (["out"], ["last words"])


@pytest.mark.parametrize("number", [6, 9, 15])
def test_a_signal_inside_a_job_comes_back_as_itself(cluster, number):
    with cluster.spawn() as procs:
        with pytest.raises(SupervisionError):
            procs.spawn("probes", Probe).signal.call(number).get(timeout=50)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.requested) == ("signaled", number, None)
    assert exit.stderr_tail[-1] == "last words"


def test_a_program_is_run_as_a_job_from_the_command_line(cluster):
    command = [sys.executable, "-m", "procession", "run", "--launcher", "slurm:high", "-n", "2"]
    command += ["--", "sh", "-c", 'echo "$SLURM_JOB_PARTITION"; exit 3']
    environ = {**os.environ, "HOME": str(cluster.output_dir)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environ)
    assert done.returncode == 3, done.stderr
    assert sorted(done.stdout.splitlines()) == ["[0] high", "[1] high"]
    ours = cluster.output_dir / ".procession/slurm"
    assert list(ours.iterdir()) == []
    for folder in (ours, ours.parent):
        folder.rmdir()


def test_the_cluster_says_what_it_is(cluster):
    listed = next(one for one in launchers.available() if one.name == "slurm:PARTITION")
    assert (listed.status, listed.reason.split()[-1]) == ("ok", "UP")
    assert cluster.launcher().probe() == f"Slurm {ask('sbatch', '--version').split()[1]}, cluster procession"


def test_what_waits_in_the_queue_says_why_runs_out_of_no_deadline_and_can_be_cancelled(cluster):
    low = cluster.launcher("low", cpus_per_task=16)
    with cluster.program("sleep 60", launcher=low) as first:
        until(lambda: status(first).handle, "the first runs")
        waits = cluster.spawn(launcher=low, ready_timeout=2.0)
        until(lambda: status(waits).progress == "pending: Resources", "it says why it waits")
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 3, "its deadline would have passed")
        assert status(waits).status in ("starting", "running")
        waits.kill().get(timeout=30)
        exit = the_exit(waits)
        assert len(cluster.jobs()) == 1
    assert "kill" in exit.requested
    assert "cancelled before it was started" in exit.verdict


def test_a_preemption_is_no_failure_of_the_program(cluster):
    procs = cluster.program("exec sleep 60", launcher=cluster.launcher("low", cpus_per_task=16))
    until(lambda: status(procs).handle, "it runs")
    ask("sbatch", "--partition=high", "--cpus-per-task=16", "--output=/dev/null", "--wrap=true")
    exit = the_exit(procs)
    assert (exit.certificate.verdict, exit.certificate.class_) == ("preempted", "evicted")
    assert exit.verdict == "preempted: signal 15 (SIGTERM)"
    assert exit.requested is None


@pytest.mark.timeout(120)
def test_the_time_limit_is_no_failure_of_the_program(cluster):
    procs = cluster.program("exec sleep 300", launcher=cluster.launcher(time_limit="1"))
    until(lambda: status(procs).handle, "it runs")
    ask("scontrol", "update", f"JobId={handles(procs)[0]}", "TimeLimit=0")
    [exit] = procs.wait(timeout=100).get().values()
    assert (exit.certificate.verdict, exit.certificate.class_) == ("time limit", "evicted")
    assert exit.verdict == "time limit: signal 15 (SIGTERM)"


def test_a_job_that_may_be_requeued_is_run_again_and_its_last_end_counts(cluster):
    procs = cluster.program(
        'echo "run ${SLURM_RESTART_COUNT:-0}"; [ -n "$SLURM_RESTART_COUNT" ] && exit 5; exec sleep 60',
        launcher=cluster.launcher(requeue=True),
    )
    lines = iter(procs.logs(follow=True))
    assert next(lines).endswith("run 0")
    [job] = handles(procs)
    ask("scontrol", "requeue", job)
    until(lambda: cluster.jobs()[job][0] == "PENDING", "it is in the queue again")
    assert procs.exits().item(workers=0) is None
    # Within the second of its end its node would refuse it, which is why Slurm itself waits for two minutes.
    ask("scontrol", "update", f"JobId={job}", "StartTime=now+2")
    assert next(lines).endswith("run 1")
    exit = the_exit(procs)
    assert (exit.kind, exit.exit_code, exit.stdout_tail) == ("exited", 5, ["run 0", "run 1"])


def test_a_requeue_that_nobody_asked_for_is_the_end_and_leaves_no_job(cluster):
    procs = cluster.program("exec sleep 60")
    until(lambda: status(procs).handle, "it runs")
    [job] = handles(procs)
    assert "Requeue=0" in ask("scontrol", "show", "job", job)
    ask("scontrol", "update", f"JobId={job}", "Requeue=1")
    ask("scontrol", "requeue", job)
    exit = the_exit(procs)
    assert (exit.kind, exit.certificate.verdict, exit.certificate.class_) == ("lost", "requeued", "evicted")


def test_what_calls_back_is_not_run_again_by_slurm(cluster):
    exit = the_exit(cluster.spawn(launcher=cluster.launcher(requeue=True)))
    assert exit.kind == "failed"
    assert "restart=" in exit.failed_reason


@pytest.mark.timeout(150)
def test_what_was_on_a_node_that_fails_is_lost(cluster):
    procs = cluster.program("echo $$; exec sleep 300", launcher=cluster.launcher(nodelist="n2"))
    pid = int(next(iter(procs.logs(follow=True))).split()[-1])
    daemon = next(p for p in Path("/proc").glob("[0-9]*") if is_step_of(p, handles(procs)[0]))
    with cluster.without("slurmd-n2", signal.SIGKILL):
        os.kill(int(daemon.name), signal.SIGKILL)
        [exit] = procs.wait(timeout=100).get().values()
        assert exit.kind == "lost"
        assert "node n2 failed" in exit.failed_reason
        os.kill(pid, signal.SIGKILL)  # nobody else does: its node was gone before it could


def is_step_of(process, job):
    try:
        return f"slurmstepd: [{job}." in (process / "cmdline").read_text()
    except OSError:
        return False


@pytest.mark.timeout(150)
def test_a_controller_that_does_not_answer_makes_a_proc_unknown_and_its_end_comes_when_it_does(cluster):
    end = cluster.output_dir.parent / "end"
    procs = cluster.program(f"echo first; until [ -e {end} ]; do sleep 0.05; done; echo last; exit 6")
    lines = iter(procs.logs(follow=True))
    assert next(lines).endswith("first")
    with cluster.without("slurmctld"):
        until(lambda: status(procs).status == "unknown", "it is unknown")
        end.touch()
        assert next(lines).endswith("last")
        assert procs.exits().item(workers=0) is None
    [exit] = procs.wait(timeout=100).get().values()
    assert (exit.kind, exit.exit_code, exit.stdout_tail) == ("exited", 6, ["first", "last"])


@pytest.mark.timeout(150)
def test_a_job_that_nobody_knows_any_more_is_lost(cluster):
    procs = cluster.program("exec sleep 300")
    until(lambda: status(procs).handle, "it runs")
    with cluster.without("slurmctld", then="-c"):  # with nothing of what it knew
        pass
    [exit] = procs.wait(timeout=100).get().values()
    assert exit.kind == "lost"
    assert "knows job" in exit.failed_reason


def test_terminate_reaches_the_program_and_kill_ends_what_ignores_it_and_its_daemons(cluster):
    procs = cluster.program("trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done")
    assert next(iter(procs.logs(follow=True))).endswith("up")
    procs.terminate(30).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.exit_code) == ("exited", 4)
    assert "terminate" in exit.requested
    daemon = "setsid -f sh -c 'echo $$; exec env -i sleep 300'"
    procs = cluster.program(f"trap '' TERM; {daemon}; while :; do sleep 0.05; done")
    daemon = Path(f"/proc/{next(iter(procs.logs(follow=True))).split()[-1]}")
    assert daemon.exists()
    procs.terminate(0.2).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.signal) == ("signaled", 9)
    until(lambda: not daemon.exists(), "its daemon is gone", 5)


def test_a_job_over_its_memory_is_reported_as_that(cluster):
    with cluster.spawn(resources={"memory": 96 << 20}) as procs:
        procs.spawn("probes", Probe).fill_memory.broadcast()
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.oom) == ("signaled", 9, True)
    assert "memory" in exit.verdict


def test_what_a_launcher_has_launched_is_found_by_another_and_removed(cluster):
    with cluster.program("exec sleep 60", 2, launcher=cluster.launcher(comment="ours | for now")) as procs:
        until(lambda: all(handles(procs)), "both run")
        other = cluster.launcher()._connected()
        waiter = other.list()
        assert waiter.wait(30)
        found = {handle: (running, left_over, labels) for handle, running, left_over, labels in waiter.result()}
        assert sorted(found) == sorted(handles(procs))
        assert {(running, left_over) for running, left_over, _ in found.values()} == {(True, False)}
        ids = {labels["procession.proc"] for *_, labels in found.values()}
        assert all(comment.startswith("ours | for now procession.") for _, comment in cluster.jobs().values())
        first, second = handles(procs)
        waiter = other.remove(first)
        assert waiter.wait(30)
        assert waiter.result() is None
        until(lambda: first not in cluster.jobs(), "it is gone")
        assert second in cluster.jobs()
    assert {exit.proc_id for exit in procs.exits().values()} == ids


def test_no_secret_of_a_launch_is_where_slurm_shows_it_or_on_a_command_line(cluster, calls):
    with cluster.spawn(2, env={"CANARY": "value of the canary"}) as procs:
        probe = procs.spawn("probes", Probe)
        inside = probe.environment.call().get(timeout=50).item(workers=0)
        assert inside["CANARY"] == "value of the canary"
        until(lambda: all(handles(procs)), "the launcher has seen them run")
        shown = "".join(calls())
        for job in handles(procs):
            shown += ask("scontrol", "show", "job", job) + ask("scontrol", "write", "batch_script", job, "-")
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        folder = next(cluster.output_dir.iterdir())
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [path for path in folder.iterdir() if path.suffix == ".sh"] == []  # they took them away
    for secret in ("value of the canary", "PROCESSION_BOOTSTRAP"):
        assert secret not in shown
        assert secret.encode() not in b"".join(lines)


def test_what_is_kept_can_be_looked_at(cluster):
    the_exit(cluster.program("echo kept", launcher=cluster.launcher(keep=True)))
    [folder] = cluster.output_dir.iterdir()
    assert (folder / "0.out").read_text() == "kept\n"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_what_slurm_refuses_is_a_failed_launch_in_its_words(cluster):
    exit = the_exit(cluster.program("true", launcher=cluster.launcher("nowhere")))
    assert exit.kind == "failed"
    assert "invalid partition" in exit.failed_reason


def test_options_of_sbatch_stand_in_the_place_of_ours(cluster):
    procs = cluster.program("echo $SLURM_JOB_PARTITION", launcher=cluster.launcher(options=["--partition=high"]))
    assert the_exit(procs).stdout_tail == ["high"]


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("options", {"options": "--exclusive"}),
        ("options[0]", {"options": ["--wrap=true"]}),
        ("output_dir", {"output_dir": "here"}),
        ("bind", {"bind": "localhost"}),
        ("conf", {"conf": "/no/such/slurm.conf"}),
        ("nodes", {"nodes": 0}),
        ("poll", {"poll": 0}),
    ],
)
def test_what_is_no_configuration_is_refused_before_anything_starts(cluster, field, more):
    with pytest.raises(InvalidArgument) as refused:
        cluster.launcher(**more).connect()
    assert refused.value.field == field


def test_where_there_is_no_slurm_there_is_no_launcher(cluster, tmp_path, monkeypatch):
    with monkeypatch.context() as nowhere:
        nowhere.setenv("PATH", str(tmp_path))
        with pytest.raises(LauncherUnavailable, match="no Slurm answers: scontrol cannot be run"):
            cluster.launcher().connect()


def test_what_jobs_cannot_do_is_refused(cluster):
    with pytest.raises(InvalidArgument, match="rlimits"):
        cluster.spawn(rlimits={"nofile": 256})
    exit = the_exit(cluster.program("", env={"a.b": "c"}))
    assert exit.kind == "failed"
    assert "a.b" in exit.failed_reason
