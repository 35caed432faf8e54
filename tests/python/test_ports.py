"""Ports: values sent from anywhere, and receivers that learn when none can come."""

import asyncio
import copy
import gc
import os
import pickle
import re
import threading
from contextlib import suppress

import pytest

from procession.actor import (
    Actor,
    ActorError,
    Channel,
    Port,
    SupervisionError,
    as_endpoint,
    endpoint,
    send,
    this_host,
)
from procession.errors import NotPicklable

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Sender(Actor):
    def __init__(self):
        self.kept = None

    @endpoint
    def send(self, port, *values):
        for value in values:
            port.send(value)

    @endpoint
    def fail(self, port):
        port.exception(ValueError("through the port"))

    @endpoint
    def keep(self, port):
        self.kept = port

    @endpoint
    def send_kept(self, value):
        self.kept.send(value)

    @endpoint
    def drop(self):
        self.kept = None

    @endpoint
    def pass_on(self, other, port):
        other.send.call_one(port, "passed on").get(10)

    @endpoint
    def die(self, port):
        os._exit(5)

    @endpoint
    def value(self):
        return "value"

    @endpoint(explicit_response_port=True)
    def explicit(self, port: Port, how):
        if how == "send":
            port.send("sent")
        elif how == "exception":
            port.exception(KeyError("k"))
        elif how == "raise":
            raise LookupError("raised")
        elif how == "late":
            threading.Thread(target=port.send, args=("late",)).start()
        elif how == "twice":
            port.send(1)
            port.send(2)


@pytest.fixture(params=["here", "elsewhere"])
def sender(request, spawned):
    procs = None if request.param == "here" else request.getfixturevalue("four").slice(gpus=0)
    return spawned(Sender, procs=procs)


@pytest.fixture
def channel():
    port, receiver = Channel.open()
    yield port, receiver
    receiver.close()


def test_a_port_takes_any_number_of_values_in_order(sender, channel):
    port, receiver = channel
    port.send(0)
    sender.send.call_one(port, *range(1, 50)).get(10)
    assert [receiver.recv().get(10) for _ in range(50)] == list(range(50))


def test_a_port_can_be_sent_to_all_actors(spawned, four, channel):
    port, receiver = channel
    spawned(Sender, procs=four).send.call(port, "x").get(10)
    assert [receiver.recv().get(10) for _ in range(4)] == ["x"] * 4


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_what_would_end_or_cancel_who_receives_it_is_raised_inside_of_an_actor_error(channel, kind):
    port, receiver = channel
    port.exception(kind("of the sender"))
    with pytest.raises(ActorError, match="of the sender") as caught:
        receiver.recv().get(10)
    assert type(caught.value.exception) is kind


def test_an_exception_sent_to_a_port_is_raised_at_the_receiver(sender, channel):
    port, receiver = channel
    sender.fail.call_one(port).get(10)
    with pytest.raises(ValueError, match="through the port") as caught:
        receiver.recv().get(10)
    (note,) = caught.value.__notes__
    assert re.fullmatch(r"sent on host .+:\nValueError: through the port\n", note)


def test_receiving_works_in_a_loop(sender, channel):
    port, receiver = channel

    async def main():
        first = asyncio.ensure_future(receiver.recv().as_asyncio())
        await asyncio.sleep(0)
        sender.send.broadcast(port, 1, 2)
        return [await first, await receiver.recv()]

    assert asyncio.run(main()) == [1, 2]


def test_a_receiver_has_a_limit(channel):
    with pytest.raises(TimeoutError):
        channel[1].recv().get(0.01)


def test_a_once_port_takes_one_value(sender):
    port, receiver = Channel.open(once=True)
    sender.send.call_one(port, "the one").get(10)
    assert receiver.recv().get(10) == "the one"


def test_a_second_value_for_a_once_port_is_refused_at_its_sender():
    port, receiver = Channel.open(once=True)
    port.send(1)
    for again in (port.send, port.exception):
        with pytest.raises(RuntimeError, match="AlreadyReported"):
            again(ValueError())
    assert receiver.recv().get(10) == 1


