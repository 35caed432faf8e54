"""Meshes at a process that has not launched their procs: what they are told, what they can do, and what it costs."""

import asyncio
import gc
import itertools
import os
import signal
import threading
import warnings
from pathlib import Path

import pytest

from launching import Supervising, until
from procession import Restart, _native, _plain, _remote
from procession._future import Future
from procession._host_service import ENDED_KEPT, HOST, Call, Groups, HostService, More, groups
from procession._procs import OwnedProcs
from procession._remote import HostRef, RemoteProcs
from procession._runtime import runtime
from procession.actor import Actor, ActorError, Channel, endpoint, this_host
from procession.errors import InvalidArgument, NotFound, Unsupported
from procession.launch import Capabilities

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Does(Actor):
    def __init__(self):
        self.kept = []

    @endpoint
    def do(self, function, *args):
        return function(*args)

    @endpoint
    def keep(self, function, *args):
        self.kept.append(function(*args))

    @endpoint
    def drop(self):
        self.kept.clear()


class AsyncDoes(Actor):
    @endpoint
    async def do(self, function, *args):
        return await function(*args)


class Counter(Actor):
    def __init__(self, start, port=None):
        self.value = start
        if port is not None:
            port.send(start)

    @endpoint
    def add(self):
        self.value += 1
        return self.value

    @endpoint
    def pid(self):
        return os.getpid()


@pytest.fixture
def there(spawned, four):
    """An actor on a proc that launches nothing by itself."""
    return spawned(Does, procs=four.slice(gpus=0))


def sh(command, **kwargs):
    return this_host().spawn_procs(bootstrap_command=["/bin/sh", "-c", command], readiness="none", **kwargs)


def look_at(procs):
    return [str(status) for _, status in procs.statuses().items()], [exit_ for _, exit_ in procs.exits().items()]


def wait_for(procs):
    return procs.wait(30).get()


def stop(procs):
    procs.stop("from elsewhere").get(30)
    return procs.exits().item(), procs.why(), len(procs.history().item().exits)


def test_a_mesh_that_was_passed_to_another_proc_tells_and_ends_its_procs_there(there):
    with sh("sleep 1000") as procs:
        procs.initialized.get(20)
        assert there.do.call_one(look_at, procs).get(20) == (["running"], [None])
        exit_, why, launches = there.do.call_one(stop, procs).get(40)
        assert exit_ == procs.exits().item()
        assert "stop at" in exit_.requested
        assert exit_.requested.endswith(": from elsewhere")
        assert (why, launches) == (procs.why(), 1)


def test_a_wait_elsewhere_is_answered_when_the_procs_have_ended(there, tmp_path):
    os.mkfifo(tmp_path / "gate")
    with sh(f"read go < {tmp_path}/gate; exit 7") as procs:
        waiting = there.do.call_one(wait_for, procs)
        procs.initialized.get(20)
        assert not waiting.done()
        (tmp_path / "gate").write_text("go\n")
        assert waiting.get(20).item().exit_code == 7


def kill_some(procs):
    procs.slice(x=1).kill().get(20)
    procs.slice(x=2).terminate(5).get(20)
    return [exit_.rank for _, exit_ in procs.slice(x=slice(1, 3)).wait(20).get().items()]


def test_slices_elsewhere_mean_the_same_procs(there):
    with sh("sleep 1000", per_host={"x": 4}) as procs:
        assert there.do.call_one(kill_some, procs.slice(x=slice(0, 3))).get(40) == [1, 2]
        assert [exit_ and exit_.signal for _, exit_ in procs.exits().items()] == [None, 9, 15, None]


def test_a_mesh_that_comes_back_to_its_host_is_served_by_it_directly(there):
    with sh("sleep 1000") as procs:
        back = there.do.call_one(lambda given: given, procs).get(20)
        assert back._procs is procs._procs
        back.kill().get(20)
        assert procs.wait(20).get().item().signal == 9


def test_a_third_proc_gets_it_from_the_second(there, spawned, four):
    third = spawned(Does, procs=four.slice(gpus=1))

    def pass_on(procs, third):
        return third.do.call_one(look_at, procs).get(20)

    with sh("sleep 1000") as procs:
        procs.initialized.get(20)
        assert there.do.call_one(pass_on, procs, third).get(40) == (["running"], [None])


def read(procs, tail):
    return list(procs.logs(tail=tail))


def test_output_is_read_elsewhere_from_memory_and_from_files(there, tmp_path):
    with sh("for i in 1 2 3 4 5; do echo $i; done; echo err >&2", tail_lines=2, log_dir=tmp_path / "logs") as procs:
        procs.wait(20).get()
        assert there.do.call_one(read, procs, None).get(20) == ["[0] 4", "[0] 5", "[0] err"]
        assert there.do.call_one(read, procs, 4).get(20) == ["[0] 2", "[0] 3", "[0] 4", "[0] 5", "[0] err"]


