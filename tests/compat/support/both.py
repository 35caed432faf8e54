"""Runs one program on both libraries, as real processes, and says where they differ.

A program is an ordinary one that imports `monarch.actor`; for the other library that name alone is replaced. What it declares
about differences are literals at its top, which are read without running it:

    DIFFERENT = {"fact": ["what Monarch gives", "what is given here", "why"]}
    BETTER = {"fact": [...]}          # the same, where the difference is a gain
    RECORDED = {"fact": "what Monarch gives"}; PENDING = "what is missing here"    # not run here yet

A fact that a process did not come to is ABSENT. Two facts come from outside of the program: how it ended, where it says
`EXIT = True`; and which of the words of `STDERR = [...]` stand in its stderr.
"""

from __future__ import annotations

import ast
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROGRAMS = HERE.parent / "programs"
ROOT = HERE.parents[2]
ABSENT = "(absent)"
TOLD_TWICE = "(told twice)"
ENDED_BADLY = "did not end well"
SECONDS = 40.0
MARKER = "COMPAT_PROGRAM"
LITERALS = {"DIFFERENT", "BETTER", "RECORDED", "PENDING", "EXIT", "STDERR", "ENV"}

Facts = dict[str, Any]


@dataclass
class Program:
    path: Path
    title: str
    different: dict[str, list[Any]] = field(default_factory=dict)
    better: dict[str, list[Any]] = field(default_factory=dict)
    recorded: Facts = field(default_factory=dict)
    pending: str = ""
    wants_exit: bool = False
    stderr_words: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def declared(self) -> dict[str, list[Any]]:
        return {**self.different, **self.better}


def read(path: Path) -> Program:
    """ValueError for a program without a title, or one that declares a fact twice."""
    tree = ast.parse(path.read_text())
    title = ast.get_docstring(tree)
    if not title or "\n" in title:
        raise ValueError(f"{path.name}: say in a docstring of one line what the program shows")
    found: dict[str, Any] = {}
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and target.id in LITERALS:
            found[target.id] = ast.literal_eval(node.value)
    program = Program(
        path,
        title,
        found.get("DIFFERENT", {}),
        found.get("BETTER", {}),
        found.get("RECORDED", {}),
        found.get("PENDING", ""),
        found.get("EXIT", False),
        found.get("STDERR", []),
        found.get("ENV", {}),
    )
    if program.different.keys() & program.better.keys():
        raise ValueError(f"{path.name}: a fact is either DIFFERENT or BETTER")
    for fact, entry in program.declared.items():
        if len(entry) != 3 or not isinstance(entry[2], str) or not entry[2]:
            raise ValueError(f"{path.name}: {fact!r} has to be [what Monarch gives, what is given here, why]")
    if ("PENDING" in found) != ("RECORDED" in found):
        raise ValueError(f"{path.name}: PENDING says what is missing, and RECORDED what Monarch does: give both")
    return program


def programs() -> list[Program]:
    return [read(path) for path in sorted(PROGRAMS.glob("*.py"))]


@dataclass
class Run:
    facts: Facts
    output: str
    """For people, when something differs."""


def run_both(program: Program, monarch_python: str) -> tuple[Run, Run | None]:
    """On Monarch and here, at the same time; here not, while the program is pending."""
    with ThreadPoolExecutor(2) as pool:
        theirs = pool.submit(run, program, monarch_python, "monarch.actor")
        ours = None if is_pending(program) else pool.submit(run, program, sys.executable, "procession.actor")
        return theirs.result(), None if ours is None else ours.result()


def is_pending(program: Program) -> bool:
    return bool(program.pending) and not os.environ.get("COMPAT_PENDING")


