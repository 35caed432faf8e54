"""A soak of seeded chaos: 50 procs on three launchers are called without a pause and hurt in every way there is.

Ends with 1 when a promise was broken, or when a kind of fault was not injected. The same seed is the same plan; what
happens in it still depends on the machine.
"""

import argparse
import asyncio
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import plan
from fleet import BootCrash, Supervising
from ledger import Ledger, holdings, keepers
from life import Fleet, has_ended, live

import procession.actor
from procession.actor import shutdown_context, this_host, this_proc

T = TypeVar("T")

PLACES = {"native": 20, "class": 15, "actor": 15}
# What a process may hold more than it did when all procs were up for the first time.
MORE = {"descriptors": 100, "threads": 40, "MiB": 192}
UP_SECONDS = 120.0
LAUNCHER_FROZEN_SECONDS = 1.0


async def hurt_launcher(fleet: Fleet, seed: int, seconds: float, ledger: Ledger) -> None:
    for step in plan.of_launcher(seed, seconds):
        await asyncio.sleep(step.after)
        while fleet.launcher is None:  # a new one is not up yet
            await asyncio.sleep(0.05)
        pidfd = fleet.launcher
        ledger.fault("class", step.kind)
        if step.kind == "freeze the launcher":
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            await asyncio.sleep(LAUNCHER_FROZEN_SECONDS)
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            continue
        fleet.launcher = None
        fleet.launcher_died_at = time.monotonic()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL if step.kind.startswith("kill") else signal.SIGABRT)
        while not has_ended(pidfd):
            await asyncio.sleep(0.01)
        # Launches that were made meanwhile may have gone to the old one.
        fleet.launcher_died_at = time.monotonic()
        os.close(pidfd)


async def read_slowly(fleet: Fleet, ledger: Ledger) -> None:
    """Follows the output, a line at a time; begins anew when all have ended at once, as with their launcher."""
    while True:
        ledger.fault(fleet.name, plan.SLOW_READER)
        async for _ in fleet.procs.logs(follow=True):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)


async def watch_holdings(ledger: Ledger, over: asyncio.Event) -> None:
    processes = {"client": os.getpid(), **keepers()}
    before = {name: holdings(pid) for name, pid in processes.items()}
    while not over.is_set():
        for name, pid in processes.items():
            now = holdings(pid)
            for what, most in MORE.items():
                text = f"{now[what]} {what}, {before[name][what]} at first"
                ledger.check("what is held is bounded", now[what] <= before[name][what] + most, name, text)
        await asyncio.sleep(1)
    print("held at last:", {name: holdings(pid) for name, pid in processes.items()}, "at first:", before)


async def soak(seed: int, seconds: float, folder: Path) -> tuple[Ledger, int]:
    ledger, over, boot = Ledger(), asyncio.Event(), BootCrash(folder)
    launchers = {"native": None, "class": Supervising, "actor": this_proc().spawn("launcher", Supervising)}
    fleets = []
    for name, places in PLACES.items():
        procs = this_host().spawn_procs(
            {"place": places},
            boot,
            name=name,
            launcher=launchers[name],
            env=lambda point, name=name: {boot.NAME: f"{name}-{point.rank}"},
            ready_timeout=UP_SECONDS,
        )
        fleets.append(Fleet(name, procs, boot))
    lives, slot = [], 0
    all_up = asyncio.Barrier(sum(PLACES.values()) + 1)
    for fleet in fleets:
        for rank in range(len(fleet.procs)):
            lives.append(asyncio.create_task(live(fleet, rank, plan.of_proc(seed, slot), ledger, all_up, over)))
            slot += 1
    await asyncio.wait_for(all_up.wait(), UP_SECONDS)
    print(f"soak: seed {seed}, {slot} procs on {len(fleets)} launchers are up", flush=True)

    by_name = {fleet.name: fleet for fleet in fleets}
    beside = [hurt_launcher(by_name["class"], seed, seconds, ledger), watch_holdings(ledger, over)]
    beside += [read_slowly(fleet, ledger) for fleet in fleets]
    tasks = [asyncio.create_task(one) for one in beside]
    done, _ = await asyncio.wait([*lives, *tasks], timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    over.set()
    for task in done:
        task.result()  # raises what went wrong in the soak itself
    launches = sum(await asyncio.gather(*lives))
    tasks[0].cancel()
    for task in tasks[2:]:
        task.cancel()
    await asyncio.wait(tasks)
    return ledger, launches


async def or_end(work: Coroutine[Any, Any, T]) -> T:
    """An error of the soak itself ends it at once, and all procs with it."""
    try:
        return await work
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(2)


def report(ledger: Ledger, launches: int, seed: int) -> bool:
    print(f"\nlaunches: {launches}")
    few = ledger.unreported <= launches // 10
    ledger.check("few exits lack the report of their launcher", few, "launchers", f"{ledger.unreported} do")
    print(f"exits without the report of their launcher, which was slow or frozen: {ledger.unreported}")
    print("faults injected: " + ", ".join(f"{kind} {ledger.faults[kind]}" for kind in plan.ALL))
    print("invariants checked: " + ", ".join(f"{what} {count}" for what, count in sorted(ledger.checks.items())))
    if ledger.exit_seconds:
        ordered = sorted(ledger.exit_seconds)
        half, most = ordered[len(ordered) // 2], ordered[-1]
        print(f"from the fault to the exit: half within {half * 1000:.0f} ms, all within {most * 1000:.0f} ms")
    for violation in ledger.violations:
        print(f"violation: {violation}")
    missing = [kind for kind in plan.ALL if not ledger.faults[kind]]
    if missing:
        print(f"not injected: {', '.join(missing)}: give it more seconds")
    good = not ledger.violations and not missing
    total = sum(ledger.checks.values())
    word = "passed" if good else "FAILED"
    print(
        f"soak: {word}, seed {seed}, {sum(ledger.faults.values())} faults, {total} checks, {len(ledger.violations)} violations"
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="of the plan; a new one by default")
    args = parser.parse_args()
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    procession.actor.unhandled_fault_hook = lambda failure: None  # its faults are meant
    os.environ.setdefault("PROCESSION_LOG", "off")  # it would tell of every fault
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="procession-soak-") as folder:
        ledger, launches = asyncio.run(or_end(soak(seed, args.seconds, Path(folder))))
    shutdown_context().get(30)
    left = [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    ledger.check("nothing is left of the client", not left, "client", f"children {left}")
    return not report(ledger, launches, seed)


if __name__ == "__main__":
    sys.exit(main())
