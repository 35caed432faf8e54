"""Procs that are no processes, by a clock that a test stops: all else is the host itself."""

import asyncio
import time

import pytest

from launching import until
from procession import Restart
from procession.actor import this_host
from procession.errors import InvalidArgument, LaunchFailed, Unsupported
from procession.launchers import Chaos, Retry, Throttle
from procession.testing import (
    Boots,
    Exits,
    FailsToLaunch,
    FakeLauncher,
    Oom,
    Prints,
    Progresses,
    Signaled,
    Unreachable,
    WhenTerminated,
    virtual_time,
)

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


@pytest.fixture
def clock():
    with virtual_time() as clock:
        yield clock


def seconds_of(exit):
    """How long it lived, by the clock of its exit."""
    return round(exit.ended_at - exit.started_at)


def only(mesh):
    [one] = mesh.values()
    return one


def test_ten_thousand_procs_boot_for_minutes_and_one_runs_out_of_memory(clock):
    fake = FakeLauncher(script={17: [Boots(after=9 * 60), Oom(after=3)]}, default=[Boots(after=1.0)])
    start = time.monotonic()
    procs = this_host().spawn_procs({"workers": 10_000}, launcher=fake, ready_timeout=600)
    procs.initialized.get(timeout=120)
    assert round(clock.elapsed) == 540
    assert procs.slice(workers=slice(0, 17)).statuses().values()
    end = only(procs.slice(workers=17).wait(60).get())
    assert (end.oom, end.signal, seconds_of(end)) == (True, 9, 543)
    procs.kill().get(60)
    ends = procs.wait(60).get()
    took = time.monotonic() - start
    assert {exit.signal for exit in ends.values()} == {9}
    assert took < 60, f"543 s of 10,000 procs took {took:.1f} s"


def test_time_stands_still_while_nobody_waits(clock):
    procs = this_host().spawn_procs({"x": 2}, launcher=FakeLauncher(default=[Boots(after=5), Exits(0, after=5)]))
    until(lambda: {status.status for status in procs.statuses().values()} == {"running"})
    time.sleep(0.1)  # of the wall clock, which is nothing to them
    assert clock.elapsed == 0
    assert {status.status for status in procs.statuses().values()} == {"running"}
    procs.initialized.get(10)
    assert 5 <= clock.elapsed < 5.1
    clock.advance(4).get(10)
    assert [status.status for status in procs.statuses().values()] == ["ready", "ready"]
    clock.advance(2).get(10)
    assert [exit.exit_code for exit in procs.exits().values()] == [0, 0]


def test_a_clock_is_advanced_from_an_event_loop_too(clock):
    async def run():
        procs = this_host().spawn_procs({"x": 1}, launcher=FakeLauncher(default=[Boots(after=20)]))
        await clock.advance(21)
        return only(procs.statuses()).status

    assert asyncio.run(run()) == "ready"


def test_who_never_boots_misses_its_deadline_and_who_ignores_sigterm_is_killed(clock):
    fake = FakeLauncher({0: [WhenTerminated(None)], 1: [Boots(), WhenTerminated(Exits(4, after=2))]})
    procs = this_host().spawn_procs({"x": 2}, launcher=fake, ready_timeout=300, stop_grace=20)
    with pytest.raises(LaunchFailed, match="not ready"):
        procs.slice(x=0).initialized.get(30)
    dead = only(procs.slice(x=0).wait(30).get())
    assert (dead.signal, seconds_of(dead)) == (9, 320)
    procs.slice(x=1).stop().get(30)
    assert only(procs.slice(x=1).exits()).exit_code == 4
    assert 322 <= clock.elapsed < 323


def test_restarts_wait_and_are_given_up_by_the_clock(clock):
    policy = Restart("on_failure", intensity=3, period=3600, backoff=(10.0, 1000.0), jitter=0.0)
    fake = FakeLauncher(default=[Boots(after=1), Exits(3, after=1)])
    procs = this_host().spawn_procs({"x": 1}, name="restarted", launcher=fake, restart=policy)
    exit = only(procs.wait(30).get())
    assert "RestartLimit" in exit.verdict
    assert fake.launches("restarted-0") == 4
    assert int(clock.elapsed) == 4 * 2 + 10 + 20 + 40


