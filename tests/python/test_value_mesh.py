"""Values by rank."""

import pickle

import pytest

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
