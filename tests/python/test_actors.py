"""Where actors live, how they begin and end, and what they know about themselves."""

import os
import threading

import pytest

from counting import Counter
from procession.actor import (
    Actor,
    ActorError,
    SupervisionError,
    context,
    current_actor_name,
    current_rank,
    current_size,
    endpoint,
    this_host,
    this_proc,
)
from procession.errors import InvalidArgument

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Broken(Actor):
    def __init__(self):
        raise OSError("no such device")

    @endpoint
    def ping(self):
        return "pong"


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_an_init_that_raises_is_told_by_initialized_and_by_calls(spawned, place, request):
    broken = spawned(Broken, procs=request.getfixturevalue("four") if place == "elsewhere" else None)
    with pytest.raises(ActorError, match="no such device"):
        broken.initialized.get(10)
    with pytest.raises(SupervisionError, match="no such device"):
        broken.ping.call().get(10)


class Replaced(Actor):
    @endpoint
    def step(self):
        return "of the class"

    @endpoint
    def replace(self):
        self.step = lambda: "of its own"


def test_an_endpoint_that_an_actor_has_replaced_on_itself_is_the_one_that_is_called(spawned):
    replaced = spawned(Replaced)
    assert replaced.step.call_one().get(10) == "of the class"
    replaced.replace.call_one().get(10)
    assert replaced.step.call_one().get(10) == "of its own"


def test_an_actor_that_was_stopped_says_so(spawned):
    counter = spawned(Counter)
    counter.stop("enough of it").get(10)
    with pytest.raises(SupervisionError):
        counter.add.call_one().get(10)
    counter.stop().get(10)


def test_meshes_of_one_name_live_side_by_side(spawned, four):
    one, other = spawned(Counter, 1, procs=four), spawned(Counter, 2, procs=four)
    assert list(one.add.call().get(10).values()) == [2] * 4
    assert list(other.add.call().get(10).values()) == [3] * 4


class Spawner(Actor):
    @endpoint
    def spawn_on(self, procs):
        mesh = procs.spawn("there", Counter, 5)
        try:
            return [value for _, value in mesh.rank.call().get(10)], list(mesh.add.call().get(10).values())
        finally:
            mesh.stop().get(10)

    @endpoint
    def look(self, procs):
        return procs.exits()


def test_procs_that_were_passed_on_can_host_actors_and_tell_how_they_are(spawned, four):
    spawner = spawned(Spawner, procs=four.slice(gpus=3))
    ranks, values = spawner.spawn_on.call_one(four.slice(gpus=slice(1, 3))).get(10)
    assert ([rank.rank for rank in ranks], values) == ([0, 1], [6, 6])
    assert list(spawner.look.call_one(four).get(10).values()) == [None] * 4


class Visitor(Actor):
    @endpoint
    def visit(self, procs):
        mesh = procs.spawn("visited", Counter, 7)
        try:
            return mesh.where.call_one().get(10)[0], mesh.add.call_one(1).get(10)
        finally:
            mesh.stop().get(10)


def test_others_can_start_actors_in_the_client(spawned, four):
    visitor = spawned(Visitor, procs=four.slice(gpus=2))
    assert visitor.visit.call_one(this_proc()).get(20) == (os.getpid(), 8)


class Self(Actor):
    @endpoint
    def describe(self):
        instance = context().actor_instance
        return instance.rank, instance.name, instance.actor_id == current_actor_name(), current_size()


def test_the_context_tells_who_and_where(spawned, four):
    described = spawned(Self, procs=four).slice(gpus=slice(2, 4)).describe.call().get(10)
    assert [(rank.rank, name, same, size) for rank, name, same, size in described.values()] == [
        (2, "self", True, {"gpus": 2}),
        (3, "self", True, {"gpus": 2}),
    ]


def test_outside_of_an_actor_the_context_is_the_client():
    assert context().actor_instance.name == "client"
    assert (dict(current_rank()), current_size()) == ({}, {})
    assert current_actor_name().endswith("/client")
    with pytest.raises(RuntimeError, match="shutdown_context"):
        context().actor_instance.stop()


def test_the_first_actor_of_a_proc_lives_on_its_main_thread(spawned):
    with this_host().spawn_procs() as procs:
        assert procs.sizes == {}
        first, second = spawned(Counter, procs=procs), spawned(Counter, procs=procs)
        assert first.where.call_one().get(20)[1] is True
        assert second.where.call_one().get(20)[1] is False
        assert first.where.call_one().get(20)[0] == second.where.call_one().get(20)[0]
        first.stop().get(10)
        second.stop().get(10)


class Cleaner(Actor):
    def __init__(self, path):
        self.path = path

    @endpoint
    def fail(self):
        raise KeyError("gone")

    @endpoint
    def leave(self):
        raise SystemExit(3)

    @endpoint
    def end_yourself(self):
        context().actor_instance.stop("done here")
        return "last words"

    def __cleanup__(self, exc):
        with open(self.path, "a") as file:
            file.write(f"{exc!r}\n")


def test_cleanup_runs_at_the_end_and_gets_what_ended_the_actor(spawned, tmp_path, capfd):
    path = tmp_path / "cleaned"
    stopped = spawned(Cleaner, str(path))
    stopped.stop().get(10)
    assert path.read_text() == "None\n"
    failing = spawned(Cleaner, str(path))
    failing.fail.broadcast()
    failing.stop().get(10)
    assert path.read_text() == "None\nKeyError('gone')\n"
    assert "KeyError: 'gone'" in capfd.readouterr().err
    own = spawned(Cleaner, str(path))
    assert own.end_yourself.call_one().get(10) == "last words"
    own.stop().get(10)
    assert path.read_text().count("\n") == 3


def test_a_stop_is_done_when_the_actor_has_ended_and_so_is_a_second_one(spawned):
    cleaning, may_end = threading.Event(), threading.Event()

    class Slow(Actor):
        def __cleanup__(self, exc):
            cleaning.set()
            may_end.wait(10)

    slow = spawned(Slow)
    first = slow.stop()
    assert cleaning.wait(10)
    second = slow.stop()
    assert not first.done()
    assert not second.done()
    may_end.set()
    assert (first.get(10), second.get(10)) == (None, None)


def test_an_actor_that_exits_answers_and_ends_and_its_proc_lives(spawned, four, tmp_path):
    one = four.slice(gpus=1)
    leaving = spawned(Cleaner, str(tmp_path / "cleaned"), procs=one)
    with pytest.raises(ActorError) as caught:
        leaving.leave.call_one().get(10)
    assert isinstance(caught.value.exception, SystemExit)
    with pytest.raises(SupervisionError, match="SystemExit: 3"):
        leaving.fail.call_one().get(10)
    assert spawned(Counter, procs=one).add.call_one().get(10) == 1


@pytest.mark.parametrize("name", ["", "a/b", "-x", 3])
def test_an_actor_needs_a_good_name(name):
    with pytest.raises(InvalidArgument):
        this_proc().spawn(name, Counter)


def test_what_is_no_actor_class_cannot_be_spawned(four):
    with pytest.raises(ValueError, match="must subclass"):
        four.spawn("x", dict)
