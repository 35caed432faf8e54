"""What travels, how, and what is said of what cannot."""

import functools
import pickle
import sys
import threading
import types
from abc import ABC

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession import _native, _pickle
from procession.actor import Actor, endpoint, this_proc
from procession.errors import NotPicklable


def through(value):
    payload, moved = _pickle.dumps(value)
    assert moved == []
    return _pickle.loads([bytes(part) for part in payload])


@pytest.mark.parametrize(
    "value", [None, 1, "x", b"y", [1, (2, {3})], {"a": float("inf")}, functools.partial(int, base=2).func]
)
def test_plain_values_come_back_equal(value):
    assert through(value) == value


def test_plain_values_do_not_need_cloudpickle(monkeypatch):
    monkeypatch.setattr(_pickle, "_cloudpickle", lambda: pytest.fail("cloudpickle was used"))
    assert through(({"a": [1, 2]}, pytest.approx)) == ({"a": [1, 2]}, pytest.approx)


def test_lambdas_closures_and_local_classes_travel_by_value():
    factor = 3

    class Local:
        def times(self, x):
            return factor * x

    assert through(lambda x: factor * x)(2) == 6
    assert through(Local)().times(2) == 6
    assert through(Local()).times(2) == 6


@pytest.fixture(params=["made_up_here", "made_up_there.inner"])
def unfindable(request):
    """A module that is in this process only; its package, if it has one, is too."""
    module = types.ModuleType(request.param)
    module.__file__ = "/nowhere/made_up.py"
    exec("def double(x): return 2 * x", module.__dict__)
    sys.modules[request.param] = module
    parent, _, _ = request.param.rpartition(".")
    if parent:
        sys.modules[parent] = types.ModuleType(parent)
        sys.modules[parent].__path__ = ["/nowhere"]
    yield module
    cloudpickle.unregister_pickle_by_value(module)
    for name in (request.param, parent):
        sys.modules.pop(name, None)
        _pickle._by_value.pop(name, None)


def test_what_cannot_be_imported_elsewhere_travels_by_value(unfindable):
    payload, _ = _pickle.dumps(unfindable.double)
    del sys.modules[unfindable.__name__]
    assert _pickle.loads(payload)(4) == 8
    sys.modules[unfindable.__name__] = unfindable


def test_what_the_user_registered_travels_by_value():
    import json

    assert not _pickle.travels_by_value("json.decoder")
    cloudpickle.register_pickle_by_value(json)
    try:
        assert _pickle.travels_by_value("json.decoder")
        assert not _pickle.travels_by_value("jsonlike")
    finally:
        cloudpickle.unregister_pickle_by_value(json)


@pytest.mark.parametrize("module", ["pickle", "procession.actor", "numpy", "json.decoder", "builtins", "xml"])
def test_what_can_be_imported_travels_by_name(module):
    __import__(module)
    assert not _pickle.travels_by_value(module)


def test_large_arrays_travel_beside_the_pickle_and_come_back_writable():
    array = np.arange(100_000, dtype=np.int64)
    payload, _ = _pickle.dumps({"array": array, "small": np.arange(3)})
    assert len(payload) == 2
    assert len(payload[0]) < 1000
    back = _pickle.loads([bytes(part) for part in payload])
    assert np.array_equal(back["array"], array)
    back["array"][0] = 7
    back["small"][0] = 7
    assert array[0] == 0


def test_a_writable_buffer_is_not_copied_again():
    payload, _ = _pickle.dumps(np.zeros(100_000))
    segment = bytearray(payload[1])
    back = _pickle.loads([payload[0], segment])
    back[0] = 1.0
    assert segment[7] == 0x3F


def test_arrays_in_any_memory_order_come_back_equal():
    array = np.arange(40_000).reshape(200, 200)
    for value in (np.asfortranarray(array), array[::2, ::3], array.T):
        assert np.array_equal(through(value), value)


class Holder:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def test_the_part_that_cannot_travel_is_named():
    with pytest.raises(NotPicklable, match=r"\[0\]\.inner\[1\]\.lock is a _thread\.lock"):
        _pickle.dumps([Holder(inner=[1, Holder(lock=threading.Lock())])])
    with pytest.raises(NotPicklable, match=r"\['key'\] is a "):
        _pickle.dumps({"key": (x for x in ())})


