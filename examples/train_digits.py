"""Data-parallel training on handwritten digits, which survives the death of a trainer.

Four procs, started by the launcher below, each hold a quarter of the training images and a copy of a small network.
Every step they send their gradients here and get the mean of all back. On the way one of them is killed; its exit is
reported, its slot gets a new incarnation, and training goes on from the last checkpoint.
"""

import argparse
import gzip
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import procession.actor
from procession.actor import Actor, Port, ProcMesh, SupervisionError, current_rank, endpoint, this_host
from procession.launch import (
    Capabilities,
    LaunchOptions,
    ProcExit,
    ProcExitResult,
    ProcLauncher,
    ProcStatus,
    Supervised,
    exit_table,
    supervise,
)

TRAINERS, BATCH, HIDDEN, RATE = 4, 64, 64, 0.4
STEPS, CHECKPOINT_EVERY, KILL_AT, VICTIM = 400, 50, 180, 2
GOAL = 0.93
Weights = list[np.ndarray]


class SubprocessLauncher(ProcLauncher):
    """Starts each proc as an OS process of its own. All that a launcher has to do is here."""

    capabilities = Capabilities(pid=True, command_attributes=True)

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        super().__init__(params)
        self.running: dict[str, Supervised] = {}

    @endpoint(explicit_response_port=True)
    async def launch(self, exit_port: Port[ProcExitResult], proc_id: str, opts: LaunchOptions) -> None:
        process = self.running[proc_id] = await supervise(opts)
        self.report(proc_id, pid=process.pid)
        exit_port.send(await process.wait())
        del self.running[proc_id]

    @endpoint
    async def terminate(self, proc_id: str, timeout_secs: float) -> None:
        if process := self.running.get(proc_id):
            await process.terminate(timeout_secs)

    @endpoint
    async def kill(self, proc_id: str) -> None:
        if process := self.running.get(proc_id):
            await process.kill()