def run(program: Program, python: str, api: str) -> Run:
    """The facts that the program tells in at most SECONDS; then it is killed, and all that it launched."""
    mark = f"{MARKER}={secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="compat-") as folder:
        copy = Path(folder) / program.path.name
        copy.write_text(re.sub(r"\bmonarch\.actor\b", api, program.path.read_text()))
        out, err = Path(folder) / "stdout", Path(folder) / "stderr"
        env = {**os.environ, **program.env, **dict([mark.split("=")])}
        env |= {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [python, copy],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=folder,
                env=env,
                start_new_session=True,
            )
            try:
                code: int | str = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                code = f"killed after {SECONDS:g} s"
            finally:
                kill_marked(mark)
                process.wait()
        said = out.read_text(errors="replace")
        complained = err.read_text(errors="replace")
    facts: Facts = {}
    for line in said.splitlines():
        if line.startswith("FACT "):
            name, value = json.loads(line[5:])
            facts[name] = value if name not in facts else TOLD_TWICE
    if program.wants_exit:
        facts["exit code"] = code
    elif code != 0:
        facts[ENDED_BADLY] = code
    for word in program.stderr_words:
        facts[f"stderr says {word}"] = word in complained
    return Run(facts, f"--- {api}: {code}\n{said[-4000:]}\n--- stderr\n{complained[-4000:]}")


def kill_marked(mark: str) -> None:
    """Kills what carries `mark` in its environment, until nothing does."""
    until = time.monotonic() + 5
    while (pids := marked(mark)) and time.monotonic() < until:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)


def marked(mark: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                environ = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in environ.split(b"\0"):
                found.append(int(entry))
    return found


def complaints(program: Program, theirs: Run, ours: Run | None) -> list[str]:
    """What is not as the program's file says; nothing where all is well."""
    found = []
    if ours is None:
        for name in sorted(theirs.facts.keys() | program.recorded.keys()):
            now, then = theirs.facts.get(name, ABSENT), program.recorded.get(name, ABSENT)
            if now != then:
                found.append(f"{name!r} on Monarch is {now!r}, and RECORDED says {then!r}")
        return found
    if not theirs.facts and not ours.facts and not program.declared:
        found.append("it tells no fact on either side")
    for name in sorted(theirs.facts.keys() | ours.facts.keys() | program.declared.keys()):
        pair = [theirs.facts.get(name, ABSENT), ours.facts.get(name, ABSENT)]
        declared = program.declared.get(name)
        if TOLD_TWICE in pair:
            found.append(f"{name!r} is told twice: which of the two is compared?")
        if declared is None and pair[0] != pair[1]:
            found.append(f"{name!r} differs, and is not declared: {pair[0]!r} on Monarch, {pair[1]!r} here")
        elif declared is None and name == ENDED_BADLY:
            found.append(f"both sides failed, with {pair[0]!r}: see their output")
        elif declared is not None and pair[0] == pair[1]:
            found.append(f"{name!r} is declared, and does not differ: both give {pair[0]!r}")
        elif declared is not None and pair != declared[:2]:
            found.append(f"{name!r} is declared as {declared[:2]!r}, and is {pair!r}")
    return found


def main() -> int:
    """For writing programs: `both.py MONARCH_PYTHON [names]` shows the facts of both sides."""
    monarch_python, *names = sys.argv[1:]
    bad = 0
    for program in programs():
        if names and not any(program.name.startswith(name) for name in names):
            continue
        began = time.monotonic()
        theirs, ours = run_both(program, monarch_python)
        wrong = complaints(program, theirs, ours)
        bad += bool(wrong)
        print(
            f"{'BAD ' if wrong else 'ok  '}{program.name} {len(theirs.facts)} facts, {time.monotonic() - began:.1f} s"
        )
        for one in wrong:
            print("    ", one)
        if names and (wrong or os.environ.get("SHOW")):
            print(json.dumps(theirs.facts, indent=1))
        if wrong and os.environ.get("SHOW"):
            print(theirs.output, ours.output if ours else "")
    return bad


if __name__ == "__main__":
    sys.exit(main())
