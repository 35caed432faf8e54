"""The fixtures of the end-to-end tests."""

from counting import counter, counters
from fixtures import failures, four, script, spawned

__all__ = ["counter", "counters", "failures", "four", "script", "spawned"]
