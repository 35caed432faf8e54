"""Waiting for results: from threads, from event loops, with and without a limit."""

import asyncio
import gc
import os
import signal
import sys
import threading
import time

import pytest

from launching import until
from procession._loop import queue_of_running_loop
from procession.actor import Actor, ActorError, Channel, Future, endpoint
from procession.errors import InvalidArgument, WrongContext

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Echo(Actor):
    @endpoint
    def echo(self, x):
        return x

    @endpoint
    def fail(self):
        raise ValueError("no")

    @endpoint
    def unique(self):
        return object.__new__(Unique)


class Unique:
    pass


@pytest.fixture
def echo(spawned, four):
    return spawned(Echo, procs=four.slice(gpus=0))


@pytest.fixture
def later():
    """A future, and the port whose first value is its result."""
    port, receiver = Channel.open()
    yield receiver.recv(), port
    receiver.close()


def test_a_result_is_kept(echo):
    future = echo.unique.call_one()
    assert future.get(10) is future.get() is future.result()
    assert future.exception() is None
    assert future.done()


def test_an_exception_is_kept(echo):
    future = echo.fail.call_one()
    first = future.exception(10)
    assert isinstance(first, ActorError)
    for wait in (future.get, future.result):
        with pytest.raises(ActorError) as caught:
            wait()
        assert caught.value is first


def test_a_future_is_not_made_by_hand():
    with pytest.raises(TypeError, match="cannot be constructed"):
        Future()


def test_a_wait_that_takes_too_long_can_be_repeated(later):
    future, port = later
    for wait in (future.get, future.result, future.exception):
        with pytest.raises(TimeoutError, match=r"no result within 0\.01 s"):
            wait(timeout=0.01)
    assert not future.done()
    port.send("at last")
    assert future.get(10) == "at last"


def test_a_timeout_of_zero_asks_and_does_not_wait(later):
    future, port = later
    with pytest.raises(TimeoutError):
        future.get(0)
    port.send(1)
    future.get(10)
    assert future.get(0) == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
def test_timeouts_that_are_none_are_refused(later, timeout):
    with pytest.raises(InvalidArgument, match="timeout"):
        later[0].get(timeout)


def test_no_limit_may_be_written_as_infinity(echo):
    assert echo.echo.call_one(3).get(float("inf")) == 3


def test_many_threads_get_the_same_result(later):
    future, port = later
    got = []
    threads = [threading.Thread(target=lambda: got.append(future.get(10))) for _ in range(20)]
    for thread in threads:
        thread.start()
    port.send(["one"])
    for thread in threads:
        thread.join()
    assert len(got) == 20
    assert all(one is got[0] for one in got)


def test_futures_can_be_awaited(echo):
    async def main():
        results = await asyncio.gather(*(echo.echo.call_one(n) for n in range(50)))
        with pytest.raises(ActorError):
            await echo.fail.call_one()
        return results

    assert asyncio.run(main()) == list(range(50))


def test_a_future_can_be_awaited_by_many_and_cancelled_by_some(later):
    future, port = later

    async def main():
        async def wait():
            return await future

        tasks = [asyncio.create_task(wait()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[:5]:
            task.cancel()
        port.send("x")
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return outcomes, await future

    outcomes, again = asyncio.run(main())
    assert [type(one) for one in outcomes[:5]] == [asyncio.CancelledError] * 5
    assert outcomes[5:] == ["x"] * 5
    assert again == "x"


def test_one_future_can_be_awaited_in_several_loops_and_threads(later):
    future, port = later
    got = []

    async def wait():
        got.append(await future)

    threads = [threading.Thread(target=asyncio.run, args=(wait(),)) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: got.append(future.get(10))))
    for thread in threads:
        thread.start()
    port.send(7)
    for thread in threads:
        thread.join()
    assert got == [7] * 5


def test_nobody_who_waits_for_the_same_future_is_left_waiting(echo):
    port, receiver = Channel.open()
    for n in range(30):
        value, answer = receiver.recv(), next(echo.echo.stream(n))
        got = []
        threads = [threading.Thread(target=lambda f=f, g=got: g.append(f.get(10))) for f in (value, answer) * 4]
        for thread in threads:
            thread.start()
        port.send(n)
        for thread in threads:
            thread.join()
        assert got == [n] * 8
    receiver.close()


def test_asyncio_can_limit_the_wait(later):
    future, port = later

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)
        port.send(1)
        return await asyncio.wait_for(future, 10)

    assert asyncio.run(main()) == 1


def test_as_asyncio_gives_a_future_of_the_loop(echo):
    async def main():
        future = echo.echo.call_one(5).as_asyncio()
        assert isinstance(future, asyncio.Future)
        return await future

    assert asyncio.run(main()) == 5