def test_a_closure_that_cannot_travel_names_its_variable():
    lock = threading.Lock()
    with pytest.raises(NotPicklable, match=r"<closure variable lock> is a _thread\.lock"):
        _pickle.dumps(lambda: lock)


def test_a_name_that_is_not_bound_yet_does_not_hide_what_cannot_travel():
    lock = threading.Lock()

    def uses_both():
        return lock, later

    with pytest.raises(NotPicklable, match=r"<closure variable lock> is a _thread\.lock"):
        _pickle.dumps(uses_both)
    later = None


def test_references_back_are_not_taken_for_the_part_that_cannot_travel():
    first, second = Holder(peers=[]), Holder(peers=[])
    first.peers.append(second)
    second.peers.append(first)
    first.lock = threading.Lock()
    for value, path in ((first, r"\.?lock"), (second, r"peers\[0\]\.lock")):
        with pytest.raises(NotPicklable, match=rf"Holder: {path} is a _thread\.lock"):
            _pickle.dumps(value)


def test_an_object_that_refuses_to_be_pickled_is_named_itself():
    class Refuses:
        def __reduce__(self):
            raise ValueError("never")

    with pytest.raises(NotPicklable, match=r"Refuses, which cannot be pickled \(never\)"):
        _pickle.dumps([Refuses()])


def test_nesting_without_end_is_not_picklable():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotPicklable, match="nested too deeply"):
        _pickle.dumps(value)
    while value:  # taken apart level by level: the interpreter would recurse
        value = value[0]


def test_a_whole_pickle_holds_its_buffers():
    array = np.arange(100_000)
    assert np.array_equal(_pickle.loads_whole(_pickle.dumps_whole(array)), array)


def test_a_class_that_was_made_by_calling_its_metaclass_travels_and_leaves_the_others_alone():
    made = type("Made", (ABC,), {"number": 3})  # it says that it is of the module of its metaclass
    assert made.__module__ == "abc"
    assert not _pickle.travels_by_value("abc")
    assert issubclass(through(made), ABC)


def numbers_text_and_what_holds_them():
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(st.characters(exclude_categories=()), max_size=300)
        | st.binary(max_size=300)
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.tuples(inner)
            | st.lists(inner, max_size=5).map(tuple)
            | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=5)
        ),
        max_leaves=12,
    )


@given(numbers_text_and_what_holds_them())
def test_what_the_short_way_writes_is_a_pickle_of_the_same(value):
    pickled = _native.dumps_plain(value)
    if pickled is not None:
        loaded = pickle.loads(pickled)
        assert loaded == value
        assert repr(loaded) == repr(value)  # True is no 1, and 1.0 is none either


def test_the_short_way_leaves_to_pickle_what_it_cannot_write():
    class Text(str):
        pass

    twice = [1]
    around = []
    around.append(around)
    deep = ()
    for _ in range(100):
        deep = (deep,)
    for value in (
        Text("x"),
        1 << 63,
        "\ud800",
        {1},
        object(),
        (twice, twice),
        around,
        deep,
        list(range(100)),
        b"x" * 20_000,
    ):
        assert _native.dumps_plain(value) is None
    ends = (-1, 255, 256, -(1 << 63), (1 << 63) - 1)
    assert pickle.loads(_native.dumps_plain(ends)) == ends


def test_what_is_in_a_message_twice_is_one_there_too():
    twice = [1]
    one, other = through((twice, twice))
    assert one is other


class Reader(Actor):
    @endpoint
    def take(self, *values):
        return [(type(value).__name__, value) for value in values]

    @endpoint
    def same(self, one, other):
        return one is other


def test_every_kind_of_plain_value_gets_to_an_endpoint_and_back(embedded_reader):
    values = (
        None,
        True,
        1,
        -1,
        1 << 40,
        1 << 80,
        1.5,
        "text",
        "\ud800",
        b"bytes",
        (1, (2,)),
        [1, [2]],
        {"a": {"b": 1}},
    )
    for value in values:
        assert embedded_reader.take.call_one(value).get(timeout=30) == [(type(value).__name__, value)]
    twice = [1]
    assert embedded_reader.same.call_one(twice, twice).get(timeout=30)


@pytest.fixture
def embedded_reader():
    reader = this_proc().spawn("reader", Reader)
    yield reader
    reader.stop().get(timeout=30)