def test_a_once_port_moves_when_it_is_sent(sender):
    port, receiver = Channel.open(once=True)
    sender.keep.call_one(port).get(10)
    with pytest.raises(RuntimeError, match="AlreadyMoved"):
        port.send("from here")
    sender.send_kept.call_one("from there").get(10)
    assert receiver.recv().get(10) == "from there"


def test_a_once_port_can_be_passed_on(sender, spawned, four):
    port, receiver = Channel.open(once=True)
    sender.pass_on.call_one(spawned(Sender, procs=four.slice(gpus=1)), port).get(10)
    assert receiver.recv().get(10) == "passed on"


def test_a_once_port_that_is_let_go_of_errs_at_its_receiver(sender):
    port, receiver = Channel.open(once=True)
    sender.keep.call_one(port).get(10)
    sender.drop.call_one().get(10)
    with pytest.raises(SupervisionError):
        receiver.recv().get(10)


def test_a_once_port_errs_when_the_actor_that_holds_it_ends(spawned):
    port, receiver = Channel.open(once=True)
    holder = spawned(Sender)
    holder.keep.call_one(port).get(10)
    holder.stop("enough").get(10)
    with pytest.raises(SupervisionError):
        receiver.recv().get(10)


def test_a_once_port_and_calls_err_when_the_proc_that_holds_them_dies():
    with this_host().spawn_procs() as procs:
        doomed = procs.spawn("doomed", Sender)
        port, receiver = Channel.open(once=True)
        doomed.keep.call_one(port).get(20)
        kept, call = receiver.recv(), doomed.die.call_one(port_of_nobody())
        for future in (kept, call):
            with pytest.raises(SupervisionError, match="exit code 5"):
                future.get(10)
        with pytest.raises(SupervisionError, match="exit code 5"):
            doomed.value.call_one().get(10)


def port_of_nobody():
    return None


def test_a_once_port_cannot_be_sent_to_several_actors(spawned, four):
    port, receiver = Channel.open(once=True)
    with pytest.raises(ValueError, match="one"):
        spawned(Sender, procs=four).send.call(port, 1)
    port.send("unspent")
    assert receiver.recv().get(10) == "unspent"


def test_what_cannot_travel_is_refused_and_the_port_is_not_spent():
    port, receiver = Channel.open(once=True)
    with pytest.raises(NotPicklable):
        port.send(threading.Lock())
    port.send("then")
    assert receiver.recv().get(10) == "then"


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy])
def test_a_port_is_pickled_into_messages_only(channel, make):
    with pytest.raises(TypeError, match="pickled into a message"):
        make(channel[0])


@pytest.mark.parametrize("how", ["send", "late"])
def test_an_explicit_port_is_the_answer(sender, how):
    assert sender.explicit.call_one(how).get(10) in ("sent", "late")
    assert list(sender.explicit.call(how).get(10).values()) in (["sent"], ["late"])


def test_exceptions_of_an_explicit_endpoint_reach_the_caller(sender):
    with pytest.raises(KeyError, match="k"):
        sender.explicit.call_one("exception").get(10)
    with pytest.raises(ActorError) as caught:
        sender.explicit.call_one("raise").get(10)
    assert isinstance(caught.value.exception, LookupError)
    assert sender.value.call_one().get(10) == "value"


def test_an_explicit_endpoint_that_never_answers_errs_at_the_caller(sender):
    with pytest.raises(SupervisionError):
        sender.explicit.call_one("nothing").get(10)
    assert sender.value.call_one().get(10) == "value"


def test_an_explicit_endpoint_that_answers_twice_ends_the_actor(sender, capfd):
    assert sender.explicit.call_one("twice").get(10) == 1
    with pytest.raises(SupervisionError, match="AlreadyReported"):
        sender.value.call_one().get(10)


class Swallower(Actor):
    @endpoint(explicit_response_port=True)
    def swallow(self, port: Port, failing, wait):
        with suppress(ActorError):
            getattr(failing.fail.call_one(), wait)()

    @endpoint
    def value(self):
        return "value"


class AsyncSwallower(Actor):
    @endpoint(explicit_response_port=True)
    async def swallow(self, port: Port, failing, wait):
        with suppress(ActorError):
            await failing.fail.call_one()

    @endpoint
    async def value(self):
        return "value"


