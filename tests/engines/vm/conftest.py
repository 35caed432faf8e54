import importlib.util
import os
import sys
from pathlib import Path

import pytest

if "VM_IMAGE" not in os.environ:
    pytest.exit("these tests need the image of a guest: make test-vm", returncode=2)

# On no import path, so that it travels by value: guests have none of these files.
_spec = importlib.util.spec_from_file_location("guest", Path(__file__).with_name("guest.py"))
sys.modules["guest"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["guest"])
