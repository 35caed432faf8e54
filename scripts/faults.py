#!/usr/bin/env python3
"""Runs the tests that hold rows of the fault matrix, and says row by row how it stands.

    faults.py                    runs them, and evaluates what they reported
    faults.py --evaluate FILE... evaluates JUnit files that a run of the tests has left

Ends with 1 when a test fails, when one is skipped for anything but a capability that this machine lacks, and when the
list of rows that are not held, in docs/faults.md, is not what the tests say.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/faults.md"
ROWS_OF_A_COMPLETE_MATRIX = 80  # that ran; the others may want what a machine lacks

RUST_ROW = re.compile(r"(?<![\w])f(\d+)(?=::)")
CAPABILITY = re.compile(r"capability: (\S+)")
# What only a test can find out, since it is about how it runs itself.
OF_TESTS = dict.fromkeys(["other-users", "shared-python", "core-limit", "own-group"], False)
RUST_SKIP = re.compile(r"^skipped: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    name: str
    rows: frozenset[str]
    outcome: str  # passed, failed, skipped
    why: str = ""  # it was skipped


@dataclass
class Page:
    rows: list[str]
    not_held: set[str]
    in_part: set[str]

    @classmethod
    def read(cls, text: str) -> "Page":
        listed = re.search(r"^Not held: (.*)$", text, re.MULTILINE)
        return cls(
            re.findall(r"^\| (F\d+) \|", text, re.MULTILINE),
            set(re.findall(r"F\d+", listed[1])) if listed else set(),
            set(re.findall(r"^\* (F\d+): ", text, re.MULTILINE)),
        )


@dataclass
class Standing:
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def tests_in(report: str) -> Iterator[Case]:
    """The tests of a JUnit report, of pytest's or nextest's, that hold a row."""
    for case in xml.fromstring(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        rows = {p.get("value", "") for p in case.iter("property") if p.get("name") == "fault"}
        rows |= {f"F{number}" for number in RUST_ROW.findall(case.get("name", ""))}
        if not rows:
            continue
        skip = case.find("skipped")
        said = RUST_SKIP.search(case.findtext("system-out") or "")
        if case.find("failure") is not None or case.find("error") is not None:
            yield Case(name, frozenset(rows), "failed")
        elif skip is not None:
            yield Case(name, frozenset(rows), "skipped", skip.get("message", ""))
        elif said:
            yield Case(name, frozenset(rows), "skipped", said[1])
        else:
            yield Case(name, frozenset(rows), "passed")


def standing(page: Page, tests: Sequence[Case], present: dict[str, bool] | None) -> Standing:
    """How every row stands; `present` says of capabilities whether this machine has them, None when nobody can say."""
    result = Standing()
    result.errors += [f"{t.name}: failed" for t in tests if t.outcome == "failed"]
    result.errors += [f"{t.name}: {why}" for t in tests if t.outcome == "skipped" and (why := misuse(t.why, present))]
    for test in tests:
        result.errors += [f"{test.name}: there is no row {row}" for row in sorted(test.rows - set(page.rows))]

    ran = 0
    counts = dict.fromkeys(["held", "failed", "skipped", "without a test"], 0)
    for row in page.rows:
        of = [t for t in tests if row in t.rows]
        by = {kind: [t for t in of if t.outcome == kind] for kind in ("passed", "failed", "skipped")}
        skipped = f"skipped: {', '.join(sorted({t.why for t in by['skipped']}))}"
        if by["failed"]:
            how, word = "failed", f"FAILED {len(by['failed'])} of {number(of)}"
        elif by["passed"]:
            how, word = "held", f"passed {number(by['passed'])}" + (f", {skipped}" if by["skipped"] else "")
        elif of:
            how, word = "skipped", skipped
        else:
            how, word = "without a test", "no test"
        counts[how] += 1
        ran += how in ("held", "failed")
        if row in page.in_part:
            word += ", in part"
        result.lines.append(f"{row:5} {word}")
        if row in page.not_held and of:
            result.errors.append(f"{row} has a test: take it out of the list in docs/faults.md")
        if row not in page.not_held and not of:
            result.errors.append(f"{row} has no test: give it one, or list it as not held in docs/faults.md")
        if row in page.in_part and not of:
            result.errors.append(f"{row} is said to be held in part, and has no test")

    if not page.not_held and ran < ROWS_OF_A_COMPLETE_MATRIX:
        result.errors.append(f"{ran} rows ran, and of a complete matrix {ROWS_OF_A_COMPLETE_MATRIX} have to")
    told = ", ".join(f"{count} {how}" for how, count in counts.items())
    skipped = sum(t.outcome == "skipped" for t in tests)
    result.lines.append(f"{len(page.rows)} rows: {told}; {number(tests)}, {skipped} of them skipped")
    return result


def number(tests: Sequence[Case]) -> str:
    return f"{len(tests)} test{'s' * (len(tests) != 1)}"


def misuse(why: str, present: dict[str, bool] | None) -> str | None:
    """What is wrong with a skip, if anything is."""
    named = CAPABILITY.search(why)
    if not named:
        return f'skipped, and names no capability ("capability: NAME"): {why!r}'
    if present is None:
        return f"skipped for {named[1]}, and `procession doctor` cannot say whether it is there"
    if named[1] not in present | OF_TESTS:
        return f"skipped for {named[1]}, of which `procession doctor` says nothing"
    if present.get(named[1]):
        return f"skipped for {named[1]}, which this machine has"
    return None


def capabilities() -> dict[str, bool] | None:
    """What `procession doctor` finds on this machine; None when it cannot be asked."""
    command = [sys.executable, "-m", "procession", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    try:
        return {name: fact["holds"] for name, fact in json.loads(done.stdout).items() if "holds" in fact}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def run_all() -> tuple[list[Path], list[str]]:
    """Runs every test that has a row; gives the reports, and what went wrong beside tests that failed."""
    target = Path(os.environ["CARGO_TARGET_DIR"])
    rust, python = ROOT / "target/nextest/faults/junit.xml", target / "reports/faults.xml"
    for report in (rust, python):
        report.unlink(missing_ok=True)
    folders = ["tests/python", "tests/faults", "tests/house"]
    commands = {
        ("cargo", "nextest", "run", "--workspace", "--profile", "faults", "-E", "test(/(^|::)f[0-9]+::/)"): rust,
        (sys.executable, "-m", "pytest", "-m", "fault", *folders, f"--junitxml={python}"): python,
    }
    return list(commands.values()), [wrong for command in commands if (wrong := run(command))]


def run(command: Sequence[str]) -> str | None:
    """What is wrong when it ends with a code: a report is silent about tests that were never found."""
    code = subprocess.run(command, cwd=ROOT).returncode
    return f"{' '.join(command[:3])} ended with {code}" if code else None


def evaluate(reports: Iterable[Path], wrong: Sequence[str] = ()) -> int:
    tests = [test for report in reports for test in tests_in(report.read_text(encoding="utf-8"))]
    result = standing(Page.read(PAGE.read_text(encoding="utf-8")), tests, capabilities())
    print("\n".join(result.lines))
    for error in [*result.errors, *wrong]:
        print(f"error: {error}")
    return bool(result.errors or wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluate", nargs="+", type=Path, metavar="FILE", help="JUnit files of a run")
    left = parser.parse_args().evaluate
    reports, wrong = (left, []) if left else run_all()
    if missing := [str(report) for report in reports if not report.exists()]:
        print(f"error: no report at {', '.join(missing)}: the tests did not run to their end")
        return 1
    return evaluate(reports, wrong)


if __name__ == "__main__":
    sys.exit(main())
