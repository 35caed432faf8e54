"""A call is sent when it is made, whether or not its future is ever waited for."""

import time

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Log(Actor):
    def __init__(self) -> None:
        self.lines = []

    @endpoint
    def write(self, line: str) -> None:
        self.lines.append(line)

    @endpoint
    def read(self) -> list[str]:
        return self.lines


if __name__ == "__main__":
    log = this_host().spawn_procs().spawn("log", Log)
    log.write.call_one("call_one")
    log.write.call("call")
    log.write.choose("choose")
    log.write.stream("stream")
    fact("lines", log.read.call_one().get())
    late = log.write.call_one("late")
    time.sleep(0.1)
    fact("before anybody waited", log.read.call_one().get()[-1])
    fact("the result", late.get())
