"""The lives of procs: how they start, how they are watched, and how they end."""

import asyncio
import itertools
import os
import re
import signal
import sys
import time

import pytest

from procession.actor import Actor, Extent, Point, current_rank, default_bootstrap_cmd, endpoint, this_host, this_proc
from procession.errors import AlreadyExists, InvalidArgument, LaunchFailed, Unsupported
from procession.launch import BootstrapCommand

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


def sh(command, **kwargs):
    """A mesh of one program that knows nothing of us."""
    kwargs.setdefault("readiness", "none")
    return this_host().spawn_procs(bootstrap_command=["/bin/sh", "-c", command], **kwargs)


class Probe(Actor):
    @endpoint
    def look(self):
        secrets = [name for name in os.environ if name.startswith("PROCESSION_")]
        return {"env": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "secrets": secrets, "pid": os.getpid()}

    @endpoint
    def say(self, out, err):
        print(out)
        print(err, file=sys.stderr)

    @endpoint
    def end(self, code):
        os._exit(code)

    @endpoint
    def sleep(self):
        time.sleep(60)

    @endpoint
    def ignore_sigterm(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    @endpoint
    def mark(self):
        return getattr(sys, "procession_test_mark", None)

    @endpoint
    def rank(self):
        return current_rank()


def ended(procs, timeout=20):
    return list(procs.wait(timeout).get().values())


def test_procs_have_the_shape_that_was_asked_for():
    assert this_host().sizes == {}
    with this_host().spawn_procs(per_host={"hosts": 2, "gpus": 2}) as procs:
        assert procs.extent == Extent(["hosts", "gpus"], [2, 2])
        assert len(procs) == 4
        assert procs.initialized.get(30) is True
        assert [str(status) for status in procs.statuses().values()] == ["ready"] * 4


def test_a_clean_stop_lets_every_proc_return_zero():
    procs = this_host().spawn_procs(per_host={"x": 2}, name="clean")
    procs.spawn("probe", Probe).look.call().get(30)
    procs.stop("enough of it").get(20)
    for rank, one in enumerate(procs.exits().values()):
        assert (one.name, one.rank, one.kind, one.exit_code, one.ok) == (f"clean-{rank}", rank, "exited", 0, True)
        assert "enough of it" in one.requested
        assert one.started_at < one.ready_at < one.ended_at
        assert one.launch_id in one.proc_id


@pytest.mark.fault("F2")
@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes_are_reported(code):
    (one,) = ended(sh(f"exit {code}"))
    assert (one.kind, one.exit_code, one.requested, one.shell_code) == ("exited", code, None, code)


@pytest.mark.fault("F3")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_reported(number):
    (one,) = ended(sh(f"kill -{int(number)} $$"))
    assert (one.kind, one.signal, one.exit_code, one.shell_code) == ("signaled", number, None, 128 + number)
    assert "not requested by us" in one.verdict or number != signal.SIGKILL


def test_last_words_are_kept_up_to_the_tail():
    (one,) = ended(sh("for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; exit 3", tail_lines=2))
    assert (one.stderr_tail, one.stdout_tail) == (["err 4", "err 5"], ["out 4", "out 5"])
    (none,) = ended(sh("echo x >&2", tail_lines=0))
    assert none.stderr_tail == []


def test_waiting_has_a_limit_and_changes_nothing():
    with sh("sleep 60") as procs:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            procs.wait(0.05).get()
        with pytest.raises(TimeoutError):
            procs.wait(timeout=0).get()
        assert time.monotonic() - begun < 10
        assert procs.exits().item() is None
        assert procs.statuses().item().status == "running"


def test_waiting_with_a_limit_can_be_awaited():
    async def main():
        async with sh("sleep 60") as procs:
            with pytest.raises(TimeoutError):
                await procs.wait(0.05)
            await procs.kill()
            return await procs.wait(20)

    assert asyncio.run(main()).item().signal == 9


def test_everybody_gets_the_same_exit():
    procs = sh("exit 7")
    futures = [procs.wait() for _ in range(100)]
    assert {future.get(20).item().exit_code for future in futures} == {7}
    assert procs.wait().get(0).item().exit_code == 7


@pytest.mark.fault("F12")
def test_terminate_is_a_sigterm_and_then_a_kill():
    polite, rude = sh("exec sleep 60"), this_host().spawn_procs()
    rude.spawn("probe", Probe).ignore_sigterm.call_one().get(30)
    polite.terminate(10).get(20)
    (one,) = ended(polite)
    assert (one.signal, "terminate" in one.requested) == (signal.SIGTERM, True)
    rude.terminate(0.1).get(20)
    (one,) = ended(rude)
    assert one.signal == signal.SIGKILL


def test_asking_an_ended_proc_to_end_is_fine():
    procs = sh("exit 4")
    ended(procs)
    procs.kill().get(10)
    procs.terminate(1).get(10)
    procs.stop().get(10)
    (one,) = ended(procs)
    assert (one.exit_code, one.requested) == (4, None)


def test_a_slice_is_watched_and_ended_alone():
    with this_host().spawn_procs(per_host={"x": 3}, readiness="none", bootstrap_command=["sleep", "60"]) as procs:
        procs.slice(x=1).kill().get(10)
        assert procs.slice(x=1).wait(20).get().item().rank == 1
        assert [one and one.signal for one in procs.exits().values()] == [None, 9, None]


@pytest.mark.fault("F2")
def test_a_proc_that_dies_before_it_is_ready_fails_initialized_at_once():
    procs = this_host().spawn_procs(
        per_host={"x": 3},
        bootstrap_command=lambda point: BootstrapCommand(
            "/bin/sh", args=["-c", "echo the reason >&2; exit 3" if point.rank == 1 else "exec sleep 60"]
        ),
    )
    with procs, pytest.raises(LaunchFailed, match="the reason") as caught:
        procs.initialized.get(20)
    assert caught.value.rank == 1


def test_a_proc_that_is_late_is_killed_and_says_where_it_was():
    procs = sh("echo still loading >&2; exec sleep 60", readiness="call_back", ready_timeout=0.3)
    with pytest.raises(LaunchFailed, match="still loading"):
        procs.initialized.get(20)
    (one,) = ended(procs)
    assert (one.kind, "ready deadline" in one.requested) == ("signaled", True)


@pytest.mark.fault("F5")
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("/no/such/program", "does not exist"),
        ("/etc/passwd", "ermission denied"),
        ("/etc", "ermission denied|directory"),
    ],
)
def test_a_program_that_cannot_be_run_fails_with_its_cause(program, words):
    procs = this_host().spawn_procs(bootstrap_command=[program], readiness="none")
    (one,) = ended(procs)
    assert (one.kind, one.exit_code, one.shell_code) == ("failed", None, 125)
    assert program in one.failed_reason
    assert re.search(words, one.failed_reason)


