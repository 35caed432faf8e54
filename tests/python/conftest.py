"""The fixtures of the end-to-end tests."""

from counting import counter, counters
from fixtures import failures, four, script, spawned
from gates import gates

__all__ = ["counter", "counters", "failures", "four", "gates", "script", "spawned"]
