"""What was sent before the stop is handled before it."""

import time

from monarch.actor import Actor, Channel, Port, endpoint, this_host

from facts import fact, tried

BETTER = {
    "handled": [
        "raises TimeoutError",
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        "what was sent before the stop is handled before it",
    ],
}


class Log(Actor):
    @endpoint
    def write(self, port: Port[int], number: int) -> None:
        time.sleep(0.01)
        port.send(number)


if __name__ == "__main__":
    log = this_host().spawn_procs().spawn("log", Log)
    port, receiver = Channel[int].open()
    for number in range(10):
        log.write.broadcast(port, number)
    log.stop().get(timeout=20)
    tried("handled", lambda: [receiver.recv().get(timeout=1) for _ in range(10)])
    fact("done", True)