def follow(procs, fold):
    return list(procs.logs(follow=True, fold=fold))


@pytest.mark.parametrize("fold", [False, True])
def test_output_is_followed_elsewhere_to_its_end_without_a_gap(there, fold):
    with sh("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done", tail_lines=3000) as procs:
        assert there.do.call_one(follow, procs, fold).get(60) == [f"[0] {number}" for number in range(1, 3001)]


def follow_some(procs):
    return list(itertools.islice(procs.logs(follow=True), 500))


def test_who_stops_reading_output_costs_the_host_nothing_more(there):
    with sh("while :; do echo y; done") as procs:
        assert len(there.do.call_one(follow_some, procs).get(40)) == 500
        until(lambda: followed() == (0, 0))
        procs.kill().get(20)


def test_who_stops_following_what_is_quiet_costs_the_host_nothing_more(there):
    with sh("sleep 1000") as procs:
        there.keep.call_one(lambda procs: procs.logs(follow=True), procs).get(20)
        until(lambda: followed() == (1, 1))
        there.drop.call_one().get(20)
        until(lambda: followed() == (0, 0))


def followed():
    """How many subscriptions the host holds for others, and how many calls wait for what comes next."""
    (service,) = [one for one in gc.get_objects() if type(one) is HostService]
    calls = [one for one in list(service._waiting.values()) if isinstance(one, Call)]
    return len(service._followed), sum(isinstance(call.future._finish_of, More) for call in calls)


async def follow_events(procs):
    events = procs.events()
    await procs.stop("enough")
    return [(event.kind, event.rank) async for event in events]


def test_events_reach_a_loop_elsewhere_in_order(spawned, four):
    there = spawned(AsyncDoes, procs=four.slice(gpus=0))
    with sh("sleep 1000", per_host={"x": 2}) as procs:
        procs.initialized.get(20)
        events = there.do.call_one(follow_events, procs).get(40)
    for rank in range(2):
        assert [kind for kind, of in events if of == rank] == ["status", "status", "exit"]


def restarted_inside(path):
    command = f'echo x >> {path}; [ "$(wc -l < {path})" -gt 2 ] && exit 0; exit 1'
    procs = sh(command, restart=Restart("on_failure", backoff=(0.0, 0.0)))
    last = procs.wait(30).get().item()
    status = procs.statuses().item()
    return last.incarnation, last.exit_code, status.restarts, [one.exit_code for one in procs.history().item().exits]


def test_restart_policies_of_procs_launched_inside_are_those_of_the_host(there, tmp_path):
    assert there.do.call_one(restarted_inside, tmp_path / "n").get(60) == (3, 0, 2, [1, 1, 0])


def respawn_inside():
    procs = this_host().spawn_procs({"x": 2})
    counters = procs.spawn("counter", Counter, 1)
    first = [pid for _, pid in counters.pid.call().get(30).items()]
    try:
        procs.respawn([1])
    except InvalidArgument as error:
        refused = str(error)
    procs.slice(x=1).kill().get(20)
    procs.slice(x=1).wait(20).get()
    procs.respawn().get(30)
    again = procs.spawn("counter", Counter, 5)
    second = [pid for _, pid in again.pid.call().get(30).items()]
    incarnations = [one.incarnation for _, one in procs.stop().get(30) or procs.exits().items()]
    return first, second, refused, incarnations


def test_ended_procs_are_launched_again_inside_and_take_actors(there):
    first, second, refused, incarnations = there.do.call_one(respawn_inside).get(90)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert "is alive: stop or kill it" in refused
    assert incarnations == [1, 2]


def test_a_mesh_elsewhere_launches_again_what_its_host_has_launched(there):
    def again(procs):
        procs.respawn([0]).get(30)
        return procs.statuses().item().status

    with sh("sleep 1000") as procs:
        procs.kill().get(20)
        procs.wait(20).get()
        assert there.do.call_one(again, procs).get(40) == "running"
        procs.kill().get(20)
        assert procs.wait(20).get().item().incarnation == 2


def respawned_actors(port):
    procs = this_host().spawn_procs(restart=Restart("always", backoff=(0.0, 0.0), actors="respawn"))
    counter = procs.spawn("counter", Counter, 40, port)
    counter.add.call_one().get(30)
    kill_proc_of(counter, procs)
    return procs, counter


def kill_proc_of(counter, procs):
    os.kill(counter.pid.call_one().get(30), signal.SIGKILL)
    until(lambda: procs.statuses().item().restarts == 1, "it is launched again")


