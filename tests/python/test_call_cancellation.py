"""Calls that are cancelled, and what their actors have of that."""

import asyncio
import os
import signal
import threading
from concurrent import futures
from functools import partial
from random import Random

import pytest

from asking import Asker
from gates import Gate, Patient, opened, pass_through
from launching import until
from procession import Restart
from procession.actor import Accumulator, ActorError, Channel, SupervisionError, context, this_host
from procession.errors import CallCancelled, CallTimeout

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


@pytest.fixture(params=["here", "elsewhere"])
def procs(request, four):
    return None if request.param == "here" else four.slice(gpus=0)


@pytest.fixture
def gate(spawned, procs):
    return spawned(Gate, procs=procs)


@pytest.fixture
def patient(spawned, procs):
    return spawned(Patient, procs=procs)


@pytest.fixture
def told():
    port, receiver = Channel.open()
    yield port, receiver
    receiver.close()


def heard(receiver):
    return receiver.recv().get(20)


def test_a_cancelled_call_raises_what_asyncio_and_threads_raise_for_that(gate, gates):
    future = gate.wait.call_one(gates)
    assert not future.cancelled()
    assert future.cancel()
    assert not future.cancel()
    assert future.done()
    assert future.cancelled()
    for kind in (CallCancelled, asyncio.CancelledError, futures.CancelledError):
        with pytest.raises(kind, match=r"gate\.wait\(\) was cancelled by its caller"):
            future.get()
    with opened(*gates):
        assert gate.ping.call_one().get(20) == "pong"


def test_a_message_that_waits_is_dropped_and_never_runs(gate, gates, spawned, procs):
    neighbour = spawned(Patient, procs=procs)
    busy = gate.wait.call_one(gates)
    notes = [gate.note.call_one(n) for n in range(100)]
    assert all(note.cancel() for note in notes[::2])
    assert neighbour.ping.call_one().get(20) == "pong"  # behind the cancels
    with opened(*gates):
        assert busy.get(20) == 0
        assert gate.get_seen.call_one().get(20) == list(range(1, 100, 2))
    assert [note.cancelled() for note in notes] == [True, False] * 50


def test_a_message_that_waits_at_an_async_actor_never_runs(patient, told):
    port, receiver = told
    busy = patient.hold.call_one(port)
    assert heard(receiver) == "begun"
    notes = [patient.note.call_one(n) for n in range(100)]
    assert all(note.cancel() for note in notes[::2])
    assert busy.cancel()
    assert patient.get_seen.call_one().get(20) == list(range(1, 100, 2))


@pytest.mark.parametrize("then", [None, "clean up", "go on", "fail"])
@pytest.mark.parametrize("name", ["hold", "hold_beside"])
def test_a_running_async_endpoint_gets_a_cancelled_error_and_its_actor_lives(patient, told, name, then):
    port, receiver = told
    for _ in range(3):
        future = getattr(patient, name).call_one(port, then)
        assert heard(receiver) == "begun"
        assert future.cancel()
        assert heard(receiver) == "cancelled"
        assert patient.ping.call_one().get(20) == "pong"


def test_of_several_that_run_side_by_side_only_the_one_is_interrupted(patient, told):
    port, receiver = told
    others = [patient.wait.call_one(port) for _ in range(3)]
    one = patient.hold_beside.call_one(port)
    assert [heard(receiver) for _ in range(4)] == ["begun"] * 4
    assert one.cancel()
    assert heard(receiver) == "cancelled"
    patient.let_go.call_one().get(20)
    assert [other.get(20) for other in others] == ["opened"] * 3


def test_a_running_sync_endpoint_can_ask_and_its_result_is_dropped(gate, gates, told):
    port, receiver = told
    future = gate.until_cancelled.call_one(port, gates[0])
    assert heard(receiver) is False
    assert future.cancel()
    with opened(gates[0]):
        assert heard(receiver) is True
    assert gate.after.call_one().get(20) is False
    assert future.cancelled()
    assert context().cancelled is False


