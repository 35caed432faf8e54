"""The conformance checks of launchers as tests of pytest, one for each check.

    # conftest.py
    pytest_plugins = ["procession.pytest_plugin"]

    # test_my_launcher.py
    @pytest.mark.conformance("my_module:MyLauncher", only=["exit.*", "stop.*"])
    def test_it_keeps_what_launchers_promise(conformance_check):
        conformance_check()

The mark takes a launcher, or the name of one as `procession run --launcher` does, and then what `procession conformance` takes:
`only`, `python` and `patience` (seconds for each step of a check). A check that asks for what the launcher does not claim is
skipped, with the reason; one that fails says what was promised, what was seen, and what to look at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "conformance(launcher, *, only, python, patience): what `conformance_check` runs, and on which launcher",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "conformance_check" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("conformance")
    if mark is None or len(mark.args) != 1:
        pytest.fail(f"{metafunc.definition.nodeid}: mark it with conformance(launcher)", pytrace=False)
    from procession._conformance import check_names

    metafunc.parametrize("conformance_check", check_names(mark.kwargs.get("only", ())), indirect=True)


@pytest.fixture
def conformance_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Runs one check of the launcher that the test is marked with."""
    mark = request.node.get_closest_marker("conformance")
    return lambda: _check(mark.args[0], request.param, mark.kwargs)


def _check(launcher: Any, name: str, how: dict[str, Any]) -> None:
    from procession._conformance import conform
    from procession.launchers import by_name

    chosen = by_name(launcher) if isinstance(launcher, str) else launcher
    [found] = conform(chosen, **{**how, "only": [name]})
    if found.outcome == "not capable":
        pytest.skip(found.why)
    if found.outcome == "failed":
        pytest.fail(f"{found.why}\npromised: {found.promise}\nlook at: {found.hint}", pytrace=False)