def test_each_launch_of_a_name_has_a_script_of_its_own(clock):
    lives = [[FailsToLaunch("no room", after=2)], [Boots(), Signaled(11, after=1)], [Boots()]]
    fake = FakeLauncher(lambda name, rank: lives if rank == 0 else None)
    procs = this_host().spawn_procs({"x": 2}, launcher=fake, restart="on_failure")
    clock.advance(60).get(30)
    ends = procs.history().item(x=0).exits
    assert ["no room" in end.verdict or end.signal for end in ends] == [True, 11]
    assert [status.status for status in procs.statuses().values()] == ["ready", "ready"]


def test_what_cannot_be_asked_is_unknown_and_then_lost_or_heard_of_again(clock):
    fake = FakeLauncher({0: [Boots(), Unreachable(50, "no route")], 1: [Boots(), Unreachable(90, "no route")]})
    procs = this_host().spawn_procs({"x": 2}, launcher=fake, unknown_budget=60)
    clock.advance(30).get(10)
    assert [status.status for status in procs.statuses().values()] == ["unknown", "unknown"]
    clock.advance(40).get(10)
    assert [status.status for status in procs.statuses().values()] == ["ready", "lost"]
    assert "no route" in only(procs.slice(x=1).exits()).verdict


def test_output_and_progress_are_those_of_the_script(clock):
    steps = [Progresses("half", after=25), Progresses("nearly", after=25), Prints("hello\nworld\n"), Boots(), Exits(0)]
    procs = this_host().spawn_procs({"x": 1}, launcher=FakeLauncher(default=steps), ready_timeout=30)
    exit = only(procs.wait(20).get())
    assert (exit.exit_code, exit.stdout_tail) == (0, ["hello", "world"])


def test_a_retry_over_chaos_starts_a_fleet_in_the_end(clock):
    fake = FakeLauncher(default=[Boots(after=1)])
    chaos = Chaos(fake, seed=7, launch_fails=0.4, delay=3.0)
    launcher = Throttle(Retry(chaos, times=12, pause=0.1), at_once=16)
    with this_host().spawn_procs({"x": 64}, launcher=launcher, ack_timeout=600) as procs:
        procs.initialized.get(30)
        assert len({status.handle for status in procs.statuses().values()}) == 64


def test_virtual_time_is_not_begun_twice(clock):
    with pytest.raises(RuntimeError, match="begun already"), virtual_time():
        pass


def test_what_lives_at_the_end_is_killed_and_the_clock_goes_on():
    with virtual_time() as clock:
        procs = this_host().spawn_procs({"x": 3}, launcher=FakeLauncher())
        procs.initialized.get(10)
        clock.advance(7).get(10)
    assert {exit.signal for exit in procs.wait(10).get().values()} == {9}
    assert round(clock.elapsed) == 7
    with pytest.raises(RuntimeError, match="has ended"):
        clock.advance(1)
    begun = time.time()
    with this_host().spawn_procs({"x": 1}) as real:
        real.initialized.get(30)
        assert abs(only(real.statuses()).ready_at - begun) < 30


def test_what_runs_goes_on_and_what_is_being_started_keeps_the_clock_from_being_stopped():
    with this_host().spawn_procs({"x": 1}, name="real") as procs:
        procs.initialized.get(30)
        boots = this_host().spawn_procs({"x": 1}, name="boots", launcher=FakeLauncher(default=[Boots(after=600)]))
        with pytest.raises(InvalidArgument, match=r"boots-0.*wait for it first"), virtual_time():
            pass
        boots.kill().get(10)
        boots.wait(10).get()
        with virtual_time() as clock:
            fakes = this_host().spawn_procs(
                {"x": 1}, launcher=FakeLauncher(default=[Boots(after=600)]), ready_timeout=900
            )
            fakes.initialized.get(10)
            assert clock.elapsed > 599
        assert only(procs.statuses()).status == "ready"


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ({0: Boots()}, "list of steps"),
        ({0: ["boots"]}, "no step"),
        ({0: [Boots(), FailsToLaunch("late")]}, "first step"),
        ({0: [Exits(256)]}, "code"),
        ({0: [Boots(after=-1)]}, "after"),
        ([Boots()], "dict by rank or name"),
    ],
)
def test_what_is_no_script_is_refused_at_once(script, what):
    with pytest.raises((TypeError, ValueError), match=what):
        FakeLauncher(script)


def test_it_launches_for_this_process_only():
    with pytest.raises(Unsupported, match="no other process"):
        FakeLauncher().described()
