"""The original exception as the cause of what is raised."""

from monarch.actor import Actor, ActorError, endpoint, this_host

from facts import fact

BETTER = {
    "cause": ["NoneType", "ValueError", "the original is the cause, so tracebacks show both"],
}


class Failing(Actor):
    @endpoint
    def fail(self) -> None:
        raise ValueError("v")


if __name__ == "__main__":
    failing = this_host().spawn_procs().spawn("failing", Failing)
    try:
        failing.fail.call_one().get()
    except ActorError as error:
        fact("cause", type(error.__cause__).__name__)
        fact("message", hasattr(error, "message"))
        fact("formatted", "ValueError: v" in getattr(error, "exception_formatted", ""))
    made = ActorError(KeyError("k"))
    fact("made by hand", [type(made.exception).__name__, "A remote actor call has failed." in str(made)])
    fact("with a message", "mine" in str(ActorError(KeyError("k"), "mine")))
