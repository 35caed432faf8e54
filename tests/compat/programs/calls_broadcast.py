"""`broadcast` returns None at once, and what is sent after it arrives after it."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Log(Actor):
    def __init__(self) -> None:
        self.lines = []

    @endpoint
    def write(self, line: str, times: int = 1) -> None:
        self.lines += [line] * times

    @endpoint
    def read(self) -> list[str]:
        return self.lines


if __name__ == "__main__":
    log = this_host().spawn_procs(per_host={"gpus": 2}).spawn("log", Log)
    fact("gives", log.write.broadcast("a"))
    log.write.broadcast("b", times=2)
    log.slice(gpus=1).write.broadcast("c")
    fact("lines", list(log.read.call().get().values()))
