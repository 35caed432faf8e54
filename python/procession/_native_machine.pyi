"""The part of `_native` that is about this machine and what has ended on it; there is no module of this name when it runs."""

from typing import Any

def read_record(file: bytes) -> dict[str, Any]:
    """What the file of an ended proc's record holds: `exit` as `ProcHandle.exit()`, and what is kept beside it.

    Raises `ValueError` for what is no record.
    """

def records_dir() -> str | None:
    """Where records of ended procs are kept; None where they are not."""

def find_user(user: str | int, group: str | int | None) -> tuple[int, int, list[int]]:
    """User, group and all groups: those of the user, or the group alone. Raises `InvalidArgument` for who is nobody."""

def machine_facts() -> list[tuple[str, bool, str]]:
    """What this machine, and this process on it, can promise: name, whether it holds, what it means."""
