"""The table of docs/compatibility.md: what each program found, and why it is so where the libraries differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from both import Program

HEAD = """# Compatibility with Monarch

Programs of `tests/compat/programs`, each run as a process on torchmonarch 0.7.0 and here, from one source text in which
only the name `monarch.actor` is replaced. What each tells about itself is compared, fact by fact. This page is written by
`COMPAT_WRITE=1 make test-compat`; `make test-compat` fails when it is not what the run finds, when a difference
is not declared in its program with a reason, and when a declared one is not there.

* **same**: every fact is the same on both.
* **better**: some differ, and each of them is a gain here.
* **different**: some differ on purpose, in ways that a program may notice.
* **not yet**: what Monarch does is recorded, and what it takes is not there in this version.

How to move a program over is in [migrating-from-monarch.md](migrating-from-monarch.md).
"""


@dataclass(frozen=True)
class Outcome:
    program: Program
    facts: int
    pending: bool

    @property
    def verdict(self) -> str:
        if self.pending:
            return "not yet"
        if self.program.different:
            return "different"
        return "better" if self.program.better else "same"


def render(outcomes: Sequence[Outcome]) -> str:
    """The whole page."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.program.name)
    verdicts = [outcome.verdict for outcome in ordered]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("same", "better", "different", "not yet"))
    facts = sum(outcome.facts for outcome in ordered)
    differing = sum(len(outcome.program.declared) for outcome in ordered if not outcome.pending)
    lines = [HEAD, f"{len(ordered)} programs, {facts} facts: {counts}; {differing} facts differ.", ""]
    lines += ["| program | what it shows | facts | verdict |", "|---|---|---|---|"]
    for outcome in ordered:
        lines.append(
            f"| `{outcome.program.name}` | {cell(outcome.program.title)} | {outcome.facts} | {outcome.verdict} |"
        )
    lines += ["", "## What differs", ""]
    lines += ["| program | fact | on Monarch | here | why |", "|---|---|---|---|---|"]
    for outcome in ordered:
        if not outcome.pending:
            lines += [
                differing_row(outcome.program, fact, entry) for fact, entry in sorted(outcome.program.declared.items())
            ]
    lines += ["", "## Not there yet", ""]
    reasons = sorted({outcome.program.pending for outcome in ordered if outcome.pending})
    for reason in reasons:
        names = ", ".join(f"`{o.program.name}`" for o in ordered if o.pending and o.program.pending == reason)
        lines.append(f"* {reason[0].upper()}{reason[1:]}: {names}.")
    if not reasons:
        lines.append("Nothing that a program here asks for.")
    return "\n".join(lines) + "\n"


def differing_row(program: Program, fact: str, entry: list) -> str:
    theirs, ours, why = entry
    mark = "better: " if fact in program.better else ""
    return f"| `{program.name}` | {cell(fact)} | {shown(theirs)} | {shown(ours)} | {mark}{cell(why)} |"


def shown(value: object) -> str:
    text = repr(value)
    return "`" + cell(text if len(text) <= 60 else f"{text[:57]}...").replace("`", "'") + "`"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
