"""`class_name` of the running actor, for a class of the program."""

from monarch.actor import Actor, context, endpoint, this_host

from facts import fact


class Seer(Actor):
    @endpoint
    def class_name(self) -> str:
        return context().actor_instance.class_name


if __name__ == "__main__":
    fact("class_name", this_host().spawn_procs().spawn("seer", Seer).class_name.call_one().get())
