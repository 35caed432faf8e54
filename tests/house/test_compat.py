"""The suite that compares programs with Monarch notices what it has to notice."""

import sys

import pytest

from both import ABSENT, ENDED_BADLY, TOLD_TWICE, Program, Run, complaints, read, run
from table import Outcome, render


def write(folder, text):
    path = folder / "one.py"
    path.write_text(text)
    return path


def told(theirs, ours, **declared):
    program = Program(path=None, title="t", **declared)
    return complaints(program, Run(theirs, ""), None if ours is None else Run(ours, ""))


def test_a_difference_has_to_be_declared_and_a_declared_one_to_be_there():
    assert told({"a": 1}, {"a": 1}) == []
    assert "differs, and is not declared" in told({"a": 1}, {"a": 2})[0]
    assert "differs, and is not declared" in told({"a": 1}, {})[0]
    assert told({"a": 1}, {"a": 2}, better={"a": [1, 2, "why"]}) == []
    assert "is declared as" in told({"a": 1}, {"a": 3}, different={"a": [1, 2, "why"]})[0]
    assert "does not differ" in told({"a": 1}, {"a": 1}, different={"a": [1, 2, "why"]})[0]
    assert "does not differ" in told({}, {}, different={"a": [1, 2, "why"]})[0]
    assert told({}, {"a": 2}, better={"a": [ABSENT, 2, "why"]}) == []


def test_programs_that_fail_on_both_sides_are_not_the_same():
    assert "both sides failed" in told({ENDED_BADLY: 1}, {ENDED_BADLY: 1})[0]


def test_what_tells_nothing_or_the_same_thing_twice_is_not_the_same():
    assert "no fact" in told({}, {})[0]
    assert "told twice" in told({"a": TOLD_TWICE}, {"a": TOLD_TWICE})[0]


def test_what_is_pending_is_held_to_what_was_recorded():
    assert told({"a": 1}, None, recorded={"a": 1}) == []
    assert "RECORDED says 2" in told({"a": 1}, None, recorded={"a": 2})[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "say in a docstring"),
        ('"""Two\nlines."""\n', "of one line"),
        ('"""T."""\nDIFFERENT = {"a": [1, 2]}\n', "has to be"),
        ('"""T."""\nDIFFERENT = {"a": [1, 2, ""]}\n', "has to be"),
        ('"""T."""\nDIFFERENT = {"a": [1, 2, "w"]}\nBETTER = {"a": [1, 2, "w"]}\n', "either"),
        ('"""T."""\nPENDING = "p"\n', "give both"),
    ],
)
def test_a_program_that_does_not_say_what_it_shows_and_why_it_differs_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        read(write(tmp_path, text))


def test_a_program_is_a_process_whose_facts_exit_and_stderr_are_read(tmp_path):
    text = '"""T."""\nimport sys\nfrom facts import fact\nEXIT = True\nSTDERR = ["gone", "never"]\n'
    text += 'import monarch.actor\nfact("module", monarch.actor.__name__)\nsys.exit("gone")\n'
    found = run(read(write(tmp_path, text)), sys.executable, "procession.actor")
    assert found.facts == {
        "module": "procession.actor",
        "exit code": 1,
        "stderr says gone": True,
        "stderr says never": False,
    }


def test_a_program_that_takes_too_long_is_killed_with_all_that_it_has_started(tmp_path, monkeypatch):
    monkeypatch.setattr("both.SECONDS", 0.5)
    text = (
        '"""T."""\nimport subprocess, time\nsubprocess.Popen(["sleep", "60"], start_new_session=True)\ntime.sleep(60)\n'
    )
    found = run(read(write(tmp_path, text)), sys.executable, "procession.actor")
    assert found.facts == {ENDED_BADLY: "killed after 0.5 s"}


def test_the_table_has_a_row_for_each_program_and_one_for_each_difference(tmp_path):
    program = read(write(tmp_path, '"""Shows | it."""\nBETTER = {"a": [1, 2, "why"]}\n'))
    page = render([Outcome(program, 3, pending=False)])
    assert "1 programs, 3 facts: 0 same, 1 better, 0 different, 0 not yet; 1 facts differ." in page
    assert "| `one` | Shows \\| it. | 3 | better |" in page
    assert "| `one` | a | `1` | `2` | better: why |" in page
