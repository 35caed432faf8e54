"""Extents, points, and what slicing does to a mesh."""

import pickle

import pytest

from procession._shape import Extent, Mesh, Point, Region


class Ranks(Mesh):
    """The smallest mesh: its values are the base ranks themselves."""

    def __init__(self, region):
        self._own = region

    @property
    def _region(self):
        return self._own

    def _with_region(self, region):
        return Ranks(region)

    @property
    def ranks(self):
        return self._own.base_ranks()


@pytest.fixture
def mesh():
    return Ranks(Region.dense({"hosts": 2, "gpus": 4}))


def test_an_extent_is_a_mapping_from_label_to_size():
    extent = Extent(["hosts", "gpus"], [2, 4])
    assert dict(extent) == {"hosts": 2, "gpus": 4}
    assert (extent.labels, extent.sizes, extent.nelements, len(extent)) == (["hosts", "gpus"], [2, 4], 8, 2)
    assert extent == {"hosts": 2, "gpus": 4}
    assert str(extent) == "{hosts: 2, gpus: 4}"
    with pytest.raises(KeyError):
        extent["racks"]


def test_an_extent_without_dimensions_has_one_element():
    assert Extent([], []).nelements == 1
    assert str(Extent([], [])) == "{}"


@pytest.mark.parametrize(("labels", "sizes"), [(["a"], [1, 2]), (["a", "a"], [1, 2])])
def test_an_extent_refuses_labels_that_do_not_fit(labels, sizes):
    with pytest.raises(ValueError, match="label"):
        Extent(labels, sizes)


def test_a_point_gives_its_coordinates_in_row_major_order():
    point = Point(5, Extent(["hosts", "gpus"], [2, 4]))
    assert dict(point) == {"hosts": 1, "gpus": 1}
    assert (point.rank, point.size("gpus"), point["gpus"]) == (5, 4, 1)
    assert str(point) == "{'hosts': 1/2, 'gpus': 1/4}"


def test_points_are_equal_hash_and_pickle_by_rank_and_extent():
    point = Point(5, Extent(["a", "b"], [2, 3]))
    assert {point, Point(5, Extent(["a", "b"], [2, 3]))} == {point}
    assert point != Point(4, point.extent)
    assert pickle.loads(pickle.dumps(point)) == point


@pytest.mark.parametrize("rank", [-1, 6])
def test_a_point_outside_of_its_extent_is_refused(rank):
    with pytest.raises(ValueError, match=f"total ranks 6; does not contain rank {rank}"):
        Point(rank, Extent(["a", "b"], [2, 3]))


def test_an_index_removes_its_dimension(mesh):
    row = mesh.slice(hosts=1)
    assert (row.sizes, row.ranks) == ({"gpus": 4}, [4, 5, 6, 7])
    one = mesh.slice(hosts=1, gpus=2)
    assert (one.sizes, one.ranks, len(one)) == ({}, [6], 1)


def test_a_slice_keeps_its_dimension(mesh):
    assert mesh.slice(gpus=slice(1, 3)).ranks == [1, 2, 5, 6]
    assert mesh.slice(gpus=slice(0, 4, 2)).sizes == {"hosts": 2, "gpus": 2}
    assert mesh.slice(gpus=slice(-2, None)).ranks == [2, 3, 6, 7]


def test_slices_of_slices_refer_to_the_base(mesh):
    assert mesh.slice(gpus=slice(1, 4)).slice(gpus=slice(0, 3, 2), hosts=1).ranks == [5, 7]


@pytest.mark.parametrize(
    ("selector", "error", "words"),
    [
        ({"gpus": 4}, IndexError, "index out of range"),
        ({"gpus": -1}, IndexError, "index out of range"),
        ({"racks": 0}, TypeError, "does not have dimension labeled 'racks'"),
        ({"gpus": slice(2, 2)}, ValueError, "empty range 2:2:1"),
        ({"gpus": slice(3, 0, -1)}, ValueError, "step has to be positive"),
        ({"gpus": True}, TypeError, "index or a slice"),
    ],
)
def test_what_cannot_be_selected_is_refused(mesh, selector, error, words):
    with pytest.raises(error, match=words):
        mesh.slice(**selector)


def test_a_dimension_is_split_and_one_size_may_be_inferred(mesh):
    split = mesh.split(gpus=("dp", "tp"), tp=2)
    assert split.sizes == {"hosts": 2, "dp": 2, "tp": 2}
    assert split.slice(dp=1, hosts=0).ranks == [2, 3]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"gpus": ("dp", "tp")}, "unknown size"),
        ({"gpus": ("dp", "tp"), "tp": 3}, "not evenly divided"),
        ({"gpus": ("dp", "tp"), "tp": 2, "dp": 3}, "not evenly divided"),
        ({"gpus": ("hosts", "tp"), "tp": 2}, "Duplicate dimension name 'hosts'"),
        ({"gpus": ("dp", "tp"), "tp": 2, "pp": 2}, "unused size constraints"),
        ({"gpus": "tp"}, "expected a sequence"),
        ({"racks": "x"}, "not an existing dim"),
        ({"gpus": ("dp", "tp"), "tp": 0}, "positive integer"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(mesh, parts, words):
    with pytest.raises(ValueError, match=words):
        mesh.split(**parts)


def test_flatten_keeps_the_order_of_ranks(mesh):
    assert mesh.flatten("all").sizes == {"all": 8}
    assert mesh.slice(hosts=1).flatten("all").ranks == [4, 5, 6, 7]
    assert mesh.slice(gpus=1).flatten("all").ranks == [1, 5]
    assert mesh.slice(hosts=0, gpus=3).flatten("all").ranks == [3]


def test_a_mesh_with_gaps_cannot_be_flattened(mesh):
    with pytest.raises(ValueError, match="cannot flatten sparse mesh"):
        mesh.slice(gpus=slice(0, 3)).flatten("all")


def test_rename_changes_labels_only(mesh):
    assert mesh.rename(gpus="tp").slice(tp=1).ranks == mesh.slice(gpus=1).ranks
    with pytest.raises(ValueError, match=r"typo='x': there is no dimension of that name, only \['hosts', 'gpus'\]"):
        mesh.rename(typo="x")


def test_size_counts_all_one_or_several_dimensions(mesh):
    assert (mesh.size(), mesh.size("gpus"), mesh.size(["hosts", "gpus"])) == (8, 4, 8)
    with pytest.raises(KeyError, match="racks"):
        mesh.size("racks")


def test_rank_of_is_the_inverse_of_base_ranks(mesh):
    for region in (mesh._region, mesh.slice(hosts=1)._region, mesh.slice(gpus=slice(1, 4, 2))._region):
        assert [region.rank_of(base) for base in region.base_ranks()] == list(range(len(region)))
        for outside in set(range(-1, 9)) - set(region.base_ranks()):
            with pytest.raises(ValueError, match=f"base rank {outside} is not in"):
                region.rank_of(outside)


def test_regions_compare_and_pickle_by_value(mesh):
    region = mesh.slice(gpus=slice(1, 3))._region
    assert pickle.loads(pickle.dumps(region)) == region
    assert hash(region) == hash(pickle.loads(pickle.dumps(region)))
    assert region != mesh._region
