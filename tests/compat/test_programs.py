"""One source text, two libraries: what a program does has to be the same, or declared with its reason."""

import os
from pathlib import Path

import pytest

from both import Program, complaints, is_pending, programs, run, run_both
from table import Outcome, render

ALL = programs()
TABLE = Path(__file__).parents[2] / "docs/compatibility.md"

outcomes: list[Outcome] = []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("program", ALL, ids=lambda program: program.name)
def test_a_program_does_the_same_on_both_libraries(program: Program, monarch_python, note_pending):
    theirs, ours = run_both(program, monarch_python)
    wrong = complaints(program, theirs, ours)
    if wrong:  # the reference may be unlucky once; what is tested may not
        theirs = run(program, monarch_python, "monarch.actor")
        wrong = complaints(program, theirs, ours)
    assert not wrong, "\n".join([*wrong, theirs.output, ours.output if ours else ""])
    if is_pending(program):
        note_pending(program)
    names = theirs.facts.keys() | (ours.facts.keys() if ours else set())
    outcomes.append(Outcome(program, len(names), is_pending(program)))


def test_the_suite_is_as_large_as_it_says(monarch_python):
    if len(outcomes) < len(ALL):
        pytest.skip("only a part of the programs was run, or some failed")
    assert len(outcomes) >= 60
    assert sum(outcome.facts for outcome in outcomes) >= 150


def test_the_table_in_the_docs_is_what_the_run_found(monarch_python):
    if len(outcomes) < len(ALL):
        pytest.skip("only a part of the programs was run, or some failed")
    found = render(outcomes)
    if os.environ.get("COMPAT_WRITE"):
        TABLE.write_text(found)
    assert TABLE.read_text() == found, "COMPAT_WRITE=1 make test-compat writes it"