@pytest.mark.parametrize("by", ["its spawner", "who has got it"])
def test_actors_are_built_again_whoever_spawned_them(there, spawned, four, by):
    port, receiver = Channel.open()
    if by == "its spawner":
        procs, counter = there.do.call_one(respawned_actors, port).get(60)
        assert counter.add.call_one().get(30) == 41
    else:
        policy = Restart("always", backoff=(0.0, 0.0), actors="respawn")
        with this_host().spawn_procs(restart=policy) as procs:
            counter = there.do.call_one(lambda procs, port: procs.spawn("counter", Counter, 40, port), procs, port).get(
                20
            )
            kill_proc_of(counter, procs)
            assert counter.add.call_one().get(30) == 41
    assert [receiver.recv().get(20) for _ in range(2)] == [40, 40]
    procs.stop().get(30)


def refused_once_port(port):
    procs = this_host().spawn_procs(restart=Restart("always", actors="respawn"))
    procs.spawn("counter", Counter, 40, port)


def test_what_cannot_be_built_again_is_refused_inside_too(there):
    port, _receiver = Channel.open(once=True)
    with pytest.raises(ActorError, match="a once port is used up") as refused:
        there.do.call_one(refused_once_port, port).get(30)
    assert isinstance(refused.value.exception, InvalidArgument)


def find_inside(procs):
    return procs.find("counter", Counter).get(20).add.call_one().get(20)


def test_actors_are_found_through_a_mesh_elsewhere(there):
    with this_host().spawn_procs() as procs:
        procs.spawn("counter", Counter, 6).initialized.get(30)
        assert there.do.call_one(find_inside, procs).get(20) == 7


class Talking(Supervising):
    async def launch(self, exit_port, proc_id, opts):
        print("launches", flush=True)
        await super().launch(exit_port, proc_id, opts)


class Silent(Supervising):
    capabilities = Capabilities(stdio=False, command_attributes=True)


def read_launcher():
    with sh("true", launcher=Talking) as procs:
        procs.wait(20).get()
        until(lambda: list(procs.launcher_logs()) == ["[0] launches"])
    return procs


def test_what_a_launcher_class_prints_is_read_where_it_was_used(there):
    procs = there.do.call_one(read_launcher).get(60)
    with pytest.raises(Unsupported, match="only where its procs were spawned"):
        procs.launcher_logs()


def test_output_that_nobody_hands_over_is_refused_elsewhere_as_well(there):
    with sh("true", launcher=Silent) as procs:
        procs.wait(20).get()
        with pytest.raises(ActorError, match="Silent does not hand over the output"):
            there.do.call_one(read, procs, None).get(20)


def ask_often(procs):
    for _ in range(500):
        with pytest.raises(TimeoutError):
            procs.wait(0).get()
        assert not procs.initialized.done()
    return len(procs._procs._waits)


def test_asking_again_and_again_elsewhere_leaves_one_call_at_the_host(there):
    procs = this_host().spawn_procs(bootstrap_command=["sleep", "1000"])
    assert there.do.call_one(ask_often, procs).get(60) == 2
    procs.kill().get(20)
    procs.wait(20).get()


def test_what_ended_long_ago_is_forgotten_and_says_so():
    some = Groups()
    with sh("true") as procs:
        procs.wait(20).get()
        assert isinstance(procs._procs, OwnedProcs)
        handles = procs._procs.handles([0])
        first = some.key_of(OwnedProcs(procs._procs.launcher, handles))
        for _ in range(3 * ENDED_KEPT):
            last = some.key_of(OwnedProcs(procs._procs.launcher, handles))
    assert len(some._known) <= 1.25 * ENDED_KEPT
    assert some.get(last).names() == {handles[0].name}
    with pytest.raises(NotFound, match=f"keeps the last {ENDED_KEPT} groups"):
        some.get(first)


def test_procs_that_live_are_never_forgotten():
    some = Groups()
    with sh("sleep 1000") as procs, sh("true") as over:
        over.wait(20).get()
        kept = some.key_of(procs._procs)
        for _ in range(3 * ENDED_KEPT):
            some.key_of(OwnedProcs(over._procs.launcher, over._procs.handles([0])))
        assert some.get(kept) is procs._procs
        procs.kill().get(20)
    procs._procs.key = over._procs.key = None


class Evil:
    def __reduce__(self):
        return threading.Thread, ()


