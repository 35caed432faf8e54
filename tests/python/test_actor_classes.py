"""What an actor class may look like, and what it is told when it may not."""

import asyncio
import logging

import pytest

from procession._actor import EndpointProperty, check_class, endpoints_of, is_async_actor
from procession.actor import Actor, concurrent_endpoint, endpoint
from procession.launch import Capabilities, DialBack, ProcLauncher


class Sync(Actor):
    def __init__(self, start=0):
        self.value = start

    @endpoint
    def add(self, x: int) -> int:
        """Adds."""
        self.value += x
        return self.value

    def plain(self):
        return self.value


class Async(Actor):
    @endpoint
    async def one(self):
        return 1

    @concurrent_endpoint
    async def two(self):
        return 2


def test_an_endpoint_is_the_plain_method_on_the_actor_itself():
    assert Sync(3).add(4) == 7
    assert asyncio.run(Async().one()) == 1


def test_an_endpoint_keeps_its_docstring():
    assert Sync.add.__doc__ == "Adds."
    assert isinstance(Sync.add, EndpointProperty)


def test_endpoints_are_inherited_and_can_be_overridden():
    class Child(Sync):
        @endpoint
        def add(self, x):
            return super().add(x) + 100

        @endpoint
        def more(self):
            return self.plain()

    assert set(endpoints_of(Child)) == {"add", "more"}
    assert Child(1).add(1) == 102


def test_an_endpoint_overridden_by_a_plain_method_is_none_any_more():
    class Child(Sync):
        def add(self, x):
            return x

    assert endpoints_of(Child) == {}


def test_sync_and_async_endpoints_cannot_be_mixed():
    class Mixed(Actor):
        @endpoint
        def a(self): ...

        @endpoint
        async def b(self): ...

    with pytest.raises(
        ValueError, match=r"mixes both async and sync endpoints.*to_thread.*sync: \['a'\] async: \['b'\]"
    ):
        check_class(Mixed)


@pytest.mark.parametrize("name", ["size", "sizes", "slice", "extent", "flatten", "stop", "initialized"])
def test_an_endpoint_named_like_a_mesh_attribute_is_refused_when_the_class_is_made(name):
    with pytest.raises(ValueError, match=f"{name}: every mesh has an attribute of that name.*rename it"):
        type("Broken", (Actor,), {name: endpoint(lambda self: None)})


@pytest.mark.parametrize("cls", [dict, 3, "x", None, Sync()])
def test_only_actor_classes_can_be_spawned(cls):
    with pytest.raises(ValueError, match="must subclass"):
        check_class(cls)


def test_a_concurrent_endpoint_has_to_be_async():
    with pytest.raises(ValueError, match="only those can run concurrently"):

        class Broken(Actor):
            @concurrent_endpoint
            def a(self): ...


def test_an_endpoint_is_not_made_concurrent_a_second_time():
    with pytest.raises(ValueError, match=r"Broken\.a is an endpoint already: use @concurrent_endpoint alone"):

        class Broken(Actor):
            @concurrent_endpoint
            @endpoint
            async def a(self): ...


@pytest.mark.parametrize("hook", ["__cleanup__", "__supervise__"])
def test_an_actor_without_an_event_loop_has_no_async_hooks(hook):
    async def wait(self, given): ...

    cls = type("Broken", (Sync,), {hook: wait})
    with pytest.raises(
        ValueError, match=rf"has sync endpoints, but an async {hook}: .* Make it `def`.* sync: \['add'\]"
    ):
        check_class(cls)
    check_class(type("Fine", (Async,), {hook: wait}))
    check_class(type("AlsoFine", (Async,), {hook: lambda self, given: None}))


def test_the_logger_of_an_actor_leaves_it_to_handlers_what_is_shown():
    assert Sync().logger.level == logging.DEBUG
    logger = logging.getLogger(f"{Async.__module__}.{Async.__qualname__}")
    logger.setLevel(logging.ERROR)
    assert Async().logger.level == logging.ERROR


def test_endpoint_needs_a_function():
    with pytest.raises(TypeError, match="put @endpoint directly above"):
        endpoint(3)