def test_a_future_that_is_done_cannot_be_cancelled(gate):
    future = gate.ping.call_one()
    assert future.get(20) == "pong"
    assert not future.cancel()
    assert future.get() == "pong"
    assert not future.cancelled()


def test_what_is_no_call_cannot_be_cancelled(told):
    port, receiver = told
    future = receiver.recv()
    assert not future.cancel()
    port.send(1)
    assert future.get(20) == 1


def test_of_many_who_cancel_one_does(patient, told):
    port, receiver = told
    for _ in range(20):
        future = patient.hold.call_one(port)
        assert heard(receiver) == "begun"
        got, start = [], threading.Barrier(4)

        def cancel(future=future, got=got, start=start):
            start.wait()
            got.append(future.cancel())

        threads = [threading.Thread(target=cancel) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == [False, False, False, True]
        assert heard(receiver) == "cancelled"


def test_an_answer_that_comes_at_the_same_time_either_counts_or_is_dropped(gate):
    for n in range(300):
        future = gate.note.call_one(n)
        for _ in range(n % 5):
            future.exception(20) if n % 2 else future.done()
        assert future.cancel() == future.cancelled()
        if not future.cancelled():
            assert future.get() is None
    seen = gate.get_seen.call_one().get(20)
    assert seen == sorted(set(seen))


def test_a_port_that_an_endpoint_keeps_says_that_nobody_waits(patient):
    kept = [patient.keep.call_one() for _ in range(2)]
    assert patient.kept_cancelled.call_one().get(20) == [False, False]
    assert kept[1].cancel()
    until(lambda: patient.kept_cancelled.call_one().get(20) == [False, True], "it says so")
    patient.answer_kept.call_one("for nobody").get(20)
    patient.answer_kept.call_one("for the first").get(20)
    assert kept[0].get(20) == "for the first"


@pytest.mark.parametrize("to", [None, 1], ids=["back here", "to a third process"])
def test_a_port_that_was_passed_on_says_so_where_it_is(patient, spawned, four, to):
    other = spawned(Patient, procs=None if to is None else four.slice(gpus=to))
    future = patient.pass_on.call_one(other)
    until(lambda: other.kept_cancelled.call_one().get(20) == [False], "it is there")
    assert patient.ping.call_one().get(20) == "pong"
    assert future.cancel()
    until(lambda: other.kept_cancelled.call_one().get(20) == [True], "it says so")
    other.answer_kept.call_one("for nobody").get(20)


def test_a_port_that_is_passed_on_after_the_cancel_says_so_too(patient, spawned, four):
    other = spawned(Patient, procs=four.slice(gpus=1))
    for _ in range(20):
        future = patient.pass_on.call_one(other)
        future.cancel()
    patient.ping.call_one().get(20)
    other.ping.call_one().get(20)
    until(lambda: all(other.kept_cancelled.call_one().get(20)), "all say so")


def test_what_waits_for_a_proc_that_is_not_up_is_dropped_with_it(tmp_path, gates):
    with this_host().spawn_procs(per_host={"gpus": 1}, bootstrap=partial(pass_through, gates[0])) as procs:
        mesh = procs.spawn("gate", Gate)
        notes = [mesh.note.call_one(n) for n in range(4)]
        assert notes[1].cancel()
        assert notes[2].cancel()
        with opened(gates[0]):
            assert mesh.get_seen.call_one().get(30) == [0, 3]
        assert [note.cancelled() for note in notes] == [False, True, True, False]


def test_what_waits_for_the_next_launch_of_a_proc_is_dropped_with_it(gates, failures, spawned, four):
    asker = spawned(Asker, procs=four.slice(gpus=0))
    restart = Restart(backoff=(0.01, 0.01), actors="respawn")
    bootstrap = partial(pass_through, gates[0])
    with this_host().spawn_procs(per_host={"gpus": 1}, restart=restart, bootstrap=bootstrap) as procs:
        mesh = procs.spawn("gate", Gate)
        with opened(gates[0]):
            mesh.initialized.get(30)
        os.kill(procs.statuses().item(gpus=0).pid, signal.SIGKILL)
        until(lambda: procs.history().item(gpus=0).exits, "it has ended")
        notes = [mesh.note.call_one(n) for n in range(4)]
        assert notes[1].cancel()
        assert notes[2].cancel()
        with pytest.raises(ActorError) as caught:
            asker.wait_at_most.call_one(mesh, gates, 0.01).get(20)
        assert isinstance(caught.value.exception, CallTimeout)
        with opened(gates[0]):
            assert mesh.get_seen.call_one().get(30) == [0, 3]


def test_a_call_whose_actor_is_gone_cannot_be_cancelled(gates):
    with this_host().spawn_procs(per_host={"gpus": 1}) as procs:
        mesh = procs.spawn("gate", Gate)
        future = mesh.wait.call_one(gates)
        procs.kill().get(20)
        procs.wait(20).get()
        assert isinstance(future.exception(20), SupervisionError)
        assert not future.cancel()
        cancelled = mesh.ping.call_one()
        cancelled.cancel()
        assert cancelled.done()


def test_an_actor_that_ends_with_cancelled_calls_ends_as_ever(patient, told):
    port, receiver = told
    for name in ("hold", "hold_beside"):
        future = getattr(patient, name).call_one(port)
        assert heard(receiver) == "begun"
        assert future.cancel()
        assert heard(receiver) == "cancelled"
    assert patient.hold_beside.call_one(port, "clean up").cancel()
    patient.stop().get(20)
    with pytest.raises(SupervisionError):
        patient.ping.call_one().get(20)


def test_a_cancelled_task_and_a_dropped_future_leave_the_call_alone(gate, gates):
    future = gate.wait.call_one(gates)

    async def main():
        task = asyncio.ensure_future(future.as_asyncio())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)

    asyncio.run(main())
    gate.note.call_one("of a dropped future")
    with opened(*gates):
        assert future.get(20) == 0
        assert gate.get_seen.call_one().get(20) == ["of a dropped future"]