@pytest.mark.parametrize("value", [Evil(), {"a": [Evil()]}, object, len])
def test_a_host_reads_plain_data_and_nothing_else(value):
    import pickle

    with pytest.raises(pickle.UnpicklingError, match="plain data only"):
        _plain.loads([pickle.dumps(value)])
    host = _native.ActorRef(f"{runtime().proc_id}/{HOST}")
    replies = _native.call([host], "spawn", _native.RETURNS, [pickle.dumps((value,))], [], None)
    assert replies.one_done(0).wait(20)
    answer = replies.take(0)
    assert answer.outcome == _native.EXCEPTION
    assert "plain data only" in answer.text


def test_what_derives_from_plain_data_travels_as_that():
    class Text(str):
        pass

    class Number(int):
        pass

    value = _plain.loads([_plain.dumps({Text("a"): [Number(3), True, None, (1.5, b"x")]})])
    assert value == {"a": [3, True, None, (1.5, b"x")]}
    assert [type(key) for key in value] == [str]
    assert type(value["a"][0]) is int
    with pytest.raises(TypeError, match="a Evil is no plain data"):
        _plain.dumps([Evil()])


def test_an_operation_that_a_host_has_not_is_told_by_name():
    procs = RemoteProcs(groups_origin(), {0: "x"}, False)
    with pytest.raises(NotFound, match="fly: no operation of this host"):
        procs._host.ask("fly")


@pytest.mark.parametrize("args", [(), ("no-group", [0]), (1, 2, 3), ("no-group", "x", {})])
def test_a_host_survives_whatever_it_is_asked(args):
    host = HostRef(runtime().proc_id)
    for verb in ("statuses", "exits", "spawn", "subscribe", "events", "openings", "opened", "tails", "ready"):
        with pytest.raises((TypeError, LookupError, ValueError, RuntimeError)):
            host.ask(verb, *args)
    assert host.ask("check_names", ["nobody"]) is None


def groups_origin():
    with sh("true") as procs:
        return procs._procs.origin()


def test_the_client_can_be_asked_by_itself_as_any_host_is():
    with sh("sleep 1000") as procs:
        procs.initialized.get(20)
        remote = RemoteProcs(procs._procs.origin(), {0: ""}, False)
        assert remote.proc_ids([0]) == procs._procs.proc_ids([0])
        remote.kill([0]).get(20)
        assert remote.ended([0], list, 20).get()[0]["signal"] == 9
    assert groups.get(procs._procs.key) is procs._procs


def test_paths_of_logs_are_made_where_the_caller_is(there, tmp_path):
    def launch(folder):
        os.chdir(folder)
        procs = sh("echo here", log_dir="logs")
        return procs.wait(20).get().item().stdout_path

    path = there.do.call_one(launch, tmp_path).get(30)
    assert Path(path).parent == tmp_path / "logs"
    assert Path(path).read_text() == "here\n"


def test_two_loops_wait_elsewhere_for_the_same_procs(spawned, four):
    async def both(procs):
        first, second = await asyncio.gather(procs.wait(), procs.wait(30))
        return first.item() == second.item()

    there = spawned(AsyncDoes, procs=four.slice(gpus=0))
    with sh("exit 3") as procs:
        assert there.do.call_one(both, procs).get(40) is True


def statuses_with_warnings(procs):
    _remote.LONG = 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        procs.statuses()
    return [str(one.message) for one in caught]


async def statuses_on_a_loop_and_beside(procs):
    return statuses_with_warnings(procs), await asyncio.to_thread(statuses_with_warnings, procs)


def test_a_loop_that_a_slow_host_holds_up_is_warned_and_a_thread_beside_it_is_not(spawned, four):
    with sh("sleep 1000") as procs, this_host().spawn_procs() as others:
        on_loop, beside = others.spawn("does", AsyncDoes).do.call_one(statuses_on_a_loop_and_beside, procs).get(20)
        assert beside == []
        (said,) = on_loop
        assert "statuses has held up the event loop" in said
        assert "asyncio.to_thread" in said


def read_on_after_an_error():
    events = _remote.RemoteEvents(HostRef(runtime().host_node), "no-subscription", None)
    said = []
    for _ in range(3):
        try:
            events.next(20)
        except NotFound as error:
            said.append(str(error))
    return said


def test_who_reads_on_after_events_could_not_be_had_is_told_again(there):
    assert len(there.do.call_one(read_on_after_an_error).get(20)) == 3


def test_a_host_goes_on_serving_after_a_step_of_its_own_failed(there, monkeypatch, capfd):
    with sh("sleep 1000") as procs:
        monkeypatch.setattr(OwnedProcs, "ready", lambda procs, ranks: Future._of(lambda: 1 / 0, lambda: None))
        with pytest.raises(ActorError, match="dropped without an answer"):
            there.do.call_one(lambda procs: procs.initialized.get(10), procs).get(20)
        monkeypatch.undo()
        assert there.do.call_one(lambda procs: procs.initialized.get(10), procs).get(20) is True
