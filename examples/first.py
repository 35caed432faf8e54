from procession.actor import Actor, current_rank, endpoint, this_host


class Greeter(Actor):
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    @endpoint
    def greet(self, name: str) -> str:
        return f"{self.greeting}, {name}, from rank {current_rank().rank}"


if __name__ == "__main__":
    procs = this_host().spawn_procs(per_host={"workers": 4})
    greeters = procs.spawn("greeter", Greeter, "Hello")
    for point, text in greeters.greet.call("world").get(timeout=30).items():
        print(point["workers"], text)

    procs.stop("the work is done").get(timeout=30)
    for end in procs.wait(timeout=30).get().values():
        print(end.name, end.pid, end.verdict)
