"""Transports and other machines, as programs written elsewhere ask for them. What is served is in test_workers.py."""

from pathlib import Path

import pytest

from procession import actor
from procession.actor import ChannelTransport, start_worker_loop_forever
from procession.errors import Unsupported

TRANSPORTS = """
from procession.actor import ChannelTransport, enable_transport, this_host

def refused(error, transport):
    try:
        enable_transport(transport)
    except error as found:
        return str(found)

enable_transport("tcp://127.0.0.1:0")
enable_transport("tcp://127.0.0.1:0")
print(refused(RuntimeError, ChannelTransport.Unix))
this_host().spawn_procs().initialized.get(30)
enable_transport("tcp://127.0.0.1:0")
print(refused(RuntimeError, "tcp"))
"""

LATE = """
from procession.actor import enable_transport, this_host

this_host().spawn_procs().initialized.get(30)
try:
    enable_transport("ipc")
except RuntimeError as error:
    print(error)
"""


def test_one_transport_can_be_enabled_and_again_at_any_time(script):
    assert script(TRANSPORTS).stdout.splitlines() == [
        "transport = 'ipc': 'tcp://127.0.0.1:0' was enabled before, and there can be one",
        "transport = 'tcp': 'tcp://127.0.0.1:0' was enabled before, and there can be one",
    ]


def test_a_transport_is_enabled_before_the_first_use(script):
    assert script(LATE).stdout == "transport = 'ipc': enable it before the first use of anything else\n"


@pytest.mark.parametrize("transport", ["pigeon", "", "tcp://", "metatls", "pigeon://x", None, 3])
def test_what_is_no_transport_is_refused(transport):
    with pytest.raises(ValueError, match=r"^transport = "):
        actor.enable_transport(transport)


def test_transports_have_names():
    assert [one.value for one in ChannelTransport] == ["ipc", "tcp", "tls"]


@pytest.mark.parametrize(
    "loop", [actor.run_worker_loop_forever, actor.run_worker_loop_until_shutdown, start_worker_loop_forever]
)
def test_a_loop_that_cannot_be_served_is_refused_with_what_is_wrong(loop):
    with pytest.raises(Unsupported, match='pass ca="trust_all_connections"'):
        loop(address="127.0.0.1:0", ca=Path("ca.pem"))
    with pytest.raises(ValueError, match=r"^private_key = 3 bytes: .* 64 hex digits"):
        loop(address="127.0.0.1:0", private_key=b"key", ca="trust_all_connections")
    with pytest.raises(ValueError, match=r"^address = "):
        loop(ca="trust_all_connections", address=3)
