"""Who gets the next value, when a receive has timed out before."""

from monarch.actor import Channel

from facts import fact, raises

DIFFERENT = {
    "a later receive": [2, 1, "a value goes to whoever waits for it, and to no future that was given up"],
    "the first future again": [1, 2, "the same, seen from the future that had timed out"],
}

if __name__ == "__main__":
    port, receiver = Channel[int].open()
    first = receiver.recv()
    with raises("timed out"):
        first.get(timeout=0.05)
    port.send(1)
    port.send(2)
    fact("a later receive", receiver.recv().get(timeout=10))
    fact("the first future again", first.get(timeout=10))
