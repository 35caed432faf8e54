"""Functions that give futures, written as an `async def`."""

import asyncio
import gc
import threading

import pytest

from procession.actor import Future, returns_future
from procession.errors import WrongContext


class Stage:
    """What a body has come to, and what it waits for."""

    def __init__(self):
        self.begun, self.ended = threading.Event(), threading.Event()
        self.runs = 0
        self.go = None

    @returns_future
    async def wait(self):
        self.runs += 1
        self.go = asyncio.Event()
        self.begun.set()
        try:
            await self.go.wait()
        finally:
            self.ended.set()
        return "went"

    @returns_future
    async def get_inside(self):
        return self.wait().get(5)

    @returns_future
    async def interrupt(self):
        self.runs += 1
        raise KeyboardInterrupt


@pytest.fixture
def stage():
    return Stage()


def test_a_get_that_runs_the_body_into_its_timeout_cancels_it_for_all_who_wait(stage):
    future = stage.wait()
    others = []

    def wait_too():
        stage.begun.wait(20)
        others.append(future.exception(20))

    thread = threading.Thread(target=wait_too)
    thread.start()
    with pytest.raises(TimeoutError, match=r"not done within 0\.2 s"):
        future.get(0.2)
    thread.join()
    assert stage.ended.is_set()
    assert isinstance(others[0], TimeoutError)
    assert (stage.runs, future.done()) == (1, True)


def test_a_wait_of_another_thread_times_out_alone(stage):
    future = stage.wait()
    loop = asyncio.new_event_loop()

    async def first():
        return await future

    thread = threading.Thread(target=lambda: got.append(loop.run_until_complete(first())))
    got = []
    thread.start()
    stage.begun.wait(20)
    with pytest.raises(TimeoutError):
        future.get(0.05)
    loop.call_soon_threadsafe(stage.go.set)
    assert future.get(20) == "went"
    thread.join()
    loop.close()
    assert (got, stage.runs) == (["went"], 1)


def test_a_task_that_awaits_it_and_is_cancelled_leaves_the_body_alone(stage):
    async def cancel():
        future = stage.wait()
        task = asyncio.ensure_future(future.as_asyncio())
        while stage.go is None:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stage.go.set()
        return await future

    assert asyncio.run(cancel()) == "went"


def test_a_get_inside_of_a_running_body_is_refused_and_nothing_is_run(stage):
    with pytest.raises(WrongContext, match="await the future instead"):
        stage.get_inside().get()
    assert stage.runs == 0


def test_an_interrupt_is_raised_where_the_body_ran_and_others_hear_that_it_was_cancelled(stage):
    future = stage.interrupt()
    with pytest.raises(KeyboardInterrupt):
        future.get()
    assert isinstance(future.exception(5), asyncio.CancelledError)
    assert stage.runs == 1


def test_a_future_that_nobody_waits_for_goes_without_a_warning(stage, recwarn):
    future = stage.wait()
    assert isinstance(future, Future)
    assert not future.done()
    assert not future.cancel()
    del future
    gc.collect()
    assert stage.runs == 0
    assert not recwarn.list


def test_only_an_async_def_is_taken():
    with pytest.raises(TypeError, match="is for an `async def`"):
        returns_future(len)
