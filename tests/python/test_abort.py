"""Actors that end themselves with a failure, and what they see of where they were spawned."""

import asyncio
import os
import threading

import pytest

from procession.actor import Actor, Channel, SupervisionError, context, endpoint, this_host, this_proc


class Sync(Actor):
    @endpoint
    def abort(self):
        context().actor_instance.abort("enough")
        return "answered"

    @endpoint
    def abort_when_the_gate_opens(self):
        instance = context().actor_instance
        self.gate = threading.Event()

        def abort():
            self.gate.wait(20)
            instance.abort("from a thread")

        threading.Thread(target=abort).start()

    @endpoint
    def open_gate(self):
        self.gate.set()

    @endpoint
    def abort_twice(self):
        context().actor_instance.abort("first")
        context().actor_instance.kill("second")

    @endpoint
    def note(self, port):
        port.send("handled")


class Async(Actor):
    @endpoint
    async def abort_and_wait(self, told):
        context().actor_instance.abort("enough")
        told.send("has aborted")
        await asyncio.Event().wait()

    @endpoint
    async def abort(self):
        context().actor_instance.abort()
        return "answered"


class Parent(Actor):
    @endpoint
    def where(self):
        return this_proc().spawn("child", Child).where.call_one().get(20), os.getpid()


class Child(Actor):
    @endpoint
    def where(self):
        return context().actor_instance.creator.proc.spawn("pid", Pid).get.call_one().get(20)


class Pid(Actor):
    @endpoint
    def get(self):
        return os.getpid()


class Quitting(Actor):
    def __init__(self):
        context().actor_instance.abort("not today")

    @endpoint
    def get(self):
        return 1


class Seeing(Actor):
    @endpoint
    def name(self):
        return repr(context().actor_instance.proc_mesh), context().actor_instance.proc_mesh is not None

    @endpoint
    def spawn_below(self):
        own = context().actor_instance.proc_mesh
        below = own.spawn("below", Seeing)
        return [value for _, value in below.name.call().get(20).items()]


def test_calls_that_wait_for_an_actor_which_aborts_hear_its_reason(failures):
    actor = this_proc().spawn("sync", Sync)
    seen, _ = Channel.open()
    answer = actor.abort.call_one()
    waits = [actor.note.call_one(seen) for _ in range(3)]
    assert answer.get(20) == "answered"
    for wait in waits:
        with pytest.raises(SupervisionError, match="ActorAborted: enough"):
            wait.get(20)
    failure = failures.get(timeout=20)
    assert (failure.mesh_name, failure.exception_type) == ("sync", "procession.errors.ActorAborted")
    assert "ActorAborted: enough" in failure.report()
    assert "_serve" not in failure.report()


def test_an_actor_that_waits_for_messages_aborts_from_a_thread(failures):
    actor = this_proc().spawn("sync", Sync)
    actor.abort_when_the_gate_opens.call_one().get(20)
    actor.open_gate.call_one().get(20)
    assert "from a thread" in failures.get(timeout=20).message


def test_only_the_first_abort_counts(failures):
    this_proc().spawn("sync", Sync).abort_twice.call_one().get(20)
    assert "first" in failures.get(timeout=20).message


def test_an_async_actor_that_aborts_is_cancelled_where_it_awaits(failures):
    actor = this_proc().spawn("async", Async)
    told, telling = Channel.open()
    answer = actor.abort_and_wait.call_one(told)
    assert telling.recv().get(20) == "has aborted"
    with pytest.raises(SupervisionError, match="ActorAborted: enough"):
        answer.get(20)
    assert "enough" in failures.get(timeout=20).message


def test_an_async_endpoint_that_returns_is_answered_though_its_actor_aborts(failures):
    assert this_proc().spawn("async", Async).abort.call_one().get(20) == "answered"
    assert "it gave no reason" in failures.get(timeout=20).message


def test_an_actor_that_aborts_while_it_is_built_is_built_and_handles_nothing(failures):
    actor = this_proc().spawn("quitting", Quitting)
    with pytest.raises(SupervisionError, match="not today"):
        actor.get.call_one().get(20)
    assert "not today" in failures.get(timeout=20).message


def test_the_client_and_an_actor_that_has_ended_cannot_abort():
    with pytest.raises(RuntimeError, match="the client is not an actor that could fail"):
        context().actor_instance.abort("no")
    kept = []

    class Keeping(Actor):
        @endpoint
        def keep(self):
            kept.append(context().actor_instance)

    actor = this_proc().spawn("keeping", Keeping)
    actor.keep.call_one().get(20)
    actor.stop().get(20)
    kept[0].abort("too late")


def test_an_actor_finds_the_procs_it_was_spawned_on_at_every_depth():
    with this_host().spawn_procs({"p": 2}, name="w") as procs:
        seeing = procs.spawn("seeing", Seeing)
        name = ("<ProcMesh w, {p: 2}>", True)
        assert list(seeing.name.call().get(30).values()) == [name, name]
        assert seeing.slice(p=1).spawn_below.call_one().get(30) == [name, name]
        asynchronous = procs.slice(p=0).spawn("seeing", Seeing)
        assert asynchronous.name.call_one().get(30)[0] == "<ProcMesh w, {}>"


def test_the_proc_of_who_spawned_an_actor_can_be_spawned_on():
    with this_host().spawn_procs() as procs:
        child, own = procs.spawn("parent", Parent).where.call_one().get(30)
        assert child == own
        assert procs.spawn("child", Child).where.call_one().get(30) == os.getpid()
