"""What importing costs, and what it gives."""

import subprocess
import sys

import pytest

import procession


def modules_after(statement):
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import procession", "import procession.actor", "from procession import Actor, endpoint"]
)
def test_what_is_not_needed_yet_is_not_imported(statement):
    heavy = {
        "asyncio",
        "inspect",
        "dataclasses",
        "cloudpickle",
        "logging",
        "socket",
        "subprocess",
        "datetime",
        "argparse",
    }
    assert modules_after(statement) & heavy == set()


def test_importing_the_package_alone_loads_none_of_it():
    loaded = {name for name in modules_after("import procession") if name.startswith("procession")}
    assert loaded == {"procession"}


def test_importing_starts_no_thread():
    code = (
        "import os, procession._native, procession.actor, procession.launch; print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("name", procession.__all__)
def test_every_name_of_the_package_can_be_had(name):
    assert getattr(procession, name) is not None
    assert name in dir(procession)


@pytest.mark.parametrize("module", ["actor", "launch", "launchers", "testing", "errors", "config"])
def test_every_public_module_can_be_imported(module):
    __import__(f"procession.{module}")


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        procession.nothing_like_this  # noqa: B018
