#!/usr/bin/env python3
"""Runs every lane, whatever becomes of the others, and says at the end what ran, what not and why.

A lane is skipped only when its `needs` command ends with 77; the last line that this prints is the reason. A lane that
leaves out a part of its work prints a line `skipped: what and why`, which its summary repeats.
"""

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SKIP = 77
DRAIN_SECONDS = 2  # for output that is still under way when a lane's process has ended
RUN_MINUTES = (
    84  # of all lanes together: whoever runs them ends the run at 90, and then nothing would say what it lacked
)


@dataclass(frozen=True)
class Lane:
    name: str
    command: Sequence[str]
    minutes: float
    needs: Sequence[str] = ()
    quotes: str = ""  # a pattern; the last line that matches is quoted in the summary


LANES = [
    Lane("test", ["make", "test"], 54),
    Lane("faults", ["make", "test-faults", "EVALUATE=1"], 1, quotes=r"^\d+ rows: "),
    Lane("soak", ["make", "soak", "SECONDS=60"], 2, quotes=r"^soak: \w+, seed "),
    Lane("bench", ["make", "bench-smoke"], 1, quotes=r"^bench: "),
    Lane("compat", ["make", "test-compat"], 5, needs=["tests/compat/environment.sh"]),
    Lane("lint", ["make", "lint"], 4),
    Lane("demo python", ["make", "demo", "LAUNCHER=python"], 1, quotes=r"^test accuracy "),
    Lane("demo native", ["make", "demo", "LAUNCHER=native"], 1, quotes=r"^test accuracy "),
    Lane("engines docker", ["make", "test-docker"], 7, needs=["engines/docker.sh", "check"], quotes=r"^docker: ran "),
    Lane("engines ssh", ["make", "test-ssh"], 2, needs=["engines/ssh.sh", "check"], quotes=r"^ssh: ran "),
    Lane("engines slurm", ["make", "test-slurm"], 4, needs=["engines/slurm.sh", "check"], quotes=r"^slurm: ran "),
    Lane(
        "engines systemd", ["make", "test-systemd"], 2, needs=["engines/systemd.sh", "check"], quotes=r"^systemd: ran "
    ),
    Lane("engines remote", ["make", "test-remote"], 1, needs=["engines/remote.sh", "check"]),
    # Last, since theirs is the longest: Kubernetes is built from its source where it has not been, and guests have no KVM.
    Lane("engines kube", ["make", "test-kube"], 18, needs=["engines/kube.sh", "check"], quotes=r"^kubernetes: ran "),
    Lane("engines vm", ["make", "test-vm"], 10, needs=["engines/vm.sh", "check"], quotes=r"^vm: ran "),
]


@dataclass
class Outcome:
    lane: Lane
    verdict: str  # ok, failed, skipped
    detail: str
    seconds: float
    counts: Counter = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.lane.name}: {self.verdict}, {self.detail}, {self.seconds:.0f} s"


def count_tests(output: str) -> Counter:
    """Passed, failed and skipped tests in what nextest, cargo test and pytest say at their ends."""
    counts: Counter = Counter()
    words = {
        "passed": "passed",
        "failed": "failed",
        "timed out": "failed",
        "exec failed": "failed",
        "error": "failed",
        "errors": "failed",
        "skipped": "skipped",
        "ignored": "skipped",
        "xfailed": "skipped",
    }
    endings = [
        r"^\s*Summary \[[^\]]*\] .*? run: (.*)$",
        r"^test result: \w+\. (.*)$",
        r"^=+ (.*) in \d+\.\d+s\b.*=+$",
    ]
    for line in re.sub(r"\x1b\[[\d;]*m", "", output).splitlines():
        for ending in endings:
            if found := re.match(ending, line):
                for number, word in re.findall(r"(\d+) ((?:timed |exec )?\w+)", re.sub(r"\([^)]*\)", "", found[1])):
                    if word in words:
                        counts[words[word]] += int(number)
    return counts


def run(command: Sequence[str], minutes: float) -> tuple[int | None, str]:
    """Runs `command` in its own process group, shows its output and keeps it; no code when it took too long."""
    env = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        start_new_session=True,
    )
    assert process.stdout
    lines: list[bytes] = []

    def show() -> None:
        for line in process.stdout:
            lines.append(line)
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    reader = threading.Thread(target=show, daemon=True)
    reader.start()
    try:
        code = process.wait(minutes * 60)
        reader.join(DRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        # Also what the lane left behind; its own clean-up gets a chance first.
        end_group(process)
        reader.join(DRAIN_SECONDS)
        if not reader.is_alive():
            process.stdout.close()
    return code, b"".join(lines).decode(errors="replace")


def end_group(process: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            continue


def run_lane(lane: Lane, until: float = math.inf) -> Outcome:
    """`until` is when the run has to have ended, by `time.monotonic`."""
    print(f"\n=== {lane.name}: {' '.join(lane.command)}", flush=True)
    began = time.monotonic()

    def outcome(verdict: str, detail: str, counts: Iterable = ()) -> Outcome:
        return Outcome(lane, verdict, detail, time.monotonic() - began, Counter(counts))

    if lane.needs:
        code, output = run(lane.needs, minutes=2)
        if code == SKIP:
            reason = (output.strip().splitlines() or ["no reason given"])[-1]
            return outcome("skipped", reason, {"skipped": 1})
        if code != 0:
            return outcome("failed", f"{' '.join(lane.needs)} ended with {code}", {"failed": 1})

    left = (until - time.monotonic()) / 60
    if left <= 0:
        return outcome("failed", f"not begun: the run had used its {RUN_MINUTES} min", {"failed": 1})
    minutes = min(lane.minutes, left)
    code, output = run(lane.command, minutes)
    counts = count_tests(output)
    parts = re.findall(r"(?m)^skipped: (.*)$", output)
    counts.update(["skipped"] * len(parts))
    tests = sum(counts.values()) - counts["skipped"]
    detail = f"{' '.join(lane.command)} ({tests} tests)" if tests else " ".join(lane.command)
    if lane.quotes and (quoted := re.findall(rf"(?m){lane.quotes}.*$", output)):
        detail += f": {quoted[-1].strip()}"
    detail += "".join(f"; skipped: {part}" for part in parts)
    if code == 0:
        if not tests:
            counts["passed"] += 1
        return outcome("failed" if counts["failed"] else "ok", detail, counts)
    if not counts["failed"]:
        counts["failed"] += 1
    what = f"longer than {minutes:.3g} min" if code is None else f"code {code}"
    return outcome("failed", f"{detail}, {what}", counts)


def summary(outcomes: Iterable[Outcome]) -> str:
    outcomes = list(outcomes)
    total: Counter = sum((o.counts for o in outcomes), Counter())
    lines = ["", "=== lanes", *map(str, outcomes)]
    lines.append(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return "\n".join(lines)


def main() -> int:
    os.chdir(Path(__file__).resolve().parent.parent)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    until = time.monotonic() + RUN_MINUTES * 60
    outcomes = [run_lane(lane, until) for lane in LANES]
    print(summary(outcomes), flush=True)
    return any(o.verdict == "failed" for o in outcomes)


if __name__ == "__main__":
    sys.exit(main())
