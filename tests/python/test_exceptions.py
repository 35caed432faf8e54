"""What endpoints raise, as it is at the caller."""

import os
import threading

import pytest

from procession.actor import Actor, ActorError, endpoint
from procession.errors import NotPicklable, RemoteException

pytestmark = pytest.mark.usefixtures("four")  # started before what each test is compared with


class Odd(Exception):
    """Pickles, and cannot be loaded again: its constructor wants more than its args."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Locked(Exception):
    """Has something that no pickle takes."""

    def __init__(self, text):
        super().__init__(text)
        self.state = {"lock": threading.Lock()}


class Liar(Exception):
    def __reduce__(self):
        return str, ("no exception",)


class Labelled(ExceptionGroup):
    """A group that is built with more than a group is."""

    def __new__(cls, label, message, errors):
        made = super().__new__(cls, message, errors)
        made.label = label
        made.lock = threading.Lock()
        return made

    def derive(self, errors):
        return Labelled(self.label, self.message, errors)


class Holder:
    def __init__(self):
        self.parts = [1, threading.Lock()]


class Raiser(Actor):
    @endpoint
    def chain(self):
        try:
            try:
                raise LookupError("first")
            except LookupError as error:
                raise KeyError("second") from error
        except KeyError:
            raise ValueError("third")  # noqa: B904

    @endpoint
    def hidden_context(self):
        try:
            raise LookupError("first")
        except LookupError:
            raise ValueError("second") from None

    @endpoint
    def loop(self):
        one, other = ValueError("one"), ValueError("other")
        one.__cause__, other.__cause__ = other, one
        raise one

    @endpoint
    def long_chain(self, length):
        error = None
        for number in range(length):
            error, last = ValueError(number), error
            error.__cause__ = last
        raise error

    @endpoint
    def group(self):
        inner = TypeError("inner")
        inner.__cause__ = Odd(1, 2)
        raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("more", [inner, Locked("locked")])])

    @endpoint
    def plain_group(self):
        inner = TypeError("inner")
        inner.__cause__ = LookupError("why")
        raise ExceptionGroup("several", [ValueError("one"), inner])

    @endpoint
    def labelled(self):
        raise Labelled("label", "several", [ValueError("one")])

    @endpoint
    def noted(self):
        error = ValueError("noted")
        error.add_note("by the user")
        error.detail = {"n": 1}
        raise error

    @endpoint
    def go(self, kind, *args):
        raise kind(*args)

    @endpoint
    def give(self):
        return Holder()

    @endpoint
    def give_deep(self):
        return {"holders": [Holder()]}

    @endpoint
    def relay(self, other):
        other.chain.call_one().get(20)

    @endpoint
    def ping(self):
        return "pong"


@pytest.fixture(params=["here", "elsewhere"])
def raiser(request, spawned):
    procs = None if request.param == "here" else request.getfixturevalue("four").slice(gpus=0)
    raiser = spawned(Raiser, procs=procs)
    yield raiser
    assert raiser.ping.call_one().get(20) == "pong"


def raised(future):
    with pytest.raises(ActorError) as caught:
        future.get(20)
    error = caught.value
    assert error.__cause__ is error.exception
    return error


def test_the_original_is_the_cause_with_its_own_chain(raiser):
    error = raised(raiser.chain.call_one())
    third = error.exception
    second = third.__context__
    first = second.__cause__
    assert [(type(one), one.args) for one in (third, second, first)] == [
        (ValueError, ("third",)),
        (KeyError, ("second",)),
        (LookupError, ("first",)),
    ]
    assert (third.__cause__, third.__suppress_context__) == (None, False)
    shown = error.remote_traceback
    assert shown.index("LookupError: first") < shown.index("direct cause of") < shown.index("KeyError: 'second'")
    assert shown.index("During handling") < shown.index("ValueError: third")
    assert "in chain" in shown
    assert "procession/_" not in shown


def test_a_context_that_was_hidden_stays_hidden(raiser):
    error = raised(raiser.hidden_context.call_one())
    assert error.exception.__suppress_context__
    assert "LookupError" not in error.remote_traceback


def test_chains_that_are_long_or_go_in_circles_end(raiser):
    loop = raised(raiser.loop.call_one()).exception
    assert loop.__cause__.__cause__ is loop
    long = raised(raiser.long_chain.call_one(500)).exception
    length = 0
    while long is not None:
        long, length = long.__cause__, length + 1
    assert length == 64


def test_it_says_where_it_was_raised(raiser):
    error = raised(raiser.noted.call_one())
    assert error.__notes__ == [f"raised by rank 0, on host {os.uname().nodename}"]
    assert error.exception.__notes__ == ["by the user"]
    assert error.exception.detail == {"n": 1}


def test_a_group_keeps_its_parts_with_their_chains(raiser):
    group = raised(raiser.plain_group.call_one()).exception
    assert type(group) is ExceptionGroup
    assert group.message == "several"
    matching, rest = group.split(TypeError)
    assert isinstance(matching.exceptions[0].__cause__, LookupError)
    assert isinstance(rest.exceptions[0], ValueError)


def test_a_group_with_parts_that_cannot_travel_has_stand_ins_for_these(raiser):
    group = raised(raiser.group.call_one()).exception
    one, more = group.exceptions
    inner, locked = more.exceptions
    assert (type(group), type(more)) == (ExceptionGroup, ExceptionGroup)
    assert (str(one), str(inner)) == ("one", "inner")
    assert isinstance(inner.__cause__, RemoteException)
    assert locked.type_name.endswith(".Locked")


def test_a_group_whose_type_cannot_be_rebuilt_is_a_group_of_that_name(raiser):
    group = raised(raiser.labelled.call_one()).exception
    assert type(group) is ExceptionGroup
    assert group.message.endswith("Labelled: several")
    assert [type(part) for part in group.exceptions] == [ValueError]


@pytest.mark.parametrize(
    ("kind", "args", "text", "needle"),
    [
        (Odd, (1, 2), "1 and 2", "missing 1 required positional argument: 'two'"),
        (Locked, ("locked",), "locked", "state['lock'] is a _thread.lock"),
        (Liar, ("lie",), "lie", "is a str, and no exception"),
    ],
)
def test_what_cannot_be_rebuilt_has_a_stand_in_with_type_text_and_reason(raiser, kind, args, text, needle):
    stand_in = raised(raiser.go.call_one(kind, *args)).exception
    assert isinstance(stand_in, RemoteException)
    assert (stand_in.type_name.rpartition(".")[2], stand_in.text) == (kind.__name__, text)
    (note,) = stand_in.__notes__
    assert kind.__name__ in note
    assert needle in note


@pytest.mark.parametrize(
    ("name", "needle"), [("give", "result.parts[1] is a _thread.lock"), ("give_deep", "result['holders'][0].parts[1]")]
)
def test_a_result_that_cannot_travel_is_an_error_with_the_way_to_it(raiser, name, needle):
    error = raised(getattr(raiser, name).call_one())
    assert isinstance(error.exception, NotPicklable)
    assert needle in str(error.exception)


def test_an_error_that_came_from_a_further_actor_keeps_all_of_it(raiser, spawned, four):
    other = spawned(Raiser, procs=four.slice(gpus=1))
    outer = raised(raiser.relay.call_one(other))
    inner = outer.exception
    assert isinstance(inner, ActorError)
    assert inner.__cause__ is inner.exception
    assert isinstance(inner.exception.__context__.__cause__, LookupError)
    assert inner.__notes__ == [f"raised by rank 0, on host {os.uname().nodename}"]
    assert "LookupError: first" in inner.remote_traceback
