"""Methods without the decorator, attributes and unknown names, asked for on a mesh."""

from monarch.actor import Actor, endpoint, this_host

from facts import fact, raises


class Mixed(Actor):
    constant = 3

    def plain(self) -> str:
        return "plain"

    @endpoint
    def marked(self) -> str:
        return "marked, and " + self.plain()


if __name__ == "__main__":
    mixed = this_host().spawn_procs().spawn("mixed", Mixed)
    fact("marked", mixed.marked.call_one().get())
    with raises("a method is called", "not annotated as an endpoint", "as_endpoint"):
        mixed.plain()
    with raises("an adverb of a method"):
        mixed.plain.call_one()
    with raises("an unknown name"):
        mixed.nothing  # noqa: B018
    with raises("an endpoint is called like a function"):
        mixed.marked()
    fact("hasattr of an unknown name", hasattr(mixed, "nothing"))
