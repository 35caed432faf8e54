"""Procs of one host that send each other much do so over a link of their own: what arrives, in which order, and what is heard of ends."""

import os
import signal
import time
from contextlib import suppress

import numpy as np
import pytest

from procession.actor import Actor, Channel, Port, endpoint, this_host
from procession.errors import SupervisionError

MANY = 2000
"""Far more than it takes until there is a link."""


def connected_sockets():
    """How many unix sockets this process has that are connected."""
    with open("/proc/net/unix") as table:
        rows = [line.split() for line in table][1:]
    connected = {f"socket:[{row[6]}]" for row in rows if row[5] == "03"}
    own = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the list itself
            own.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return len(own & connected)


class Peer(Actor):
    def __init__(self):
        self.seen = []
        self.held = []

    @endpoint
    def note(self, number):
        self.seen.append(number)

    @endpoint
    def note_with(self, number, port):
        self.seen.append(number)
        self.held.append(port)

    @endpoint
    def seen_so_far(self):
        return self.seen

    @endpoint
    def answer_held(self):
        for number, port in enumerate(self.held):
            port.send(number)
        self.held.clear()

    @endpoint
    def drop_held(self):
        self.held.clear()

    @endpoint
    def pid(self):
        return os.getpid()

    @endpoint
    def sockets(self):
        return connected_sockets()

    @endpoint
    def tell(self, other, count):
        """What the other has seen then."""
        self.tell_only(other, count)
        return other.seen_so_far.call_one().get(timeout=30)

    def tell_only(self, other, count):
        for number in range(count):
            other.note.broadcast(number)

    @endpoint
    def tell_and_return(self, other, count):
        self.tell_only(other, count)

    @endpoint
    def tell_in_all_ways(self, other, everyone, count):
        """Over the link, through the host with a port of another process, and with a call that is cancelled."""
        ports = self.held
        for number in range(count):
            if number % 97 == 50 and ports:
                other.note_with.broadcast(number, ports.pop())
            elif number % 61 == 30:
                other.note.call_one(number).cancel()
                other.note.broadcast(number)
            elif number % 50 == 20:
                everyone.note.broadcast(number)
            else:
                other.note.broadcast(number)
        return other.seen_so_far.call_one().get(timeout=30)

    @endpoint
    def wait_for_pid(self, other):
        try:
            other.pid.call_one().get(timeout=30)
        except SupervisionError as error:
            return str(error)

    @endpoint
    def give_a_port(self, other):
        port, self.receiver = Channel.open(once=True)
        other.keep.call_one(port).get(timeout=30)

    @endpoint
    def what_became_of_it(self):
        try:
            self.receiver.recv().get(timeout=30)
        except SupervisionError as error:
            return str(error)

    @endpoint
    def send_large(self, other, times):
        return [other.length.call_one(np.ones(1 << 20)).get(timeout=30) for _ in range(times)]

    @endpoint
    def length(self, array):
        return array.nbytes

    @endpoint
    def keep(self, port):
        self.held.append(port)

    @endpoint
    def call_until_it_is_gone(self, other, told: Port):
        """What the calls came to, the last of them not."""
        answers = 0
        try:
            while True:
                other.pid.call_one().get(timeout=30)
                answers += 1
                if answers == 100:
                    told.send(None)
        except SupervisionError as error:
            return answers, str(error)

    @endpoint
    def wait_for(self, other, hang, told: Port):
        """What a call of `hang` came to that went over a link."""
        for _ in range(100):
            other.pid.call_one().get(timeout=30)
        waiting = getattr(other, hang).call_one()
        told.send(None)
        try:
            waiting.get(timeout=30)
        except SupervisionError as error:
            return str(error)

    @endpoint
    def hang(self):
        signal.pause()

    @endpoint
    def fork_and_hang(self):
        """With a child that has all descriptors of its parent and outlives it."""
        if os.fork() == 0:
            os.setsid()
            signal.pause()
        signal.pause()

    @endpoint
    def call_back(self, other, count):
        """Both send each other, and ask for a link at the same time."""
        return [other.pid.call_one().get(timeout=30) for _ in range(count)][-1]


@pytest.fixture
def procs():
    procs = this_host().spawn_procs(per_host={"peers": 3})
    try:
        yield procs
    finally:
        procs.stop().get(timeout=60)


@pytest.fixture
def peers(procs):
    return procs.spawn("peers", Peer)


def of(peers, rank):
    return peers.slice(peers=rank)


def test_two_procs_that_send_each_other_much_have_a_link_of_their_own(peers):
    one, other, third = (of(peers, rank) for rank in range(3))
    before = [peer.sockets.call_one().get(timeout=30) for peer in (one, other, third)]
    assert one.tell.call_one(other, MANY).get(timeout=30) == list(range(MANY))
    after = [peer.sockets.call_one().get(timeout=30) for peer in (one, other, third)]
    assert after == [before[0] + 1, before[1] + 1, before[2]]


