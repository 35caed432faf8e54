"""Calls with a deadline."""

import asyncio
import math
import pickle
from datetime import timedelta

import pytest

from asking import Asker
from gates import Gate, Patient, opened
from procession.actor import Accumulator, ActorError, Channel, send
from procession.errors import CallTimeout, InvalidArgument

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

LONG = 3600
SHORT = 0.05


@pytest.fixture
def gate(spawned, four):
    return spawned(Gate, procs=four)


def test_a_call_that_is_not_answered_in_time_raises_with_endpoint_seconds_and_ranks(gate, gates):
    calling = gate.wait.options(timeout=SHORT).call(gates)
    with opened(gates[0], gates[2]), pytest.raises(TimeoutError) as caught:
        calling.get(20)
    error = caught.value
    assert isinstance(error, CallTimeout)
    assert (error.endpoint, error.seconds, error.actors) == ("gate.wait", SHORT, 4)
    assert set(error.ranks) >= {1, 3}
    assert "gate.wait() was not answered by" in str(error)
    assert "within 0.05 s" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.ranks) == (str(error), error.ranks)
    with opened(*gates):
        assert list(gate.ping.call().get(20).values()) == ["pong"] * 4


def test_each_way_to_call_has_the_deadline(gate, gates):
    hasty = gate.wait.options(timeout=SHORT)
    one = gate.slice(gpus=1).wait.options(timeout=SHORT).call_one(gates)
    waiting = [one, hasty.choose(gates), *hasty.stream(gates), Accumulator(hasty, 0, max).accumulate(gates)]
    try:
        for future in waiting:
            with pytest.raises(CallTimeout):
                future.get(20)
    finally:
        with opened(*gates):
            gate.ping.call().get(20)
    assert str(one.exception()).startswith("gate.wait() was not answered within 0.05 s")


def test_those_of_a_stream_that_have_answered_in_time_keep_their_answers(gate, gates):
    stream = list(gate.wait.options(timeout=1).stream(gates))
    with opened(gates[3]):
        assert stream[0].get(20) == 3
        assert sorted(stream[1].exception(20).ranks) == [0, 1, 2]
    with opened(*gates):
        gate.ping.call().get(20)
    assert stream[0].get() == 3


def test_a_deadline_that_is_not_reached_changes_nothing(gate):
    assert list(gate.ping.options(timeout=LONG).call().get(20).values()) == ["pong"] * 4
    assert gate.ping.options(timeout=timedelta(hours=1)).choose().get(20) == "pong"


@pytest.mark.parametrize("timeout", [None, math.inf])
def test_without_a_limit_an_endpoint_waits_for_ever(gate, gates, timeout):
    calling = gate.wait.options(timeout=SHORT).options(timeout=timeout).call(gates)
    with pytest.raises(TimeoutError, match="the call goes on"):
        calling.get(2 * SHORT)
    with opened(*gates):
        assert list(calling.get(20).values()) == [0, 1, 2, 3]


@pytest.mark.parametrize("timeout", [math.nan, -1, -math.inf, "5", True, timedelta(seconds=-1)])
def test_a_deadline_that_is_no_time_is_refused(gate, timeout):
    with pytest.raises(InvalidArgument, match=r"^timeout = "):
        gate.ping.options(timeout=timeout)


@pytest.mark.parametrize("timeout", [0, -0.0, 1e-300])
def test_a_deadline_that_has_passed_at_once_is_one(gate, gates, timeout):
    with pytest.raises(CallTimeout):
        gate.wait.options(timeout=timeout).call(gates).get(20)
    with opened(*gates):
        assert gate.ping.choose().get(20) == "pong"


def test_what_has_no_answer_to_wait_for_takes_no_deadline(gate):
    hasty = gate.ping.options(timeout=1)
    with pytest.raises(InvalidArgument, match="a broadcast waits for no answer"):
        hasty.broadcast()
    port, receiver = Channel.open()
    with pytest.raises(InvalidArgument, match=r"limit the wait for them there"):
        send(hasty, (), {}, port=port)
    receiver.close()


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_the_deadline_reaches_the_actor_also_when_nobody_waits(spawned, four, where):
    patient = spawned(Patient, procs=None if where == "here" else four.slice(gpus=0))
    port, heard = Channel.open()
    patient.hold.options(timeout=SHORT).call_one(port)
    assert heard.recv().get(20) == "begun"
    assert heard.recv().get(20) == "cancelled"
    assert patient.ping.call_one().get(20) == "pong"
    heard.close()


def test_an_actor_can_give_its_calls_a_deadline(spawned, four, gate, gates):
    asker = spawned(Asker, procs=four.slice(gpus=0))
    others = gate.slice(gpus=slice(1, 4))
    with pytest.raises(ActorError) as caught:
        asker.wait_at_most.call_one(others, gates, SHORT).get(20)
    error = caught.value.exception
    assert isinstance(error, CallTimeout)
    assert (error.ranks, error.actors) == ([0, 1, 2], 3)
    with opened(*gates):
        assert list(gate.ping.call().get(20).values()) == ["pong"] * 4
        assert asker.wait_at_most.call_one(others, gates, LONG).get(20).sizes == {"gpus": 3}


def test_it_can_be_awaited(gate, gates):
    async def main():
        with pytest.raises(CallTimeout):
            await gate.wait.options(timeout=SHORT).call(gates)

    asyncio.run(main())
    with opened(*gates):
        assert gate.ping.choose().get(20) == "pong"
