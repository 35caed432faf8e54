"""Restart policies, from Python: what is launched again, what ends that, and what becomes of actors."""

import asyncio
import os
import signal
import time

import pytest

from launching import Followed, Supervising, parent_of, spawn, until
from procession import Restart, _native
from procession.actor import Actor, SupervisionError, current_rank, endpoint, this_host
from procession.errors import InvalidArgument, LaunchFailed

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

AT_ONCE = Restart(backoff=(0.01, 0.05))
MUCH_LATER = Restart(backoff=(3600, 3600))


def sh(command, restart, **kwargs):
    return spawn(None, command, restart=restart, **kwargs)


def waits(procs, rank=0):
    """Whether a rank has ended and is launched again later."""
    return procs.statuses().get(rank).next_launch_at is not None


def is_up(procs, incarnation, rank=0):
    status = procs.statuses().get(rank)
    return status.status in ("running", "ready") and status.restarts == incarnation - 1


def kill_process(procs, rank=0):
    os.kill(procs.statuses().get(rank).pid, signal.SIGKILL)


@pytest.mark.fault("F35")
def test_a_crash_loop_stops_at_the_limit_says_so_and_costs_next_to_nothing():
    used, asked = time.process_time(), time.monotonic()
    procs = sh("echo last words >&2; exit 7", Restart(intensity=3, period=60, backoff=(0.2, 0.8), jitter=0))
    one = procs.wait(40).get().item()
    assert (time.process_time() - used) / (time.monotonic() - asked) < 0.2
    assert (one.exit_code, one.incarnation, one.stderr_tail) == (7, 4, ["last words"])
    assert one.verdict == "app error: exit code 7; not restarted: RestartLimit 3 in 60 s"
    status = procs.statuses().item()
    assert (status.status, status.restarts, status.next_launch_at) == ("exited", 3, None)
    history = procs.history().item()
    assert history.dropped == 0
    assert [(each.incarnation, each.verdict) for each in history.exits[:3]] == [
        (number, "app error: exit code 7") for number in (1, 2, 3)
    ]
    assert history.exits[3] == one == procs.exits().item()
    for wait, before, after in zip((0.2, 0.4, 0.8), history.exits, history.exits[1:], strict=False):
        assert after.started_at - before.ended_at >= wait * 0.99  # these are times of another clock


@pytest.mark.fault("F21")
def test_a_new_launch_of_a_name_survives_the_escalation_of_the_one_before():
    procs = sh("exec sleep 1000", AT_ONCE)
    procs.initialized.get(20)
    asked = time.monotonic()
    procs.terminate(0.3).get(20)
    assert procs.wait(20).get().item().signal == signal.SIGTERM
    procs.respawn().get(20)
    while (
        time.monotonic() < asked + 1.0
    ):  # whoever escalates does it within this time, and nothing else shows that nobody does
        assert procs.exits().item() is None
        time.sleep(0.02)
    procs.stop().get(20)


def test_events_tell_of_restarts_between_the_ends():
    async def follow():
        procs = sh("exit 1", Restart(intensity=1, backoff=(0.01, 0.01), jitter=0))
        told = []
        async for event in procs.events():
            if event.kind in ("exit", "restarting", "restart_limit"):
                told.append((event.kind, event.incarnation, event.detail))
        return told

    told = asyncio.run(follow())
    assert [(kind, incarnation) for kind, incarnation, _ in told][-4:] == [
        ("exit", 1),
        ("restarting", 1),
        ("exit", 2),
        ("restart_limit", 2),
    ]
    restarting = {"next_incarnation": 2, "after": 0.01, "attempt": 1, "of": 1, "why": "app error: exit code 1"}
    assert told[-3][2] == restarting
    assert told[-1][2] == {"limit": "RestartLimit 1 in 60 s"}