def test_a_call_of_many_is_cancelled_where_it_is_not_answered(spawned, four, gates):
    mesh = spawned(Gate, procs=four)
    future = mesh.wait.call(gates)
    stream = list(mesh.ping.stream())
    folded = Accumulator(mesh.ping, 0, lambda count, _: count + 1).accumulate()
    assert future.cancel()
    assert stream[2].cancel()
    assert all(one.cancelled() for one in stream)
    assert folded.cancel()
    with pytest.raises(CallCancelled):
        folded.get(20)
    with opened(*gates):
        assert list(mesh.ping.call().get(20).values()) == ["pong"] * 4


def test_a_storm_of_calls_cancels_and_deadlines_leaves_every_actor_well(spawned, four):
    random = Random(5)
    patients, gates = spawned(Patient, procs=four), spawned(Gate, procs=four)
    for _ in range(10):
        calls = []
        for n in range(100):
            which = random.choice([patients.turns, gates.note])
            which = which.options(timeout=random.choice([None, None, 0, 0.002, 0.02, 10]))
            calls.append(which.call(n % 30) if n % 2 else which.choose(n % 30))
            if random.random() < 0.5:
                random.choice(calls).cancel()
        for future in calls:
            error = future.exception(30)
            assert error is None or isinstance(error, (CallCancelled, CallTimeout)), error
    for mesh in (patients, gates):
        assert list(mesh.ping.call().get(20).values()) == ["pong"] * 4


def test_an_actor_whose_own_call_was_cancelled_reports_that(spawned, four, gates):
    gate = spawned(Gate, procs=four.slice(gpus=1))
    asker = spawned(Asker, procs=four.slice(gpus=0))
    with pytest.raises(ActorError) as caught:
        asker.cancel_its_call.call_one(gate, gates).get(20)
    assert isinstance(caught.value.exception, CallCancelled)
    with opened(*gates):
        assert gate.ping.call_one().get(20) == "pong"
