import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# On no import path, so that it travels by value: a container has none of these files.
_spec = importlib.util.spec_from_file_location("probe", Path(__file__).with_name("probe.py"))
sys.modules["probe"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["probe"])


# Each engine has its tests; those of others are not even looked at.
collect_ignore = [] if "SLURM_CONF" in os.environ else ["test_slurm_launcher.py"]


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


class Engine:
    """The engine that these tests run against, as an onlooker sees it."""

    docker = staticmethod(docker)

    @staticmethod
    def containers() -> list[dict]:
        """Every container that carries our label, running or not."""
        names = docker("ps", "--all", "--quiet", "--filter", "label=procession.proc").split()
        return json.loads(docker("inspect", *names)) if names else []


@pytest.fixture(scope="session", autouse=True)
def image() -> str:
    if "DOCKER_IMAGE" not in os.environ:
        pytest.exit("these tests need an engine and an image: make test-engines", returncode=2)
    return os.environ["DOCKER_IMAGE"]


@pytest.fixture
def engine():
    yield Engine
    assert Engine.containers() == []
