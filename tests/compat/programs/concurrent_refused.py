"""What cannot be a concurrent endpoint is refused when the class is made."""

from monarch.actor import Actor, concurrent_endpoint, endpoint

from facts import fact, raises

DIFFERENT: dict = {}

if __name__ == "__main__":
    with raises("a sync method"):

        class Sync(Actor):
            @concurrent_endpoint
            def work(self) -> None: ...

    with raises("an endpoint"):

        class Twice(Actor):
            @concurrent_endpoint
            @endpoint
            async def work(self) -> None: ...

    with raises("with options"):

        class Options(Actor):
            @concurrent_endpoint(explicit_response_port=True, instrument=False, propagate=None)
            async def work(self, port) -> None: ...

    fact("done", True)
