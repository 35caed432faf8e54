"""`procession doctor`: what this machine, and this process on it, can promise."""

from __future__ import annotations

import argparse
import json
from typing import Any

EPILOG = """\
Each line: whether it holds, its name, and what it means; then what hosts have left that were killed. What does not
hold is refused when it is asked for; nothing is ignored in silence. The exit code is 0, whatever holds.
"""


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what this machine can promise",
        description="Tells what this machine, and this process on it, can promise.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: name to {holds, detail}")
    parser.set_defaults(handler=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from procession import _native

    facts = _native.machine_facts()
    if options.json:
        print(json.dumps({name: {"holds": holds, "detail": detail} for name, holds, detail in facts}, indent=2))
        return 0
    width = max(len(name) for name, _, _ in facts)
    for name, holds, detail in facts:
        print(f"{'yes' if holds else 'no ':3}  {name:{width}}  {detail}")
    for host in _native.dead_hosts():
        print(f"left by a host that was killed (pid {host['pid']}), for the next one to end: {host['run_dir']}")
        for process in host["processes"]:
            print(f"     process {process['pid']}  {process['command']}")
    return 0
