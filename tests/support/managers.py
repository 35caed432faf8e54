"""What the managers of a private systemd have."""

import os
import subprocess
from pathlib import Path


def systemctl(bus: str, *arguments: str) -> str:
    command = ["systemctl", f"--{bus}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def units(bus: str = "user") -> list[str]:
    listed = systemctl(bus, "list-units", "--all", "--plain", "--no-legend", "procession-*.service")
    return [line.split()[0] for line in listed.splitlines()]


def shown(unit: str, name: str, bus: str = "user") -> str:
    return systemctl(bus, "show", unit, "--property", name, "--value")


def environment_files() -> list[Path]:
    return list(Path(os.environ["XDG_RUNTIME_DIR"]).glob("procession-*.env"))
