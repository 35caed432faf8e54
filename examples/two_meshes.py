"""Two meshes that talk: generators hand what they make to scorers of the same rank, and the scorers' own mesh adds it up."""

from __future__ import annotations

from procession.actor import Accumulator, Actor, current_rank, endpoint, this_host

PAIRS, ROUNDS = 3, 5


class Scorer(Actor):
    def __init__(self) -> None:
        self.scores: list[int] = []

    @endpoint
    def score(self, text: str) -> int:
        self.scores.append(len(text))
        return self.scores[-1]

    @endpoint
    def total(self) -> int:
        return sum(self.scores)


class Generator(Actor):
    def __init__(self, scorers: Scorer) -> None:
        self.scorer = scorers.slice(pairs=current_rank()["pairs"])

    @endpoint
    def run(self, rounds: int) -> list[int]:
        """What the scorer of this rank said of each text; each text depends on the answer to the one before."""
        answers = [1]
        for _ in range(rounds):
            answers.append(self.scorer.score.call_one("x" * (answers[-1] + current_rank().rank)).get(timeout=30))
        return answers[1:]


def main() -> None:
    host = this_host()
    with host.spawn_procs({"pairs": PAIRS}) as makers, host.spawn_procs({"pairs": PAIRS}) as judges:
        scorers = judges.spawn("scorer", Scorer)
        generators = makers.spawn("generator", Generator, scorers)
        for point, answers in generators.run.call(ROUNDS).get(timeout=30).items():
            print(f"pair {point['pairs']}: {answers}")
        total = Accumulator(scorers.total, 0, int.__add__).accumulate().get(timeout=30)
    print(f"{total} in all")


if __name__ == "__main__":
    main()
