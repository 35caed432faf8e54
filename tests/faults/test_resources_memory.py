"""Memory cannot be had."""

import pytest


@pytest.mark.fault("F82")
def test_a_message_for_which_the_client_has_no_memory_ends_its_connection_and_not_the_client(script):
    script(
        """
        import resource
        import procession.actor
        from procession.actor import Actor, endpoint, this_host
        from procession.errors import SupervisionError

        procession.actor.unhandled_fault_hook = lambda failure: None

        class Big(Actor):
            @endpoint
            def big(self, size):
                return bytes(size)

        both = this_host().spawn_procs(per_host={"gpus": 2})
        others = this_host().spawn_procs(bootstrap_command=["/bin/sleep", "1000"], readiness="none")
        others.initialized.get(30)
        big = both.spawn("big", Big)
        assert [len(each) for each in big.big.call(1000).get(30).values()] == [1000] * 2

        pages = int(open("/proc/self/statm").read().split()[0])
        room = pages * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))
        assert len(big.slice(gpus=0).big.call_one(4 << 20).get(30)) == 4 << 20
        try:
            big.slice(gpus=1).big.call_one(512 << 20).get(40)
            raise AssertionError("there was memory for it")
        except SupervisionError:
            pass
        (end,) = both.slice(gpus=1).wait(40).get().values()
        said = [one.says for one in end.certificate.evidence if one.source == "connection"]
        assert "there was no memory for" in said[-1] and "in several smaller messages" in said[-1], said
        assert len(big.slice(gpus=0).big.call_one(1000).get(30)) == 1000
        assert str(others.statuses().item().status) == "running"
        """
    )
