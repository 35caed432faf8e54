"""The level of `self.logger`."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Logging(Actor):
    @endpoint
    def level(self) -> int:
        return self.logger.level


if __name__ == "__main__":
    fact("level", this_host().spawn_procs().spawn("logging", Logging).level.call_one().get())
