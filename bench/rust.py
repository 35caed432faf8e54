"""Messages between actors of one process in Rust, beside a bare channel."""

from __future__ import annotations

import os
from pathlib import Path

from bench.figures import OURS, Figure, Goal, Group, Probe, Skipped, Theme
from bench.running import run

TELL = "Rust, one process: messages a second"
ASK = "Rust, one process: ask, p50"
CHANNEL = "tokio mpsc"

FIGURES = [
    Figure(TELL, "1/s", [CHANNEL], [], [Goal(7e6), Goal(0.5, CHANNEL)], more_is_better=True),
    Figure(ASK, "s", [CHANNEL], [], [Goal(0.25e-6), Goal(1.5, CHANNEL)]),
]


def messages(side: str) -> list[float]:
    """What crates/actor/examples/messages.rs prints."""
    program = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release/examples/messages"
    if not program.exists():
        raise Skipped(f"there is no {program}: `make bench` builds it")
    return run([str(program), side])


THEME = Theme(
    "rust",
    FIGURES,
    [
        Group(
            [
                Probe(OURS, [TELL, ASK], lambda: messages("actor")),
                Probe(CHANNEL, [TELL, ASK], lambda: messages("channel")),
            ]
        )
    ],
)
