"""Exceptions of the program's own types, with causes, notes and groups."""

from monarch.actor import Actor, ActorError, endpoint, this_host

from facts import fact


class OwnError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Failing(Actor):
    @endpoint
    def own(self) -> None:
        raise OwnError(42)

    @endpoint
    def caused(self) -> None:
        try:
            {}["missing"]
        except KeyError as error:
            raise RuntimeError("outer") from error

    @endpoint
    def group(self) -> None:
        raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])

    @endpoint
    def stop_iteration(self) -> None:
        raise StopIteration(3)

    @endpoint
    def assertion(self) -> None:
        assert 1 == 2, "not equal"


def caught(call) -> ActorError:
    try:
        call.get(timeout=20)
    except ActorError as error:
        return error
    raise SystemExit("nothing was raised")


if __name__ == "__main__":
    failing = this_host().spawn_procs().spawn("failing", Failing)
    own = caught(failing.own.call_one())
    fact("own type", [type(own.exception).__name__, own.exception.code, isinstance(own.exception, OwnError)])
    fact("a cause is in the text", "missing" in str(caught(failing.caused.call_one())))
    group = caught(failing.group.call_one()).exception
    fact("a group", [type(group).__name__, [str(one) for one in group.exceptions]])
    fact("StopIteration", type(caught(failing.stop_iteration.call_one()).exception).__name__)
    fact("an assertion", str(caught(failing.assertion.call_one()).exception))
