"""Who created an actor."""

from monarch.actor import Actor, context, endpoint, this_host, this_proc

from facts import tried

DIFFERENT = {
    "of the client": ["root", "client", "names and ids are this library's own"],
}


class Child(Actor):
    @endpoint
    def creator(self) -> str:
        creator = context().actor_instance.creator
        return "none" if creator is None else creator.name


class Parent(Actor):
    @endpoint
    def child(self) -> Child:
        return this_proc().spawn("child", Child)


if __name__ == "__main__":
    procs = this_host().spawn_procs()
    tried("of the client", lambda: procs.spawn("child", Child).creator.call_one().get())
    tried("of an actor", lambda: procs.spawn("parent", Parent).child.call_one().get().creator.call_one().get())
