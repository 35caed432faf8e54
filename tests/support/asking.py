"""An actor that calls others."""

from procession.actor import Actor, endpoint


class Asker(Actor):
    @endpoint
    async def cancel_its_call(self, gate, gates):
        asked = gate.wait.call_one(gates)
        asked.cancel()
        return await asked

    @endpoint
    async def wait_at_most(self, gate, gates, seconds):
        return await gate.wait.options(timeout=seconds).call(gates)
