"""`self.logger` of an actor."""

import logging

from monarch.actor import Actor, endpoint, this_host

from facts import fact


class Logging(Actor):
    @endpoint
    def get(self) -> list:
        self.logger.debug("not shown by default")
        return [isinstance(self.logger, logging.Logger), "Logging" in self.logger.name]


if __name__ == "__main__":
    fact("logger", this_host().spawn_procs().spawn("logging", Logging).get.call_one().get())
