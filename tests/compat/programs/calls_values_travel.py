"""Arguments and results are copies; what pickles travels, closures and classes of the program too."""

from dataclasses import dataclass

from monarch.actor import Actor, endpoint, this_host

from facts import fact


@dataclass
class Job:
    name: str
    sizes: list[int]


class Echo(Actor):
    @endpoint
    def echo(self, value):
        return value

    @endpoint
    def grow(self, values: list[int]) -> list[int]:
        values.append(99)
        return values

    @endpoint
    def apply(self, function, value):
        return function(value)


if __name__ == "__main__":
    echo = this_host().spawn_procs().spawn("echo", Echo)
    fact("a dataclass of the program", echo.echo.call_one(Job("a", [1, 2])).get() == Job("a", [1, 2]))
    fact("None", echo.echo.call_one(None).get())
    blob = bytes(range(256)) * 20_000
    fact("5 MB", echo.echo.call_one(blob).get() == blob)
    values = [1]
    fact("changed there", echo.grow.call_one(values).get())
    fact("not changed here", values)
    number = 7
    fact("a closure", echo.apply.call_one(lambda x: x * number, 6).get())
    fact("a closure comes back", echo.echo.call_one(lambda x: x + number).get()(1))
    fact("an exception as a value", repr(echo.echo.call_one(ValueError("x")).get()))
    fact("unicode", echo.echo.call_one("\u2603\U0001f600").get() == "\u2603\U0001f600")