class Trainer(Actor):
    """A quarter of the images, and one copy of the network."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, weights: Weights) -> None:
        self.rank = current_rank().rank
        self.images, self.labels = images[self.rank :: TRAINERS], labels[self.rank :: TRAINERS]
        self.weights = weights
        print(f"trainer {self.rank}: {len(self.labels)} images", file=sys.stderr, flush=True)

    @endpoint
    def gradients(self, step: int) -> Weights:
        if step % CHECKPOINT_EVERY == 0:
            print(f"trainer {self.rank}: step {step}", file=sys.stderr, flush=True)
        batch = np.random.default_rng([step, self.rank]).integers(len(self.labels), size=BATCH)
        x, y = self.images[batch], self.labels[batch]
        w1, b1, w2, b2 = self.weights
        hidden = np.tanh(x @ w1 + b1)
        error = softmax(hidden @ w2 + b2)
        error[np.arange(BATCH), y] -= 1
        error /= BATCH
        back = (error @ w2.T) * (1 - hidden**2)
        return [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]

    @endpoint
    def apply(self, gradients: Weights) -> None:
        self.weights = [w - RATE * g for w, g in zip(self.weights, gradients, strict=True)]

    @endpoint
    def state(self) -> Weights:
        return self.weights


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    total: np.ndarray = e / e.sum(axis=1, keepdims=True)
    return total


def accuracy(weights: Weights, images: np.ndarray, labels: np.ndarray) -> float:
    w1, b1, w2, b2 = weights
    return float((np.argmax(np.tanh(images @ w1 + b1) @ w2 + b2, axis=1) == labels).mean())


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 images that scikit-learn ships, shuffled; scikit-learn itself is not imported."""
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        sys.exit("scikit-learn, which holds the images, is not installed: pip install -r requirements/demo.txt")
    with gzip.open(Path(package.submodule_search_locations[0]) / "datasets/data/digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",")
    np.random.default_rng(0).shuffle(table)
    return table[:, :-1] / 16, table[:, -1].astype(int)


def fresh_weights() -> Weights:
    rng = np.random.default_rng(1)
    return [rng.normal(0, 0.1, (64, HIDDEN)), np.zeros(HIDDEN), rng.normal(0, 0.1, (HIDDEN, 10)), np.zeros(10)]


class Progress:
    """A bar on a terminal, else a plain line now and then."""

    def __init__(self) -> None:
        self.bar = None
        self.lock = (
            threading.Lock()
        )  # failures are told on another thread, and are not to come between two halves of a line
        if sys.stdout.isatty():
            from rich.progress import Progress as Bar

            self.bar = Bar()
            self.task = self.bar.add_task("training", total=STEPS)
            self.bar.start()

    def say(self, text: str) -> None:
        with self.lock:
            if self.bar:
                self.bar.console.print(text)
            else:
                print(text, flush=True)

    def at(self, step: int) -> None:
        if self.bar:
            self.bar.update(self.task, completed=step)
        elif step % CHECKPOINT_EVERY == 0:
            self.say(f"step {step} of {STEPS}")

    def close(self) -> None:
        if self.bar:
            self.bar.stop()


def train(
    procs: ProcMesh, images: np.ndarray, labels: np.ndarray, folder: Path, progress: Progress
) -> tuple[Weights, list[ProcExit]]:
    """Trains to the end, whatever happens to the procs; gives the weights and the exits on the way."""
    checkpoint = folder / "checkpoint.npz"
    exits: list[ProcExit] = []
    np.savez(checkpoint, *fresh_weights(), step=0)
    killed = False
    while True:
        with np.load(checkpoint) as saved:
            step, weights = int(saved["step"]), [saved[f"arr_{i}"] for i in range(4)]
        progress.say(f"training from step {step}")
        trainers = procs.spawn(f"trainers-{len(exits)}", Trainer, images, labels, weights)
        try:
            while step < STEPS:
                if step == KILL_AT and not killed:
                    killed = True
                    progress.say(f"step {step}: SIGKILL for trainer {VICTIM}")
                    kill_from_outside(procs.slice(trainers=VICTIM).statuses().item())
                gradients = [g for _, g in trainers.gradients.call(step).get(timeout=30).items()]
                trainers.apply.call([np.mean(parts, axis=0) for parts in zip(*gradients, strict=True)]).get(timeout=30)
                step += 1
                progress.at(step)
                if step % CHECKPOINT_EVERY == 0:
                    weights = trainers.slice(trainers=0).state.call_one().get(timeout=30)
                    np.savez(folder / "new.npz", *weights, step=step)
                    (folder / "new.npz").replace(checkpoint)
            return trainers.slice(trainers=0).state.call_one().get(timeout=30), exits
        except SupervisionError:
            for dead in wait_for_exits(procs):
                exits.append(dead)
                progress.say(describe(dead))
                procs.respawn(ranks=[dead.rank]).get(timeout=60)
            trainers.stop().get(timeout=30)


def kill_from_outside(status: ProcStatus) -> None:
    """What an accident does: nobody here is asked, and nobody told. A container has no pid on this machine."""
    if status.pid is not None:
        os.kill(status.pid, signal.SIGKILL)
    else:
        subprocess.run(["docker", "kill", str(status.handle)], check=True, stdout=subprocess.DEVNULL)


def wait_for_exits(procs: ProcMesh, timeout: float = 10.0) -> list[ProcExit]:
    """The procs that have ended, of which there is at least one."""
    deadline = time.monotonic() + timeout
    while not (ended := [exit for _, exit in procs.exits().items() if exit]):
        if time.monotonic() > deadline:
            raise TimeoutError("a trainer does not answer, and no proc has ended")
        time.sleep(0.01)
    return ended


def describe(exit: ProcExit) -> str:
    lines = [f"{exit.name}, incarnation {exit.incarnation}: {exit.verdict}"]
    lines.append(f"  signal {exit.signal}, {exit.requested or 'not requested by us'}; its last lines:")
    return "\n".join(lines + [f"  | {line}" for line in exit.stderr_tail[-3:]])


def launcher_named(name: str) -> type[ProcLauncher] | None:
    if name == "docker":
        from docker_launcher import DockerLauncher

        return DockerLauncher
    return {"python": SubprocessLauncher, "native": None}[name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["python", "native", "docker"]
    parser.add_argument("--launcher", choices=names, default=os.environ.get("LAUNCHER", "python"))
    launcher = launcher_named(parser.parse_args().launcher)

    images, labels = read_digits()
    parts = np.split(images, [1437]), np.split(labels, [1437])
    procs = this_host().spawn_procs(
        per_host={"trainers": TRAINERS}, launcher=launcher, name="trainer", env={"OPENBLAS_NUM_THREADS": "1"}
    )
    progress = Progress()
    # A trainer that fails is replaced; without this its failure would end the program.
    procession.actor.unhandled_fault_hook = lambda failure: progress.say(str(failure))
    try:
        with procs, tempfile.TemporaryDirectory() as folder:
            weights, exits = train(procs, parts[0][0], parts[1][0], Path(folder), progress)
    finally:
        progress.close()
    exits += [exit for _, exit in procs.exits().items() if exit]
    print(exit_table(sorted(exits, key=lambda exit: (exit.rank, exit.incarnation))))
    reached = accuracy(weights, parts[0][1], parts[1][1])
    print(f"test accuracy {reached:.3f}")
    return 0 if reached >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