@pytest.mark.parametrize(("healthy_after", "waited"), [(3600, [0.01, 0.04, 0.16]), (0, [0.01] * 3)])
def test_each_number_of_a_policy_counts(healthy_after, waited):
    numbers = {"intensity": 3, "period": 120, "backoff": (0.01, 10), "factor": 4, "jitter": 0}
    followed = Followed(None, "exit 1", restart=Restart(**numbers, healthy_after=healthy_after))
    told = followed.until_the_end()
    assert [one["after"] for one in told if one["kind"] == "restarting"] == waited
    assert [one["limit"] for one in told if one["kind"] == "restart_limit"] == ["RestartLimit 3 in 120 s"]


@pytest.mark.parametrize("how", ["stop", "terminate", "kill"])
def test_a_stop_during_the_back_off_ends_restarts_of_a_slice_and_of_a_mesh(how):
    procs = sh("exit 1", MUCH_LATER, per_host={"x": 3})
    until(lambda: all(waits(procs, rank) for rank in range(3)))
    with pytest.raises(TimeoutError):
        procs.wait(0).get()
    getattr(procs.slice(x=1), how)().get(20)
    assert procs.slice(x=1).wait(20).get().item().verdict == "app error: exit code 1"
    assert [waits(procs, rank) for rank in range(3)] == [True, False, True]
    getattr(procs, how)().get(20)
    assert [one.incarnation for one in procs.wait(20).get().values()] == [1, 1, 1]


def test_what_its_policy_launches_again_cannot_be_launched_by_hand():
    procs = sh("exit 1", MUCH_LATER)
    with procs:
        until(lambda: waits(procs))
        with pytest.raises(InvalidArgument, match="its restart policy launches it again"):
            procs.respawn([0])
        procs.respawn().get(20)  # nothing has ended for good


def test_initialized_waits_for_the_launch_that_becomes_ready_and_fails_when_none_will(tmp_path):
    flag = tmp_path / "second"

    def bootstrap():
        if not flag.exists():
            flag.touch()
            raise RuntimeError("not yet")

    with this_host().spawn_procs(bootstrap=bootstrap, restart=AT_ONCE) as procs:
        assert procs.initialized.get(40) is True
        assert procs.history().item().exits[0].verdict.startswith("boot failed")

    def never():
        raise RuntimeError("never")

    hopeless = this_host().spawn_procs(bootstrap=never, restart=Restart(backoff=(0.01, 0.01), budgets={"boot": 1}))
    with pytest.raises(LaunchFailed, match="never"):
        hopeless.initialized.get(40)
    assert hopeless.wait(20).get().item().verdict.endswith("; not restarted: RestartLimit 1 for boot")


def test_a_clean_end_is_launched_again_only_where_the_policy_says_always():
    assert sh("exit 0", "on_failure").wait(20).get().item().incarnation == 1
    always = sh("exit 0", Restart(when="always", intensity=2, backoff=(0, 0)))
    assert always.wait(20).get().item().verdict == "clean exit; not restarted: RestartLimit 2 in 60 s"


def test_one_for_all_launches_every_rank_again():
    with sh("exec sleep 1000", Restart(strategy="one_for_all", backoff=(0.01, 0.01)), per_host={"x": 3}) as procs:
        procs.initialized.get(20)
        before = [status.pid for status in procs.statuses().values()]
        kill_process(procs, rank=2)
        until(lambda: all(is_up(procs, 2, rank) for rank in range(3)))
        assert not {status.pid for status in procs.statuses().values()} & set(before)
        first = [history.exits[0] for history in procs.history().values()]
        assert first[2].requested is None
        assert all("restart at" in one.requested and "rank 2 ended: killed" in one.requested for one in first[:2])


def test_ends_of_what_a_dead_launcher_lost_have_a_budget_of_their_own():
    class Mortal(Supervising):
        pass

    procs = spawn(Mortal, "exec sleep 1000", restart=Restart(backoff=(0.01, 0.01), budgets={"launcher": 0}))
    procs.initialized.get(30)
    until(lambda: procs.statuses().item().pid is not None)
    launcher = parent_of(procs.statuses().item().pid)
    os.kill(launcher, signal.SIGKILL)
    # What dies with the launcher may be launched again; through the launcher that is gone it cannot be.
    one = procs.wait(30).get().item()
    assert one.kind in ("failed", "lost"), one
    assert one.verdict.endswith("; not restarted: RestartLimit 0 for launcher")


