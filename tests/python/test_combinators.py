"""Launchers made of launchers, over real ones."""

import json
import sys
import time

import pytest

from launching import Supervising
from procession.actor import Actor, endpoint, this_host
from procession.errors import InvalidArgument, Unsupported
from procession.launch import DialBack
from procession.launchers import Chaos, Fallback, Record, Replay, Retry, Throttle, Zygote, native
from procession.testing import FailsToLaunch, FakeLauncher

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


def refusing():
    return FakeLauncher(default=[FailsToLaunch("the engine is full")])


def shell(text):
    return {"bootstrap_command": ["sh", "-c", text], "readiness": "none"}


def only(mesh):
    [one] = mesh.values()
    return one


class Echo(Actor):
    @endpoint
    def echo(self, value):
        return value

    @endpoint
    def spawns(self):
        """Procs of its own, through a combination."""
        launcher = Throttle(Retry(None), at_once=2)
        with this_host().spawn_procs({"y": 3}, launcher=launcher) as procs:
            procs.initialized.get(30)
            return [status.launcher for status in procs.statuses().values()]


class Elsewhere(Supervising):
    dial_back = DialBack.network(bind="127.0.0.1:0")


@pytest.mark.parametrize(
    "launcher",
    [
        lambda: Throttle(None, at_once=2, per_second=200.0),
        lambda: Retry(native(), times=2),
        lambda: Fallback(native(), None),
        lambda: Chaos(None, seed=1, delay=0.02),
        lambda: Throttle(Retry(Fallback(Supervising, Supervising)), at_once=4),
    ],
    ids=["throttle", "retry", "fallback", "chaos", "over-a-class"],
)
def test_actors_run_and_stop_through_a_combination(launcher):
    with this_host().spawn_procs({"x": 4}, launcher=launcher()) as procs:
        actors = procs.spawn("echo", Echo)
        assert list(actors.echo.call(5).get(30).values()) == [5, 5, 5, 5]
        procs.stop().get(30)
        assert [exit.exit_code for exit in procs.exits().values()] == [0, 0, 0, 0]


def test_procs_are_forked_through_a_combination_that_is_around_a_zygote():
    zygote = Zygote(Supervising, preload=["json"])
    with this_host().spawn_procs({"x": 2}, launcher=Retry(zygote)) as procs:
        procs.initialized.get(30)
        assert all("zygote" in status.launcher for status in procs.statuses().values())
    zygote.close().get(30)


def test_launches_of_a_throttle_begin_no_faster_than_asked_for():
    launcher = Throttle(None, per_second=20.0)
    procs = this_host().spawn_procs({"x": 9}, launcher=launcher, **shell("true"))
    ends = procs.wait(30).get().values()
    starts = sorted(exit.ended_at for exit in ends)
    assert starts[-1] - starts[0] > 8 / 20 - 0.05


def test_the_next_launcher_takes_what_the_first_one_refuses():
    first = refusing()
    with pytest.raises(InvalidArgument, match="reach back"):
        this_host().spawn_procs({"x": 1}, launcher=Fallback(first, None))
    fallback = Fallback(Retry(first, times=1, pause=0.01), FakeLauncher())
    procs = this_host().spawn_procs({"x": 64}, name="both", launcher=fallback)
    procs.initialized.get(30)
    assert first.launches("both-63") == 2
    procs.kill().get(30)
    assert [exit.signal for exit in procs.wait(30).get().values()] == [9] * 64


def test_a_kill_that_comes_while_a_retry_waits_ends_it_with_one_exit():
    first = refusing()
    procs = this_host().spawn_procs({"x": 64}, name="waits", launcher=Retry(first, times=5, pause=60.0))
    deadline = time.monotonic() + 20
    while first.launches("waits-63") == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
    procs.kill().get(10)
    verdicts = [exit.verdict for exit in procs.wait(10).get().values()]
    assert len(verdicts) == 64
    assert all("the engine is full" in verdict or "killed" in verdict for verdict in verdicts), verdicts
    assert [len(history.exits) for history in procs.history().values()] == [1] * 64