def test_the_environment_is_added_to_and_taken_from(monkeypatch):
    monkeypatch.setenv("PROCESSION_TEST_GONE", "x")
    monkeypatch.setenv("TO_BE_REMOVED", "x")
    asked = {"ADDED": "1", "TO_BE_REMOVED": None}
    with this_host().spawn_procs(per_host={"x": 2}, env=lambda point: {**asked, "WHICH": str(point["x"])}) as procs:
        seen = list(procs.spawn("probe", Probe).look.call().get(30).values())
    assert [one["env"]["WHICH"] for one in seen] == ["0", "1"]
    for one in seen:
        assert one["env"]["ADDED"] == "1"
        assert "TO_BE_REMOVED" not in one["env"]
        assert one["secrets"] == ["PROCESSION_LAUNCH_ID"]  # a mark, and no secret


def test_an_environment_can_start_from_nothing():
    (one,) = ended(sh('echo "$HOME|$ONLY"', clear_env=True, env={"ONLY": "this"}))
    assert one.stdout_tail == ["|this"]


def test_procs_see_the_directory_and_the_import_path_of_the_client(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    with this_host().spawn_procs(cwd=tmp_path) as procs:
        seen = procs.spawn("probe", Probe).look.call_one().get(30)
    assert seen["cwd"] == str(tmp_path)
    assert seen["path"][0] == str(tmp_path)


def test_a_directory_that_is_missing_fails_the_launch():
    (one,) = ended(sh("true", cwd="/no/such/directory"))
    assert one.kind == "failed"
    assert "/no/such/directory" in one.failed_reason


def set_mark():
    sys.procession_test_mark = "set"


async def set_mark_later():
    await asyncio.sleep(0)
    sys.procession_test_mark = "set later"


def fail_to_set_up():
    raise OSError("no device here")


@pytest.mark.parametrize(("bootstrap", "mark"), [(set_mark, "set"), (set_mark_later, "set later")])
def test_a_bootstrap_callable_runs_before_any_actor(bootstrap, mark):
    with this_host().spawn_procs(bootstrap=bootstrap) as procs:
        assert procs.spawn("probe", Probe).mark.call_one().get(30) == mark


def test_a_bootstrap_callable_that_raises_fails_the_launch():
    procs = this_host().spawn_procs(bootstrap=fail_to_set_up)
    with pytest.raises(LaunchFailed, match="no device here"):
        procs.initialized.get(30)
    assert not ended(procs)[0].ok


def test_a_live_name_is_taken_and_an_ended_one_is_not():
    with sh("sleep 60", name="unique") as first:
        with pytest.raises(AlreadyExists, match=r"'unique-0' is alive \(incarnation 1\)"):
            sh("sleep 60", name="unique")
        first.kill().get(10)
        ended(first)
        (second,) = ended(sh("true", name="unique"))
    assert (second.name, second.incarnation) == ("unique-0", 2)


def test_ended_procs_can_be_launched_again_in_place():
    with this_host().spawn_procs(per_host={"x": 3}, name="again") as procs:
        probe = procs.spawn("probe", Probe)
        before = [one["pid"] for one in probe.look.call().get(30).values()]
        probe.slice(x=1).end.broadcast(9)
        assert procs.slice(x=1).wait(20).get().item().exit_code == 9
        with pytest.raises(InvalidArgument, match="is alive"):
            procs.respawn([0])
        assert procs.respawn(ranks=[1]).get(30) is None
        assert procs.exits().item(x=1) is None
        after = [one["pid"] for one in procs.spawn("probe", Probe).look.call().get(30).values()]
        assert (after[0], after[2]) == (before[0], before[2])
        assert after[1] != before[1]
        ranks = procs.slice(x=slice(1, 2)).spawn("probe", Probe).rank.call().get(30)
        assert [rank.rank for rank in ranks.values()] == [0]
    assert [one.incarnation for one in procs.exits().values()] == [1, 2, 1]


def test_respawn_without_ranks_takes_all_that_have_ended():
    procs = this_host().spawn_procs(
        per_host={"x": 2}, readiness="none", bootstrap_command=lambda p: ["sleep", "60" if p.rank else "0"]
    )
    with procs:
        procs.slice(x=0).wait(20).get()
        procs.respawn().get(20)
        procs.slice(x=0).wait(20).get()
        assert [one and one.incarnation for one in procs.exits().values()] == [2, None]
        with pytest.raises(InvalidArgument, match="each rank once"):
            procs.respawn([0, 0])
        with pytest.raises(InvalidArgument, match=r"ranks = 5: this mesh has ranks 0 to 1$"):
            procs.respawn([5])


def test_logs_have_the_rank_in_front():
    procs = this_host().spawn_procs(per_host={"x": 2})
    with procs:
        procs.spawn("probe", Probe).say.call("to stdout", "to stderr").get(30)
        procs.stop().get(20)
        assert list(procs.logs()) == ["[0] to stdout", "[0] to stderr", "[1] to stdout", "[1] to stderr"]
        assert list(procs.slice(x=slice(1, 2)).logs(tail=1)) == ["[0] to stdout", "[0] to stderr"]
        assert list(procs.logs(tail=0)) == []


def test_logs_can_be_followed_to_the_end(tmp_path):
    gate = tmp_path / "gate"
    procs = sh(f"echo first; while [ ! -e {gate} ]; do sleep 0.01; done; echo second; echo third >&2")
    seen = []
    for line in procs.logs(follow=True):
        seen.append(line)
        gate.touch()
    assert seen[0] == "[0] first"
    assert sorted(seen) == ["[0] first", "[0] second", "[0] third"]

    async def follow():
        seen = []
        async for line in sh(f"while [ -e {gate} ]; do sleep 0.01; done; echo a; echo b").logs(follow=True):
            seen.append(line)
        return seen

    async def open_and_follow():
        following = asyncio.create_task(follow())
        await asyncio.sleep(0)  # it has subscribed
        gate.unlink()
        return await following

    assert asyncio.run(open_and_follow()) == ["[0] a", "[0] b"]


def test_following_gives_each_line_once_where_the_past_meets_what_comes():
    with sh("i=0; while :; do i=$((i+1)); echo $i; done") as procs:
        assert next(iter(procs.logs(follow=True)))
        for _ in range(300):
            numbers = [int(line.split()[1]) for line in itertools.islice(procs.logs(follow=True), 150)]
            assert numbers == list(range(numbers[0], numbers[0] + 150))
        procs.kill().get(20)


def test_programs_that_never_call_back_host_no_actors():
    with sh("sleep 60") as procs:
        assert procs.initialized.get(20) is True
        with pytest.raises(Unsupported, match="host no actors"):
            procs.spawn("probe", Probe)


def test_this_proc_is_a_mesh_of_one_whose_life_is_its_own():
    procs = this_proc()
    assert (procs.sizes, len(procs)) == ({}, 1)
    with pytest.raises(Unsupported, match="was launched by another process"):
        procs.kill()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"per_host": {}}, "at least one dimension"),
        ({"per_host": {"x": 0}}, "at least 1"),
        ({"name": "a/b"}, "character '/'"),
        ({"name": "x" * 127}, "it has 129 characters"),
        ({"readiness": "soon"}, 'has to be "call_back" or "none"'),
        ({"ready_timeout": -1}, "ready_timeout = -1"),
        ({"stop_grace": float("nan")}, "stop_grace = nan"),
        ({"ack_timeout": True}, "ack_timeout = True"),
        ({"tail_lines": -1}, "tail_lines = -1"),
        ({"env": {"A": 1}}, "env"),
        ({"env": lambda point: {"PROCESSION_X": "1"}}, "reserved"),
        ({"env": 5}, "has to be a dict"),
        ({"cwd": ""}, "cannot be empty"),
        ({"clear_env": 1}, "True or False"),
        ({"bootstrap": 3}, "has to be a callable"),
        ({"bootstrap": set_mark, "readiness": "none"}, "cannot run it"),
        ({"bootstrap_command": []}, "names a program"),
        ({"bootstrap_command": "sleep 60"}, "pass a list"),
        ({"bootstrap_command": ["bin/x"]}, "needs cwd="),
        ({"bootstrap_command": BootstrapCommand("")}, "cannot be empty"),
        ({"on_owner_loss": "forget"}, "on_owner_loss"),
        ({"restart": 3}, r'restart = 3: has to be "never", "on_failure", "always" or a procession.Restart'),
        ({"restart": "sometimes"}, "restart"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(kwargs, words):
    with pytest.raises(InvalidArgument, match=words):
        this_host().spawn_procs(**kwargs)


def test_env_is_asked_for_each_point():
    asked = []

    def env(point):
        asked.append(point)
        return {}

    with this_host().spawn_procs(per_host={"a": 2, "b": 2}, env=env, readiness="none", bootstrap_command=["true"]):
        pass
    assert asked == [Point(rank, Extent(["a", "b"], [2, 2])) for rank in range(4)]


class Interpreter(Actor):
    @endpoint
    def get(self, name):
        return sys.executable, os.environ.get(name)


def test_the_default_command_can_be_given_variables_and_another_interpreter(monkeypatch):
    monkeypatch.setenv("INHERITED", "yes")
    command = default_bootstrap_cmd()
    changed = command.with_env({"INHERITED": None, "ADDED": "1"}).with_env({"MORE": "2"})
    assert (command.env, changed.env) == ({}, {"INHERITED": None, "ADDED": "1", "MORE": "2"})
    host = this_host().with_python_executable(sys.executable)
    for procs in (this_host().spawn_procs(bootstrap_command=changed), host.spawn_procs(env={"MORE": "2"})):
        with procs:
            assert procs.spawn("one", Interpreter).get.call_one("MORE").get(30) == (sys.executable, "2")
    with this_host().spawn_procs(bootstrap_command=changed) as procs:
        assert procs.spawn("one", Interpreter).get.call_one("INHERITED").get(30)[1] is None
    with pytest.raises(InvalidArgument, match=r"^python_executable"):
        this_host().with_python_executable("")


class Pair(Actor):
    def __init__(self, one, *, two=2):
        self.sum = one + two


class NoInit(Actor):
    pass


@pytest.mark.parametrize(
    ("cls", "args", "kwargs", "words"),
    [
        (Pair, (), {}, "missing a required argument: 'one'"),
        (Pair, (1, 2), {}, "too many positional"),
        (Pair, (1,), {"three": 3}, "unexpected keyword argument 'three'"),
        (NoInit, (1,), {}, "NoInit has no __init__ and takes no arguments; given were 1"),
    ],
)
def test_arguments_that_a_class_cannot_be_built_with_are_refused_where_it_is_spawned(cls, args, kwargs, words):
    with pytest.raises(TypeError, match=words):
        this_proc().spawn("one", cls, *args, **kwargs)
