"""Values by rank."""

import math
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.actor import Extent, Point, ValueMesh


@pytest.fixture
def values():
    return ValueMesh(Extent(["hosts", "gpus"], [2, 2]), ["a", "b", "c", "d"])


def test_items_are_points_and_values_in_rank_order(values):
    items = list(values.items())
    assert items == list(values)
    assert [value for _, value in items] == list(values.values()) == ["a", "b", "c", "d"]
    assert all(isinstance(point, Point) for point, _ in items)
    assert [dict(point) for point, _ in items][2] == {"hosts": 1, "gpus": 0}


def test_item_needs_every_dimension_and_no_other(values):
    assert values.item(hosts=1, gpus=0) == "c"
    with pytest.raises(KeyError, match="gpus"):
        values.item(hosts=1)
    with pytest.raises(KeyError, match="extra dimensions"):
        values.item(hosts=1, gpus=0, racks=0)


def test_get_counts_ranks(values):
    assert values.get(3) == "d"
    for rank in (-1, 4):
        with pytest.raises(IndexError):
            values.get(rank)


def test_a_slice_has_points_of_its_own(values):
    row = values.slice(hosts=1)
    assert [(point.rank, dict(point), value) for point, value in row] == [(0, {"gpus": 0}, "c"), (1, {"gpus": 1}, "d")]
    assert values.slice(hosts=0, gpus=1).item() == "b"
    assert list(values.flatten("all").values()) == ["a", "b", "c", "d"]


def test_it_pickles_and_compares_by_value(values):
    assert pickle.loads(pickle.dumps(values)) == values
    assert pickle.loads(pickle.dumps(values.slice(gpus=1))) == values.slice(gpus=1)
    assert values != values.slice(gpus=1)


def test_it_refuses_a_wrong_number_of_values():
    with pytest.raises(ValueError, match="1 values for 2 ranks"):
        ValueMesh(Extent(["a"], [2]), ["x"])


def test_its_repr_shows_each_point(values):
    assert repr(values).splitlines()[:2] == ["ValueMesh({hosts: 2, gpus: 2}):", "  ({'hosts': 0/2, 'gpus': 0/2}, 'a'),"]


EVERY_KIND = st.sampled_from([None, True, 1, 1.0, -0.0, 0.0, "a", b"a", (), math.nan])
IN_ROWS = st.lists(st.tuples(EVERY_KIND, st.integers(1, 40)), max_size=12)


@given(IN_ROWS)
def test_a_mesh_of_long_rows_is_as_one_that_keeps_each_value(rows):
    values = [value for value, times in rows for _ in range(times)]
    mesh = ValueMesh(Extent(["r"], [len(values)]), values)
    copy = pickle.loads(pickle.dumps(mesh))
    for one in (mesh, copy):
        assert [(type(value), repr(value)) for value in one.values()] == [(type(v), repr(v)) for v in values]
        assert [repr(one.get(rank)) for rank in range(len(values))] == [repr(value) for value in values]
        assert [repr(one.item(r=rank)) for rank in range(len(values))] == [repr(value) for value in values]
        assert [point.rank for point, _ in one.items()] == list(range(len(values)))
    if values:
        half = mesh.slice(r=slice(0, len(values), 2))
        assert [repr(value) for value in half.values()] == [repr(value) for value in values[::2]]
    assert mesh == ValueMesh(mesh.extent, list(values))


def test_a_large_mesh_of_the_same_values_is_small():
    extent = Extent(["hosts", "gpus"], [100, 100])
    for values in ([None] * 10_000, [n // 1000 for n in range(10_000)], ["".join(["x"] * 1000) for _ in range(10_000)]):
        mesh = ValueMesh(extent, values)
        assert sum(map(sys.getsizeof, (mesh._values, mesh._values._ends, mesh._values._kept))) < 1000
        assert len(pickle.dumps(mesh)) < 2000
        assert len(pickle.dumps(mesh.slice(gpus=slice(0, 50)))) < 2000
        assert list(mesh.values()) == values


def test_equal_values_that_can_change_stay_apart():
    mesh = ValueMesh(Extent(["r"], [100]), [[] for _ in range(100)])
    mesh.get(0).append("x")
    assert mesh.get(1) == []
    one = []
    shared = ValueMesh(Extent(["r"], [100]), [one] * 100)
    shared.get(0).append("x")
    assert shared.get(99) is one


def test_values_that_differ_are_kept_as_they_are():
    values = list(range(10_000))
    mesh = ValueMesh(Extent(["r"], [10_000]), values)
    values[0] = "changed"
    assert list(mesh.values()) == list(range(10_000))
    assert mesh != ValueMesh(mesh.extent, [0] * 10_000)
