"""Actors with an event loop of their own."""

import asyncio
import threading

import pytest

from procession.actor import (
    Actor,
    ActorError,
    Channel,
    Port,
    SupervisionError,
    as_endpoint,
    concurrent_endpoint,
    context,
    current_rank,
    endpoint,
    this_proc,
)

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Worker(Actor):
    def __init__(self):
        self.log = []
        self.loop = asyncio.get_running_loop()
        self.open = asyncio.Event()

    @endpoint
    async def step(self, name, turns=3):
        for _ in range(turns):
            self.log.append(name)
            await asyncio.sleep(0)
        return name

    @concurrent_endpoint
    async def wait(self):
        await self.open.wait()
        return "opened"

    @endpoint
    async def let_go(self):
        self.open.set()

    @endpoint
    async def get_log(self):
        return self.log

    @endpoint
    async def where(self):
        return threading.current_thread() is threading.main_thread(), asyncio.get_running_loop() is self.loop

    @endpoint
    async def fail(self):
        raise LookupError("lost")

    @concurrent_endpoint
    async def fail_alone(self):
        raise LookupError("lost alone")

    @endpoint
    async def cancelled(self):
        raise asyncio.CancelledError

    @concurrent_endpoint
    async def ranks_before_and_after(self):
        before = current_rank()
        await self.open.wait()
        child = await asyncio.create_task(self._rank())
        return before, current_rank(), child

    async def _rank(self):
        return current_rank()

    @endpoint
    async def ask(self, other):
        return await other.step.call_one("asked")

    @endpoint
    async def block(self, other):
        return other.wait.call_one().get(1)

    async def plain(self):
        return "plain"


@pytest.fixture(params=["here", "elsewhere"])
def worker(request, spawned):
    procs = None if request.param == "here" else request.getfixturevalue("four").slice(gpus=0)
    return spawned(Worker, procs=procs)


def test_messages_are_handled_one_at_a_time_in_order(worker):
    names = [f"m{n}" for n in range(20)]
    futures = [worker.step.call_one(name) for name in names]
    assert [future.get(10) for future in futures] == names
    assert worker.get_log.call_one().get(10) == [name for name in names for _ in range(3)]


def test_the_actor_is_built_and_runs_on_its_loop(worker):
    assert worker.where.call_one().get(10)[1] is True


def test_other_messages_are_handled_while_a_concurrent_endpoint_waits(worker):
    waiting = [worker.wait.call_one() for _ in range(3)]
    assert worker.step.call_one("meanwhile").get(10) == "meanwhile"
    assert not any(future.done() for future in waiting)
    worker.let_go.call_one().get(10)
    assert [future.get(10) for future in waiting] == ["opened"] * 3


def test_exceptions_are_told_and_the_actor_lives(worker):
    for endpoint_ in (worker.fail, worker.fail_alone):
        with pytest.raises(ActorError, match="lost"):
            endpoint_.call_one().get(10)
    with pytest.raises(ActorError, match="CancelledError"):
        worker.cancelled.call_one().get(10)
    assert worker.step.call_one("alive").get(10) == "alive"


@pytest.mark.parametrize("name", ["fail", "fail_alone"])
def test_an_exception_without_anyone_to_tell_ends_the_actor(worker, name, capfd):
    waiting = worker.wait.call_one()
    getattr(worker, name).broadcast()
    with pytest.raises(SupervisionError, match="LookupError: lost"):
        waiting.get(10)


def test_the_context_stays_with_each_concurrent_message(spawned, four):
    workers = spawned(Worker, procs=four.slice(gpus=slice(0, 2)))
    whole = workers.ranks_before_and_after.call()
    alone = workers.slice(gpus=1).ranks_before_and_after.call_one()
    workers.let_go.call().get(10)
    assert [{rank.rank for rank in ranks} for ranks in whole.get(10).values()] == [{0}, {1}]
    assert [dict(rank) for rank in alone.get(10)] == [{}, {}, {}]


def test_an_actor_awaits_what_it_asks_of_another(worker, spawned, four):
    other = spawned(Worker, procs=four.slice(gpus=1))
    assert worker.ask.call_one(other).get(10) == "asked"


def test_blocking_on_its_own_loop_is_refused_with_the_remedy(worker, spawned):
    with pytest.raises(ActorError, match="await the future instead"):
        worker.block.call_one(spawned(Worker)).get(10)


def test_an_async_method_that_is_no_endpoint_can_be_called_as_one(worker):
    assert as_endpoint(worker.plain).call_one().get(10) == "plain"


class Cleaner(Actor):
    def __init__(self, port: Port):
        self.port = port

    @concurrent_endpoint
    async def wait(self):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.port.send("cancelled")
            raise

    @endpoint
    async def ping(self):
        return "pong"

    async def __cleanup__(self, exc):
        await asyncio.sleep(0)
        self.port.send(("cleaned", exc))


def test_a_stop_cancels_what_runs_concurrently_and_then_cleans_up(spawned):
    port, receiver = Channel.open()
    cleaner = spawned(Cleaner, port)
    waiting = cleaner.wait.call_one()
    assert cleaner.ping.call_one().get(10) == "pong"
    cleaner.stop("enough").get(10)
    assert [receiver.recv().get(10) for _ in range(2)] == ["cancelled", ("cleaned", None)]
    with pytest.raises(SupervisionError):
        waiting.get(10)


def test_what_was_sent_before_the_stop_is_still_handled(worker):
    futures = [worker.step.call_one(n) for n in range(50)]
    stopped = worker.stop()
    assert [future.get(10) for future in futures] == list(range(50))
    stopped.get(10)


def test_an_actor_can_stop_itself(spawned):
    class Once(Actor):
        @endpoint
        async def run(self):
            context().actor_instance.stop()
            return "ran"

    once = spawned(Once)
    assert once.run.call_one().get(10) == "ran"
    once.stop().get(10)
    with pytest.raises(SupervisionError):
        once.run.call_one().get(10)


def test_many_concurrent_messages_are_all_answered(worker):
    futures = [worker.wait.call_one() for _ in range(300)]
    worker.let_go.call_one().get(10)
    assert {future.get(20) for future in futures} == {"opened"}


class BrokenLoop(Actor):
    @endpoint
    async def stop_loop(self):
        asyncio.get_running_loop().stop()


def test_an_actor_that_stops_its_loop_ends(spawned, capfd):
    broken = this_proc().spawn("broken", BrokenLoop)
    broken.stop_loop.call_one().exception(10)
    with pytest.raises(SupervisionError):
        broken.stop_loop.call_one().get(10)
    broken.stop().get(10)
