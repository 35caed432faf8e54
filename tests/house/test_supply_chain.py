"""What is built and installed here is what was chosen, and what watches over it is switched on."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.fault("F109")


def test_every_crate_from_elsewhere_has_a_version_a_registry_and_a_checksum():
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    foreign = [one for one in locked if not one["name"].startswith("procession")]
    assert len(foreign) > 50
    for one in foreign:
        assert one["source"].startswith("registry+"), one["name"]
        assert re.fullmatch(r"[0-9a-f]{64}", one["checksum"]), one["name"]


def test_every_package_that_is_installed_is_pinned_to_one_version():
    lines = [line for path in (ROOT / "requirements").glob("*.txt") for line in path.read_text().splitlines()]
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 10
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*( ?;.*)?", pin)] == []


def test_withdrawn_and_vulnerable_crates_and_unknown_sources_are_errors():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    assert rules["advisories"]["yanked"] == "deny"
    # From this version on, every advisory is an error, but for those that are listed.
    assert rules["advisories"]["version"] == 2
    assert "ignore" not in rules["advisories"]
    assert rules["sources"] == {"unknown-registry": "deny", "unknown-git": "deny"}


def test_the_lint_lane_asks_both_databases_of_holes():
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert "cargo deny --all-features check" in recipe
    assert "pip_audit" in recipe
