"""Folding: each line is shown once, in the order of its rank, soon enough, with all who wrote it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession._fold import MOST_WAITING, Fold, prefix_and_suffix

RANKS = 4


def line(text, stream="stdout", ends=True):
    return {"kind": "output", "stream": stream, "line": text, "ends": ends}


def shown(folded):
    return [(one.given["line"], sorted(one.ranks)) for one in folded]


@pytest.mark.parametrize(
    ("ranks", "text"),
    [({3}, "[3] x"), (range(16), "[0-15] x"), ({0, 3, 7}, "[0,3,7] x (×3)"), ({7, 1, 2, 3}, "[1-3,7] x (×4)")],
)
def test_who_wrote_a_line_is_in_front_of_it(ranks, text):
    prefix, suffix = prefix_and_suffix(ranks)
    assert f"{prefix} x{suffix}" == text


def test_a_line_that_all_have_written_is_shown_at_once_and_one_that_some_have_at_the_end_of_the_window():
    fold = Fold(3, window=0.1)
    for rank in range(3):
        fold.add(line("all"), rank, 1.0)
    fold.add(line("some"), 0, 1.01)
    fold.add(line("some"), 2, 1.05)
    assert shown(fold.due(1.05)) == [("all", [0, 1, 2])]
    assert fold.wait(1.05) == pytest.approx(0.06)
    assert shown(fold.due(1.10)) == []
    assert shown(fold.due(1.12)) == [("some", [0, 2])]
    assert fold.wait(1.2) is None


def test_the_streams_are_kept_apart_and_pieces_and_gaps_are_never_folded():
    fold = Fold(RANKS)
    for rank in (0, 1):
        fold.add(line("x", "stdout"), rank, 0.0)
        fold.add(line("x", "stderr"), rank, 0.0)
        fold.add(line("piece", ends=False), rank, 0.0)
        fold.add({"kind": "dropped", "stream": "stdout", "count": 3}, rank, 0.0)
    assert sorted(len(one.ranks) for one in fold.rest()) == [1, 1, 1, 1, 2, 2]


def test_one_who_repeats_itself_is_not_folded_with_itself():
    fold = Fold(RANKS)
    for rank in (0, 0, 0, 1, 1):
        fold.add(line("again"), rank, 0.0)
    assert shown(fold.rest()) == [("again", [0, 1]), ("again", [0, 1]), ("again", [0])]


def test_no_more_than_a_bounded_number_waits():
    fold = Fold(2)
    for number in range(MOST_WAITING + 5):
        fold.add(line(str(number)), 0, 0.0)
    assert shown(fold.due(0.0)) == [(str(number), [0]) for number in range(5)]


@given(
    st.lists(
        st.tuples(
            st.integers(0, RANKS - 1),
            st.sampled_from("ab"),
            st.sampled_from(["stdout", "stderr"]),
            st.sampled_from([0.0, 0.03, 0.2]),
        ),
        max_size=60,
    )
)
def test_nothing_is_lost_doubled_reordered_or_late(written):
    fold, now, shown = Fold(RANKS, window=0.1), 0.0, []
    born = {}
    for number, (rank, text, stream, pause) in enumerate(written):
        # Whoever reads wakes up in time.
        while (left := fold.wait(now)) is not None and left <= pause:
            now, pause = now + left, pause - left
            shown += [(now, one) for one in fold.due(now)]
        now += pause
        fold.add(line(text, stream), rank, now)
        born[number] = now
        shown += [(now, one) for one in fold.due(now)]
    shown += [(now, one) for one in fold.rest()]
    assert sum(len(one.ranks) for _, one in shown) == len(written)
    for rank in range(RANKS):
        mine = [(at, one.given["line"], one.given["stream"]) for at, one in shown if rank in one.ranks]
        wrote = [(number, *one[1:3]) for number, one in enumerate(written) if one[0] == rank]
        assert [one[1:] for one in mine] == [one[1:] for one in wrote]
        for (at, *_), (number, *_) in zip(mine, wrote, strict=True):
            assert at - born[number] <= 0.1 + 1e-9
