"""Controllers: one actor for a name, wherever it is asked for."""

import os
import threading

import pytest

from procession.actor import (
    Actor,
    ActorError,
    SupervisionError,
    context,
    endpoint,
    get_or_spawn_controller,
    this_proc,
)


class Counter(Actor):
    def __init__(self, start=0):
        self.count = start

    @endpoint
    def add(self):
        self.count += 1
        return self.count

    @endpoint
    def pid(self):
        return os.getpid()


class User(Actor):
    @endpoint
    def use(self, name, start):
        return get_or_spawn_controller(name, Counter, start).get(20).add.call_one().get(20)

    @endpoint
    def grandchild(self, name):
        grandchild = this_proc().spawn("grandchild", User)
        count = grandchild.use.call_one(name, 100).get(20)
        grandchild.stop().get(20)
        return count


class AsyncUser(Actor):
    @endpoint
    async def use(self, name, start):
        controller = await get_or_spawn_controller(name, Counter, start=start)
        return await controller.add.call_one()


class Asking(Actor):
    """Asks for another controller while it is built."""

    def __init__(self):
        self.other = get_or_spawn_controller("asked-for-by-one", Counter, 7).get(20)

    @endpoint
    def add(self):
        return self.other.add.call_one().get(20)


class Broken(Actor):
    def __init__(self):
        raise ValueError("cannot be built")

    @endpoint
    def get(self):
        return 1


@pytest.fixture(autouse=True)
def controllers(four):
    """Holds on to nothing: what is asked for under a test's own name is stopped at its end."""
    kept = []

    def get(name, cls, *args, **kwargs):
        kept.append(get_or_spawn_controller(name, cls, *args, **kwargs).get(20))
        return kept[-1]

    yield get
    for mesh in kept:
        mesh.stop().get(10)


def test_a_name_has_one_controller_in_the_client(controllers):
    first = controllers("one", Counter, 10)
    assert first.add.call_one().get(10) == 11
    assert controllers("one", Counter, 99).add.call_one().get(10) == 12
    assert controllers("two", Counter, start=50).add.call_one().get(10) == 51
    assert first.pid.call_one().get(10) == os.getpid()


def test_actors_of_procs_get_the_same_one_as_the_client(controllers, four):
    first = controllers("shared", Counter, 10)
    used = list(four.spawn("user", User).use.call("shared", 1).get(20).values())
    used += four.spawn("user", AsyncUser).use.call("shared", 1).get(20).values()
    assert sorted(used) == list(range(11, 19))
    assert first.add.call_one().get(10) == 19


def test_the_first_to_ask_may_be_an_actor_and_all_at_once(controllers, four):
    users = [four.spawn("user", User) for _ in range(3)]
    futures = [user.use.call("asked-for-by-actors", 0) for user in users]
    assert sorted(value for future in futures for value in future.get(20).values()) == list(range(1, 13))
    assert controllers("asked-for-by-actors", Counter).pid.call_one().get(10) == os.getpid()


def test_an_actor_that_an_actor_has_spawned_finds_the_client_too(controllers, four):
    first = controllers("deep", Counter)
    assert four.slice(gpus=0).spawn("user", User).grandchild.call_one("deep").get(20) == 1
    assert first.add.call_one().get(10) == 2


def test_a_controller_may_ask_for_another_while_it_is_built(controllers):
    assert controllers("asking", Asking).add.call_one().get(20) == 8
    assert controllers("asked-for-by-one", Counter).add.call_one().get(10) == 9


def test_threads_that_ask_at_once_get_one(controllers):
    results = []
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait()
        results.append(get_or_spawn_controller("raced-for", Counter).get(20).add.call_one().get(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 9))
    controllers("raced-for", Counter)


def test_what_cannot_be_a_controller_is_refused_or_tells_its_callers(controllers):
    with pytest.raises(ValueError, match="must subclass"):
        get_or_spawn_controller("bad", dict)
    with pytest.raises(ActorError, match="unexpected keyword argument 'nothing'"):
        get_or_spawn_controller("bad", Counter, nothing=1).get(20)
    assert controllers("bad", Counter).add.call_one().get(10) == 1
    broken = controllers("broken", Broken)
    with pytest.raises(SupervisionError, match="cannot be built"):
        broken.get.call_one().get(20)


class Child(Actor):
    @endpoint
    def creators(self):
        found, one = [], context().actor_instance.creator
        while one is not None:
            found.append((one.name, one.rank.rank, one.proc_id))
            one = one.creator
        return found


class Parent(Actor):
    @endpoint
    def child(self):
        child = this_proc().spawn("child", Child)
        found = child.creators.call_one().get(20)
        child.stop().get(20)
        return found


def test_an_actor_knows_who_has_spawned_it(four):
    client = ("client", 0, context().actor_instance.proc_id)
    assert context().actor_instance.creator is None
    assert four.slice(gpus=0).spawn("child", Child).creators.call_one().get(20) == [client]
    found = four.spawn("parent", Parent).child.call().get(20)
    for rank, creators in enumerate(found.values()):
        assert [(name, place) for name, place, _ in creators] == [("parent", rank), ("client", 0)]
        assert creators[1] == client
        assert creators[0][2] != client[2]
    here = this_proc().spawn("parent", Parent)
    assert here.child.call_one().get(20) == [("parent", 0, client[2]), client]
    here.stop().get(10)


def test_calls_that_come_before_the_holder_of_controllers_is_there_wait_for_it(script):
    shown = script("""
        from procession.actor import Actor, endpoint, get_or_spawn_controller, this_host

        class Counter(Actor):
            def __init__(self):
                self.count = 0

            @endpoint
            def add(self):
                self.count += 1
                return self.count

        class User(Actor):
            @endpoint
            def use(self):
                return [get_or_spawn_controller(name, Counter).get(20).add.call_one().get(20) for name in "ab"]

        users = this_host().spawn_procs({"workers": 4}).spawn("user", User)
        print(sorted(max(counts) for counts in users.use.call().get(30).values())[-1])
    """)
    assert shown.stdout == "4\n"


class Fragile(Counter):
    @endpoint
    def fail(self):
        raise ValueError("of the controller")


def test_a_controller_that_has_failed_is_not_given_again_and_says_why(controllers):
    fragile = controllers("fragile", Fragile)
    fragile.fail.broadcast()
    with pytest.raises(SupervisionError, match="of the controller"):
        fragile.add.call_one().get(10)
    with pytest.raises(ActorError, match="'fragile' has failed, and there is no other of that name") as caught:
        while True:  # its owner is told a little later than its callers
            get_or_spawn_controller("fragile", Fragile).get(10)
    assert type(caught.value.exception) is ValueError
    assert "of the controller" in str(caught.value)
    assert controllers("another", Fragile).add.call_one().get(10) == 1
