"""The benchmark runs and fills its table; whether the figures are good is not asked here."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from bench import plot, report, rounds, smoke, themes
from bench.figures import OURS, Figure, Goal, Group, Probe, Skipped, Theme
from bench.rounds import measure
from bench.running import ROOT, ProgramFailed, run

ALL = [probe for theme in themes.THEMES for group in theme.groups for probe in group.probes]


@pytest.mark.timeout(100)
def test_the_benchmark_measures_every_figure_beside_what_it_is_compared_with(tmp_path):
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "bench", "--rounds", "1", "--only", "output,calls", "--out", results]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads(results.read_text())["figures"]
    rows = [line.strip("|").split("|") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == [one["figure"] for one in measured]
    for one in measured:
        sides = one["sides"].values()
        assert {side["is"] for side in sides} > {"ours"}, one
        assert all(side["median"] > 0 and len(side["rounds"]) == 1 for side in sides), one
        assert all(goal["missed_by"] > 0 for goal in one["goals"]), one


@pytest.mark.parametrize("figure", themes.FIGURES, ids=lambda figure: figure.name)
def test_every_side_of_every_figure_has_a_probe_and_every_goal_a_side(figure):
    assert {probe.side for probe in ALL if figure.name in probe.figures} == set(figure.sides)
    assert all(goal.of in ["", *figure.sides] for goal in figure.goals)


def test_no_two_figures_have_one_name():
    names = [figure.name for figure in themes.FIGURES]
    assert len(names) == len(set(names))


LESS = Figure("less", "s", ["bound"], ["peer"], [Goal(2, "bound"), Goal(0.5)])
MORE = Figure("more", "B/s", ["bound"], goals=[Goal(4e9)], more_is_better=True)


def probes(figure, **sides):
    return [Probe(side, [figure.name], run) for side, run in sides.items()]


def measured_of(figure, times=3, **sides):
    return measure([Theme("theme", [figure], [Group(probes(figure, **sides))])], times)


def test_goals_are_ratios_of_medians_or_limits_and_say_by_how_much_they_are_missed():
    ours = iter([1.0, 5.0, 0.9])
    measured = measured_of(LESS, procession=lambda: [next(ours)], bound=lambda: [1.0], peer=lambda: [2.0])
    cells = report.row(LESS, measured, 3)
    assert cells[1] == "1 s (0.9-5)"
    assert cells[3:6] == ["1.00x", "2 s (2-2) peer", "0.50x"]
    assert cells[6:] == ["≤ 2x bound; ≤ 500 ms", "met; missed by 2x"]


def test_of_rates_more_is_better():
    measured = measured_of(MORE, procession=lambda: [2e9], bound=lambda: [8e9])
    assert report.row(MORE, measured, 3)[6:] == ["≥ 4 GB/s", "missed by 2x"]


def test_what_fails_or_is_missing_is_named_and_the_rest_is_measured():
    def lacks() -> list[float]:
        raise Skipped("no wheel")

    def breaks() -> list[float]:
        raise ValueError("it broke")

    measured = measured_of(LESS, procession=lambda: [1.0], bound=lacks, peer=breaks)
    text = "\n".join(report.table([LESS], measured, 3, "no load"))
    assert "skipped: bound: less: no wheel" in text
    assert "failed: peer: less: ValueError: it broke" in text
    assert report.row(LESS, measured, 3)[6:] == ["≤ 2x bound; ≤ 500 ms", "not measured; missed by 2x"]
    assert len(measured.of("less")[OURS]) == 3


def test_each_round_begins_with_another_side():
    order = []
    measured_of(LESS, procession=lambda: order.append("p") or [1.0], bound=lambda: order.append("b") or [1.0])
    assert "".join(order) == "pbbppb"


def test_what_takes_long_has_fewer_rounds_and_says_so(monkeypatch):
    monkeypatch.setattr(rounds, "GROUP_SECONDS", 0.0)
    measured = measured_of(LESS, 5, procession=lambda: [1.0])
    assert report.row(LESS, measured, 5)[1] == "1 s, 1 round"


def test_a_program_that_fails_or_hangs_says_so_and_leaves_nothing():
    with pytest.raises(ProgramFailed, match=r"ended with 3: it broke"):
        run([sys.executable, "-c", "import sys; print('it broke', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(ProgramFailed, match=r"took longer than 0.5 s"):
        run(["sh", "-c", "sleep 600 & sleep 600"], timeout=0.5)  # the leak gate sees both


@pytest.mark.parametrize("what", ["answer", "exit", "told"])
def test_the_bounds_of_launches_measure_something(what):
    took = run([sys.executable, "-m", "bench.programs.forks", what, "3"])
    assert took
    assert all(value > 0 for value in took)


def test_what_each_proc_costs_beside_others_is_measured_and_drawn():
    found = run([sys.executable, "-m", "bench.programs.flat", "2"])
    assert {part.key for part in plot.PARTS} <= set(found)
    drawn = ElementTree.fromstring(plot.plot({2: [found], 200: [found, found]}, "a machine"))
    assert len(drawn.findall("{*}circle")) == 2 * len(plot.PARTS)
    assert len(drawn.findall("{*}polyline")) == len(plot.PARTS)


def test_a_ratio_of_three_times_what_was_accepted_fails_when_a_second_look_finds_it_too(capsys):
    accepted = {"calls": 2.0, "spawn": 1.0}
    assert smoke.judge({"calls": 5.9, "spawn": 2.9}, accepted, again=pytest.fail) == 0
    assert smoke.judge({"calls": 6.1, "spawn": 2.9}, accepted, again=lambda names: {"calls": 5.0}) == 0
    assert smoke.judge({"calls": 6.1, "spawn": 2.9}, accepted, again=lambda names: {"calls": 7.0}) == 1
    said = capsys.readouterr().out
    assert "calls: 6.10x, 2.00x is accepted, 3 times that at most: too much" in said
    assert "bench: 1 of 2 ratios are within 3 times what was accepted" in said


def test_what_the_short_run_measures_is_what_was_accepted():
    names = [figure.name for theme in smoke.themes() for figure in theme.figures]
    assert names == list(json.loads(smoke.ACCEPTED.read_text()))
