import importlib.util
import os
import sys
from pathlib import Path

import pytest

if "SSH_CONFIG" not in os.environ:
    pytest.exit("these tests need machines: make test-ssh", returncode=2)

# On no import path, so that it travels by value: other machines have none of these files.
_spec = importlib.util.spec_from_file_location("here", Path(__file__).with_name("here.py"))
sys.modules["here"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["here"])
