#!/usr/bin/env python3
"""A runner for `cargo test` that gives each test a process of its own, as nextest does.

Tests look at the process that they run in, at its children and at its signals; in one process they see each other's.
Leaves a JUnit report for each executable in the folder that EACH_ALONE_REPORTS names.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from pathlib import Path

SECONDS = float(os.environ.get("EACH_ALONE_SECONDS", "180"))
LEAK_GATE = Path(__file__).resolve().parent / "leak_gate.py"


def names(executable: str, *options: str) -> list[str]:
    done = subprocess.run([executable, "--list", "--format", "terse", *options], stdout=subprocess.PIPE, check=True)
    return [line.removesuffix(": test") for line in done.stdout.decode().splitlines() if line.endswith(": test")]


def run(executable: str, name: str) -> tuple[bool, str]:
    """Whether it passed, and what to show when it did not."""
    process = subprocess.Popen(
        [LEAK_GATE, executable, "--exact", name, "--nocapture"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False, f"{(error.stdout or b'').decode(errors='replace')}\nlonger than {SECONDS:g} s"
    return process.returncode == 0, output.decode(errors="replace")


def report(executable: Path, passed: dict[str, str], failed: dict[str, str]) -> None:
    suite = xml.Element("testsuite", name=executable.name)
    for name, output in (passed | failed).items():
        case = xml.SubElement(suite, "testcase", classname=executable.name, name=name)
        # What it says of itself, and no more: the rest may be what XML has no way to write.
        xml.SubElement(case, "system-out").text = "\n".join(re.findall(r"(?m)^skipped: [ -~]*$", output))
        if name in failed:
            xml.SubElement(case, "failure")
    folder = Path(os.environ["EACH_ALONE_REPORTS"])
    folder.mkdir(parents=True, exist_ok=True)
    xml.ElementTree(suite).write(folder / f"{executable.name}.xml")


def main() -> int:
    executable = os.path.abspath(sys.argv[1])
    ignored = set(names(executable, "--ignored"))
    wanted = [name for name in names(executable) if name not in ignored]
    began = time.monotonic()
    passed, failed = {}, {}
    for name in wanted:
        ok, output = run(executable, name)
        (passed if ok else failed)[name] = output
        print(f"test {name} ... {'ok' if ok else 'FAILED'}", flush=True)
    if "EACH_ALONE_REPORTS" in os.environ:
        report(Path(executable), passed, failed)
    for name, output in failed.items():
        print(f"\n---- {name}\n{output}")
    print(
        f"\ntest result: {'FAILED' if failed else 'ok'}. {len(passed)} passed; {len(failed)} failed; "
        f"{len(ignored)} ignored; finished in {time.monotonic() - began:.2f}s\n",
        flush=True,
    )
    return 101 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
