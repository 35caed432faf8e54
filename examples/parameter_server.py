"""A parameter server: workers, each with a part of the data, push gradients to one actor and pull weights from it.

They do not wait for each other. The data are points of a line with noise; what is found are its slope and intercept.
"""

from __future__ import annotations

import random

from procession.actor import Actor, current_rank, endpoint, this_host

WORKERS, STEPS, POINTS, RATE = 3, 200, 300, 0.1
SLOPE, INTERCEPT = 2.0, -1.0
Weights = tuple[float, float]


class Server(Actor):
    """Holds the weights. Its messages are handled one at a time, so it needs no lock."""

    def __init__(self) -> None:
        self.slope, self.intercept, self.pushes = 0.0, 0.0, 0

    @endpoint
    def push(self, slope: float, intercept: float) -> Weights:
        """Takes a step down the gradient, and gives the weights after it."""
        self.slope -= RATE * slope
        self.intercept -= RATE * intercept
        self.pushes += 1
        return self.slope, self.intercept

    @endpoint
    def pull(self) -> Weights:
        return self.slope, self.intercept


class Worker(Actor):
    def __init__(self, server: Server) -> None:
        self.server = server
        chance = random.Random(current_rank().rank)
        xs = [chance.uniform(-1, 1) for _ in range(POINTS)]
        self.points = [(x, SLOPE * x + INTERCEPT + chance.gauss(0, 0.1)) for x in xs]

    @endpoint
    def train(self, steps: int) -> float:
        """The mean squared error on this worker's points at the end."""
        slope, intercept = self.server.pull.call_one().get(timeout=30)
        for _ in range(steps):
            errors = [slope * x + intercept - y for x, y in self.points]
            gradient = sum(e * x for e, (x, _) in zip(errors, self.points, strict=True)) / POINTS, sum(errors) / POINTS
            slope, intercept = self.server.push.call_one(*gradient).get(timeout=30)
        return sum((slope * x + intercept - y) ** 2 for x, y in self.points) / POINTS


def main() -> None:
    with this_host().spawn_procs(name="server") as one, this_host().spawn_procs({"workers": WORKERS}) as many:
        server = one.spawn("server", Server)
        workers = many.spawn("worker", Worker, server)
        for point, error in workers.train.call(STEPS).get(timeout=60).items():
            print(f"worker {point['workers']}: error {error:.3f}")
        slope, intercept = server.pull.call_one().get(timeout=30)
    print(f"y = {slope:.2f} x {intercept:+.2f}")


if __name__ == "__main__":
    main()
