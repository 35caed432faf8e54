"""The runner that stands in for nextest."""

import subprocess
import sys
from pathlib import Path

import ci
import faults

RUNNER = Path(__file__).parents[2] / "scripts/each_alone.py"

# It answers as a test executable of Rust does; of its tests one passes, one fails, one hangs, one is ignored.
TESTS = """#!/bin/sh
case "$*" in
*--list*--ignored) echo "role: test";;
*--list*) printf '%s: test\\n' f16::good bad hung role; echo "slow: benchmark";;
"--exact f16::good --nocapture") echo $$ >> pids; echo "skipped: capability: fuse";;
"--exact bad --nocapture") echo $$ >> pids; echo "what went wrong"; exit 101;;
"--exact hung --nocapture") echo $$ >> pids; echo "before it hung"; sleep 1000;;
*) exit 3;;
esac
"""


def test_each_test_has_a_process_of_its_own_and_what_fails_or_hangs_is_shown(tmp_path):
    executable = tmp_path / "tests"
    executable.write_text(TESTS)
    executable.chmod(0o755)
    done = subprocess.run(
        [sys.executable, RUNNER, "./tests"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "EACH_ALONE_SECONDS": "0.5", "EACH_ALONE_REPORTS": str(tmp_path / "reports")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 101
    assert ci.count_tests(done.stdout) == {"passed": 1, "failed": 2, "skipped": 1}
    shown = done.stdout.splitlines()
    assert shown[:3] == ["test f16::good ... ok", "test bad ... FAILED", "test hung ... FAILED"]
    assert "what went wrong" in shown
    assert "before it hung" in shown
    assert "longer than 0.5 s" in shown
    assert len(set((tmp_path / "pids").read_text().split())) == 3
    (skipped,) = faults.tests_in((tmp_path / "reports/tests.xml").read_text())
    assert (skipped.outcome, skipped.why) == ("skipped", "capability: fuse")