ENDS = """
import sys, time
from procession import Restart
from procession.actor import this_host
procs = this_host().spawn_procs({"x": 2}, bootstrap_command=["sh", "-c", "exit 1"], readiness="none",
    restart=Restart(backoff=(float(sys.argv[1]),) * 2, intensity=1000))
while procs.statuses().get(0).restarts < int(sys.argv[2]) or not procs.history().get(0).exits:
    time.sleep(0.01)
print("at it", flush=True)
if sys.argv[3] == "killed":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("wait", "restarts"), [("3600", "0"), ("0", "3")])
@pytest.mark.parametrize("end", ["returns", "killed"])
def test_the_end_of_the_client_ends_what_is_launched_again_and_leaves_nothing(script, wait, restarts, end):
    done = script(ENDS, wait, restarts, end, check=False)
    assert done.stdout == "at it\n", done.stderr
    assert done.returncode == (-9 if end == "killed" else 0), done.stderr


class Counter(Actor):
    def __init__(self, start):
        self.value = start

    @endpoint
    def add(self, amount):
        self.value += amount
        return current_rank().rank, self.value, os.getpid()

    @endpoint
    def hang(self):
        signal.pause()

    @endpoint
    def end(self):
        os._exit(3)


class Caller(Actor):
    def __init__(self, counters):
        self.counters = counters

    @endpoint
    def add(self, amount):
        return [value for _, value, _ in self.counters.add.call(amount).get(30).values()]


def test_calls_to_actors_of_an_earlier_launch_fail_and_name_the_exit_and_the_new_one():
    with this_host().spawn_procs(per_host={"x": 2}, restart=AT_ONCE) as procs:
        counters = procs.spawn("counter", Counter, 10)
        assert [value for _, value, _ in counters.add.call(1).get(30).values()] == [11, 11]
        kill_process(procs)
        until(lambda: is_up(procs, 2))
        with pytest.raises(
            SupervisionError, match=r"ended: killed: signal 9 .*; incarnation 2 was launched in its place"
        ):
            counters.slice(x=0).add.call_one(1).get(20)
        assert counters.slice(x=1).add.call_one(1).get(20)[1] == 12
        again = procs.spawn("counter", Counter, 20)
        assert [value for _, value, _ in again.add.call(1).get(30).values()] == [21, 21]


def test_actors_are_built_again_and_every_reference_reaches_the_new_ones(spawned):
    restart = Restart(backoff=(0.01, 0.01), actors="respawn")
    with this_host().spawn_procs(per_host={"x": 2}, restart=restart) as procs:
        counters = procs.spawn("counter", Counter, 10)
        first = counters.slice(x=0)
        caller = spawned(Caller, counters)
        elsewhere = procs.slice(x=1).spawn("caller", Caller, first)
        assert caller.add.call_one(1).get(30) == [11, 11]
        pid = first.add.call_one(1).get(20)[2]
        hanging = first.hang.call_one()
        kill_process(procs)
        with pytest.raises(SupervisionError, match="killed: signal 9"):
            hanging.get(20)
        # It is dead and not up yet: these wait.
        rank, value, new_pid = first.add.call_one(5).get(40)
        assert (rank, value) == (0, 15)
        assert new_pid != pid
        assert caller.add.call_one(1).get(30) == [16, 12]
        assert elsewhere.add.call_one(1).get(30) == [17]
        first.end.broadcast()
        until(lambda: is_up(procs, 3))
        assert first.add.call_one(1).get(30)[:2] == (0, 11)


def test_calls_made_during_the_back_off_wait_and_fail_once_it_is_stopped():
    with this_host().spawn_procs(restart=Restart(backoff=(3600, 3600), actors="respawn")) as procs:
        counter = procs.spawn("counter", Counter, 10)
        counter.add.call_one(1).get(30)
        kill_process(procs)
        until(lambda: waits(procs))
        waiting = counter.add.call_one(1)
        with pytest.raises(TimeoutError):
            waiting.get(0.2)
        procs.kill().get(20)
        with pytest.raises(SupervisionError, match="is not launched again: somebody stopped it"):
            waiting.get(20)
        with pytest.raises(SupervisionError, match="is not launched again"):
            counter.add.call_one(1).get(20)


def test_calls_fail_with_the_limit_once_a_proc_is_given_up():
    restart = Restart(intensity=1, backoff=(0.01, 0.01), actors="respawn")
    with this_host().spawn_procs(restart=restart) as procs:
        counter = procs.spawn("counter", Counter, 10)
        counter.end.broadcast()
        until(lambda: is_up(procs, 2))
        counter.end.broadcast()
        procs.wait(30).get()
        with pytest.raises(SupervisionError, match="app error: exit code 3; not restarted: RestartLimit 1 in 60 s"):
            counter.add.call_one(1).get(20)


def test_actors_that_were_stopped_and_actors_that_hold_a_once_port_are_not_built_again():
    from procession.actor import Channel

    with this_host().spawn_procs(restart=Restart(backoff=(0.01, 0.01), actors="respawn")) as procs:
        stopped, kept = procs.spawn("stopped", Counter, 1), procs.spawn("kept", Counter, 2)
        stopped.stop().get(30)
        assert kept.add.call_one(1).get(30)[1] == 3
        kill_process(procs)
        until(lambda: procs.history().item().exits)
        assert kept.add.call_one(1).get(40)[1] == 3
        with pytest.raises(SupervisionError, match=r"no actor \"stopped-"):
            stopped.add.call_one(1).get(20)
        port, _ = Channel.open(once=True)
        with pytest.raises(InvalidArgument, match='args = a once port: actors="respawn"'):
            procs.spawn("owner", Counter, port)


DEFAULTS = {
    "when": "on_failure",
    "intensity": 3,
    "period": 60.0,
    "backoff": (0.1, 30.0),
    "jitter": 0.2,
    "healthy_after": 60.0,
    "budgets": {},
    "strategy": "one_for_one",
    "actors": "fail",
    "factor": 2.0,
}


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("when", "sometimes", 'when = "sometimes": has to be "never" or "on_failure" or "always"'),
        ("strategy", "all", 'strategy = "all": has to be "one_for_one" or "one_for_all" or "rest_for_one"'),
        ("actors", "keep", 'actors = "keep": has to be "fail" or "respawn"'),
        ("period", 0.0, "period = 0: has to be more than 0 seconds; intensity=0 never restarts"),
        ("backoff", (2.0, 1.0), "backoff = (2, 1): the first wait cannot be longer than the longest"),
        ("jitter", 1.5, "jitter = 1.5: has to be a number from 0 to 1"),
        ("factor", 0.5, "factor = 0.5: has to be a finite number of at least 1"),
    ],
)
def test_both_languages_refuse_with_the_same_words(field, value, text):
    with pytest.raises(InvalidArgument) as ours:
        Restart(**{field: value})
    with pytest.raises(ValueError, match=r"has to be|cannot be") as natives:
        _native.RestartPolicy(**{**DEFAULTS, field: value})
    assert str(ours.value) == str(natives.value) == text


@pytest.mark.parametrize(
    "bad",
    [
        {"intensity": -1},
        {"intensity": True},
        {"intensity": 2.0},
        {"period": -1},
        {"period": float("nan")},
        {"period": True},
        {"period": None},
        {"backoff": 1.0},
        {"backoff": (1,)},
        {"backoff": (float("nan"), 1)},
        {"backoff": (True, 1)},
        {"jitter": float("nan")},
        {"jitter": "0.2"},
        {"factor": float("inf")},
        {"healthy_after": -1},
        {"budgets": {"disk": 1}},
        {"budgets": {"oom": -1}},
        {"budgets": {"oom": True}},
        {"budgets": [1]},
    ],
)
def test_what_makes_no_policy_is_refused_at_once_by_name(bad):
    (field,) = bad
    with pytest.raises(InvalidArgument, match=f"^{field}"):
        Restart(**bad)


def test_an_intensity_of_zero_never_restarts():
    one = sh("exit 1", Restart(intensity=0)).wait(20).get().item()
    assert (one.incarnation, one.verdict) == (1, "app error: exit code 1")
