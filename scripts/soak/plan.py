"""What is done to whom and when, from a seed: the same seed is the same plan."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

# What is done to a proc. Those that it survives come before the dash.
SURVIVED = ("freeze", "flood", "kill a grandchild", "abort a grandchild", "freeze a grandchild")
ENDING = (
    "SIGKILL",
    "SIGABRT",
    "SIGSEGV",
    "exit code",
    "last words after a flood",
    "crash at boot",
    "stop",
    "terminate",
    "kill",
    "terminate what is frozen",
    "stops, terminates and kills at once",
    "SIGKILL with grandchildren",
)
LAUNCHER = ("kill the launcher", "freeze the launcher", "abort the launcher")
SLOW_READER = "read slowly"
ALL = (*SURVIVED, *ENDING, *LAUNCHER, SLOW_READER)


@dataclass(frozen=True)
class Step:
    after: float  # seconds since the step before
    kind: str
    number: int  # an exit code, or how much


def of_proc(seed: int, slot: int) -> Iterator[Step]:
    """Every kind in each round, in an order of the slot's own; in the first one the slots share the kinds out."""
    rng = random.Random(f"{seed}/{slot}")
    order = [*SURVIVED, *ENDING]
    random.Random(seed).shuffle(order)
    order = order[slot % len(order) :] + order[: slot % len(order)]
    while True:
        for kind in order:
            yield Step(rng.uniform(0.1, 1.0), kind, rng.randrange(1, 126))
        rng.shuffle(order)


def of_launcher(seed: int, seconds: float) -> Iterator[Step]:
    """Each kind once in every three fifths of the time, so that all were done well before the end."""
    rng = random.Random(f"{seed}/launcher")
    order = list(LAUNCHER)
    while True:
        rng.shuffle(order)
        for kind in order:
            yield Step(seconds / 5 * rng.uniform(0.8, 1.0), kind, rng.randrange(1, 126))