def test_blocking_on_a_running_loop_is_refused_unless_the_result_is_there(echo, later):
    done = echo.echo.call_one(5)
    done.get(10)
    future, _ = later

    async def main():
        for wait in (future.get, future.result, future.exception):
            with pytest.raises(WrongContext, match="await the future instead"):
                wait(1)
        return done.get()

    assert asyncio.run(main()) == 5


def test_awaiting_outside_of_asyncio_is_refused(later):
    future, _ = later
    with pytest.raises(WrongContext, match="running asyncio loop"):
        future.__await__().send(None)


def test_loops_leave_nothing_behind(echo):
    async def main():
        return await echo.echo.call_one(1)

    for _ in range(20):  # the leak gate counts descriptors
        assert asyncio.run(main()) == 1


def test_a_keyboard_interrupt_breaks_a_wait(later):
    future, port = later
    main = threading.get_ident()

    def interrupt_once_it_waits():
        until(lambda: sys._current_frames()[main].f_code is Future._wait.__code__, "it waits")
        signal.raise_signal(signal.SIGINT)

    interrupter = threading.Thread(target=interrupt_once_it_waits)
    begun = time.monotonic()
    interrupter.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            future.get(30)
    finally:
        interrupter.join()
    assert time.monotonic() - begun < 10
    port.send("still there")
    assert future.get(10) == "still there"


def test_its_repr_tells_where_it_stands(later, echo):
    future, port = later
    assert repr(future) == "<Future pending>"
    port.send(3)
    future.get(10)
    assert repr(future) == "<Future 3>"
    failed = echo.fail.call_one()
    failed.exception(10)
    assert repr(failed).startswith("<Future raised ActorError(")


def test_a_dropped_future_costs_nothing(echo):
    for n in range(100):
        echo.echo.call_one(n)
    assert echo.echo.call_one("last").get(10) == "last"


def test_asking_whether_a_value_came_leaves_it_to_whoever_takes_it():
    port, receiver = Channel.open()
    asked, taking = receiver.recv(), receiver.recv()
    port.send(1)
    assert receiver._receiver.waiter().wait(10)
    assert asked.done()
    assert repr(asked) == "<Future done>"
    assert taking.get(10) == 1
    assert not asked.done()
    port.send(2)
    assert asked.get(10) == 2
    receiver.close()


def test_each_of_many_that_wait_for_a_port_gets_a_value_of_its_own():
    port, receiver = Channel.open()

    async def main():
        waiting = [asyncio.ensure_future(receiver.recv().as_asyncio()) for _ in range(50)]
        await asyncio.sleep(0)
        for n in range(50):
            port.send(n)
        return await asyncio.gather(*waiting)

    assert sorted(asyncio.run(main())) == list(range(50))
    receiver.close()


class Recording:
    """A waiter that is never done."""

    def __init__(self):
        self.notifications = []

    def notify(self, queue, token):
        self.notifications.append(token)
        return token

    def forget(self, notification):
        self.notifications.remove(notification)


def test_a_wait_in_a_loop_that_is_given_up_leaves_nothing_with_what_it_waited_for():
    late, cancelled = Recording(), Recording()

    async def main():
        await queue_of_running_loop().wait(late, 0.0)
        task = asyncio.ensure_future(queue_of_running_loop().wait(cancelled, None))
        await asyncio.sleep(0)
        assert cancelled.notifications
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert late.notifications == cancelled.notifications == []


def test_generators_may_still_wait_at_the_end_of_their_loop(echo):
    got, started = [], []

    async def generator(n):
        try:
            yield
        finally:
            got.extend([await echo.echo.call_one(n), await echo.echo.call_one(n)])

    async def main():
        await echo.echo.call_one(0)
        for n in range(20):
            started.append(generator(n))
            await anext(started[-1])

    # In a thread, so that a loop which does not end fails this test and does not hang it.
    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    thread.join(20)
    assert sorted(got) == sorted([*range(20), *range(20)])


def test_loops_that_have_ended_hold_no_descriptor(echo, later):
    cancelled = []

    async def stuck():
        try:
            await later[0]
        except asyncio.CancelledError as error:
            cancelled.append(error)  # and with it every frame of this wait
            raise

    async def main():
        waiting = asyncio.ensure_future(stuck())
        await asyncio.sleep(0)
        assert await echo.echo.call_one(1) == 1
        waiting.cancel()

    asyncio.run(main())
    gc.disable()
    try:
        before = os.listdir("/proc/self/fd")
        for _ in range(5):
            asyncio.run(main())
        assert len(os.listdir("/proc/self/fd")) == len(before)
    finally:
        gc.enable()
    assert len(cancelled) == 6