class Failing(Actor):
    @endpoint
    def fail(self):
        raise ValueError("no")


@pytest.mark.parametrize(("cls", "wait"), [(Swallower, "get"), (Swallower, "result"), (AsyncSwallower, "")])
def test_an_endpoint_that_forgets_to_answer_after_an_error_errs_its_caller_at_once(spawned, four, cls, wait):
    swallower, failing = spawned(cls), spawned(Failing, procs=four.slice(gpus=0))
    failing.initialized.get(10)
    swallower.initialized.get(10)
    gc.disable()
    try:
        with pytest.raises(SupervisionError, match="dropped without an answer"):
            swallower.swallow.call_one(failing, wait).get(1)
    finally:
        gc.enable()


def test_a_broadcast_to_an_explicit_endpoint_drops_what_it_sends(sender):
    sender.explicit.broadcast("send")
    assert sender.value.call_one().get(10) == "value"


def test_send_has_the_answers_sent_to_a_port(spawned, four, channel):
    port, receiver = channel
    senders = spawned(Sender, procs=four)
    send(senders.value, (), {}, port)
    ranked = receiver.ranked()
    assert sorted(ranked.recv().get(10) for _ in range(4)) == [(rank, "value") for rank in range(4)]
    send(senders.value, (), {}, port, selection="choose")
    assert receiver.recv().get(10) == "value"
    send(senders.explicit, ("send",), {}, port, selection="choose")
    assert receiver.recv().get(10) == "sent"
    once, last = Channel.open(once=True)
    with pytest.raises(ValueError, match="a once port takes one answer"):
        send(senders.value, (), {}, once)
    send(senders.slice(gpus=0).value, (), {}, once)
    assert last.recv().get(10) == "value"


def test_who_can_be_reached_is_sent_what_others_cannot_be():
    with this_host().spawn_procs(per_host={"gpus": 2}) as procs:
        senders = procs.spawn("sender", Sender)
        senders.initialized.get(20)
        procs.slice(gpus=0).stop().get(20)
        port, receiver = Channel.open()
        with pytest.raises(ConnectionError, match="ended: stopped by us"):
            send(senders.value, (), {}, port)
        assert receiver.recv().get(10) == "value"


def test_send_without_a_port_is_a_broadcast(sender):
    send(sender.value, (), {})
    assert sender.value.call_one().get(10) == "value"
    with pytest.raises(ValueError, match="selection"):
        send(sender.value, (), {}, selection="some")


class Plain(Actor):
    def double(self, value):
        return 2 * value

    def answer(self, port, value):
        port.send(2 * value)

    @endpoint
    def ping(self):
        return "pong"


@pytest.fixture(params=["here", "elsewhere"])
def plain(request, spawned, four):
    return spawned(Plain, procs=None if request.param == "here" else four.slice(gpus=0))


@pytest.mark.parametrize("once", [True, False])
def test_send_takes_methods_that_return_and_methods_that_get_a_port(plain, once):
    for endpoint_ in (as_endpoint(plain.double), as_endpoint(plain.answer, explicit_response_port=True)):
        port, receiver = Channel.open(once=once)
        send(endpoint_, (3,), {}, port)
        assert receiver.recv().get(10) == 6
        receiver.close()


def test_a_broadcast_to_a_method_that_gets_a_port_gives_it_one(plain):
    answer = as_endpoint(plain.answer, explicit_response_port=True)
    answer.broadcast(1)
    send(answer, (1,), {})
    assert plain.ping.call_one().get(10) == "pong"


def test_a_once_port_cannot_be_sent_to_several_and_stays(spawned, four, channel):
    senders = spawned(Sender, procs=four)
    once, received = Channel.open(once=True)
    with pytest.raises(ValueError, match="cannot be sent to 4 actors"):
        send(senders.send, (once, 1), {}, channel[0])
    senders.value.call().get(10)
    with pytest.raises(TimeoutError):
        channel[1].recv().get(0)
    once.send("still here")
    assert received.recv().get(10) == "still here"
