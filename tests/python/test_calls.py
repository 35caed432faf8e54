"""Calling actors: in this process, and in launched ones."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from counting import Counter
from procession.actor import (
    Accumulator,
    Actor,
    ActorError,
    SupervisionError,
    as_endpoint,
    context,
    current_rank,
    endpoint,
)
from procession.errors import NotPicklable, RemoteException

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


def test_call_one_gives_what_the_endpoint_returns(counter):
    assert counter.add.call_one(5).get(10) == 15
    assert counter.add.call_one(by=5).get(10) == 20


def test_call_gives_all_results_by_rank(counters):
    results = counters.rank.call().get(10)
    assert [(point.rank, dict(point), value.rank) for point, value in results.items()] == [
        (rank, {"gpus": rank}, rank) for rank in range(4)
    ]
    assert len({pid for pid, _ in counters.where.call().get(10).values()} - {os.getpid()}) == 4


class Relay(Actor):
    @endpoint
    def call_it(self, endpoint, *args):
        return endpoint.call_one(*args).get(10)


def test_an_endpoint_can_be_passed_to_an_actor_that_calls_it(counter, spawned, four):
    relay = spawned(Relay, procs=four.slice(gpus=0))
    assert relay.call_it.call_one(counter.add, 5).get(10) == 15
    assert relay.call_it.call_one(counter.add.options(timeout=10), 5).get(10) == 20
    assert relay.call_it.call_one(as_endpoint(counter.plain), 5).get(10) == ("plain", 5)


def test_call_on_one_actor_gives_a_mesh_of_one(counter):
    assert list(counter.add.call().get(10).values()) == [11]


def test_calls_are_sent_when_they_are_made(counter):
    futures = [counter.note.call_one(n) for n in range(100)]
    assert counter.get_seen.call_one().get(10) == list(range(100))
    assert all(future.done() for future in futures)


def test_broadcast_reaches_every_actor(counters):
    assert counters.note.broadcast("x") is None
    assert list(counters.get_seen.call().get(10).values()) == [["x"]] * 4


def test_choose_takes_each_in_its_turn(counters):
    for _ in range(8):
        counters.add.choose().get(10)
    assert list(counters.add.call(0).get(10).values()) == [12] * 4


def test_meshes_take_turns_each_on_its_own(spawned, four):
    meshes = [spawned(Counter, procs=four.slice(gpus=slice(first, first + 2))) for first in (0, 2)]
    chosen = [[], []]
    for _ in range(4):
        for mesh, ranks in zip(meshes, chosen, strict=True):
            ranks.append(mesh.rank.choose().get(10).rank)
    assert chosen == [[0, 1, 0, 1]] * 2


def test_call_one_of_several_is_refused(counters):
    with pytest.raises(ValueError, match="call_one requires exactly 1 actor, but mesh has 4"):
        counters.add.call_one()
    assert counters.slice(gpus=2).add.call_one().get(10) == 11


def test_a_slice_is_called_alone_and_ranks_are_those_of_the_slice(counters):
    middle = counters.slice(gpus=slice(1, 3))
    assert middle.sizes == {"gpus": 2}
    ranks = [value for _, value in middle.rank.call().get(10)]
    assert [(rank.rank, rank.size("gpus")) for rank in ranks] == [(0, 2), (1, 2)]
    middle.note.call("x").get(10)
    assert list(counters.get_seen.call().get(10).values()) == [[], ["x"], ["x"], []]


def test_a_mesh_can_be_split_and_flattened(counters):
    grid = counters.split(gpus=("dp", "tp"), tp=2)
    results = grid.rank.call().get(10)
    assert results.extent == {"dp": 2, "tp": 2}
    assert dict(results.item(dp=1, tp=0)) == {"dp": 1, "tp": 0}
    assert [value.rank for value in grid.flatten("all").rank.call().get(10).values()] == [0, 1, 2, 3]


def test_an_exception_reaches_the_caller_and_the_actor_lives(counter):
    with pytest.raises(ActorError, match="rank 0 fails") as caught:
        counter.fail.call_one(0).get(10)
    assert isinstance(caught.value.__cause__, ValueError)
    assert "in fail\n    raise ValueError" in caught.value.remote_traceback
    assert "procession" not in caught.value.remote_traceback
    assert caught.value.exception_formatted.startswith("Traceback of where the remote call failed (most recent")
    assert counter.add.call_one().get(10) == 11


def test_call_raises_the_exception_of_one_rank_and_says_which(counters):
    with pytest.raises(ActorError) as caught:
        counters.fail.call(2).get(10)
    assert str(caught.value.exception) == "rank 2 fails"
    assert any("rank 2 of 4" in note for note in caught.value.__notes__)
    assert any(note.startswith("raised by rank 2, on host ") for note in caught.value.__notes__)


def test_stream_gives_one_future_for_each_actor(counters):
    futures = list(counters.fail.stream(1))
    outcomes = sorted(str(future.exception(10) and future.exception().exception) for future in futures)
    assert outcomes == ["None", "None", "None", "rank 1 fails"]


class Gate(Actor):
    """Answers when it is told to, through a port that somebody else holds."""

    @endpoint
    def wait(self, paths):
        Path(paths[current_rank().rank]).read_text()
        return current_rank().rank


def test_stream_is_in_the_order_of_the_answers(spawned, four, tmp_path):
    gate = spawned(Gate, procs=four)
    paths = [str(tmp_path / str(rank)) for rank in range(4)]
    for path in paths:
        os.mkfifo(path)
    stream = gate.wait.stream(paths)
    order = []
    for rank in (2, 0, 3, 1):
        Path(paths[rank]).write_text("go")
        order.append(next(stream).get(10))
    assert order == [2, 0, 3, 1]
    with pytest.raises(StopIteration):
        next(stream)


def test_an_accumulator_folds_what_comes(counters):
    assert Accumulator(counters.add, 100, lambda total, one: total + one).accumulate(1).get(10) == 144


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2), {}), ((), {"x": 1}), ((1,), {"on_rank": 1})])
def test_wrong_arguments_are_refused_where_the_call_is_made(counter, args, kwargs):
    with pytest.raises(TypeError):
        counter.fail.call(*args, **kwargs)


def test_all_kinds_of_arguments_pass(counter):
    array = np.arange(50_000, dtype=np.float32)
    args, kwargs = counter.echo.call_one(1, "two", array, key={"a": (1, 2)}, f=lambda x: x + 1).get(10)
    assert args[:2] == (1, "two")
    assert np.array_equal(args[2], array)
    args[2][0] = 5
    assert (kwargs["key"], kwargs["f"](1)) == ({"a": (1, 2)}, 2)


def test_an_argument_may_be_changed_right_after_the_call(counter):
    array = np.zeros(100_000)
    future = counter.echo.call_one(array)
    array[:] = 1
    assert future.get(10)[0][0].sum() == 0


def test_an_argument_that_cannot_travel_is_refused_where_the_call_is_made(counter):
    with pytest.raises(NotPicklable, match=r"\[1\] is a _thread\.lock"):
        counter.echo.call_one(1, threading.Lock())
    assert counter.get_seen.call_one().get(10) == []


@pytest.mark.parametrize(
    ("what", "culprit"),
    [("threading.Lock()", "it is a _thread.lock"), ("{'a': [threading.Lock()]}", "['a'][0] is a _thread.lock")],
)
def test_a_result_that_cannot_travel_is_an_error_that_names_it(counter, what, culprit):
    with pytest.raises(ActorError) as caught:
        counter.give.call_one(what).get(10)
    assert isinstance(caught.value.exception, NotPicklable)
    assert culprit in str(caught.value)
    assert counter.add.call_one().get(10) == 11


class Odd(Exception):
    """Pickles, and cannot be loaded again: its constructor wants more than its args."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no")


