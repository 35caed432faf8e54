"""An actor that counts, and fails in many ways when asked to."""

import os
import threading

import pytest

from procession.actor import (
    Actor,
    current_rank,
    endpoint,
)


class Counter(Actor):
    def __init__(self, start=0):
        self.value = start
        self.seen = []

    @endpoint
    def add(self, by=1):
        self.value += by
        return self.value

    @endpoint
    def note(self, item):
        self.seen.append(item)

    @endpoint
    def get_seen(self):
        return self.seen

    @endpoint
    def rank(self):
        return current_rank()

    @endpoint
    def where(self):
        return os.getpid(), threading.current_thread() is threading.main_thread()

    @endpoint
    def fail(self, on_rank):
        if current_rank().rank == on_rank:
            raise ValueError(f"rank {on_rank} fails")
        return "fine"

    @endpoint
    def give(self, what):
        return eval(what, {"threading": threading, "self": self})

    @endpoint
    def raise_this(self, error):
        raise error

    @endpoint
    def echo(self, *args, **kwargs):
        return args, kwargs

    def plain(self, x):
        return ("plain", x)


@pytest.fixture(params=["here", "elsewhere"])
def counter(request, spawned):
    """One actor: in a thread of this process, or on a launched proc."""
    procs = None if request.param == "here" else request.getfixturevalue("four").slice(gpus=0)
    return spawned(Counter, 10, procs=procs)


@pytest.fixture
def counters(spawned, four):
    return spawned(Counter, 10, procs=four)
