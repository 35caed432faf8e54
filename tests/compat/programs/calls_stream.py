"""`stream` gives one future per rank, also in a for loop and in any order of waiting."""

from monarch.actor import Actor, current_rank, endpoint, this_host

from facts import fact


class Square(Actor):
    @endpoint
    def square(self, offset: int) -> int:
        return (current_rank().rank + offset) ** 2


if __name__ == "__main__":
    squares = this_host().spawn_procs(per_host={"gpus": 3}).spawn("square", Square)
    fact("values", sorted(future.get() for future in squares.square.stream(1)))
    stream = squares.square.stream(2)
    fact("is an iterator", iter(stream) is stream)
    futures = list(stream)
    fact("number", len(futures))
    fact("waited for in reverse", sorted(future.get() for future in reversed(futures)))
    fact("next() at its end", next(stream, "nothing"))