def test_everything_arrives_in_the_order_in_which_it_was_sent_whichever_way_it_took(peers):
    one, other = of(peers, 0), of(peers, 1)
    ports = [Channel.open(once=True) for _ in range(20)]
    for port, _ in ports:
        one.keep.call_one(port).get(timeout=30)
    seen = one.tell_in_all_ways.call_one(other, peers, MANY).get(timeout=60)
    assert list(dict.fromkeys(seen)) == list(range(MANY))
    other.answer_held.call_one().get(timeout=30)
    assert sorted(receiver.recv().get(timeout=30) for _, receiver in ports) == list(range(20))


def test_procs_that_both_begin_to_call_each_other_answer_each_other(peers):
    one, other = of(peers, 0), of(peers, 1)
    calls = [one.call_back.call_one(of(peers, 2), 500), other.call_back.call_one(of(peers, 2), 500)]
    third = of(peers, 2).pid.call_one().get(timeout=30)
    assert [call.get(timeout=60) for call in calls] == [third, third]
    before = [peer.sockets.call_one().get(timeout=30) for peer in (one, other)]
    assert one.tell.call_one(other, MANY).get(timeout=30) == list(range(MANY))
    assert other.tell.call_one(one, MANY).get(timeout=30) == list(range(MANY))
    assert [peer.sockets.call_one().get(timeout=30) for peer in (one, other)] == [before[0] + 1, before[1] + 1]


@pytest.mark.parametrize("hang", ["hang", "fork_and_hang"])
def test_a_call_over_a_link_fails_when_its_proc_is_killed_and_says_how_that_ended(peers, hang):
    one, other = of(peers, 0), of(peers, 1)
    pid = other.pid.call_one().get(timeout=30)
    port, waits = Channel.open(once=True)
    came_to = one.wait_for.call_one(other, hang, port)
    waits.recv().get(timeout=30)
    os.kill(pid, signal.SIGKILL)
    assert "SIGKILL" in came_to.get(timeout=30)
    # And whoever asks later is told by the host.
    assert "SIGKILL" in one.wait_for_pid.call_one(other).get(timeout=30)


def test_calls_one_after_the_other_are_answered_until_their_proc_is_killed(peers):
    one, other = of(peers, 0), of(peers, 1)
    pid = other.pid.call_one().get(timeout=30)
    port, begun = Channel.open(once=True)
    calls = one.call_until_it_is_gone.call_one(other, port)
    begun.recv().get(timeout=30)
    os.kill(pid, signal.SIGKILL)
    answers, error = calls.get(timeout=30)
    assert answers >= 100
    assert "SIGKILL" in error


def test_a_port_that_went_over_a_link_closes_at_its_owner_when_its_holder_drops_it_or_is_killed(peers):
    one, other = of(peers, 0), of(peers, 1)
    one.tell.call_one(other, 100).get(timeout=30)
    for end in ("dropped", "killed"):
        given = one.give_a_port.call_one(other).get(timeout=30)
        assert given is None
        if end == "dropped":
            other.drop_held.call_one().get(timeout=30)
        else:
            os.kill(other.pid.call_one().get(timeout=30), signal.SIGKILL)
        assert ("without an answer" if end == "dropped" else "SIGKILL") in one.what_became_of_it.call_one().get(
            timeout=30
        )


def test_what_a_proc_has_sent_before_it_ends_arrives(procs):
    peers = procs.spawn("peers", Peer)
    one, other = of(peers, 0), of(peers, 1)
    one.tell_and_return.call_one(other, MANY).get(timeout=30)
    procs.slice(peers=0).stop().get(timeout=30)
    until = time.monotonic() + 30
    while len(seen := other.seen_so_far.call_one().get(timeout=30)) < MANY:
        assert time.monotonic() < until, f"{len(seen)} of {MANY} have arrived"
    assert seen == list(range(MANY))


def test_an_actor_that_was_spawned_just_now_is_found_over_a_link_that_is_older(procs):
    peers = procs.spawn("peers", Peer)
    one, other = of(peers, 0), of(peers, 1)
    one.tell.call_one(other, 100).get(timeout=30)
    for number in range(50):
        newer = procs.slice(peers=1).spawn(f"newer{number}", Peer)
        assert one.tell.call_one(newer, 2).get(timeout=30) == [0, 1]


def test_large_arrays_go_over_a_link_too(peers):
    one, other = of(peers, 0), of(peers, 1)
    one.tell.call_one(other, 100).get(timeout=30)
    assert one.send_large.call_one(other, 5).get(timeout=60) == [8 << 20] * 5
