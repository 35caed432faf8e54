"""What there is of procession on a substrate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Owned:
    """Something of procession on a substrate."""

    handle: str
    """The substrate's name for it."""
    running: bool
    """Whether it runs, or may; what has ended was only not taken away."""
    left_over: bool | None
    """Whether the process that owns it is gone; None where that cannot be known from here."""
    labels: dict[str, str]
    """Whose it is: `procession.proc`, `.session`, `.incarnation`, `.owner`, `.process`, `.lease`."""
