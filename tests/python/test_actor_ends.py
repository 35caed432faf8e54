"""How actors end, and what those learn who still wait for them."""

import asyncio
import sys
import threading
from contextvars import copy_context

import pytest

from procession import _native
from procession._pickle import dumps
from procession._runtime import runtime
from procession.actor import (
    Actor,
    ActorError,
    Channel,
    SupervisionError,
    concurrent_endpoint,
    context,
    endpoint,
    this_host,
    this_proc,
)

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Sync(Actor):
    def __init__(self, *what):
        pass

    @endpoint
    def echo(self, value):
        return value

    @endpoint
    def take(self, *what):
        pass

    @endpoint
    def leave(self):
        sys.exit("enough")

    @endpoint
    def refuse_threads(self, refuse):
        global refused
        if refuse:
            refused = threading.Thread.start
            threading.Thread.start = no_threads
        else:
            threading.Thread.start = refused


class Async(Actor):
    @endpoint
    async def leave(self):
        sys.exit("enough")

    @endpoint
    async def echo(self, value):
        return value


refused = None


def no_threads(thread):
    raise RuntimeError("can't start new thread")


class Unloadable:
    def __reduce__(self):
        return fail, ()


def fail():
    raise LookupError("cannot be loaded")


def test_an_idle_actor_holds_nothing_of_its_last_message(spawned):
    port, receiver = Channel.open(once=True)
    with pytest.raises(ActorError, match="cannot be loaded"):
        spawned(Sync).take.call_one(Unloadable(), port).get(10)
    with pytest.raises(SupervisionError, match="dropped"):
        receiver.recv().get(10)


@pytest.mark.parametrize("cls", [Sync, Async])
@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_who_calls_an_endpoint_that_exits_is_told_that_the_actor_has_ended(spawned, four, cls, place, capfd):
    leaving = spawned(cls, procs=None if place == "here" else four.slice(gpus=0))
    with pytest.raises(ActorError, match=r"SystemExit is no Exception: it has ended actor .*/a?sync-") as caught:
        leaving.leave.call_one().get(10)
    assert caught.value.exception.code == "enough"
    with pytest.raises(SupervisionError, match="SystemExit: enough"):
        leaving.echo.call_one(1).get(10)


class Gate(Actor):
    """Handles messages only once it may."""

    inside, may_go_on = threading.Event(), threading.Event()

    @endpoint
    def block(self):
        self.inside.set()
        self.may_go_on.wait(10)

    @endpoint
    def fail(self):
        raise ValueError("broke while it drained")

    @endpoint
    def echo(self, value):
        return value


@pytest.fixture
def gate(spawned):
    Gate.inside.clear()
    Gate.may_go_on.clear()
    gate = spawned(Gate)
    gate.block.broadcast()
    assert Gate.inside.wait(10)
    yield gate
    Gate.may_go_on.set()


def test_what_an_actor_leaves_when_it_fails_after_a_stop_learns_of_the_failure(gate, spawned, four, capfd):
    elsewhere = spawned(Sync, procs=four.slice(gpus=0))
    stopped = gate.stop()
    before = gate.echo.call_one(1)
    gate.fail.broadcast()
    after = gate.echo.call_one(2)
    elsewhere.echo.call_one(0).get(10)  # the io thread takes one after the other, so that all of them have arrived
    Gate.may_go_on.set()
    assert before.get(10) == 1
    with pytest.raises(SupervisionError, match="ValueError: broke while it drained"):
        after.get(10)
    stopped.get(10)


def test_the_first_reason_to_stop_is_the_one_that_is_told(gate):
    stops = [gate.stop(reason) for reason in ("the first", "the second")]
    Gate.may_go_on.set()
    for stopped in stops:
        stopped.get(10)
    with pytest.raises(SupervisionError, match=r": the first$"):
        gate.echo.call_one(1).get(10)


def test_an_actor_that_has_ended_may_be_told_to_stop(spawned):
    instances = []

    class Telling(Actor):
        def __init__(self):
            instances.append(context().actor_instance)

    telling = spawned(Telling)
    telling.initialized.get(10)
    telling.stop().get(10)
    assert instances[0].stop() is None
    with pytest.raises(RuntimeError, match="the client is not an actor"):
        context().actor_instance.stop()


def test_an_inbox_that_nobody_serves_any_more_names_its_actor():
    inbox = runtime().register_actor("abandoned")
    replies = _native.call([_native.ActorRef(inbox.actor_id)], "m", _native.RETURNS, *dumps(((), {})), None)
    del inbox
    assert replies.one_done(0).wait(10)
    assert "/abandoned has ended: the thread that served it went away" in replies.take(0).text


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_an_actor_that_no_thread_is_left_for_fails_to_spawn_and_others_live_on(spawned, four, place):
    procs = this_proc() if place == "here" else four.slice(gpus=0)
    breaking = spawned(Sync, procs=procs)
    breaking.refuse_threads.call_one(True).get(10)
    try:
        failed = spawned(Sync, procs=procs)
        with pytest.raises(ActorError, match="can't start new thread"):
            failed.initialized.get(10)
    finally:
        breaking.refuse_threads.call_one(False).get(10)
    with pytest.raises(SupervisionError, match="could not be started: RuntimeError: can't start new thread"):
        failed.echo.call_one(1).get(10)
    assert spawned(Sync, procs=procs).echo.call_one(2).get(10) == 2


