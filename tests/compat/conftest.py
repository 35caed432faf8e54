"""The interpreter of the reference, and the summary of what was run on it alone."""

import os
from collections import Counter

import pytest

from both import Program

pending: Counter[str] = Counter()


@pytest.fixture(scope="session")
def monarch_python() -> str:
    found = os.environ.get("COMPAT_PYTHON")
    if not found:
        pytest.skip("no interpreter with the reference: run `make test-compat`")
    return found


@pytest.fixture
def note_pending():
    """Counts a program that was run on the reference alone."""

    def note(program: Program) -> None:
        pending[program.pending] += 1

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, count in sorted(pending.items()):
        terminalreporter.write_line(f"skipped: {count} programs here, run on Monarch alone: {reason}")
