import re
import sys
import time
from pathlib import Path

import pytest

import ci
from launching import gone, until

PY = sys.executable


def lane(code: str, **more) -> ci.Lane:
    return ci.Lane("a lane", [PY, "-c", code], **({"minutes": 1} | more))


def ends(pid: int) -> bool:
    """Whether it is gone, or a zombie of whoever adopted it, within two seconds."""
    return until(lambda: gone(pid), seconds=2)


@pytest.mark.parametrize(
    ("line", "passed", "failed", "skipped"),
    [
        (
            "     Summary [   1.234s] 120 tests run: 118 passed (1 slow, 2 leaky), 1 failed, 1 timed out, 3 skipped",
            118,
            2,
            3,
        ),
        ("     Summary [   0.004s] 3/5 tests run: 2 passed, 1 exec failed, 0 skipped", 2, 1, 0),
        ("\x1b[32;1m     Summary\x1b[0m [   0.1s] 1 test run: 1 passed, 0 skipped", 1, 0, 0),
        ("test result: FAILED. 5 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.00s", 5, 1, 2),
        ("======= 10 passed, 1 skipped, 2 errors, 3 deselected in 3.21s =======", 10, 2, 1),
        ("=== 1 failed, 1 xfailed, 1 warning in 61.00s (0:01:01) ===", 0, 1, 1),
        ("my test result: ok. 5 passed; and no more", 0, 0, 0),
    ],
)
def test_the_closing_lines_of_every_runner_are_counted(line, passed, failed, skipped):
    counts = ci.count_tests(f"some output\n{line}\nmore\n")
    assert (counts["passed"], counts["failed"], counts["skipped"]) == (passed, failed, skipped)


def test_a_lane_that_ends_well_is_ok_and_quotes_its_line(capfd):
    outcome = ci.run_lane(lane("print('test accuracy 0.91'); print('test accuracy 0.97')", quotes="^test accuracy "))
    assert outcome.verdict == "ok"
    assert outcome.counts == {"passed": 1}
    assert outcome.detail.endswith(": test accuracy 0.97")
    assert "test accuracy 0.91" in capfd.readouterr().out


def test_a_lane_that_fails_without_a_failed_test_counts_as_one():
    outcome = ci.run_lane(lane("print('test result: ok. 5 passed; 0 failed'); raise SystemExit(3)"))
    assert outcome.verdict == "failed"
    assert outcome.counts == {"passed": 5, "failed": 1}
    assert outcome.detail.endswith("(5 tests), code 3")


def test_a_failed_test_fails_its_lane_whatever_the_code_says():
    assert ci.run_lane(lane("print('test result: FAILED. 5 passed; 2 failed')")).verdict == "failed"


def test_a_lane_is_skipped_only_for_what_its_needs_say():
    needs = [PY, "-c", "print('talk'); print('no engine here'); raise SystemExit(77)"]
    outcome = ci.run_lane(lane("raise SystemExit(1)", needs=needs))
    assert (outcome.verdict, outcome.detail, outcome.counts) == ("skipped", "no engine here", {"skipped": 1})
    outcome = ci.run_lane(lane("pass", needs=[PY, "-c", "raise SystemExit(1)"]))
    assert outcome.verdict == "failed"


def test_what_a_lane_leaves_out_stands_in_its_summary_and_counts_as_skipped():
    code = "print('skipped: cargo deny, which is not installed'); print('test result: ok. 5 passed; 1 ignored')"
    outcome = ci.run_lane(lane(code))
    assert outcome.verdict == "ok"
    assert (
        str(outcome)
        .partition(", ")[2]
        .rpartition(", ")[0]
        .endswith("(5 tests); skipped: cargo deny, which is not installed")
    )
    assert outcome.counts == {"passed": 5, "skipped": 2}


def test_a_lint_without_cargo_deny_says_that_it_left_that_out(tmp_path):
    # The last step of the lane as it stands in the Makefile, where cargo knows no such command.
    (tmp_path / "cargo").write_text("#!/bin/sh\nexit 101\n")
    (tmp_path / "cargo").chmod(0o755)
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    (step,) = re.findall(r"^\t@(if cargo deny --version .*?fi)$", makefile, re.MULTILINE | re.DOTALL)
    shell = ["env", f"PATH={tmp_path}:/usr/bin:/bin", "sh", "-c", step.replace("\\\n\t", "")]
    outcome = ci.run_lane(ci.Lane("lint", shell, 1))
    assert "skipped: cargo deny" in str(outcome)
    assert outcome.counts["skipped"] == 1


def test_a_lane_that_takes_too_long_is_ended_with_its_children():
    code = "import subprocess, time; c = subprocess.Popen(['sleep', '60']); print('child', c.pid, flush=True); time.sleep(60)"
    command = [PY, "-c", code]
    ended, output = ci.run(command, minutes=2 / 60)
    assert ended is None
    pid = int(re.search(r"child (\d+)", output)[1])
    assert ends(pid)


def test_what_outlives_a_lane_neither_delays_it_nor_survives():
    ended, output = ci.run(["sh", "-c", "sleep 60 & echo left $!"], minutes=1)
    assert ended == 0
    pid = int(re.search(r"left (\d+)", output)[1])
    assert ends(pid)


def test_the_last_line_counts_over_all_lanes():
    outcomes = [
        ci.Outcome(lane(""), "ok", "x (3 tests)", 1.2, ci.Counter(passed=3)),
        ci.Outcome(lane(""), "failed", "y", 2, ci.Counter(passed=1, failed=2)),
        ci.Outcome(lane(""), "skipped", "no engine", 0, ci.Counter(skipped=1)),
    ]
    lines = ci.summary(outcomes).splitlines()
    assert lines[-4:-1] == ["a lane: ok, x (3 tests), 1 s", "a lane: failed, y, 2 s", "a lane: skipped, no engine, 0 s"]
    assert lines[-1] == "4 passed, 2 failed, 1 skipped"


def test_a_lane_has_no_more_time_than_the_whole_run():
    outcome = ci.run_lane(lane("import time; time.sleep(60)"), until=time.monotonic() + 0.5)
    assert outcome.verdict == "failed"
    assert outcome.detail.endswith(" min")
    assert outcome.seconds < 30


def test_a_lane_for_which_no_time_is_left_is_not_begun_and_fails(tmp_path):
    begun = tmp_path / "begun"
    outcome = ci.run_lane(lane(f"open({str(begun)!r}, 'w')"), until=time.monotonic())
    assert (outcome.verdict, outcome.counts) == ("failed", {"failed": 1})
    assert "not begun" in outcome.detail
    assert not begun.exists()
