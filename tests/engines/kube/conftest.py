import importlib.util
import os
import sys
from pathlib import Path

import pytest

if not {"PROCESSION_KUBE", "DOCKER_IMAGE"} <= os.environ.keys():
    pytest.exit("these tests need a Kubernetes of their own: make test-kube", returncode=2)

# As those of containers find it: on no import path, so that it travels by value.
_spec = importlib.util.spec_from_file_location("probe", Path(__file__).parents[1] / "docker" / "probe.py")
sys.modules["probe"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["probe"])
