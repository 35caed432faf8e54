"""The context outside of actors."""

from monarch.actor import context, current_rank, current_size, this_host

from facts import fact

DIFFERENT = {
    "name": ["root", "client", "names and ids are this library's own"],
}

if __name__ == "__main__":
    this_host()
    instance = context().actor_instance
    fact("rank", [current_rank().rank, dict(current_rank())])
    fact("size", current_size())
    fact("instance rank", dict(instance.rank))
    fact("name", instance.name)
    fact("message rank", context().message_rank.rank)
    fact("proc", instance.proc.size())
    fact("is the same", context().actor_instance.actor_id == context().actor_instance.actor_id)
