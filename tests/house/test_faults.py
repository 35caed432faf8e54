"""What says row by row how the fault matrix stands."""

import subprocess
import sys
from pathlib import Path

import pytest

import faults
from faults import Case, Page

PAGE = """
| F1 | a | b |
| F2 | a | b |
| F3 | a | b |
| F4 | a | b |

Not held: F3, F4

* F2: half of it is missing
"""

NEXTEST = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="procession-host::host">
<testcase name="stopping::f12::a_stop_climbs" classname="procession-host::host"/>
<testcase name="f9::f33::both" classname="x"><failure type="test failure">why</failure><system-out>it</system-out></testcase>
<testcase name="if9::no_row" classname="x"/>
<testcase name="f7_is_no_module" classname="x"/>
<testcase name="f16::wants_more" classname="x"><system-out>
running 1 test
skipped: capability: fuse
</system-out></testcase>
</testsuite></testsuites>
"""


def page(**changes) -> Page:
    return Page(**({"rows": ["F1", "F2", "F3", "F4"], "not_held": {"F3", "F4"}, "in_part": {"F2"}} | changes))


def passed(*rows: str) -> Case:
    return Case("a", frozenset(rows), "passed")


def skipped(why: str) -> Case:
    return Case("a", frozenset({"F2"}), "skipped", why)


def test_rows_and_lists_are_read_from_the_page():
    assert Page.read(PAGE) == page()
    assert Page.read(PAGE.replace("Not held: F3, F4", "")).not_held == set()


def test_the_page_of_this_house_has_every_row_once_and_lists_only_rows():
    ours = Page.read(faults.PAGE.read_text())
    assert len(ours.rows) == len(set(ours.rows)) == 87
    assert ours.not_held | ours.in_part <= set(ours.rows)
    assert not ours.not_held & ours.in_part


def test_the_tests_of_rust_carry_their_row_as_a_module():
    assert list(faults.tests_in(NEXTEST)) == [
        Case("procession-host::host::stopping::f12::a_stop_climbs", frozenset({"F12"}), "passed"),
        Case("x::f9::f33::both", frozenset({"F9", "F33"}), "failed"),
        Case("x::f16::wants_more", frozenset({"F16"}), "skipped", "capability: fuse"),
    ]


TESTS = """
import os, subprocess, pytest
fault = pytest.mark.fault

@fault("F1")
@fault("F2")
def test_passes(): pass

@fault("F3")
@pytest.mark.parametrize("n", [1, 2])
def test_fails(n): assert n == 1

@fault("F4")
def test_skips(): pytest.skip("capability: fuse")

@fault("F5")
def test_leaks():
    print("left pid", os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60"))

def test_without_a_row(): assert False
"""


def test_the_tests_of_python_carry_their_row_as_a_marker(pytester):
    pytester.makeconftest((Path(__file__).parents[1] / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = fault(row): holds a row")
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "--strict-markers", "--junitxml=r.xml", "-rP")
    for line in result.outlines:
        if line.startswith("left pid "):
            subprocess.run(["kill", "-9", line.split()[2]], check=True)
    found = [
        (t.name.rpartition("::test_")[2], set(t.rows), t.outcome) for t in faults.tests_in(Path("r.xml").read_text())
    ]
    assert found == [
        ("passes", {"F1", "F2"}, "passed"),
        ("fails[1]", {"F3"}, "passed"),
        ("fails[2]", {"F3"}, "failed"),
        ("skips", {"F4"}, "skipped"),
        ("leaks", {"F5"}, "failed"),
    ]


def test_every_row_has_a_line_and_the_last_one_counts():
    tests = [passed("F1"), passed("F1"), Case("b", frozenset({"F2"}), "failed"), passed("F2"), skipped("capability: x")]
    result = faults.standing(page(), tests, {"x": False})
    assert result.lines == [
        "F1    passed 2 tests",
        "F2    FAILED 1 of 3 tests, in part",
        "F3    no test",
        "F4    no test",
        "4 rows: 1 held, 1 failed, 0 skipped, 2 without a test; 5 tests, 1 of them skipped",
    ]
    assert result.errors == ["b: failed"]


@pytest.mark.parametrize(
    ("why", "present", "error"),
    [
        ("capability: fuse", {"fuse": False}, None),
        ("capability: own-group", {}, None),
        ("capability: fuse", {"fuse": True}, "which this machine has"),
        ("capability: fus", {"fuse": False}, "says nothing"),
        ("capability: fuse", None, "doctor` cannot say"),
        ("not today", {}, "names no capability"),
    ],
)
def test_a_test_is_skipped_only_for_a_capability_that_is_absent(why, present, error):
    errors = faults.standing(page(), [passed("F1"), skipped(why)], present).errors
    assert [error in one for one in errors] == [True] if error else not errors


@pytest.mark.parametrize(
    ("tests", "error"),
    [
        ([passed("F1"), passed("F2"), passed("F3")], "F3 has a test: take it out of the list"),
        ([passed("F2")], "F1 has no test: give it one"),
        ([passed("F1"), passed("F2"), passed("F99")], "there is no row F99"),
    ],
)
def test_the_list_of_rows_that_are_not_held_can_only_be_true(tests, error):
    (only,) = faults.standing(page(), tests, {}).errors
    assert error in only


def test_a_row_that_is_held_in_part_needs_a_test():
    errors = faults.standing(page(not_held={"F2", "F3", "F4"}), [passed("F1")], {}).errors
    assert errors == ["F2 is said to be held in part, and has no test"]


def test_of_a_complete_matrix_eighty_rows_have_to_run():
    rows = [f"F{n}" for n in range(1, 88)]
    whole = page(rows=rows, not_held=set(), in_part=set())
    lacks = Case("a", frozenset(rows[80:]), "skipped", "capability: x")
    assert not faults.standing(whole, [passed(*rows[:80]), lacks], {"x": False}).errors
    (error,) = faults.standing(
        whole, [passed(*rows[:79]), Case("b", frozenset(rows[79:]), "skipped", "capability: x")], {"x": False}
    ).errors
    assert error.startswith("79 rows ran")


def test_the_capabilities_of_this_machine_are_those_that_doctor_shows():
    from procession._native import machine_facts

    assert faults.capabilities() == {name: holds for name, holds, _ in machine_facts()}


def test_a_command_that_ends_with_a_code_is_an_error_whatever_the_reports_say(capsys):
    assert faults.run(["sh", "-c", "exit 0"]) is None
    assert faults.run(["sh", "-c", "exit 3"]) == "sh -c exit 3 ended with 3"
    assert faults.evaluate([], ["sh -c exit 3 ended with 3"]) == 1
    assert capsys.readouterr().out.endswith("error: sh -c exit 3 ended with 3\n")


def test_a_report_that_is_missing_is_an_error_and_not_an_empty_one(tmp_path):
    command = [sys.executable, faults.__file__, "--evaluate", str(tmp_path / "none.xml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no report at" in done.stdout