def test_chaos_says_what_it_has_done_and_does_the_same_again():
    def run():
        launcher = Chaos(None, seed=5, launch_fails=0.3, exits_early=0.3, early_within=0.2)
        with this_host().spawn_procs({"x": 16}, name="chaos", launcher=launcher, **shell("sleep 1.5")) as procs:
            ends = procs.wait(30).get().values()
        return [(end.kind, end.exit_code, end.signal) for end in ends], ends

    first, ends = run()
    again, _ = run()
    assert first == again
    assert {kind for kind, _, _ in first} == {"exited", "failed", "signaled"}
    for end in ends:
        if end.kind == "failed":
            assert "injected by chaos (seed 5)" in end.verdict
        elif end.kind == "signaled":
            assert "injected by chaos (seed 5): killed" in end.stderr_tail[-1]


def test_a_recording_is_replayed_without_its_launcher_and_keeps_no_secret(tmp_path):
    file = tmp_path / "tape.jsonl"
    text = "echo out; echo err >&2; sleep 0.3; exit 7"
    with_env = {"env": {"TOKEN": "canary-of-the-test"}}

    def run(launcher, name="taped"):
        procs = this_host().spawn_procs({"x": 2}, name=name, launcher=launcher, **shell(text), **with_env)
        ends = procs.wait(30).get().values()
        return [(end.kind, end.exit_code, end.stdout_tail, end.stderr_tail) for end in ends]

    recorded = run(Record(None, file))
    assert recorded == [("exited", 7, ["out"], ["err"])] * 2
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["launcher"] == "native"
    asked = [line["asked"] for line in lines if line.get("what") == "launch"]
    assert [(one["program"].endswith("sh"), one["args"], "TOKEN" in one["env"]) for one in asked] == [
        (True, ["-c", text], True)
    ] * 2
    assert "canary-of-the-test" not in file.read_text()
    replay = Replay(file)
    begun = time.monotonic()
    assert run(replay) == recorded
    assert time.monotonic() - begun >= 0.3
    [(kind, *_), _] = run(replay)
    assert kind == "failed"  # each was recorded once
    procs = this_host().spawn_procs({"x": 1}, name="new", launcher=replay, **shell(text))
    assert 'no launch of proc "new-0" was recorded' in only(procs.wait(30).get()).verdict


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(OSError, match="missing"):
        this_host().spawn_procs({"x": 1}, launcher=Replay(tmp_path / "missing"), readiness="none")
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(ValueError, match="no recording"):
        this_host().spawn_procs({"x": 1}, launcher=Replay(tmp_path / "text"), readiness="none")


def test_an_actor_launches_through_a_combination_too():
    with this_host().spawn_procs({"x": 1}) as procs:
        launchers = procs.spawn("echo", Echo).spawns.call_one().get(60)
    assert launchers == ["throttle(retry(native))"] * 3


def test_what_makes_no_sense_is_refused_with_its_reason():
    refused = [
        (lambda: Throttle(None), "nothing to bound"),
        (lambda: Throttle(None, at_once=0), "at_once"),
        (lambda: Throttle(None, per_second=0), "above 0"),
        (lambda: Retry(None, times=-1), "times"),
        (lambda: Fallback(None), "two at least"),
        (lambda: Chaos(None, seed=1, launch_fails=1.5), "share"),
        (lambda: Chaos(None, seed=-1), "seed"),
    ]
    for make, why in refused:
        with pytest.raises(InvalidArgument, match=why):
            make()
    with pytest.raises(TypeError, match="launcher"):
        Retry("docker")
    with pytest.raises(InvalidArgument, match="reach back in different ways"):
        this_host().spawn_procs({"x": 1}, launcher=Fallback(None, Elsewhere), readiness="none")
    with pytest.raises(Unsupported, match="combine the launcher that the Zygote"):
        this_host().spawn_procs({"x": 1}, launcher=Retry(Zygote(Supervising)), **shell("true"))


@pytest.mark.parametrize(
    "launcher",
    [
        lambda: Throttle(None, at_once=8),
        lambda: Retry(None),
        lambda: Fallback(None, None),
        lambda: Chaos(None, seed=1),
    ],
    ids=["throttle", "retry", "fallback", "chaos"],
)
def test_a_combination_of_native_launchers_keeps_the_promises_of_one(launcher):
    from procession import _native

    if "conformance" not in _native.features():
        pytest.skip("this build has no conformance kit")
    from procession._conformance import conform

    some = ("exit.*", "stop.*")
    rows = [(one.name, one.outcome, one.why) for one in conform(launcher(), only=some, python=sys.executable, jobs=2)]
    assert [row for row in rows if row[1] == "failed"] == []
    assert len([row for row in rows if row[1] == "passed"]) > 20
