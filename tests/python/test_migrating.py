"""The programs of the page for people who come from Monarch do what it says."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "migrating-from-monarch.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


def test_every_program_of_the_page_says_what_it_prints():
    assert len(PROGRAMS) == PAGE.count("```python") >= 5


@pytest.mark.parametrize(("program", "output"), PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_of_the_page_prints_what_it_says(program, output, script):
    assert script(program).stdout == output


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE))))
def test_what_the_page_points_at_exists(link):
    path, _, anchor = link.partition("#")
    text = (DOCS / path).read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.strip("# ").lower()).replace(" ", "-") for line in re.findall(r"(?m)^#+ .*$", text)
    }
    assert not anchor or anchor in headings
