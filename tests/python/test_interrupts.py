"""What a signal handler does in the middle of a wait, or of the decoding of a result, loses nothing."""

import signal
import threading

import pytest

from procession.actor import Actor, Channel, Port, endpoint

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

while_loading = []
"""What is called, once each, by a `Result` that is being unpickled in this process."""


class Result:
    def __init__(self, n):
        self.n = n

    def __reduce__(self):
        return load, (self.n,)


def load(n):
    if while_loading:
        while_loading.pop()()
    return n


class Giver(Actor):
    @endpoint
    def give(self, n):
        return Result(n)

    @endpoint
    def send(self, port: Port, n):
        port.send(Result(n))


def interrupt():
    raise KeyboardInterrupt


@pytest.fixture
def givers(spawned, four):
    yield spawned(Giver, procs=four)
    while_loading.clear()


def one_of(givers):
    return givers.slice(gpus=0).give.call_one(7)


def all_of(givers):
    return givers.give.call(7)


def first_of_a_stream(givers):
    return next(iter(givers.give.stream(7)))


def from_a_port(givers):
    port, receiver = Channel.open()
    givers.slice(gpus=0).send.call_one(port, 7).get(10)
    return receiver.recv()


WAYS = [one_of, all_of, first_of_a_stream, from_a_port]


def value(result):
    return result if isinstance(result, int) else result.get(0)


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_while_a_result_is_loaded_loses_it_not(givers, way):
    future = way(givers)
    while_loading.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        future.get(10)
    assert value(future.get(10)) == 7


@pytest.mark.parametrize("way", WAYS)
def test_a_handler_may_ask_for_the_future_that_it_interrupts(givers, way):
    future = way(givers)
    asked, got = [], []
    while_loading.append(lambda: asked.extend([future.done(), repr(future), value(future.get(10))]))
    # In a thread, so that a lock which is not reentrant fails this test and does not hang it.
    waiting = threading.Thread(target=lambda: got.append(value(future.get(10))), daemon=True)
    waiting.start()
    waiting.join(10)
    assert got == [7]
    assert asked[0] is True
    assert asked[2] == 7


def test_a_handler_may_ask_for_all_of_a_stream_while_one_of_it_is_waited_for(givers):
    port, receiver = Channel.open()
    asked = []

    def handler(*_):
        asked.append([(future.done(), repr(future)) for future in futures])
        port.send("handled")

    futures = list(givers.give.stream(7))
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        while_loading.append(lambda: signal.raise_signal(signal.SIGUSR1))
        assert [future.get(10) for future in futures] == [7] * 4
        assert receiver.recv().get(10) == "handled"
    finally:
        signal.signal(signal.SIGUSR1, before)
        receiver.close()
    assert len(asked[0]) == 4
