"""What one sender sends to one actor arrives in order, in whichever way it is sent."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Log(Actor):
    def __init__(self) -> None:
        self.seen = []

    @endpoint
    def put(self, number: int) -> None:
        self.seen.append(number)

    @endpoint
    def all(self) -> list[int]:
        return self.seen


class Sender(Actor):
    @endpoint
    def run(self, log: Log, count: int) -> None:
        for number in range(count):
            if number % 2:
                log.put.broadcast(number)
            else:
                log.put.call_one(number)
        log.all.call_one().get()


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"gpus": 2})
    log = procs.slice(gpus=0).spawn("log", Log)
    for number in range(200):
        (log.put.broadcast if number % 3 else log.put.call_one)(number)
    fact("from the client", log.all.call_one().get() == list(range(200)))
    procs.slice(gpus=1).spawn("sender", Sender).run.call_one(log, 100).get()
    fact("from an actor", log.all.call_one().get()[200:] == list(range(100)))
