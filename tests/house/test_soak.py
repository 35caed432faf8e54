"""The parts of the soak that decide: its plan, and what counts as passed."""

import importlib.util
import sys
from itertools import islice
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "scripts/soak"


@pytest.fixture
def soak(monkeypatch):
    """The soak's modules, which find each other as when it is run."""
    monkeypatch.syspath_prepend(str(SOAK))
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("soak_main", SOAK / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("plan", "ledger", "life", "fleet"):
        if name not in before:
            sys.modules.pop(name, None)


def plan_of(soak, seed, slot):
    return list(islice(soak.plan.of_proc(seed, slot), 40))


def test_the_same_seed_is_the_same_plan_and_another_one_is_not(soak):
    assert plan_of(soak, 7, 3) == plan_of(soak, 7, 3)
    assert plan_of(soak, 7, 3) != plan_of(soak, 8, 3)
    assert plan_of(soak, 7, 3) != plan_of(soak, 7, 4)
    launchers = [list(islice(soak.plan.of_launcher(7, 60), 9)) for _ in range(2)]
    assert launchers[0] == launchers[1]


def test_every_kind_comes_among_the_first_of_fifty_procs_and_in_each_round_of_one(soak):
    kinds = {*soak.plan.SURVIVED, *soak.plan.ENDING}
    assert {plan_of(soak, 7, slot)[0].kind for slot in range(50)} == kinds
    assert {step.kind for step in plan_of(soak, 7, 3)[: len(kinds)]} == kinds


def test_each_kind_is_done_to_the_launcher_well_before_the_end(soak):
    steps = list(islice(soak.plan.of_launcher(7, 60), 3))
    assert {step.kind for step in steps} == set(soak.plan.LAUNCHER)
    assert sum(step.after for step in steps) <= 60 * 0.6


def whole(soak):
    ledger = soak.Ledger()
    for kind in soak.plan.ALL:
        ledger.fault("native-0", kind)
    ledger.check("one exit for each launch", True, "native-0", "")
    return ledger


def test_a_soak_with_every_kind_and_no_violation_has_passed(soak, capsys):
    assert soak.report(whole(soak), 50, 7)
    assert "soak: passed, seed 7" in capsys.readouterr().out


def test_a_violation_fails_it_and_is_told_with_what_went_before(soak, capsys):
    ledger = whole(soak)
    ledger.note("native-0", "status ready")
    ledger.check("one exit for each launch", False, "native-0", "2 exits")
    assert not soak.report(ledger, 50, 7)
    told = capsys.readouterr().out
    assert "violation: native-0: one exit for each launch: 2 exits" in told
    assert "status ready" in told


def test_a_kind_that_was_not_injected_fails_it(soak, capsys):
    ledger = whole(soak)
    del ledger.faults["freeze"]
    assert not soak.report(ledger, 50, 7)
    assert "not injected: freeze" in capsys.readouterr().out


def test_too_many_exits_without_a_report_fail_it(soak):
    ledger = whole(soak)
    ledger.unreported = 6
    assert not soak.report(ledger, 50, 7)
