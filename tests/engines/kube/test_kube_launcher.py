"""The built-in launcher for Kubernetes against a real one: every proc is a pod."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from probe import Owner, Probe

import procession.actor
from procession import launchers
from procession.actor import SupervisionError, this_host
from procession.errors import InvalidArgument, LauncherUnavailable
from procession.launchers import Kubernetes

IMAGE = os.environ.get("DOCKER_IMAGE", "")


@pytest.fixture(autouse=True)
def _deaths_are_expected(monkeypatch):
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", lambda failure: None, raising=False)


def kubectl(*arguments, stdin=None):
    done = subprocess.run(["kubectl", *arguments], check=True, capture_output=True, text=True, timeout=50, input=stdin)
    return done.stdout.strip()


class Cluster:
    """The cluster that these tests run against, as an onlooker sees it."""

    work = Path(os.environ.get("KUBECONFIG", "")).parent

    @staticmethod
    def launcher(**more):
        return Kubernetes(**{"image": IMAGE, "image_pull_policy": "Never", **more})

    def spawn(self, count=1, launcher=None, **more):
        return this_host().spawn_procs({"workers": count}, launcher=launcher or self.launcher(), **more)

    def program(self, code, count=1, **more):
        """Programs that do not call back."""
        return self.spawn(count, bootstrap_command=["python3", "-c", code], readiness="none", **more)

    @staticmethod
    def found(kind):
        """Every pod or secret of ours, as the API has it."""
        return json.loads(kubectl("get", kind, "--selector=procession.launcher", "--output=json"))["items"]

    def left(self):
        """What there still is of ours, and what keeps it."""
        keeps = ("name", "finalizers", "deletionTimestamp", "deletionGracePeriodSeconds")
        every = [one for kind in ("pods", "secrets") for one in self.found(kind)]
        return [({key: one["metadata"].get(key) for key in keeps}, one.get("status")) for one in every]

    def pid(self, daemon):
        """None while it is none."""
        path = self.work / f"{daemon}.pid"
        return int(path.read_text() or 0) or None if path.exists() else None

    @contextmanager
    def without(self, daemon):
        """One of its daemons is not there meanwhile, and comes back."""
        hold, pid = self.work / f"{daemon}.hold", self.pid(daemon)
        hold.touch()
        os.kill(pid, signal.SIGKILL)
        try:
            until(lambda: not Path(f"/proc/{pid}").exists(), f"{daemon} is gone")
            yield
        finally:
            hold.unlink()
            until(lambda: self.pid(daemon) not in (None, pid), f"{daemon} is back")


SLEEP = "import time; time.sleep(60)"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
ASKED = "import signal, sys; signal.signal(15, lambda *_: sys.exit(4)); print('up', flush=True); signal.pause()"


def until(condition, what, seconds=50):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def cluster():
    cluster = Cluster()
    yield cluster
    try:
        until(lambda: cluster.left() == [], "nothing is left", 60)
    except AssertionError:
        pytest.fail(f"left in the cluster: {cluster.left()}", pytrace=False)


def the_exit(procs):
    [(_, exit)] = procs.wait(timeout=55).get().items()
    return exit


def status(procs):
    return procs.statuses().item(workers=0)


def handles(procs):
    return [status.handle for status in procs.statuses().values()]


def test_actors_in_pods_are_reached_and_each_pod_says_whose_it_is(cluster):
    with cluster.spawn(3) as procs:
        places = list(procs.spawn("probes", Probe).place.call().get(timeout=55).values())
        assert [rank for rank, *_ in places] == [0, 1, 2]
        assert len({namespace for *_, namespace in places}) == 3
        until(lambda: all(handles(procs)), "the launcher has seen them run")
        pods = cluster.found("pods")
        assert {pod["metadata"]["name"] for pod in pods} == set(handles(procs)) == {host for _, host, _ in places}
        whose = [pod["metadata"]["annotations"] for pod in pods]
        assert {one["procession.process"].split(":")[2] for one in whose} == {str(os.getpid())}
        assert all(len(pod["metadata"]["labels"]["procession.incarnation"]) == 32 for pod in pods)
    exits = list(procs.exits().values())
    assert {exit.proc_id for exit in exits} == {one["procession.proc"] for one in whose}
    assert [(exit.kind, exit.exit_code) for exit in exits] == [("exited", 0)] * 3


def test_no_secret_of_a_launch_is_in_what_pods_show_and_each_goes_with_its_pod(cluster):
    with cluster.spawn(env={"TOKEN": "canary"}) as procs:
        environment = procs.spawn("probes", Probe).environment.call().get(timeout=55).item(workers=0)
        assert environment["TOKEN"] == "canary"
        [pod], [secret] = cluster.found("pods"), cluster.found("secrets")
        assert "canary" not in json.dumps(pod)
        assert {"TOKEN", "PROCESSION_BOOTSTRAP"} <= secret["data"].keys()
        assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [pod["metadata"]["uid"]]


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_exit_code_and_the_last_words_come_back(cluster, code):
    exit = the_exit(cluster.program(f"import os; os.write(1, b'out\\n'); os.write(2, b'last words'); os._exit({code})"))
    assert (exit.kind, exit.exit_code, exit.requested) == ("exited", code, None)
    assert (exit.stdout_tail, exit.stderr_tail) == (["out", "last words"], [])


@pytest.mark.parametrize("number", [6, 9, 15])
def test_a_signal_inside_a_pod_comes_back(cluster, number):
    with cluster.spawn() as procs:
        with pytest.raises(SupervisionError):
            procs.spawn("probes", Probe).signal.call(number).get(timeout=55)
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.requested) == ("signaled", number, None)
    assert exit.stdout_tail[-1] == "last words"


def test_a_pod_over_its_memory_is_reported_as_that(cluster):
    with cluster.spawn(resources={"memory": 96 << 20}) as procs:
        procs.spawn("probes", Probe).fill_memory.broadcast()
        exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.oom) == ("signaled", 9, True)
    assert "memory" in exit.verdict


def test_what_is_asked_of_a_pod_is_asked_of_the_cluster(cluster):
    launcher = cluster.launcher(
        volumes=["memory/16Mi:/scratch", "/etc/hostname:/outside:ro"],
        labels={"team": "one"},
        annotations={"why": "a test, of course"},
        node_selector={"kubernetes.io/os": "linux"},
        tolerations=["some:NoSchedule"],
        patch={"spec": {"containers": [{"name": "proc", "securityContext": {"readOnlyRootFilesystem": True}}]}},
    )
    source = (
        "import os, time; print(open('/outside').read().strip(), os.getcwd(), os.getuid(), os.getgid(), os.environ['A'], flush=True)\n"
        "try: open('/no', 'w')\nexcept OSError as error: print(error.errno, flush=True)\ntime.sleep(60)"
    )
    with cluster.program(
        source, launcher=launcher, resources={"cpu": 0.5}, user=(0, 1234), cwd="/scratch", env={"A": "b c"}
    ) as procs:
        lines = iter(procs.logs(follow=True))
        assert next(lines).endswith(f"{Path('/etc/hostname').read_text().strip()} /scratch 0 1234 b c")
        assert next(lines).endswith(str(errno.EROFS))
        [pod] = cluster.found("pods")
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m"}
    assert pod["metadata"]["labels"]["team"] == "one"
    assert pod["metadata"]["annotations"]["why"] == "a test, of course"


def test_terminate_reaches_the_program_and_kill_ends_what_ignores_it(cluster):
    procs = cluster.program(ASKED)
    assert next(iter(procs.logs(follow=True))).endswith("up")
    procs.terminate(30).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.exit_code) == ("exited", 4)
    assert "terminate" in exit.requested
    procs = cluster.program(DEAF)
    assert next(iter(procs.logs(follow=True))).endswith("up")
    procs.terminate(0.2).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.signal) == ("signaled", 9)


def test_what_can_send_itself_no_signal_gets_it_from_the_kubelet(cluster):
    procs = cluster.program(ASKED, launcher=cluster.launcher(python="/no/such/python"))
    assert next(iter(procs.logs(follow=True))).endswith("up")
    procs.terminate(30).get(timeout=50)
    exit = the_exit(procs)
    assert (exit.kind, exit.exit_code, exit.certificate.verdict) == ("exited", 4, "stopped")


def test_a_kill_that_comes_before_the_pod_runs_ends_it_and_another_changes_nothing(cluster):
    procs = cluster.program(SLEEP)
    procs.kill().get(timeout=30)
    procs.kill().get(timeout=30)
    exit = the_exit(procs)
    assert "kill" in exit.requested
    assert (exit.kind, exit.signal) == ("signaled", 9) or "before" in exit.verdict


def test_twenty_pods_are_killed_at_once(cluster):
    with cluster.program(DEAF, 20) as procs:
        until(lambda: all(handles(procs)), "all run")
        procs.kill().get(timeout=50)
        exits = list(procs.wait(timeout=55).get().values())
    assert [exit.verdict for exit in exits if (exit.kind, exit.signal) != ("signaled", 9)] == []


def test_what_no_node_can_take_says_why_runs_out_of_no_deadline_and_can_be_killed(cluster):
    procs = cluster.spawn(launcher=cluster.launcher(node_selector={"no-node": "has-this"}), ready_timeout=2.0)
    until(lambda: "pending" in (status(procs).progress or ""), "it waits")
    until(lambda: "Unschedulable: 0/1 nodes are available" in status(procs).progress, "it says why")
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 3, "its deadline would have passed")
    assert status(procs).status in ("starting", "running")
    procs.kill().get(timeout=30)
    exit = the_exit(procs)
    assert "kill" in exit.requested
    assert "before its program had started" in exit.verdict


def test_an_image_that_is_not_there_fails_the_launch_by_its_name(cluster):
    for launcher, word in [
        (cluster.launcher(image="no-such-image:0"), "ErrImageNeverPull"),
        (cluster.launcher(image="No Such".replace(" ", ":/"), image_pull_policy=None), "InvalidImageName"),
        (cluster.launcher(image="172.17.0.1:1/a:0", image_pull_policy=None, image_patience=1), "ImagePull"),
    ]:
        exit = the_exit(cluster.spawn(launcher=launcher))
        assert exit.kind == "failed"
        assert word in exit.failed_reason
        assert launcher.config["image"] in exit.failed_reason


def test_a_program_that_the_image_does_not_have_fails_and_leaves_no_pod(cluster):
    exit = the_exit(cluster.spawn(bootstrap_command=["/no/such/program"], readiness="none"))
    assert exit.kind == "failed"
    assert "/no/such/program" in exit.failed_reason


def test_a_pod_that_somebody_else_deletes_or_evicts_has_not_failed_by_itself(cluster):
    procs = cluster.program(SLEEP)
    until(lambda: status(procs).handle, "it runs")
    kubectl("delete", "pod", "--wait=false", *handles(procs))
    exit = the_exit(procs)
    assert (exit.kind, exit.signal, exit.requested) == ("signaled", 15, None)
    assert (exit.certificate.verdict, exit.certificate.class_) == ("deleted", "evicted")


@pytest.mark.timeout(120)
def test_a_preemption_is_no_failure_of_the_program(cluster):
    classes = [
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        for name, value in (("low", 1), ("high", 1000))
    ]
    kubectl("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": classes}))
    node = json.loads(kubectl("get", "node", "node1", "--output=json"))
    most = {"cpu": float(node["status"]["allocatable"]["cpu"]) * 0.8}
    try:
        first = cluster.program(SLEEP, launcher=cluster.launcher(priority_class="low"), resources=most)
        until(lambda: status(first).handle, "it runs")
        with cluster.program(SLEEP, launcher=cluster.launcher(priority_class="high"), resources=most):
            exit = the_exit(first)
    finally:
        kubectl("delete", "priorityclass", "low", "high")
    assert (exit.certificate.verdict, exit.certificate.class_) == ("preempted", "evicted")
    assert exit.requested is None


@pytest.mark.timeout(120)
def test_a_server_that_does_not_answer_makes_a_proc_unknown_and_its_end_and_output_come_when_it_does(cluster, tmp_path):
    tmp_path.chmod(0o755)
    for part in tmp_path.parents:
        if part.is_relative_to("/tmp") and part != Path("/tmp"):
            part.chmod(0o755)
    launcher = cluster.launcher(volumes=[f"{tmp_path}:/outside"])
    source = (
        "import os, time; print('first', flush=True)\n"
        "while not os.path.exists('/outside/end'): time.sleep(0.05)\n"
        "print('last'); raise SystemExit(6)"
    )
    procs = cluster.program(source, launcher=launcher)
    lines = iter(procs.logs(follow=True))
    assert next(lines).endswith("first")
    with cluster.without("kube-apiserver"):
        until(lambda: status(procs).status == "unknown", "it is unknown")
        (tmp_path / "end").touch()
        assert procs.exits().item(workers=0) is None
    assert next(lines).endswith("last")
    [exit] = procs.wait(timeout=60).get().values()
    assert (exit.kind, exit.exit_code, exit.stdout_tail) == ("exited", 6, ["first", "last"])


def test_output_is_whole_and_in_order_however_much_it_is(cluster):
    procs = cluster.program("for i in range(20000): print('line', i)\nprint('x' * 100000, end='')")
    lines = [line.split("] ", 1)[-1] for line in procs.logs(follow=True)]
    the_exit(procs)
    assert [line for line in lines if line.startswith("line")] == [f"line {i}" for i in range(20000)]
    assert sum(line.count("x") for line in lines) == 100000  # which are too many for one line


def test_who_may_not_make_pods_is_told_what_is_missing(cluster):
    nobody = cluster.launcher(kubeconfig=cluster.work / "nobody.conf", bind="172.17.0.1:0")
    exit = the_exit(cluster.program("", launcher=nobody))
    assert exit.kind == "failed"
    assert 'cannot create resource "secrets"' in exit.failed_reason


def test_a_quota_that_is_used_up_is_named(cluster):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    kubectl("apply", "--filename=-", stdin=json.dumps(quota))
    try:
        hard = lambda: "hard" in json.loads(kubectl("get", "quota", "none", "--output=json")).get("status", {})  # noqa: E731
        until(hard, "the quota holds")
        exit = the_exit(cluster.program(""))
    finally:
        kubectl("delete", "quota", "none")
    assert exit.kind == "failed"
    assert "exceeded quota: none" in exit.failed_reason


def test_what_the_server_finds_wrong_in_a_pod_is_told_in_its_words(cluster):
    exit = the_exit(cluster.program("", launcher=cluster.launcher(patch={"spec": {"hostname": "not a name"}})))
    assert exit.kind == "failed"
    assert "spec.hostname" in exit.failed_reason


def test_a_program_is_run_in_a_pod_from_the_command_line(cluster, tmp_path):
    file = tmp_path / "pods.toml"
    file.write_text(f'launcher = "kubernetes"\nimage = "{IMAGE}"\nimage_pull_policy = "Never"\n')
    for name in (f"kubernetes:{IMAGE}", str(file)):
        command = [sys.executable, "-m", "procession", "run", "--launcher", name, "-n", "2"]
        command += [
            "--",
            "python3",
            "-c",
            "import os; print(os.environ['KUBERNETES_SERVICE_HOST']); raise SystemExit(3)",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=55)
        assert done.returncode == 3, done.stderr
        assert sorted(done.stdout.splitlines()) == ["[0] 10.96.0.1", "[1] 10.96.0.1"]


def test_the_cluster_says_what_it_is(cluster):
    listed = next(one for one in launchers.available() if one.name == "kubernetes:IMAGE")
    assert (listed.status, listed.reason) == ("ok", f"by {os.environ['KUBECONFIG']}")
    version = json.loads(kubectl("version", "--output=json"))["serverVersion"]["gitVersion"]
    assert cluster.launcher().probe() == f"Kubernetes {version} at https://127.0.0.1:6443/, namespace default"


def test_where_no_cluster_answers_there_is_no_launcher_and_the_reason_has_the_address(tmp_path):
    text = Path(os.environ["KUBECONFIG"]).read_text()
    (tmp_path / "config").write_text(text.replace(":6443", ":1"))
    with pytest.raises(LauncherUnavailable, match=r"no Kubernetes answers at https://127.0.0.1:1/: .*refused"):
        Cluster.launcher(kubeconfig=tmp_path / "config").connect()


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("image", {"image": ""}),
        ("volumes", {"volumes": "/a:/b"}),
        ("volumes[0]", {"volumes": ["/a"]}),
        ("tolerations[0]", {"tolerations": ["a:Never"]}),
        ("namespace", {"namespace": "Not A Name"}),
        ("labels", {"labels": {"procession.proc": "x"}}),
        ("labels", {"labels": {"a": 1}}),
        ("image_pull_policy", {"image_pull_policy": "sometimes"}),
        ("gpus", {"gpus": -1}),
        ("kubeconfig", {"kubeconfig": "/no/such/file"}),
        ("launches_at_once", {"launches_at_once": 0}),
    ],
)
def test_what_is_no_configuration_is_refused_before_anything_starts(field, more):
    with pytest.raises(InvalidArgument) as refused:
        Cluster.launcher(**more).connect()
    assert refused.value.field == field


def test_what_pods_cannot_do_is_refused(cluster):
    for field, more in [
        ("proc_bind", {"proc_bind": [{"cpus": "0"}]}),
        ("pids", {"resources": {"pids": 10}}),
        ("rlimits", {"rlimits": {"nofile": 100}}),
    ]:
        with pytest.raises(InvalidArgument, match=field):
            cluster.program("", **more)
    for word, more in [
        ("clear_env", {"clear_env": True}),
        ("HOME", {"env": {"HOME": None}}),
        ("1A", {"env": {"1A": ""}}),
    ]:
        exit = the_exit(cluster.program("", **more))
        assert exit.kind == "failed"
        assert word in exit.failed_reason


def test_a_pod_that_is_kept_can_be_looked_at(cluster):
    the_exit(cluster.program("print('kept')", launcher=cluster.launcher(keep=True)))
    [pod] = cluster.found("pods")
    assert kubectl("logs", pod["metadata"]["name"]) == "kept"
    kubectl("delete", "pod", pod["metadata"]["name"])


def test_pods_of_an_actor_end_with_it(cluster):
    with this_host().spawn_procs({"owner": 1}) as owners:
        owner = owners.spawn("owner", Owner, cluster.launcher(), Probe)
        assert owner.launch.call_one().get(timeout=55) == 2
        assert len(cluster.found("pods")) == 2
        owner.stop().get(timeout=55)
        assert cluster.found("pods") == []


LEAVER = """
import os, signal, time
from procession.actor import this_host
from procession.launchers import Kubernetes
launcher = LAUNCHER
procs = this_host().spawn_procs(launcher=launcher, bootstrap_command=["python3", "-c", "import time; time.sleep(300)"],
                                  readiness="none", name="left")
while procs.statuses().item().handle is None:  # then it is there
    time.sleep(0.02)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_client_has_left_is_shown_by_gc_and_taken_away_and_what_lives_is_not(cluster):
    source = LEAVER.replace("LAUNCHER", repr(cluster.launcher()).removeprefix("launchers."))
    assert subprocess.run([sys.executable, "-c", source], timeout=55).returncode == -9

    def gc(*more):
        command = [sys.executable, "-m", "procession", "gc", "--launcher", "kubernetes", "--json", *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    with cluster.program("import time; time.sleep(300)", name="living") as living:
        until(lambda: status(living).handle, "it runs")
        [found] = gc("--dry-run")
        assert found["what"].startswith("left-0.")
        assert not found["removed"]
        assert len(cluster.found("pods")) == 2
        assert gc() == [{**found, "removed": True}]
        [pod] = cluster.found("pods")
        assert pod["metadata"]["annotations"]["procession.proc"].startswith("living-0.")
        assert gc() == []
