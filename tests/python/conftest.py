"""The fixtures of the end-to-end tests."""

from counting import counter, counters
from fixtures import four, script, spawned

__all__ = ["counter", "counters", "four", "script", "spawned"]