def test_it_is_known_which_classes_need_an_event_loop():
    assert not is_async_actor(Sync)
    assert is_async_actor(Async)


def test_a_launcher_without_its_three_endpoints_cannot_be_spawned():
    class Half(ProcLauncher):
        async def launch(self, exit_port, proc_id, opts): ...

    with pytest.raises(TypeError, match="does not define kill, terminate"):
        check_class(Half)


def test_the_endpoints_of_a_launcher_run_concurrently_whatever_they_are_declared_as():
    class Full(ProcLauncher):
        async def launch(self, exit_port, proc_id, opts): ...

        @endpoint
        async def terminate(self, proc_id, timeout_secs): ...

        def kill(self, proc_id): ...

    check_class(Full)
    found = endpoints_of(Full)
    assert {name: (one.concurrent, one.explicit) for name, one in found.items()} == {
        "launch": (True, True),
        "terminate": (True, False),
        "kill": (True, False),
    }
    assert is_async_actor(Full)


@pytest.mark.parametrize(
    ("name", "method", "expected"),
    [
        ("launch", lambda self, proc_id, opts: None, r"Odd\.launch\(self, exit_port, proc_id, opts\)"),
        ("terminate", lambda self, proc_id: None, r"Odd\.terminate\(self, proc_id, timeout_secs\)"),
        ("kill", lambda self, proc_id, signal: None, r"Odd\.kill\(self, proc_id\)"),
        ("kill", endpoint(lambda self: None), r"Odd\.kill\(self, proc_id\)"),
    ],
)
def test_a_launcher_with_other_parameters_is_refused_when_the_class_is_made(name, method, expected):
    with pytest.raises(TypeError, match=expected):
        type("Odd", (ProcLauncher,), {name: method})


def test_the_parameters_of_a_launcher_may_have_other_names_and_defaults():
    class Free(ProcLauncher):
        def launch(self, *args): ...
        def terminate(self, proc, seconds=1.0, force=False): ...
        def kill(self, proc, **rest): ...

    check_class(Free)


@pytest.mark.parametrize("hook", ["__cleanup__", "__supervise__"])
def test_a_hook_that_could_not_be_called_is_refused(hook):
    for value, expected in (
        (lambda self: True, "too many positional arguments"),
        (lambda self, one, other: True, "missing a required argument"),
        (True, "= True: has to be a method"),
    ):
        with pytest.raises(ValueError, match=expected) as caught:
            check_class(type("Hooked", (Actor,), {hook: value}))
        assert f"Hooked'>.{hook}" in str(caught.value)
    for value in (lambda self, what: True, lambda self, *what: True, lambda self, what, more=None: True, None):
        check_class(type("Hooked", (Actor,), {hook: value}))


def test_a_launcher_keeps_its_params():
    class Full(ProcLauncher):
        async def launch(self, exit_port, proc_id, opts): ...
        async def terminate(self, proc_id, timeout_secs): ...
        async def kill(self, proc_id): ...

    assert Full().params == {}
    assert Full({"image": "x"}).params == {"image": "x"}


@pytest.mark.parametrize(("name", "value"), [("capabilities", {"pid": True}), ("dial_back", "local")])
def test_a_launcher_says_what_it_can_do_in_the_right_type(name, value):
    with pytest.raises(TypeError, match=f"{name} has to be a"):
        type("Broken", (ProcLauncher,), {name: value})


def test_dial_back_names_its_kinds():
    assert DialBack.local().kind == "local"
    assert DialBack.stdio().kind == "stdio"
    assert DialBack.network("172.17.0.1:0") == DialBack("network", "172.17.0.1:0", None)
    assert DialBack.network("[::1]:0", "10.0.0.1").advertise == "10.0.0.1"
    assert Capabilities().pid is False


@pytest.mark.parametrize("address", ["", ":0", "1.2.3.4", "1.2.3.4:x", "1.2.3.4:65536", "1.2.3.4:-1", "::1:0", None, 3])
def test_addresses_that_are_none_are_refused(address):
    with pytest.raises(ValueError, match=r"^bind = "):
        DialBack.network(address)
