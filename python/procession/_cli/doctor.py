"""`procession doctor`: what this machine, and this process on it, can promise."""

from __future__ import annotations

import argparse
import json
from typing import Any

from procession._cli.command import add_command, refuse
from procession.errors import InvalidArgument

EPILOG = """\
Each line: whether it holds, its name, and what it means; then what hosts have left that were killed. What does not
hold is refused when it is asked for; nothing is ignored in silence. The exit code is 0, whatever holds.

With --launcher a few procs are launched by it, and the lines say what works there: whether it answers, whether procs start and reach
back, and through which address, versions, clocks, limits and GPUs, and whether exits, kills and output are told. Then the exit
code is 1 when one of these does not hold, but GPUs.
"""


def add_to(commands: Any) -> None:
    summary, description = (
        "what this machine can promise",
        "Tells what this machine, and this process on it, can promise.",
    )
    parser = add_command(commands, "doctor", _doctor, summary, description=description, epilog=EPILOG)
    parser.add_argument("--launcher", metavar="NAME", help="as in `procession run`: look at what it launches instead")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="for each step of --launcher (default: 60)"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object: name to {holds, detail}, and the list dead_hosts"
    )


def _doctor(options: argparse.Namespace) -> int:
    if options.launcher is not None:
        return _launcher_doctor(options)
    from procession import _native

    facts, dead_hosts = _native.machine_facts(), _native.dead_hosts()
    if options.json:
        shown: dict[str, Any] = {name: {"holds": holds, "detail": detail} for name, holds, detail in facts}
        print(json.dumps({**shown, "dead_hosts": dead_hosts}, indent=2))
        return 0
    width = max(len(name) for name, _, _ in facts)
    for name, holds, detail in facts:
        print(f"{'yes' if holds else 'no ':3}  {name:{width}}  {detail}")
    for host in dead_hosts:
        print(f"left by a host that was killed (pid {host['pid']}), for the next one to end: {host['run_dir']}")
        for process in host["processes"]:
            print(f"     process {process['pid']}  {process['command']}")
    return 0


def _launcher_doctor(options: argparse.Namespace) -> int:
    from procession._cli.launcher_doctor import examine
    from procession._cli.run import launcher_named

    try:
        launcher = launcher_named(options.launcher)
    except InvalidArgument as error:
        refuse(options, error, {})
    found: dict[str, Any] = {}
    for name, holds, detail in examine(launcher, options.timeout):
        found[name] = {"holds": holds, "detail": detail}
        if not options.json:
            print(f"{'yes' if holds else 'no ':3}  {name:12}  {detail}", flush=True)
    if options.json:
        print(json.dumps(found, indent=2))
    return int(not all(fact["holds"] for name, fact in found.items() if name != "gpus"))
