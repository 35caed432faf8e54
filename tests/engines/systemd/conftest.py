import importlib.util
import os
import sys
from pathlib import Path

import pytest

import procession.actor
from managers import environment_files, systemctl, units

if "PROCESSION_SYSTEMD" not in os.environ:
    pytest.exit("these tests need a private systemd: make test-systemd", returncode=2)

# As those of containers find it: on no import path, so that it travels by value.
_spec = importlib.util.spec_from_file_location("probe", Path(__file__).parents[1] / "docker" / "probe.py")
sys.modules["probe"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["probe"])


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    monkeypatch.setattr(procession.actor, "unhandled_fault_hook", lambda failure: None, raising=False)
    yield
    left = {bus: units(bus) for bus in ("user", "system")}
    for bus, names in left.items():  # what one test has left is not to fail the next
        if names:
            systemctl(bus, "stop", *names)
            systemctl(bus, "reset-failed")
    assert (left, environment_files()) == ({"user": [], "system": []}, [])