class Beside(Actor):
    """Handles other messages beside one that does not take well to being cancelled."""

    def __init__(self, ends):
        self.ends = ends

    @concurrent_endpoint
    async def wait(self):
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while it was cancelled")

    @endpoint
    async def echo(self, value):
        return value

    async def __cleanup__(self, exc):
        self.ends.send(exc)


def test_an_actor_is_cleaned_up_after_a_message_that_fails_when_the_end_of_the_actor_cancels_it(failures, capfd):
    port, ends = Channel.open()
    beside = this_proc().spawn("beside", Beside, port)
    for _ in range(2):
        beside.wait.broadcast()
    beside.echo.call_one(1).get(10)
    beside.stop().get(10)
    assert str(ends.recv().get(10)) == "while it was cancelled"
    assert "while it was cancelled" in failures.get(timeout=10).message
    assert "CancelledError: \n" not in capfd.readouterr().err


class Unhandling(Gate):
    """Has no hook for the failure of what it spawns."""

    @endpoint
    def spawn(self):
        return this_proc().spawn("failing", Sync)


def test_who_calls_an_actor_that_is_about_to_fail_of_its_own_mesh_is_told_why(failures, capfd):
    Gate.inside.clear()
    Gate.may_go_on.clear()
    owner = this_proc().spawn("owner", Unhandling)
    failing = owner.spawn.call_one().get(10)
    (served,) = [thread for thread in threading.enumerate() if thread.name.startswith("procession failing-")]
    owner.block.broadcast()
    calls = [owner.echo.call_one(number) for number in range(3)]
    assert Gate.inside.wait(10)
    failing.leave.broadcast()
    served.join(10)  # at its end it tells the owner, which looks before its next message
    Gate.may_go_on.set()
    for call in calls:
        with pytest.raises(SupervisionError, match="did not handle a failure of the mesh failing"):
            call.get(10)
    assert failures.get(timeout=10).mesh_name == "owner"


class Lasting(Actor):
    """A thread of its lasts longer than the actor."""

    go_on = threading.Event()

    def __init__(self):
        thread = threading.Thread(target=copy_context().run, args=[self.spawn_later], name="lasting")
        thread.start()

    def spawn_later(self):
        self.go_on.wait(10)
        Lasting.late = this_proc().spawn("late", Sync)


def test_what_a_thread_of_an_actor_spawns_after_its_end_ends_too():
    lasting = this_proc().spawn("lasting", Lasting)
    lasting.initialized.get(10)
    threads = {thread.name.partition("-")[0]: thread for thread in threading.enumerate()}
    lasting.stop().get(10)
    threads["procession lasting"].join(10)
    Lasting.go_on.set()
    threads["lasting"].join(10)

    def call_until_it_has_ended():
        while True:
            Lasting.late.echo.call_one(1).get(10)

    with pytest.raises(SupervisionError, match=r"its owner, actor .*/lasting-"):
        call_until_it_has_ended()


class Caller(Actor):
    @endpoint
    def call(self, other):
        return str(other.echo.call_one(1).exception(10))

    @endpoint
    def tell(self, other):
        other.echo.broadcast(1)


def test_only_what_nobody_hears_of_otherwise_is_in_the_log_when_it_comes_back_from_an_actor_that_has_ended(four, capfd):
    caller = this_proc().spawn("caller", Caller)
    ended = four.slice(gpus=0).spawn("sync", Sync)
    ended.stop().get(10)
    assert "has ended" in caller.call.call_one(ended).get(10)
    caller.tell.call_one(ended).get(10)
    said = ""
    while "came back" not in said:
        said += capfd.readouterr().err
    assert said.count("came back") == 1
    assert "nobody waits for came back" in said
    caller.stop().get(10)


class Exiting:
    """As a module that exits when it is imported."""

    def __reduce__(self):
        return sys.exit, ("not here",)


def test_what_exits_while_it_is_unpickled_for_an_actor_costs_a_proc_no_others(failures):
    with this_host().spawn_procs() as procs:
        for _ in range(2):  # the first actor of a proc is built by its main thread
            with pytest.raises(ActorError, match="SystemExit: not here"):
                procs.spawn("sync", Sync, Exiting()).initialized.get(20)
            assert procs.spawn("sync", Sync).echo.call_one(1).get(20) == 1
    assert "not here" in failures.get(timeout=10).message


class LateSpawner(Actor):
    def __init__(self, path, once_all_know):
        self.path = path
        self.once_all_know = once_all_know

    def __cleanup__(self, exc):
        if self.once_all_know:
            runtime().stopped(10)
        try:
            this_proc().spawn("late", Sync)
        except ValueError as error:
            with open(self.path, "w") as file:
                file.write(str(error))


@pytest.mark.parametrize("once_all_know", [True, False])
def test_a_proc_that_was_asked_to_stop_takes_no_new_actors_and_ends_by_itself(tmp_path, once_all_know):
    path = tmp_path / "refused"
    with this_host().spawn_procs(stop_grace=20) as procs:
        procs.spawn("spawner", LateSpawner, str(path), once_all_know).initialized.get(20)
        procs.stop("enough").get(40)
        (one,) = procs.exits().values()
        assert (one.kind, one.exit_code) == ("exited", 0)
    if once_all_know:  # earlier, it may be in time, and is stopped with the others
        assert 'was asked to stop ("stop: enough") and takes no new actors' in path.read_text()