def test_an_exception_that_cannot_be_rebuilt_keeps_its_text(counter):
    with pytest.raises(ActorError) as caught:
        counter.give.call_one("(_ for _ in ()).throw(__import__('json').JSONDecodeError('bad', 'doc', 1))").get(10)
    assert type(caught.value.exception).__name__ == "JSONDecodeError"
    with pytest.raises(ActorError) as caught:
        counter.raise_this.call_one(Odd).get(10)
    assert isinstance(caught.value.exception, TypeError)


def test_an_exception_that_does_not_load_is_replaced_by_its_text(spawned):
    class Raiser(Actor):
        @endpoint
        def go(self):
            raise Odd(1, 2)

        @endpoint
        def unprintable(self):
            raise Unprintable

    raiser = spawned(Raiser)
    with pytest.raises(ActorError) as caught:
        raiser.go.call_one().get(10)
    assert isinstance(caught.value.exception, RemoteException)
    assert caught.value.exception.text == "1 and 2"
    assert caught.value.exception.type_name.endswith(".Odd")
    with pytest.raises(ActorError, match="Unprintable"):
        raiser.unprintable.call_one().get(10)


def test_an_exception_without_anyone_to_tell_ends_the_actor(counter, capfd):
    counter.fail.broadcast(0)
    with pytest.raises(SupervisionError, match="ValueError: rank 0 fails") as caught:
        counter.add.call_one().get(10)
    assert caught.value.endpoint == "counter.add"


def test_a_method_that_is_no_endpoint_says_what_to_do(counter):
    with pytest.raises(RuntimeError, match=r"plain is not annotated as an endpoint.*as_endpoint"):
        counter.plain(3)
    assert as_endpoint(counter.plain).call_one(3).get(10) == ("plain", 3)
    with pytest.raises(ValueError, match="expected a method of a spawned actor"):
        as_endpoint(len)
    for way in ("call", "call_one", "choose", "stream", "broadcast"):
        with pytest.raises(AttributeError, match=r"plain is not annotated as an endpoint.*as_endpoint"):
            getattr(counter.plain, way)


@pytest.mark.parametrize("name", ["nothing", "value"])
def test_a_mesh_has_the_attributes_of_its_class_only(counter, name):
    with pytest.raises(AttributeError, match=name):
        getattr(counter, name)


def test_calling_an_endpoint_as_a_function_says_how_to_call_it(counter):
    with pytest.raises(TypeError, match=r"use \.call\(\)"):
        counter.add(1)


class Caller(Actor):
    def __init__(self, others):
        self.others = others

    @endpoint
    def ask(self):
        return list(self.others.add.call().get(10).values()), self.others.sizes

    @endpoint
    def spawn_neighbour(self):
        mesh = context().actor_instance.proc.spawn("neighbour", Counter, 40)
        try:
            return mesh.add.call_one(2).get(10), mesh.where.call_one().get(10)[0] == os.getpid()
        finally:
            mesh.stop().get(10)


def test_meshes_and_slices_of_them_can_be_passed_to_actors(spawned, four, counters):
    caller = spawned(Caller, counters.slice(gpus=slice(1, 3)), procs=four.slice(gpus=0))
    assert caller.ask.call_one().get(10) == ([11, 11], {"gpus": 2})
    assert caller.spawn_neighbour.call_one().get(10) == (42, True)
