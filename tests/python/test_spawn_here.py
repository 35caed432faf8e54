"""Actors of this very process own what they get, as those elsewhere do."""

import threading

import pytest

from procession.actor import Actor, ActorError, Channel, SupervisionError, endpoint, this_proc
from procession.errors import NotPicklable

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with

kept_for_ever = []


class Keeper(Actor):
    def __init__(self, *given):
        self.given = given
        kept_for_ever.extend(given)

    @endpoint
    def get(self):
        return self.given

    @endpoint
    def send(self, value):
        self.given[0].send(value)

    @endpoint
    def ask(self, other):
        kept_for_ever.append(other.give_port.call_one().get(10))


class Giver(Actor):
    def __init__(self, port):
        self.port = port

    @endpoint
    def give_port(self):
        return self.port


class Unloadable:
    def __reduce__(self):
        return fail, ()


def fail():
    raise LookupError("cannot be loaded")


@pytest.fixture(autouse=True)
def forget():
    yield
    kept_for_ever.clear()


def test_what_an_actor_is_built_with_is_its_own(spawned):
    shared = [1]
    keeper = spawned(Keeper, shared, {"key": shared})
    shared.append(2)
    assert keeper.get.call_one().get(10) == ([1], {"key": [1]})


def test_classes_of_this_process_stay_themselves(spawned):
    class Local:
        pass

    for cls in (Unloadable, Local):
        assert spawned(Keeper, cls).get.call_one().get(10) == (cls,)


def test_an_argument_that_cannot_travel_is_refused_by_spawn():
    with pytest.raises(NotPicklable, match=r"lock"):
        this_proc().spawn("keeper", Keeper, threading.Lock())


def test_an_argument_that_cannot_be_loaded_is_told_by_initialized_and_by_calls(spawned, capfd):
    keeper = spawned(Keeper, Unloadable())
    with pytest.raises(ActorError, match="cannot be loaded"):
        keeper.initialized.get(10)
    with pytest.raises(SupervisionError, match="cannot be loaded"):
        keeper.get.call_one().get(10)


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_a_once_port_moves_to_the_actor_that_is_built_with_it(spawned, four, place):
    port, receiver = Channel.open(once=True)
    keeper = spawned(Keeper, port, procs=None if place == "here" else four.slice(gpus=0))
    with pytest.raises(RuntimeError, match="AlreadyMoved"):
        port.send(1)
    with pytest.raises(RuntimeError, match="AlreadyMoved"):
        this_proc().spawn("keeper", Keeper, port)
    keeper.send.call_one(2).get(10)
    assert receiver.recv().get(10) == 2


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_a_once_port_that_an_actor_was_built_with_closes_when_it_ends(spawned, four, place):
    port, receiver = Channel.open(once=True)
    keeper = spawned(Keeper, port, procs=None if place == "here" else four.slice(gpus=0))
    keeper.initialized.get(10)
    keeper.stop().get(10)
    with pytest.raises(SupervisionError, match=r"actor .*/keeper-\w+ has ended"):
        receiver.recv().get(10)


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_a_once_port_that_an_actor_was_answered_with_closes_when_it_ends(spawned, four, place):
    port, receiver = Channel.open(once=True)
    procs = None if place == "here" else four.slice(gpus=0)
    keeper, giver = spawned(Keeper, procs=procs), spawned(Giver, port, procs=four.slice(gpus=1))
    keeper.ask.call_one(giver).get(10)
    keeper.stop().get(10)
    with pytest.raises(SupervisionError, match=r"actor .*/keeper-\w+ has ended"):
        receiver.recv().get(10)
